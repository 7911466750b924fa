"""Pascal VOC folders: where images, annotations and parts are found, and what is left out or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data import box_layout
from trainwright.data.box_layout import holds_boxes, read_boxes
from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError

Write = Callable[..., Path]
BOX = ("cat", 1, 2, 9, 10)


def xml(*objects: tuple, size: tuple[int, int] = (16, 16)) -> str:
    nodes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, left, top, right, bottom in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{nodes}</annotation>"


def annotate(root: Path, *names: str, text: str = xml(BOX)) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def root(write_images: Write) -> Path:
    folder = write_images("images/a.png", "images/b.png", "images/sub/c.png")
    annotate(folder, "annotations/a.xml", "annotations/b.xml", "annotations/sub/c.xml")
    return folder


def test_images_and_annotations_are_matched_by_their_stems(root: Path) -> None:
    annotate(root, "annotations/b.xml", text=xml(("dog", 3, 3, 9, 9), BOX))
    table = read_boxes(root)
    assert (table.task, table.targets.kind, table.classes) == ("detection", "boxes", ("cat", "dog"))
    assert table.paths == ("images/a.png", "images/b.png", "images/sub/c.png")
    assert [annotation.file for annotation in table.targets.annotations] == [
        "annotations/a.xml", "annotations/b.xml", "annotations/sub/c.xml",
    ]  # fmt: skip
    assert table.targets.annotations[1].boxes[1] == ("cat", 1, 2, 9, 10, "object 2")
    assert set(table.parts.tolist()) == {""}
    assert table.problems == ()


def test_an_annotation_without_objects_is_a_background_image(root: Path) -> None:
    annotate(root, "annotations/a.xml", text=xml())
    assert read_boxes(root).targets.annotations[0].boxes == ()


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("{part}/images/{name}.png", "{part}/annotations/{name}.xml"),
        ("{part}/JPEGImages/{name}.png", "{part}/Annotations/{name}.xml"),
        ("images/{part}/{name}.png", "annotations/{part}/{name}.xml"),
    ],
)
def test_parts_are_folders(write_images: Write, images: str, annotations: str) -> None:
    named = [("train", "a"), ("valid", "b"), ("test", "c")]
    root = write_images(*(images.format(part=part, name=name) for part, name in named))
    annotate(root, *(annotations.format(part=part, name=name) for part, name in named))
    assert holds_boxes(root)
    table = read_boxes(root)
    assert {path[-5]: part for path, part in zip(table.paths, table.parts.tolist(), strict=True)} == {
        "a": "train", "b": "val", "c": "test",
    }  # fmt: skip


def write_sets(root: Path, **sets: str) -> None:
    for name, text in sets.items():
        annotate(root, f"ImageSets/Main/{name}.txt", text=text)


def test_parts_are_read_from_image_sets(root: Path) -> None:
    write_sets(root, train="a 1\n", val="b -1\n", trainval="a\nb\n", test="sub/c\n")
    assert read_boxes(root).parts.tolist() == ["train", "val", "test"]


def test_trainval_without_its_two_parts_is_split_later(root: Path) -> None:
    write_sets(root, trainval="a\nb\n", test="sub/c\n")
    assert read_boxes(root).parts.tolist() == ["train", "train", "test"]


def test_images_in_no_set_and_sets_of_no_image_are_named(root: Path) -> None:
    write_sets(root, train="a\nx\n", val="b\n")
    table = read_boxes(root)
    assert table.paths == ("images/a.png", "images/b.png")
    assert [(p.kind, p.files) for p in table.problems] == [("no-part", ("images/sub/c.png",)), ("no-image", ("x",))]


def test_an_image_in_two_sets_is_refused(root: Path) -> None:
    write_sets(root, train="a\nb\n", val="b\nsub/c\n")
    with pytest.raises(DataError, match=r"ImageSets/Main/val\.txt: 1 image of another part: b\."):
        read_boxes(root)


def test_what_has_no_counterpart_is_left_out_and_named(write_images: Write, root: Path) -> None:
    write_images("images/alone.png", root=root)
    annotate(root, "annotations/lost.xml")
    table = read_boxes(root)
    assert len(table) == 3
    assert [(p.kind, p.severity, p.files) for p in table.problems] == [
        ("no-annotation", "error", ("images/alone.png",)),
        ("no-image", "error", ("annotations/lost.xml",)),
    ]


def test_parts_beside_images_at_the_root_are_named(write_images: Write, root: Path) -> None:
    write_images("val/images/d.png", root=root)
    annotate(root, "val/annotations/d.xml")
    table = read_boxes(root)
    assert len(table) == 3
    assert [(p.kind, p.severity, p.files) for p in table.problems] == [("part-ignored", "error", ("val",))]


# ---- images that are to be turned ----

LYING = (40, 24)  # width, height of the image as it lies in its file
MARKED = (slice(3, 9), slice(5, 20))  # rows and columns that are white in it
BOX_IN_FILE = ("cat", 5, 3, 20, 9)


def photograph(root: Path, name: str, orientation: int, *, size: tuple[int, int], box: tuple = BOX_IN_FILE) -> None:
    """A PNG with a white patch and EXIF's `orientation`, and an annotation that states `size`."""
    pixels = np.zeros((LYING[1], LYING[0], 3), dtype=np.uint8)
    pixels[MARKED] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    (root / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / "images" / f"{name}.png", exif=exif)
    annotate(root, f"annotations/{name}.xml", text=xml(box, size=size))


