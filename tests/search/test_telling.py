"""What the coach says of a study's end, from made-up outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainwright.diagnosis.comparison import Comparison
from trainwright.recipe import Recipe
from trainwright.records import Interval, Outcome
from trainwright.search import telling
from trainwright.search.rounds import Incumbent


def outcome(score: float, **verdicts: str) -> Outcome:
    found = [{"rule": rule.replace("_", "-"), "verdict": verdict} for rule, verdict in verdicts.items()]
    result: dict[str, Any] = {
        "metric": "accuracy",
        "verdict": "overfits",
        "gap": {"value": 0.2, "low": 0.1, "high": 0.3},
        "findings": found,
    }
    answers = np.zeros((4, 1))
    return Outcome(number=0, run="run-000", state="finished", score=score, seconds=1.0, result=result, answers=answers)


def summary(baselines: list[Outcome], judged: Outcome) -> str:
    better = Comparison(gain=Interval(value=0.2, low=0.1, high=0.3), p=0.001, images=4, seeds=(1, len(baselines)))
    incumbent = Incumbent(recipe=Recipe(), chosen=judged, fresh=[judged], remedies=("mixup",))
    return telling.summary(baselines, incumbent, better, tried=1)


def test_a_gain_over_several_trainings_of_the_baseline_names_their_mean():
    said = summary([outcome(0.7), outcome(0.6)], outcome(0.85))

    assert "20.0 points (10.0 to 30.0) better than 2 trainings of the baseline's recipe (mean accuracy 0.650)" in said


def test_a_gain_over_one_training_is_over_the_baseline():
    assert "better than the baseline on the same 4 images" in summary([outcome(0.7)], outcome(0.9))


def test_what_was_found_at_first_is_followed_to_the_end():
    before = outcome(0.7, overfits="yes", batch_norm_broken="yes", over_confident="yes", twins="no")
    after = outcome(0.9, overfits="yes", batch_norm_broken="no", over_confident="cannot-tell", twins="yes")

    said = summary([before], after)

    assert said.endswith(
        "Of what was found at first: still there: overfits; gone: batch-norm-broken; cannot be told any more: over-confident."
    )


def test_where_no_remedy_was_tried_none_is_said_to_have_failed():
    held = Incumbent(recipe=Recipe(), chosen=outcome(0.7), fresh=[outcome(0.7)])

    said = telling.summary([outcome(0.7)], held, None, tried=0)

    assert "No remedy was tried: the recipe stays as it was." in said


def test_what_is_believed_has_a_line_for_each_finding():
    found = [
        {"rule": "overfits", "verdict": "yes", "evidence": "The gap is large. Margin 2."},
        {"rule": "twins", "verdict": "no", "evidence": "None."},
        {"rule": "over-confident", "verdict": "yes", "evidence": "Too sure."},
    ]
    sure = Outcome(
        number=0, run="run-000", state="finished", score=0.5, seconds=1.0, result={"findings": found}, answers=None
    )

    assert telling.believed(sure) == "overfits: The gap is large. Margin 2.\nover-confident: Too sure."
