from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.gap import Gap, cross_fitted_gap, gap
from trainwright.diagnosis.rules import (
    RULES,
    batch_norm_broken,
    diverged,
    gap_parts,
    judge,
    over_confident,
    overfits,
    still_improving,
    underfits,
    validation_too_small,
    verdict,
)
from trainwright.records import Interval, TrainErrors

FALLING = (0.65, 0.5, 0.4, 0.33, 0.28, 0.25, 0.23, 0.22, 0.215, 0.21, 0.21, 0.21)
RISING = (0.6, 0.7, 0.76, 0.8, 0.83, 0.85, 0.86, 0.86, 0.862, 0.859, 0.861, 0.86)


def gap_of(train_right: int, val_right: int, n: int = 1000) -> Gap:
    return gap(np.arange(n) < train_right, np.arange(n) < val_right)


def healthy(**changes: Any) -> Evidence:
    evidence = Evidence(
        gap=gap_of(9700, 9690, n=10_000),
        errors=TrainErrors(running=0.04, train_mode=0.035, augmented=0.032, clean=0.03, val=0.031),
        train_loss=FALLING,
        val_loss=FALLING,
        train_score=RISING,
        val_score=RISING,
        classes=("cat", "dog"),
        val_count=10_000,
        train_count=40_000,
        chance_score=0.5,
        guess_loss=math.log(2),
    )
    return dataclasses.replace(evidence, **changes)


def nothing_evaluated(**changes: Any) -> Evidence:
    empty: dict[str, Any] = {"train_loss": (), "val_loss": (), "train_score": (), "val_score": ()}
    return healthy(gap=None, errors=None, **empty, **changes)


def test_a_healthy_run_generalizes_and_nothing_is_found_to_hold() -> None:
    word, findings = judge(
        healthy(errors=TrainErrors(running=0.03, train_mode=0.03, augmented=0.03, clean=0.03, val=0.03))
    )

    assert word == "generalizes"
    assert [finding.rule for finding in findings if finding.verdict == "yes"] == []


def test_every_rule_says_what_it_is_and_where_it_is_from() -> None:
    assert [rule.__name__ for rule in RULES if "Source: " not in (rule.__doc__ or "")] == []


def test_every_rule_answers_under_its_own_name_when_nothing_was_evaluated() -> None:
    word, findings = judge(nothing_evaluated())

    assert word == "cannot-tell"
    assert {finding.rule for finding in findings} == {rule.__name__.replace("_", "-") for rule in RULES}
    assert {finding.verdict for finding in findings} == {"cannot-tell"}


def test_what_holds_comes_first_and_what_does_not_last() -> None:
    _, findings = judge(healthy(gap=gap_of(980, 750)))

    order = [("yes", "cannot-tell", "no").index(finding.verdict) for finding in findings]
    assert findings[0].rule == "overfits"
    assert order == sorted(order)


def test_overfits_says_both_errors_the_gap_and_the_margin() -> None:
    finding = overfits(healthy(gap=gap_of(977, 749)))

    assert finding.verdict == "yes"
    assert finding.evidence == ("Unseen error 25.1 %, train error 2.3 %: gap 22.8 points (20.0 to 25.7), margin 5.0.")
    assert finding.advice == (
        "To try: augmentation, weight decay, dropout, a smaller network, early stopping, more images. None of them is "
        "proven for this data: train each beside an unchanged control and compare on the same images."
    )
    assert finding.figures["gap"] == pytest.approx(0.228)


def test_overfits_says_when_the_checkpoint_was_chosen_on_the_same_images() -> None:
    right = np.arange(1000) < 700

    finding = overfits(healthy(gap=cross_fitted_gap(np.ones((1, 1000)), right[None])))

    assert finding.evidence.endswith("margin 6.0 (the checkpoint was chosen on the same images, which is allowed for).")


def test_a_gap_that_cannot_be_told_says_how_many_images_would_tell() -> None:
    judged = gap_of(190, 178, n=200)

    finding = overfits(healthy(gap=judged))

    assert finding.verdict == "cannot-tell"
    assert finding.advice == (
        f"About {judged.images_that_would_tell:,} images for validation would tell, if the rates stay as they are; there are 200."
    )


