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

Write = Callable[..., Path]
Names = Callable[..., list[str]]


@pytest.fixture
def opened(write_images: Write, names: Names, tmp_path: Path) -> Dataset:
    return open_dataset(write_images(*names("train", "test")), cache_dir=tmp_path / "cache")


# ---- from files ----


def test_a_folder_is_opened_by_its_name_alone(write_images: Write, names: Names) -> None:
    data = open_dataset(str(write_images(*names(""))))
    assert (data.task, data.classes, len(data)) == ("classification", ("cat", "dog"), 12)
    assert data.targets.array(np.arange(12)).tolist() == [0] * 6 + [1] * 6
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
    assert described["images"] == {"train": 12, "test": 12}
    assert described["target"] == "class"
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


def test_an_image_is_read_at_the_size_that_is_asked_for(opened: Dataset) -> None:
    pixels = opened.read(3, (16, 16), "crop")
    with Image.open(opened.table.root / opened.table.paths[3]) as image:
        assert (pixels == np.asarray(image)).all()
    assert opened.read(3, (8, 12), "pad").shape == (8, 12, 3)


def test_an_image_that_is_gone_is_named(opened: Dataset) -> None:
    (opened.table.root / opened.table.paths[0]).unlink()
    with pytest.raises(DataError, match=r"test/cat/0\.png: it does not exist any more"):
        opened.read(0, (8, 8), "crop")


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
