from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.diagnosis.stats import (
    bootstrap_mean,
    difference,
    effective_count,
    images_for_half_width,
    mcnemar_exact,
    newcombe_difference,
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
