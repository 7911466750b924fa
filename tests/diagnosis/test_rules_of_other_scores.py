"""Rules on scores that are not shares of images: R² below 0 and errors above 1, mean IoU, errors nobody measured."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import Gap, gap
from trainwright.diagnosis.rules import (
    RULES,
    batch_norm_broken,
    diverged,
    judge,
    over_confident,
    overfits,
    still_improving,
    validation_too_small,
)
from trainwright.records import Interval, TrainErrors


def gap_of(train: Interval, val: Interval, *, answer: Any, images: int | None = None) -> Gap:
    difference = val.value - train.value
    return Gap(
        interval=Interval(value=difference, low=difference - 0.05, high=difference + 0.05),
        margin=max(0.02, 0.2 * val.value),
        overfits=answer,
        images_that_would_tell=images,
        cross_fitted=False,
        val_error=val,
        train_error=train,
        val_count=100,
    )


def about(error: float, half: float = 0.04) -> Interval:
    return Interval(value=error, low=max(0.0, error - half), high=error + half)


def regression(**changes: Any) -> Evidence:
    evidence = Evidence(
        metric="R²",
        gap=gap_of(about(0.1), about(1.5), answer="yes"),
        errors=TrainErrors(running=0.3, train_mode=0.2, augmented=0.15, clean=0.1, val=1.5),
        train_loss=(1.0, 0.4, 0.3, 0.25, 0.2),
        val_loss=(1.0, 1.2, 1.4, 1.6, 1.8),
        train_score=(-3.0, 0.5, 0.7, 0.8, 0.9),
        val_score=(-8.0, -0.2, -0.3, -0.4, -0.5),
        val_count=100,
        train_count=400,
        chance_score=0.0,
        guess_loss=1.0,
        probabilistic=False,
    )
    return dataclasses.replace(evidence, **changes)


def test_an_unexplained_share_above_one_is_said_and_judged() -> None:
    word, findings = judge(regression())

    assert word == "overfits"
    assert findings[0].evidence == (
        "Unseen error (1 − R²) 150.0 %, train error 10.0 %: gap 140.0 points (135.0 to 145.0), margin 30.0."
    )


def test_a_score_below_zero_is_said_as_it_is_and_judged_like_zero() -> None:
    finding = diverged(regression(train_score=(-0.2, -0.35), train_loss=(1.0, 1.4)))

    assert finding.verdict == "yes"
    assert finding.evidence.startswith("Final train R² -35.0 %; chance 0.0 %: no better than chance")


def test_answers_that_are_not_probabilities_are_never_too_sure() -> None:
    finding = over_confident(regression())

    assert (finding.verdict, finding.evidence) == (
        "no",
        "The answers are not probabilities, so they cannot be too sure.",
    )


def test_a_rising_cross_entropy_with_a_falling_mean_iou_names_it() -> None:
    rising = (0.6, 0.45, 0.5, 0.56, 0.6, 0.66, 0.7)

    finding = over_confident(
        regression(
            metric="mean IoU",
            probabilistic=True,
            val_loss=rising,
            val_score=(0.7, 0.8, 0.78, 0.76, 0.74, 0.72, 0.70),
        )
    )

    assert "unseen mean IoU -10.0 points" in finding.evidence
    assert "The mean IoU is lost too" in finding.evidence


def test_errors_above_one_count_as_one_when_batch_norm_is_judged() -> None:
    errors = TrainErrors(running=1.4, train_mode=0.1, augmented=1.3, clean=3.0, val=3.1)

    finding = batch_norm_broken(regression(errors=errors))

    assert finding.verdict == "yes"
    assert finding.figures["excess"] == pytest.approx(0.9)
    assert finding.evidence.startswith("Train error (1 − R²) 300.0 % in eval mode")


def test_the_slope_is_that_of_the_metric() -> None:
    assert "the unseen mean IoU changed by" in still_improving(regression(metric="mean IoU")).evidence


def test_images_for_one_point_follow_from_the_root_of_their_number() -> None:
    judged = gap_of(about(0.3), about(0.36), answer="cannot-tell")

    finding = validation_too_small(regression(gap=judged))

    # ±4 points with 100 images: ±1 point with 16 times as many
    assert "1,600 images would give the unseen error to within 1.0 points." in finding.evidence


def test_an_undefined_score_is_an_answer_of_every_rule_and_never_a_crash() -> None:
    nothing = np.zeros((5, 2))
    unknown = gap(nothing, nothing, score=lambda tally: tally[:, 0] / tally[:, 1])
    errors = TrainErrors(running=math.nan, train_mode=math.nan, augmented=math.nan, clean=math.nan, val=math.nan)

    word, findings = judge(
        regression(gap=unknown, errors=errors, train_score=(math.nan,) * 5, val_score=(math.nan,) * 5)
    )

    assert word == "cannot-tell"
    assert len(findings) == len(RULES)
    assert "nan" not in " ".join(finding.evidence for finding in findings)


def test_accuracy_goes_without_saying() -> None:
    finding = overfits(regression(metric="accuracy"))

    assert finding.evidence.startswith("Unseen error 150.0 %")
