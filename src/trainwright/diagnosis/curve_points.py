"""The points of a learning curve over the number of train images, with what they owe to chance: images and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainwright.diagnosis.stats import CHUNK, Score
from trainwright.seeding import stream

DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """One run. images: how many it was trained on. error: 1 − score of the validation images. tally_NQ: what each of these
    adds to the score, in the same order for all runs."""

    images: int
    seed: int
    error: float
    tally_NQ: np.ndarray = field(repr=False)
    run: str = ""


def resampled(runs: Sequence[TrainedOn], score: Score, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """[B, R]: the error of every run on the same resampled validation images; whole groups are resampled."""
    count = len(runs[0].tally_NQ)
    unit_N = np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units, rng = int(unit_N.max()) + 1, stream(seed, "more-data-images", count)
    errors_BR = np.empty((DRAWS, len(runs)))
    rows = max(1, CHUNK // max(count, runs[0].tally_NQ.shape[1]))
    for start in range(0, DRAWS, rows):
        weights_BN = rng.multinomial(units, np.full(units, 1 / units), min(rows, DRAWS - start))[:, unit_N].astype(
            float
        )
        for column, run in enumerate(runs):
            with np.errstate(divide="ignore", invalid="ignore"):
                errors_BR[start : start + rows, column] = 1 - score(weights_BN @ run.tally_NQ)
    known_B = np.isfinite(errors_BR).all(axis=1)
    if not known_B.any():
        raise ValueError("more_data: the score is not defined on resampled validation images")
    own_R = np.array([float(1 - score(run.tally_NQ.sum(axis=0)[None])[0]) for run in runs])
    moved_R = np.array([run.error for run in runs]) - own_R  # tallies give average precision only nearly
    return np.asarray(errors_BR[known_B] + np.nan_to_num(moved_R))


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Of one run, as a variance in units of scale_S, e(1 − e) of each size.

    seeds: between seeds, with `freedom` degrees of freedom. images: the part of it that a finite number of validation images
    explains (Jordan, arXiv:2304.01910). runs: of each size.
    """

    scale_S: np.ndarray
    seeds: float
    images: float
    freedom: int
    runs: int

    def deviation_S(self) -> np.ndarray:
        """Standard deviation of a mean over seeds about the curve, leaving out what all sizes share."""
        return np.asarray(np.sqrt(max(self.seeds, self.images, 1e-9) * self.scale_S / self.runs))


def noise_of(measured_SK: np.ndarray, errors_BSK: np.ndarray) -> Noise:
    """From the differences between seeds, all sizes together: errors vary with e(1 − e), as shares of images do."""
    mean_S = np.clip(measured_SK.mean(axis=1), 0.0, 1.0)
    scale_S = np.maximum(mean_S * (1 - mean_S), 1e-4)
    between = float((measured_SK.var(axis=1, ddof=1) / scale_S).mean())
    apart_BSK = errors_BSK - errors_BSK.mean(axis=2, keepdims=True)
    runs = measured_SK.shape[1]
    of_images_S = apart_BSK.var(axis=0).sum(axis=1) / (runs - 1)
    return Noise(
        scale_S=scale_S,
        seeds=between,
        images=float((of_images_S / scale_S).mean()),
        freedom=len(mean_S) * (runs - 1),
        runs=runs,
    )


def drawn(errors_BSK: np.ndarray, noise: Noise, seed: int) -> np.ndarray:
    """[B, S]: means over seeds with resampled images, and with what seeds vary beyond that, itself drawn from its estimate."""
    rng, draws = stream(seed, "more-data-seeds"), len(errors_BSK)
    between_B = noise.seeds * noise.freedom / rng.chisquare(noise.freedom, draws)
    beyond_B = np.maximum(0.0, between_B - noise.images)
    jitter_BS = rng.standard_normal((draws, len(noise.scale_S)))
    return np.asarray(errors_BSK.mean(axis=2) + np.sqrt(beyond_B[:, None] * noise.scale_S / noise.runs) * jitter_BS)
