"""What a search knows of its learning curves, as numbers: epochs that tell, scores by epoch, and errors on a scale to model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.stats import rankdata

from trainwright.search.history import History, Told

# Choices of ours.
GROWTH = 1.5  # from one epoch at which curves are looked at to the next
COMPARABLE = 0.5  # rank correlation with later scores from which on an epoch tells
ENOUGH = 6  # trainings that have both epochs, before their correlation is believed
LATER = 3  # times the epoch: what counts as later
FINE = 0.003  # errors below it are as good as none: what some hundred validation samples can tell
LOWEST = 4.0  # spreads below the best; what is worse counts as that


@dataclass(kw_only=True)
class Curves:
    """Finite scores of trials by epoch. end: the last epoch. scores: by trial and epoch, of those that have any."""

    end: int
    scores: dict[int, dict[int, float]] = field(default_factory=dict)
    best: dict[int, float] = field(default_factory=dict)  # score of each trial

    def add(self, history: History, tolds: Iterable[Told]) -> None:
        """Take in outcomes, in their order. Where their curves were not told, the ends of the pieces are all that is known."""
        for told in tolds:
            ask = history.asks[told.number]
            end = ask.epochs or self.end
            if told.scores:
                new = dict(enumerate(told.scores[:end], 1))
            else:
                new = {end: told.score} if told.scored and told.state == "finished" else {}
            finite = {epoch: score for epoch, score in new.items() if math.isfinite(score)}
            if finite:
                self.scores.setdefault(ask.trial, {}).update(finite)
                self.best[ask.trial] = max(self.best.get(ask.trial, -math.inf), *finite.values())

    def foremost(self, count: int, *, reaching: int = 1) -> list[int]:
        """All trials that are known at that epoch or later, by number; of more than `count` those with the best scores."""
        fit = [number for number, scores in self.scores.items() if max(scores) >= reaching]
        return sorted(sorted(fit, key=lambda number: (-self.best[number], number))[:count])

    def reach(self, epoch: int) -> bool:
        """Whether any is known at that epoch or later."""
        return any(max(scores) >= epoch for scores in self.scores.values())


def levels(first: int, end: int) -> tuple[int, ...]:
    """Epochs from first to end, each about `GROWTH` times the one before it."""
    count = round(math.log(end / first) / math.log(GROWTH)) if end > first else 0
    return tuple(sorted({round(float(epoch)) for epoch in np.geomspace(first, end, max(count, 1) + 1)}))


def lowest_comparable(scores: Iterable[Mapping[int, float]], epochs: Sequence[int]) -> int:
    """The lowest of these epochs whose scores order trainings as later ones do.

    Rank correlation (Spearman's) with epochs at least `LATER` times as late, the best of them, over trainings that have both. An
    epoch with which too few later ones can be compared is taken as it is: nothing speaks against it.
    """
    curves = list(scores)
    scores_NE = np.array([[curve.get(epoch, math.nan) for epoch in epochs] for curve in curves])
    for index, epoch in enumerate(epochs):
        later = [late for late, other in enumerate(epochs) if other >= LATER * epoch]
        found = [_rank_correlation(scores_NE[:, [index, late]]) for late in later] if curves else []
        known = [one for one in found if one is not None]
        if not known or max(known) >= COMPARABLE:
            return epoch
    return epochs[-1]


def _rank_correlation(pairs_N2: np.ndarray) -> float | None:
    """None where too few have both."""
    both_N2 = pairs_N2[np.isfinite(pairs_N2).all(axis=1)]
    if len(both_N2) < ENOUGH:
        return None
    early, late = rankdata(both_N2[:, 0]), rankdata(both_N2[:, 1])
    spread = float(early.std() * late.std())
    return float(np.mean((early - early.mean()) * (late - late.mean()))) / spread if spread > 0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """Scores on a scale that a normal distribution fits: 0 for the best, −1 a spread below it. seen: all scores [N].

    Minus the logarithm of the error: of 1 − score where no score is above 1 (accuracies), of −score where none is above 0
    (losses); other scores stay as they are. The spread is that from the median to the 95th percentile.
    """

    seen: np.ndarray

    def of(self, scores: np.ndarray) -> np.ndarray:
        """The same shape, from −`LOWEST` to 0 for scores that were seen."""
        middle, high, best = np.quantile(self._logs(self.seen), [0.5, 0.95, 1.0])
        return np.asarray(np.maximum((self._logs(scores) - best) / max(float(high - middle), FINE), -LOWEST))

    def _logs(self, scores: np.ndarray) -> np.ndarray:
        if self._best > 1:
            return scores
        zero = 0.0 if self._best <= 0 else 1.0
        fine = FINE if zero else FINE * max(float(np.median(-self.seen)), 1e-12)
        return np.asarray(-np.log(zero - scores + fine))

    @cached_property
    def _best(self) -> float:
        return float(self.seen.max())
