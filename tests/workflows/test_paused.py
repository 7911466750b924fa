"""Trainings of a study that pause and go on: the same weights as if they never had, and no epoch twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trainwright as tw
from trainwright.data.dataset import open_dataset
from trainwright.records import Proposal
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows import judge, trial
from trainwright.workflows.options import RunOptions
from trainwright.workflows.trial import carry_out

CHANGES = {"epochs": 3, "ema_decay": 0.9}


@pytest.fixture
def carried_out(
    tmp_path: Path, digits: Path, recipe: tw.Recipe, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any] | None]:
    """(number, until=…, before=…, options of a run) → the `tell` record of the piece, in the run folder `s-001`."""
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)
    data = open_dataset(digits)

    def go(number: int, *, until: int | None, before: int = 0, changes: Any = CHANGES, **more: Any) -> Any:
        proposal = Proposal(
            number=number,
            role="trial",
            recipe=recipe.changed(changes),
            label="mine",
            continues=None if number == 1 else 1,
            epochs_now=until,
            epochs_before=before,
        )
        options = RunOptions(runs=tmp_path / "runs", workers=1, mirrors=(), **more)
        return carry_out(proposal, tmp_path / "runs" / "s-001", data=data, options=options)

    return go


def test_a_training_in_pieces_ends_in_the_same_weights(carried_out, train, tmp_path):
    whole = train(CHANGES, runs=tmp_path / "whole")

    pieces = [carried_out(1, until=1), carried_out(4, until=2, before=1), carried_out(6, until=None, before=2)]

    result = RunFolder.open(tmp_path / "runs" / "s-001").result()
    assert [piece["state"] for piece in pieces] == ["paused", "paused", "finished"]
    assert [piece["result"]["epochs"] for piece in pieces] == [1, 2, 3]
    assert result["weights_sha256"] == whole.result["weights_sha256"]
    assert pieces[2]["score"] == whole.result["score"]["val"]


def test_a_paused_training_has_the_score_of_its_best_epoch(carried_out, tmp_path):
    record = carried_out(1, until=2)

    scores = [epoch["val"]["score"] for epoch in RunFolder.open(tmp_path / "runs" / "s-001").records("epoch")]
    assert record["result"]["val_scores"] == scores
    assert record["score"] == record["result"]["score"]["val"] == max(scores)


def test_its_folder_says_that_a_study_paused_it(carried_out, tmp_path):
    carried_out(1, until=1)
    paused = RunFolder.open(tmp_path / "runs" / "s-001").status()

    carried_out(2, until=None, before=1)

    assert (paused["state"], paused["message"]) == ("paused", "by the study s, which goes on with it or leaves it")
    assert RunFolder.open(tmp_path / "runs" / "s-001").status()["state"] == "finished"


def test_where_the_last_epoch_is_kept_its_score_counts(carried_out, tmp_path):
    record = carried_out(1, until=2, changes={**CHANGES, "keep": "last"})

    scores = [epoch["val"]["score"] for epoch in RunFolder.open(tmp_path / "runs" / "s-001").records("epoch")]
    assert record["score"] == scores[-1]


def test_a_pause_that_nobody_was_told_of_is_told_without_training(carried_out, tmp_path):
    first = carried_out(1, until=1)

    again = carried_out(1, until=1)

    assert again == first | {"seconds": again["seconds"]}
    assert sum(1 for _ in RunFolder.open(tmp_path / "runs" / "s-001").records("epoch")) == 1


def test_an_epoch_that_was_recorded_and_not_saved_before_a_kill_is_trained_again(carried_out, train, tmp_path):
    """A kill between the record of an epoch and its checkpoint: the newest one is that of the epoch before."""
    whole = train(CHANGES, runs=tmp_path / "whole")
    carried_out(1, until=2)
    newest = max((tmp_path / "runs" / "s-001" / "checkpoints").glob("step-*.json"))
    newest.unlink()

    again = carried_out(1, until=2)
    carried_out(2, until=None, before=2)

    result = RunFolder.open(tmp_path / "runs" / "s-001").result()
    assert (again["state"], again["result"]["epochs"]) == ("paused", 2)
    assert result["weights_sha256"] == whole.result["weights_sha256"]


def test_a_piece_that_is_stopped_in_its_middle_goes_on_to_where_it_was_to_pause(carried_out, train, tmp_path, polls):
    whole = train(CHANGES, runs=tmp_path / "whole")

    stopped = carried_out(1, until=2, stop_asked=polls(9))
    again = carried_out(1, until=2)
    carried_out(2, until=None, before=2)

    assert stopped is None
    assert (again["state"], again["result"]["epochs"]) == ("paused", 2)
    assert RunFolder.open(tmp_path / "runs" / "s-001").result()["weights_sha256"] == whole.result["weights_sha256"]


def test_seconds_of_a_piece_are_those_of_its_own_epochs(carried_out, tmp_path, monkeypatch):
    carried_out(1, until=2)
    folder = RunFolder.open(tmp_path / "runs" / "s-001")
    before = sum(epoch["seconds"] for epoch in folder.records("epoch"))
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: 0.0))  # the wall-clock says nothing

    record = carried_out(2, until=None, before=2)

    all_of_it = sum(epoch["seconds"] for epoch in folder.records("epoch"))
    assert record["seconds"] == pytest.approx(all_of_it - before)
