from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.diagnosis.stats import (
    bootstrap_mean,
    bootstrap_measures,
    difference,
    effective_count,
    images_for_half_width,
    mcnemar_exact,
    newcombe_difference,
    paired_bootstrap,
    paired_difference,
    wilson,
)
from trainwright.records import Interval

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
answers = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_limits_of_newcombes_table(successes: int, n: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    interval = wilson(successes, n)

    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


def test_wilson_of_no_images_knows_nothing() -> None:
    interval = wilson(0, 0)

    assert (math.isnan(interval.value), interval.low, interval.high) == (True, 0.0, 1.0)


def test_wilson_refuses_more_successes_than_images() -> None:
    with pytest.raises(ValueError, match=r"^wilson: expected 0 <= successes <= n, got 5 of 4$"):
        wilson(5, 4)


def test_wilson_with_more_confidence_is_wider() -> None:
    usual, sure = wilson(30, 100), wilson(30, 100, confidence=0.99)

    assert sure.low < usual.low < usual.high < sure.high


@given(counts)
def test_wilson_holds_its_value_and_stays_within_0_and_1(count: tuple[int, int]) -> None:
    interval = wilson(*count)

    assert 0 <= interval.low <= interval.value <= interval.high <= 1


@given(counts)
def test_wilson_of_the_wrong_ones_mirrors_that_of_the_right_ones(count: tuple[int, int]) -> None:
    right, n = count

    of_right, of_wrong = wilson(right, n), wilson(n - right, n)

    assert (of_right.low, of_right.high) == pytest.approx((1 - of_wrong.high, 1 - of_wrong.low), abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
    ],
)
def test_newcombe_gives_the_limits_of_his_paper(
    a: tuple[int, int], b: tuple[int, int], low: float, high: float
) -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10
    interval = newcombe_difference(*a, *b)

    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@given(counts, counts)
def test_newcombe_swapped_is_its_own_negative(a: tuple[int, int], b: tuple[int, int]) -> None:
    there, back = newcombe_difference(*a, *b), newcombe_difference(*b, *a)

    assert (there.low, there.high) == pytest.approx((-back.high, -back.low), abs=1e-12)


def test_a_difference_from_something_certain_is_as_doubtful_as_the_other_side() -> None:
    certain = Interval(value=0.1, low=0.1, high=0.1)

    interval = difference(Interval(value=0.4, low=0.3, high=0.6), certain)

    assert (interval.value, interval.low, interval.high) == pytest.approx((0.3, 0.2, 0.5))


@pytest.mark.parametrize(("images", "half_width"), [(200, 0.0416), (500, 0.0263), (2000, 0.01315)])
def test_images_for_a_half_width_at_ten_percent_agree_with_the_specification(images: int, half_width: float) -> None:
    needed = images_for_half_width(0.1, half_width)

    assert needed == pytest.approx(images, rel=0.02)


@given(st.floats(0, 1), st.floats(0.002, 0.4))
def test_the_images_for_a_half_width_are_just_enough(rate: float, half_width: float) -> None:
    n = images_for_half_width(rate, half_width)

    enough, fewer = wilson(rate * n, n), wilson(rate * (n - 1), n - 1)

    assert (enough.high - enough.low) / 2 <= half_width * (1 + 1e-6)
    assert n == 1 or (fewer.high - fewer.low) / 2 >= half_width * (1 - 1e-6)


def test_the_bootstrap_of_many_values_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(5, 2, 4000)
    half = 1.96 * values.std() / math.sqrt(4000)

    interval = bootstrap_mean(values)

    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_the_bootstrap_repeats_and_another_seed_gives_other_draws() -> None:
    values = np.random.default_rng(0).random(100)

    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values) != bootstrap_mean(values, seed=1)


def test_the_bootstrap_leans_to_the_long_tail() -> None:
    values = np.random.default_rng(1).exponential(size=60)

    interval = bootstrap_mean(values)

    assert interval.high - interval.value > interval.value - interval.low


def test_groups_of_equal_values_count_as_one_image_each() -> None:
    values = np.random.default_rng(2).random(50)

    alone = bootstrap_mean(values)
    in_groups = bootstrap_mean(np.repeat(values, 8), groups=np.repeat(np.arange(50), 8))

    assert (in_groups.value, in_groups.low, in_groups.high) == pytest.approx((alone.value, alone.low, alone.high))


