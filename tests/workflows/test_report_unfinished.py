"""The page of a run or a study without a result: what happened, what is there, how to go on. Each was really made so."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import trainwright as tw
from trainwright.errors import NonFiniteLossError
from trainwright.report import page
from trainwright.tracking.run_folder import RunFolder

PATIENCE_SECONDS = 240.0
SMALL = ["--set=network.width=8", "--set=data.image_size=16", "--set=precision=fp32", "--set=optimizer.lr=0.01"]


@pytest.fixture(autouse=True)
def without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word in place of plotly's script, two megabytes that these tests do not look at."""
    monkeypatch.setattr(page, "_packed_plotly", lambda: "packed")


def text_of(file: Path) -> str:
    body = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def only_run(runs: Path) -> Path:
    (folder,) = (entry for entry in runs.iterdir() if (entry / "manifest.json").is_file())
    return folder


class Breaks(nn.Module):
    """A network of one layer that raises at its tenth step."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 3)
        self.steps = 0

    def forward(self, images_NCHW: Any) -> Any:
        self.steps += self.training
        if self.steps == 10:
            raise RuntimeError("the tenth step is too much")
        return self.head(images_NCHW.flatten(1))


def test_a_run_whose_loss_is_no_number_has_a_page_without_being_asked(
    train: Callable[..., tw.Run], tmp_path: Path
) -> None:
    with pytest.raises(NonFiniteLossError):
        train({"optimizer.lr": 1e30}, report=True)

    text = text_of(only_run(tmp_path / "runs") / "report.html")
    assert "Diverged The training broke down" in text
    assert "not finite at step" in text
    assert "Lower the learning rate" in text
    assert "--set=optimizer.lr=1e+29" in text
    assert "trainwright resume" not in text  # it would break down at the same step


def test_a_run_that_failed_says_why_and_how_far_it_came(train: Callable[..., tw.Run], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="tenth step"):
        train({"epochs": 3}, model=Breaks(), report=True)

    run = only_run(tmp_path / "runs")
    text = text_of(run / "report.html")
    assert "Failed It ended with an error" in text
    assert "RuntimeError: the tenth step is too much." in text
    assert "1 of 3 epochs; after the last one the score on unseen images was" in text
    assert f"How to go on: Once its cause is gone. {'The result'}" in text
    assert f"trainwright resume {run.name}" in text
    assert "Curves" in text


def test_a_run_that_was_stopped_at_its_first_step_was_evaluated_not_once(
    train: Callable[..., tw.Run], polls: Callable[[int], Callable[[], bool]]
) -> None:
    run = train(stop_asked=polls(1))

    text = text_of(tw.write_report(run))
    assert "Interrupted It was stopped before it had a result. Stopped when asked to; its state is saved." in text
    assert "1 step of the first of 2 epochs: it was evaluated not once." in text
    assert "Its state after 1 step is saved." in text
    assert f"trainwright resume {run.id}" in text
    assert "What was asked" in text
    assert "The gap and its parts" not in text


def test_a_run_that_was_stopped_later_tells_its_epochs_and_goes_on_to_a_whole_page(
    train: Callable[..., tw.Run], polls: Callable[[int], Callable[[], bool]]
) -> None:
    run = train({"epochs": 3}, stop_asked=polls(9))
    stopped = text_of(tw.write_report(run))

    tw.resume(run, mirrors=(), workers=1)

    assert "1 of 3 epochs; after the last one the score on unseen images was" in stopped
    assert "How to go on" in stopped
    resumed = text_of(run.folder / "report.html")
    assert "How to go on" not in resumed
    assert "accuracy on unseen images" in resumed


def test_a_run_of_arrays_is_gone_on_with_by_giving_them_again(train: Callable[..., tw.Run]) -> None:
    import numpy as np

    images = np.random.default_rng(0).integers(0, 255, (60, 16, 16, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images, np.arange(60) % 3)
    run = train(data=data, stop_asked=lambda: True)

    assert "Its data was given by Python code, so that has to be given again" in text_of(tw.write_report(run))


def test_a_run_that_is_under_way_says_so(train: Callable[..., tw.Run], tmp_path: Path) -> None:
    pages: list[str] = []

    def look() -> bool:
        pages.append(text_of(tw.write_report(only_run(tmp_path / "runs"), out=tmp_path / "page.html")))
        return len(pages) == 8

    train(stop_asked=look)

    assert "Still running It has no result yet" in pages[-1]
    assert "Last sign of life" in pages[-1]
    assert "How to go on" not in pages[-1]


def start(*arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "TRAINWRIGHT_MIRRORS": "none"}
    command = [sys.executable, "-m", "trainwright", *arguments, "--quiet"]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def kill_once(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """SIGKILL as soon as something is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, "it ended before it could be killed: make it longer"
        assert time.monotonic() < deadline
        time.sleep(0.002)  # of looking, not of waiting for something to be over
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_run_that_was_killed_says_so_before_anybody_else_noticed(digits: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    process = start("train", str(digits), *SMALL, "--epochs=400", "--checkpoint-seconds=0.05", f"--runs={runs}")
    kill_once(lambda: any('"epoch"' in file.read_text() for file in runs.glob("*/records.jsonl")), process)
    run = only_run(runs)
    assert RunFolder.open(run).status()["state"] == "running"  # nobody wrote anything after the kill

    text = text_of(tw.write_report(run))

    assert "Interrupted It was stopped before it had a result. Its process ended without a word." in text
    assert re.search(r"\d+ of 400 epochs", text)
    assert f"trainwright resume {run.name}" in text


SPACE = {"optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}}


def tuned(digits: Path, recipe: tw.Recipe, runs: Path, **more: Any) -> tw.Study:
    options = {"strategy": "sobol", "space": SPACE, "name": "mine", "runs": runs, "workers": 1, "mirrors": ()}
    return tw.tune(digits, recipe.changed({"epochs": 1}), **{**options, "slots": 1, "trials": 2, **more})


def test_a_study_that_was_stopped_at_its_first_step_says_how_to_go_on(
    digits: Path, recipe: tw.Recipe, tmp_path: Path
) -> None:
    tuned(digits, recipe, tmp_path / "runs", stop_asked=lambda: True)

    text = text_of(tw.write_report("mine", runs=tmp_path / "runs"))
    assert "Interrupted It was stopped before it was decided what to hand over. Stopped when asked to" in text
    assert "No training has a score yet" in text
    assert "trainwright resume mine" in text
    assert "best-recipe.yaml" not in text  # which there is none of


def test_a_study_under_way_tells_the_best_so_far_and_what_is_open(
    digits: Path, recipe: tw.Recipe, tmp_path: Path
) -> None:
    runs, pages = tmp_path / "runs", []

    def look() -> bool:
        if (runs / "mine-001" / "manifest.json").is_file():
            pages.append(text_of(tw.write_report("mine", runs=runs, out=tmp_path / "page.html")))
        return bool(pages)

    tuned(digits, recipe, runs, stop_asked=look)
    stopped = text_of(tw.write_report("mine", runs=runs))

    assert "Still running Nothing is decided yet" in pages[0]
    assert "1 training with a score; 1 training under way. The best so far, which may be luck:" in pages[0]
    assert "How to go on" not in pages[0]
    assert "1 training with a score" in stopped
    assert "trainwright resume mine" in stopped


@pytest.mark.slow
def test_a_study_that_was_killed_says_so(digits: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    (tmp_path / "space.yaml").write_text("optimizer.lr: {low: 0.001, high: 0.1, log: true}\n")
    search = ["--strategy=sobol", f"--space={tmp_path / 'space.yaml'}", "--trials=50", "--name=mine", "--slots=1"]
    process = start("tune", str(digits), *search, *SMALL[:3], "--epochs=1", f"--runs={runs}")
    journal = tmp_path / "studies" / "mine" / "journal.jsonl"
    kill_once(lambda: journal.is_file() and '"tell"' in journal.read_text(), process)

    text = text_of(tw.write_report("mine", runs=runs))

    assert "Interrupted It was stopped before it was decided what to hand over." in text
    assert re.search(r"\d+ trainings? with a score", text)
    assert "trainwright resume mine" in text


def test_a_study_whose_runs_are_gone_tells_of_them_and_says_so(digits: Path, recipe: tw.Recipe, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    study = tuned(digits, recipe, runs)
    whole = text_of(study.folder / "report.html")
    shutil.rmtree(runs / "mine-001")

    text = text_of(tw.write_report("mine", runs=runs))

    assert "its folder is gone" not in whole
    assert "finished, its folder is gone" in text
    assert re.search(r"1 run of \d is not in runs any more\.", text)
    assert json.loads((study.folder / "result.json").read_text())["metric"] in text
