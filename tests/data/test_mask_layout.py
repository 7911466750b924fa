"""Which folders are images beside masks, which mask belongs to which image, and what the list of classes says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from trainwright.data.mask_layout import holds_masks, read_masks
from trainwright.data.mask_targets import MaskTargets
from trainwright.data.masks import MaskClasses
from trainwright.data.table import SampleTable
from trainwright.errors import DataError

Touch = Callable[..., Path]


@pytest.fixture
def touch(tmp_path: Path) -> Touch:
    """A function that makes empty files of given names, and classes.txt where its text is given."""

    def make(*names: str, classes: str = "", file: str = "classes.txt") -> Path:
        root = tmp_path / "dataset"
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        if classes:
            (root / file).write_text(classes, encoding="utf-8")
        return root

    return make


def targets(table: SampleTable) -> MaskTargets:
    assert isinstance(table.targets, MaskTargets)
    return table.targets


def pairs(table: SampleTable) -> list[tuple[str, str, str]]:
    return list(zip(table.paths, targets(table).paths, table.parts.tolist(), strict=True))


def problems(table: SampleTable) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(problem.kind, problem.severity, problem.files) for problem in table.problems]


# ---- folders ----


def test_images_beside_masks_are_rows_to_be_split(touch: Touch) -> None:
    root = touch("images/b.jpg", "images/a.jpg", "masks/a.png", "masks/b.png")
    assert holds_masks(root)
    table = read_masks(root)
    assert (table.task, targets(table).kind, table.groups, table.problems) == ("segmentation", "mask", None, ())
    assert pairs(table) == [("images/a.jpg", "masks/a.png", ""), ("images/b.jpg", "masks/b.png", "")]


@pytest.mark.parametrize(
    ("train", "val"), [("train/{}", "valid/{}"), ("Training/{}", "validation/{}"), ("{}/train", "{}/val")]
)
def test_parts_may_hold_images_and_masks_or_be_held_by_them(touch: Touch, train: str, val: str) -> None:
    folders = [part.format(kind) for part in (train, val) for kind in ("images", "masks")]
    root = touch(*(f"{folder}/1.png" for folder in folders))
    assert holds_masks(root)
    assert sorted(pairs(read_masks(root)), key=lambda pair: pair[2]) == [
        (f"{folders[0]}/1.png", f"{folders[1]}/1.png", "train"),
        (f"{folders[2]}/1.png", f"{folders[3]}/1.png", "val"),
    ]


def test_other_folders_hold_no_masks(touch: Touch) -> None:
    assert not holds_masks(touch("cat/1.png", "dog/1.png", "train/cat/1.png", "images/1.png"))


def test_folders_inside_are_part_of_the_name(touch: Touch) -> None:
    root = touch("images/x/1.jpg", "images/y/1.jpg", "masks/x/1.png", "masks/y/1.png")
    assert pairs(read_masks(root)) == [
        ("images/x/1.jpg", "masks/x/1.png", ""),
        ("images/y/1.jpg", "masks/y/1.png", ""),
    ]


@pytest.mark.parametrize("suffix", ["_mask", "-mask", "_label", "_L", "_gt"])
def test_a_mask_may_have_a_suffix(touch: Touch, suffix: str) -> None:
    root = touch("images/1.jpg", f"masks/1{suffix}.png", "images/2.jpg", "masks/2.png")
    assert [mask for _, mask, _ in pairs(read_masks(root))] == [f"masks/1{suffix}.png", "masks/2.png"]


def test_the_plain_name_goes_before_a_suffix(touch: Touch) -> None:
    table = read_masks(touch("images/1.jpg", "masks/1.png", "masks/1_mask.png"))
    assert pairs(table) == [("images/1.jpg", "masks/1.png", "")]
    assert problems(table) == [("no-image", "error", ("masks/1_mask.png",))]


def test_what_has_no_partner_is_left_out_and_named(touch: Touch) -> None:
    table = read_masks(touch("images/1.jpg", "images/2.jpg", "masks/1.png", "masks/3.png", "masks/notes.txt"))
    assert table.paths == ("images/1.jpg",)
    assert problems(table) == [
        ("no-mask", "error", ("images/2.jpg",)),
        ("no-image", "error", ("masks/3.png",)),
        ("not-an-image", "warning", ("masks/notes.txt",)),
    ]
    assert table.problems[0].message == "left out: no mask has the name of these images. Add one."


def test_a_part_without_masks_is_left_out_and_named(touch: Touch) -> None:
    table = read_masks(touch("train/images/1.jpg", "train/masks/1.png", "test/images/2.jpg"))
    assert table.parts.tolist() == ["train"]
    assert problems(table) == [("no-mask", "error", ("test/images/2.jpg",))]


def refused(root: Path) -> str:
    with pytest.raises(DataError) as refusal:
        read_masks(root)
    return str(refusal.value)


def test_pairs_that_are_not_clear_are_refused_all_at_once(touch: Touch) -> None:
    root = touch("images/1.jpg", "images/1.png", "masks/1.png", "images/2.jpg", "masks/2_gt.png", "masks/2_mask.png")
    assert refused(root) == (
        f"{root}: (1) images of one name: images/1.jpg, images/1.png. "
        "(2) more than one mask of images/2.jpg: masks/2_gt.png, masks/2_mask.png. "
        "Which belong together is not clear: leave one of each."
    )


def test_a_folder_without_any_pair_is_refused_with_examples(touch: Touch) -> None:
    root = touch("images/1.jpg", "masks/one.png")
    assert refused(root) == (
        f"{root}: no image has a mask of its own name: there are images/1.jpg and masks/one.png. "
        "Name masks as their images, or add '_mask' to it."
    )


def test_two_folders_of_one_part_are_refused(touch: Touch) -> None:
    root = touch("train/images/1.jpg", "train/masks/1.png", "Training/images/2.jpg", "Training/masks/2.png")
    assert "more than one folder for train: Training, train. Move them into a part, or away." in refused(root)


@pytest.mark.parametrize("place", ["{}/images", "images/{}"])
def test_images_beside_the_parts_are_refused(touch: Touch, place: str) -> None:
    folders = [place.format(name) for name in ("train", "val", "more")]
    names = [f"{folder}/1.png" for folder in folders]
    root = touch(*names, *(name.replace("images", "masks") for name in names))
    more = "more" if place.startswith("{") else "images/more"
    assert f"images beside train, val, in no part: {more}. Move them into a part, or away." in refused(root)


def test_parts_without_train_are_refused(touch: Touch) -> None:
    root = touch("val/images/1.jpg", "val/masks/1.png")
    assert "there is no train part with images and masks, only val. Add one, or drop the parts." in refused(root)


# ---- the list of classes ----


@pytest.fixture
def listed(touch: Touch) -> Callable[..., MaskClasses]:
    """A function from the text of a list of classes to what it is understood as."""

    def read(text: str, **options: str) -> MaskClasses:
        classes = targets(read_masks(touch("images/1.jpg", "masks/1.png", classes=text, **options))).classes
        assert classes is not None
        return classes

    return read


def test_without_a_list_classes_are_not_known_yet(touch: Touch) -> None:
    table = read_masks(touch("images/1.jpg", "masks/1.png"))
    assert (targets(table).classes, table.classes) == (None, ())


def test_lines_are_names_in_the_order_of_their_numbers(listed: Callable[..., MaskClasses]) -> None:
    classes = listed("\ufeffsky\n\n# the ground\nwet road # or dry\r\nc#\n")
    assert classes.listed == classes.names == ("sky", "wet road", "c#")
    assert classes.colours is None


@pytest.mark.parametrize(
    "name", ["void", "Ignore", "IGNORED", "unlabelled", "unlabeled", "border (ignored)", "x (Ignore)"]
)
def test_some_classes_are_not_scored(listed: Callable[..., MaskClasses], name: str) -> None:
    classes = listed(f"sky\n{name}\nroad\n")
    assert classes.names == ("sky", "road")
    assert classes.ignored == {1}
    assert classes.listed[1] == name.split(" (")[0]


@pytest.mark.parametrize("line", ["wet road 128 64 255", "wet road\t128\t64\t255", "wet road,128, 64, 255"])
def test_three_numbers_after_a_name_are_its_colour(listed: Callable[..., MaskClasses], line: str) -> None:
    classes = listed(f"{line}\nsky 0 0 0 (ignored)\ncar (ignored) 1 1 1\ntree 2 2 2\n")
    assert classes.colours is not None
    assert classes.colours.tolist() == [[128, 64, 255], [0, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert classes.listed == ("wet road", "sky", "car", "tree")
    assert classes.names == ("wet road", "tree")


def test_a_table_of_colours_is_read_too(listed: Callable[..., MaskClasses]) -> None:
    classes = listed('Name,R,G,B\n"road, wet",128,64,128\nVoid,0,0,0\nsky, 1, 2, 3\n', file="class_dict.csv")
    assert classes.names == ("road, wet", "sky")
    assert classes.colours is not None
    assert classes.colours.tolist() == [[128, 64, 128], [0, 0, 0], [1, 2, 3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sky\nroad\nsky\n", "line 3: the name 'sky' is that of line 1 too."),
        ("# nothing\n", "line 1: it names no class."),
        (
            "void\n\nsky\n",
            "line 3: only one class is scored, 'sky'. At least two are needed, as object and background.",
        ),
        ("void\n", "line 1: no class is scored. At least two are needed, as object and background."),
        ("sky 0 0 0\nroad 0 0 256\n", "line 2: no colour: 0, 0, 256; expected three whole numbers of 0 to 255."),
        ("sky 0 0 0\nroad 0 0 1.5\n", "line 2: no colour: 0, 0, 1.5; expected three whole numbers of 0 to 255."),
        ("sky 0 0 0\nroad 0 0 0\n", "line 2: the colour 0, 0, 0 is that of line 1 too."),
        ("sky 0 0 0\nroad\ncar\n", "line 2, 3: no colour, where others have one."),
        ("\n".join(f"class {number}" for number in range(256)), "line 256: the 256th class; at most 255 are known."),
        ("(ignored)\nsky\nroad\n", "line 1: no name."),
    ],
)
def test_a_faulty_list_is_refused_with_its_lines(touch: Touch, text: str, message: str) -> None:
    root = touch("images/1.jpg", "masks/1.png", classes=text)
    assert refused(root).startswith(f"{root / 'classes.txt'}: {message} A line is a name, or 'NAME R G B'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,r,g\nsky,1,2\n", "line 1: no column b; expected name, r, g, b."),
        ("name,r,g,b\nsky,1,2,3\nroad,4,5\nsea,1,1,1\n", "line 3: 3 cells instead of 4."),
    ],
)
def test_a_faulty_table_is_refused_with_its_lines(touch: Touch, text: str, message: str) -> None:
    root = touch("images/1.jpg", "masks/1.png", classes=text, file="class_dict.csv")
    assert f"{root / 'class_dict.csv'}: {message}" in refused(root).replace("(1) ", "")


def test_all_that_is_wrong_with_a_list_is_said_at_once(touch: Touch) -> None:
    root = touch("images/1.jpg", "masks/1.png", classes="sky 0 0 0\nsky 1 1 1\nsea 1 1 1\n")
    assert "(1) line 3: the colour 1, 1, 1 is that of line 2 too. (2) line 2: the name 'sky'" in refused(root)


def test_a_list_that_is_not_utf8_is_refused_with_its_line(touch: Touch) -> None:
    root = touch("images/1.jpg", "masks/1.png")
    (root / "classes.txt").write_bytes("sky\nröad\n".encode("latin-1"))
    assert f"{root / 'classes.txt'}: line 2 is not UTF-8. Save it as UTF-8." in refused(root)


# ---- beside the parts ----


@pytest.mark.parametrize("loose", ["images/c.png", "masks/c.png"])
def test_a_loose_image_leaves_the_parts_as_they_are(touch: Touch, loose: str) -> None:
    root = touch("images/train/a.png", "masks/train/a.png", "images/val/b.png", "masks/val/b.png", loose)
    table = read_masks(root)
    assert table.parts.tolist() == ["train", "val"]
    assert problems(table) == [("no-part", "error", (loose,))]
    assert table.problems[0].message.startswith("left out: they lie in no part, where others are in one.")


def test_parts_beside_images_at_the_root_are_named(touch: Touch) -> None:
    root = touch("images/a.png", "masks/a.png", "train/images/b.png", "train/masks/b.png", "val/notes.txt")
    table = read_masks(root)
    assert table.paths == ("images/a.png",)
    assert problems(table) == [("part-ignored", "error", ("train",))]