def test_gap_parts_names_every_part_and_the_largest() -> None:
    errors = TrainErrors(running=0.11, train_mode=0.062, augmented=0.05, clean=0.023, val=0.251)

    finding = gap_parts(healthy(gap=gap_of(977, 749), errors=errors))

    assert finding.verdict == "yes"
    assert finding.evidence == (
        "From the train error shown during training, 11.0 %, to the unseen error, 25.1 %: averaging lag -4.8, dropout and "
        "batch norm -1.2, augmentation -2.7, generalization 22.8 points (20.0 to 25.7). Generalization is the largest part."
    )


def test_the_first_part_is_named_after_mixtures_where_images_were_mixed() -> None:
    """Only the running error sees mixtures: its distance from the error in train mode is mostly theirs."""
    errors = TrainErrors(running=0.4, train_mode=0.06, augmented=0.05, clean=0.03, val=0.031)

    plain, mixed = (gap_parts(healthy(errors=errors, mixed=mixed)) for mixed in (False, True))

    assert "averaging lag -34.0" in plain.evidence
    assert "averaging lag and mixtures -34.0" in mixed.evidence


def test_statistics_learned_from_mixtures_are_the_first_suspect() -> None:
    errors = TrainErrors(running=0.4, train_mode=0.05, augmented=0.05, clean=0.6, val=0.6)

    finding = batch_norm_broken(healthy(errors=errors, mixed=True))

    assert finding.verdict == "yes"
    assert finding.advice.startswith(
        "Its statistics were learned from mixtures of images: train once without mixup and CutMix."
    )


def test_statistics_of_a_few_steps_are_not_called_broken() -> None:
    """Running averages that begin at 0 and 1 are hardly anywhere else after a dozen steps."""
    errors = TrainErrors(running=0.4, train_mode=0.05, augmented=0.05, clean=0.6, val=0.6)

    few, enough = (batch_norm_broken(healthy(errors=errors, steps=steps)) for steps in (12, 30))

    assert (few.verdict, enough.verdict) == ("cannot-tell", "yes")
    assert "After 12 steps" in few.evidence


def test_gap_parts_says_when_augmentation_is_what_differs() -> None:
    errors = TrainErrors(running=0.2, train_mode=0.2, augmented=0.19, clean=0.03, val=0.031)

    finding = gap_parts(healthy(errors=errors))

    assert finding.verdict == "no"
    assert finding.evidence.endswith("The largest part is augmentation.")


def test_gap_parts_without_an_error_in_train_mode_cannot_tell() -> None:
    errors = TrainErrors(running=0.2, train_mode=math.nan, augmented=0.19, clean=0.03, val=0.031)

    assert gap_parts(healthy(errors=errors)).verdict == "cannot-tell"


def test_a_task_without_a_running_error_begins_at_the_error_in_train_mode() -> None:
    errors = TrainErrors(running=math.nan, train_mode=0.2, augmented=0.19, clean=0.03, val=0.031)

    finding = gap_parts(healthy(errors=errors, metric="mAP"))

    assert finding.verdict == "no"
    assert finding.evidence.startswith(
        "From the train error (1 − mAP) in train mode, 20.0 %, to the unseen error, 3.1 %: dropout and batch norm -1.0, "
        "augmentation -16.0, generalization"
    )


def test_a_loss_that_is_not_finite_diverged_and_the_step_is_named() -> None:
    evidence = nothing_evaluated(diverged=True, nonfinite_step=17)

    finding = diverged(evidence)

    assert finding.verdict == "yes"
    assert finding.evidence == "The training loss stopped being a finite number at step 17."
    assert judge(evidence)[0] == "diverged"


def test_a_train_loss_of_nan_diverged() -> None:
    assert diverged(healthy(train_loss=(0.6, math.nan))).verdict == "yes"


