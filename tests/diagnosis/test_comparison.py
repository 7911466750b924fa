"""Gains with their doubt over images and seeds, Holm's correction, and what is adopted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trainwright.diagnosis.comparison import Comparison, adopted, compare, holm
from trainwright.diagnosis.noise import noise_floor
from trainwright.diagnosis.stats import mcnemar_exact, paired_bootstrap, paired_difference
from trainwright.records import Interval


def answers(rng: np.random.Generator, trainings: int, images: int = 300, right: float = 0.7) -> np.ndarray:
    return (rng.random((trainings, images)) < right).astype(float)


def ratio(tally_B2: np.ndarray) -> np.ndarray:
    return tally_B2[:, 0] / tally_B2[:, 1]


def ratios(rng: np.random.Generator, trainings: int, images: int = 120) -> np.ndarray:
    """[trainings, images, 2]: a numerator of their own over a denominator that they share."""
    below_N = 1 + rng.random(images)
    return np.stack([below_N * rng.random((trainings, images)), np.broadcast_to(below_N, (trainings, images))], axis=2)


def compared(value: float, *, half: float, p: float, seeds: tuple[int, int] = (1, 1)) -> Comparison:
    return Comparison(gain=Interval(value=value, low=value - half, high=value + half), p=p, images=500, seeds=seeds)


def test_one_training_each_is_mcnemar_and_the_paired_interval() -> None:
    arm, control = answers(np.random.default_rng(0), 2)

    found = compare([arm], [control])

    assert found == Comparison(
        gain=paired_difference(arm, control), p=mcnemar_exact(arm, control), images=300, seeds=(1, 1)
    )


def test_another_score_of_one_training_each_is_the_paired_bootstrap() -> None:
    arm, control = ratios(np.random.default_rng(1), 2)

    assert compare([arm], [control], score=ratio, seed=3).gain == paired_bootstrap(arm, control, ratio, seed=3)


def test_the_gain_of_several_trainings_is_the_difference_of_their_mean_scores() -> None:
    arm, control = answers(np.random.default_rng(2), 2), answers(np.random.default_rng(3), 3)

    found = compare(arm, control)

    assert found.gain.value == pytest.approx(arm.mean() - control.mean())
    assert found.seeds == (2, 3)


def test_the_arm_and_the_control_changed_about_turns_the_gain_about() -> None:
    arm, control = answers(np.random.default_rng(4), 2, right=0.8), answers(np.random.default_rng(5), 2)

    there, back = compare(arm, control), compare(control, arm)

    assert (there.gain.low, there.gain.high) == pytest.approx((-back.gain.high, -back.gain.low))
    assert there.p == pytest.approx(back.p)


@pytest.mark.parametrize("score", [None, ratio])
def test_the_interval_holds_zero_where_p_is_above_five_percent(score) -> None:
    rng = np.random.default_rng(6)
    make = answers if score is None else ratios

    found = [compare(make(rng, 2), make(rng, 2), score=score) for _ in range(20)]

    assert [one.gain.low <= 0 <= one.gain.high for one in found] == [one.p >= 0.05 for one in found]


def test_more_trainings_make_the_gain_surer() -> None:
    rng = np.random.default_rng(7)
    arm, control = answers(rng, 6, right=0.8), answers(rng, 6)

    widths = [found.gain.high - found.gain.low for found in (compare(arm[:k], control[:k]) for k in (2, 3, 6))]

    assert widths == sorted(widths, reverse=True)


def test_the_noise_floor_widens_the_interval_of_one_training_each_and_its_p() -> None:
    base, arm, control = answers(np.random.default_rng(8), 3)

    alone, beyond = compare([arm], [control]), compare([arm], [control], noise=noise_floor(base, control))

    assert beyond.gain.low < alone.gain.low < alone.gain.high < beyond.gain.high
    assert beyond.p > alone.p


def test_controls_far_apart_widen_more_than_controls_that_agree() -> None:
    rng = np.random.default_rng(9)
    arm = answers(rng, 1, right=0.8)
    alike, apart = answers(rng, 2, right=0.7), np.concatenate([answers(rng, 1, right=0.5), answers(rng, 1, right=0.9)])

    narrow, wide = compare(arm, alike), compare(arm, apart)

    assert wide.gain.high - wide.gain.low > 2 * (narrow.gain.high - narrow.gain.low)


def test_the_same_answers_on_both_sides_gain_exactly_nothing() -> None:
    right_1N, tally_1NQ = answers(np.random.default_rng(10), 1), ratios(np.random.default_rng(10), 1)

    assert (compare(right_1N, right_1N).gain.value, compare(right_1N, right_1N).p) == (0, 1)
    assert compare(tally_1NQ, tally_1NQ, score=ratio).gain == Interval(value=0, low=0, high=0)


def test_images_that_fall_together_count_as_one() -> None:
    rng = np.random.default_rng(11)
    arm, control = answers(rng, 2, images=80)
    groups = np.repeat(np.arange(80), 4)

    once, again = compare([arm], [control]), compare([np.repeat(arm, 4)], [np.repeat(control, 4)], groups=groups)

    assert again.gain.high - again.gain.low == pytest.approx(once.gain.high - once.gain.low, rel=0.1)


def test_groups_of_one_image_each_are_none() -> None:
    arm, control = answers(np.random.default_rng(12), 2)

    assert compare([arm], [control], groups=np.arange(300)) == compare([arm], [control])


def test_a_score_that_is_not_defined_gains_nothing_that_is_known() -> None:
    nothing = np.zeros((5, 2))

    found = compare([nothing], [nothing + 1.0], score=ratio, noise=0.01)

    assert (math.isnan(found.gain.value), found.p) == (True, 1.0)


def test_noise_that_is_not_known_leaves_a_gain_without_limits() -> None:
    arm, control = answers(np.random.default_rng(13), 2)

    found = compare([arm], [control], noise=math.inf)

    assert (found.gain.low, found.gain.high, found.p) == (-math.inf, math.inf, 1.0)


def test_answers_to_other_images_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^expected the answers of all trainings to the same images, got shapes \(30,\) and \(31,\)$"
    ):
        compare([np.ones(30)], [np.ones(31)])


def test_groups_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^compare: expected a group for each of the 30 images, got 29$"):
        compare([np.ones(30)], [np.ones(30)], groups=np.arange(29))


def test_a_side_without_a_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^compare: expected a training on both sides, got 1 and 0$"):
        compare([np.ones(30)], [])


def test_holm_multiplies_the_smallest_by_all_and_never_falls() -> None:
    # 3 · 0.01, 2 · 0.02 and, because it may not fall below that, 0.03 becomes 0.04 as well
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


def test_holm_of_one_is_itself_and_of_none_is_nothing() -> None:
    assert (holm([0.2]), holm([])) == ([0.2], [])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_stays_between_p_and_bonferroni(ps: list[float]) -> None:
    found = holm(ps)

    assert all(p <= q <= min(1.0, len(ps) * p) + 1e-12 for p, q in zip(ps, found, strict=True))
    assert np.all(np.diff(np.array(found)[np.argsort(ps, kind="stable")]) >= 0)


def test_a_gain_beyond_chance_and_noise_is_adopted() -> None:
    found = adopted({"augmentation": compared(0.06, half=0.03, p=0.001)}, noise=0.01)["augmentation"]

    assert found.decision == "adopt"
    assert found.reason == "Better beyond chance: +6.0 (+3.0 to +9.0), p = 0.001 over the round."


def test_a_loss_beyond_chance_and_noise_is_worse() -> None:
    found = adopted({"dropout": compared(-0.06, half=0.03, p=0.001)}, noise=0.01)["dropout"]

    assert found.decision == "worse"
    assert found.reason.startswith("Worse beyond chance: -6.0")


@pytest.mark.parametrize(
    ("arms", "noise", "why"),
    [
        ([compared(0.02, half=0.03, p=0.2)], 0.0, "the interval holds zero."),
        ([compared(0.04, half=0.03, p=0.02)] * 3, 0.0, "not beyond what the best of so many arms shows by chance."),
        ([compared(0.04, half=0.03, p=0.001)], 0.03, "less than the noise of a difference, 4.2 points."),
        ([compared(-0.04, half=0.03, p=0.001)], 0.03, "less than the noise of a difference, 4.2 points."),
    ],
)
def test_anything_less_is_no_evidence_and_says_why(arms: list[Comparison], noise: float, why: str) -> None:
    found = adopted({str(number): arm for number, arm in enumerate(arms)}, noise=noise)["0"]

    assert found.decision == "no-evidence"
    assert found.reason.endswith(why)


def test_several_trainings_have_less_noise_to_exceed() -> None:
    arm = compared(0.04, half=0.03, p=0.001, seeds=(3, 3))

    assert adopted({"width": arm}, noise=0.03)["width"].decision == "adopt"


def test_an_undefined_gain_is_no_evidence() -> None:
    lost = Comparison(gain=Interval(value=math.nan, low=0, high=0), p=1.0, images=10, seeds=(1, 1))

    assert adopted({"lr": lost}, noise=0.01)["lr"].reason == "No evidence: the score of one of the two is not defined."


def test_the_interval_of_many_trainings_nears_that_of_students_t_test_where_only_seeds_vary() -> None:
    rng = np.random.default_rng(14)
    right_SN = [
        np.sort(answers(rng, 1, right=right))[0] for right in rng.normal(0.6, 0.1, 60)
    ]  # all images move together

    found = compare(right_SN[:30], right_SN[30:])

    scores = np.array([right_N.mean() for right_N in right_SN])
    limits = stats.ttest_ind(scores[:30], scores[30:]).confidence_interval()
    assert found.gain.high - found.gain.low == pytest.approx(limits.high - limits.low, rel=0.25)
