"""A search's history as numbers for a model of learning curves: places, epochs and errors of everything that was observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import rankdata

from trainwright.search.domains import Choice
from trainwright.search.history import Told
from trainwright.search.space import Space, Values

FINE = 0.003  # errors below it are one: the smallest difference that 1,000 validation samples show in one trial
LOWEST = 4.0  # spreads below the best; what is worse is as bad as that
GROWTH = 1.5  # from one epoch at which curves are looked at to the next
COMPARABLE = 0.5  # rank correlation of an epoch's scores with later ones, from which on it tells
ENOUGH = 6  # trainings that have both epochs, before their correlation is believed
LATER = 3  # times the epoch: what counts as later


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is known of a training. number: of its trial. scores: by epoch. place_F: features of its values."""

    number: int
    place_F: np.ndarray
    scores: dict[int, float]


class Features:
    """The unit cube for a kernel: choices have a coordinate each, dimensions that are not there lie in the middle.

    groups_F: which dimension a feature belongs to.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._sizes = [
            len(one.domain.values) if isinstance(one.domain, Choice) and len(one.domain.values) > 2 else 1
            for one in space.dimensions
        ]
        self.groups_F = np.repeat(np.arange(len(self._sizes)), self._sizes)

    def of(self, values: Values) -> np.ndarray:
        """float64 [F]. Two different choices lie as far apart as the two ends of a range."""
        place_D = self._space.to_cube(values)
        parts = []
        for place, size, one in zip(place_D, self._sizes, self._space.dimensions, strict=True):
            if size == 1:
                parts.append([0.5 if math.isnan(place) else place])
            else:
                there = -1 if math.isnan(place) else min(int(place * size), size - 1)
                parts.append([0.5 + 0.5 * math.sqrt(2) * (index == there) for index in range(size)])
        return np.concatenate(parts) if parts else np.zeros(0)


def levels(first: int, last: int) -> np.ndarray:
    """Epochs from first to last, each about `GROWTH` times the one before it: int [L]."""
    count = max(1, round(math.log(last / first) / math.log(GROWTH))) if last > first else 0
    return np.unique(np.rint(np.geomspace(first, last, count + 1)).astype(int))


def curve_scores(tolds: Sequence[Told], epochs: Sequence[int]) -> dict[int, float]:
    """Finite scores by epoch. epochs: up to which each outcome's piece was to be trained. Without curves, those ends alone."""
    found: dict[int, float] = {}
    for told, end in zip(tolds, epochs, strict=False):
        if told.scores:
            found.update({epoch: score for epoch, score in enumerate(told.scores, 1) if epoch <= end})
        elif told.scored and told.state == "finished":
            found[end] = told.score
    return {epoch: score for epoch, score in found.items() if math.isfinite(score)}


def lowest_comparable(curves: Sequence[Curve], grid: np.ndarray) -> int:
    """The lowest of these epochs whose scores order the trainings as later ones do.

    Rank correlation between an epoch and one at least `LATER` times as late, mean over the trainings that have both. An epoch
    that too few trainings show is taken as it is: nothing speaks against it.
    """
    for epoch in grid[:-1]:
        told = []
        for late in grid[grid >= LATER * epoch]:
            both = [(one.scores[epoch], one.scores[late]) for one in curves if {epoch, late} <= one.scores.keys()]
            if len(both) >= ENOUGH:
                early, end = rankdata([pair[0] for pair in both]), rankdata([pair[1] for pair in both])
                spread = early.std() * end.std()
                told.append(float(np.cov(early, end, bias=True)[0, 1] / spread) if spread > 0 else 0.0)
        if not told or max(told) >= COMPARABLE:
            return int(epoch)
    return int(grid[-1])


@dataclass(frozen=True, kw_only=True)
class Target:
    """Scores as what a normal distribution fits: minus the logarithm of the error, 0 for the best, 1 a spread above another.

    The error is 1 − score where no score is above 1, −score where none is above 0 (losses); other scores stay as they are.
    """

    scores: np.ndarray

    @cached_property
    def _raw(self) -> np.ndarray:
        return self._logs(self.scores)

    @cached_property
    def _spread(self) -> float:
        middle, high = np.quantile(self._raw, [0.5, 0.95])
        return max(float(high - middle), 1e-3)

    def of(self, scores: np.ndarray) -> np.ndarray:
        return np.maximum((self._logs(scores) - self._raw.max()) / self._spread, -LOWEST)

    def _logs(self, scores: np.ndarray) -> np.ndarray:
        top = float(self.scores.max())
        if top <= 0:
            return -np.log(-scores + FINE * max(float(np.median(-self.scores)), 1e-12))
        return -np.log(1 - scores + FINE) if top <= 1 else scores
