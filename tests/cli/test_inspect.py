"""What `trainwright inspect` says of datasets for each kind of task, to people and to programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.workflows import judge


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with train/ and val/, each with twelve images 0.png … 11.png in images/."""
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        (tmp_path / "data" / part / "images").mkdir(parents=True)
        for row in range(12):
            pixels = random.integers(0, 256, (16, 20, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / part / "images" / f"{row}.png")
    return tmp_path / "data"


def with_numbers(folder: Path) -> Path:
    for part in ("train", "val"):
        rows = [f"images/{row}.png,{row / 2},{row * row}" for row in range(12)]
        (folder / part / "sizes.csv").write_text("\n".join(["path,width,area", *rows]))
    return folder


def with_masks(folder: Path) -> Path:
    (folder / "classes.txt").write_text("ground\nthing\n")
    for part in ("train", "val"):
        (folder / part / "masks").mkdir()
        mask_HW = np.zeros((16, 20), dtype=np.uint8)
        mask_HW[:4] = 1
        for row in range(12):
            Image.fromarray(mask_HW).save(folder / part / "masks" / f"{row}.png")
    return folder


def test_classes_are_counted_in_images(cli, digits) -> None:
    lines = cli("inspect", digits).out.splitlines()
    assert lines[:2] == ["task         classification, 3 classes", "all          150 images: 0 50, 1 50, 2 50"]


def test_numbers_are_shown_with_their_range(cli, images) -> None:
    lines = cli("inspect", with_numbers(images), "--target", "width,area").out.splitlines()
    assert lines[:6] == [
        "task         regression, 2 number columns: width, area",
        "train        12 images",
        "val          12 images",
        "split        train 12, val 12, test 0 images in a training",
        "width        0 to 5.5, median 2.75",
        "area         0 to 121, median 30.5",
    ]


def test_masks_are_counted_as_shares_of_their_pixels(cli, images) -> None:
    lines = cli("inspect", with_masks(images)).out.splitlines()
    assert lines[:2] == [
        "task         segmentation, 2 classes",
        "train        12 images, pixels: ground 75 %, thing 25 %",
    ]


def test_real_boxes_are_counted(cli, real_data: Callable[[str], Path]) -> None:
    lines = cli("inspect", real_data("bccd")).out.splitlines()
    assert lines[0] == "task         detection, 3 classes"
    assert lines[1].startswith("train        205 images, 2,804 boxes: ")


def test_programs_get_the_range_of_numbers(cli, images) -> None:
    content = cli("inspect", with_numbers(images), "--target", "width", "--json").json
    assert (content["schema"], content["task"], content["target"]) == ("trainwright.data/1", "regression", "numbers")
    assert content["numbers"] == {"width": {"min": 0.0, "median": 2.75, "max": 5.5}}
    assert content["images"] == {"train": 12, "val": 12}


def test_a_number_that_never_changes_cannot_be_trained_on(cli, images) -> None:
    for part in ("train", "val"):
        (images / part / "y.csv").write_text("\n".join(["path,y", *(f"images/{row}.png,1.5" for row in range(12))]))
    done = cli("inspect", images, "--target", "y")
    assert done.code == 3
    assert "error        constant-target: always the same number in train: y." in done.out


def test_a_row_without_a_number_is_an_error_that_says_left_out(cli, images) -> None:
    with_numbers(images)
    table = images / "train" / "sizes.csv"
    table.write_text(table.read_text().replace("images/3.png,1.5,9", "images/3.png,1.5,"))
    done = cli("inspect", images, "--target", "area")
    assert done.code == 0
    assert (
        "error        no-target: left out: a number is missing or not finite. Fill it in, or remove the row."
        in done.out
    )


def test_a_part_in_which_nothing_can_be_judged_cannot_be_trained_on(cli, images) -> None:
    with_masks(images)
    for row in range(12):
        Image.new("L", (20, 16), 255).save(images / "val" / "masks" / f"{row}.png")
    done = cli("inspect", images)
    assert done.code == 3
    assert "error        nothing-to-judge: no usable mask in val has a scored pixel" in done.out


def test_a_task_overrules_the_layout(cli, images) -> None:
    with_masks(images)
    for part in ("train", "val"):
        (images / part / "labels").mkdir()
        for row in range(12):
            (images / part / "labels" / f"{row}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    assert cli("inspect", images).out.startswith("task         segmentation, 2 classes")
    assert cli("inspect", images, "--task", "detection").out.startswith("task         detection, 1 class\n")


# ---- how a training would split it ----


def test_how_many_images_a_training_has_in_each_part_is_said(cli, digits) -> None:
    """Of the fifty images of each of three classes 15 % are test, which is 7, and a fifth of the other 43 val, which is 9."""
    text, content = cli("inspect", digits).out, cli("inspect", digits, "--json").json

    said = (
        "split        train 102, val 27, test 21 images in a training (data.val_fraction 0.2, data.test_fraction 0.15)"
    )
    assert said in text.splitlines()
    assert content["split"] == {
        "train": 102, "val": 27, "test": 21, "data.val_fraction": 0.2, "data.test_fraction": 0.15
    }  # fmt: skip


def test_another_fraction_is_tried_without_a_training(cli, digits) -> None:
    """Half of the 43 of each class that are not test: 21."""
    split = cli("inspect", digits, "--set", "data.val_fraction=0.5", "--json").json["split"]

    assert (split["train"], split["val"], split["test"]) == (66, 63, 21)


def test_of_given_parts_no_fraction_is_said(cli, images) -> None:
    with_masks(images)

    assert "split        train 12, val 12, test 0 images in a training\n" in cli("inspect", images).out


def test_what_of_a_recipe_is_about_trainings_is_still_refused_alone(cli, digits) -> None:
    done = cli("inspect", digits, "--set", "data.val_fraction=0.5", "--set", "epochs=3")

    assert (done.code, "--set: says something of trainings" in done.err) == (2, True)


def test_what_cannot_be_split_is_described_all_the_same(cli, images) -> None:
    """Two groups, one a class: val cannot have both classes while train has both."""
    rows = [f"train/images/{row}.png,{'ab'[row % 2]},{'ab'[row % 2]}" for row in range(12)]
    (images / "labels.csv").write_text("\n".join(["path,label,group", *rows]))

    done = cli("inspect", images / "labels.csv")

    assert done.code == 3
    assert done.out.startswith("task         classification, 2 classes")
    assert "split   " not in done.out


# ---- how much more data would help ----


@pytest.mark.slow
def test_more_data_prints_the_curve_its_back_test_and_the_answer(cli, digits, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)
    words = ["inspect", digits, "--more-data", "--recipe", "scratch-default", "--epochs", 1, "--threads", 1]
    words += ["--set=network.width=8", "--set=data.image_size=16", "--set=batch_size=8", "--set=precision=fp32"]
    words += ["--runs", tmp_path / "runs", "--picture", tmp_path / "curve.png", "--quiet"]

    told, content = cli(*words).out, cli(*words, "--json").json

    assert "back-test" in told
    assert "2 × the images (204)" in told
    assert content["schema"] == "trainwright.data/1"
    assert len(content["more_data"]["points"]) == 4
    assert content["more_data"]["finding"]["rule"] == "more-data"
    assert (tmp_path / "curve.png").is_file()


def test_options_of_trainings_are_refused_where_nothing_is_trained(cli, digits) -> None:
    done = cli("inspect", digits, "--epochs", 3)

    assert done.code == 2
    assert "--epochs: says something of trainings, and inspect trains nothing. Add --more-data." in done.err


def test_a_picture_that_is_no_png_is_refused_before_anything_is_trained(cli, digits) -> None:
    done = cli("inspect", digits, "--more-data", "--picture", "curve.jpg")

    assert done.code == 2
    assert "expected a file name that ends in .png" in done.err