def test_the_bootstrap_refuses_a_single_group() -> None:
    with pytest.raises(ValueError, match=r"^bootstrap_mean: expected at least 2 independent images or groups, got 1$"):
        bootstrap_mean(np.array([0.1, 0.2]), groups=np.array([7, 7]))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30))
def test_the_bootstrap_interval_holds_its_value(values: list[float]) -> None:
    interval = bootstrap_mean(np.array(values), draws=50)

    assert interval.low <= interval.value <= interval.high


@pytest.mark.parametrize(("only_a", "only_b", "p"), [(0, 5, 2 / 32), (1, 5, 14 / 64), (3, 3, 1.0), (0, 0, 1.0)])
def test_mcnemar_counts_the_disagreements_like_coin_throws(only_a: int, only_b: int, p: float) -> None:
    a = np.array([1] * only_a + [0] * only_b + [1, 0, 1])
    b = np.array([0] * only_a + [1] * only_b + [1, 0, 1])

    assert mcnemar_exact(a, b) == pytest.approx(p)


@given(answers)
def test_mcnemar_is_the_same_either_way_round(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T

    assert mcnemar_exact(a, b) == pytest.approx(mcnemar_exact(b, a))


def test_mcnemar_refuses_answers_to_different_images() -> None:
    with pytest.raises(ValueError, match=r"^expected the answers of two models to the same images, got shapes \(2,\)"):
        mcnemar_exact(np.array([1, 0]), np.array([1]))


def test_a_paired_difference_of_models_that_never_disagree_keeps_a_width() -> None:
    right = np.ones(100)

    interval = paired_difference(right, right)

    # one disagreement of each kind is added: 1.96 · sqrt((2/102) / 102)
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.0, -0.02717, 0.02717), abs=1e-5)


@given(answers)
def test_a_paired_difference_swapped_is_its_own_negative(pairs: list[tuple[bool, bool]]) -> None:
    a, b = np.array(pairs).T

    there, back = paired_difference(a, b), paired_difference(b, a)

    assert (there.low, there.high) == pytest.approx((-back.high, -back.low))
    assert there.low <= there.value <= there.high


def test_twins_with_the_same_answer_count_once() -> None:
    right = np.array([1.0] * 70 + [0.0] * 30)

    count = effective_count(np.repeat(right, 2), np.repeat(np.arange(100), 2))

    assert count == pytest.approx(99, abs=1)


def test_where_no_answer_varies_each_group_counts_once() -> None:
    assert effective_count(np.ones(12), np.repeat(np.arange(4), 3)) == 4


def mean_of(tally_BQ: np.ndarray) -> np.ndarray:
    """Tallies (sum, number)."""
    found: np.ndarray = tally_BQ[:, 0] / tally_BQ[:, 1]
    return found


def as_tally(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones_like(values)], axis=-1)


def mean_iou(tally_BQ: np.ndarray) -> np.ndarray:
    """Tallies (intersection of each class, union of each class); classes without a pixel do not count."""
    intersection, union = np.split(tally_BQ, 2, axis=1)
    found: np.ndarray = np.nanmean(intersection / union, axis=1)
    return found


def r_squared(tally_BQ: np.ndarray) -> np.ndarray:
    """Tallies (1, truth, truth squared, error squared)."""
    n, truth, square, error = tally_BQ.T
    found: np.ndarray = 1 - error / (square - truth**2 / n)
    return found


def masks(rng: np.random.Generator, n: int) -> np.ndarray:
    """Tallies of n images with four classes, some of them rare, of uneven sizes."""
    union = (rng.random((n, 4)) < [1, 0.9, 0.5, 0.3]) * rng.gamma(2, 500, (n, 4))
    return np.concatenate([union * rng.beta(3.6, 2.4, (n, 4)), union], axis=1)


def numbers(rng: np.random.Generator, n: int) -> np.ndarray:
    truth = rng.normal(10, 2, n)
    return np.stack([np.ones(n), truth, truth**2, rng.normal(0, 1.2, n) ** 2], axis=1)


def test_measures_of_a_mean_take_the_interval_of_the_mean() -> None:
    values, groups = np.random.default_rng(0).random(80), np.arange(80) // 3

    found = bootstrap_measures(as_tally(values), lambda tally: {"score": mean_of(tally)}, groups=groups)["score"]

    same = bootstrap_mean(values, groups)
    assert (found.value, found.low, found.high) == pytest.approx((same.value, same.low, same.high))


