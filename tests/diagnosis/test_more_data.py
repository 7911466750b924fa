"""How much more data would help: what curves of known shape are said to come to, and what is not said."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from trainwright.diagnosis.curve_families import FAMILIES, fit
from trainwright.diagnosis.curve_points import TrainedOn
from trainwright.diagnosis.more_data import MoreData, more_data
from trainwright.errors import UsageError
from trainwright.seeding import stream

SIZES = (100, 200, 400, 800)
SHARED = 0.6  # part of the validation images that all runs find easy or hard alike


def power(images: float) -> float:
    return 0.05 + 0.15 * (images / 800) ** -0.35


def logarithmic(images: float) -> float:
    return 0.3 - 0.1 * math.log(images / 800)


def flat(images: float) -> float:
    return 0.1


def trained(
    error: Callable[[float], float],
    *,
    val: int = 1000,
    sizes: tuple[int, ...] = SIZES,
    seeds: int = 2,
    draw: int = 0,
) -> list[TrainedOn]:
    """Runs whose answers are right or wrong with the error's chance; some images are hard for all of them."""
    rng = stream(draw, "simulated-curve")
    hard_N = rng.random(val)
    runs = []
    for images in sizes:
        for seed in range(seeds):
            alone_N = rng.random(val)
            wrong_N = np.where(rng.random(val) < SHARED, hard_N, alone_N) < error(images)
            runs.append(
                TrainedOn(images=images, seed=seed, error=float(wrong_N.mean()), tally_NQ=1.0 - wrong_N[:, None])
            )
    return runs


def judged(error: Callable[[float], float], *, val: int = 1000, **more: object) -> MoreData:
    return more_data(trained(error, val=val, **more), lambda tally_BQ: tally_BQ[:, 0] / val)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_each_family_finds_its_own_curve_back(family) -> None:
    x_S = np.array([0.125, 0.25, 0.5, 1.0])
    shape = float(family.shapes[5])
    truth_S = 0.2 * family.shape(x_S, shape) + 0.3

    found = fit(family, x_S, truth_S[None], np.full(4, 0.01))

    best = int(found.chi_BK[0].argmin())
    assert family.shapes[best] == shape
    assert found.chi_BK[0, best] == pytest.approx(0, abs=1e-12)
    assert found.errors(4.0)[0, best] == pytest.approx(0.2 * family.shape(np.array([4.0]), shape)[0] + 0.3)


def test_a_fit_never_rises_and_never_falls_below_zero() -> None:
    x_S = np.array([0.125, 0.25, 0.5, 1.0])
    errors_BS = np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.4, 0.1, 0.0]])

    for family in FAMILIES:
        found = fit(family, x_S, errors_BS, np.full(4, 0.01))

        assert (found.slopes_BK[0] == 0).all()
        assert found.errors(4.0).min() >= 0


def test_a_power_law_is_foretold_within_the_interval() -> None:
    found = judged(power)

    double, fourfold = found.predictions
    assert double.gain.low <= power(800) - power(1600) <= double.gain.high
    assert fourfold.score.low <= 1 - power(3200) <= fourfold.score.high
    assert (double.images, fourfold.images) == (1600, 3200)


@pytest.mark.slow
def test_intervals_of_the_gain_cover_simulated_curves_of_every_kind() -> None:
    """Twelve curves each of four kinds; the fourth is a mixture of two power laws, which no family is."""

    def mixed(images: float) -> float:
        return 0.03 + 0.1 * (images / 800) ** -0.5 + 0.05 * (images / 800) ** -0.1

    def exponential(images: float) -> float:
        return 0.1 + 0.4 * math.exp(-3 * images / 800)

    covered = []
    for error in (power, logarithmic, exponential, mixed):
        for draw in range(12):
            for told in judged(error, val=400, draw=draw).predictions:
                truth = error(800) - error(800 * told.factor)
                covered.append(told.gain.low <= truth <= told.gain.high)

    assert np.mean(covered) >= 0.93


def test_a_steep_curve_says_yes() -> None:
    found = judged(logarithmic, val=4000, seeds=4)

    assert found.verdict == "yes"
    assert found.reason.startswith("More images would help: +")
    assert found.reason.endswith("for twice as many.")


