from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from trainwright.diagnosis.gap import cross_fitted_answers, cross_fitted_gap, gap
from trainwright.diagnosis.stats import newcombe_difference


def answers(right: int, n: int) -> np.ndarray:
    return np.array([1.0] * right + [0.0] * (n - right))


def random_epochs(accuracy: float, epochs: int = 10, n: int = 300, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((epochs, n)) < accuracy).astype(float)


def test_a_clear_gap_overfits() -> None:
    result = gap(answers(980, 1000), answers(750, 1000))

    assert result.overfits == "yes"
    assert result.images_that_would_tell is None


def test_equal_errors_on_many_images_do_not_overfit() -> None:
    result = gap(answers(9500, 10_000), answers(9500, 10_000))

    assert result.overfits == "no"


def test_a_gap_on_few_images_cannot_be_told() -> None:
    result = gap(answers(49, 50), answers(45, 50))

    assert result.overfits == "cannot-tell"


def test_right_or_wrong_answers_take_newcombes_interval() -> None:
    result = gap(answers(32, 80), answers(14, 70))

    assert result.interval == newcombe_difference(56, 70, 48, 80)


def test_the_margin_is_two_points_or_a_fifth_of_the_unseen_error() -> None:
    small, large = gap(answers(95, 100), answers(95, 100)), gap(answers(95, 100), answers(60, 100))

    assert (small.margin, large.margin) == pytest.approx((0.02, 0.08))


def test_the_images_that_would_tell_do_tell_and_one_in_ten_fewer_do_not() -> None:
    result = gap(answers(190, 200), answers(178, 200))

    needed = result.images_that_would_tell
    assert needed is not None
    assert newcombe_difference(0.11 * needed, needed, 0.05 * needed, needed).low > result.margin
    assert newcombe_difference(0.099 * needed, 0.9 * needed, 0.045 * needed, 0.9 * needed).low < result.margin


def test_a_gap_on_the_margin_is_not_settled_by_any_number_of_images() -> None:
    result = gap(answers(920, 1000), answers(900, 1000))

    assert result.overfits == "cannot-tell"
    assert result.images_that_would_tell is None


def test_a_train_error_measured_on_every_train_image_adds_no_doubt() -> None:
    result = gap(answers(90, 100), answers(70, 100), train_total=100)

    assert (result.train_error.low, result.train_error.high) == (result.train_error.value, result.train_error.value)
    assert result.interval.high - result.interval.value == pytest.approx(result.val_error.high - result.val_error.value)


def test_a_sample_of_half_the_train_images_leaves_root_half_of_the_doubt() -> None:
    endless, half = gap(answers(90, 100), answers(70, 100)), gap(answers(90, 100), answers(70, 100), train_total=200)

    shrunk = (half.train_error.high - 0.1) / (endless.train_error.high - 0.1)
    assert shrunk == pytest.approx(0.5**0.5)


def test_copies_of_the_same_images_add_no_certainty_when_they_are_grouped() -> None:
    right = answers(70, 100)

    alone = gap(answers(100, 100), right)
    copies = gap(answers(100, 100), np.repeat(right, 5), groups_val=np.repeat(np.arange(100), 5))

    assert copies.val_error.high - copies.val_error.low == pytest.approx(
        alone.val_error.high - alone.val_error.low, rel=0.01
    )


def test_scores_between_right_and_wrong_take_the_bootstrap() -> None:
    scores = np.random.default_rng(0).uniform(0.6, 0.9, 400)

    result = gap(np.ones(400), scores)

    half = 1.96 * scores.std() / 20
    assert (result.val_error.high - result.val_error.low) / 2 == pytest.approx(half, rel=0.1)


def test_no_mistakes_still_leave_doubt() -> None:
    result = gap(np.ones(100), np.ones(30))

    assert result.val_error.high > 0.1


@pytest.mark.parametrize("bad", [np.array([0.5, 1.5]), np.array([0.5, np.nan]), np.array([])])
def test_scores_outside_0_to_1_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(
        ValueError, match=r"^val_per_image: expected 1 axes of scores from 0 to 1 and at least one image"
    ):
        gap(np.ones(3), bad)


@given(st_numpy.arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)))
def test_the_interval_holds_the_gap_whatever_the_scores(scores: np.ndarray) -> None:
    result = gap(np.ones(20), scores)

    assert result.interval.low <= result.interval.value <= result.interval.high
    assert result.interval.value == pytest.approx(1 - scores.mean(), abs=1e-9)


