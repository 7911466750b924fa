"""YOLO folders: where images, labels, names and parts are found, and what is left out or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from trainwright.data.box_layout import holds_boxes, read_boxes
from trainwright.data.dataset import open_dataset
from trainwright.errors import DataError

Write = Callable[..., Path]
LINE = "0 0.5 0.5 0.25 0.5\n"


def label(root: Path, *names: str, text: str = LINE) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def parts_of(path: Path) -> dict[str, str]:
    table = read_boxes(path)
    return dict(zip(table.paths, table.parts.tolist(), strict=True))


@pytest.fixture
def root(write_images: Write) -> Path:
    folder = write_images("images/a.png", "images/sub/b.png")
    label(folder, "labels/a.txt", "labels/sub/b.txt")
    label(folder, "classes.txt", text="dog\ncat\n")
    return folder


def test_lines_become_boxes_with_the_names_of_their_classes(root: Path) -> None:
    label(root, "labels/a.txt", text="\n1 0.5 0.5 0.25 0.5\n")
    assert holds_boxes(root)
    table = read_boxes(root)
    assert (table.task, table.classes, table.paths) == (
        "detection",
        ("cat", "dog"),
        ("images/a.png", "images/sub/b.png"),
    )
    assert table.targets.annotations[0].boxes == (("cat", 0.375, 0.25, 0.625, 0.75, "line 2"),)
    assert table.targets.annotations[1].file == "labels/sub/b.txt"
    assert table.problems == ()


def test_fractions_become_pixels_of_the_image(root: Path, tmp_path: Path) -> None:
    data = open_dataset(root, cache_dir=tmp_path / "cache")  # images of 16 x 16
    assert data.targets.text(0) == '[["dog",6.0,4.0,10.0,12.0]]'


def test_an_image_without_a_text_file_or_with_an_empty_one_is_background(write_images: Write, root: Path) -> None:
    write_images("images/c.png", root=root)
    label(root, "labels/a.txt", text="")
    table = read_boxes(root)
    assert [len(annotation.boxes) for annotation in table.targets.annotations] == [0, 0, 1]
    assert table.problems == ()


def test_an_outline_becomes_the_box_around_it(root: Path) -> None:
    label(root, "labels/a.txt", text="0 0.1 0.5 0.4 0.2 0.3 0.9")
    assert read_boxes(root).targets.annotations[0].boxes == (("dog", 0.1, 0.2, 0.4, 0.9, "line 1"),)


def test_labels_without_an_image_are_named_and_class_names_among_them_are_not(root: Path) -> None:
    label(root, "labels/lost.txt")
    (root / "classes.txt").rename(root / "labels" / "classes.txt")
    (problem,) = read_boxes(root).problems
    assert (problem.kind, problem.severity, problem.files) == ("no-image", "error", ("labels/lost.txt",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0 .5 .5 .2 .2\n0 .5 .5 .2 .2 .9\n",
            "line 2 has 6 numbers: a confidence belongs to predictions, not to labels",
        ),
        ("0 .5 .5\n\n0 .5 .5 .2 .2 .3 .3 .4", "line 1 has 3 numbers, .*, line 3 has 8 numbers"),
    ],
)
def test_lines_of_another_form_are_refused_by_file_and_number(root: Path, text: str, message: str) -> None:
    label(root, "labels/sub/b.txt", text=text)
    with pytest.raises(DataError, match=rf"labels/sub/b\.txt: {message}"):
        read_boxes(root)


def test_all_bad_files_are_named_at_once(root: Path) -> None:
    label(root, "labels/a.txt", text="0 1")
    (root / "labels" / "sub" / "b.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(
        DataError, match=r"\(1\) labels/a\.txt: line 1 .* \(2\) labels/sub/b\.txt: the text is not UTF-8"
    ):
        read_boxes(root)


def test_faulty_boxes_are_named_by_file_and_line(root: Path, tmp_path: Path) -> None:
    lines = ["7 .5 .5 .2 .2", "x .5 .5 .2 .2", "0 nan .5 .2 .2", "0 .5 .5 0 .2", "0 .9 .5 .6 .2", "0 0 x 1 1 0 1"]
    label(root, "labels/a.txt", text="\n".join(lines))
    data = open_dataset(root, cache_dir=tmp_path / "cache")
    assert [(p.kind, p.files, p.message.split(" (")[0]) for p in data.problems if p.files] == [
        ("class-unknown", ("labels/a.txt",), "line 1 of class 7"),
        ("class-unknown", ("labels/a.txt",), "line 2 of class x"),
        ("box-not-a-number", ("labels/a.txt",), "line 3"),
        ("box-without-area", ("labels/a.txt",), "line 4"),
        ("box-outside", ("labels/a.txt",), "line 5"),
        ("box-not-a-number", ("labels/a.txt",), "line 6"),
    ]
    assert data.classes == ("dog",)  # no box of a cat


# ---- names ----


@pytest.mark.parametrize("names", ["[dog, cat]", "{0: dog, 1: cat}", "\n  1: cat\n  0: dog", "\n- dog\n- cat"])
def test_names_come_from_a_description(root: Path, names: str) -> None:
    (root / "classes.txt").unlink()
    label(root, "data.yaml", text=f"nc: 2\nnames: {names}\n")
    table = read_boxes(root)
    assert table.classes == ("cat", "dog")
    assert table.targets.annotations[0].boxes[0].label == "dog"


def test_names_come_from_obj_names(root: Path) -> None:
    (root / "classes.txt").rename(root / "obj.names")
    assert read_boxes(root).classes == ("cat", "dog")


def test_without_names_it_is_refused(root: Path) -> None:
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"the names of the classes are missing\. Add classes\.txt, one name a line\."):
        read_boxes(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("names: 3", "names is 3, where a list of class names is expected"),
        ("names: {a: 1}", "a list of class names is expected"),
        ("names: []", "a list of class names is expected"),
        ("names: [cat, cat]", "names given to two classes: cat"),
        ("names: [cat", "not YAML"),
        ("cat", "no keys in it"),
    ],
)
def test_a_description_that_says_no_names_is_refused_by_name(root: Path, text: str, message: str) -> None:
    label(root, "data.yaml", text=text)
    with pytest.raises(DataError, match=rf"data\.yaml: .*{message}"):
        read_boxes(root)


# ---- parts ----


@pytest.mark.parametrize("layout", ["{part}/{kind}/{name}", "{kind}/{part}/{name}"])
def test_parts_are_folders(write_images: Write, layout: str) -> None:
    named = [("train", "a"), ("valid", "a"), ("test", "c")]
    images = [layout.format(part=part, kind="images", name=f"{name}.png") for part, name in named]
    root = write_images(*images)
    label(root, *(layout.format(part=part, kind="labels", name=f"{name}.txt") for part, name in named))
    label(root, "obj.names", text="cat")
    assert holds_boxes(root)
    assert parts_of(root) == dict(zip(images, ["train", "val", "test"], strict=True))


@pytest.mark.parametrize(
    "description",
    [
        "train: images/first\nval: images/second\n",
        "path: .\ntrain: ./images/first/\nval: [images/second]\n",
        "path: ../dataset\ntrain: images/first\nval: images/second\n",
        "path: /somewhere/else\ntrain: images/first\nval: images/second\n",
        "train: ../images/first\nval: ../images/second\n",  # as Roboflow writes it
    ],
)
def test_the_folders_that_a_description_names_are_the_parts(write_images: Write, description: str) -> None:
    root = write_images("images/first/a.png", "images/second/a.png", "images/third/a.png")
    label(root, "labels/first/a.txt", "labels/second/a.txt")
    label(root, "data.yaml", text=f"{description}names: [cat]\n")
    expected = {"images/first/a.png": "train", "images/second/a.png": "val"}
    assert parts_of(root) == parts_of(root / "data.yaml") == expected
    assert [len(annotation.boxes) for annotation in read_boxes(root).targets.annotations] == [1, 1]


def test_a_named_folder_may_hold_images_and_labels(write_images: Write) -> None:
    root = write_images("one/images/a.png", "two/images/a.png")
    label(root, "one/labels/a.txt", "two/labels/a.txt")
    label(root, "data.yaml", text="train: one\nval: two\nnames: [cat]\n")
    assert parts_of(root) == {"one/images/a.png": "train", "two/images/a.png": "val"}


def test_folders_outside_of_the_root_are_not_followed(write_images: Write, root: Path) -> None:
    write_images("images/x.png", root=root.parent / "other")
    label(root, "data.yaml", text=f"train: {root.parent / 'other' / 'images'}\nnames: [dog]\n")
    assert parts_of(root) == {"images/a.png": "", "images/sub/b.png": ""}


def test_one_folder_for_train_and_val_is_train_alone(root: Path) -> None:
    label(root, "data.yaml", text="train: images\nval: images\nnames: [dog]\n")
    table = read_boxes(root)
    assert table.parts.tolist() == ["train", "train"]
    (problem,) = table.problems
    assert (problem.kind, problem.files) == ("part-repeated", ("images",))
    assert problem.message.startswith("val names the folder of train: what is seen in training would be judged on.")


def test_a_part_without_labels_is_left_out_and_named(write_images: Write) -> None:
    root = write_images("train/images/a.png", "test/images/c.png")
    label(root, "train/labels/a.txt")
    label(root, "classes.txt", text="cat")
    table = read_boxes(root)
    assert table.paths == ("train/images/a.png",)
    (problem,) = table.problems
    assert (problem.kind, problem.files) == ("no-annotation", ("test/images/c.png",))


def test_an_entry_that_no_folder_can_have_is_passed_over(root: Path) -> None:
    label(root, "data.yaml", text=f'train: "a\\0b"\nval: {"x" * 5000}\nnames: [dog]\n')
    assert set(parts_of(root).values()) == {""}


# ---- parts without labels, and what is no YOLO ----


@pytest.fixture
def in_parts(write_images: Write) -> Path:
    root = write_images(*(f"images/{part}/{number}.png" for part in ("train", "val") for number in range(2)))
    label(root, "labels/train/0.txt", "labels/train/1.txt")
    label(root, "classes.txt", text="dog\n")
    return root


def test_a_part_without_any_labels_is_left_out_and_named(in_parts: Path) -> None:
    table = read_boxes(in_parts)
    assert table.parts.tolist() == ["train", "train"]
    (problem,) = table.problems
    assert (problem.kind, problem.severity) == ("no-annotation", "error")
    assert problem.files == ("images/val/0.png", "images/val/1.png")
    assert problem.message.startswith("left out: no image of val has a text file of labels, where others have one.")


def test_a_part_with_empty_labels_has_nothing_to_judge(in_parts: Path, tmp_path: Path) -> None:
    label(in_parts, "labels/val/0.txt", text="")
    (problem,) = open_dataset(in_parts, cache_dir=tmp_path / "cache").refusals()
    assert (problem.kind, problem.severity) == ("nothing-to-judge", "error")
    assert problem.message.startswith("no usable image in val has a box: nothing can be judged there.")


def test_a_train_part_without_labels_is_refused(write_images: Write) -> None:
    root = write_images("images/train/0.png", "images/val/0.png")
    label(root, "labels/val/0.txt")
    label(root, "classes.txt", text="dog\n")
    with pytest.raises(DataError, match="no image of train has a text file of labels"):
        read_boxes(root)


@pytest.mark.parametrize("text", ["author: me", "names: [cat, dog]", "a: [", "train: ../elsewhere"])
def test_a_description_beside_class_folders_is_none_of_ours(write_images: Write, text: str) -> None:
    root = write_images("cat/0.png", "dog/0.png")
    label(root, "data.yaml", text=text)
    assert not holds_boxes(root)


def test_a_description_that_names_a_folder_of_images_and_labels_is_read(write_images: Write) -> None:
    root = write_images("mixed/0.png")
    label(root, "mixed/0.txt")
    label(root, "data.yaml", text="train: mixed\nnames: [dog]")
    assert holds_boxes(root)
    assert parts_of(root) == {"mixed/0.png": "train"}


def test_parts_beside_images_at_the_root_are_named(write_images: Write, root: Path) -> None:
    write_images("val/images/d.png", root=root)
    label(root, "val/labels/d.txt")
    assert [(p.kind, p.severity, p.files) for p in read_boxes(root).problems] == [("part-ignored", "error", ("val",))]


def test_images_that_are_to_be_turned_are_named(root: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 24)).save(root / "images" / "a.png", exif=exif)
    data = open_dataset(root, cache_dir=tmp_path / "cache")
    assert data.targets.text(0) == '[["dog",9.0,10.0,15.0,30.0]]'  # of the upright image, 24 x 40
    assert [p.files for p in data.problems if p.kind == "turned-images"] == [("images/a.png",)]