def edges_of_patch(data: Dataset, row: int) -> list[float]:
    """left, top, right, bottom of what is white in the upright image of a row."""
    size = (int(data.fingerprint.heights[row]), int(data.fingerprint.widths[row]))
    rows, columns = np.nonzero(data.read(row, size, "squash")[:, :, 0] > 127)
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


def told(data: Dataset) -> list[tuple[str, tuple[str, ...]]]:
    return [(p.kind, p.files) for p in data.problems if p.kind in ("turned-images", "size-differs")]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_drawn_before_the_turn_are_turned_with_their_image(tmp_path: Path, orientation: int) -> None:
    photograph(tmp_path / "data", "a", orientation, size=LYING)
    data = open_dataset(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert json.loads(data.targets.text(0)) == [["cat", *edges_of_patch(data, 0)]]
    assert told(data) == ([] if orientation == 1 else [("turned-images", ("images/a.png",))])


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_drawn_on_the_upright_image_stay(tmp_path: Path, orientation: int) -> None:
    photograph(tmp_path / "data", "a", orientation, size=LYING[::-1])
    data = open_dataset(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert json.loads(data.targets.text(0)) == [["cat", 5, 3, 20, 9]]
    assert told(data) == []


def test_a_size_that_could_be_either_follows_those_that_could_not(tmp_path: Path) -> None:
    photograph(tmp_path / "data", "a", 3, size=LYING)  # a half turn: the same size before and after
    photograph(tmp_path / "data", "b", 6, size=LYING[::-1])
    data = open_dataset(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert json.loads(data.targets.text(0)) == [["cat", 5, 3, 20, 9]]
    assert told(data) == []


def test_without_a_size_boxes_are_taken_as_upright_and_it_is_said(tmp_path: Path) -> None:
    photograph(tmp_path / "data", "a", 6, size=(0, 0))
    photograph(tmp_path / "data", "b", 1, size=(0, 0))
    data = open_dataset(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert json.loads(data.targets.text(0)) == [["cat", 5, 3, 20, 9]]
    assert told(data) == [("turned-images", ("images/a.png",))]
    (problem,) = (problem for problem in data.problems if problem.kind == "turned-images")
    assert "taken as drawn on the upright images" in problem.message


def test_a_size_that_fits_neither_way_is_a_warning(tmp_path: Path) -> None:
    photograph(tmp_path / "data", "a", 6, size=(80, 48))
    data = open_dataset(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert json.loads(data.targets.text(0)) == [["cat", 5, 3, 20, 9]]
    assert told(data) == [("size-differs", ("annotations/a.xml",))]


def test_how_an_image_is_turned_is_remembered(tmp_path: Path) -> None:
    photograph(tmp_path / "data", "a", 6, size=LYING)
    first, second = (open_dataset(tmp_path / "data", cache_dir=tmp_path / "cache") for _ in range(2))
    assert second.targets.text(0) == first.targets.text(0)


# ---- files that cannot be read ----

LAUGHS = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;">]><annotation><object><name>&y;</name></object></annotation>'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<annotation>\n<object></annotation>", r"line 2, column 11: not XML \(mismatched tag\)"),
        (b"", r"line 1, column 1: not XML \(no element found\)"),
        (b"<html></html>", "its root is <html>, not <annotation>"),
        (LAUGHS.encode(), r"declares a document type \(DOCTYPE\)"),
        (LAUGHS.encode("utf-16"), r"declares a document type \(DOCTYPE\)"),
        (b'<?xml version="1.0" encoding="none"?><annotation/>', "not XML"),
    ],
)
def test_a_file_that_is_no_annotation_is_refused_by_name(root: Path, data: bytes, message: str) -> None:
    (root / "annotations" / "b.xml").write_bytes(data)
    with pytest.raises(DataError, match=rf"annotations/b\.xml: .*{message}"):
        read_boxes(root)


def test_all_bad_files_are_named_at_once(root: Path) -> None:
    annotate(root, "annotations/a.xml", "annotations/sub/c.xml", text="<")
    with pytest.raises(DataError, match=r"\(1\) annotations/a\.xml: .* \(2\) annotations/sub/c\.xml: "):
        read_boxes(root)


def test_a_file_that_is_too_large_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_layout, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match=r"annotations/a\.xml: larger than 10 bytes"):
        read_boxes(root)


def test_images_that_differ_in_their_ending_alone_are_refused(write_images: Write, root: Path) -> None:
    write_images("images/a.bmp", root=root)
    with pytest.raises(DataError, match="images that differ only in their ending share an annotation: a"):
        read_boxes(root)


def test_faulty_objects_are_named_by_file_and_number(root: Path, tmp_path: Path) -> None:
    node = "<annotation><object><bndbox><xmin>1</xmin></bndbox></object><object><name>cat</name></object></annotation>"
    annotate(root, "annotations/a.xml", text=node)
    annotate(root, "annotations/b.xml", text=xml(("cat", "x", 1, 5, 5), ("cat", 1, 1, "1e400", 5), BOX, BOX))
    data = open_dataset(root, cache_dir=tmp_path / "cache")
    assert [(p.kind, p.files, p.message.split(":")[0]) for p in data.problems if p.files] == [
        ("box-not-a-number", ("annotations/a.xml",), "object 1 without a name (1, nan, nan, nan)"),
        ("box-not-a-number", ("annotations/a.xml",), "object 2 (cat"),
        ("box-not-a-number", ("annotations/b.xml",), "object 1 (cat"),
        ("box-not-a-number", ("annotations/b.xml",), "object 2 (cat"),
        ("box-repeated", ("annotations/b.xml",), "object 4 (cat"),
    ]


def test_a_class_of_val_alone_is_refused_by_name(write_images: Write, tmp_path: Path) -> None:
    root = write_images("train/images/a.png", "val/images/b.png")
    annotate(root, "train/annotations/a.xml")
    annotate(root, "val/annotations/b.xml", text=xml(BOX, ("dog", 1, 1, 9, 9)))
    (refused,) = open_dataset(root, cache_dir=tmp_path / "cache").refusals()
    assert refused.message == "val has boxes of dog, train has none. Add some, or rename the class."


def test_a_dataset_without_train_is_refused(write_images: Write) -> None:
    root = write_images("val/images/b.png")
    annotate(root, "val/annotations/b.xml")
    with pytest.raises(DataError, match="there is no train part, only val"):
        read_boxes(root)


# ---- real data ----


@pytest.fixture
def bccd(real_data: Callable[[str], Path], tmp_path: Path) -> Dataset:
    return open_dataset(real_data("bccd"), cache_dir=tmp_path / "cache")


def test_the_faulty_boxes_of_real_data_are_named_and_no_others(bccd: Dataset) -> None:
    assert (bccd.task, bccd.classes, bccd.images) == (
        "detection",
        ("Platelets", "RBC", "WBC"),
        {"train": 205, "val": 87},
    )
    assert [(p.kind, p.files, p.message.split(")")[0]) for p in bccd.problems] == [
        ("box-without-area", ("train/annotations/BloodImage_00343.xml",), "object 4 (RBC: 181, 329, 181, 329"),
        ("box-without-area", ("val/annotations/BloodImage_00338.xml",), "object 13 (RBC: 504, 337, 504, 337"),
    ]