@pytest.mark.parametrize(("tallies", "score"), [(masks, mean_iou), (numbers, r_squared)])
def test_intervals_of_ratios_hold_the_truth_in_about_nineteen_of_twenty_cases(tallies: Any, score: Any) -> None:
    rng = np.random.default_rng(0)
    truth = float(score(tallies(rng, 300_000).sum(axis=0)[None])[0])

    found = [
        bootstrap_measures(tallies(rng, 150), lambda tally: {"score": score(tally)}, draws=500)["score"]
        for _ in range(300)
    ]

    assert 0.90 <= np.mean([interval.low <= truth <= interval.high for interval in found]) <= 0.99


def test_measures_are_drawn_alike_whatever_is_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tally = masks(np.random.default_rng(1), 40)
    whole = bootstrap_measures(tally, lambda sums: {"score": mean_iou(sums)}, draws=300)

    monkeypatch.setattr("trainwright.diagnosis.stats.CHUNK", 100)
    pieces = bootstrap_measures(tally, lambda sums: {"score": mean_iou(sums)}, draws=300)

    assert pieces["score"].low == pytest.approx(whole["score"].low)
    assert pieces["score"].high == pytest.approx(whole["score"].high)


def test_draws_in_which_a_measure_is_undefined_are_left_out() -> None:
    # the class occurs in three of 30 images: every 23rd resample has none of them
    tally = np.zeros((30, 2))
    tally[:3] = [[1, 10], [5, 10], [9, 10]]

    interval = bootstrap_measures(tally, lambda sums: {"class.owl": mean_of(sums)})["class.owl"]

    assert interval.value == 0.5
    assert 0.1 <= interval.low < 0.5 < interval.high <= 0.9


def test_a_measure_that_is_undefined_or_hangs_on_one_image_has_no_interval() -> None:
    tally = np.zeros((30, 4))
    tally[0, :2] = [4, 10]

    found = bootstrap_measures(tally, lambda sums: {"once": mean_of(sums[:, :2]), "never": mean_of(sums[:, 2:])})

    assert found == {}


def test_no_mistakes_on_eight_images_are_as_sure_as_eight_right_answers() -> None:
    tally = np.zeros((30, 2))
    tally[:8] = 1

    assert bootstrap_measures(tally, lambda sums: {"class.owl": mean_of(sums)})["class.owl"] == wilson(8, 8)


def test_a_measure_that_every_resample_raises_keeps_a_width_to_both_sides() -> None:
    # the largest share of fifty values: a resample holds some value several times, so all of them lie above
    tally = np.eye(50)

    interval = bootstrap_measures(tally, lambda sums: {"largest": sums.max(axis=1) / sums.sum(axis=1)})["largest"]

    assert interval.low < 0.02 - 0.01
    assert interval.high > 0.02 + 0.01


def test_the_difference_of_two_models_is_surer_on_the_same_images() -> None:
    rng = np.random.default_rng(2)
    hard = rng.random(200) * 0.5
    a, b = as_tally(hard + 0.1 + 0.02 * rng.random(200)), as_tally(hard + 0.02 * rng.random(200))

    interval = paired_bootstrap(a, b, mean_of)

    assert interval.value == pytest.approx(0.1, abs=0.005)
    assert interval.high - interval.low < 0.01


def test_the_paired_difference_of_means_is_the_mean_of_the_differences() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.random(50), rng.random(50)

    found, same = paired_bootstrap(as_tally(a), as_tally(b), mean_of), bootstrap_mean(a - b)

    assert (found.value, found.low, found.high) == pytest.approx((same.value, same.low, same.high))


def test_two_models_that_never_differ_have_no_difference() -> None:
    tally = masks(np.random.default_rng(4), 20)

    assert paired_bootstrap(tally, tally, mean_iou) == Interval(value=0.0, low=0.0, high=0.0)


def test_models_that_differ_on_one_group_only_cannot_be_told_apart() -> None:
    a, b = as_tally(np.ones(6)), as_tally(np.array([0.5, 1, 1, 1, 1, 1]))

    interval = paired_bootstrap(a, b, lambda sums: sums[:, 0] / 6, groups=np.zeros(6))

    assert (interval.low, interval.high) == (-math.inf, math.inf)


def test_tallies_of_different_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^paired_bootstrap: expected tallies of two models on the same images"):
        paired_bootstrap(np.ones((3, 2)), np.ones((4, 2)), mean_of)
