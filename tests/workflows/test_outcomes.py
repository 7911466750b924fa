"""What a study's strategy is told of its runs: at first, at a replay, after failures, and after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainwright as tw
from trainwright.data.dataset import open_dataset
from trainwright.errors import (
    DataError,
    NonFiniteLossError,
    OutOfResourcesError,
    RecipeError,
    RunError,
    UsageError,
    WeightsError,
)
from trainwright.files import explain_full_disk
from trainwright.records import Outcome, Proposal
from trainwright.tracking.lock import FileLock
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows import judge
from trainwright.workflows.hands import InTurn
from trainwright.workflows.options import RunOptions
from trainwright.workflows.outcomes import is_outcome
from trainwright.workflows.reporting import Silent
from trainwright.workflows.study import Conductor
from trainwright.workflows.trial import Watch


class Asks:
    """A strategy that asks for what it is given, one after the other, and remembers what it is told."""

    def __init__(self, *proposals: Proposal) -> None:
        self._proposals = list(proposals)
        self.told: list[Outcome] = []

    def ask(self) -> Proposal | None:
        return self._proposals[len(self.told)]

    def tell(self, outcome: Outcome) -> None:
        self.told.append(outcome)

    @property
    def done(self) -> bool:
        return len(self.told) == len(self._proposals)


class Breaks(nn.Module):
    """A linear network that gives no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.head(images_NCHW.mean(dim=(2, 3))) / 0.0 * 0.0


@pytest.fixture
def told(
    tmp_path: Path, digits: Path, recipe: tw.Recipe, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[Outcome]]:
    """(changes, role=…, number=…, floor=…, model=…) → what the strategy of the study `tmp_path / "studies" / "s"` is told."""
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)
    data = open_dataset(digits)

    def carry_out(changes: dict[str, Any] | None = None, *, model: nn.Module | None = None, **more: Any) -> Any:
        asked = {"number": 0, "role": "baseline", "label": "mine", **more}
        own = {"network.dropout": 0.0} if model is not None else {}
        proposal = Proposal(recipe=recipe.changed({"epochs": 1, **own, **(changes or {})}), **asked)
        studies = tmp_path / "studies"
        folder = (
            StudyFolder.open(studies / "s")
            if (studies / "s").exists()
            else StudyFolder.create(studies, asked={}, name="s")
        )
        strategy = Asks(proposal)
        options = RunOptions(runs=tmp_path / "runs", workers=1, mirrors=())
        with folder:
            hands = InTurn(data=data, options=options, model=model)
            Conductor(study=folder, strategy=strategy, hands=hands, runs=options.runs).carry_out()
        return strategy.told

    return carry_out


def test_a_replay_tells_what_was_told_though_the_run_was_judged_again(told, tmp_path):
    (first,) = told()
    file = tmp_path / "runs" / "s-000" / "result.json"
    result = json.loads(file.read_text())
    other = {"findings": [], "verdict": "other", "gap": {"value": 1.0, "low": 1.0, "high": 1.0}, "score": {"val": 0.0}}
    file.write_text(json.dumps(result | other))

    (again,) = told()

    assert again.result == first.result
    assert (again.score, again.seconds, again.state) == (first.score, first.seconds, "finished")
    assert again.result["verdict"] == result["verdict"]
    np.testing.assert_array_equal(again.answers, first.answers)


def test_a_finished_run_is_told_with_the_numbers_that_its_recipe_left_open(told):
    (outcome,) = told({"batch_size": "auto", "optimizer.lr": None})

    assert isinstance(outcome.result["recipe"]["batch_size"], int)
    assert outcome.result["recipe"]["optimizer"]["lr"] > 0
    assert len(outcome.result["val_scores"]) == outcome.result["epochs"] == 1
    assert outcome.result["kept_epoch"] == 0


def test_a_replay_without_the_answers_says_what_is_missing(told, tmp_path):
    told()
    (tmp_path / "runs" / "s-000" / "answers" / "val.npz").unlink()

    with pytest.raises(RunError, match="has no answers any more"):
        told()


def test_a_baseline_that_breaks_down_is_told_with_its_finding(told, tmp_path):
    (outcome,) = told(model=Breaks())

    (finding,) = outcome.result["findings"]
    assert outcome.state == "failed"
    assert outcome.answers is None
    assert (finding["rule"], finding["verdict"]) == ("diverged", "yes")
    assert outcome.result["verdict"] == "diverged"
    assert outcome.result["metric"] == "accuracy"
    assert outcome.result["recipe"]["optimizer"]["lr"] == 0.01
    assert outcome.result["epochs"] == 0
    assert "not finite" in outcome.result["message"]


def test_a_baseline_that_broke_down_is_not_trained_again_at_a_replay(told, tmp_path):
    (first,) = told(model=Breaks())
    shutil.rmtree(tmp_path / "runs")

    (again,) = told(model=Breaks())

    assert again.result == first.result
    assert not (tmp_path / "runs").exists()


def test_an_arm_that_cannot_be_trained_has_failed_and_says_why(told, tmp_path):
    weights = {"loss.class_weights": [1.0, 2.0]}

    (outcome,) = told(weights, number=1, role="arm")

    assert outcome.state == "failed"
    assert "2 weights for 3 classes" in outcome.result["message"]
    assert outcome.result["recipe"]["loss"]["class_weights"] == [1.0, 2.0]
    assert outcome.result["findings"] == []
    assert not (tmp_path / "runs" / "s-001").exists()


