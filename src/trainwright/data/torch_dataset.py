"""Datasets of torch (map-style, items of image and target) as arrays: plain uint8 pixels, and targets by their kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from trainwright.data.problems import few
from trainwright.errors import DataError
from trainwright.records import Progress

EVERY = 64  # items between two calls of progress


@dataclass(frozen=True, kw_only=True)
class Items:
    """What was read, as `Dataset.from_arrays` takes it: one entry an item in images, labels, parts and names.

    parts: None where only train was given, which is then split.
    """

    images: list[np.ndarray]
    labels: list[Any]
    parts: list[str] | None
    names: list[str]
    classes: tuple[str, ...] | None


def read_items(
    datasets: Mapping[str, Any], *, classes: Sequence[str] | None = None, progress: Progress | None = None
) -> Items:
    """Every item of each part's dataset, read once. classes: by default those of the train dataset, where it names them.

    Raises DataError naming the item whose image or target cannot be used.
    """
    for part, dataset in datasets.items():
        _refuse_unreadable(part, dataset)
    total, images, labels, parts, names = sum(map(len, datasets.values())), [], [], [], []
    for part, dataset in datasets.items():
        _refuse_random(part, dataset)
        for index, (image, target) in enumerate(_items(part, dataset)):
            where = f"{part}[{index}]"
            images.append(_pixels(image, where))
            labels.append(_label(target, where))
            parts.append(part)
            names.append(f"{part}-{index:09d}")
            if progress is not None and (len(images) % EVERY == 0 or len(images) == total):
                progress("reading images", len(images), total)
    known = tuple(map(str, classes)) if classes is not None else _own_classes(datasets["train"], labels)
    return Items(images=images, labels=labels, parts=parts if len(datasets) > 1 else None, names=names, classes=known)


def _refuse_unreadable(part: str, dataset: Any) -> None:
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise DataError(
            f"expected a map-style dataset, got {type(dataset).__name__} without length or index.",
            where=part,
            cure="Give a torch.utils.data.Dataset with __len__ and __getitem__; of an iterable one, a list of its items.",
        )
    if not len(dataset):
        raise DataError("the dataset has no items.", where=part, cure="Give one with items, or leave the part out.")


def _refuse_random(part: str, dataset: Any) -> None:
    """Raise DataError where the first item is another each time: one draw of an augmentation would be kept for good."""
    first, second = (_pixels(_pair(dataset[0], f"{part}[0]")[0], f"{part}[0]") for _ in range(2))
    if not np.array_equal(first, second):
        raise DataError(
            "reading the same item twice gives two different images: the dataset transforms at random.",
            where=f"{part}[0]",
            cure="Give the dataset without its random transforms; trainwright augments (augment.* of the recipe).",
        )


def _items(part: str, dataset: Any) -> Iterator[tuple[Any, Any]]:
    for index in range(len(dataset)):
        yield _pair(dataset[index], f"{part}[{index}]")


def _pair(item: Any, where: str) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        what = f"{len(item)} things" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"expected an item (image, target), got {what}.", where=where, cure="Wrap the dataset.")
    return item[0], item[1]


def _pixels(image: Any, where: str) -> np.ndarray:
    """uint8 [H, W, 3] or [H, W]. Raises DataError."""
    if isinstance(image, Image.Image):
        if image.mode[:1] in ("I", "F"):  # convert("RGB") would clip 16 bits and more to white
            cure = "Scale it to 8 bits first."
            raise DataError(f"an image of mode {image.mode}, more than 8 bits.", where=where, cure=cure)
        return np.array(image.convert("RGB"))
    if isinstance(image, torch.Tensor):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            shape = list(image.shape)
            cure = "Give tensors with their channels first, or uint8 arrays with their channels last."
            raise DataError(f"expected a tensor [3, H, W] or [1, H, W], got {shape}.", where=where, cure=cure)
        array = image.detach().cpu()
        image = (array.float() if array.is_floating_point() else array).permute(1, 2, 0).numpy()
        if np.issubdtype(image.dtype, np.floating):
            return _from_unit_range(image, where)
    pixels: np.ndarray = np.asarray(image)
    if pixels.dtype != np.uint8:
        what = pixels.dtype if pixels.dtype != object else type(image).__name__
        cure = "Give PIL images, uint8 arrays [H, W, 3] or tensors [3, H, W]."
        raise DataError(f"expected an image, got {what} {list(pixels.shape)}.", where=where, cure=cure)
    return pixels


def _from_unit_range(image_HWC: np.ndarray, where: str) -> np.ndarray:
    low, high = float(image_HWC.min()), float(image_HWC.max())
    if not (low >= 0 and high <= 1):  # also where one of them is nan
        raise DataError(
            f"float pixels from {low:.3g} to {high:.3g}, expected 0 to 1.",
            where=where,
            cure="Give the dataset without Normalize: trainwright normalizes by itself.",
        )
    pixels_HWC: np.ndarray = np.rint(image_HWC * 255).astype(np.uint8)
    return pixels_HWC


def _label(target: Any, where: str) -> Any:
    """A class name or number, a float, an array of numbers, a mask [H, W] or boxes [M, 5], as `from_arrays` takes them."""
    if isinstance(target, Mapping):
        return _boxes(target, where)
    if isinstance(target, Image.Image):
        target = np.asarray(target)
    if isinstance(target, torch.Tensor):
        target = target.detach().cpu()
        target = (target.double() if target.is_floating_point() else target).numpy()
    if isinstance(target, list | tuple):
        target = np.asarray(target)
    if isinstance(target, np.ndarray) and target.ndim == 3 and target.shape[0] == 1:
        target = target[0]  # a mask with a channel of its own
    if isinstance(target, np.ndarray) and target.dtype == bool:
        target = target.astype(np.uint8)
    return target.item() if isinstance(target, np.ndarray) and target.ndim == 0 else target


def _boxes(target: Mapping[str, Any], where: str) -> np.ndarray:
    """[M, 5] of torchvision's `boxes` [M, 4] and `labels` [M]. Raises DataError."""
    if missing := [key for key in ("boxes", "labels") if key not in target]:
        cure = "Boxes are given as torchvision does: boxes [M, 4] (left, top, right, bottom) and labels [M]."
        raise DataError(f"a target without {' and '.join(missing)}: {', '.join(target)}.", where=where, cure=cure)
    if (form := str(getattr(target["boxes"], "format", "XYXY")).rsplit(".", 1)[-1]) != "XYXY":
        raise DataError(f"boxes are given as {form}.", where=where, cure="Convert them to XYXY.")
    boxes_M4, labels_M = (_numbers(target[key], key, where) for key in ("boxes", "labels"))
    boxes_M4 = boxes_M4 if boxes_M4.size else boxes_M4.reshape(0, 4)
    if boxes_M4.ndim != 2 or boxes_M4.shape[1] != 4:
        shape = list(boxes_M4.shape)
        raise DataError(
            f"expected boxes [M, 4], got {shape}.", where=where, cure="Give left, top, right, bottom of each."
        )
    if labels_M.ndim != 1 or not (np.isfinite(labels_M) & (labels_M % 1 == 0)).all():
        message = (
            f"expected labels [M] of whole numbers, got {list(labels_M.shape)}: {few(map(str, labels_M.ravel()))}."
        )
        raise DataError(message, where=where, cure="Give an index into classes for each box.")
    if len(boxes_M4) != len(labels_M):
        message = f"{len(boxes_M4)} boxes but {len(labels_M)} labels."
        raise DataError(message, where=where, cure="Give a label for each box.")
    return np.column_stack([labels_M, boxes_M4])


def _numbers(given: Any, key: str, where: str) -> np.ndarray:
    """float64 of any shape. Raises DataError for what is no tensor of numbers."""
    try:
        return np.asarray(torch.as_tensor(given).detach().cpu(), dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        cure = "Give tensors: boxes [M, 4] and labels [M], indices into classes."
        raise DataError(f"the target's {key} are no numbers.", where=where, cure=cure) from None


def _own_classes(dataset: Any, labels: Sequence[Any]) -> tuple[str, ...] | None:
    """`classes` of the dataset, or of the one it is a part of, where it has such a list and the targets are indices."""
    if all(isinstance(label, float) or (isinstance(label, np.ndarray) and label.ndim == 1) for label in labels):
        return None  # numbers: a list of classes says nothing of them
    while dataset is not None:
        classes = getattr(dataset, "classes", None)
        if isinstance(classes, list | tuple) and classes and all(isinstance(name, str) for name in classes):
            return tuple(classes)
        dataset = getattr(dataset, "dataset", None)  # torch.utils.data.Subset
    return None
