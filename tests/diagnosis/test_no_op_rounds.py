"""Rounds of simulated trainings: how often nothing is adopted for something, and something is found.

Figures of more rounds: docs/statistics.md.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from trainwright.diagnosis.comparison import adopted, compare
from trainwright.diagnosis.noise import noise_floor

ARMS = 3


class Trainings:
    """Trainings whose answers to the same images share what is hard about an image.

    own: part of an image's difficulty that each training has to itself. excess: variance of the score between seeds that
    moves all images together, as a multiple of the noise floor's.
    """

    def __init__(self, rng: np.random.Generator, *, images: int, accuracy: float, own: float, excess: float) -> None:
        self._rng, self._own, self._accuracy = rng, own, accuracy
        self._hard_N = math.sqrt(1 - own) * rng.standard_normal(images)
        sample = math.sqrt(1 - own) * rng.standard_normal(20_000)
        chance = ndtr((ndtri(accuracy) + sample) / math.sqrt(own))
        floor = math.sqrt(float((chance * (1 - chance)).mean()) / images)
        slope = math.exp(-(ndtri(accuracy) ** 2) / 2) / math.sqrt(2 * math.pi)  # of the accuracy over the skill
        self._spread = math.sqrt(excess) * floor / slope

    def answers(self, gain: float = 0.0) -> np.ndarray:
        skill = ndtri(self._accuracy + gain) + self._spread * self._rng.standard_normal()
        own_N = math.sqrt(self._own) * self._rng.standard_normal(len(self._hard_N))
        right_N: np.ndarray = (skill + self._hard_N + own_N > 0).astype(float)
        return right_N


def round_of(trainings: Trainings, *, controls: int, seeds: int = 1, gain: float = 0.0) -> list[str]:
    """The arms that a round adopts; the first has a true gain of `gain`, the others of nothing."""
    control = [trainings.answers() for _ in range(controls)]
    noise = noise_floor(trainings.answers(), control[0])
    arms = {str(arm): [trainings.answers(gain if arm == 0 else 0.0) for _ in range(seeds)] for arm in range(ARMS)}
    compared = {name: compare(arm, control, noise=noise) for name, arm in arms.items()}
    return [name for name, verdict in adopted(compared, noise=noise).items() if verdict.decision == "adopt"]


def rounds(count: int, *, images: int, own: float, excess: float, **how) -> list[list[str]]:
    rng = np.random.default_rng(17)
    return [round_of(Trainings(rng, images=images, accuracy=0.75, own=own, excess=excess), **how) for _ in range(count)]


@pytest.mark.parametrize("excess", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("controls", "seeds"), [(1, 1), (2, 1), (2, 2)])
def test_a_change_of_nothing_but_the_seed_is_adopted_in_at_most_five_percent_of_rounds(excess, controls, seeds) -> None:
    found = rounds(120, images=400, own=0.35, excess=excess, controls=controls, seeds=seeds)

    assert np.mean([bool(names) for names in found]) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 120)


@pytest.mark.parametrize("excess", [0.0, 0.4])
@pytest.mark.parametrize(("controls", "seeds"), [(2, 1), (2, 2)])
def test_six_points_on_a_thousand_images_are_adopted_in_most_rounds(excess, controls, seeds) -> None:
    found = rounds(60, images=1000, own=0.25, excess=excess, controls=controls, seeds=seeds, gain=0.06)

    assert np.mean(["0" in names for names in found]) > 0.6


def test_without_a_noise_floor_seeds_that_differ_in_earnest_are_taken_for_gains() -> None:
    rng = np.random.default_rng(18)
    trainings = Trainings(rng, images=400, accuracy=0.75, own=0.35, excess=3.0)

    found = [compare([trainings.answers()], [trainings.answers()]).p < 0.05 for _ in range(150)]

    assert np.mean(found) > 0.2


@pytest.mark.slow
@pytest.mark.parametrize("excess", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("seeds", [(1, 1), (1, 2), (2, 2), (3, 3)])
def test_the_interval_covers_the_gain_that_another_seed_and_other_images_would_show(excess, seeds) -> None:
    rng = np.random.default_rng(19)
    held = []
    for _ in range(600):
        trainings = Trainings(rng, images=300, accuracy=0.75, own=0.35, excess=excess)
        arm, control = (
            [trainings.answers(gain) for _ in range(count)] for count, gain in zip(seeds, (0.05, 0.0), strict=True)
        )
        noise = noise_floor(trainings.answers(), control[0])
        gain = compare(arm, control, noise=noise).gain
        held.append(gain.low <= 0.05 <= gain.high)

    assert np.mean(held) >= 0.93
