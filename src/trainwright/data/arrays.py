"""Images and labels in memory, checked and brought to the form in which files are decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.data.fingerprint import hash_pixels
from trainwright.data.layout import PARTS, Row, SampleTable, make_table
from trainwright.data.memory import Facts
from trainwright.data.problems import all_messages, counted, few
from trainwright.errors import DataError

WHERE = "from_arrays"


def checked_arrays(images: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each image as uint8 [H, W, 3]. Raises DataError for other types and shapes, with the cure."""
    if not len(images):
        raise DataError("there are no images.", where=WHERE, cure="Give at least two of each class.")
    return [_checked(np.asarray(image), index) for index, image in enumerate(images)]


def facts_of_array(pixels_HWC: np.ndarray) -> Facts:
    """What is known of a uint8 image [H, W, 3] in memory; it has no file and no format."""
    height, width = pixels_HWC.shape[:2]
    return Facts(stamp=(pixels_HWC.nbytes, 0, 0), pixel_hash=hash_pixels(pixels_HWC), width=width, height=height)


def rows_of_arrays(
    number: int,
    labels: Sequence[Any] | np.ndarray,
    *,
    classes: Sequence[str] | None,
    parts: Sequence[str] | None,
    names: Sequence[str] | None,
) -> tuple[SampleTable, list[int]]:
    """(the sample table of `number` images, the index of each row's image). Raises DataError with all that is wrong."""
    given_names = [f"image-{index:09d}" for index in range(number)] if names is None else [str(name) for name in names]
    given_parts = [""] * number if parts is None else [str(part) for part in parts]
    lengths = {"labels": len(labels), "parts": len(given_parts), "names": len(given_names)}
    found = [
        f"{counted(number, 'image')} but {length:,} {what}." for what, length in lengths.items() if length != number
    ]
    if twice := [name for name, count in Counter(given_names).items() if count > 1]:
        found.append(f"names given twice: {few(twice)}.")
    if unknown := sorted({part for part in given_parts if part and part not in PARTS}):
        found.append(f"unknown parts: {few(unknown)}. Known: train, val, test.")
    if not found and 0 < given_parts.count("") < number:
        found.append(f"{counted(given_parts.count(''), 'image')} without a part, where others have one.")
    if found:
        raise DataError(all_messages(found), where=WHERE, cure="Give one of each for every image.")
    label_names, order_of_classes = _labels(labels, classes)
    order = sorted(range(number), key=lambda index: given_names[index])
    rows = [
        Row(path=given_names[index], label=label_names[index], part=PARTS.get(given_parts[index], ""))
        for index in order
    ]
    return make_table(Path(), rows, where=WHERE, classes=order_of_classes), order


def _checked(image: np.ndarray, index: int) -> np.ndarray:
    where = f"{WHERE}: image {index}"
    if image.dtype != np.uint8:
        scaled = np.issubdtype(image.dtype, np.floating)
        cure = "Convert it: (image * 255).round().astype('uint8') if it lies in 0 to 1." if scaled else "Convert it."
        raise DataError(f"expected uint8 pixels of 0 to 255, got {image.dtype}.", where=where, cure=cure)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim == 3 and image.shape[2] not in (1, 3) and image.shape[0] in (1, 3):
        cure = "Move its channels to the end: image.transpose(1, 2, 0)."
        raise DataError(f"expected [H, W, 3], got {list(image.shape)}, channels first.", where=where, cure=cure)
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise DataError(
            f"expected [H, W, 3] or [H, W], got {list(image.shape)}.", where=where, cure="Give RGB or grey images."
        )
    return np.array(np.broadcast_to(image, (*image.shape[:2], 3)), order="C")  # a copy: the caller's may change


def _labels(labels: Sequence[Any] | np.ndarray, classes: Sequence[str] | None) -> tuple[list[str], tuple[str, ...]]:
    """(class name of each image, all class names in order: as given, else sorted, numbers by size). Raises DataError."""
    values = [value.item() if isinstance(value, np.generic) else value for value in labels]
    kinds = {type(value).__name__ for value in values}
    if kinds == {"int"}:
        if classes is None:
            numbers = sorted(set(values))
            return [str(value) for value in values], tuple(str(number) for number in numbers)
        if wrong := sorted({value for value in values if not 0 <= value < len(classes)}):
            cure = f"Labels count from 0 to {len(classes) - 1}."
            raise DataError(f"labels {few(map(str, wrong))} are no index into classes.", where=WHERE, cure=cure)
        return [classes[value] for value in values], tuple(classes)
    if kinds == {"str"}:
        if classes is not None and (strange := sorted(set(values) - set(classes))):
            raise DataError(f"labels not in classes: {few(strange)}.", where=WHERE, cure=f"Known: {few(classes)}.")
        return values, tuple(classes if classes is not None else sorted(set(values)))
    raise DataError(
        f"expected labels that are all strings or all whole numbers, got {', '.join(sorted(kinds))}.",
        where=WHERE,
        cure="Give one class name or class number for each image.",
    )
