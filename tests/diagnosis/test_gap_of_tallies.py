"""The gap of scores that are no means of images: mean IoU and R² from tallies."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainwright.diagnosis.gap import cross_fitted_gap, gap


def mean(tally_BQ: np.ndarray) -> np.ndarray:
    """Tallies (sum, number)."""
    found: np.ndarray = tally_BQ[:, 0] / tally_BQ[:, 1]
    return found


def r_squared(tally_BQ: np.ndarray) -> np.ndarray:
    """Tallies (1, truth, truth squared, error squared)."""
    n, truth, square, error = tally_BQ.T
    found: np.ndarray = 1 - error / (square - truth**2 / n)
    return found


def as_tally(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones_like(values)], axis=-1)


def numbers(truth: np.ndarray, errors: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(errors), truth + 0 * errors, truth**2 + 0 * errors, errors**2], axis=-1)


def graded(seed: int, epochs: int = 6, n: int = 90) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.uniform(0.4, 0.9, (epochs, n)) + 0.02 * rng.standard_normal((epochs, 1)), 0, 1)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_mean_as_tallies_has_the_gap_of_its_per_image_scores(grouped: bool) -> None:
    train, val = graded(0, n=120)[0] ** 0.2, graded(1)[0]
    groups = np.arange(90) // 2 if grouped else None

    same = gap(train, val, groups_val=groups, train_total=300)
    found = gap(as_tally(train), as_tally(val), score=mean, groups_val=groups, train_total=300)

    for a, b in ((found.interval, same.interval), (found.val_error, same.val_error)):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))


@pytest.mark.parametrize("n", [90, 91])
def test_a_mean_as_tallies_is_cross_fitted_like_its_per_image_scores(n: int) -> None:
    train, val, strata = graded(2, n=120), graded(3, n=n), np.arange(n) % 3

    same = cross_fitted_gap(train, val, strata_N=strata, train_total=200)
    found = cross_fitted_gap(as_tally(train), as_tally(val), score=mean, strata_N=strata, train_total=200)

    for a, b in ((found.interval, same.interval), (found.val_error, same.val_error)):
        assert (a.value, a.low, a.high) == pytest.approx((b.value, b.low, b.high))
    assert found.cross_fitted


def test_an_r_squared_below_zero_is_an_error_above_one() -> None:
    truth = np.random.default_rng(0).normal(size=100)

    result = gap(numbers(truth, 0.1 * truth), numbers(truth, -2 * truth), score=r_squared)

    assert result.val_error.value == pytest.approx(4 * (truth**2).sum() / ((truth - truth.mean()) ** 2).sum())
    assert result.overfits == "yes"


def test_errors_are_never_below_zero() -> None:
    truth, errors = np.arange(8.0), np.array([0.1] * 7 + [1.0])

    result = gap(numbers(truth, errors), numbers(truth, errors), score=r_squared)

    assert result.val_error.low >= 0


def test_a_gap_of_tallies_in_doubt_says_how_many_images_would_tell() -> None:
    rng = np.random.default_rng(1)
    train, val = as_tally(np.full(4000, 0.78)), as_tally(rng.uniform(0.4, 0.98, 40))

    result = gap(train, val, score=mean)

    # the arms shrink with the root: the value stands `distance` from the margin, the arm towards it is `arm` long
    arm, distance = result.interval.value - result.interval.low, result.interval.value - result.margin
    assert result.overfits == "cannot-tell"
    assert result.images_that_would_tell == pytest.approx(40 * (arm / distance) ** 2, rel=0.05)


def test_perfect_answers_still_leave_doubt() -> None:
    result = gap(as_tally(np.ones(100)), as_tally(np.ones(30)), score=mean)

    assert result.val_error.high > 0.1


def test_an_undefined_score_cannot_be_told() -> None:
    result = gap(np.ones((5, 2)), np.zeros((5, 2)), score=mean)

    assert (math.isnan(result.val_error.value), result.overfits, result.images_that_would_tell) == (
        True,
        "cannot-tell",
        None,
    )


def test_scores_that_half_the_images_lower_are_set_right() -> None:
    """The kept epoch is the best on every half, so cross-fitting has nothing to take out: its own error must come out,
    though the score, here one minus the reciprocal of the number of images, is lower on any half."""

    def grows(tally_BQ: np.ndarray) -> np.ndarray:
        found: np.ndarray = mean(tally_BQ) - 1 / tally_BQ[:, 1]
        return found

    val = as_tally(np.stack([np.full(50, 0.2), np.full(50, 0.8), np.full(50, 0.5)]))

    result = cross_fitted_gap(val, val, score=grows)

    assert result.val_error.value == pytest.approx(1 - (0.8 - 1 / 50))


def test_luck_in_choosing_among_equal_epochs_is_taken_out() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(size=200)
    val = numbers(truth, 0.6 * rng.normal(size=(40, 200)))

    result = cross_fitted_gap(val, val, score=r_squared)

    lucky = 1 - max(float(r_squared(epoch.sum(axis=0)[None])[0]) for epoch in val)
    typical = 1 - float(np.mean([r_squared(epoch.sum(axis=0)[None])[0] for epoch in val]))
    assert result.val_error.value - lucky > 0.02
    assert result.val_error.value == pytest.approx(typical, abs=0.02)


def test_an_epoch_without_a_score_is_not_chosen() -> None:
    val = as_tally(np.stack([np.full(20, 0.5), np.full(20, 0.7)]))
    val[0] = 0

    result = cross_fitted_gap(val, val, score=mean)

    assert result.val_error.value == pytest.approx(0.3)


def test_epochs_may_come_one_by_one() -> None:
    val = as_tally(graded(4))

    assert cross_fitted_gap(list(val), list(val), score=mean) == cross_fitted_gap(val, val, score=mean)


@pytest.mark.parametrize("bad", [np.ones(3), np.zeros((0, 2)), np.array([[1.0, math.nan]])])
def test_tallies_that_are_missing_or_not_finite_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^val: expected finite tallies, \[images, figures\], of at least one image"):
        gap(np.ones((3, 2)), bad, score=mean)


def test_the_cross_fitted_interval_of_r_squared_covers_the_kept_epochs_gap() -> None:
    rng, epochs, n, hits = np.random.default_rng(0), 12, 150, []
    for _ in range(150):
        noise_E = 0.5 + 0.6 * np.exp(-np.arange(epochs) / 2) + 0.01 * rng.standard_normal(epochs)
        truth_train, truth_val = rng.normal(size=n), rng.normal(size=n)
        own = rng.standard_normal((epochs, n)) * 0.5 + rng.standard_normal(n) * math.sqrt(0.75)
        val = numbers(truth_val, noise_E[:, None] * own)
        train = numbers(truth_train, 0.2 * rng.standard_normal((epochs, n)))
        kept = int(np.argmax([r_squared(epoch.sum(axis=0)[None])[0] for epoch in val]))
        interval = cross_fitted_gap(train, val, score=r_squared).interval
        hits.append(interval.low <= noise_E[kept] ** 2 - 0.04 <= interval.high)

    assert 0.90 <= np.mean(hits) <= 0.99
