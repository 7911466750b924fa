"""The values that a dimension of a search space can take, and the place of each between 0 and 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

EVERYTHING = math.inf  # how many values a range of numbers has
DIGITS = 6  # significant ones of a proposed number: far finer than any training tells, and a recipe stays readable


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Where a good value is believed to lie: a normal distribution around `centre`, cut off at the ends of the range.

    centre: as a rule the published value. width: its standard deviation in the range's own scale: decades (factors of ten) where
    that is logarithmic, the value's unit otherwise. Of choices: the probability, 0–1, that it is another one than `centre`.
    """

    centre: Any
    width: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "centre", as_tuples(self.centre))


@dataclass(frozen=True, kw_only=True)
class FloatRange:
    """Numbers from low to high, both included; evenly in the logarithm where `log` is set."""

    low: float
    high: float
    log: bool = False
    prior: Prior | None = None

    def __post_init__(self) -> None:
        _check_range(self, least=0.0)

    @property
    def count(self) -> float:
        return EVERYTHING

    def contains(self, value: Any) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    def value_at(self, place: float) -> float:
        """The value at `place`, 0–1."""
        if self.log:
            value = math.exp(math.log(self.low) + place * math.log(self.high / self.low))
        else:
            value = self.low + place * (self.high - self.low)
        return self.nearest(float(f"{value:.{DIGITS}g}"))

    def place_of(self, value: Any) -> float:
        """Where a value lies, 0–1; 0 and 1 for those that lie outside."""
        held = min(max(float(value), self.low), self.high)
        if self.log:
            return math.log(held / self.low) / math.log(self.high / self.low)
        return (held - self.low) / (self.high - self.low)

    def nearest(self, value: Any) -> float:
        return float(min(max(value, self.low), self.high)) if _is_number(value) else self.middle

    @property
    def middle(self) -> float:
        """What is taken where nothing is said: the centre of the prior, otherwise the middle of the scale."""
        return self.value_at(0.5) if self.prior is None else float(self.prior.centre)

    def grid(self, points: int) -> tuple[float, ...]:
        """`points` values with even distances on the scale, both ends among them; the middle where it is one."""
        return tuple(self.value_at(place) for place in _places(points))

    def warp(self, place: float) -> float:
        """The place that a share `place` of the prior lies below."""
        if self.prior is None:
            return place
        length = math.log10(self.high / self.low) if self.log else self.high - self.low
        return _normal_quantile(place, centre=self.place_of(self.prior.centre), width=self.prior.width / length)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{', log scale' if self.log else ''}"


