from __future__ import annotations

import math

import numpy as np
import pytest

from trainwright.diagnosis.curves import change, last_third


def test_a_straight_line_changes_by_its_rise_without_doubt() -> None:
    result = change([0.1, 0.2, 0.3, 0.4, 0.5])

    assert result is not None
    assert (result.value, result.low, result.high) == pytest.approx((0.4, 0.4, 0.4))


def test_the_interval_is_that_of_the_slope_by_hand() -> None:
    # y = 0, 1, 0, 1: slope 0.2, residual sum of squares 0.8, two degrees of freedom (t 4.303), sum of squared x 5
    result = change([0.0, 1.0, 0.0, 1.0])

    half = 4.302653 * math.sqrt(0.8 / 2 / 5) * 3
    assert result is not None
    assert (result.value, result.low, result.high) == pytest.approx((0.6, 0.6 - half, 0.6 + half), abs=1e-5)


def test_epochs_that_are_not_finite_are_left_out_but_keep_their_place() -> None:
    result = change([0.0, math.nan, 2.0, 3.0, math.inf, 5.0])

    assert result is not None
    assert result.value == pytest.approx(5.0)


def test_three_epochs_are_too_few() -> None:
    assert change([1.0, 2.0, 3.0]) is None


def test_noise_without_a_slope_is_called_one_in_one_of_twenty_cases() -> None:
    rng = np.random.default_rng(0)

    found = [change(rng.standard_normal(7).tolist()) for _ in range(2000)]

    false_alarms = np.mean([result is not None and not result.low <= 0 <= result.high for result in found])
    assert 0.035 <= false_alarms <= 0.065


@pytest.mark.parametrize(("epochs", "kept"), [(2, 2), (6, 4), (20, 7), (30, 10)])
def test_the_last_third_is_rounded_up_and_at_least_four_epochs(epochs: int, kept: int) -> None:
    assert len(last_third(range(epochs))) == kept
