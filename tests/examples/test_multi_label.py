"""A task of one's own is one file: nothing else knows of it, and it is trained, judged and recorded like any other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

import trainwright as tw
from trainwright.errors import UnknownNameError
from trainwright.optim.losses import build_loss
from trainwright.plugins import Task, losses, tasks
from trainwright.recipe import LossSpec
from trainwright.records import Answers, TargetInfo

ROOT = Path(__file__).parents[2]
Load = Callable[[str], ModuleType]
TRUE = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)
SAID = np.array(
    [[1, 0, 0], [1, 0, 0], [1, 1, 0]], dtype=np.float32
)  # of a, one too many; of b, one missed; c is nowhere


@pytest.fixture
def task(load: Load) -> Task:
    """The task with labels a, b and c."""
    load("multi_label")
    chosen = tasks.get("multi-label")
    return chosen(TargetInfo(names=("a", "b", "c")), build_loss(LossSpec(), chosen.losses))  # type: ignore[call-arg]


def answered(said_NL: np.ndarray = SAID, true_NL: np.ndarray = TRUE) -> Answers:
    columns = {"probabilities": 0.1 + 0.8 * said_NL, "target": true_NL, "loss": np.zeros(len(said_NL))}
    return Answers(rows=np.arange(len(said_NL)), columns=columns)


# ---- one file ----


def test_the_task_is_known_once_the_file_is_imported(load: Load) -> None:
    before = {*tasks.names(), *losses.names()}
    load("multi_label")
    assert {*tasks.names(), *losses.names()} - before == {"multi-label"}


def test_nothing_else_knows_of_it() -> None:
    named = [file for file in (ROOT / "src").rglob("*.py") if "multi-label" in file.read_text(encoding="utf-8")]
    assert named == []


def test_without_the_file_the_task_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="no such task 'multi-label'"):
        tw.Dataset.from_arrays(np.zeros((2, 8, 8), np.uint8), [[0, 1], [1, 0]], task="multi-label")


# ---- the task ----


def test_the_loss_of_undecided_logits_is_ln_2(task: Task) -> None:
    loss_N, _ = task.loss(torch.zeros(3, 3), torch.from_numpy(TRUE))
    assert loss_N.tolist() == pytest.approx([np.log(2)] * 3)


def test_with_focal_loss_it_is_a_quarter_of_that(load: Load) -> None:
    load("multi_label")
    chosen = tasks.get("multi-label")
    focal = build_loss(LossSpec(name="focal", gamma=2.0), chosen.losses)
    loss_N, _ = chosen(TargetInfo(names=("a", "b", "c")), focal).loss(torch.zeros(3, 3), torch.from_numpy(TRUE))  # type: ignore[call-arg]
    assert loss_N.tolist() == pytest.approx([(1 - 0.5) ** 2 * np.log(2)] * 3)


def test_the_score_is_the_mean_f1_of_labels_that_somebody_has_or_says(task: Task) -> None:
    scores = task.scores(answered())
    assert scores.per_class == pytest.approx({"a": 2 * 2 / (2 * 2 + 1), "b": 2 * 1 / (2 * 1 + 1)})
    assert scores.score == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores.per_image.tolist() == pytest.approx([1, 2 / 3, 2 / 3])


def test_perfect_answers_score_1(task: Task) -> None:
    assert task.scores(answered(TRUE)).score == 1


def test_training_tallies_what_an_evaluation_tallies(task: Task) -> None:
    _, tally_NQ = task.loss(torch.from_numpy(SAID) * 2 - 1, torch.from_numpy(TRUE))
    assert tally_NQ.tolist() == task.scores(answered()).tally.tolist()


def test_measures_of_several_sets_are_those_of_each(task: Task) -> None:
    tally_NQ = task.scores(answered()).tally
    both = task.measures(np.stack([tally_NQ.sum(axis=0), tally_NQ[:2].sum(axis=0)]))
    assert both["score"].tolist() == pytest.approx([task.scores(answered()).score, (1 + 0) / 2])
    assert np.isnan(both["class.c"]).all()


def test_answers_are_said_with_their_labels(task: Task) -> None:
    first = task.say(answered())[0]
    assert first["labels"] == ["a"]
    assert first["probabilities"] == pytest.approx({"a": 0.9, "b": 0.1, "c": 0.1})


def test_pictures_tell_what_is_said_and_what_is_true(task: Task) -> None:
    tiles = task.tiles(answered(), np.zeros((3, 8, 8, 3), dtype=np.uint8))
    assert [(tile.title, tile.good) for tile in tiles] == [("a", True), ("a\nis a, b", False), ("a, b\nis b", False)]


def test_the_chart_has_f1_of_each_label(task: Task) -> None:
    (chart,) = task.charts(answered())
    assert (chart.name, chart.label, sorted(chart.values)) == ("labels", "F1", ["a", "b"])


# ---- the data ----


def test_every_picture_shows_one_or_two_digits(load: Load) -> None:
    data = load("multi_label").two_digits()
    values = data.targets.array(np.arange(len(data)))
    assert (data.task, data.classes, len(data)) == ("multi-label", tuple("0123456789"), 898)
    assert set(values.sum(axis=1).tolist()) == {1.0, 2.0}
    assert (data.fingerprint.heights[0], data.fingerprint.widths[0]) == (16, 32)
    assert data.refusals() == ()


# ---- the training ----


def test_it_is_trained_judged_and_recorded(load: Load, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("multi_label").main(epochs=2, runs=tmp_path, mirrors=(), device="cpu")
    run = tw.open_run("last", runs=tmp_path)
    printed = capsys.readouterr().out
    assert run.recipe.task == "multi-label"
    assert f"{run.id}: macro F1 train" in printed
    assert f"]: {run.verdict}\n" in printed
    assert run.gap.low <= run.gap.value <= run.gap.high


@pytest.mark.slow
def test_as_a_script_it_learns_to_read_the_digits(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "multi_label.py"), "12"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split("val ")[1].split("\n")[0]) > 0.8  # saying every label of every picture gives 0.32
