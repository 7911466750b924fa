"""Where a loader takes pixels from: memory, a mapped file, or the image files themselves, all with the same answers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from trainwright.errors import DataError, TrainwrightError
from trainwright.recipe import Size

RGB, MASK = 3, 1  # channels: of an image, of a mask, whose arrays have no axis for it
Read = Callable[
    [int], np.ndarray
]  # decodes one image: dataset row → uint8 [height, width, 3], or a mask [height, width]


class PixelSource(Protocol):
    """Decoded images of one size, or masks, by dataset row. May be asked from several threads at once."""

    size: Size  # (height, width) in pixels
    stated: str  # one sentence: where the pixels are and how many bytes, or why they are not cached
    reason: str  # why they are not cached; empty where they are

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        """The images of these rows, in this order: uint8 [N, height, width, 3], masks [N, height, width], a new array.

        Raises LookupError for a row that the source was not opened with, DataError for an image that cannot be read.
        """
        ...


class MemoryPixels:
    """Images that are an array already, in memory or mapped from a file.

    images: uint8 [S, height, width, 3], or masks [S, height, width]. rows: the dataset rows in the order of the array,
    ascending; None: 0 to S - 1.
    """

    reason = ""

    def __init__(self, images: np.ndarray, *, rows: np.ndarray | None = None, stated: str = "") -> None:
        self.size = (int(images.shape[1]), int(images.shape[2]))
        what = plural(RGB if images.ndim == 4 else MASK)
        self.stated = stated or f"{len(images):,} {what} in memory, {stated_bytes(images.nbytes)}."
        self._images = images
        self._rows_S = np.arange(len(images)) if rows is None else rows

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        return np.take(self._images, positions(self._rows_S, rows_N), axis=0)


class DecodedPixels:
    """Images, or masks, decoded from their files whenever they are asked for, in a thread pool of its own."""

    def __init__(
        self, read: Read, *, rows: np.ndarray, size: Size, workers: int, reason: str, channels: int = RGB
    ) -> None:
        self.size = size
        self.reason = reason
        self.stated = f"{plural(channels).capitalize()} are decoded whenever they are needed: {reason}."
        self._shape = image_shape(size, channels)
        self._read = read
        self._rows_S = rows
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="trainwright-decode")

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        positions(self._rows_S, rows_N)
        out = np.empty((len(rows_N), *self._shape), np.uint8)

        def decode(index: int) -> None:
            out[index] = read_checked(self._read, int(rows_N[index]), self._shape)

        list(self._threads.map(decode, range(len(rows_N))))
        return out


def image_shape(size: Size, channels: int) -> tuple[int, ...]:
    """The shape of the array of one image, or mask."""
    return size if channels == MASK else (*size, channels)


def plural(channels: int) -> str:
    """What is decoded, for people to read."""
    return "masks" if channels == MASK else "images"


def read_checked(read: Read, row: int, shape: tuple[int, ...]) -> np.ndarray:
    """`read(row)`. Raises DataError that names the row where reading fails or gives anything but uint8 of that shape."""
    what = "image" if len(shape) == 3 else "mask"
    try:
        image = read(row)
    except (TrainwrightError, MemoryError):
        raise
    except Exception as error:
        raise DataError(
            f"the {what} could not be decoded ({type(error).__name__}: {error}).",
            where=f"row {row}",
            cure="Has the file changed since the dataset was opened? 'trainwright inspect' names damaged files.",
        ) from error
    if image.shape != shape or image.dtype != np.uint8:
        raise DataError(
            f"decoded to {image.dtype} {list(image.shape)}, expected uint8 {list(shape)}.",
            where=f"row {row}",
            cure=f"The function that reads must return {'RGB images' if what == 'image' else 'masks'} of the size it was "
            "opened with.",
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
