"""The pixel cache: built once, by one, whole or not at all; checked when opened; the same pixels with it or without it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from trainwright import seeding
from trainwright.data import cache, shelf
from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.pixels import DecodedPixels, MemoryPixels, PixelSource, positions, stated_bytes
from trainwright.errors import DataError, UsageError
from trainwright.recipe import Size

SIZE = (6, 6)
ROWS = np.arange(100)
IMAGES = seeding.stream(0, "test-images").integers(0, 256, (100, *SIZE, 3), dtype=np.uint8)
OBLONG = seeding.stream(1, "test-images").integers(0, 256, (100, 4, 9, 3), dtype=np.uint8)
MASKS = seeding.stream(0, "test-masks").integers(0, 256, (100, *SIZE), dtype=np.uint8)
EVERYONE_MAY_WRITE = os.geteuid() == 0  # root is not stopped by the permissions of a folder

# A process that opens the cache of the same images and says what it did. argv: cache folder, log of decoded rows, row to
# stop at for ever (-1: none), number of threads.
PROGRAM = """
import sys, threading
from pathlib import Path
import numpy as np
from trainwright import seeding
from trainwright.data.cache import open_pixels
folder, log, stop, workers = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
images = seeding.stream(0, "test-images").integers(0, 256, (100, 6, 6, 3), dtype=np.uint8)
def read(row):
    with open(log, "a") as file:
        file.write(f"{row}\\n")
    if row == stop:
        print("stopped", flush=True)
        threading.Event().wait()
    return images[row]
print("ready", flush=True)
sys.stdin.readline()
pixels = open_pixels(read, rows=np.arange(100), size=(6, 6), key="k", cache_dir=folder, workers=workers)
print(np.array_equal(pixels.take(np.arange(100)), images), pixels.reason or "cached", flush=True)
"""


class Reader:
    """Reads IMAGES and counts what it was asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def __call__(self, row: int) -> np.ndarray:
        self.rows.append(row)
        image: np.ndarray = IMAGES[row]
        return image


def opened(folder: Path, read: Callable[[int], np.ndarray] | None = None, **changes: object) -> PixelSource:
    arguments: dict[str, object] = {"rows": ROWS, "size": SIZE, "key": "k", "cache_dir": folder, "workers": 2}
    return open_pixels(read or Reader(), **(arguments | changes))  # type: ignore[arg-type]


def entry_of(folder: Path) -> Path:
    (meta,) = folder.glob("*/meta.json")
    return meta.parent


