"""Where a loader takes pixels from: memory, a mapped file, or the image files themselves, all with the same answers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from trainwright.errors import DataError, TrainwrightError

Read = Callable[[int], np.ndarray]  # decodes one image: dataset row → uint8 [size, size, 3]


class PixelSource(Protocol):
    """Decoded square images by dataset row. May be asked from several threads at once."""

    size: int  # side in pixels
    stated: str  # one sentence: where the pixels are and how many bytes, or why they are not cached
    reason: str  # why they are not cached; empty where they are

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        """The images of these rows, in this order: uint8 [N, size, size, 3], a new array.

        Raises LookupError for a row that the source was not opened with, DataError for an image that cannot be read.
        """
        ...


class MemoryPixels:
    """Images that are an array already. images_SHWC: uint8 [S, size, size, 3], in memory or mapped from a file.

    rows: the dataset rows in the order of the array, ascending; None: 0 to S - 1.
    """

    reason = ""

    def __init__(self, images_SHWC: np.ndarray, *, rows: np.ndarray | None = None, stated: str = "") -> None:
        self.size = int(images_SHWC.shape[1])
        self.stated = stated or f"{len(images_SHWC):,} images in memory, {stated_bytes(images_SHWC.nbytes)}."
        self._images_SHWC = images_SHWC
        self._rows_S = np.arange(len(images_SHWC)) if rows is None else rows

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        return np.take(self._images_SHWC, positions(self._rows_S, rows_N), axis=0)


class DecodedPixels:
    """Images decoded from their files whenever they are asked for, in a thread pool of its own."""

    def __init__(self, read: Read, *, rows: np.ndarray, size: int, workers: int, reason: str) -> None:
        self.size = size
        self.reason = reason
        self.stated = f"Images are decoded whenever they are needed: {reason}."
        self._read = read
        self._rows_S = rows
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="trainwright-decode")

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        positions(self._rows_S, rows_N)
        out_NHWC = np.empty((len(rows_N), self.size, self.size, 3), np.uint8)

        def decode(index: int) -> None:
            out_NHWC[index] = read_checked(self._read, int(rows_N[index]), self.size)

        list(self._threads.map(decode, range(len(rows_N))))
        return out_NHWC


def read_checked(read: Read, row: int, size: int) -> np.ndarray:
    """`read(row)`. Raises DataError that names the row where reading fails or gives anything but a uint8 square."""
    try:
        image = read(row)
    except (TrainwrightError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"the image could not be decoded ({type(error).__name__}: {error}).",
            where=f"row {row}",
            cure="Has the file changed since the dataset was opened? 'trainwright inspect' names damaged files.",
        ) from error
    if image.shape != (size, size, 3) or image.dtype != np.uint8:
        raise DataError(
            f"decoded to {image.dtype} {list(image.shape)}, expected uint8 [{size}, {size}, 3].",
            where=f"row {row}",
            cure="The function that reads must return RGB images of the size it was opened with.",
        )
    return image


def positions(rows_S: np.ndarray, rows_N: np.ndarray) -> np.ndarray:
    """Where each of `rows_N` stands in the ascending `rows_S`: int64 [N]. Raises LookupError for one that does not."""
    found_N = np.searchsorted(rows_S, rows_N)
    missing_N = (found_N == len(rows_S)) | (rows_S.take(found_N, mode="clip") != rows_N)
    if missing_N.any():
        raise LookupError(
            f"row {np.asarray(rows_N)[missing_N][0]} is not among the {len(rows_S)} rows that were opened"
        )
    return found_N


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def stated_bytes(count: float) -> str:
    """17,049,600 → '17.0 MB'."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, int(math.log10(max(count, 1))) // 3)
    return f"{count / 1000**power:.{min(power, 1)}f} {units[power]}"
