"""The rules that look at images and labels themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from trainwright.diagnosis.balance import balance
from trainwright.diagnosis.calibration import Calibration
from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.labels import LabelNoise
from trainwright.diagnosis.recorded import as_json, from_json
from trainwright.diagnosis.rules.data import imbalance_hidden, noisy_labels, twins, validation_shifted
from trainwright.diagnosis.rules.generalization import over_confident
from trainwright.diagnosis.shift import Shift
from trainwright.diagnosis.stats import wilson
from trainwright.diagnosis.twins import Twins
from trainwright.records import Interval


def evidence(**found: Any) -> Evidence:
    return Evidence(
        train_loss=(0.5, 0.1),
        val_loss=(0.6, 0.5),
        train_score=(0.8, 0.99),
        val_score=(0.75, 0.8),
        classes=("cat", "dog"),
        val_count=1000,
        train_count=4000,
        chance_score=0.5,
        **found,
    )


def twins_of(**changes: Any) -> Twins:
    found = Twins(exact=60, near=40, images=1000, total=1000, with_them=wilson(800, 1000), without=wilson(700, 900))
    return dataclasses.replace(found, **changes)


def shift_of(auc: tuple[float, float, float], labels: tuple[float, float, float] = (0.0, 0.0, 0.04)) -> Shift:
    first, second = (Interval(value=value, low=low, high=high) for value, low, high in (auc, labels))
    return Shift(auc=first, images=(500, 250), labels=second)


def noise_of(low: float, high: float, skill: float = 0.8, *, out_of_fold: bool = False) -> LabelNoise:
    rate = Interval(value=(low + high) / 2, low=low, high=high)
    return LabelNoise(rate=rate, surest=wilson(20, 100), skill=skill, images=1000, out_of_fold=out_of_fold)


def calibration_of(excess: tuple[float, float, float], gain: tuple[float, float, float]) -> Calibration:
    first, second = (Interval(value=value, low=low, high=high) for value, low, high in (excess, gain))
    return Calibration(excess=first, error=0.2, error_by_chance=0.02, temperature=4.0, gain=second)


def test_twins_are_told_with_the_score_without_them_and_an_example():
    finding = twins(evidence(twins=twins_of(examples=(("val/a.png", "train/b.png"),))))

    assert finding.verdict == "yes"
    assert finding.evidence == (
        "Of 1,000 images for validation 100 (10.0 %) have a twin in train: 60 the very same pixels, 40 nearly the same. Score "
        "80.0 % (77.4 to 82.4) with them, 77.8 % (74.9 to 80.4) without."
    )
    assert finding.advice.endswith("For example: val/a.png and train/b.png.")
    assert finding.figures["share"] == pytest.approx(0.1)


def test_a_few_twins_are_told_and_let_pass():
    finding = twins(evidence(twins=twins_of(exact=0, near=8)))

    assert finding.verdict == "no"
    assert "8 (0.8 %) have a twin in train" in finding.evidence
    assert finding.evidence.endswith("Too few to move it by two points.")


def test_where_no_image_has_a_twin_that_is_said():
    finding = twins(evidence(twins=twins_of(exact=0, near=0, images=900)))

    assert finding.verdict == "no"
    assert finding.evidence == "None of 900 of 1,000 images for validation has a twin in train."


def test_images_of_another_kind_are_a_shift():
    finding = validation_shifted(evidence(shift=shift_of((0.8, 0.76, 0.84))))

    assert finding.verdict == "yes"
    assert "AUC of 0.80 (0.76 to 0.84)" in finding.evidence
    assert finding.advice.startswith("The gap is not the network's alone.")


def test_other_shares_of_classes_are_a_shift_too():
    finding = validation_shifted(evidence(shift=shift_of((0.5, 0.46, 0.54), labels=(0.3, 0.26, 0.34))))

    assert finding.verdict == "yes"
    assert "accuracy within each class" in finding.advice


def test_images_that_cannot_be_told_apart_are_no_shift():
    finding = validation_shifted(evidence(shift=shift_of((0.51, 0.47, 0.55))))

    assert (finding.verdict, finding.advice) == ("no", "")


def test_a_doubtful_shift_says_how_many_images_would_tell():
    finding = validation_shifted(evidence(shift=shift_of((0.62, 0.58, 0.66))))

    assert finding.verdict == "cannot-tell"
    assert finding.advice == "About 1,000 images a side would tell; there are 250."  # 250 · (0.04 / 0.02)²


def test_wrong_labels_beyond_the_margin_are_noise():
    finding = noisy_labels(evidence(label_noise=noise_of(0.15, 0.25)))

    assert finding.verdict == "yes"
    assert "wrong labels that such answers leave as a floor: 20.0 % (15.0 to 25.0), margin 5.0 %" in finding.evidence
    assert "'trainwright inspect DATA --labels'" in finding.advice


def test_a_weak_network_cannot_tell_and_says_what_would():
    finding = noisy_labels(evidence(label_noise=noise_of(0.15, 0.25, skill=0.3)))

    assert finding.verdict == "cannot-tell"
    assert finding.evidence.endswith("The network is too weak to accuse the labels.")
    assert "images that they have not seen would tell" in finding.advice


def test_an_interval_below_the_margin_clears_the_labels():
    assert noisy_labels(evidence(label_noise=noise_of(0.0, 0.03, skill=0.3))).verdict == "no"


def test_out_of_fold_answers_are_not_asked_for_again():
    finding = noisy_labels(evidence(label_noise=noise_of(0.02, 0.25, out_of_fold=True)))

    assert finding.verdict == "cannot-tell"
    assert finding.advice == "More images, or a better network, would tell."


def test_a_rare_class_that_is_always_wrong_is_hidden_by_accuracy():
    hidden = balance({"cat": 0.99, "dog": 0.1}, {"cat": 950, "dog": 50})

    finding = imbalance_hidden(evidence(balance=hidden))

    assert finding.verdict == "yes"
    assert finding.evidence.startswith("Accuracy 94.5 %, mean over classes 54.5 %")
    assert "lowest: dog 10.0 %" in finding.evidence


def test_a_rare_class_that_is_right_as_often_is_not_hidden():
    assert (
        imbalance_hidden(evidence(balance=balance({"cat": 0.9, "dog": 0.9}, {"cat": 9500, "dog": 500}))).verdict == "no"
    )


def test_too_few_images_of_a_rare_class_cannot_tell():
    finding = imbalance_hidden(evidence(balance=balance({"cat": 0.99, "dog": 0.75}, {"cat": 996, "dog": 4})))

    assert finding.verdict == "cannot-tell"
    assert finding.advice == "More validation images of the rare classes would tell, of dog first."


def test_a_score_of_classes_alike_hides_none_and_names_the_lowest():
    finding = imbalance_hidden(evidence(metric="mean IoU", counts_right=False, val_per_class={"cat": 0.2, "dog": 0.9}))

    assert finding.verdict == "no"
    assert finding.evidence == "The mean IoU counts every class alike; lowest: cat 20.0 %."


def test_answers_that_claim_more_than_they_have_right_are_over_confident():
    finding = over_confident(evidence(calibration=calibration_of((0.19, 0.17, 0.22), (0.43, 0.35, 0.52))))

    assert finding.verdict == "yes"
    assert finding.evidence == (
        "Unseen answers claim 19.0 points (17.0 to 22.0) more than they have right, margin 5.0; calibration error 20.0 %, by "
        "chance 2.0 %. A temperature of 4.00 lowers the loss of images that it was not fitted on by 0.430 (0.350 to 0.520)."
    )


def test_what_is_below_0_is_told_from_the_other_side():
    finding = over_confident(evidence(calibration=calibration_of((-0.06, -0.09, -0.04), (-0.014, -0.03, 0.001))))

    assert "claim 6.0 points (4.0 to 9.0) less than they have right" in finding.evidence
    assert finding.evidence.endswith("raises the loss of images that it was not fitted on by 0.014 (-0.001 to 0.030).")


def test_honest_answers_are_not_over_confident():
    assert (
        over_confident(evidence(calibration=calibration_of((-0.02, -0.05, 0.01), (0.0, -0.01, 0.01)))).verdict == "no"
    )


def test_without_a_gain_from_a_temperature_over_confidence_is_not_sure():
    finding = over_confident(evidence(calibration=calibration_of((0.1, 0.06, 0.14), (0.01, -0.02, 0.03))))

    assert finding.verdict == "cannot-tell"


def test_what_was_found_is_read_again_from_its_record():
    found = evidence(
        twins=twins_of(examples=(("a", "b"),)),
        shift=shift_of((0.5, 0.4, 0.6)),
        label_noise=noise_of(0.1, 0.2),
        balance=balance({"cat": 1.0, "dog": 0.5}, {"cat": 10, "dog": 10}),
        calibration=calibration_of((0.1, 0.0, 0.2), (0.1, 0.0, 0.2)),
    )

    assert from_json(Evidence, as_json(found)) == found
