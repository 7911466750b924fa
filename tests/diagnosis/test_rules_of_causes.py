"""What keeps the train error high: each cause by its probe."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from trainwright.diagnosis.curves import step_losses
from trainwright.diagnosis.evidence import Evidence, ProbeResult, StepLosses
from trainwright.diagnosis.gap import Gap, gap
from trainwright.diagnosis.labels import LabelNoise
from trainwright.diagnosis.recorded import as_json, from_json
from trainwright.diagnosis.rules import first_fault, judge
from trainwright.diagnosis.rules.data import noisy_labels
from trainwright.diagnosis.rules.fit import (
    CAUSES,
    cannot_fit,
    label_ceiling,
    learning_rate,
    over_regularized,
    probes_that_would_tell,
    too_small,
    under_trained,
    underfits,
)
from trainwright.diagnosis.rules.training import diverged, saturated_early, unstable
from trainwright.records import Interval

RULES = {
    "learning-rate": learning_rate,
    "no-regularization": over_regularized,
    "longer": under_trained,
    "wider": too_small,
}


def gap_of(train_right: int, val_right: int, n: int = 1000) -> Gap:
    return gap(np.arange(n) < train_right, np.arange(n) < val_right)


def within(value: float, half: float = 0.02) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def probe(name: str, train_drop: float, val_drop: float, **more: Any) -> ProbeResult:
    return ProbeResult(name=name, train_drop=within(train_drop), val_drop=within(val_drop), **more)


def run(*probes: ProbeResult, **changes: Any) -> Evidence:
    """A run with a train error of 30 % and no gap."""
    evidence = Evidence(
        gap=gap_of(700, 698),
        train_loss=(1.0, 0.9, 0.8),
        val_loss=(1.0, 0.9, 0.8),
        train_score=(0.5, 0.6, 0.7),
        val_score=(0.5, 0.6, 0.7),
        val_count=1000,
        train_count=4000,
        chance_score=0.1,
        probes={probe.name: probe for probe in probes},
    )
    return dataclasses.replace(evidence, **changes)


@pytest.mark.parametrize("name", RULES)
def test_a_probe_that_lowers_both_errors_beyond_chance_proves_its_cause(name: str) -> None:
    finding = RULES[name](run(probe(name, 0.2, 0.15, before={"epochs": 5}, changes={"epochs": 10})))

    assert finding.verdict == "yes"
    assert finding.evidence.endswith(
        "Train error 30.0 % (27.2 to 32.9). With epochs 5 → 10 it falls by 20.0 points (18.0 to 22.0), the unseen error by "
        "15.0 points (13.0 to 17.0)."
    )


@pytest.mark.parametrize("name", RULES)
def test_a_train_error_that_falls_without_gain_on_unseen_images_is_left_alone(name: str) -> None:
    assert RULES[name](run(probe(name, 0.2, -0.05))).verdict == "no"


@pytest.mark.parametrize("name", RULES)
def test_a_fall_of_surely_less_than_two_points_is_none(name: str) -> None:
    assert RULES[name](run(probe(name, 0.0, 0.1))).verdict == "no"
    assert RULES[name](run(probe(name, 0.1, 0.0))).verdict == "no"


@pytest.mark.parametrize("name", RULES)
def test_a_fall_that_may_be_chance_cannot_be_told(name: str) -> None:
    assert RULES[name](run(probe(name, 0.2, 0.03))).verdict == "cannot-tell"


@pytest.mark.parametrize("name", RULES)
def test_without_its_probe_a_cause_cannot_be_told_and_the_probe_is_named(name: str) -> None:
    finding = RULES[name](run())

    assert finding.verdict == "cannot-tell"
    assert finding.advice == f"The probe {name} would tell."


@pytest.mark.parametrize("name", RULES)
def test_what_needs_no_probe_is_no_cause_and_says_why(name: str) -> None:
    finding = RULES[name](run(ProbeResult(name=name, state="needless", note="There is none.")))

    assert finding.verdict == "no"
    assert finding.evidence.endswith("There is none.")


def test_a_low_train_error_has_no_cause() -> None:
    answers = {finding.rule: finding.verdict for finding in judge(run(gap=gap_of(990, 980)))[1]}

    assert {answers[cause] for cause in CAUSES} == {"no"}
    assert probes_that_would_tell(run(gap=gap_of(990, 980))) == ()


def test_the_learning_rate_is_said_to_be_too_low_or_too_high() -> None:
    rates = {"changes": {"optimizer.lr": 0.01}, "before": {"optimizer.lr": 0.0001}}
    swapped = {"changes": rates["before"], "before": rates["changes"]}

    low, high = (learning_rate(run(probe("learning-rate", 0.2, 0.2, **values))) for values in (rates, swapped))

    assert low.evidence.startswith("The learning rate is too low. Train error")
    assert high.evidence.startswith("The learning rate is too high. Train error")
    assert low.advice == "To try: optimizer.lr 0.01."


def test_a_learning_rate_that_learned_better_is_among_the_figures() -> None:
    rates = {"changes": {"optimizer.lr": 0.01}, "before": {"optimizer.lr": 0.3}}

    better, alike = (learning_rate(run(probe("learning-rate", drop, drop, **rates))) for drop in (0.2, 0.0))

    assert better.figures["better_lr"] == 0.01
    assert "better_lr" not in alike.figures


def test_a_rate_that_the_range_test_speaks_against_needs_a_smaller_gain_as_proof() -> None:
    values = {"changes": {"optimizer.lr": 0.01}, "before": {"optimizer.lr": 0.3}, "outside": True}

    answers = {
        drop: learning_rate(run(probe("learning-rate", 0.2, drop, **values))).verdict for drop in (0.03, 0.015, 0.005)
    }

    assert answers == {0.03: "yes", 0.015: "cannot-tell", 0.005: "cannot-tell"}  # each within two points


def test_without_a_probe_the_learning_rate_tells_how_far_the_loss_fell() -> None:
    slow = StepLosses(steps=300, start=2.3, end=2.07, spikes=0, largest=0.0)

    assert learning_rate(run(step_losses=slow)).evidence.endswith(
        "The loss of the steps fell by 10.0 % of where it began, with 0 spikes."
    )


def test_a_curve_that_still_rises_is_under_trained_once_the_rate_is_not_to_blame() -> None:
    rising = tuple(0.3 + 0.03 * epoch for epoch in range(12))
    rate = ProbeResult(name="learning-rate", state="needless", note="The range test suggests the same.")

    alone, known = (under_trained(run(*probes, val_score=rising)) for probes in ((), (rate,)))

    assert alone.verdict == "cannot-tell"
    assert known.verdict == "yes"


@pytest.mark.parametrize(("error", "answer"), [(0.01, "no"), (0.15, "cannot-tell"), (0.6, "yes")])
def test_a_network_that_does_not_fit_a_few_images_has_a_fault(error: float, answer: str) -> None:
    few = ProbeResult(name="fit-64", steps=300, train_error=within(error, 0.01))

    assert cannot_fit(run(few)).verdict == answer


def test_a_few_images_that_are_fitted_better_than_all_are_no_sign_of_a_fault() -> None:
    """A small network may not reach a mean IoU of 0.9 on 64 maps in 300 steps, and learn all the same."""
    few = ProbeResult(name="fit-64", steps=300, train_error=within(0.4, 0.03))

    better, alike = (cannot_fit(run(few, gap=gap_of(right, 380))) for right in (400, 600))

    assert (better.verdict, alike.verdict) == ("cannot-tell", "yes")
    assert better.evidence.endswith(
        "surely less than the 60.0 % on all train images: it learns, though it does not fit them."
    )


@pytest.mark.parametrize(
    ("train_count", "val_right", "answer"),
    [(16, 300, "cannot-tell"), (64, 300, "cannot-tell"), (65, 300, "yes"), (16, 590, "yes")],
)
def test_of_a_train_part_that_is_no_larger_the_probe_says_nothing_new_where_the_run_overfits(
    train_count: int, val_right: int, answer: str
) -> None:
    few = ProbeResult(name="fit-64", steps=300, train_error=within(0.4, 0.03))

    found = cannot_fit(run(few, gap=gap_of(600, val_right), train_count=train_count))

    assert found.verdict == answer


def test_a_loss_that_is_not_finite_on_a_few_images_is_a_fault() -> None:
    assert cannot_fit(run(ProbeResult(name="fit-64", state="failed", note="nan"))).verdict == "yes"


def nothing_helps() -> tuple[ProbeResult, ...]:
    few = ProbeResult(name="fit-64", steps=300, train_error=within(0.01, 0.01))
    return (few, *(probe(name, 0.0, 0.0) for name in RULES))


def test_where_no_probe_lowers_the_error_the_labels_allow_no_less() -> None:
    evidence = run(*nothing_helps())

    assert label_ceiling(evidence).verdict == "yes"
    assert underfits(evidence).verdict == "no"


def test_with_a_probe_left_the_ceiling_cannot_be_told() -> None:
    finding = label_ceiling(run(*nothing_helps()[:-1]))

    assert finding.verdict == "cannot-tell"
    assert finding.advice == "These probes are left: wider."


def test_a_proven_cause_makes_it_underfit_and_comes_first() -> None:
    word, findings = judge(run(probe("wider", 0.2, 0.2)))

    assert word == "underfits"
    assert first_fault(findings) == "too-small"
    assert "Proven to keep it up: too-small." in next(f.evidence for f in findings if f.rule == "underfits")


def test_a_cause_that_no_probe_has_shown_is_not_called_proven() -> None:
    rising = tuple(0.3 + 0.03 * epoch for epoch in range(12))
    rate = ProbeResult(name="learning-rate", state="needless")

    found = underfits(run(rate, val_score=rising))

    assert found.verdict == "yes"
    assert "Proven" not in found.evidence
    assert found.evidence.endswith("By what its curve shows: under-trained.")


def test_of_two_causes_the_one_that_gains_more_comes_first() -> None:
    _, findings = judge(run(probe("longer", 0.12, 0.1), probe("wider", 0.25, 0.2)))

    assert [finding.rule for finding in findings[:2]] == ["too-small", "under-trained"]


def test_of_two_causes_that_gain_alike_the_one_with_the_cheaper_probe_comes_first() -> None:
    _, findings = judge(run(probe("longer", 0.25, 0.2), probe("learning-rate", 0.12, 0.19)))

    assert [finding.rule for finding in findings[:2]] == ["learning-rate", "under-trained"]


@pytest.mark.parametrize(
    ("val_right", "word", "first"), [(300, "overfits", "overfits"), (600, "underfits", "too-small")]
)
def test_a_gap_that_surely_exceeds_what_the_causes_gain_comes_before_them(
    val_right: int, word: str, first: str
) -> None:
    """A train error of 40 %, and a gap of 30 points or of none, beside a larger network that gains four points."""
    verdict, findings = judge(run(probe("wider", 0.05, 0.045), gap=gap_of(600, val_right)))

    assert (verdict, first_fault(findings)) == (word, first)


@pytest.mark.parametrize(
    ("val_right", "word", "first"), [(300, "overfits", "overfits"), (598, "underfits", "under-trained")]
)
def test_a_sure_gap_comes_before_a_cause_that_a_curve_alone_speaks_for(val_right: int, word: str, first: str) -> None:
    rising = tuple(0.3 + 0.03 * epoch for epoch in range(12))
    rate = ProbeResult(name="learning-rate", state="needless")

    verdict, findings = judge(run(rate, val_score=rising, gap=gap_of(600, val_right)))

    assert (verdict, first_fault(findings)) == (word, first)
    assert {found.rule: found.verdict for found in findings}["under-trained"] == "yes"


def test_a_gap_smaller_than_what_a_cause_gains_comes_after_it() -> None:
    verdict, findings = judge(run(probe("wider", 0.5, 0.4), gap=gap_of(400, 150)))

    assert verdict == "underfits"
    assert first_fault(findings) == "too-small"
    assert {found.rule: found.verdict for found in findings}["overfits"] == "yes"


def test_labels_cannot_be_wrong_more_often_than_a_probe_errs_on_them() -> None:
    noise = LabelNoise(rate=within(0.15), surest=within(0.15), skill=0.5, images=1000)
    low = ProbeResult(
        name="learning-rate", train_drop=within(0.29), val_drop=within(0.29), val_error=within(0.02, 0.01)
    )

    alone, known = (noisy_labels(run(*probes, label_noise=noise)) for probes in ((), (low,)))

    assert (alone.verdict, known.verdict) == ("yes", "no")


def test_the_first_fault_is_no_description() -> None:
    _, findings = judge(run(gap=gap_of(990, 985)))

    assert first_fault(findings) == ""


def test_probes_are_asked_for_in_order_and_the_last_resort_only_without_a_cause() -> None:
    assert probes_that_would_tell(run()) == ("learning-rate", "no-regularization", "longer", "wider", "fit-64")
    assert probes_that_would_tell(run(probe("longer", 0.12, 0.1))) == ("learning-rate", "no-regularization", "wider")


def test_no_probe_is_asked_for_once_one_takes_most_of_the_error() -> None:
    assert probes_that_would_tell(run(probe("learning-rate", 0.25, 0.2))) == ()


def likely_noise(**changes: Any) -> LabelNoise:
    """Answers that leave a floor of 10 to 30 % where 5 % pass, of a network that is a little too weak to be believed."""
    noise = LabelNoise(rate=within(0.2, 0.1), surest=within(0.2), skill=0.48, images=200, most_skill=0.55)
    return dataclasses.replace(noise, **changes)


def test_the_labels_are_asked_about_last_where_wrong_ones_are_likely() -> None:
    causes = ("learning-rate", "no-regularization", "longer", "wider", "fit-64")

    assert probes_that_would_tell(run(label_noise=likely_noise())) == (*causes, "labels")
    assert probes_that_would_tell(run(label_noise=likely_noise(), gap=gap_of(990, 500))) == ("labels",)


@pytest.mark.parametrize(
    "changes", [{"rate": within(0.04, 0.04)}, {"most_skill": 0.45}, {"skill": 0.6}], ids=["unlikely", "weak", "known"]
)
def test_the_labels_are_not_asked_about_where_that_would_tell_nothing(changes: dict[str, Any]) -> None:
    assert probes_that_would_tell(run(label_noise=likely_noise(**changes), gap=gap_of(990, 500))) == ()


def test_labels_are_not_suspected_where_a_cause_is_proven() -> None:
    assert "labels" not in probes_that_would_tell(run(probe("longer", 0.12, 0.1), label_noise=likely_noise()))


def test_answers_out_of_fold_count_more_than_those_of_the_run() -> None:
    asked = likely_noise(rate=within(0.2, 0.05), skill=0.55, images=900, out_of_fold=True)
    labels = ProbeResult(name="labels", label_noise=asked)

    alone, known = (noisy_labels(run(*probes, label_noise=likely_noise())) for probes in ((), (labels,)))

    assert (alone.verdict, known.verdict) == ("cannot-tell", "yes")
    assert "900 out-of-fold answers" in known.evidence
    assert probes_that_would_tell(run(labels, label_noise=likely_noise(), gap=gap_of(990, 500))) == ()


def test_no_probe_is_asked_for_where_the_gap_is_the_larger_trouble() -> None:
    assert probes_that_would_tell(run(gap=gap_of(900, 500))) == ()


def test_evidence_survives_its_record() -> None:
    evidence = run(
        *nothing_helps(),
        guess_loss=math.inf,
        val_loss=(1.0, math.nan, 0.8),
        step_losses=StepLosses(steps=30, start=2.0, end=1.0, spikes=1, largest=0.6),
    )

    again = from_json(Evidence, as_json(evidence))

    assert repr(again) == repr(evidence)  # nan is not equal to itself


def test_a_record_of_another_version_is_read_without_what_is_unknown() -> None:
    assert from_json(ProbeResult, {"name": "wider", "what": 1}) == ProbeResult(name="wider")


def noisy(losses: np.ndarray) -> np.ndarray:
    return losses + np.random.Generator(np.random.Philox(0)).normal(0, 0.1, len(losses))


def test_a_loss_that_falls_with_noise_has_no_spike() -> None:
    found = step_losses(noisy(2.3 * np.exp(-np.arange(400) / 100)).tolist())

    assert found is not None
    assert (found.spikes, found.largest) == (0, 0.0)
    assert unstable(run(step_losses=found)).verdict == "no"


def test_every_rise_by_half_of_what_was_gained_is_a_spike() -> None:
    losses = noisy(2.3 * np.exp(-np.arange(400) / 60))
    for start in (150, 220, 290):
        losses[start : start + 20] += 2.0

    found = step_losses(losses.tolist())

    assert found is not None
    assert found.spikes == 3
    assert unstable(run(step_losses=found)).verdict == "yes"


def test_a_single_spike_cannot_be_told_from_luck() -> None:
    once = StepLosses(steps=300, start=2.3, end=0.5, spikes=1, largest=0.7)

    assert unstable(run(step_losses=once)).verdict == "cannot-tell"


def test_losses_that_are_not_finite_are_left_out_and_few_say_nothing() -> None:
    assert step_losses([1.0, math.nan] * 10) is None


@pytest.mark.parametrize(("spikes", "answer"), [(0, "cannot-tell"), (1, "yes")])
def test_epochs_that_end_above_where_they_began_blew_up_only_where_the_steps_did(spikes: int, answer: str) -> None:
    """In eval mode batch-norm statistics that lag behind raise the loss of a training that is merely slow."""
    steps = StepLosses(steps=300, start=0.58, end=0.49, spikes=spikes, largest=0.6 * spikes)
    at_chance = run(train_score=(0.1, 0.1, 0.1), train_loss=(0.40, 0.52, 0.48), step_losses=steps)

    assert diverged(at_chance).verdict == answer


def test_half_of_a_training_that_gained_nothing_saturated_early() -> None:
    done = (0.7, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    flat = (0.6, 0.8, 0.85, 0.9, 0.9, 0.9, 0.9, 0.9)

    finding = saturated_early(run(train_score=done, val_score=flat))

    assert finding.verdict == "yes"
    assert finding.evidence == (
        "At the middle of the training the train error was 0.0 %; after it the unseen score changed by 0.0 points (0.0 to 0.0)."
    )


def test_a_train_error_above_zero_at_the_middle_is_not_saturated() -> None:
    assert saturated_early(run(train_score=(0.8,) * 8, val_score=(0.7,) * 8)).verdict == "no"
