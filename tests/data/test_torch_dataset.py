"""Datasets of torch are read once, exactly, and refused where their items are not what they were stored as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, Subset, TensorDataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from trainwright.data.dataset import Dataset
from trainwright.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 10, 14, 3), dtype=np.uint8)


class Items(torch.utils.data.Dataset[Any]):
    """Images and targets as they are given, through `form`; with the attribute `classes` where there are such."""

    def __init__(
        self,
        targets: Sequence[Any],
        *,
        form: Callable[[np.ndarray], Any] = Image.fromarray,
        classes: object = None,
    ) -> None:
        self.targets, self.form = targets, form
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.form(IMAGES[index]), self.targets[index]


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)


# ---- images ----


@pytest.mark.parametrize(
    "form",
    [
        Image.fromarray,
        lambda image: image,
        to_tensor,
        lambda image: to_tensor(image) / 255,
        lambda image: (to_tensor(image) / 255).double(),
        v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]),
    ],
    ids=["pil", "array", "uint8 tensor", "float32 tensor", "float64 tensor", "torchvision"],
)
def test_pixels_come_back_exactly(form: Callable[[np.ndarray], Any]) -> None:
    data = Dataset.from_torch(Items([0, 1] * 6, form=form))
    assert all((data.read(row, (10, 14), "crop") == IMAGES[row]).all() for row in range(12))


@pytest.mark.parametrize(
    "form",
    [
        lambda image: to_tensor(image)[:1],
        lambda image: to_tensor(image)[:1] / 255,
        lambda image: image[:, :, 0],
        lambda image: Image.fromarray(image[:, :, 0]),
    ],
    ids=["uint8 tensor", "float tensor", "array", "pil"],
)
def test_grey_becomes_rgb(form: Callable[[np.ndarray], Any]) -> None:
    data = Dataset.from_torch(Items([0, 1] * 6, form=form))
    assert (data.read(5, (10, 14), "crop") == IMAGES[5, :, :, :1]).all()


def test_normalized_images_are_refused_with_the_cure() -> None:
    form = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    with pytest.raises(
        DataError, match=r"train\[0\]: float pixels from -1 to 1, expected 0 to 1\. .* without Normalize"
    ):
        Dataset.from_torch(Items([0, 1] * 6, form=form))


def test_a_value_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(DataError, match=r"train\[0\]: float pixels from nan to nan"):
        Dataset.from_torch(Items([0, 1] * 6, form=lambda image: to_tensor(image) * float("nan")))


def test_random_transforms_are_refused_with_the_cure() -> None:
    draws = iter(range(100))
    with pytest.raises(DataError, match=r"train\[0\]: reading the same item twice .* trainwright augments"):
        Dataset.from_torch(Items([0, 1] * 6, form=lambda image: np.roll(image, next(draws), axis=1)))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (lambda image: image.astype(np.float64), r"train\[0\]: expected an image, got float64 \[10, 14, 3\]"),
        (torch.from_numpy, r"expected a tensor \[3, H, W\] or \[1, H, W\], got \[10, 14, 3\]"),
        (lambda image: "photo.jpg", "expected an image, got <U9"),
        (lambda image: Image.fromarray(image[:, :, 0].astype(np.int32)), "an image of mode I, more than 8 bits"),
    ],
)
def test_what_is_no_image_is_refused(form: Callable[[np.ndarray], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(Items([0, 1] * 6, form=form))


# ---- targets ----


@pytest.mark.parametrize(
    "targets",
    [[0, 1] * 6, torch.tensor([0, 1] * 6), np.array([0, 1] * 6)],
    ids=["int", "tensor", "numpy"],
)
def test_whole_numbers_are_classes_by_the_datasets_own_names(targets: Sequence[Any]) -> None:
    data = Dataset.from_torch(Items(targets, classes=["wolf", "dog"]))
    assert (data.task, data.classes) == ("classification", ("wolf", "dog"))
    assert list(data.targets.strata()) == ["wolf", "dog"] * 6


def test_given_names_go_before_the_datasets_own() -> None:
    assert Dataset.from_torch(Items([0, 1] * 6, classes=["a", "b"]), classes=["wolf", "dog"]).classes == ("wolf", "dog")


def test_a_subset_has_the_names_of_its_dataset() -> None:
    data = Dataset.from_torch(Subset(Items([0, 1] * 6, classes=["wolf", "dog"]), range(2, 12)))
    assert (data.classes, len(data)) == (("wolf", "dog"), 10)
    assert (data.read(0, (10, 14), "crop") == IMAGES[2]).all()


def test_classes_without_names_are_numbers() -> None:
    assert Dataset.from_torch(Items([3, 7] * 6)).classes == ("3", "7")


def test_a_dataset_of_tensors_is_read() -> None:
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    assert Dataset.from_torch(TensorDataset(images, torch.tensor([0, 1] * 6))).classes == ("0", "1")


def test_floats_are_numbers_whatever_the_classes() -> None:
    data = Dataset.from_torch(Items([index / 2 for index in range(12)], classes=["wolf", "dog"]))
    assert (data.task, data.classes) == ("regression", ("y",))
    assert data.targets.array(np.array([3])).tolist() == [[1.5]]


def test_a_tensor_of_floats_is_several_numbers() -> None:
    data = Dataset.from_torch(Items(torch.arange(24).reshape(12, 2) / 2))
    assert data.targets.array(np.array([3])).tolist() == [[3.0, 3.5]]


MASKS = [np.full((10, 14), index % 2, dtype=np.uint8) for index in range(12)]


@pytest.mark.parametrize(
    "form",
    [
        lambda mask: mask,
        Image.fromarray,
        lambda mask: torch.from_numpy(mask).long(),
        lambda mask: torch.from_numpy(mask).bool(),
        lambda mask: tv_tensors.Mask(torch.from_numpy(mask)[None]),
    ],
    ids=["array", "pil", "tensor", "bool tensor", "torchvision"],
)
def test_whole_numbers_by_pixel_are_masks(form: Callable[[np.ndarray], Any]) -> None:
    data = Dataset.from_torch(Items([form(mask) for mask in MASKS], classes=["ground", "thing"]))
    assert (data.task, data.classes) == ("segmentation", ("ground", "thing"))
    assert data.targets.counts(np.array([1])) == {"ground": 0, "thing": 140}


def boxes(index: int, **changed: object) -> dict[str, object]:
    edges = tv_tensors.BoundingBoxes(
        torch.tensor([[1.0, 2.0, 6.0 + index / 4, 9.0]]), format="XYXY", canvas_size=(10, 14)
    )
    return {"boxes": edges, "labels": torch.tensor([index % 2]), "image_id": index, **changed}


def test_boxes_and_labels_are_boxes() -> None:
    data = Dataset.from_torch(Items([boxes(index) for index in range(12)], classes=["cat", "dog"]))
    assert (data.task, data.classes) == ("detection", ("cat", "dog"))
    assert data.counts == {"all": {"cat": 6, "dog": 6}}


def test_an_image_without_boxes_is_read() -> None:
    empty = boxes(0, boxes=torch.zeros((0, 4)), labels=torch.zeros(0, dtype=torch.int64))
    data = Dataset.from_torch(Items([empty, *(boxes(index) for index in range(1, 12))]))
    assert data.counts == {"all": {"0": 5, "1": 6}}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"boxes": torch.zeros((1, 4))}, r"train\[0\]: a target without labels: boxes"),
        (boxes(0, labels=torch.tensor([0, 1])), r"train\[0\]: 1 boxes but 2 labels"),
        (
            boxes(0, boxes=tv_tensors.BoundingBoxes(torch.ones((1, 4)), format="XYWH", canvas_size=(10, 14))),
            "boxes are given as XYWH. Convert them to XYXY",
        ),
    ],
)
def test_boxes_that_cannot_be_used_are_refused(target: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(Items([target] * 12))


# ---- parts ----


def test_given_parts_are_kept_and_named() -> None:
    data = Dataset.from_torch(Items([0, 1] * 6), Items([1, 0] * 2), Items([0, 1]))
    assert data.images == {"train": 12, "val": 4, "test": 2}
    row = data.table.paths.index("val-000000002")
    assert data.table.parts[row] == "val"
    assert (data.read(row, (10, 14), "crop") == IMAGES[2]).all()


def test_train_alone_is_split() -> None:
    assert Dataset.from_torch(Items([0, 1] * 6)).images == {"all": 12}


def test_the_item_that_cannot_be_used_is_named_with_its_part() -> None:
    form = iter([IMAGES[0], IMAGES[0], IMAGES[0], np.zeros((2, 2))])
    with pytest.raises(DataError, match=r"^val\[1\]: expected an image, got float64"):
        Dataset.from_torch(Items([0, 1] * 6), Items([0, 1], form=lambda image: next(form)))


def test_progress_ends_with_all() -> None:
    calls: list[tuple[str, int, int]] = []
    Dataset.from_torch(Items([0, 1] * 6), Items([0, 1]), progress=lambda *call: calls.append(call))
    assert calls == [("reading images", 14, 14)]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(IMAGES[0], 0)])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Stream(), "train: expected a map-style dataset, got Stream without length or index"),
        ([], "train: the dataset has no items"),
        ([IMAGES[0]], r"train\[0\]: expected an item \(image, target\), got ndarray"),
        ([(IMAGES[0], 0, 1)], r"train\[0\]: expected an item \(image, target\), got 3 things"),
    ],
)
def test_what_is_no_dataset_of_images_and_targets_is_refused(dataset: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(dataset)


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        (torch.ones(1, 4), ["cat"], r"train\[1\]: the target's labels are no numbers"),
        (
            torch.ones(1, 4),
            torch.tensor([float("nan")]),
            r"train\[1\]: expected labels \[M\] of whole numbers, got \[1\]: nan",
        ),
        (torch.ones(1, 4), torch.tensor([0.5]), r"train\[1\]: expected labels \[M\] of whole numbers, got \[1\]: 0\.5"),
        (torch.ones(4), torch.tensor([1]), r"train\[1\]: expected boxes \[M, 4\], got \[4\]"),
        (torch.ones(2, 2), torch.tensor([1]), r"train\[1\]: expected boxes \[M, 4\], got \[2, 2\]"),
        (["all"], torch.tensor([1]), r"train\[1\]: the target's boxes are no numbers"),
    ],
)
def test_boxes_that_are_none_are_named_by_their_item(boxes: Any, labels: Any, message: str) -> None:
    good = {"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([0])}
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(Items([good, {"boxes": boxes, "labels": labels}]))


def test_an_item_without_boxes_may_have_empty_lists() -> None:
    good = {"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([0])}
    data = Dataset.from_torch(Items([*[good] * 11, {"boxes": [], "labels": []}]))
    assert data.counts == {"all": {"0": 11}}
