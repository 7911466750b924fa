"""Slices of a run's unseen images: planted trouble is found by brightness, by class and by a column of a table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.cli.main import main
from trainwright.cli.slices import show_slices
from trainwright.errors import DataError, RunError, UnknownNameError

DARK = 0.3  # of the brightness of the others


@pytest.fixture(scope="module")
def half_dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crosses and rings on noise. A third of the validation images are dark, and show the other figure than their label says."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("dark") / "figures"
    side = np.arange(16)
    cross = np.abs(side[:, None] - side) < 2
    ring = np.abs(np.hypot(side[:, None] - 7.5, side - 7.5) - 6) < 1.2
    for part, count in (("train", 60), ("val", 90)):
        for label, figure in (("cross", cross), ("ring", ring)):
            (folder / part / label).mkdir(parents=True)
            for number in range(count):
                dark = part == "val" and number % 3 == 0
                shown = (ring if label == "cross" else cross) if dark else figure
                pixels = 40 * rng.random((16, 16)) + 190 * shown
                grey = Image.fromarray(((DARK if dark else 1.0) * pixels).astype(np.uint8))
                grey.save(folder / part / label / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, half_dark: Path) -> tw.Run:
    recipe = tw.Recipe().changed(
        {
            "network.width": 8,
            "data.image_size": 16,
            "batch_size": 16,
            "epochs": 4,
            "precision": "fp32",
            "optimizer.lr": 0.01,
        }
    )
    return tw.train(half_dark, recipe, runs=tmp_path_factory.mktemp("dark") / "runs", mirrors=(), workers=1)


def test_dark_images_that_fail_are_told_by_their_brightness(run: tw.Run) -> None:
    found = tw.slices_of(run, workers=1)

    dark = [one for one in found["failing"] if one["attribute"] in ("brightness", "contrast", "sharpness")]
    assert dark  # a dark image has less of each
    assert all(one["value"].startswith("below ") for one in dark)
    assert all(one["score"] < one["rest"] - 0.2 for one in dark)
    assert {"class", "brightness", "pixels of the file"} <= set(found["attributes"])
    assert json.loads(json.dumps(found)) == found


def table(file: Path, half_dark: Path, *, named: Callable[[Path], str] = lambda path: path.as_posix()) -> Path:
    """Which camera took which image: the dark ones are of an old one. One image has no row."""
    paths = [path.relative_to(half_dark) for path in sorted((half_dark / "val").rglob("*.png"))][1:]
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(["image", "camera", "age"])
        writer.writerows(
            [named(path), "old" if int(path.stem) % 3 == 0 else "new", 9.5 if int(path.stem) % 3 == 0 else 1]
            for path in paths
        )
    return file


def test_a_column_of_a_table_is_one_more_property(run: tw.Run, half_dark: Path, tmp_path: Path) -> None:
    found = tw.slices_of(run, metadata=table(tmp_path / "cameras.csv", half_dark), workers=1)

    failing = {(one["attribute"], one["value"]) for one in found["failing"]}
    assert ("camera", "old") in failing
    (old,) = [one for one in found["slices"] if (one["attribute"], one["value"]) == ("camera", "old")]
    assert old["images"] == 59
    assert "age" in found["attributes"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("photo,camera\na.png,old\n", "expected a column image, path, file, got photo, camera"),
        ("image,camera\nnowhere.png,old\n", "names none of the 180 images"),
        ("", "got no rows"),
    ],
)
def test_a_table_of_no_use_is_refused(run: tw.Run, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "table.csv").write_text(content)

    with pytest.raises(DataError, match=said):
        tw.slices_of(run, metadata=tmp_path / "table.csv", workers=1)


def test_the_test_part_has_to_be_opened_first(run: tw.Run) -> None:
    with pytest.raises(RunError, match="has no answers to its test images"):
        tw.slices_of(run, part="test")


def test_another_part_is_named(run: tw.Run) -> None:
    with pytest.raises(UnknownNameError, match="part"):
        tw.slices_of(run, part="train")  # type: ignore[arg-type]


def test_the_command_prints_what_fails_and_what_was_looked_at(run: tw.Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slices", run.id, "--runs", str(run.folder.parent), "--quiet"]) == 0

    shown = capsys.readouterr().out
    assert f"fail, {len(tw.slices_of(run, workers=1)['failing'])} of " in shown
    assert "● " in shown
    assert "points (" in shown
    assert "Looked at: class, pixels of the file" in shown


def one(**changes: Any) -> dict[str, Any]:
    """A slice that lies apart from the others by its own interval, and not once all twenty are corrected for."""
    alone = {"value": -0.1, "low": -0.19, "high": -0.01}
    slice_ = {
        "attribute": "class",
        "value": "cat",
        "images": 40,
        "score": 0.6,
        "rest": 0.7,
        "difference": alone,
        "p": 0.6,
    }
    return slice_ | {"fails": False} | changes


def found(*slices: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": "r1",
        "score_is": "share of right answers",
        "score": 0.68,
        "images": 200,
        "part": "val",
        "attributes": ["class"],
        "failing": [slice_ for slice_ in slices if slice_["fails"]],
        "slices": list(slices),
        "least_images": 20,
    }


def test_the_list_says_that_its_intervals_are_not_corrected_and_its_p_is() -> None:
    shown = " ".join(show_slices(found(*[one()] * 20)).split())

    assert "of that slice by itself, which is not corrected for the 20 slices that were looked at" in shown
    assert "0.600 beside 0.700 -10.0 points (-19.0 to -1.0) p 0.6" in shown


def test_where_nothing_is_worse_it_says_so_and_shows_what_would_cost_most() -> None:
    shown = show_slices(found(*[one()] * 20))

    assert "None of 20 slices is worse than the rest beyond chance and by more than two points." in shown
    assert "do not fail, the first 8 of 20, what would cost most first:" in shown
    assert shown.count("class: cat") == 8


def test_what_fails_stands_before_what_does_not() -> None:
    shown = show_slices(found(one(value="dog", p=0.0002, fails=True), one()))

    assert shown.index("fail, 1 of 2, what costs most first:\n● class: dog") < shown.index("do not fail, 1, what would")
    assert "p < 0.001" in shown


def test_of_images_too_few_for_any_slice_nothing_else_is_claimed() -> None:
    shown = show_slices(found())

    assert "These images are too few to tell kinds of them apart: each, and the rest, need 20." in shown
    assert "beyond chance" not in shown
