"""The learning curve of real, tiny trainings: which runs it is made of, and that none is made twice."""

from __future__ import annotations

import pytest

from trainwright.errors import UsageError
from trainwright.tracking.runs import list_runs
from trainwright.workflows import judge
from trainwright.workflows.library import open_run
from trainwright.workflows.more_data import more_data
from trainwright.workflows.options import RunOptions

FRACTIONS = (0.25, 0.5, 1.0)


@pytest.fixture
def options(tmp_path, monkeypatch) -> RunOptions:
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)
    return RunOptions(runs=tmp_path / "runs", workers=1)


@pytest.mark.slow
def test_the_curve_is_made_of_recorded_runs_of_as_many_steps(digits, recipe, options) -> None:
    found = more_data(digits, recipe, fractions=FRACTIONS, options=options)

    points = found.answer.points
    assert [point.images for point in points] == [24, 51, 102]  # of 34 a class: 8 or 9, 17, 34
    assert {run for point in points for run in point.runs} == {summary.run_id for summary in list_runs(options.runs)}
    epochs = {point.images: [open_run(run, options.runs).result["epochs"] for run in point.runs] for point in points}
    assert epochs == {24: [12, 12], 51: [4, 4], 102: [2, 2]}  # of 1, 3 and 6 steps: 12 steps each


@pytest.mark.slow
def test_what_was_trained_already_is_not_trained_again(digits, recipe, options, polls) -> None:
    with pytest.raises(KeyboardInterrupt) as stopped:
        more_data(digits, recipe, fractions=FRACTIONS, options=options, stop_asked=polls(40))
    assert stopped.value.__notes__ == ["Runs that have finished are kept: the same command goes on where it stopped."]
    before = {summary.run_id for summary in list_runs(options.runs)}

    found = more_data(digits, recipe, fractions=FRACTIONS, options=options)
    again = more_data(digits, recipe, fractions=FRACTIONS, options=options)

    after = {summary.run_id for summary in list_runs(options.runs)}
    assert before < after
    assert len(after) == 6
    assert again.answer.to_json() == found.answer.to_json()


@pytest.mark.parametrize("fractions", [(0.5, 1.0), (0.25, 0.5, 0.75), (0.5, 0.25, 1.0), (0.0, 0.5, 1.0)])
def test_fractions_that_make_no_curve_are_refused(digits, recipe, options, fractions) -> None:
    with pytest.raises(UsageError, match="ascending fractions up to 1"):
        more_data(digits, recipe, fractions=fractions, options=options)


def test_one_seed_is_refused(digits, recipe, options) -> None:
    with pytest.raises(UsageError, match="one does not show the noise between runs"):
        more_data(digits, recipe, seeds=1, options=options)


def test_parts_too_small_to_learn_from_are_refused(digits, recipe, options) -> None:
    with pytest.raises(UsageError, match="of so few nothing is learned"):
        more_data(digits, recipe, fractions=(0.03, 0.5, 1.0), options=options)
