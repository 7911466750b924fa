"""Which kinds of images a model is worse at, beyond chance: by class, brightness, size, and whatever else is known of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from trainwright.diagnosis.comparison import LEVEL, holm
from trainwright.diagnosis.gap import LEAST_MARGIN
from trainwright.diagnosis.stats import bootstrap_mean, difference, effective_count, wilson
from trainwright.records import Interval

LEAST_IMAGES = 20  # independent ones, of a slice and of the rest: below it nothing but a disaster is told from chance
PARTS = 4  # of a number: quarters of the images, of equally many each
EQUAL = 1e-9  # scores that differ by less are the same
MOST_VALUES = 50  # of a word: with more, as of names, a value says nothing of a kind


@dataclass(frozen=True, kw_only=True)
class Slice:
    """The images that share a property. attribute, value: which. images: how many. score: their mean; rest: of all others.

    difference: score less rest, its 95 % interval by itself. p: of no difference, corrected for all slices that were looked at
    (Holm). fails: whether they are worse beyond chance, and by more than is worth acting on.
    """

    attribute: str
    value: str
    images: int
    score: float
    rest: float
    difference: Interval
    p: float

    @property
    def fails(self) -> bool:
        return self.p < LEVEL and self.difference.value < -LEAST_MARGIN


def slices(
    score_N: np.ndarray, attributes: Mapping[str, np.ndarray], *, groups: np.ndarray | None = None
) -> list[Slice]:
    """Every slice with enough images on both sides, the one that costs most first (images times how much worse they are).

    score_N: of each image, higher is better; not finite where it has none, which leaves it out. attributes: by name, a word or a
    number of each image [N]; numbers are cut into quarters, words with a single value or too many are left out. groups: [N],
    images that are not independent share a value. Shares of right answers are held against each other by Fisher's exact test,
    other scores by Welch's; where images fall together in groups both count each group as one.
    Source: one split of the validation images at a time, as in Chung et al., arXiv:1807.06068 §3; Holm 1979.
    """
    known = np.isfinite(score_N)
    group_N = np.arange(len(score_N)) if groups is None else groups
    found = [
        _held_against_rest(name, value, score_N[known], chosen_N[known], group_N[known])
        for name, values in attributes.items()
        for value, chosen_N in _cut(np.asarray(values), known)
    ]
    told = [one for one in found if one is not None]
    corrected = [replace(one, p=p) for one, p in zip(told, holm([one.p for one in told]), strict=True)]
    return sorted(corrected, key=lambda one: one.images * one.difference.value)


def _cut(values_N: np.ndarray, known_N: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(what is said of it, which images) of every slice of an attribute."""
    if values_N.dtype.kind not in "fiu":
        words = np.unique(values_N[known_N])
        if 1 < len(words) <= MOST_VALUES:
            for word in words:
                yield str(word), values_N == word
        return
    finite = known_N & np.isfinite(values_N.astype(np.float64))
    edges = np.unique(np.quantile(values_N[finite], np.linspace(0, 1, PARTS + 1))) if finite.any() else np.empty(0)
    for place in range(len(edges) - 1):
        low, high = edges[place], edges[place + 1]
        last = place == len(edges) - 2
        inside = (values_N >= low) & ((values_N <= high) if last else (values_N < high))
        said = (
            f"below {high:.3g}"
            if place == 0 and not last
            else f"{low:.3g} and more"
            if last
            else f"{low:.3g} to {high:.3g}"
        )
        if len(edges) > 2:
            yield said, finite & inside


def _held_against_rest(
    name: str, value: str, score_N: np.ndarray, chosen_N: np.ndarray, group_N: np.ndarray
) -> Slice | None:
    """The slice beside the rest; None where either has too few independent images. p is not corrected yet."""
    sides = [(score_N[side], group_N[side]) for side in (chosen_N, ~chosen_N)]
    if min(len(np.unique(group)) for _, group in sides) < LEAST_IMAGES:
        return None
    shares = bool(np.isin(score_N, (0.0, 1.0)).all())
    intervals = [_mean(score, group, shares) for score, group in sides]
    return Slice(
        attribute=name,
        value=value,
        images=int(chosen_N.sum()),
        score=intervals[0].value,
        rest=intervals[1].value,
        difference=difference(*intervals),
        p=_p(sides, shares),
    )


def _mean(score_N: np.ndarray, group_N: np.ndarray, shares: bool) -> Interval:
    if not shares:
        return bootstrap_mean(score_N, group_N)
    share, count = float(score_N.mean()), effective_count(score_N, group_N)
    return wilson(share * count, count)


def _p(sides: list[tuple[np.ndarray, np.ndarray]], shares: bool) -> float:
    """Two-sided, of no difference between the two sides."""
    alone = all(len(np.unique(group)) == len(group) for _, group in sides)
    if shares and alone:
        table = [[int(score.sum()), int(len(score) - score.sum())] for score, _ in sides]
        return float(stats.fisher_exact(table).pvalue)
    first, second = (_of_groups(score, group) for score, group in sides)
    if max(first.std(), second.std()) < EQUAL:
        return 1.0 if abs(first.mean() - second.mean()) < EQUAL else 0.0
    with (
        warnings.catch_warnings()
    ):  # of a side that differs in its last bits alone: its deviation counts for nothing, as it should
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        return float(stats.ttest_ind(first, second, equal_var=False).pvalue)


def _of_groups(score_N: np.ndarray, group_N: np.ndarray) -> np.ndarray:
    """The mean of each group."""
    place_N = np.unique(group_N, return_inverse=True)[1]
    means: np.ndarray = np.bincount(place_N, weights=score_N) / np.bincount(place_N)
    return means
