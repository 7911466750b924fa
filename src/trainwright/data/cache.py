"""Decoded images or masks on disk: uint8 in one file that is mapped into memory, built once, checked when opened.

Decoding costs a hundred times what reading the decoded pixels does, so every image is decoded once. The entry's name is a
hash of everything that decides its content; `shelf.py` keeps the entries.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import mmap
import os
import shutil
import threading
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL
import platformdirs

from trainwright import seeding
from trainwright.data import shelf
from trainwright.data.decode import DECODER_VERSION
from trainwright.data.pixels import (
    RGB,
    DecodedPixels,
    MemoryPixels,
    PixelSource,
    Read,
    image_shape,
    plural,
    read_checked,
    stated_bytes,
    usable_cores,
)
from trainwright.errors import DataError, UsageError
from trainwright.recipe import Size
from trainwright.records import Progress

FORMAT = 2  # of the files of an entry; another number is another entry
LIMIT_VARIABLE = "TRAINWRIGHT_CACHE_GB"  # largest cache to build; all together are kept to it too
DISK_SHARE = 0.8  # of the free disk that one cache may take
KEPT_BYTES = 64 * 10**9  # of all caches together; beyond it those that nobody uses go, least recently used first
CHUNK_BYTES = 16 << 20  # largest chunk: one checksum, and what a thread decodes before it writes
CHUNKS = 64  # smallest number of chunks where there are images enough: work for every thread, and a bar that moves
CHECKED_BYTES = 1 << 30  # checked in full when opened, about a second; of more, CHUNKS chunks

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A cache as it is to be: where it lies and what it must hold."""

    folder: Path
    images: int
    size: Size
    channels: int = RGB

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array of one image."""
        return image_shape(self.size, self.channels)

    @property
    def image_bytes(self) -> int:
        return math.prod(self.shape)

    @property
    def total_bytes(self) -> int:
        return self.images * self.image_bytes

    @property
    def chunk_images(self) -> int:
        return max(1, min(-(-self.images // CHUNKS), CHUNK_BYTES // self.image_bytes))

    @property
    def chunks(self) -> int:
        return -(-self.images // self.chunk_images)

    def chunk(self, index: int) -> slice:
        """The images of chunk `index`."""
        return slice(index * self.chunk_images, min((index + 1) * self.chunk_images, self.images))

    def chunk_bytes(self, index: int) -> slice:
        """The bytes of chunk `index`."""
        images = self.chunk(index)
        return slice(images.start * self.image_bytes, images.stop * self.image_bytes)


class _DamagedError(Exception):
    """An entry that is there and is not what it should be."""


class _RefusedError(Exception):
    """A cache that is not built; the message says why."""


def pixels_key(content: Iterable[str], *, fit: str) -> str:
    """What decides the pixels beside rows and size. content: the dataset's digest, or the images' hashes in row order."""
    digest = blake2b("\n".join(content).encode(), digest_size=16).hexdigest()
    return f"{digest} fit={fit} decoder={DECODER_VERSION} pillow={PIL.__version__}"


def default_cache_dir() -> Path:
    return platformdirs.user_cache_path("trainwright") / "pixels"


def open_pixels(
    read: Read,
    *,
    rows: np.ndarray,
    size: Size,
    key: str,
    channels: int = RGB,
    cache_dir: Path | None = None,
    workers: int = 0,
    progress: Progress | None = None,
    max_bytes: int | None = None,
) -> PixelSource:
    """Decoded pixels of `rows`: from the cache, which is built where it is missing, or decoded whenever they are asked for.

    read: decodes one dataset row to uint8 [height, width, 3], or [height, width] where `channels` is 1 (masks); called from
    several threads at once. rows: the dataset rows that can be asked for. key: what decides the pixels beside rows, size and
    channels, see `pixels_key`. workers: threads, 0: one a core. max_bytes: largest cache to build; None:
    TRAINWRIGHT_CACHE_GB, or else 80 % of the free disk.

    Raises DataError for an image that cannot be decoded. A cache that does not fit or cannot be written is no error: the
    source's `reason` says so.
    """
    rows_S = np.unique(np.asarray(rows, dtype=np.int64))
    if not len(rows_S):
        raise DataError("there are no usable images.", where="rows", cure="'trainwright inspect' says why.")
    workers = workers or usable_cores()
    named = f"{FORMAT}|{key}|{size[0]}x{size[1]}x{channels}|".encode() + rows_S.tobytes()
    name = blake2b(named, digest_size=16).hexdigest()
    entry = Entry(folder=(cache_dir or default_cache_dir()) / name, images=len(rows_S), size=size, channels=channels)
    limit = _limit_from_environment() if max_bytes is None else max_bytes
    try:
        images = _load_or_warn(entry, workers)
        if images is None:
            images = _build(entry, read, rows_S, workers=workers, limit=limit, progress=progress)
    except BrokenPipeError:
        raise  # progress could not be told; that says nothing of the cache
    except (_RefusedError, OSError) as error:
        reason = str(error) if isinstance(error, _RefusedError) else _explain(error, entry)
        decoded = DecodedPixels(read, rows=rows_S, size=size, channels=channels, workers=workers, reason=reason)
        logger.warning("%s", decoded.stated)
        return decoded
    sides = f"{size[0]}" if size[0] == size[1] else f"{size[1]} x {size[0]}"
    stated = f"{len(rows_S):,} {plural(channels)} at {sides} px, {stated_bytes(entry.total_bytes)} in {entry.folder}."
    return MemoryPixels(images, rows=rows_S, stated=stated)


def _load_or_warn(entry: Entry, workers: int) -> np.ndarray | None:
    """The entry's images, mapped and checked; None where there is none or, with a warning, it is damaged."""
    try:
        return _load(entry, workers)
    except _DamagedError as error:
        logger.warning("The pixel cache %s is damaged (%s): it is built again.", entry.folder, error)
        return None


