"""One hyperparameter by itself: the best that was reached at each of its values, with the others chosen as well as they were.

Google's tuning playbook, "Isolation plots". To hold the others where they are and move one is another question, and the wrong one
where they act together: with another weight decay another learning rate is best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainwright.records import Interval
from trainwright.seeding import stream

# Choices of ours.
APART = 20.0  # times: values that lie further apart are taken on a logarithmic scale
FEW = 6  # different values that are looked at one by one; of more the range is cut into parts
PARTS = (3, 6)  # at least and at most; in between the square root of the trials
LEAST = 3  # trials of a part, from which on its best has an interval
DRAWS = 1000
SHARE = 0.95


@dataclass(frozen=True, kw_only=True)
class Part:
    """Trials with about the same value. low, high: the least and the largest of them, or the same value twice. value: that of the
    best one. trials: how many. best: of their scores. index: of that trial among all that were given."""

    low: Any
    high: Any
    value: Any
    trials: int
    best: Interval
    index: int


def isolated(values: Sequence[Any], scores: Sequence[float], *, noise: float = 0.0) -> list[Part]:
    """The best at each value, or in each part of a range, in order. values, scores: of trials. noise: deviation of one score by
    seed alone, where that is known.

    The interval: below, what the best would have been had other trials of the part been drawn (bootstrap); on either side what
    seed alone does to it. Without ends where a part has fewer than three trials. As the best of several it is a little too high.
    """
    parts = _parts(values)
    found = []
    for number, members in enumerate(parts):
        index = max(members, key=lambda one: (scores[one], -one))
        here = [values[one] for one in members]
        low, high = (min(here), max(here)) if all(map(_is_number, here)) else (here[0], here[0])
        best = _interval([scores[one] for one in members], noise=noise, number=number)
        found.append(Part(low=low, high=high, value=values[index], trials=len(members), best=best, index=index))
    return found


def _parts(values: Sequence[Any]) -> list[list[int]]:
    """The indices of those that belong together."""
    if not values:
        return []
    different = {_kind(value): value for value in values}
    numbers = all(map(_is_number, values))
    if not numbers or len(different) <= FEW:
        kinds = sorted(different, key=lambda kind: different[kind]) if numbers else list(different)
        return [[index for index, value in enumerate(values) if _kind(value) == kind] for kind in kinds]
    places_N = np.array(values, float)
    if places_N.min() > 0 and places_N.max() / places_N.min() >= APART:
        places_N = np.log(places_N)
    count = min(max(round(math.sqrt(len(values))), PARTS[0]), PARTS[1])
    length = (places_N.max() - places_N.min()) / count
    part_N = np.minimum(((places_N - places_N.min()) / length).astype(int), count - 1)
    return [np.flatnonzero(part_N == part).tolist() for part in range(count) if (part_N == part).any()]


def _interval(scores: Sequence[float], *, noise: float, number: int) -> Interval:
    best = max(scores)
    if len(scores) < LEAST:
        return Interval(value=best, low=-math.inf, high=math.inf)
    scores_N = np.array(scores)
    drawn_DN = stream(0, "isolation", number).integers(len(scores_N), size=(DRAWS, len(scores_N)))
    low = float(np.quantile(scores_N[drawn_DN].max(axis=1), (1 - SHARE) / 2))
    by_seed = 1.96 * noise if math.isfinite(noise) else 0.0
    return Interval(value=best, low=low - by_seed, high=best + by_seed)


def _kind(value: Any) -> Any:
    return (isinstance(value, bool), tuple(map(_kind, value)) if isinstance(value, list | tuple) else value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
