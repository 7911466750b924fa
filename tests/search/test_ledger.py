from __future__ import annotations

import math

import pytest

from trainwright.search.ledger import LADDER, Ledger, Pace, rung


def ledger(limit: float = 100.0) -> Ledger:
    return Ledger(limit=limit, pace=Pace(epoch_seconds=2.0, run_seconds=5.0))


def test_a_run_costs_its_epochs_and_what_surrounds_them():
    assert ledger().seconds(10) == 25.0
    assert ledger().seconds(10, cost=1.5) == 35.0


def test_as_many_whole_epochs_fit_as_the_seconds_pay_for():
    assert ledger().epochs(26.9) == 10
    assert ledger().epochs(25.0) == 10
    assert ledger().epochs(25.0, cost=2.0) == 5
    assert ledger().epochs(6.0) == 0


def test_what_is_booked_is_not_left():
    kept = ledger()

    kept.book(30.0)

    assert (kept.spent, kept.left) == (30.0, 70.0)


def test_the_pace_is_learned_from_a_run_that_was_as_costly_as_it_was():
    kept = ledger()

    kept.learn(epochs=10, seconds=34.0, training_seconds=30.0, cost=1.5)

    assert kept.pace == Pace(epoch_seconds=2.0, run_seconds=4.0)


def test_without_a_limit_the_longest_training_fits():
    assert ledger(math.inf).epochs(math.inf) == LADDER[-1]


def test_a_rung_is_the_next_count_below():
    assert [rung(epochs) for epochs in (1, 7, 8, 499, 10_000)] == [1, 6, 8, 420, 500]


def test_a_pace_without_seconds_is_refused():
    with pytest.raises(ValueError, match="expected seconds above 0"):
        Pace(epoch_seconds=0.0, run_seconds=1.0)
