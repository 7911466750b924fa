"""How far scores move when nothing but the seed changes: the noise floor, luck among many trials, and variance beyond it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from trainwright.diagnosis.stats import Score, contributions
from trainwright.records import Interval

LEAST_SEEDS = 3  # of two, a test of their variance has one degree of freedom: it finds next to nothing
REACH, POINTS = 12.0, 24_001  # the integral over the maximum of normals: beyond 12 deviations nothing is left


@dataclass(frozen=True, kw_only=True)
class ExcessVariance:
    """Whether scores of the same recipe differ between seeds by more than their noise floor.

    deviation: of the score of one training between seeds, with the 95 % interval of normal scores. excess: the part of it that
    the noise floor does not explain, sqrt(deviation² − sigma²), 0 where there is none. p: of a variance this large or larger
    if there were nothing beyond the noise floor. seeds: how many scores.
    """

    deviation: Interval
    excess: float
    p: float
    seeds: int


def noise_floor(
    one: np.ndarray,
    other: np.ndarray,
    *more: np.ndarray,
    score: Score | None = None,
    groups: np.ndarray | None = None,
) -> float:
    """The deviation of a training's score between seeds that images alone explain: `sigma = sqrt(d / 2n)`.

    one, other, more: answers of trainings that differ only in seed, to the same images in the same order: right or wrong [N]
    or, as column 0 of tallies, [N, Q]; with `score` tallies [N, Q]. d is the share of images on which two differ in
    correctness; of more than two trainings, its mean over all pairs. groups: [N], images that are not independent share a value.

    d/2 is the mean over images of the variance of their correctness between seeds; as images err independently of each other
    once the recipe is given, the variance of the score is that over n (Jordan, arXiv:2304.01910). Any other score is taken
    as the sum of what each image, or group, adds to it, by leaving it out (the jackknife: Efron and Tibshirani 1993, "An
    Introduction to the Bootstrap", ch. 11); the variances of these add up in the same way. Infinite where the score hangs
    on one image. Variance that moves many images together (a training that sometimes fails) is not in it: `excess_variance`.
    Raises ValueError on answers to other images.
    """
    tallies, measured = tallies_of([one, other, *more], score)
    parts_SU = np.stack([contributions(tally_NQ, measured, groups=groups) for tally_NQ in tallies])
    if not np.isfinite(parts_SU).all():
        return math.inf
    return math.sqrt(float(parts_SU.var(axis=0, ddof=1).sum()))


def luck(sigma: float, k: int) -> float:
    """By how much the best of k trials that are all equally good outdoes their mean: sigma · E[max of k normals].

    sigma: deviation of one trial's score. k: trials, at least 1. The expectation is the integral of 1 − Φ(x)^k above
    zero less that of Φ(x)^k below.
    """
    if k < 1 or sigma < 0:
        raise ValueError(f"luck: expected at least one trial and a deviation of 0 or more, got {k} and {sigma}")
    x = np.linspace(0.0, REACH, POINTS)
    above, below = -np.expm1(k * special.log_ndtr(x)), np.exp(k * special.log_ndtr(-x))
    return sigma * float(np.trapezoid(above - below, x))


def excess_variance(scores: Sequence[float], sigma: float) -> ExcessVariance:
    """Do scores of trainings that differ only in seed vary more than `sigma`, their noise floor?

    scores: three or more. Chi-square test of a variance: (k − 1)·s²/sigma² of normal scores (Snedecor and Cochran 1989,
    "Statistical Methods"). Raises ValueError on fewer scores.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) < LEAST_SEEDS or not np.isfinite(values).all() or not sigma >= 0:
        raise ValueError(
            f"excess_variance: expected at least {LEAST_SEEDS} finite scores and a noise floor, got {scores} and {sigma}"
        )
    free, variance = len(values) - 1, float(values.var(ddof=1))
    low, high = (math.sqrt(free * variance / stats.chi2.ppf(level, free)) for level in (0.975, 0.025))
    floor = sigma**2
    p = float(stats.chi2.sf(free * variance / floor, free)) if floor > 0 else float(variance == 0)
    return ExcessVariance(
        deviation=Interval(value=math.sqrt(variance), low=low, high=high),
        excess=math.sqrt(max(0.0, variance - floor)),
        p=p,
        seeds=len(values),
    )


def tallies_of(answers: Sequence[np.ndarray], score: Score | None) -> tuple[list[np.ndarray], Score]:
    """Tallies [N, Q] of each training and the score of their sums; without `score` the share of right ones.

    answers: [N], or [N, Q] with right or wrong in column 0; with `score` tallies [N, Q].
    Raises ValueError where they cannot be of the same images.
    """
    arrays = [np.asarray(answer, dtype=np.float64) for answer in answers]
    if score is None:
        arrays = [array[:, 0] if array.ndim == 2 else array for array in arrays]
    shapes = {array.shape: None for array in arrays}
    if len(shapes) != 1 or arrays[0].ndim != (1 if score is None else 2) or not arrays[0].size:
        raise ValueError(
            f"expected the answers of all trainings to the same images, got shapes {' and '.join(map(str, shapes))}"
        )
    if score is not None:
        return arrays, score
    return [np.stack([right_N, np.ones_like(right_N)], axis=1) for right_N in arrays], _share


def _share(tally_B2: np.ndarray) -> np.ndarray:
    right_B: np.ndarray = tally_B2[:, 0] / tally_B2[:, 1]
    return right_B