def _load(entry: Entry, workers: int) -> np.ndarray | None:
    """The entry's images, mapped and checked; None where there is none. Raises _DamagedError."""
    if not entry.folder.is_dir():
        return None
    images = _checked(entry, workers)
    with suppress(OSError):  # a cache that is shared read-only
        os.utime(entry.folder / shelf.META)
    return images


def _checked(entry: Entry, workers: int) -> np.ndarray:
    """The entry's images: uint8 [S, height, width, 3], or masks [S, height, width], mapped. Raises _DamagedError."""
    try:
        meta = json.loads((entry.folder / shelf.META).read_bytes())
        sums = meta.pop("crc32")
        if meta != _meta(entry) or len(sums) != entry.chunks:
            raise _DamagedError("its description is not that of these images")
        mapped = _map(entry.folder / shelf.PAYLOAD, entry.total_bytes)
    except (FileNotFoundError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise _DamagedError(f"{type(error).__name__}: {error}") from error

    def fits(index: int) -> bool:
        with memoryview(mapped) as whole, whole[entry.chunk_bytes(index)] as part:
            return bool(zlib.crc32(part) == sums[index])

    with ThreadPoolExecutor(workers, thread_name_prefix="trainwright-check") as threads:
        if not all(threads.map(fits, _chunks_to_check(entry))):
            raise _DamagedError("a checksum does not fit")
    return np.frombuffer(mapped, np.uint8).reshape(entry.images, *entry.shape)


def _map(path: Path, expected_bytes: int) -> mmap.mmap:
    """The file in memory, read-only, locked as in use: the map keeps a duplicate of the descriptor, and so the lock."""
    with path.open("rb") as file:
        shelf.lock(file.fileno(), shared=True)
        found = os.fstat(file.fileno()).st_size
        if found != expected_bytes:
            raise _DamagedError(f"{found:,} bytes instead of {expected_bytes:,}")
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _chunks_to_check(entry: Entry) -> list[int]:
    if entry.total_bytes <= CHECKED_BYTES or entry.chunks <= CHUNKS:
        return list(range(entry.chunks))
    picked = seeding.stream(0, "cache-check", entry.folder.name).choice(entry.chunks, CHUNKS, replace=False)
    return [int(index) for index in np.sort(picked)]


def _build(
    entry: Entry, read: Read, rows_S: np.ndarray, *, workers: int, limit: int | None, progress: Progress | None
) -> np.ndarray:
    """Build the entry, or wait for the process that does; its images, mapped and checked."""
    _refuse_over(limit, entry)
    entry.folder.parent.mkdir(parents=True, exist_ok=True)
    shelf.sweep(entry.folder.parent)

    def waiting() -> None:
        if progress is not None:
            progress("waiting for another process that decodes the same images", 0, entry.images)

    with shelf.building(entry.folder, waiting=waiting):
        with suppress(_DamagedError):
            images = _load(entry, workers)  # another process may have been faster
            if images is not None:
                return images
        if entry.folder.is_dir():
            shelf.remove(entry.folder)
        _make_room(entry, DISK_SHARE if limit is None else 1.0)
        with shelf.part(entry.folder) as part:
            with (part / shelf.PAYLOAD).open("wb") as file:
                sums = _decode(entry, read, rows_S, file, workers=workers, progress=progress)
            (part / shelf.META).write_text(json.dumps({**_meta(entry), "crc32": sums}), encoding="utf-8")
            shelf.publish(part, entry.folder)
        try:
            images = _checked(entry, workers)
        except _DamagedError as error:
            raise _RefusedError(f"the cache could not be read back from {entry.folder} ({error})") from error
    kept = _limit_from_environment() or KEPT_BYTES
    shelf.free_bytes(entry.folder.parent, shelf.total_bytes(entry.folder.parent) - kept)
    return images


def _decode(
    entry: Entry, read: Read, rows_S: np.ndarray, file: BinaryIO, *, workers: int, progress: Progress | None
) -> list[int]:
    """Decode every image into `file` in parallel; the chunks' checksums. Raises what `read` raises, and stops at once."""
    _reserve(file, entry.total_bytes)
    writing, ended = threading.Lock(), threading.Event()

    def decode(index: int) -> int:
        rows = rows_S[entry.chunk(index)]
        images = np.empty((len(rows), *entry.shape), np.uint8)
        for row, pixels in zip(rows.tolist(), images, strict=True):
            if ended.is_set():
                break
            pixels[:] = read_checked(read, row, entry.shape)
        with writing:
            file.seek(entry.chunk_bytes(index).start)
            file.write(images.data)
        return zlib.crc32(images.data)

    with ThreadPoolExecutor(workers, thread_name_prefix="trainwright-decode") as threads:
        futures = {threads.submit(decode, index): index for index in range(entry.chunks)}
        done = 0
        try:
            for future in as_completed(futures):
                future.result()
                chunk = entry.chunk(futures[future])
                done += chunk.stop - chunk.start
                if progress is not None:
                    progress(f"decoding {plural(entry.channels)}", done, entry.images)
        except BaseException:
            ended.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _reserve(file: BinaryIO, count: int) -> None:
    """Ask for the whole space now, so that a full disk is noticed before the work and not after it."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, count)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):  # a file system that cannot
            raise


def _meta(entry: Entry) -> dict[str, int]:
    height, width = entry.size
    return {
        "format": FORMAT,
        "images": entry.images,
        "height": height,
        "width": width,
        "channels": entry.channels,
        "chunk_images": entry.chunk_images,
    }


def _refuse_over(limit: int | None, entry: Entry) -> None:
    if limit is not None and entry.total_bytes > limit:
        raise _RefusedError(
            f"their cache would take {stated_bytes(entry.total_bytes)}, {stated_bytes(limit)} are allowed "
            f"({LIMIT_VARIABLE} or max_bytes)"
        )


def _make_room(entry: Entry, share: float) -> None:
    """Let idle caches go where the free disk does not suffice. Raises _RefusedError where that would not help."""
    folder = entry.folder.parent
    free = shutil.disk_usage(folder).free
    missing = int(entry.total_bytes / share) - free
    if missing > sum(size for _, size in shelf.idle(folder)):
        raise _RefusedError(
            f"their cache would take {stated_bytes(entry.total_bytes)} of the {stated_bytes(free)} that are free in "
            f"{folder}; at most {share:.0%} are taken"
        )
    shelf.free_bytes(folder, missing)


def _limit_from_environment() -> int | None:
    """TRAINWRIGHT_CACHE_GB in bytes; None where it is not set. Raises UsageError where it is not a number from 0 up."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return None
    with suppress(ValueError, OverflowError):
        if float(text) >= 0:
            return int(float(text) * 10**9)
    raise UsageError(
        f"expected gigabytes as a number, got {text!r}.", where=LIMIT_VARIABLE, cure="For example 20, or 0."
    )


def _explain(error: OSError, entry: Entry) -> str:
    return (
        f"their cache of {stated_bytes(entry.total_bytes)} cannot be kept in {entry.folder.parent} "
        f"({error.strerror or error})"
    )
