"""Which kinds of images fail, on the page of a run: planted trouble is named, and nothing where there is none."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.report import page
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows import report_slices
from trainwright.workflows.report_slices import slices_of_page

SIDE = 16


@pytest.fixture(autouse=True)
def without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word in place of plotly's script, two megabytes that these tests do not look at."""
    monkeypatch.setattr(page, "_packed_plotly", lambda: "packed")


def text_of(file: Path) -> str:
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def kinds_of(file: Path) -> str:
    """The text of the section."""
    found = re.search(r'<section id="kinds">.*?</section>', file.read_text(encoding="utf-8"), re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", found.group()).split()) if found else ""


def images_of(task: str) -> tw.Dataset:
    """A hundred train and ninety validation images with a bright square, high or low. A third of the latter, which is dark, is
    labelled as the other kind."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for number in range(190):
        dark = number >= 100 and number % 3 == 0
        place = number % 2
        pixels = 40 * rng.random((SIDE, SIDE, 3))
        rows = slice(2, 8) if place else slice(8, 14)
        pixels[rows, 4:12] += 190
        images.append(((0.25 if dark else 1.0) * pixels).astype(np.uint8))
        said = 1 - place if dark else place
        truth = slice(2, 8) if said else slice(8, 14)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[truth, 4:12] = 1
        labels.append(
            {
                "classification": said,
                "regression": float(said),
                "segmentation": mask,
                "detection": np.array([[0, 4, truth.start, 12, truth.stop]], dtype=float),
            }[task]
        )
    names = {"classification": ["low", "high"], "segmentation": ["ground", "square"], "detection": ["square"]}
    parts = ["train"] * 100 + ["val"] * 90
    return tw.Dataset.from_arrays(np.stack(images), labels, task=task, classes=names.get(task), parts=parts)


NETWORKS = {"segmentation": {"network.name": "small-unet"}, "detection": {"network.name": "small-detector"}}


@pytest.mark.parametrize(
    "task", ["classification", "regression", "segmentation", pytest.param("detection", marks=pytest.mark.slow)]
)
def test_dark_images_that_fail_are_named_with_interval_and_verdict(train: Callable[..., tw.Run], task: str) -> None:
    own = {"augment.crop_padding": 0.0, "network.dropout": 0.0, "epochs": 30 if task == "detection" else 12}
    run = train({**own, **NETWORKS.get(task, {})}, data=images_of(task), report=True)

    told = kinds_of(run.folder / "report.html")

    assert told.startswith("Which kinds of images fail What costs most: ")
    assert re.search(
        r"brightness: below [\d.]+ \d+ [\d.]+ [\d.]+ -[\d.]+ points \(-[\d.]+ to -[\d.]+\) \S+.* fails", told
    )
    assert "corrected for all kinds (Holm)" in told


def test_where_nothing_stands_out_one_sentence_says_so(trained: tw.Run) -> None:
    looks = {"brightness": np.linspace(0, 1, 90)}
    found = report_slices.failing.told(RunFolder.open(trained.folder), "val", looks, np.ones(90), np.arange(90))

    said = page_of(found)

    assert re.sub(r"<[^>]+>", "", said).startswith("None stands out: of 4 kinds of images (by brightness;")
    assert "<table" not in said


def page_of(found: dict[str, Any]) -> str:
    from trainwright.report.slices import slices_section

    return str(slices_section(found, "", run="mine", unseen=found["images"]))


def test_too_few_images_are_said_to_be_too_few(trained: tw.Run) -> None:
    told = kinds_of(trained.folder / "report.html")

    assert "27 unseen images are too few to tell kinds of them apart by class," in told
    assert "each kind, and the rest, need 20." in told


def test_what_images_look_like_is_kept_so_that_a_later_page_needs_none_of_them(trained: tw.Run, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(trained.folder, tmp_path / "runs" / trained.id))
    manifest = (copied / "manifest.json").read_text()
    source = RunFolder.open(copied).manifest["dataset"]["source"]["path"]
    (copied / "manifest.json").write_text(manifest.replace(source, "/nowhere/at/all"))
    before = kinds_of(trained.folder / "report.html")

    kept = kinds_of(tw.write_report(copied))
    (copied / "answers" / "val-looks.npz").unlink()
    without = kinds_of(tw.write_report(copied))

    assert kept == before
    assert "Left out: " in without


def test_a_large_part_is_looked_at_evenly_and_that_is_said(
    trained: tw.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copytree(trained.folder, tmp_path / "runs" / trained.id))
    (copied / "answers" / "val-looks.npz").unlink()
    monkeypatch.setattr(report_slices, "MOST", 20)

    told = kinds_of(tw.write_report(copied))

    with np.load(copied / "answers" / "val.npz") as saved:
        count = len(saved["rows"])
    assert f"20 of the {count} unseen images were looked at, evenly drawn" in told


def test_data_too_large_to_be_opened_for_a_page_is_left_to_the_command(
    trained: tw.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = Path(shutil.copytree(trained.folder, tmp_path / "runs" / trained.id))
    (copied / "answers" / "val-looks.npz").unlink()
    monkeypatch.setattr(report_slices, "MOST_OPENED", 100)

    assert f"trainwright slices {trained.id}" in kinds_of(tw.write_report(copied))


def test_slices_of_the_page_are_those_of_the_command(trained: tw.Run) -> None:
    found, _ = slices_of_page(RunFolder.open(trained.folder), None)

    assert found is not None
    assert found["slices"] == tw.slices_of(trained, workers=1)["slices"]


@pytest.fixture
def explained(train: Callable[..., tw.Run]) -> tw.Run:
    pytest.importorskip("captum")
    return train({"epochs": 1})


def test_hardest_images_stand_beside_what_speaks_for_their_answers(explained: tw.Run) -> None:
    plain = tw.write_report(explained)
    without = plain.read_text(encoding="utf-8")
    text = explained.report(explain=True).read_text(encoding="utf-8")

    section = re.search(r'<section id="why">.*?</section>', text, re.DOTALL)
    assert section
    hardest = [one["path"] for one in explained.result["hardest"][:8]]
    assert re.findall(r'class="path">([^<]+)<', section.group()) == hardest
    first = explained.result["hardest"][0]
    assert f"truth {first['truth']} {first['probability_of_truth']:.3f}\nanswer {first['answer']} " in section.group()
    sizes = set(re.findall(r'width="(\d+)" height="(\d+)"', section.group()))
    assert sizes == {("320", "160")}  # two halves of sixteen pixels, each made ten times as large
    assert 'id="why"' not in without


def test_what_was_explained_stays_on_pages_that_are_written_later(explained: tw.Run) -> None:
    first = explained.report(explain=True).read_text(encoding="utf-8")

    again = explained.report().read_text(encoding="utf-8")

    assert re.findall(r'<section id="why">.*?</section>', again, re.DOTALL) == re.findall(
        r'<section id="why">.*?</section>', first, re.DOTALL
    )


def test_without_captum_the_page_says_so_and_nothing_fails(
    train: Callable[..., tw.Run], monkeypatch: pytest.MonkeyPatch, listener: Any
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    run = train({"epochs": 1})
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "captum" else found(name, *more)
    )

    text = text_of(tw.write_report(run, explain=True, reporter=listener))

    said = "the package 'captum' is not installed. Install it: pip install 'trainwright[explain]'."
    assert f"No image is explained: {said}" in text.replace("&#x27;", "'")
    assert listener.notes == [f"no image is explained: {said}"]


def test_a_study_is_told_to_name_one_of_its_runs(digits: Path, recipe: tw.Recipe, tmp_path: Path) -> None:
    options = {"budget": "2h", "name": "mine", "workers": 1, "mirrors": (), "slots": 1, "stop_asked": lambda: True}
    tw.improve(digits, recipe, runs=tmp_path / "runs", **options)

    with pytest.raises(tw.errors.UsageError, match="Name the run: 'trainwright report RUN --explain'"):
        tw.write_report("mine", runs=tmp_path / "runs", explain=True)


def test_pictures_of_explanations_are_of_the_image_and_its_heat(explained: tw.Run) -> None:
    explained.report(explain=True)

    with Image.open(explained.folder / "explained" / "page-01.jpg") as picture:
        left = np.asarray(picture)[:, :160].astype(float)
        right = np.asarray(picture)[:, 160:].astype(float)
    assert np.abs(left[..., 0] - left[..., 2]).mean() < 3  # the digits are grey
    assert np.abs(right[..., 0] - right[..., 2]).mean() > 10  # what speaks for and against is red and blue