@given(st.permutations(range(12)))
def test_the_order_of_the_images_does_not_matter(order: list[int]) -> None:
    right = answers(8, 12)

    assert gap(np.ones(5), right[order]) == gap(np.ones(5), right)


def test_one_epoch_was_not_chosen_so_cross_fitting_changes_nothing() -> None:
    train, val = random_epochs(0.95, epochs=1), random_epochs(0.8, epochs=1, seed=1)

    assert cross_fitted_gap(train, val).interval == gap(train[0], val[0]).interval


def test_luck_in_choosing_among_equal_epochs_is_taken_out() -> None:
    val = random_epochs(0.8, epochs=60, n=400, seed=3)

    result = cross_fitted_gap(np.ones_like(val), val)

    lucky = 1 - val.mean(axis=1).max()
    assert result.val_error.value - lucky > 0.02
    assert result.val_error.value == pytest.approx(0.2, abs=0.015)


def test_the_train_side_is_that_of_the_kept_epoch() -> None:
    val = np.stack([answers(70, 100), answers(95, 100), answers(60, 100)])
    train = np.stack([answers(80, 100), answers(97, 100), answers(99, 100)])

    result = cross_fitted_gap(train, val)

    assert result.train_error.value == pytest.approx(0.03)
    assert result.val_error.value == pytest.approx(0.05)
    assert result.cross_fitted


def test_cross_fitting_repeats() -> None:
    train, val = random_epochs(0.95), random_epochs(0.8, seed=1)

    assert cross_fitted_gap(train, val) == cross_fitted_gap(train, val)


def test_strata_and_groups_leave_the_truth_inside_the_interval() -> None:
    train, val = random_epochs(0.95, n=400), np.repeat(random_epochs(0.8, n=200, seed=1), 2, axis=1)
    groups = np.repeat(np.arange(200), 2)

    result = cross_fitted_gap(train, val, strata_N=groups % 3, groups_N=groups)

    assert result.interval.low < 0.15 < result.interval.high


def test_graded_scores_can_be_cross_fitted_too() -> None:
    val = np.random.default_rng(5).uniform(0.6, 0.9, (8, 200))

    result = cross_fitted_gap(np.ones_like(val), val)

    assert result.interval.low < 0.25 < result.interval.high


def test_different_numbers_of_epochs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^cross_fitted_gap: expected the same epochs on both sides, got 3 and 4$"):
        cross_fitted_gap(np.ones((3, 5)), np.ones((4, 5)))


def test_answers_are_those_of_an_epoch_that_other_images_chose() -> None:
    """Epochs of pure chance: the best one flatters, the cross-fitted answers do not."""
    rng = np.random.default_rng(0)
    best, fitted = [], []
    for _ in range(200):
        val_E = [(rng.random((60, 1)) < 0.5).astype(float) for _ in range(30)]
        best.append(max(float(tally.mean()) for tally in val_E))
        fitted.append(float(cross_fitted_answers(val_E).mean()))

    assert np.mean(best) > 0.6
    assert np.mean(fitted) == pytest.approx(0.5, abs=0.02)


def test_cross_fitted_answers_of_any_score_are_tallies_of_one_of_its_epochs_for_each_image() -> None:
    rng = np.random.default_rng(1)
    val_E = [rng.random((40, 3)) for _ in range(5)]

    fitted = cross_fitted_answers(val_E, score=lambda tally_BQ: tally_BQ[:, 0] / tally_BQ.sum(axis=1))

    where = [[epoch for epoch in range(5) if np.array_equal(val_E[epoch][row], fitted[row])] for row in range(40)]
    assert all(len(found) == 1 for found in where)
    scores = [tally[:, 0].sum() / tally.sum() for tally in val_E]
    assert max({found[0] for found in where}, key=lambda epoch: scores[epoch]) == int(np.argmax(scores))


def test_what_most_images_choose_is_what_is_kept() -> None:
    """Epochs that get better surely: nothing is lost by choosing with nine tenths."""
    val_E = [np.arange(100)[:, None] < 50 + 3 * epoch for epoch in range(10)]

    assert cross_fitted_answers(val_E).mean() == pytest.approx(0.77)


def test_where_the_epochs_are_alike_the_answers_are_as_they_were() -> None:
    tally = np.array([[1.0], [0.0], [1.0], [1.0]])

    assert np.array_equal(cross_fitted_answers([tally, tally]), tally)
