"""Whether accuracy hides a class: the mean of the recalls beside it, and the class that fares worst."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainwright.diagnosis.stats import wilson
from trainwright.records import Interval


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Accuracy beside balanced accuracy.

    balanced: the mean over classes of the share of their images that is right. hidden: accuracy minus that. worst: the class
    with the lowest share; worst_recall: that share. majority: the share of images that the most frequent class has.
    """

    balanced: Interval
    hidden: Interval
    worst: str
    worst_recall: Interval
    majority: float


def balance(recalls: Mapping[str, float], counts: Mapping[str, int]) -> Balance | None:
    """recalls: of each class, 0–1. counts: its images; classes without any are left out. None where fewer than two are left.

    Both differences are sums of the classes' recalls with known weights; their interval is composed from those of the
    single proportions: Zou and Donner 2008, Statistics in Medicine 27:1693, §2 (MOVER).
    """
    names = [name for name in recalls if counts.get(name, 0) > 0]
    if len(names) < 2:
        return None
    recall = {name: wilson(recalls[name] * counts[name], counts[name]) for name in names}
    shares = np.array([counts[name] for name in names]) / sum(counts[name] for name in names)
    worst = min(names, key=lambda name: recall[name].value)
    found = [recall[name] for name in names]
    return Balance(
        balanced=_weighted(found, np.full(len(names), 1 / len(names))),
        hidden=_weighted(found, shares - 1 / len(names)),
        worst=worst,
        worst_recall=recall[worst],
        majority=float(shares.max()),
    )


def _weighted(parts: list[Interval], weights: np.ndarray) -> Interval:
    value = sum(weight * part.value for weight, part in zip(weights, parts, strict=True))
    down = up = 0.0
    for weight, part in zip(weights, parts, strict=True):
        below, above = part.value - part.low, part.high - part.value
        if weight < 0:
            below, above = above, below
        down, up = down + (weight * below) ** 2, up + (weight * above) ** 2
    return Interval(value=float(value), low=float(value - down**0.5), high=float(value + up**0.5))
