"""The noise floor against trainings whose noise is known, luck against draws, and variance beyond the floor."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from trainwright.diagnosis.noise import excess_variance, luck, noise_floor


def r2(tally_B4: np.ndarray) -> np.ndarray:
    """tally: (truth − answer)², truth, truth², 1."""
    squared, total, total_of_squares, count = tally_B4.T
    return 1 - squared / (total_of_squares - total**2 / count)


def mean_iou(tally_B6: np.ndarray) -> np.ndarray:
    """tally: pixels that are right, then those that are said or true, of three classes each."""
    return (tally_B6[:, :3] / tally_B6[:, 3:]).mean(axis=1)


def regressions(rng: np.random.Generator, seeds: int, images: int) -> np.ndarray:
    """[seeds, images, 4]: every training answers with the same fault of the image and one of its own."""
    truth_N = rng.standard_normal(images)
    fault_SN = 0.3 * rng.standard_normal(images) + 0.4 * rng.standard_normal((seeds, images))
    columns = [
        fault_SN**2,
        *(np.broadcast_to(column, fault_SN.shape) for column in (truth_N, truth_N**2, 1 + 0 * truth_N)),
    ]
    return np.stack(columns, axis=2)


def segmentations(rng: np.random.Generator, seeds: int, images: int) -> np.ndarray:
    """[seeds, images, 6]: 100 pixels an image in three classes, of which each training gets its own share right."""
    pixels_N3 = rng.multinomial(100, (0.6, 0.3, 0.1), size=images).astype(float)
    hard_N3 = rng.standard_normal((images, 3))
    share_SN3 = ndtr(1 + 0.7 * hard_N3 + 0.5 * rng.standard_normal((seeds, images, 3)))
    right_SN3 = share_SN3 * pixels_N3
    return np.concatenate([right_SN3, 2 * pixels_N3 - right_SN3], axis=2)


def test_the_floor_of_two_trainings_is_the_root_of_their_disagreements_over_twice_the_images() -> None:
    one, other = np.array([1, 1, 1, 0, 0, 1, 1, 1]), np.array([1, 1, 0, 1, 0, 1, 1, 1])

    assert noise_floor(one, other) == pytest.approx(math.sqrt((2 / 8) / (2 * 8)))


def test_the_floor_of_tallies_looks_at_their_first_column() -> None:
    one, other = np.array([[1, 7], [1, 8], [0, 9], [1, 3]]), np.array([[1, 1], [0, 2], [0, 3], [1, 4]])

    assert noise_floor(one, other) == pytest.approx(noise_floor(one[:, 0], other[:, 0]))


def test_the_floor_of_three_trainings_takes_the_mean_over_their_pairs() -> None:
    right_3N = np.random.default_rng(0).random((3, 40)) < 0.7
    pairs = [noise_floor(right_3N[a], right_3N[b]) for a, b in ((0, 1), (0, 2), (1, 2))]

    assert noise_floor(*right_3N) == pytest.approx(math.sqrt(np.mean(np.square(pairs))))


def test_trainings_that_answer_alike_have_no_noise() -> None:
    right_N = np.random.default_rng(0).random(30) < 0.6

    assert noise_floor(right_N, right_N) == pytest.approx(0, abs=1e-12)


def test_images_that_always_fall_together_make_as_much_noise_as_single_ones() -> None:
    one, other = np.array([1, 0, 1, 1, 0, 1]), np.array([1, 1, 1, 0, 0, 1])
    twice = np.repeat(np.arange(6), 3)

    assert noise_floor(one[twice], other[twice], groups=twice) == pytest.approx(noise_floor(one, other))


@pytest.mark.parametrize(("make", "score", "images"), [(regressions, r2, 200), (segmentations, mean_iou, 150)])
def test_the_floor_of_other_scores_is_their_deviation_between_seeds(make, score, images) -> None:
    rng = np.random.default_rng(1)
    tallies_SNQ = make(rng, 400, images)
    real = score(tallies_SNQ.sum(axis=1)).std(ddof=1)

    floors = [noise_floor(*tallies_SNQ[row : row + 2], score=score) for row in range(0, 100, 2)]

    assert math.sqrt(np.mean(np.square(floors))) == pytest.approx(real, rel=0.1)


def test_the_floor_of_right_and_wrong_is_their_deviation_between_seeds() -> None:
    rng = np.random.default_rng(2)
    chance_N = ndtr(1 + rng.standard_normal(300))
    right_SN = rng.random((400, 300)) < chance_N

    floors = [noise_floor(*right_SN[row : row + 2]) for row in range(0, 100, 2)]

    assert math.sqrt(np.mean(np.square(floors))) == pytest.approx(right_SN.mean(axis=1).std(ddof=1), rel=0.1)


def test_a_score_that_is_undefined_without_one_image_has_no_known_noise() -> None:
    one = np.array([[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])

    assert noise_floor(one, 0.5 * one, score=lambda tally_B2: tally_B2[:, 0] / tally_B2[:, 1]) == math.inf


def test_answers_to_other_images_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^expected the answers of all trainings to the same images, got shapes \(3,\) and \(4,\)$"
    ):
        noise_floor(np.ones(3), np.ones(4))


def test_tallies_of_another_score_need_both_axes() -> None:
    with pytest.raises(ValueError, match=r"got shapes \(3,\)$"):
        noise_floor(np.ones(3), np.ones(3), score=r2)


@pytest.mark.parametrize(("k", "expected"), [(1, 0.0), (2, 1 / math.sqrt(math.pi)), (3, 1.5 / math.sqrt(math.pi))])
def test_luck_of_few_trials_has_its_closed_form(k: int, expected: float) -> None:
    assert luck(0.5, k) == pytest.approx(0.5 * expected, abs=1e-9)


@pytest.mark.parametrize("k", [10, 100])
def test_luck_is_what_the_best_of_many_draws_has(k: int) -> None:
    best = np.random.default_rng(k).standard_normal((40_000, k)).max(axis=1)

    assert luck(2.0, k) == pytest.approx(2 * best.mean(), abs=6 * best.std() / 200)


def test_luck_of_a_million_trials_lies_below_its_bound_and_not_far() -> None:
    bound = math.sqrt(2 * math.log(1_000_000))

    assert 0.9 * bound < luck(1.0, 1_000_000) < bound


def test_luck_of_no_trial_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^luck: expected at least one trial"):
        luck(0.1, 0)


def test_scores_as_far_apart_as_the_floor_says_show_no_excess() -> None:
    found = excess_variance([0.70, 0.72, 0.74], 0.02)

    assert (found.deviation.value, found.seeds) == (pytest.approx(0.02), 3)
    assert found.excess == pytest.approx(0, abs=1e-6)
    assert found.p == pytest.approx(math.exp(-1))  # chi-square of 2 degrees of freedom beyond 2


def test_scores_much_further_apart_show_it() -> None:
    found = excess_variance([0.6, 0.7, 0.8, 0.7], 0.01)

    assert found.p < 1e-6
    assert found.excess == pytest.approx(math.sqrt(0.02 / 3 - 0.0001))
    assert found.deviation.low > 0.01


def test_the_test_of_excess_is_right_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)

    false = np.mean([excess_variance(rng.normal(0.7, 0.02, 4).tolist(), 0.02).p < 0.05 for _ in range(500)])

    assert 0.02 < false < 0.08


def test_two_scores_are_too_few_for_a_variance() -> None:
    with pytest.raises(ValueError, match=r"^excess_variance: expected at least 3 finite scores and a noise floor"):
        excess_variance([0.7, 0.8], 0.01)