@dataclass(frozen=True, kw_only=True)
class IntRange:
    """Whole numbers from low to high, both included; evenly in the logarithm where `log` is set."""

    low: int
    high: int
    log: bool = False
    prior: Prior | None = None

    def __post_init__(self) -> None:
        _check_range(self, least=1)
        if not all(isinstance(end, int) for end in (self.low, self.high)):
            raise ValueError(f"expected whole numbers for low and high, got {self.low!r} and {self.high!r}")

    @property
    def count(self) -> float:
        return self.high - self.low + 1

    def contains(self, value: Any) -> bool:
        return _is_number(value) and value == int(value) and self.low <= value <= self.high

    def value_at(self, place: float) -> int:
        """The value at `place`, 0–1: each one has a piece of the scale, half of the way to its neighbours."""
        return min(max(round(self._around.value_at(place)), self.low), self.high)

    def place_of(self, value: Any) -> float:
        """Where a value lies, 0–1: in the middle of its piece."""
        return self._around.place_of(min(max(value, self.low), self.high))

    def nearest(self, value: Any) -> int:
        return min(max(round(value), self.low), self.high) if _is_number(value) else self.middle

    @property
    def middle(self) -> int:
        return self.value_at(0.5) if self.prior is None else int(self.prior.centre)

    def grid(self, points: int) -> tuple[int, ...]:
        """At most `points` values with even distances on the scale, both ends among them."""
        if points >= self.count:
            return tuple(range(self.low, self.high + 1))
        ends = FloatRange(low=self.low, high=self.high, log=self.log)
        return tuple(dict.fromkeys(round(ends.value_at(place)) for place in _places(points)))

    def warp(self, place: float) -> float:
        return self._around.warp(place)

    @property
    def _around(self) -> FloatRange:
        return FloatRange(low=self.low - 0.5, high=self.high + 0.5, log=self.log, prior=self.prior)

    def __str__(self) -> str:
        return f"{self.low} to {self.high}{', log scale' if self.log else ''}"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several values without an order: names, yes and no, null, numbers that are no range, lists as of betas."""

    values: tuple[Any, ...]
    prior: Prior | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(as_tuples(value) for value in self.values))
        if len({_kind(value) for value in self.values}) != len(self.values) or len(self.values) < 2:
            raise ValueError(f"expected two or more different choices, got {list(self.values)}")
        if self.prior is not None and not self.contains(self.prior.centre):
            raise ValueError(f"the prior's centre {self.prior.centre!r} is none of the choices")
        if self.prior is not None and not 0 <= self.prior.width <= 1:
            raise ValueError(f"of choices the prior's width is a probability from 0 to 1, got {self.prior.width}")

    @property
    def count(self) -> float:
        return len(self.values)

    def contains(self, value: Any) -> bool:
        return self.index(value) is not None

    def index(self, value: Any) -> int | None:
        """Which choice a value is; None for none of them. True is not 1."""
        kind = _kind(as_tuples(value))
        return next((index for index, known in enumerate(self.values) if _kind(known) == kind), None)

    def value_at(self, place: float) -> Any:
        return self.values[min(int(place * len(self.values)), len(self.values) - 1)]

    def place_of(self, value: Any) -> float:
        index = self.index(value)
        return ((0 if index is None else index) + 0.5) / len(self.values)

    def nearest(self, value: Any) -> Any:
        return self.middle if (index := self.index(value)) is None else self.values[index]

    @property
    def middle(self) -> Any:
        return self.values[0] if self.prior is None else self.nearest(self.prior.centre)

    def grid(self, points: int) -> tuple[Any, ...]:
        """All of them, however many points are asked for: nothing lies between choices."""
        return self.values

    def warp(self, place: float) -> float:
        if self.prior is None:
            return place
        others = self.prior.width / (len(self.values) - 1)
        shares = np.full(len(self.values), others)
        shares[self.index(self.prior.centre)] = 1 - self.prior.width
        ends = np.concatenate([[0.0], np.cumsum(shares)])
        return float(np.interp(place, ends, np.linspace(0, 1, len(ends)))) if place < 1 else 1.0

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


Domain = FloatRange | IntRange | Choice


def _check_range(domain: FloatRange | IntRange, *, least: float) -> None:
    low, high, prior = domain.low, domain.high, domain.prior
    if not (_is_number(low) and _is_number(high) and math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"expected finite numbers for low and high, got {low!r} and {high!r}")
    if not low < high:
        raise ValueError(f"expected low < high, got {low!r} and {high!r}; one value alone is fixed, not searched")
    if domain.log and not (low >= least and low > 0):
        bound = "1 or more" if least else "more than 0"
        raise ValueError(
            f"a log scale begins at {bound}, got low {low!r}; the smallest value that makes a difference will do"
        )
    if prior is not None and not domain.contains(prior.centre):
        raise ValueError(f"the prior's centre {prior.centre!r} lies outside of {domain}")
    if prior is not None and not prior.width > 0:
        raise ValueError(f"the prior's width is above 0, got {prior.width!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _places(points: int) -> list[float]:
    if points < 1:
        raise ValueError(f"a grid has one point or more, got {points}")
    return [0.5] if points == 1 else [index / (points - 1) for index in range(points)]


def _normal_quantile(share: float, *, centre: float, width: float) -> float:
    """Of the normal distribution between 0 and 1."""
    from scipy.special import ndtr, ndtri

    low, high = ndtr(-centre / width), ndtr((1 - centre) / width)
    return float(np.clip(centre + width * ndtri(low + share * (high - low)), 0.0, 1.0))


def as_tuples(value: Any) -> Any:
    """Plain data with its lists as tuples: a file and a program mean the same by them."""
    return tuple(as_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def _kind(value: Any) -> Any:
    """What two equal choices share: True is not 1, and 1 is 1.0."""
    return (isinstance(value, bool), tuple(map(_kind, value)) if isinstance(value, tuple) else value)
