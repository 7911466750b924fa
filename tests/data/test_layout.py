"""What folders and CSV files are understood as, and what is said of those that cannot be trained on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from trainwright.data.fingerprint import fingerprint
from trainwright.data.layout import read_layout
from trainwright.data.table import SampleTable
from trainwright.errors import DataError, UnknownNameError, UsageError

Write = Callable[..., Path]
Names = Callable[..., list[str]]


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., Path]:
    """A function that makes empty files of given names: layouts are told by names alone."""

    def make(*names: str) -> Path:
        for name in names:
            file = tmp_path / "dataset" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        return tmp_path / "dataset"

    return make


@pytest.fixture
def write_csv(touch: Callable[..., Path]) -> Callable[..., Path]:
    """A function that writes a CSV beside empty image files a.jpg … f.jpg."""

    def write(text: str, *, name: str = "data.csv", encoding: str = "utf-8") -> Path:
        root = touch(*(f"{letter}.jpg" for letter in "abcdef"))
        (root / name).write_text(text, encoding=encoding)
        return root / name

    return write


def labels(table: SampleTable) -> list[str]:
    return list(table.targets.strata())


# ---- folders ----


def test_class_folders_are_one_class_each(touch: Write) -> None:
    table = read_layout(touch("dog/1.jpg", "cat/2.jpg", "cat/1.jpg"))
    assert table.paths == ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")
    assert labels(table) == ["cat", "cat", "dog"]
    assert table.parts.tolist() == ["", "", ""]
    assert (table.task, table.groups) == ("classification", None)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "VALIDATION"])
def test_part_folders_are_parts(touch: Write, name: str) -> None:
    table = read_layout(touch("train/a/1.jpg", "train/b/1.jpg", f"{name}/a/1.jpg", f"{name}/b/1.jpg"))
    assert sorted(table.parts.tolist()) == ["train", "train", "val", "val"]
    assert table.classes == ("a", "b")


def test_a_train_folder_alone_is_a_part(touch: Write) -> None:
    assert set(read_layout(touch("train/a/1.jpg", "train/b/1.jpg")).parts.tolist()) == {"train"}


def test_images_deeper_in_a_class_folder_count(touch: Write) -> None:
    table = read_layout(touch("a/2020/may/1.jpg", "a/2.jpg", "b/1.jpg"))
    assert table.paths == ("a/2.jpg", "a/2020/may/1.jpg", "b/1.jpg")


def test_names_may_hold_blanks_and_any_letter(touch: Write) -> None:
    table = read_layout(touch("hübsche Katze/bild 1.jpg", "犬/写真.jpg"))
    assert table.classes == ("hübsche Katze", "犬")
    assert table.paths == ("hübsche Katze/bild 1.jpg", "犬/写真.jpg")


def test_the_same_name_in_another_unicode_form_is_the_same_class(touch: Write) -> None:
    table = read_layout(touch("train/café/1.jpg", "train/b/1.jpg", "test/cafe\u0301/1.jpg", "test/b/1.jpg"))
    assert table.classes == ("b", "café")


@pytest.mark.parametrize(
    "litter", [".DS_Store", "Thumbs.db", "._1.jpg", ".hidden/x.jpg", "__MACOSX/x.jpg", "desktop.ini"]
)
def test_litter_is_passed_over_silently(touch: Write, litter: str) -> None:
    table = read_layout(touch("a/1.jpg", "b/1.jpg", f"a/{litter}", litter))
    assert table.paths == ("a/1.jpg", "b/1.jpg")
    assert table.problems == ()


def test_other_files_in_class_folders_are_named(touch: Write) -> None:
    table = read_layout(touch("a/1.jpg", "b/1.jpg", "a/notes.txt", "b/deep/list.csv"))
    (problem,) = table.problems
    assert (problem.kind, problem.severity) == ("not-an-image", "warning")
    assert problem.files == ("a/notes.txt", "b/deep/list.csv")


def test_images_outside_of_class_folders_are_named(touch: Write) -> None:
    (problem,) = read_layout(touch("a/1.jpg", "b/1.jpg", "lost.jpg")).problems
    assert (problem.kind, problem.files) == ("no-class", ("lost.jpg",))


def test_what_was_left_aside_is_among_the_problems_of_the_fingerprint(touch: Write, tmp_path: Path) -> None:
    seen = fingerprint(read_layout(touch("a/1.jpg", "b/1.jpg", "a/notes.txt")), cache_dir=tmp_path / "cache")
    assert "a/notes.txt" in seen.problems[0].files


def test_a_name_that_is_not_text_is_named(touch: Write) -> None:
    root = touch("a/1.jpg", "b/1.jpg")
    (root / "a" / os.fsdecode(b"\xff\xfe.jpg")).touch()
    (problem,) = read_layout(root).problems
    assert (problem.kind, problem.files) == ("unreadable", (r"a/\udcff\udcfe.jpg",))


def test_links_that_loop_do_not_hang(touch: Write) -> None:
    root = touch("a/1.jpg", "b/1.jpg", "b/deep/2.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "b" / "deep" / "back").symlink_to(root / "b")
    assert read_layout(root).paths == ("a/1.jpg", "b/1.jpg", "b/deep/2.jpg")


def test_a_class_folder_may_be_a_link(touch: Write, tmp_path: Path) -> None:
    root = touch("a/1.jpg")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.jpg").touch()
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert read_layout(root).paths == ("a/1.jpg", "b/1.jpg")


def test_a_class_may_be_called_train(touch: Write) -> None:
    assert read_layout(touch("plane/1.jpg", "train/1.jpg")).classes == ("plane", "train")


def test_class_differences_between_parts_are_all_named(touch: Write) -> None:
    root = touch(
        "train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg", "val/cow/1.jpg", "test/dog/1.jpg", "test/cat/1.jpg"
    )
    with pytest.raises(DataError) as caught:
        read_layout(root)
    assert str(caught.value) == (
        f"{root}: classes differ between parts: (1) in val but not in train: cow. (2) in train but not in val: dog. "
        "Every part needs the same classes: rename, add or remove them."
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no such folder or file"),
        (["x/", "x.txt"], "no images and no class folders"),
        (["1.jpg", "2.jpg"], "2 images but no class folders"),
        (["a/1.jpg", "a/2.jpg"], "there is only one class, 'a'"),
        (["photos/a/1.jpg", "photos/b/1.jpg"], "there is only the folder 'photos' in it"),
        (["a/1.jpg", "b/1.jpg", "c/notes.txt"], "class folders without any image: c"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/1.jpg"], "test has no class folders"),
        (["train/1.jpg", "test/1.jpg"], "hold no class folders"),
        (["val/a/1.jpg", "val/b/1.jpg"], "there is no train part, only val"),
        (["train/a/1.jpg", "train/b/1.jpg", "extra/c/1.jpg"], "in no part: extra"),
        (["train/a/1.jpg", "val/a/1.jpg", "valid/a/1.jpg"], "more than one folder for val: val, valid"),
    ],
)
def test_a_folder_that_cannot_be_trained_on_is_refused(touch: Write, files: list[str], message: str) -> None:
    root = touch(*[file for file in files if not file.endswith("/")])
    with pytest.raises(DataError, match=message):
        read_layout(root)


def test_an_empty_folder_is_refused_with_the_layouts_that_are_understood(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder is empty\. Understood are a folder with one sub-folder"):
        read_layout(tmp_path)


def test_a_folder_around_the_dataset_is_answered_with_the_one_inside(touch: Write) -> None:
    root = touch("photos/a/1.jpg", "photos/b/1.jpg")
    with pytest.raises(DataError, match=f"Did you mean {root / 'photos'}"):
        read_layout(root)


def test_a_folder_with_a_csv_is_answered_with_the_csv(touch: Write) -> None:
    root = touch("1.jpg", "labels.csv")
    with pytest.raises(DataError, match=f"Did you mean the table {root / 'labels.csv'}"):
        read_layout(root)


def test_an_archive_is_to_be_unpacked(touch: Write) -> None:
    with pytest.raises(DataError, match="Unpack an archive first"):
        read_layout(touch("x.zip") / "x.zip")


def test_a_task_that_is_not_known_is_refused(touch: Write) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'classification'"):
        read_layout(touch("a/1.jpg", "b/1.jpg"), task="clasification")


# ---- CSV ----


@pytest.mark.parametrize("sign", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiter_and_encoding_are_told_apart(write_csv: Write, sign: str, encoding: str) -> None:
    text = f"image{sign}label\nb.jpg{sign}Hündin\na.jpg{sign}Kater\n\n"
    table = read_layout(write_csv(text, encoding=encoding))
    assert table.paths == ("a.jpg", "b.jpg")
    assert labels(table) == ["Kater", "Hündin"]


@pytest.mark.parametrize("column", ["path", "image", "file", "filename", "image_path", "Image", "FileName"])
def test_the_path_column_may_have_any_usual_name(write_csv: Write, column: str) -> None:
    assert read_layout(write_csv(f"{column},label\na.jpg,x\nb.jpg,y\n")).paths == ("a.jpg", "b.jpg")


def test_parts_and_groups_are_read(write_csv: Write) -> None:
    table = read_layout(
        write_csv("path,label,split,group\na.jpg,x,train,p1\nb.jpg,y,Train,\nc.jpg,x,valid,p2\nd.jpg,y,val,p2\n")
    )
    assert table.parts.tolist() == ["train", "train", "val", "val"]
    assert table.groups == ("p1", "", "p2", "p2")


def test_the_target_names_the_label_column(write_csv: Write) -> None:
    text = "path,label,colour\na.jpg,x,red\nb.jpg,y,blue\n"
    assert labels(read_layout(write_csv(text), target="colour")) == ["red", "blue"]


def test_numbers_in_a_label_column_stay_names(write_csv: Write) -> None:
    assert read_layout(write_csv("path,label\na.jpg,07\nb.jpg,10\n")).classes == ("07", "10")


def test_numbers_are_classes_when_said_so(write_csv: Write) -> None:
    table = read_layout(write_csv("path,red_cells\na.jpg,17\nb.jpg,3\n"), task="classification")
    assert table.classes == ("17", "3")


def test_windows_paths_are_understood(touch: Write) -> None:
    root = touch("x/a.jpg", "y/b.jpg")
    (root / "data.csv").write_text("path,label\nx\\a.jpg,x\n.\\y\\b.jpg,y\n")
    assert read_layout(root / "data.csv").paths == ("x/a.jpg", "y/b.jpg")


def test_a_repeated_row_is_used_once_and_named(write_csv: Write) -> None:
    table = read_layout(write_csv("path,label\na.jpg,x\nb.jpg,y\n./a.jpg,x\n"))
    assert table.paths == ("a.jpg", "b.jpg")
    assert [(problem.kind, problem.files) for problem in table.problems] == [("repeated-row", ("a.jpg",))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("path,label\n", "no row"),
        ("pth,label\na.jpg,x\n", r"no path column .* Did you mean 'path'\? Its columns are: pth, label"),
        ("path,x,y_1\na.jpg,1,2\n", r"no label column.*Its columns are: path, x, y_1"),
        ("path,label,label\na.jpg,x,y\n", "columns named twice: label"),
        ("path,label\na.jpg,x,z\n", "1 line without 2 cells: line 2"),
        ('path,label\n"a.jpg,x\n', "not a CSV file"),
        ("path,label\na.jpg,\nb.jpg,y\n", "1 row without a label: line 2"),
        ("path,label\n../a.jpg,x\n/etc/b.jpg,y\n", r"2 paths outside of the CSV's folder: \.\./a\.jpg, /etc/b\.jpg"),
        ("path,label\nx.jpg,x\ny.jpg,y\n", r"2 images of 2 do not exist: x\.jpg, y\.jpg"),
        ("path,label\na.jpg,x\na.jpg,y\n", r"given twice with different labels, .* a\.jpg \(x and y\)"),
        (f"path,label\n{'x' * 5000},x\nb.jpg,y\n", "1 image of 2 do not exist"),
        ("path,label,split\na.jpg,x,train\nb.jpg,y,trian\n", r"unknown parts in column 'split': trian"),
        ("path,label,split\na.jpg,x,train\nb.jpg,y,\n", "1 row without a part in column 'split'"),
        ("path,label,split\na.jpg,x,train\nb.jpg,y,train\nc.jpg,x,val\n", "in train but not in val: y"),
        ("path,label\na.jpg,x\nb.jpg,x\n", "there is only one class, 'x'"),
    ],
)  # fmt: skip
def test_a_csv_that_cannot_be_trained_on_is_refused(write_csv: Write, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_layout(write_csv(text))


def test_several_problems_of_a_csv_are_told_at_once(write_csv: Write) -> None:
    with pytest.raises(DataError, match=r"\(1\) 1 row without a label.*\(2\) 1 image of 2 do not exist"):
        read_layout(write_csv("path,label\na.jpg,\nx.jpg,y\n"))


def test_a_target_that_is_no_column_is_answered_with_the_nearest(write_csv: Write) -> None:
    with pytest.raises(DataError, match=r"no column 'color'\. Did you mean 'colour'\?"):
        read_layout(write_csv("path,colour\na.jpg,x\nb.jpg,y\n"), target="color")


def test_text_that_is_not_utf8_is_refused(write_csv: Write) -> None:
    with pytest.raises(DataError, match="the text is not UTF-8"):
        read_layout(write_csv("path,label\na.jpg,Hündin\n", encoding="latin-1"))


# ---- a task overrules what the layout suggests ----


@pytest.fixture
def all_three(touch: Write) -> Path:
    """A folder with images, masks and YOLO's labels of them."""
    root = touch("images/a.png", "images/b.png", "masks/a.png", "masks/b.png", "labels/a.txt", "labels/b.txt")
    (root / "classes.txt").write_text("cat\ndog\n")
    return root


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_task_chooses_among_masks_and_boxes(all_three: Path, task: str) -> None:
    assert read_layout(all_three, task=task).task == task