def test_a_score_at_chance_after_a_loss_far_above_guessing_diverged() -> None:
    finding = diverged(healthy(train_loss=(40.0, 2.0, 0.693), train_score=(0.5, 0.5, 0.5)))

    assert finding.verdict == "yes"
    assert finding.evidence == (
        "Final train score 50.0 % (49.0 to 51.0); chance 50.0 %: no better than chance, and the loss blew up; "
        "train loss from 40.000 to 0.693."
    )


def test_a_run_that_never_began_to_learn_is_neither_diverged_nor_generalizing() -> None:
    word, findings = judge(
        healthy(train_loss=(0.694, 0.693, 0.693), train_score=(0.5, 0.5, 0.5), gap=gap_of(5000, 5000, 10_000))
    )

    assert word == "cannot-tell"
    assert next(finding for finding in findings if finding.rule == "diverged").advice == (
        "Training at a tenth and at ten times the learning rate would tell."
    )


def test_a_handful_of_images_cannot_tell_a_score_from_chance() -> None:
    assert diverged(healthy(train_score=(0.6,), train_loss=(0.7,), val_count=20)).verdict == "cannot-tell"


def test_a_high_train_error_without_a_gap_asks_for_probes_and_is_never_a_yes() -> None:
    finding = underfits(healthy(gap=gap_of(7000, 6990, n=10_000)))

    assert finding.verdict == "cannot-tell"
    assert finding.evidence == "Train error 30.0 % (29.1 to 30.9), with no gap that surely explains it."
    assert "fit-64" in finding.advice


@pytest.mark.parametrize(("train", "val"), [(9700, 9690), (8000, 5000)])
def test_a_low_train_error_or_a_large_gap_is_no_underfitting(train: int, val: int) -> None:
    assert underfits(healthy(gap=gap_of(train, val, n=10_000))).verdict == "no"


def test_a_score_that_still_rises_at_the_end_is_under_trained() -> None:
    finding = still_improving(healthy(val_score=tuple(0.5 + 0.02 * epoch for epoch in range(12))))

    assert finding.verdict == "yes"
    assert finding.evidence.startswith("Over the last 4 epochs the unseen score changed by 6.0 points (6.0 to 6.0)")


def test_a_loss_that_still_falls_while_the_score_holds_is_under_trained() -> None:
    falling = tuple(1.0 - 0.03 * epoch for epoch in range(12))

    assert still_improving(healthy(val_loss=falling, val_score=(0.8,) * 12)).verdict == "yes"


def test_a_flat_end_is_not_under_trained() -> None:
    assert still_improving(healthy()).verdict == "no"


def test_a_noisy_end_cannot_be_told() -> None:
    noisy = (*RISING[:8], 0.82, 0.88, 0.83, 0.87)

    assert still_improving(healthy(val_score=noisy)).verdict == "cannot-tell"


def test_three_epochs_have_no_slope() -> None:
    finding = still_improving(healthy(val_score=RISING[:3], val_loss=FALLING[:3]))

    assert finding.verdict == "cannot-tell"
    assert finding.evidence == "3 epochs are too few for a slope; 4 are needed."


def test_a_rising_loss_at_an_even_score_is_over_confidence() -> None:
    rising = (0.6, 0.5, 0.45, 0.5, 0.56, 0.6, 0.66, 0.7)

    finding = over_confident(healthy(val_loss=rising, val_score=(0.7, 0.75, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8)))

    assert finding.verdict == "yes"
    assert finding.evidence.startswith(
        "Unseen loss lowest at epoch 3 of 8 (0.450); since then loss 0.253 (0.234 to 0.272)"
    )
    assert "label smoothing" in finding.advice


def test_a_rising_loss_with_a_falling_score_is_not_over_confidence_alone() -> None:
    rising = (0.6, 0.45, 0.5, 0.56, 0.6, 0.66, 0.7)

    finding = over_confident(healthy(val_loss=rising, val_score=(0.7, 0.8, 0.78, 0.76, 0.74, 0.72, 0.70)))

    assert finding.verdict == "no"
    assert "Accuracy is lost too" in finding.evidence


