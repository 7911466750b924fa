"""What a search says about its own space: the best at an end of it, where trainings diverge, and which values mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainwright.diagnosis.isolation import Part, isolated
from trainwright.search.domains import Choice, FloatRange, IntRange
from trainwright.search.space import Dimension, Space, Values, condition_of
from trainwright.seeding import derive

WIDENED = 0.5  # of a range's length on its own scale: how much is added at an end that the best lies at
NEAREST, NEAR = (
    0.05,
    0.1,
)  # of a range's length: how far from an end the best still lies at it, with many and with few trials
REGIONS = 3  # of a range: low, middle and high
LEAST_TRIALS = 10  # for importance: a forest over fewer says nothing
TREES = 200
SHUFFLES = 20  # of each dimension
INACTIVE = 0.5  # where a dimension that is not there is put for the forest: the middle of its scale


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The best lies at an end of a range. low, high: the range. wider: the range to look at next. value: the best one's."""

    key: str
    end: str
    value: float
    low: float
    high: float
    wider: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part of a dimension. where: 'optimizer.lr from 0.01 to 0.1'. trials: begun in it; diverged: of these."""

    key: str
    where: str
    trials: int
    diverged: int


def edges_of(space: Space, best: Values, *, tried: int = 0) -> list[Edge]:
    """The ends of ranges that the best values lie at, where a recipe takes what lies beyond.

    tried: trials, whose distance from each other says how near is near: the outermost of few lies further from an end.
    """
    whole = space.completed(best)
    found = []
    share = min(max(NEAREST, 1 / tried), NEAR) if tried else NEAREST
    for name, end in space.edges(best, share=share).items():
        one = space.dimensions[space.names.index(name)]
        wider = _wider(space, one, end, whole)
        if wider is not None and not isinstance(one.domain, Choice):
            low, high = one.domain.low, one.domain.high
            found.append(Edge(key=name, end=end, value=whole[one.key], low=low, high=high, wider=wider))
    return found


def regions_of(space: Space, tried: Sequence[tuple[Values, bool]]) -> list[Region]:
    """Where trainings diverged: of each third of a range, and each choice, in which some did. tried: (values, diverged)."""
    found: list[Region] = []
    if not any(diverged for _, diverged in tried):
        return found
    places = [(space.to_cube(values), diverged) for values, diverged in tried]
    for index, (name, one) in enumerate(zip(space.names, space.dimensions, strict=True)):
        count = len(one.domain.values) if isinstance(one.domain, Choice) else REGIONS
        for part in range(count):
            here = [bad for place_D, bad in places if _part(place_D[index], count) == part]
            if any(here):
                where = _said(name, one, part, count)
                found.append(Region(key=name, where=where, trials=len(here), diverged=sum(here)))
    return found


def isolation_of(
    space: Space, scored: Sequence[tuple[Values, float]], noise: float = math.nan
) -> dict[str, list[Part]]:
    """Of each dimension that is the question (not nuisance) the best at each of its values, or in each part of its range, with
    the others chosen as well as they were. scored: (values, score) of whole trainings."""
    found = {}
    for name, one in zip(space.names, space.dimensions, strict=True):
        there = [(space.completed(values), score) for values, score in scored]
        known = [(whole[one.key], score) for whole, score in there if space.holds(one, whole)]
        if one.role == "scientific" and known:
            values, scores = zip(*known, strict=True)
            found[name] = isolated(values, scores, noise=noise)
    return found


def importance_of(space: Space, scored: Sequence[tuple[Values, float]], *, seed: int = 0) -> dict[str, float] | None:
    """How much of what a model knows of the scores hangs on each dimension, as shares that add up to 1; None where it knows
    nothing.

    A random forest over the unit cube, and by how much its error grows when one dimension is shuffled (permutation importance:
    Breiman 2001, "Random Forests", section 10). None for fewer than ten trials, and where the forest does not predict
    those that a tree has not seen any better than their mean does.
    """
    if len(scored) < LEAST_TRIALS or not space.dimensions:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    places_ND = np.nan_to_num(np.stack([space.to_cube(values) for values, _ in scored]), nan=INACTIVE)
    scores_N = np.array([score for _, score in scored])
    if np.ptp(scores_N) == 0:
        return None
    number = derive(seed, "importance") % 2**32
    forest = RandomForestRegressor(n_estimators=TREES, oob_score=True, min_samples_leaf=2, random_state=number)
    forest.fit(places_ND, scores_N)
    if forest.oob_score_ <= 0:
        return None
    found = permutation_importance(forest, places_ND, scores_N, n_repeats=SHUFFLES, random_state=number)
    shares_D = np.clip(found.importances_mean, 0.0, None)
    total = float(shares_D.sum())
    if total <= 0:
        return None
    return {name: float(share / total) for name, share in zip(space.names, shares_D, strict=True)}


def widened(tree: Mapping[str, Any], edges: Sequence[Edge]) -> dict[str, Any]:
    """The plain data of a space with its ranges as wide as `edges` propose."""
    by_key = dict(tree)
    for edge in edges:
        key = edge.key.partition("[")[0]
        entries = by_key[key] if isinstance(by_key[key], list) else [by_key[key]]
        moved = [
            {**entry, "low": edge.wider[0], "high": edge.wider[1]} if is_of(entry, edge) else entry for entry in entries
        ]
        by_key[key] = moved if isinstance(by_key[key], list) else moved[0]
    return by_key


def is_of(entry: Mapping[str, Any], edge: Edge) -> bool:
    """Whether an entry of a space's plain data is the range that an edge is of, not one of that key under other conditions."""
    _, bracket, condition = edge.key.partition("[")
    return not bracket or condition.removesuffix("]") == condition_of(entry.get("when", {}))


def _wider(space: Space, one: Dimension, end: str, best: Values) -> tuple[float, float] | None:
    """The range with more beyond one end, as much of it as a recipe takes; None where it takes none of it."""
    domain = one.domain
    assert not isinstance(domain, Choice)
    for share in (WIDENED, WIDENED / 2, WIDENED / 4):
        moved = _moved(domain, end, share)
        if moved != (domain.low if end == "low" else domain.high) and _taken(space, {**best, one.key: moved}):
            return (moved, domain.high) if end == "low" else (domain.low, moved)
    return None


def _taken(space: Space, values: Values) -> bool:
    return space.refuses is None or space.refuses(values) is None


def _moved(domain: FloatRange | IntRange, end: str, share: float) -> float:
    low, high = float(domain.low), float(domain.high)
    if domain.log:
        factor: float = (high / low) ** share
        value = low / factor if end == "low" else high * factor
    else:
        value = low - share * (high - low) if end == "low" else high + share * (high - low)
    if isinstance(domain, IntRange):
        whole = math.floor(value) if end == "low" else math.ceil(value)
        return max(1, whole) if domain.log else whole
    return float(f"{value:.2g}")


def _part(place: float, count: int) -> int | None:
    """Which part of a scale a place lies in; None where the dimension is not there."""
    return None if math.isnan(place) else min(int(place * count), count - 1)


def _said(name: str, one: Dimension, part: int, count: int) -> str:
    if isinstance(one.domain, Choice):
        return f"{name} {one.domain.values[part]}"
    low, high = (one.domain.value_at(end / count) for end in (part, part + 1))
    return f"{name} from {low:.3g} to {high:.3g}"
