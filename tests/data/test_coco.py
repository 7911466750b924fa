"""COCO's JSON: where files, parts and images are found, and what is left out or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trainwright.data import coco
from trainwright.data.box_layout import holds_boxes, read_boxes
from trainwright.data.dataset import open_dataset
from trainwright.errors import DataError

Write = Callable[..., Path]


def content(*names: str, boxes: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """COCO of images of 16 x 16 pixels, each with one box of a cat, or with `boxes`."""
    one = [{"id": id, "image_id": id, "category_id": 7, "bbox": [1, 2, 8, 8]} for id in range(1, len(names) + 1)]
    return {
        "images": [{"id": id, "file_name": name, "width": 16, "height": 16} for id, name in enumerate(names, 1)],
        "annotations": one if boxes is None else boxes,
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        **more,
    }


def write_json(file: Path, said: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(said if isinstance(said, str) else json.dumps(said))
    return file


def parts_of(root: Path) -> dict[str, str]:
    table = read_boxes(root)
    return dict(zip(table.paths, table.parts.tolist(), strict=True))


@pytest.fixture
def root(write_images: Write) -> Path:
    folder = write_images("images/a.png", "images/b.png")
    write_json(folder / "annotations.json", content("a.png", "b.png"))
    return folder


def test_a_file_beside_images_is_read(root: Path) -> None:
    assert holds_boxes(root)
    table = read_boxes(root)
    assert (table.task, table.classes, table.paths) == ("detection", ("cat", "dog"), ("images/a.png", "images/b.png"))
    assert table.targets.annotations[0].boxes == (("cat", 1, 2, 9, 10, "annotation 1"),)
    assert table.problems == ()


def test_a_file_can_be_given_itself(root: Path) -> None:
    file = root / "annotations.json"
    assert holds_boxes(file)
    assert read_boxes(file).paths == read_boxes(root).paths


def test_a_file_below_annotations_can_be_given_itself(write_images: Write) -> None:
    root = write_images("train2017/a.png")
    table = read_boxes(write_json(root / "annotations" / "instances_train2017.json", content("a.png")))
    assert (table.root, table.paths, table.parts.tolist()) == (root, ("train2017/a.png",), [""])


@pytest.mark.parametrize("prefix", ["images/train2017", "train2017", "images/train", "train", "train/images"])
def test_parts_come_from_names_of_files_in_annotations(write_images: Write, prefix: str) -> None:
    other = prefix.replace("train", "val")
    root = write_images(f"{prefix}/a.png", f"{other}/a.png")
    write_json(root / "annotations" / "instances_train2017.json", content("a.png"))
    write_json(root / "annotations" / "instances_val2017.json", content("a.png"))
    write_json(root / "annotations" / "captions_train2017.json", {})
    assert parts_of(root) == {f"{prefix}/a.png": "train", f"{other}/a.png": "val"}


def test_part_folders_have_files_of_their_own(write_images: Write) -> None:
    root = write_images("train/a.png", "valid/a.png", "test/images/c.png")
    write_json(root / "train" / "_annotations.coco.json", content("a.png"))
    write_json(root / "valid" / "_annotations.coco.json", content("a.png"))
    write_json(root / "test" / "annotations.json", content("c.png"))
    assert parts_of(root) == {"train/a.png": "train", "valid/a.png": "val", "test/images/c.png": "test"}


def test_two_files_for_one_part_are_refused(write_images: Write) -> None:
    root = write_images("images/a.png")
    write_json(root / "annotations" / "train.json", content("a.png"))
    write_json(root / "annotations" / "train_2.json", content("a.png"))
    with pytest.raises(DataError, match=r"more than one file for train: annotations/train\.json, annotations/train_2"):
        read_boxes(root)


def test_an_image_listed_twice_is_refused(root: Path) -> None:
    write_json(root / "annotations.json", content("a.png", "./a.png"))
    with pytest.raises(DataError, match=r"1 image given more than once: images/a\.png"):
        read_boxes(root)


def test_images_that_are_not_there_and_those_not_listed_are_left_out_and_named(root: Path) -> None:
    write_json(root / "annotations.json", content("a.png", "x.png", "../../outside.png"))
    (root.parent / "outside.png").write_bytes((root / "images" / "a.png").read_bytes())
    table = read_boxes(root)
    assert table.paths == ("images/a.png",)
    assert [(p.kind, p.files) for p in table.problems] == [
        ("no-image", ("../../outside.png", "x.png")),
        ("no-annotation", ("images/b.png",)),
    ]


def test_crowd_regions_are_left_out_and_counted(root: Path) -> None:
    box = {"image_id": 1, "category_id": 7, "bbox": [1, 2, 8, 8]}
    boxes = [{"id": 1, **box}, {"id": 2, "iscrowd": 1, **box}, {"id": 3, "iscrowd": 1, **box}]
    write_json(root / "annotations.json", content("a.png", "b.png", boxes=boxes))
    table = read_boxes(root)
    assert [len(annotation.boxes) for annotation in table.targets.annotations] == [1, 0]
    assert [(p.kind, p.files, p.message) for p in table.problems] == [
        ("crowd-boxes", ("annotations.json",), "2 crowd regions (iscrowd) left out: one box around many objects."),
    ]


def test_annotations_of_no_image_are_named(root: Path) -> None:
    boxes = [{"id": 5, "image_id": 99, "category_id": 7, "bbox": [1, 2, 8, 8]}, {"id": 6, "image_id": None}]
    write_json(root / "annotations.json", content("a.png", "b.png", boxes=boxes))
    (problem,) = read_boxes(root).problems
    assert problem.kind == "no-image"
    assert problem.message.startswith("left out: annotations of images that are not listed: 5, 6.")


def test_faulty_boxes_are_named_by_image_and_annotation(root: Path, tmp_path: Path) -> None:
    given = [
        (7, [1, 2, 8, 8]),
        (7, [12, 2, 8, 8]),
        (9, [1, 2, 3, 4]),
        (7, [9, 10, -8, -8]),
        (3, [1, "x", 3, 4]),
        (3, None),
    ]
    boxes = [{"id": id, "image_id": 2, "category_id": label, "bbox": box} for id, (label, box) in enumerate(given, 10)]
    write_json(root / "annotations.json", content("a.png", "b.png", boxes=boxes))
    data = open_dataset(root, cache_dir=tmp_path / "cache")
    assert [(p.kind, p.files, p.message.split(":")[0]) for p in data.problems if p.files] == [
        ("box-outside", ("images/b.png",), "annotation 11 (cat"),
        ("class-unknown", ("images/b.png",), "annotation 12 of category 9 (1, 2, 4, 6)"),
        ("box-inverted", ("images/b.png",), "annotation 13 (cat"),
        ("box-repeated", ("images/b.png",), "annotation 13 (cat"),
        ("box-not-a-number", ("images/b.png",), "annotation 14 (dog"),
        ("box-not-a-number", ("images/b.png",), "annotation 15 (dog"),
    ]
    assert "class-unused" in {p.kind for p in data.problems}
    assert data.classes == ("cat",)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ('{"images":\n [,]}', r"line 2, column 3: not JSON \(Expecting value\)"),
        ("[]", "not COCO: no object with images, annotations and categories"),
        ({"images": [], "categories": [3]}, r"\(1\) no list 'annotations'. \(2\) categories: no objects: entry 1"),
        (content("a.png", categories=[{"id": 7}]), "categories without id or name: entry 1"),
        (
            content("a.png", categories=[{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]),
            "categories with the same id: 7",
        ),
        (
            content("a.png", images=[{"id": 1}, {"id": [], "file_name": "a"}]),
            "images without id or file_name: entry 1, 2",
        ),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_is_not_coco_is_refused_by_name(root: Path, said: Any, message: str) -> None:
    write_json(root / "annotations.json", said)
    with pytest.raises(DataError, match=rf"annotations\.json: .*{message}"):
        read_boxes(root)


def test_a_file_that_is_too_large_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "MAX_JSON_BYTES", 10)
    with pytest.raises(DataError, match=r"annotations\.json: larger than 10 bytes"):
        read_boxes(root)


def test_files_in_which_no_image_is_found_are_refused(root: Path) -> None:
    write_json(root / "annotations.json", content("x.png"))
    with pytest.raises(DataError, match="no image has an annotation"):
        read_boxes(root)


def test_json_of_another_program_beside_class_folders_is_none_of_ours(write_images: Write) -> None:
    root = write_images("cat/0.png", "dog/0.png")
    write_json(root / "annotations.json", {"cat/0.png": "cat"})
    assert not holds_boxes(root)


def test_coco_beside_class_folders_is_read(write_images: Write) -> None:
    root = write_images("cat/0.png", "dog/0.png")
    write_json(root / "annotations.json", content("cat/0.png", "dog/0.png"))
    assert read_boxes(root).paths == ("cat/0.png", "dog/0.png")


def test_a_part_without_a_file_is_left_out_and_named(write_images: Write) -> None:
    root = write_images("images/train/a.png", "images/val/b.png")
    write_json(root / "annotations" / "instances_train.json", content("a.png"))
    table = read_boxes(root)
    assert table.paths == ("images/train/a.png",)
    assert [(p.kind, p.severity, p.files) for p in table.problems] == [
        ("no-annotation", "error", ("images/val/b.png",))
    ]


def test_parts_with_files_of_their_own_beside_annotations_are_named(write_images: Write) -> None:
    root = write_images("images/train/a.png", "val/b.png")
    write_json(root / "annotations" / "instances_train.json", content("a.png"))
    write_json(root / "val" / "_annotations.coco.json", content("b.png"))
    kinds = {problem.kind: problem.files for problem in read_boxes(root).problems}
    assert kinds["part-ignored"] == ("val/_annotations.coco.json",)
