"""What every image of a dataset holds, in one parallel pass: hashes, sizes, bad files, exact twins."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainwright.data.decode import DecodeError, normalized, orientation_of, read_bytes
from trainwright.data.examine import examine
from trainwright.data.memory import Facts, is_settled, recall, remember, stamp_of
from trainwright.data.problems import Problem
from trainwright.data.table import SampleTable
from trainwright.records import Progress

CHUNK = 64  # files a thread takes at once: large enough to make the bookkeeping vanish, small enough for progress
PASSING = frozenset({"unreadable", "out-of-memory"})  # verdicts that say more of the machine than of the file


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What the images hold, by row of the sample table.

    file_hashes: SHA-256 of the file in hex, "" where unreadable. pixel_hashes: BLAKE2b-128 of shape and normalized pixels
    in hex, "" where unusable. widths, heights: int32 [S] pixels, upright, 0 where unusable. usable: bool [S]. digest: of
    everything that training can see and of the order of rows; the same wherever the dataset lies. targets_digest: of which
    pixels have which target, whatever the files are called and however the targets are written. bytes: of all images.
    """

    file_hashes: tuple[str, ...]
    pixel_hashes: tuple[str, ...]
    widths: np.ndarray
    heights: np.ndarray
    usable: np.ndarray
    problems: tuple[Problem, ...]
    digest: str
    targets_digest: str
    bytes: int = 0


def fingerprint(
    table: SampleTable, *, workers: int = 0, progress: Progress | None = None, cache_dir: Path | None = None
) -> Fingerprint:
    """The fingerprint of a table whose targets have been looked at; reads every image."""
    return from_facts(table, read_facts(table, workers=workers, progress=progress, cache_dir=cache_dir))


def read_facts(
    table: SampleTable, *, workers: int = 0, progress: Progress | None = None, cache_dir: Path | None = None
) -> list[Facts]:
    """What each row's image holds: every file is read once, in parallel, and remembered for the next time.

    workers: threads; 0 is one for each CPU. progress: called with files done and in all. cache_dir: where it is
    remembered, by default in the user's cache folder.
    """
    remembered = recall(table.root, cache_dir)
    facts: dict[str, Facts] = {}
    try:
        for path, found in _look(table, remembered, workers or _cpus()):
            facts[path] = found
            if progress is not None and (len(facts) % CHUNK == 0 or len(facts) == len(table)):
                progress("reading images", len(facts), len(table))
    finally:  # an interrupted pass goes on where it stopped
        fresh = {path: f for path, f in facts.items() if f != remembered.get(path) and _may_be_remembered(f)}
        if fresh:
            remember(table.root, fresh, cache_dir)
    return [facts[path] for path in table.paths]


def from_facts(table: SampleTable, facts: Sequence[Facts]) -> Fingerprint:
    """The fingerprint of a table whose rows hold `facts`."""
    pixel_hashes = tuple(entry.pixel_hash for entry in facts)
    usable = np.array([bool(entry.pixel_hash) for entry in facts], dtype=bool) & table.targets.usable()
    problems = (*table.problems, *examine(table, facts), *table.targets.problems(table, usable))
    return Fingerprint(
        file_hashes=tuple(entry.file_hash for entry in facts),
        pixel_hashes=pixel_hashes,
        widths=np.array([entry.width for entry in facts], dtype=np.int32),
        heights=np.array([entry.height for entry in facts], dtype=np.int32),
        usable=usable,
        problems=problems,
        digest=_digest(table, pixel_hashes),
        targets_digest=_targets_digest(table, pixel_hashes),
        bytes=sum(entry.stamp[0] for entry in facts),
    )


def hash_pixels(pixels_HWC: np.ndarray) -> str:
    """BLAKE2b-128 of shape and uint8 pixels, in hex."""
    hasher = hashlib.blake2b(repr(pixels_HWC.shape).encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(pixels_HWC).data)
    return hasher.hexdigest()


def _look(table: SampleTable, remembered: Mapping[str, Facts], workers: int) -> Iterator[tuple[str, Facts]]:
    """(path, facts) of every row, in any order."""

    def look(paths: Sequence[str]) -> list[tuple[str, Facts]]:
        return [(path, _facts(table.root / path, remembered.get(path))) for path in paths]

    chunks = [table.paths[start : start + CHUNK] for start in range(0, len(table), CHUNK)]
    yield from _in_threads(look, chunks, workers)


def _in_threads(
    look: Callable[[Sequence[str]], list[tuple[str, Facts]]], chunks: Sequence[Sequence[str]], workers: int
) -> Iterator[tuple[str, Facts]]:
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="fingerprint")
    try:
        for future in as_completed([pool.submit(look, chunk) for chunk in chunks]):
            yield from future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _facts(path: Path, remembered: Facts | None) -> Facts:
    """What the file holds, from memory where its stamp is still the same."""
    try:
        stamp = stamp_of(path)
    except (OSError, ValueError):
        stamp = (0, 0, 0)
    if remembered is not None and remembered.stamp == stamp:
        return remembered
    settled = is_settled(stamp)
    try:
        data = read_bytes(path)
    except DecodeError as error:
        return Facts(stamp=stamp, kind=error.kind, message=error.message)
    found = _facts_of(data, stamp)
    return found if settled else _unsettled(found)


def _unsettled(facts: Facts) -> Facts:
    """The same facts with a stamp that no file has, so that the file is looked at again."""
    return replace(facts, stamp=(facts.stamp[0], -1, -1))


def _facts_of(data: bytes, stamp: tuple[int, int, int]) -> Facts:
    file_hash = hashlib.sha256(data).hexdigest()
    try:
        image, name = normalized(data)
    except DecodeError as error:
        return Facts(stamp=stamp, file_hash=file_hash, kind=error.kind, message=error.message)
    return Facts(
        stamp=stamp,
        file_hash=file_hash,
        pixel_hash=hash_pixels(np.asarray(image)),
        width=image.width,
        height=image.height,
        format=name,
        orientation=orientation_of(data),
    )


def _may_be_remembered(facts: Facts) -> bool:
    return facts.kind not in PASSING and facts.stamp[1] >= 0


def _digest(table: SampleTable, pixel_hashes: Sequence[str]) -> str:
    """SHA-256 of task, classes and every row. Rows without usable pixels count too: they move the numbers of others."""
    groups = table.groups or ("",) * len(table)
    names = [table.targets.text(row) for row in range(len(table))]
    rows = zip(table.paths, names, table.parts.tolist(), groups, pixel_hashes, strict=True)
    content = [table.task, list(table.classes), [list(row) for row in rows]]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _targets_digest(table: SampleTable, pixel_hashes: Sequence[str]) -> str:
    images = sorted([pixels, table.targets.text(row)] for row, pixels in enumerate(pixel_hashes))
    content = [table.targets.kind, list(table.classes), images]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
