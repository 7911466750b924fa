"""Predictions for images that were not part of a dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.data.decode import DecodeError, decode, upright_size
from trainwright.data.listing import IMAGE_SUFFIXES
from trainwright.data.placement import place
from trainwright.errors import DataError
from trainwright.recipe import Size
from trainwright.records import IGNORED, Answers, part_of

Absent = Literal["refused", "told"]
DECODERS = min(8, os.cpu_count() or 1)  # threads: decoding lets go of the interpreter


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How a file becomes what the network sees: fitted to `stored`, of which the middle of `size` is shown to it."""

    stored: Size
    size: Size
    fit: str

    @property
    def margins(self) -> tuple[int, int]:
        """(top, left): pixels of the stored image above and left of what the network sees."""
        return (self.stored[0] - self.size[0]) // 2, (self.stored[1] - self.size[1]) // 2

    def shown(self, stored_NHWC: np.ndarray) -> np.ndarray:
        """What the network sees of stored images: uint8 [N, *size, 3], contiguous."""
        (top, left), (height, width) = self.margins, self.size
        return np.ascontiguousarray(stored_NHWC[:, top : top + height, left : left + width])

    def boxes_back(self, boxes_M4: np.ndarray, width: int, height: int) -> np.ndarray:
        """Boxes in pixels of what the network sees as boxes of the file's upright image, inside of it: float64 [M, 4]."""
        top, left = self.margins
        in_file_M4 = place(width, height, self.stored, self.fit).back(boxes_M4 + np.array([left, top, left, top]))
        inside_M4: np.ndarray = np.clip(in_file_M4, 0, [width, height, width, height])
        return inside_M4

    def mask_back(self, mask_HW: np.ndarray, width: int, height: int) -> np.ndarray:
        """A mask of what the network sees as one of the file's upright image; IGNORED where it saw nothing of it."""
        placed, (top, left) = place(width, height, self.stored, self.fit), self.margins
        x_W = np.floor((np.arange(width) + 0.5) * placed.scale_x + placed.left - left).astype(np.int64)
        y_H = np.floor((np.arange(height) + 0.5) * placed.scale_y + placed.top - top).astype(np.int64)
        found = mask_HW[np.clip(y_H, 0, self.size[0] - 1)[:, None], np.clip(x_W, 0, self.size[1] - 1)]
        seen = ((y_H >= 0) & (y_H < self.size[0]))[:, None] & (x_W >= 0) & (x_W < self.size[1])
        return np.where(seen, found, np.uint8(IGNORED))


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What came of a file. image_HWC: what the network saw, uint8. answers: of this one image. width, height: of the file's
    upright image. error: why it could not be read; the others are then None or 0."""

    file: Path
    image_HWC: np.ndarray | None = None
    answers: Answers | None = None
    width: int = 0
    height: int = 0
    error: DecodeError | None = None


def find_images(given: Sequence[Path], *, absent: Absent = "refused") -> list[Path]:
    """The image files that are named, and those in folders that are named (and below), sorted within each.

    absent: whether a path that does not exist is refused, or taken for a file that cannot be read, which is told of it alone.
    Raises DataError where it is refused, and where there is no image at all.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            found += sorted(
                file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES
            )
        elif path.is_file() or absent == "told":
            found.append(path)
        else:
            raise DataError("no such file or folder.", where=str(path), cure="Check the path.")
    if not found:
        raise DataError(
            "no image files.",
            where=", ".join(map(str, given)),
            cure=f"Known endings: {' '.join(sorted(IMAGE_SUFFIXES))}.",
        )
    return found


def predict_files(
    network: Callable[[Batch], Answers], files: Sequence[Path], *, fitting: Fitting, batch_size: int
) -> Iterator[Predicted]:
    """What the network says of each file, in order; a file that cannot be read costs only itself.

    Files are decoded by several threads, those of the next batch while the network works on one.
    """
    with ThreadPoolExecutor(max_workers=DECODERS) as pool:

        def decoded(file: Path) -> Future[tuple[np.ndarray, tuple[int, int]] | DecodeError]:
            return pool.submit(_decoded, file, fitting)

        chunks = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
        ahead = [decoded(file) for chunk in chunks[:1] for file in chunk]
        try:
            for place, chunk in enumerate(chunks):
                images, ahead = ahead, [decoded(file) for after in chunks[place + 1 : place + 2] for file in after]
                yield from _answered(network, chunk, [image.result() for image in images], fitting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # where nobody wants the rest


def _answered(
    network: Callable[[Batch], Answers],
    chunk: Sequence[Path],
    images: Sequence[tuple[np.ndarray, tuple[int, int]] | DecodeError],
    fitting: Fitting,
) -> Iterator[Predicted]:
    """What the network says of one batch of files that were decoded."""
    good = [image for image in images if not isinstance(image, DecodeError)]
    shown_NHWC = fitting.shown(np.stack([pixels for pixels, _ in good])) if good else np.empty(0)
    answers = network(_batch(shown_NHWC)) if good else None
    position = 0
    for file, image in zip(chunk, images, strict=True):
        if isinstance(image, DecodeError):
            yield Predicted(file=file, error=image)
            continue
        assert answers is not None
        width, height = image[1]
        own = part_of(answers, np.array([position]))
        yield Predicted(file=file, image_HWC=shown_NHWC[position], answers=own, width=width, height=height)
        position += 1


def as_function(
    model: nn.Module, answer: Callable[[Any, np.ndarray], Answers], *, device: torch.device, dtype: torch.dtype | None
) -> Callable[[Batch], Answers]:
    """The model in eval mode as a function of a batch. answer: of (outputs, rows). dtype: of mixed precision, as in training."""
    model.eval()

    def network(batch: Batch) -> Answers:
        images_NCHW = batch.to(device).images_NCHW
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            outputs = model(images_NCHW, None) if getattr(model, "takes_target", False) else model(images_NCHW)
            return answer(outputs, batch.rows_N)

    return network


def _decoded(file: Path, fitting: Fitting) -> tuple[np.ndarray, tuple[int, int]] | DecodeError:
    """(the stored image, (width, height) of the file's upright image)."""
    try:
        return decode(file, size=fitting.stored, fit=fitting.fit), upright_size(file)
    except DecodeError as error:
        return error


def _batch(images_NHWC: np.ndarray) -> Batch:
    count = len(images_NHWC)
    images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
    return Batch(images_NCHW=images_NCHW, target=torch.zeros(count), rows_N=np.arange(count))
