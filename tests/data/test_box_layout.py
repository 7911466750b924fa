"""Which format a path holds, and that copies in Pascal VOC, COCO and YOLO are one dataset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data.box_layout import files_below, holds_boxes, number, read_boxes
from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError
from trainwright.recipe import DataSpec

Write = Callable[..., Path]
Names = Callable[..., list[str]]
Boxes = dict[str, list[tuple[str, float, float, float, float]]]
SIZES = {"train/0": (641, 479), "train/1": (33, 57), "train/2": (640, 480), "val/0": (1283, 717), "val/1": (101, 99)}
CLASSES = ["zebra", "ant", "cat"]  # as YOLO and COCO list them


def boxes_of(decimals: int, images: dict[str, tuple[int, int]] = SIZES) -> Boxes:
    """Some boxes inside of each image, none of them thinner than 3 pixels, with so many decimals."""
    stream = np.random.default_rng(3)
    boxes: Boxes = {}
    for name, (width, height) in images.items():
        boxes[name] = []
        for _ in range(7):
            left, top = stream.uniform(0, width - 4), stream.uniform(0, height - 4)
            right, bottom = stream.uniform(left + 3.5, width), stream.uniform(top + 3.5, height)
            edges = [round(edge, decimals) for edge in (left, top, right, bottom)]
            boxes[name].append((str(stream.choice(CLASSES)), *edges))
        boxes[name].append(("ant", 0, 0, width, height))
    boxes["val/1"] = []
    return boxes


def write_image(file: Path, name: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    width, height = SIZES[name]
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(file)


def voc(root: Path, boxes: Boxes) -> Path:
    for name, drawn in boxes.items():
        part, stem = name.split("/")
        write_image(root / part / "images" / f"{stem}.png", name)
        objects = "".join(
            f"<object><name>{label}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
            f"<ymax>{bottom}</ymax></bndbox></object>"
            for label, left, top, right, bottom in drawn
        )
        (root / part / "annotations").mkdir(exist_ok=True)
        (root / part / "annotations" / f"{stem}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


def coco(root: Path, boxes: Boxes) -> Path:
    for part in ("train", "val"):
        names = [name for name in boxes if name.startswith(part)]
        for name in names:
            write_image(root / f"{name}.png", name)
        images = [{"id": id, "file_name": f"{name[-1]}.png"} for id, name in enumerate(names)]
        drawn = [(id, box) for id, name in enumerate(names) for box in reversed(boxes[name])]
        annotations = [
            {
                "id": place,
                "image_id": id,
                "category_id": CLASSES.index(label),
                "bbox": [left, top, right - left, bottom - top],
            }
            for place, (id, (label, left, top, right, bottom)) in enumerate(drawn)
        ]
        categories = [{"id": id, "name": name} for id, name in enumerate([*CLASSES, "unused"])]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / part / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def yolo(root: Path, boxes: Boxes) -> Path:
    for name, drawn in boxes.items():
        write_image(root / "images" / f"{name}.png", name)
        width, height = SIZES[name]
        lines = [
            f"{CLASSES.index(label)} {(left + right) / 2 / width:.6f} {(top + bottom) / 2 / height:.6f} "
            f"{(right - left) / width:.6f} {(bottom - top) / height:.6f}"
            for label, left, top, right, bottom in drawn
        ]
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        if lines:
            (root / "labels" / f"{name}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"names: {json.dumps(CLASSES)}\n")
    return root


@pytest.fixture(params=[0, 2], ids=["whole", "hundredths"])
def copies(request: pytest.FixtureRequest, tmp_path: Path) -> list[Dataset]:
    boxes = boxes_of(request.param)
    roots = [voc(tmp_path / "voc", boxes), coco(tmp_path / "coco", boxes), yolo(tmp_path / "yolo", boxes)]
    return [open_dataset(root, cache_dir=tmp_path / "cache") for root in roots]


def test_copies_have_the_same_parts_names_and_boxes(copies: list[Dataset]) -> None:
    first, *others = copies
    assert (len(first), first.classes, first.images) == (5, ("ant", "cat", "zebra"), {"train": 3, "val": 2})
    assert sum(sum(counts.values()) for counts in first.counts.values()) == 4 * 8
    for other in others:
        assert other.classes == first.classes
        assert [other.targets.text(row) for row in range(5)] == [first.targets.text(row) for row in range(5)]
        assert other.targets.strata() == first.targets.strata()
        assert other.counts == first.counts


def test_copies_have_the_same_fingerprint_of_targets_and_the_same_split(copies: list[Dataset]) -> None:
    assert len({data.fingerprint.targets_digest for data in copies}) == 1
    assert len({data.split(DataSpec()).digest for data in copies}) == 1


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_copies_give_the_same_arrays(copies: list[Dataset], fit: str) -> None:
    rows = np.array([3, 0, 4, 1, 2])
    first, *others = [data.stored_targets(np.arange(5), (96, 128), fit).take(rows) for data in copies]
    assert first.shape == (5, 8, 5)
    assert first.dtype == np.float32
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_nothing_is_wrong_with_the_copies_but_an_unused_category(copies: list[Dataset]) -> None:
    kinds = [[problem.kind for problem in data.problems if problem.kind != "few-boxes"] for data in copies]
    assert kinds == [[], ["class-unused"], []]


# ---- what is not taken for boxes ----


def test_class_folders_hold_no_boxes(write_images: Write, names: Names) -> None:
    assert not holds_boxes(write_images(*names("")))
    assert not holds_boxes(write_images(*names("train", "val"), root=Path(write_images().parent / "parts")))


def test_classes_that_are_called_images_and_labels_hold_no_boxes(write_images: Write) -> None:
    root = write_images("images/a.png", "labels/b.png")
    assert not holds_boxes(root)
    with pytest.raises(DataError, match="no boxes in a format that is known"):
        read_boxes(root)


def test_images_beside_masks_hold_no_boxes(write_images: Write) -> None:
    assert not holds_boxes(write_images("images/a.png", "masks/a.png"))


def test_a_table_holds_no_boxes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\n")
    assert not holds_boxes(tmp_path / "a.csv")


# ---- what the formats share ----


def test_links_that_loop_are_followed_once(write_images: Write) -> None:
    root = write_images("images/a.png", "images/sub/b.png")
    (root / "images" / "sub" / "again").symlink_to(root / "images")
    assert list(files_below(root / "images")) == ["a.png", "sub/b.png"]


@pytest.mark.parametrize("given", [None, "", "x", "nan", "1e400", "1e10", True, [], 10**400])
def test_what_is_no_number_of_an_image_is_not_a_number(given: object) -> None:
    assert np.isnan(number(given))


def test_images_in_and_beside_parts_are_refused(write_images: Write) -> None:
    root = write_images("images/train/a.png", "images/b.png")
    (root / "labels").mkdir()
    (root / "labels" / "b.txt").write_text("0 .5 .5 .5 .5")
    (root / "classes.txt").write_text("cat")
    with pytest.raises(DataError, match=r"1 image in no part, where others are in one: images/b\.png"):
        read_boxes(root)
