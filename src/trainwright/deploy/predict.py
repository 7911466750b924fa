"""Predictions for images that were not part of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.data.decode import DecodeError, decode
from trainwright.data.layout import IMAGE_SUFFIXES
from trainwright.errors import DataError


def find_images(given: Sequence[Path]) -> list[Path]:
    """The image files that are named, and those in folders that are named (and below), sorted within each.

    Raises DataError for a path that does not exist, and where there is no image at all.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            found += sorted(
                file for file in path.rglob("*") if file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES
            )
        elif path.is_file():
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
    network: Callable[[Batch], np.ndarray],
    files: Sequence[Path],
    *,
    stored_size: int,
    fit: str,
    crop: Callable[[np.ndarray], np.ndarray],
    batch_size: int,
) -> Iterator[tuple[Path, np.ndarray | DecodeError]]:
    """(file, what the network says of it or why it could not be read), in order.

    network: batch → [N, …]. stored_size, fit: of the decoded square; crop: from it to the network's input, uint8 NHWC.
    """
    for start in range(0, len(files), batch_size):
        chunk = list(files[start : start + batch_size])
        images: list[np.ndarray | DecodeError] = [_decoded(file, stored_size, fit) for file in chunk]
        good = [image for image in images if isinstance(image, np.ndarray)]
        answers = iter(network(_batch(crop(np.stack(good)))) if good else np.empty(0))
        for file, image in zip(chunk, images, strict=True):
            yield file, image if isinstance(image, DecodeError) else next(answers)


def as_function(
    model: nn.Module, answer: Callable[[torch.Tensor], np.ndarray], *, device: torch.device, dtype: torch.dtype | None
) -> Callable[[Batch], np.ndarray]:
    """The model in eval mode as a function of a batch. dtype: of mixed precision, as in training."""
    model.eval()

    def network(batch: Batch) -> np.ndarray:
        with torch.no_grad(), torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            return answer(model(batch.to(device).images_NCHW))

    return network


def _decoded(file: Path, size: int, fit: str) -> np.ndarray | DecodeError:
    try:
        return decode(file, size=size, fit=fit)
    except DecodeError as error:
        return error


def _batch(images_NHWC: np.ndarray) -> Batch:
    count = len(images_NHWC)
    images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
    return Batch(images_NCHW=images_NCHW, target=torch.zeros(count), rows_N=np.arange(count))