def test_a_flat_curve_says_no() -> None:
    found = judged(flat, val=4000)

    assert found.verdict == "no"
    assert found.reason.startswith("More images would not help noticeably: ")
    assert found.predictions[0].gain.high < 0.01


def test_few_validation_images_cannot_tell() -> None:
    found = judged(power, val=60)

    assert found.verdict == "cannot-tell"
    assert found.reason.startswith("Cannot tell: the curve is too noisy: for twice as many images it says ")


def test_a_recipe_that_only_guesses_cannot_tell() -> None:
    runs = trained(lambda images: 0.5, val=500)

    found = more_data(runs, lambda tally_BQ: tally_BQ[:, 0] / 500, chance_error=0.5)

    assert found.verdict == "cannot-tell"
    assert "the recipe has not learned" in found.reason


def test_an_error_that_rises_with_more_images_is_said_and_not_explained() -> None:
    found = judged(lambda images: 0.1 + 0.2 * images / 800, val=4000)

    assert found.verdict == "cannot-tell"
    assert "the error rises with more images, beyond the noise between seeds" in found.reason


def test_a_sudden_fall_is_missed_by_the_back_test_which_widens_all_intervals() -> None:
    found = judged(lambda images: 0.02 if images == 800 else 0.4, val=4000)

    assert found.back_test is not None
    assert not found.back_test.inside
    assert found.back_test.miss == pytest.approx(-0.38, abs=0.03)
    assert found.widened > 1


def test_a_curve_without_surprise_passes_its_back_test() -> None:
    found = judged(power)

    assert found.back_test is not None
    assert found.back_test.inside
    assert found.back_test.images == 800
    assert found.back_test.miss == pytest.approx(found.back_test.measured - found.back_test.predicted.value)
    assert found.widened == 1


@pytest.mark.parametrize("factor", [4.5, 10.0, 1.0])
def test_what_lies_beyond_four_times_is_refused(factor) -> None:
    with pytest.raises(UsageError, match="at most 4 times the images at hand"):
        more_data(trained(power), lambda tally_BQ: tally_BQ[:, 0] / 1000, factors=(2.0, factor))


def test_two_sizes_are_too_few() -> None:
    found = judged(power, sizes=(400, 800))

    assert found.verdict == "cannot-tell"
    assert found.reason == "Cannot tell: 2 sizes with 2 seeds each are too few; it takes 3 with 2."
    assert found.predictions == ()


def test_one_seed_does_not_show_the_noise() -> None:
    assert judged(power, seeds=1).verdict == "cannot-tell"


def test_three_sizes_have_no_back_test() -> None:
    assert judged(power, sizes=(200, 400, 800)).back_test is None


def test_runs_that_answered_other_images_are_refused() -> None:
    runs = [*trained(power), *trained(power, val=500, sizes=(1600,))]

    with pytest.raises(ValueError, match="the same validation images"):
        more_data(runs, lambda tally_BQ: tally_BQ[:, 0] / 1000)


def test_images_of_a_group_are_resampled_together() -> None:
    """A hundred images ten times over say no more than a hundred."""
    runs = [
        TrainedOn(images=run.images, seed=run.seed, error=run.error, tally_NQ=np.repeat(run.tally_NQ, 10, axis=0))
        for run in trained(power, val=100)
    ]

    def score(tally_BQ: np.ndarray) -> np.ndarray:
        return tally_BQ[:, 0] / 1000

    grouped = more_data(runs, score, groups=np.repeat(np.arange(100), 10)).points[0].error
    alone = more_data(runs, score).points[0].error

    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_the_same_runs_give_the_same_answer() -> None:
    assert judged(power).to_json() == judged(power).to_json()


def test_the_answer_is_json_and_a_finding() -> None:
    found = judged(flat, val=4000)

    content = json.loads(json.dumps(found.to_json()))
    assert content["verdict"] == found.finding().verdict == "no"
    assert found.finding().rule == "more-data"
    assert {"gain_2x", "gain_2x_low", "gain_2x_high", "gain_4x", "back_test_miss"} <= set(found.finding().figures)
    assert sum(content["weights"].values()) == pytest.approx(1)