def started(folder: Path, log: Path, *, stop: int = -1, workers: int = 2) -> subprocess.Popen[str]:
    """PROGRAM, imported and waiting for a line before it opens the cache."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), str(log), str(stop), str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The system lets no file grow beyond 1,000 bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_pixels_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    rows = np.array([7, 99, 0, 7])
    assert np.array_equal(opened(tmp_path).take(rows), IMAGES[rows])


def test_what_was_taken_is_the_callers_own(tmp_path: Path) -> None:
    pixels = opened(tmp_path)
    pixels.take(ROWS)[:] = 0
    assert np.array_equal(pixels.take(ROWS), IMAGES)


def test_every_image_is_decoded_once_and_never_again(tmp_path: Path) -> None:
    first, second = Reader(), Reader()
    opened(tmp_path, first)
    opened(tmp_path, second)
    assert sorted(first.rows) == list(range(100))
    assert second.rows == []


def test_only_rows_that_can_be_asked_for_are_decoded(tmp_path: Path) -> None:
    reader, rows = Reader(), np.array([90, 3, 41])
    pixels = opened(tmp_path, reader, rows=rows)
    assert sorted(reader.rows) == [3, 41, 90]
    assert np.array_equal(pixels.take(rows), IMAGES[rows])
    with pytest.raises(LookupError, match="row 4 is not among the 3 rows"):
        pixels.take(np.array([3, 4]))


def test_the_order_of_rows_does_not_make_another_cache(tmp_path: Path) -> None:
    opened(tmp_path)
    second = Reader()
    opened(tmp_path, second, rows=ROWS[::-1])
    assert second.rows == []


@pytest.mark.parametrize("change", [{"key": "other"}, {"rows": ROWS[:50]}])
def test_other_content_is_another_cache(tmp_path: Path, change: dict[str, object]) -> None:
    opened(tmp_path)
    second = Reader()
    opened(tmp_path, second, **change)
    assert second.rows


def test_another_shape_or_kind_of_pixels_is_another_cache(tmp_path: Path) -> None:
    sources = [
        opened(tmp_path),
        opened(tmp_path, lambda row: OBLONG[row], size=(4, 9)),
        opened(tmp_path, lambda row: OBLONG[row].transpose(1, 0, 2), size=(9, 4)),
        opened(tmp_path, lambda row: MASKS[row], channels=1),
    ]
    assert len(list(tmp_path.glob("*/meta.json"))) == 4
    assert [source.size for source in sources] == [(6, 6), (4, 9), (9, 4), (6, 6)]


def test_images_need_not_be_square(tmp_path: Path) -> None:
    pixels = opened(tmp_path, lambda row: OBLONG[row], size=(4, 9))
    assert np.array_equal(pixels.take(ROWS[::-1]), OBLONG[::-1])
    assert pixels.stated == f"100 images at 9 x 4 px, 10.8 kB in {entry_of(tmp_path)}."


def test_masks_are_arrays_without_channels(tmp_path: Path) -> None:
    told: list[str] = []
    pixels = opened(tmp_path, lambda row: MASKS[row], channels=1, progress=lambda what, *_: told.append(what))
    assert np.array_equal(pixels.take(np.array([7, 99, 0])), MASKS[[7, 99, 0]])
    assert np.array_equal(opened(tmp_path, channels=1).take(ROWS), MASKS)
    assert pixels.stated == f"100 masks at 6 px, 3.6 kB in {entry_of(tmp_path)}."
    assert set(told) == {"decoding masks"}


def test_masks_that_are_not_cached_are_the_same(tmp_path: Path) -> None:
    pixels = opened(tmp_path, lambda row: MASKS[row], channels=1, max_bytes=0)
    assert np.array_equal(pixels.take(ROWS[::-1]), MASKS[::-1])
    assert isinstance(pixels, DecodedPixels)
    assert pixels.stated == f"Masks are decoded whenever they are needed: {pixels.reason}."


def test_a_mask_that_cannot_be_read_or_has_channels_is_named(tmp_path: Path) -> None:
    def read(row: int) -> np.ndarray:
        raise OSError("truncated")

    with pytest.raises(DataError, match=r"^row \d+: the mask could not be decoded \(OSError: truncated\)"):
        opened(tmp_path, read, channels=1)
    with pytest.raises(
        DataError, match=r"decoded to uint8 \[6, 6, 3\], expected uint8 \[6, 6\].*return masks of the size"
    ):
        opened(tmp_path, channels=1)


def test_the_key_follows_content_order_and_fit() -> None:
    keys = {pixels_key(["a", "b"], fit="crop"), pixels_key(["b", "a"], fit="crop"), pixels_key(["a", "b"], fit="pad")}
    assert len(keys) == 3


def test_its_size_is_stated_before_it_is_built(tmp_path: Path) -> None:
    pixels = opened(tmp_path)
    assert (entry_of(tmp_path) / "pixels.u8").stat().st_size == 100 * 6 * 6 * 3 == 10_800
    assert pixels.stated == f"100 images at 6 px, 10.8 kB in {entry_of(tmp_path)}."
    assert pixels.reason == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (17_049_600, "17.0 MB"), (3e15, "3000.0 TB")],
)
def test_bytes_are_stated_in_units_that_are_read(count: float, text: str) -> None:
    assert stated_bytes(count) == text


def test_progress_ends_at_the_number_of_images(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    opened(tmp_path, progress=lambda *what: told.append(what))
    assert told[-1] == ("decoding images", 100, 100)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


@pytest.mark.parametrize("place", [0, 5_000, 10_799])
def test_a_flipped_bit_is_noticed_and_the_cache_built_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    opened(tmp_path)
    payload = entry_of(tmp_path) / "pixels.u8"
    damaged = bytearray(payload.read_bytes())
    damaged[place] ^= 1
    payload.write_bytes(damaged)
    assert np.array_equal(opened(tmp_path).take(ROWS), IMAGES)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "is damaged (a checksum does not fit): it is built again" in caplog.text


@pytest.mark.parametrize("name", ["pixels.u8", "meta.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b'{"crc32": 3}'])
def test_a_file_that_is_cut_or_wrong_is_built_again(tmp_path: Path, name: str, content: bytes) -> None:
    opened(tmp_path)
    (entry_of(tmp_path) / name).write_bytes(content)
    assert np.array_equal(opened(tmp_path).take(ROWS), IMAGES)
    assert np.array_equal(np.frombuffer((entry_of(tmp_path) / "pixels.u8").read_bytes(), np.uint8), IMAGES.ravel())


@pytest.mark.parametrize("name", ["pixels.u8", "meta.json"])
def test_a_file_that_is_missing_is_built_again(tmp_path: Path, name: str) -> None:
    opened(tmp_path)
    (entry_of(tmp_path) / name).unlink()
    assert np.array_equal(opened(tmp_path).take(ROWS), IMAGES)
    assert np.array_equal(np.frombuffer((entry_of(tmp_path) / "pixels.u8").read_bytes(), np.uint8), IMAGES.ravel())


def test_of_a_large_cache_some_chunks_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CHECKED_BYTES", 1000)
    monkeypatch.setattr(cache, "CHUNKS", 10)
    opened(tmp_path, rows=ROWS[:55])  # chunks of 6 images
    monkeypatch.setattr(cache, "CHUNKS", 3)
    entry = cache.Entry(folder=entry_of(tmp_path), images=55, size=SIZE)
    picked = cache._chunks_to_check(entry)
    assert len(set(picked)) == 3
    assert picked == cache._chunks_to_check(entry)


@pytest.mark.parametrize("images", [1, 63, 64, 65, 1000, 5550])
@pytest.mark.parametrize("size", [(4, 4), (224, 320), (4096, 4096)])
@pytest.mark.parametrize("channels", [1, 3])
def test_chunks_cover_every_byte_once(images: int, size: Size, channels: int) -> None:
    entry = cache.Entry(folder=Path("x"), images=images, size=size, channels=channels)
    ends = [(entry.chunk_bytes(i).start, entry.chunk_bytes(i).stop) for i in range(entry.chunks)]
    assert ends[0][0] == 0
    assert ends[-1][1] == entry.total_bytes
    assert [end for _, end in ends[:-1]] == [start for start, _ in ends[1:]]


def test_two_processes_at_once_decode_every_image_once(tmp_path: Path) -> None:
    processes = [started(tmp_path / "cache", tmp_path / "log") for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0] for process in processes]
    assert answers == ["True cached\n"] * 2
    assert sorted(map(int, (tmp_path / "log").read_text().split())) == list(range(100))


def test_one_that_waits_for_another_says_so(tmp_path: Path) -> None:
    with started(tmp_path, tmp_path / "log", stop=50) as builder:
        assert builder.stdin is not None
        assert builder.stdout is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
        assert builder.stdout.readline() == "stopped\n"
        told: list[str] = []

        def progress(what: str, done: int, total: int) -> None:
            told.append(what)
            builder.kill()

        pixels = opened(tmp_path, progress=progress)
    assert told[0] == "waiting for another process that decodes the same images"
    assert np.array_equal(pixels.take(ROWS), IMAGES)


def test_a_killed_builder_leaves_nothing_that_is_taken_for_complete(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with started(folder, tmp_path / "log", stop=60) as builder:
        assert builder.stdin is not None
        assert builder.stdout is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
        assert builder.stdout.readline() == "stopped\n"
        builder.send_signal(signal.SIGKILL)
    assert len(list(folder.glob("*.part/pixels.u8"))) == 1
    assert not list(folder.glob("*/meta.json"))
    reader = Reader()
    assert np.array_equal(opened(folder, reader).take(ROWS), IMAGES)
    assert len(reader.rows) == 100
    assert not list(folder.glob("*.part"))


def test_what_a_running_builder_has_is_not_swept_away(tmp_path: Path) -> None:
    with started(tmp_path, tmp_path / "log", stop=60) as builder:
        assert builder.stdin is not None
        assert builder.stdout is not None
        builder.stdin.write("go\n")
        builder.stdin.flush()
        assert builder.stdout.readline() == "stopped\n"
        opened(tmp_path, key="other")
        parts = list(tmp_path.glob("*.part"))
        builder.kill()
    assert len(parts) == 1


def test_where_there_are_no_locks_the_first_rename_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "lock", lambda *_, **__: False)
    inner: list[PixelSource] = []

    def read(row: int) -> np.ndarray:
        if row == 99:
            inner.append(opened(tmp_path))  # another one builds the same from start to end meanwhile
        image: np.ndarray = IMAGES[row]
        return image

    outer = opened(tmp_path, read)
    assert np.array_equal(outer.take(ROWS), IMAGES)
    assert np.array_equal(inner[0].take(ROWS), IMAGES)
    assert not list(tmp_path.glob("*.part"))


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    def read(row: int) -> np.ndarray:
        raise OSError("truncated")

    with pytest.raises(DataError, match=r"^row \d+: the image could not be decoded \(OSError: truncated\)"):
        opened(tmp_path, read)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"decoded to uint8 \[5, 6, 3\], expected uint8 \[6, 6, 3\]"):
        opened(tmp_path, lambda row: IMAGES[row][1:])


def test_no_rows_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable images"):
        opened(tmp_path, rows=ROWS[:0])


def test_a_cache_over_the_limit_is_not_built_and_pixels_are_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = opened(tmp_path, max_bytes=10_799)
    assert np.array_equal(pixels.take(ROWS[::-1]), IMAGES[::-1])
    assert pixels.reason == "their cache would take 10.8 kB, 10.8 kB are allowed (TRAINWRIGHT_CACHE_GB or max_bytes)"
    assert pixels.stated == f"Images are decoded whenever they are needed: {pixels.reason}."
    assert caplog.messages == [pixels.stated]
    assert not list(tmp_path.iterdir())


def test_a_cache_at_the_limit_is_built(tmp_path: Path) -> None:
    assert opened(tmp_path, max_bytes=10_800).reason == ""


def test_the_environment_sets_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINWRIGHT_CACHE_GB", "0.00001")
    assert "10.8 kB, 10.0 kB are allowed" in opened(tmp_path).reason


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_no_number_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TRAINWRIGHT_CACHE_GB", text)
    with pytest.raises(UsageError, match=f"^TRAINWRIGHT_CACHE_GB: expected gigabytes as a number, got '{text}'"):
        opened(tmp_path)


def test_a_cache_that_would_fill_the_disk_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(20_000, 7_000, 13_000))
    pixels = opened(tmp_path)
    assert "would take 10.8 kB of the 13.0 kB that are free" in pixels.reason
    assert np.array_equal(pixels.take(ROWS), IMAGES)


@pytest.mark.usefixtures("small_files_only")
def test_a_disk_that_is_full_leaves_the_pixels_as_they_are(tmp_path: Path) -> None:
    pixels = opened(tmp_path)
    assert "cannot be kept in" in pixels.reason
    assert np.array_equal(pixels.take(ROWS), IMAGES)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.usefixtures("small_files_only")
def test_a_disk_that_fills_midway_leaves_the_pixels_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fallocate")  # a system that cannot reserve space
    pixels = opened(tmp_path)
    assert "cannot be kept in" in pixels.reason
    assert np.array_equal(pixels.take(ROWS), IMAGES)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_that_is_a_file_leaves_the_pixels_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    pixels = opened(tmp_path / "file" / "pixels")
    assert "(Not a directory)" in pixels.reason
    assert np.array_equal(pixels.take(ROWS), IMAGES)


@pytest.mark.skipif(EVERYONE_MAY_WRITE, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_leaves_the_pixels_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    pixels = opened(tmp_path / "pixels")
    assert "(Permission denied)" in pixels.reason
    assert np.array_equal(pixels.take(ROWS), IMAGES)


def test_threads_end_with_the_building(tmp_path: Path) -> None:
    opened(tmp_path)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("trainwright-check")]


def test_idle_caches_make_room_least_recently_used_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, used in (("old", 1_000), ("older", 500), ("young", 2_000)):
        opened(tmp_path, key=key)
        newest = max(tmp_path.glob("*/meta.json"), key=lambda meta: meta.stat().st_mtime)
        os.utime(newest, (used, used))
    monkeypatch.setenv("TRAINWRIGHT_CACHE_GB", str(2 * 10_800 / 10**9))
    opened(tmp_path, key="new")
    monkeypatch.delenv("TRAINWRIGHT_CACHE_GB")
    readers = {key: Reader() for key in ("young", "new", "old", "older")}
    for key, reader in readers.items():
        opened(tmp_path, reader, key=key)
    assert {key: len(reader.rows) for key, reader in readers.items()} == {
        "young": 0,
        "new": 0,
        "old": 100,
        "older": 100,
    }


def test_a_cache_in_use_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = opened(tmp_path, key="kept")
    monkeypatch.setenv("TRAINWRIGHT_CACHE_GB", str(10_800 / 10**9))
    opened(tmp_path, key="new")
    assert len(list(tmp_path.glob("*/meta.json"))) == 2
    assert np.array_equal(kept.take(ROWS), IMAGES)


def test_a_cache_is_idle_once_its_source_is_gone(tmp_path: Path) -> None:
    pixels = opened(tmp_path)
    in_use = shelf.idle(tmp_path)
    del pixels
    assert in_use == []
    assert shelf.idle(tmp_path) == [(entry_of(tmp_path), 10_800)]


def test_idle_caches_go_where_the_disk_would_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(tmp_path, key="idle")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(20_000, 7_000, 13_000))
    assert opened(tmp_path, key="new").reason == ""
    assert len(list(tmp_path.glob("*/meta.json"))) == 1


def test_the_map_outlives_the_file(tmp_path: Path) -> None:
    pixels = opened(tmp_path)
    shutil.rmtree(entry_of(tmp_path))
    assert np.array_equal(pixels.take(ROWS), IMAGES)


def test_an_opened_cache_is_locked_for_others(tmp_path: Path) -> None:
    pixels = opened(tmp_path)
    with (entry_of(tmp_path) / "pixels.u8").open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert pixels.size == SIZE


def test_the_description_says_what_the_file_holds(tmp_path: Path) -> None:
    opened(tmp_path)
    meta = json.loads((entry_of(tmp_path) / "meta.json").read_text())
    assert meta["images"] == 100
    assert (meta["height"], meta["width"], meta["channels"]) == (6, 6, 3)
    assert len(meta["crc32"]) == 50


def test_memory_pixels_answer_by_row() -> None:
    pixels = MemoryPixels(IMAGES[:3], rows=np.array([4, 8, 9]))
    assert np.array_equal(pixels.take(np.array([9, 4])), IMAGES[[2, 0]])
    assert pixels.stated == "3 images in memory, 324 bytes."
    assert MemoryPixels(MASKS[:3]).stated == "3 masks in memory, 108 bytes."
    assert MemoryPixels(OBLONG).size == (4, 9)


def test_a_row_beyond_the_last_is_not_found() -> None:
    with pytest.raises(LookupError, match="row 10 is not among"):
        positions(np.array([4, 8, 9]), np.array([9, 10]))