def test_masks_come_first_without_a_task(all_three: Path) -> None:
    assert read_layout(all_three).task == "segmentation"


@pytest.mark.parametrize("other", ["masks", "labels", "annotations"])
def test_class_folders_may_have_any_name_when_said_so(touch: Write, other: str) -> None:
    table = read_layout(touch("images/a.png", f"{other}/b.png"), task="classification")
    assert (table.task, table.classes) == ("classification", tuple(sorted(["images", other])))


def test_boxes_are_no_classes_whatever_the_task(touch: Write) -> None:
    root = touch("images/a.png", "images/b.png", "labels/a.txt", "labels/b.txt")
    (root / "classes.txt").write_text("cat\n")
    with pytest.raises(UsageError, match="classification learns from class, the data holds boxes"):
        read_layout(root, task="classification")


@pytest.mark.parametrize("name", ["data.yaml", "dataset.yaml", "annotations.json"])
def test_a_stray_description_leaves_class_folders_what_they_are(touch: Write, name: str) -> None:
    root = touch("cat/1.jpg", "dog/1.jpg")
    (root / name).write_text('{"names": ["cat", "dog"]}')
    assert read_layout(root).classes == ("cat", "dog")


@pytest.mark.parametrize("place", ["annotations/1.png", "annotations/trimaps/1.png", "labels/1.png"])
def test_images_beside_annotations_of_no_known_format_are_no_classes(touch: Write, place: str) -> None:
    root = touch("images/cat/1.png", "images/dog/1.png", place)
    with pytest.raises(DataError, match=r"images beside (annotations|labels), without annotations of a format"):
        read_layout(root)
