"""The dataset as others see it: from files or arrays, described, refused, read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError
from trainwright.recipe import DataSpec

Write = Callable[..., Path]
Names = Callable[..., list[str]]
IMAGES = np.random.default_rng(0).integers(0, 256, (12, 10, 14, 3), dtype=np.uint8)
LABELS = ["cat", "dog"] * 6


@pytest.fixture
def opened(write_images: Write, names: Names, tmp_path: Path) -> Dataset:
    return open_dataset(write_images(*names("train", "test")), cache_dir=tmp_path / "cache")


# ---- from files ----


def test_a_folder_is_opened_by_its_name_alone(write_images: Write, names: Names) -> None:
    data = open_dataset(str(write_images(*names(""))))
    assert (data.task, data.classes, len(data)) == ("classification", ("cat", "dog"), 12)
    assert data.targets.tolist() == [0] * 6 + [1] * 6
    assert data.digest == data.fingerprint.digest


def test_counts_are_of_usable_images_by_part_and_class(write_images: Write, names: Names, tmp_path: Path) -> None:
    root = write_images(*names("train", "test"))
    (root / "train" / "cat" / "bad.png").write_bytes(b"")
    data = open_dataset(root, cache_dir=tmp_path / "cache")
    assert data.counts == {"train": {"cat": 6, "dog": 6}, "test": {"cat": 6, "dog": 6}}


def test_counts_without_parts_are_of_all(write_images: Write, names: Names, tmp_path: Path) -> None:
    data = open_dataset(write_images(*names("")), cache_dir=tmp_path / "cache")
    assert data.counts == {"all": {"cat": 6, "dog": 6}}


def test_the_description_is_json_with_the_promised_keys(opened: Dataset) -> None:
    described = json.loads(json.dumps(opened.describe()))
    assert described["task"] == "classification"
    assert described["classes"] == ["cat", "dog"]
    assert described["counts"]["train"] == {"cat": 6, "dog": 6}
    assert described["problems"] == []
    assert described["fingerprint"] == opened.digest
    assert described["image_sizes"]["width"] == {"min": 16, "median": 16.0, "max": 16}
    assert described["bytes"] == sum(file.stat().st_size for file in opened.table.root.rglob("*.png"))


def test_problems_are_described_as_kind_severity_files_and_message(
    write_images: Write, names: Names, tmp_path: Path
) -> None:
    root = write_images(*names(""))
    (root / "cat" / "bad.png").write_bytes(b"")
    (problem,) = open_dataset(root, cache_dir=tmp_path / "cache").describe()["problems"]
    assert problem == {
        "kind": "empty",
        "severity": "error",
        "files": ["cat/bad.png"],
        "message": "the file is empty. Get it again from its source.",
    }


def test_an_image_is_read_as_a_square(opened: Dataset) -> None:
    pixels = opened.read(3, 16, "crop")
    with Image.open(opened.table.root / opened.table.paths[3]) as image:
        assert (pixels == np.asarray(image)).all()
    assert opened.read(3, 8, "pad").shape == (8, 8, 3)


def test_an_image_that_is_gone_is_named(opened: Dataset) -> None:
    (opened.table.root / opened.table.paths[0]).unlink()
    with pytest.raises(DataError, match=r"test/cat/0\.png: it does not exist any more"):
        opened.read(0, 8, "crop")


def test_a_healthy_dataset_is_not_refused(opened: Dataset) -> None:
    assert opened.refusals() == ()


def test_a_class_of_bad_files_is_a_reason_to_refuse(write_images: Write, names: Names, tmp_path: Path) -> None:
    root = write_images(*names(""), *names("", classes=("cow",)))
    for file in (root / "cow").iterdir():
        file.write_bytes(b"")
    refused = open_dataset(root, cache_dir=tmp_path / "cache").refusals()
    assert [problem.message for problem in refused] == ["no usable image of cow. Add images of it."]


def test_a_dataset_of_bad_files_is_refused_without_a_crash(write_images: Write, names: Names, tmp_path: Path) -> None:
    root = write_images(*names("", images=1))
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    data = open_dataset(root, cache_dir=tmp_path / "cache")
    assert [problem.kind for problem in data.refusals()] == ["class-missing", "too-few-classes"]
    assert data.describe()["image_sizes"] == {"width": None, "height": None}


def test_a_class_too_small_to_be_split_is_a_reason_to_refuse(write_images: Write, names: Names, tmp_path: Path) -> None:
    data = open_dataset(write_images(*names(""), "cow/only.png"), cache_dir=tmp_path / "cache")
    assert [problem.kind for problem in data.refusals()] == ["class-too-small"]


# ---- from arrays ----


def test_arrays_keep_their_order_and_pixels() -> None:
    data = Dataset.from_arrays(IMAGES, LABELS)
    assert [data.classes[target] for target in data.targets] == LABELS
    assert (data.read(5, 10, "crop") == IMAGES[5][:, 2:12]).all()
    assert data.fingerprint.widths.tolist() == [14] * 12


def test_grey_arrays_become_rgb() -> None:
    data = Dataset.from_arrays(IMAGES[..., 0], LABELS)
    assert (data.read(0, 10, "crop") == IMAGES[0, :, 2:12, :1]).all()


def test_arrays_may_have_different_sizes() -> None:
    data = Dataset.from_arrays(
        [IMAGES[0], IMAGES[1][:4], IMAGES[2, :, :, :1], IMAGES[3, :, :, 0]], ["a", "b", "a", "b"]
    )
    assert data.fingerprint.heights.tolist() == [10, 4, 10, 10]


def test_numbers_as_labels_are_ordered_by_size() -> None:
    data = Dataset.from_arrays(IMAGES, np.arange(12) % 6 * 2)
    assert data.classes == ("0", "2", "4", "6", "8", "10")
    assert data.targets.tolist() == [0, 1, 2, 3, 4, 5] * 2


def test_numbers_are_indices_into_given_classes() -> None:
    data = Dataset.from_arrays(IMAGES, [1, 0] * 6, classes=["wolf", "dog"])
    assert data.classes == ("wolf", "dog")
    assert data.targets.tolist() == [1, 0] * 6


def test_given_parts_are_kept() -> None:
    data = Dataset.from_arrays(IMAGES, LABELS, parts=["train"] * 8 + ["val"] * 4)
    assert data.split(DataSpec()).val.tolist() == [8, 9, 10, 11]


def test_rows_are_sorted_by_given_names() -> None:
    data = Dataset.from_arrays(IMAGES[:4], ["x", "y", "x", "y"], names=["d", "c", "b", "a"])
    assert data.table.paths == ("a", "b", "c", "d")
    assert [data.classes[target] for target in data.targets] == ["y", "x", "y", "x"]
    assert (data.read(0, 10, "crop") == IMAGES[3][:, 2:12]).all()


def test_the_same_arrays_have_the_same_digest_and_others_another() -> None:
    changed = IMAGES.copy()
    changed[3, 0, 0, 0] ^= 1
    assert Dataset.from_arrays(IMAGES, LABELS).digest == Dataset.from_arrays(IMAGES.copy(), LABELS).digest
    assert Dataset.from_arrays(changed, LABELS).digest != Dataset.from_arrays(IMAGES, LABELS).digest


def test_a_later_change_of_the_given_array_does_not_reach_the_dataset() -> None:
    given = IMAGES.copy()
    data = Dataset.from_arrays(given, LABELS)
    given[:] = 0
    assert (data.read(0, 10, "crop") == IMAGES[0][:, 2:12]).all()


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
        (IMAGES, [0.5] * 12, {}, "expected labels that are all strings or all whole numbers, got float"),
        (IMAGES, ["cat"] * 12, {}, "there is only one class, 'cat'"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(
    images: np.ndarray, labels: list[object], options: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays(images, labels, **options)