def test_a_lock_that_somebody_holds_is_no_outcome_and_can_be_gone_on_after(told, tmp_path):
    told(number=1, role="arm")
    (tmp_path / "studies" / "s" / "journal.jsonl").write_bytes(b"")
    (tmp_path / "runs" / "s-001" / "result.json").unlink()
    holder = FileLock(tmp_path / "runs" / "s-001" / "run.lock")
    assert holder.acquire()

    with pytest.raises(RunError, match="is writing this run"):
        told(number=1, role="arm")
    holder.release()
    (outcome,) = told(number=1, role="arm")

    assert outcome.state == "finished"


def full_disk() -> BaseException:
    system = OSError(28, "No space left on device")
    error = explain_full_disk(system, Path("records.jsonl"))
    error.__cause__ = system
    return error


@pytest.mark.parametrize(
    ("error", "role", "number", "expected"),
    [
        (NonFiniteLossError("nan"), "baseline", 0, True),
        (NonFiniteLossError("nan"), "control", 1, True),
        (RecipeError("no"), "baseline", 0, False),
        (RecipeError("no"), "baseline", 1, True),  # a remedy made it
        (RecipeError("no"), "control", 1, False),
        (UsageError("no"), "arm", 2, True),
        (WeightsError("not here"), "arm", 2, True),
        (OutOfResourcesError("too large for the device"), "arm", 2, True),
        (torch.OutOfMemoryError("CUDA out of memory"), "final", 2, True),
        (OutOfResourcesError("too large for the device"), "control", 1, False),
        (full_disk(), "arm", 2, False),
        (RunError("is being written"), "arm", 2, False),
        (DataError("cannot be read"), "arm", 2, False),
        (OSError("gone"), "arm", 2, False),
        (ValueError("of a user's module"), "arm", 2, False),
    ],
)
def test_only_what_a_recipe_is_to_blame_for_is_an_outcome(error, role, number, expected):
    proposal = Proposal(number=number, role=role, recipe=tw.Recipe(), label=role)

    assert is_outcome(error, proposal) is expected


def epochs(folder: RunFolder, *scores: float) -> RunFolder:
    with folder:
        for epoch, score in enumerate(scores):
            folder.append("epoch", {"epoch": epoch, "val": {"score": score}})
    return folder


def test_epochs_before_a_kill_count_for_whether_an_arm_is_hopeless(tmp_path):
    folder = RunFolder.create(tmp_path, recipe_yaml="", manifest={}, run_id="arm")
    proposal = Proposal(number=2, role="arm", recipe=tw.Recipe().changed({"epochs": 8}), label="arm", floor=(0.5,) * 8)
    looked, fresh = Watch(Silent(), proposal), Watch(Silent(), proposal)

    looked.look_back(epochs(folder, 0.6, 0.55))
    looked._see(2, 0.4, 8)
    fresh._see(2, 0.4, 8)

    assert not looked.hopeless
    assert fresh.hopeless


def test_an_arm_that_fell_under_its_floor_before_a_kill_is_hopeless_at_that_epoch(tmp_path):
    folder = RunFolder.create(tmp_path, recipe_yaml="", manifest={}, run_id="arm")
    floor = (-1e9, 0.5, 0.5, 0.5)
    proposal = Proposal(number=2, role="arm", recipe=tw.Recipe().changed({"epochs": 4}), label="arm", floor=floor)
    watch = Watch(Silent(), proposal)

    watch.look_back(epochs(folder, 0.1, 0.2, 0.9))

    assert watch.hopeless
    assert watch.epochs == 2


def test_a_hopeless_arm_that_was_not_told_of_before_a_kill_is_not_trained_further(told, tmp_path):
    arm = {"number": 1, "role": "arm", "floor": (2.0, 2.0, 2.0)}
    (first,) = told({"epochs": 3}, **arm)
    (tmp_path / "studies" / "s" / "journal.jsonl").write_bytes(b"")

    (again,) = told({"epochs": 3}, **arm)

    assert first.state == again.state == "stopped"
    assert again.result == first.result
    assert again.result["message"] == "stopped after epoch 1: far below the control at the same epoch."
    assert again.result["epochs"] == 1


def test_what_is_compared_holds_no_choice_of_the_epoch(told, tmp_path):
    (kept,) = told({"keep": "best", "epochs": 3})
    with np.load(tmp_path / "runs" / "s-000" / "answers" / "val.npz") as saved:
        order = np.argsort(saved["rows"], kind="stable")
        chosen, fitted = saved["tally"][order], saved["cross_fitted"][order]

    np.testing.assert_array_equal(kept.answers, fitted)
    assert fitted.shape == chosen.shape
    assert kept.score == chosen[:, 0].mean()


def test_of_a_run_that_keeps_its_last_epoch_the_answers_are_those_of_its_weights(told, tmp_path):
    (kept,) = told({"keep": "last", "epochs": 3})
    with np.load(tmp_path / "runs" / "s-000" / "answers" / "val.npz") as saved:
        order = np.argsort(saved["rows"], kind="stable")

        assert "cross_fitted" not in saved.files
        np.testing.assert_array_equal(kept.answers, saved["tally"][order])
