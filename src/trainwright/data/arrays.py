"""Images in memory with their labels, numbers, masks or boxes, checked and brought to the form of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.data.fingerprint import hash_pixels
from trainwright.data.listing import PARTS
from trainwright.data.memory import Facts
from trainwright.data.number_targets import NumberTargets
from trainwright.data.problems import all_messages, counted, few
from trainwright.data.table import Row, SampleTable, make_table
from trainwright.data.targets import USUAL_TASKS, Targets, kind_for
from trainwright.errors import DataError
from trainwright.recipe import Size
from trainwright.records import IGNORED, TargetKind

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
    sizes: Sequence[Size],
    labels: Sequence[Any] | np.ndarray,
    *,
    task: str | None,
    classes: Sequence[str] | None,
    parts: Sequence[str] | None,
    names: Sequence[str] | None,
) -> tuple[SampleTable, list[int]]:
    """(the sample table of images of these sizes, the index of each row's image). Raises DataError with all that is wrong.

    task: None tells it from the labels, as `Dataset.from_arrays` says.
    """
    number = len(sizes)
    labels = np.asarray(labels) if hasattr(labels, "__array__") else labels  # a tensor, or a column of a data frame
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
    kind = _kind(labels, sizes) if task is None else kind_for(task)
    task = USUAL_TASKS[kind] if task is None else task
    order = sorted(range(number), key=lambda index: given_names[index])
    row_parts = [PARTS.get(given_parts[index], "") for index in order]
    if kind == "class":
        label_names, order_of_classes = _labels(labels, classes)
        rows = [
            Row(path=given_names[index], label=label_names[index], part=part)
            for index, part in zip(order, row_parts, strict=True)
        ]
        return make_table(Path(), rows, where=WHERE, classes=order_of_classes, task=task), order
    if not {"", "train"} & set(row_parts):
        raise DataError("there is no train part.", where=WHERE, cure="Add one, or drop the parts.")
    table = SampleTable(
        root=Path(),
        task=task,
        paths=tuple(given_names[index] for index in order),
        targets=_targets(kind, labels, sizes, classes, order),
        parts=np.array(row_parts, dtype="U5"),
    )
    return table, order


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


def _kind(labels: Sequence[Any] | np.ndarray, sizes: Sequence[Size]) -> TargetKind:
    """What the labels look like. Raises DataError where they could be several things."""
    arrays = [np.asarray(label) for label in labels]
    shapes, whole = {array.shape for array in arrays}, all(np.issubdtype(array.dtype, np.integer) for array in arrays)
    numeric = all(np.issubdtype(array.dtype, np.number) for array in arrays)
    if shapes == {()}:
        return "numbers" if numeric and not whole else "class"
    if numeric and not whole and len(shapes) == 1 and all(array.ndim == 1 for array in arrays):
        return "numbers"
    maps = all(array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer) for array in arrays)
    if maps and all(array.shape == size for array, size in zip(arrays, sizes, strict=True)):
        return "mask"
    filled = [array for array in arrays if array.size]
    if numeric and filled and all(array.ndim == 2 and array.shape[1] == 5 for array in filled):
        return "boxes"
    shown = few(sorted(str(list(shape)) for shape in shapes))
    raise DataError(
        f"labels of shape {shown} could be anything.",
        where=WHERE,
        cure="Name the task: task='classification', 'regression' ([N] or [N, T]), 'segmentation' (whole numbers [H, W] of "
        "the image's size) or 'detection' ([M, 5] with class, left, top, right, bottom).",
    )


def _targets(
    kind: TargetKind,
    labels: Sequence[Any] | np.ndarray,
    sizes: Sequence[Size],
    classes: Sequence[str] | None,
    order: Sequence[int],
) -> Targets:
    """The targets of any kind but classes, brought into `order`. Raises DataError that counts images as they were given."""
    if kind == "numbers":
        numbers = _numbers(labels, classes)
        return replace(numbers, values=numbers.values[order])
    arrays = [np.asarray(label) for label in labels]
    if kind == "mask":
        arrays = [array.astype(np.uint8) if array.dtype == np.bool_ else array for array in arrays]
        from trainwright.data.mask_targets import MaskTargets

        names = _checked_masks(arrays, sizes, classes)
        return MaskTargets.from_arrays([arrays[index].astype(np.uint8) for index in order], names)
    from trainwright.data.box_targets import BoxTargets

    boxes = [array.reshape(0, 5) if not array.size else array for array in arrays]
    names = _checked_boxes(boxes, classes)
    return BoxTargets.from_arrays([boxes[index] for index in order], names)


def _checked_masks(
    masks: Sequence[np.ndarray], sizes: Sequence[Size], classes: Sequence[str] | None
) -> tuple[str, ...]:
    """Names of the classes in masks that fit their images. Raises DataError."""
    for index, (mask, size) in enumerate(zip(masks, sizes, strict=True)):
        if mask.shape != size or not np.issubdtype(mask.dtype, np.integer):
            raise DataError(
                f"the mask is {mask.dtype} {list(mask.shape)}, its image {list(size)}.",
                where=f"{WHERE}: image {index}",
                cure=f"Give masks of whole numbers, [H, W] of the image's size; {IGNORED} is not scored.",
            )
    used = np.unique(np.concatenate([np.unique(mask) for mask in masks]))
    return _names(used[used != IGNORED], classes, cure=f"In masks, {IGNORED} is what is not scored.")


def _checked_boxes(boxes: Sequence[np.ndarray], classes: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes of boxes [M, 5]. Raises DataError."""
    for index, boxes_M5 in enumerate(boxes):
        if boxes_M5.ndim != 2 or boxes_M5.shape[1] != 5 or not np.issubdtype(boxes_M5.dtype, np.number):
            raise DataError(
                f"the boxes are {boxes_M5.dtype} {list(boxes_M5.shape)}, expected numbers [M, 5].",
                where=f"{WHERE}: image {index}",
                cure="Give class, left, top, right and bottom of each box, in pixels of the image.",
            )
        if not np.isfinite(boxes_M5[:, 0]).all():
            cure = "Give an index into classes for each box."
            raise DataError("a box whose class is no number.", where=f"{WHERE}: image {index}", cure=cure)
    return _names(np.unique(np.concatenate([boxes_M5[:, 0] for boxes_M5 in boxes])), classes)


def _names(used: np.ndarray, classes: Sequence[str] | None, *, cure: str = "") -> tuple[str, ...]:
    """Names of the classes of which `used` are indices: as given, otherwise the numbers. Raises DataError."""
    names = [str(number) for number in range(int(max(used.tolist(), default=-1)) + 1)] if classes is None else classes
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"classes given twice: {few(twice)}.", where=WHERE, cure="Give each class a name of its own.")
    wrong = [f"{number:g}" for number in used.tolist() if not (0 <= number < len(names) and number % 1 == 0)]
    if wrong:
        count = f"Classes count from 0 to {len(names) - 1}."
        raise DataError(f"classes {few(wrong)} are no index into classes.", where=WHERE, cure=f"{count} {cure}".strip())
    return tuple(names)


def _numbers(labels: Sequence[Any] | np.ndarray, classes: Sequence[str] | None) -> NumberTargets:
    """Number columns of labels [N] or [N, T]; `classes` are their names. Raises DataError."""
    try:
        values_ST = np.array(labels, dtype=np.float64)
    except (TypeError, ValueError):
        cure = "Give one number, or equally many, for each image."
        raise DataError("labels are not all numbers, or not equally many each.", where=WHERE, cure=cure) from None
    if values_ST.ndim == 1:
        values_ST = values_ST[:, None]
    if values_ST.ndim != 2 or not values_ST.shape[1]:
        shape = list(values_ST.shape)
        raise DataError(f"expected numbers [N] or [N, T], got {shape}.", where=WHERE, cure="Give a row for each image.")
    columns = values_ST.shape[1]
    names = tuple(classes or (["y"] if columns == 1 else [f"y{column}" for column in range(columns)]))
    if len(names) != columns:
        message = f"{counted(columns, 'number')} an image but {len(names):,} names of them: {few(names)}."
        raise DataError(message, where=WHERE, cure="Give a name for each number (classes).")
    return NumberTargets(values=values_ST, names=names)