def test_a_loss_that_is_lowest_at_the_end_is_not_over_confident() -> None:
    assert over_confident(healthy()).verdict == "no"


def test_losses_that_are_not_finite_do_not_hide_the_lowest() -> None:
    assert over_confident(healthy(val_loss=(math.nan, *FALLING[1:]))).verdict == "no"


def test_a_far_larger_error_in_eval_mode_means_broken_batch_norm() -> None:
    errors = TrainErrors(running=0.1, train_mode=0.08, augmented=0.4, clean=0.4, val=0.42)

    finding = batch_norm_broken(healthy(errors=errors, val_count=1000))

    assert finding.verdict == "yes"
    assert finding.evidence == (
        "Train error 40.0 % in eval mode on clean images, 8.0 % in train mode: 32.0 points (28.5 to 35.4) more, margin 8.0."
    )


def test_few_scored_images_cannot_tell_broken_batch_norm() -> None:
    errors = TrainErrors(running=0.1, train_mode=0.08, augmented=0.15, clean=0.15, val=0.15)

    assert batch_norm_broken(healthy(errors=errors, val_count=60)).verdict == "cannot-tell"


def test_too_few_validation_images_are_named_with_the_number_that_would_do() -> None:
    finding = validation_too_small(healthy(gap=gap_of(190, 178, n=200)))

    assert finding.verdict == "yes"
    assert finding.evidence == "200 images give the unseen error to within 4.4 points: too little to judge the gap."
    assert finding.figures["images_that_would_tell"] > 200


def test_a_gap_on_the_margin_is_not_blamed_on_the_number_of_images() -> None:
    finding = validation_too_small(healthy(gap=gap_of(920, 900)))

    assert finding.verdict == "cannot-tell"
    assert finding.advice == (
        "If the gap is what it seems, it lies so near the margin that even 100 times as many validation images would not tell; "
        "more of them would show whether it is."
    )


def test_a_settled_gap_has_enough_images() -> None:
    assert validation_too_small(healthy(gap=gap_of(980, 750))).verdict == "no"


@pytest.mark.parametrize(
    ("train_right", "val_right", "word"), [(980, 750, "overfits"), (45, 43, "generalizes"), (950, 930, "cannot-tell")]
)
def test_the_verdict_is_one_word(train_right: int, val_right: int, word: str) -> None:
    n = 50_000 if word == "generalizes" else 1000
    scale = 1000 if word == "generalizes" else 1
    evidence = healthy(gap=gap_of(train_right * scale, val_right * scale + 1500 * (scale > 1), n=n))

    assert judge(evidence)[0] == word
    assert verdict(judge(evidence)[1]) == word


@pytest.mark.parametrize(("score", "answer"), [(0.012, "cannot-tell"), (0.6, "no")])
def test_a_trace_of_a_score_that_is_no_share_of_images_is_nothing_learned(score: float, answer: str) -> None:
    """mAP and R² begin at 0, which every training is above by a hair."""
    finding = diverged(healthy(train_score=(score,) * 12, chance_score=0.0, counts_right=False, metric="mAP 50"))

    assert finding.verdict == answer


def test_an_undefined_score_is_not_said_to_be_an_epoch_that_was_not_evaluated() -> None:
    finding = diverged(healthy(train_score=(math.nan,) * 12, metric="R²"))

    assert finding.verdict == "cannot-tell"
    assert finding.evidence == "The R² is not defined on these images."


def test_broken_batch_norm_is_judged_by_the_measured_excess_where_there_is_one() -> None:
    """Errors above 1, as 1 − R² has them, are no shares: only resampled images tell how far apart they are."""
    errors = TrainErrors(running=0.6, train_mode=1.5, augmented=3.0, clean=3.0, val=3.0)
    broken = healthy(errors=errors, metric="R²", eval_excess=Interval(value=1.5, low=1.1, high=1.9))

    finding = batch_norm_broken(broken)

    assert finding.verdict == "yes"
    assert "150.0 points (110.0 to 190.0) more" in finding.evidence
