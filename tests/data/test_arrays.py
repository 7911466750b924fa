"""Datasets from arrays in memory: classes, numbers, masks and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainwright.data.dataset import Dataset
from trainwright.data.targets import USUAL_TASKS
from trainwright.errors import DataError, UnknownNameError
from trainwright.plugins import tasks
from trainwright.recipe import DataSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 10, 14, 3), dtype=np.uint8)
LABELS = ["cat", "dog"] * 6


# ---- classes ----


def test_arrays_keep_their_order_and_pixels() -> None:
    data = Dataset.from_arrays(IMAGES, LABELS)
    assert list(data.targets.strata()) == LABELS
    assert (data.read(5, (10, 10), "crop") == IMAGES[5][:, 2:12]).all()
    assert data.fingerprint.widths.tolist() == [14] * 12


def test_grey_arrays_become_rgb() -> None:
    data = Dataset.from_arrays(IMAGES[..., 0], LABELS)
    assert (data.read(0, (10, 10), "crop") == IMAGES[0, :, 2:12, :1]).all()


def test_arrays_may_have_different_sizes() -> None:
    data = Dataset.from_arrays(
        [IMAGES[0], IMAGES[1][:4], IMAGES[2, :, :, :1], IMAGES[3, :, :, 0]], ["a", "b", "a", "b"]
    )
    assert data.fingerprint.heights.tolist() == [10, 4, 10, 10]


def test_numbers_as_labels_are_ordered_by_size() -> None:
    data = Dataset.from_arrays(IMAGES, np.arange(12) % 6 * 2)
    assert data.classes == ("0", "2", "4", "6", "8", "10")
    assert data.targets.array(np.arange(12)).tolist() == [0, 1, 2, 3, 4, 5] * 2


def test_numbers_are_indices_into_given_classes() -> None:
    data = Dataset.from_arrays(IMAGES, [1, 0] * 6, classes=["wolf", "dog"])
    assert data.classes == ("wolf", "dog")
    assert data.targets.array(np.arange(12)).tolist() == [1, 0] * 6


def test_labels_may_be_a_tensor() -> None:
    data = Dataset.from_arrays(IMAGES, torch.tensor([0, 1] * 6), classes=["wolf", "dog"])
    assert list(data.targets.strata()) == ["wolf", "dog"] * 6


def test_given_parts_are_kept() -> None:
    data = Dataset.from_arrays(IMAGES, LABELS, parts=["train"] * 8 + ["val"] * 4)
    assert data.split(DataSpec()).val.tolist() == [8, 9, 10, 11]


def test_rows_are_sorted_by_given_names() -> None:
    data = Dataset.from_arrays(IMAGES[:4], ["x", "y", "x", "y"], names=["d", "c", "b", "a"])
    assert data.table.paths == ("a", "b", "c", "d")
    assert list(data.targets.strata()) == ["y", "x", "y", "x"]
    assert (data.read(0, (10, 10), "crop") == IMAGES[3][:, 2:12]).all()


def test_the_same_arrays_have_the_same_digest_and_others_another() -> None:
    changed = IMAGES.copy()
    changed[3, 0, 0, 0] ^= 1
    assert Dataset.from_arrays(IMAGES, LABELS).digest == Dataset.from_arrays(IMAGES.copy(), LABELS).digest
    assert Dataset.from_arrays(changed, LABELS).digest != Dataset.from_arrays(IMAGES, LABELS).digest


def test_a_later_change_of_the_given_array_does_not_reach_the_dataset() -> None:
    given = IMAGES.copy()
    data = Dataset.from_arrays(given, LABELS)
    given[:] = 0
    assert (data.read(0, (10, 10), "crop") == IMAGES[0][:, 2:12]).all()


def test_twins_in_arrays_are_found() -> None:
    (problem,) = Dataset.from_arrays(np.concatenate([IMAGES, IMAGES[:1]]), [*LABELS, "cat"]).problems
    assert (problem.kind, problem.files) == ("duplicate-in-part", ("image-000000000", "image-000000012"))


def test_arrays_are_described_too() -> None:
    assert Dataset.from_arrays(IMAGES, LABELS).describe()["bytes"] == IMAGES.nbytes


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (IMAGES / 255, LABELS, {}, r"image 0: expected uint8 .* got float64\. Convert it: \(image \* 255\)\.round\(\)"),
        (IMAGES.astype(np.int64), LABELS, {}, "expected uint8 pixels of 0 to 255, got int64"),
        (IMAGES.transpose(0, 3, 1, 2), LABELS, {}, r"channels first\. Move its channels to the end"),
        (np.zeros((2, 8, 8, 4), np.uint8), ["a", "b"], {}, r"expected \[H, W, 3\] or \[H, W\], got \[8, 8, 4\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), [], {}, "there are no images"),
        (IMAGES, LABELS[:-1], {}, "12 images but 11 labels"),
        (IMAGES, LABELS, {"names": ["x"] * 12}, "names given twice: x"),
        (IMAGES, LABELS, {"parts": ["trian"] * 12}, "unknown parts: trian"),
        (IMAGES, LABELS, {"parts": ["train"] * 11 + [""]}, "1 image without a part"),
        (IMAGES, LABELS, {"classes": ["cat", "cow"]}, r"labels not in classes: dog\. Known: cat, cow"),
        (IMAGES, [0, 2] * 6, {"classes": ["cat", "cow"]}, "labels 2 are no index into classes"),
        (IMAGES, [0.5, "cat"] * 6, {}, "expected labels that are all strings or all whole numbers, got float, str"),
        (IMAGES, ["cat"] * 12, {}, "there is only one class, 'cat'"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(
    images: np.ndarray, labels: list[object], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays(images, labels, **options)


# ---- numbers ----


def test_floats_are_numbers() -> None:
    data = Dataset.from_arrays(IMAGES, np.arange(12) / 2)
    assert (data.task, data.classes, data.targets.kind) == ("regression", ("y",), "numbers")
    assert data.targets.array(np.array([3])).tolist() == [[1.5]]


def test_whole_numbers_are_numbers_where_the_task_says_so() -> None:
    data = Dataset.from_arrays(IMAGES, list(range(12)), task="regression", classes=["age"])
    assert (data.classes, data.targets.array(np.array([3])).tolist()) == (("age",), [[3.0]])


def test_numbers_are_told_from_classes_in_a_word() -> None:
    assert repr(Dataset.from_arrays(IMAGES, np.arange(24).reshape(12, 2) / 2)).endswith("12 images, 2 number columns)")
    assert repr(Dataset.from_arrays(IMAGES, LABELS)).endswith("classification, 12 images, 2 classes)")


def test_several_floats_an_image_are_columns() -> None:
    data = Dataset.from_arrays(IMAGES, np.arange(24).reshape(12, 2) / 2)
    assert data.classes == ("y0", "y1")
    assert data.targets.array(np.array([3])).tolist() == [[3.0, 3.5]]


def test_numbers_follow_the_order_of_names() -> None:
    data = Dataset.from_arrays(IMAGES[:3], [0.5, 1.5, 2.5], names=["c", "a", "b"])
    assert data.targets.array(np.arange(3))[:, 0].tolist() == [1.5, 2.5, 0.5]


# ---- masks ----

MASKS = np.arange(12 * 10 * 14).reshape(12, 10, 14) % 3


def test_whole_numbers_of_the_images_size_are_masks() -> None:
    data = Dataset.from_arrays(IMAGES, MASKS, classes=["sky", "road", "car"])
    assert (data.task, data.targets.kind, data.classes) == ("segmentation", "mask", ("sky", "road", "car"))
    assert sum(data.counts["all"].values()) == MASKS.size


def test_masks_without_class_names_are_named_by_number() -> None:
    assert Dataset.from_arrays(IMAGES, list(MASKS)).classes == ("0", "1", "2")


def test_pixels_of_255_are_not_scored() -> None:
    masks = MASKS.copy()
    masks[:, :2] = 255
    data = Dataset.from_arrays(IMAGES, masks)
    assert data.classes == ("0", "1", "2")
    assert sum(data.counts["all"].values()) == 12 * 8 * 14


def test_masks_follow_the_order_of_names() -> None:
    masks = [np.full((10, 14), index % 2, dtype=np.int64) for index in range(4)]
    data = Dataset.from_arrays(IMAGES[:4], masks, names=["d", "c", "b", "a"])
    assert data.targets.counts(np.array([0])) == {"0": 0, "1": 140}


# ---- boxes ----

BOXES = [np.array([[index % 2, 1, 2, 6 + index / 2, 9]]) for index in range(12)]


def test_rows_of_five_numbers_are_boxes() -> None:
    data = Dataset.from_arrays(IMAGES, BOXES, classes=["cat", "dog"])
    assert (data.task, data.targets.kind, data.classes) == ("detection", "boxes", ("cat", "dog"))
    assert data.counts == {"all": {"cat": 6, "dog": 6}}


def test_an_image_may_have_no_box() -> None:
    data = Dataset.from_arrays(IMAGES, [[], *BOXES[1:]], task="detection")
    assert data.counts == {"all": {"0": 5, "1": 6}}


# ---- tasks ----


def test_a_task_of_ones_own_says_what_it_learns_from(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ordering:
        target = "numbers"

    monkeypatch.setitem(tasks.all(), "ordering", Ordering)
    data = Dataset.from_arrays(IMAGES, np.arange(24).reshape(12, 2), task="ordering")
    assert (data.task, data.targets.kind) == ("ordering", "numbers")


def test_the_usual_tasks_learn_from_what_they_say() -> None:
    for kind, name in USUAL_TASKS.items():
        assert tasks.get(name).target == kind


def test_a_task_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no such task 'regresion'"):
        Dataset.from_arrays(IMAGES, LABELS, task="regresion")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (np.arange(24).reshape(12, 2), {}, r"labels of shape \[2\] could be anything\. Name the task"),
        ([[1.5], *[[1.5, 2.5]] * 11], {"task": "regression"}, "labels are not all numbers, or not equally many each"),
        (LABELS, {"task": "regression"}, "labels are not all numbers"),
        (np.zeros((12, 2, 2)), {"task": "regression"}, r"expected numbers \[N\] or \[N, T\], got \[12, 2, 2\]"),
        (np.arange(12.0), {"classes": ["x", "y"]}, "1 number an image but 2 names of them: x, y"),
        (MASKS[:, :9], {"task": "segmentation"}, r"image 0: the mask is int64 \[9, 14\], its image \[10, 14\]"),
        (MASKS / 2, {"task": "segmentation"}, r"the mask is float64 \[10, 14\]"),
        (MASKS - 1, {}, r"classes -1 are no index into classes\. Classes count from 0 to 1\. In masks, 255"),
        (MASKS, {"classes": ["sky", "road"]}, "classes 2 are no index into classes"),
        ([np.zeros((2, 4))] * 12, {"task": "detection"}, r"image 0: the boxes are float64 \[2, 4\], expected numbers"),
        (BOXES, {"classes": ["cat"]}, "classes 1 are no index into classes"),
        (np.arange(12.0), {"parts": ["val"] * 12}, "there is no train part"),
    ],
)
def test_targets_that_cannot_be_used_are_refused(labels: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays(IMAGES, labels, **options)


# ---- labels that are odd but clear, and some that are not ----


def test_images_without_a_box_may_have_an_empty_list() -> None:
    data = Dataset.from_arrays(IMAGES, [[[0, 1, 1, 9, 9]]] * 11 + [[]])
    assert (data.task, data.counts) == ("detection", {"all": {"0": 11}})


@pytest.mark.parametrize("task", [None, "segmentation"])
def test_masks_may_be_of_yes_and_no(task: str | None) -> None:
    masks = IMAGES[..., 0] > 127
    data = Dataset.from_arrays(IMAGES, masks, task=task)
    assert (data.task, data.classes) == ("segmentation", ("0", "1"))
    assert data.counts["all"]["1"] == masks.sum()


def test_small_whole_masks_name_their_own_classes() -> None:
    assert Dataset.from_arrays(IMAGES, (IMAGES[..., 0] % 3).astype(np.uint8)).classes == ("0", "1", "2")


def test_two_classes_of_boxes_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="classes given twice: cat"):
        Dataset.from_arrays(IMAGES, [np.array([[0, 1, 1, 9, 9]])] * 12, classes=["cat", "cat"])


def test_a_box_whose_class_is_no_number_is_named_by_its_image() -> None:
    boxes = [np.array([[0.0, 1, 1, 9, 9]]) for _ in range(12)]
    boxes[7][0, 0] = np.nan
    with pytest.raises(DataError, match="image 7: a box whose class is no number"):
        Dataset.from_arrays(IMAGES, boxes)
