"""What sweeps show by themselves: where they fall, and whether their bounds were too tight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainwright.diagnosis.lr_sweep import lies, still_falling, swept_interval, tight_bounds

ARRAYS = ("lrs_L", "losses_SL", "smooth_L", "low_L", "high_L")


@pytest.fixture
def found(lr_range_of):
    """Falls from 2e-4 on, is lowest near 0.01, rises beyond; suggests 0.013."""
    return lr_range_of("found")


def part(found, low, high, **changes):
    """As if the sweep had gone from `low` to `high` only."""
    inside_L = (found.lrs_L >= low) & (found.lrs_L <= high)
    return replace(found, **{name: getattr(found, name)[..., inside_L] for name in ARRAYS}, **changes)


def test_a_sweep_falls_from_the_lower_end_of_the_interval_to_where_its_curve_is_lowest(found):
    lowest = found.lrs_L[np.nanargmin(found.smooth_L)]

    assert swept_interval(found) == (2e-4, pytest.approx(lowest))


def test_a_sweep_falls_nowhere_outside_of_the_interval(found):
    assert swept_interval(replace(found, interval=(1e-3, 2e-3))) == (1e-3, 2e-3)


def test_a_fall_within_its_band_is_none(found):
    assert swept_interval(replace(found, high_L=found.high_L + 10)) is None


@pytest.mark.parametrize("kind", ["flat", "diverging", "nothing"])
def test_without_an_answer_there_is_no_part_of_it(lr_range_of, kind):
    assert swept_interval(lr_range_of(kind)) is None


def test_a_sweep_that_was_wide_enough_has_nothing_to_say(found):
    assert (still_falling(found), tight_bounds(found)) == (False, ())


@pytest.mark.parametrize("kind", ["flat", "nothing"])
def test_a_loss_that_never_moves_up_to_high_rates_is_not_the_bounds_fault(lr_range_of, kind):
    assert (still_falling(lr_range_of(kind)), tight_bounds(lr_range_of(kind))) == (False, ())


def test_a_sweep_that_ends_in_its_fall_is_to_go_higher(found):
    short = part(found, 1e-7, 1e-3)

    assert still_falling(short)
    assert tight_bounds(short) == (
        "the loss is still falling at 0.001, the highest learning rate of the sweep; raise it (trainwright lr --high 0.01)",
    )


def test_a_sweep_that_has_shot_past_its_start_has_not_ended_in_its_fall(found):
    short = part(found, 1e-7, 1e-3)
    short.losses_SL[1, -1] = np.nan

    assert not still_falling(short)


def test_a_suggestion_above_which_nothing_could_be_tried_is_said(found):
    short = part(found, 1e-7, 0.1, suggestion=0.05, trials=())

    (said,) = tight_bounds(short)

    assert said.startswith(
        "nothing above the suggestion was tried, which lies close below 0.1, the highest learning rate of the sweep"
    )


def test_a_loss_that_has_not_moved_up_to_a_low_bound_is_to_be_looked_for_higher(lr_range_of):
    (said,) = tight_bounds(part(lr_range_of("flat"), 1e-7, 1e-4))

    assert said.startswith("the loss has not risen yet at 0.0001, the highest learning rate of the sweep; raise it")


def test_a_sweep_that_begins_in_its_fall_is_to_begin_lower(found):
    assert tight_bounds(part(found, 1e-3, 10)) == (
        "the loss already falls at 0.001, the lowest learning rate of the sweep; lower it (trainwright lr --low 0.0001)",
    )


def test_a_sweep_that_rises_at_once_is_to_begin_lower(lr_range_of):
    (said,) = tight_bounds(part(lr_range_of("diverging"), 0.1, 1))

    assert said.startswith("the loss already rises at 0.1, the lowest learning rate of the sweep; lower it")


@pytest.mark.parametrize(
    ("lr", "where"),
    [(1.8e-4, "below"), (1.95e-4, "inside"), (0.013, "inside"), (0.0615, "inside"), (0.064, "above"), (None, None)],
)
def test_a_rate_lies_below_within_or_above_the_interval_whose_ends_are_known_to_two_digits(found, lr, where):
    """The interval goes from 2e-4 to 0.06."""
    assert lies(lr, found) == where


def test_without_an_interval_no_rate_lies_beside_it(found):
    assert lies(0.013, replace(found, interval=None)) is None
