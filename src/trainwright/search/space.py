"""The space that is searched: its dimensions, under which conditions each is there, and its way to and from the unit cube.

Nothing here knows of recipes: the keys are any names, so that a space serves any objective. `recipe_space.py` makes one of the
fields of a recipe.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from trainwright.errors import UsageError, did_you_mean
from trainwright.search.domains import Choice, Domain, FloatRange, as_tuples

Values = Mapping[str, Any]  # a value for each key that is searched under these conditions, and for each fixed one
Role = Literal["scientific", "nuisance"]
TRIES = 1000  # draws until one is allowed; a space that refuses more than that is a mistake


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """A hyperparameter that is searched.

    role: scientific, whose effect is the question, or nuisance, to be chosen anew for a fair comparison of the others (Google's
    tuning playbook, "Identifying scientific, nuisance, and fixed hyperparameters"); one value alone is fixed, in `Space.fixed`.
    when: it is there only where each of these keys has this value, or one of these. The same key may be there twice under
    conditions that exclude each other: the lr of SGD is another dimension than the lr of Adam. points: of it in a grid.
    """

    key: str
    domain: Domain
    role: Role = "scientific"
    when: Mapping[str, Any] = field(default_factory=dict)
    points: int | None = None

    def __post_init__(self) -> None:
        several = {
            key: tuple(given) if isinstance(given, list | tuple) else (given,) for key, given in self.when.items()
        }
        object.__setattr__(self, "when", several)

    @property
    def condition(self) -> str:
        """`optimizer.name=sgd`, empty where it is always there."""
        return condition_of(self.when)


@dataclass(frozen=True, kw_only=True)
class Space:
    """Dimensions, those that others depend on first; each has a name of its own in `names`.

    fixed: values that every proposal has. around: further values that conditions may look at, and that no proposal has.
    default: the values that were published, as far as they are known. refuses: says why a combination cannot be; None where it
    can. Raises UsageError with everything that is wrong.
    """

    dimensions: tuple[Dimension, ...]
    fixed: Values = field(default_factory=dict)
    around: Values = field(default_factory=dict)
    default: Values = field(default_factory=dict)
    refuses: Callable[[Values], str | None] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = [problem for one in self.dimensions for problem in self._problems(one)]
        problems += [f"{key}: fixed, and searched as well." for key in self.fixed if key in self.keys]
        problems += self._doubles()
        if problems:
            raise UsageError(" ".join(problems), where="space")
        object.__setattr__(self, "dimensions", self._in_order())
        object.__setattr__(self, "fixed", {key: as_tuples(value) for key, value in self.fixed.items()})

    # What it is made of

    @cached_property
    def keys(self) -> frozenset[str]:
        return frozenset(one.key for one in self.dimensions)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """A name of its own for each dimension: its key, with its condition where the key is there twice."""
        keys = [one.key for one in self.dimensions]
        return tuple(one.key if keys.count(one.key) == 1 else f"{one.key}[{one.condition}]" for one in self.dimensions)

    @cached_property
    def size(self) -> float:
        """How many different proposals there are; infinite where a range of numbers is searched."""
        parents = {key for one in self.dimensions for key in one.when}

        def count(index: int, values: dict[str, Any]) -> float:
            if index == len(self.dimensions):
                return 1
            one = self.dimensions[index]
            if not self.holds(one, values):
                return count(index + 1, values)
            if one.key not in parents:
                return one.domain.count * count(index + 1, values)
            every = one.domain.grid(int(one.domain.count))
            return sum(count(index + 1, {**values, one.key: value}) for value in every)

        return count(0, dict(self.fixed))

    # Proposals

    def active(self, values: Values) -> list[int]:
        """The dimensions that are there under these values, by index."""
        seen: dict[str, Any] = dict(self.fixed)
        found = []
        for index, one in enumerate(self.dimensions):
            if self.holds(one, seen):
                found.append(index)
                if one.key in values:
                    seen[one.key] = values[one.key]
        return found

    def why_not(self, values: Values) -> str | None:
        """Why this is no proposal of the space; None where it is one."""
        there = {self.dimensions[index].key: self.dimensions[index].domain for index in self.active(values)}
        for key, value in values.items():
            if key in self.fixed and value == self.fixed[key]:
                continue
            if key not in there:
                return f"{key}: {'not searched under these conditions' if key in self.keys else 'not searched here'}."
            if not there[key].contains(value):
                return f"{key}: {value!r} is not {there[key]}."
        if missing := [key for key in (*there, *self.fixed) if key not in values]:
            return f"{missing[0]}: no value is given."
        return None if self.refuses is None else self.refuses(values)

    def contains(self, values: Values) -> bool:
        return self.why_not(values) is None

    def completed(self, values: Values) -> dict[str, Any]:
        """A proposal that is nearest to values of which some may be missing or lie outside.

        What is missing is taken from the default, otherwise from the centre of the prior or the middle of the range.
        """
        found: dict[str, Any] = dict(self.fixed)
        for one in self.dimensions:
            if self.holds(one, found):
                given = values.get(one.key, self.default.get(one.key))
                known = one.key in values or one.key in self.default
                found[one.key] = one.domain.nearest(given) if known else one.domain.middle
        return found

    # The unit cube

    def from_cube(self, places_D: Sequence[float] | np.ndarray, *, prior: bool = False) -> dict[str, Any]:
        """The proposal at a point of the unit cube [D]; coordinates of dimensions that are not there do not count.

        prior: even points become points that lie as the prior says.
        """
        found: dict[str, Any] = dict(self.fixed)
        for one, place in zip(self.dimensions, places_D, strict=True):
            if self.holds(one, found):
                found[one.key] = one.domain.value_at(one.domain.warp(float(place)) if prior else float(place))
        return found

    def to_cube(self, values: Values) -> np.ndarray:
        """Where values lie in the unit cube: float64 [D], nan where a dimension is not there. Completed where incomplete."""
        whole = self.completed(values)
        places_D = np.full(len(self.dimensions), math.nan)
        for index in self.active(whole):
            one = self.dimensions[index]
            places_D[index] = one.domain.place_of(whole[one.key])
        return places_D

    def sample(self, random: np.random.Generator, *, prior: bool = False) -> dict[str, Any]:
        """A proposal by chance, evenly or as the prior says. Raises UsageError where hardly any combination is allowed."""
        for _ in range(TRIES):
            values = self.from_cube(random.random(len(self.dimensions)), prior=prior)
            if (why := self.reason_against(values)) is None:
                return values
        raise UsageError(
            f"{TRIES} combinations by chance were refused, the last one: {why}",
            where="space",
            cure="Narrow the ranges, or say under which conditions they hold ('when').",
        )

    def reason_against(self, values: Values) -> str | None:
        """Why a combination out of `from_cube` cannot be; None where it can."""
        return None if self.refuses is None else self.refuses(values)

    def neighbours(
        self, values: Values, random: np.random.Generator, *, count: int, width: float = 0.1
    ) -> list[dict[str, Any]]:
        """Proposals that differ from this one in one dimension, and in what depends on it.

        A number moves by a normal step of standard deviation `width` of the scale's length, a choice to another one. Dimensions
        that come to be there take their default. Fewer than `count` where combinations are refused.
        """
        whole = self.completed(values)
        there = self.active(whole)
        found = []
        for _ in range(count if there else 0):
            one = self.dimensions[there[random.integers(len(there))]]
            if isinstance(one.domain, Choice):
                others = [value for value in one.domain.values if value != whole[one.key]]
                moved = others[random.integers(len(others))]
            else:
                place = one.domain.place_of(whole[one.key]) + width * random.standard_normal()
                moved = one.domain.value_at(float(np.clip(place, 0, 1)))
            near = self.completed({**whole, one.key: moved})
            if self.reason_against(near) is None:
                found.append(near)
        return found

    def grid(self, points: int | None) -> Iterator[dict[str, Any]]:
        """Every combination of `points` values a range (or `Dimension.points`) and all choices; refused ones are left out.

        points: None for every value that there is, of a space of finite size.
        """

        def walk(index: int, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if index == len(self.dimensions):
                if self.reason_against(values) is None:
                    yield values
                return
            one = self.dimensions[index]
            wanted = int(one.domain.count) if points is None else one.points or points
            here = one.domain.grid(wanted) if self.holds(one, values) else ()
            for value in here:
                yield from walk(index + 1, {**values, one.key: value})
            if not here:
                yield from walk(index + 1, values)

        return walk(0, dict(self.fixed))

    def edges(self, values: Values, *, share: float = 0.05) -> dict[str, Literal["low", "high"]]:
        """The names of numbers that lie within `share` of an end of their scale, and which end: the box may be too narrow."""
        places_D = self.to_cube(values)
        return {
            name: "low" if place < 0.5 else "high"
            for name, one, place in zip(self.names, self.dimensions, places_D, strict=True)
            if not isinstance(one.domain, Choice) and min(place, 1 - place) <= share  # nan: False
        }

    # Conditions

    def witness(self, one: Dimension) -> dict[str, Any]:
        """Values of the keys that a dimension depends on, under which it is there."""
        found: dict[str, Any] = {}
        for key, values in one.when.items():
            parent = next((other for other in self.dimensions if other.key == key), None)
            if parent is not None:
                found |= {**self.witness(parent), key: values[0]}
        return found

    def holds(self, one: Dimension, values: Values) -> bool:
        """Whether a dimension is there under the values of those before it, and `fixed`."""
        held = {**self.around, **values} if one.when else values
        return all(key in held and _among(held[key], allowed) for key, allowed in one.when.items())

    def _problems(self, one: Dimension) -> Iterator[str]:
        constants = {**self.around, **self.fixed}
        for key, allowed in one.when.items():
            parents = [other for other in self.dimensions if other.key == key]
            if not parents and key not in constants:
                known = sorted({*self.keys, *constants} - {one.key})
                yield (
                    f"{one.key}: 'when' names {key!r}, which is neither searched nor fixed here. {did_you_mean(key, known)}"
                ).rstrip()
            elif not parents and not _among(constants[key], allowed):
                yield (
                    f"{one.key}: never searched: {key} is {constants[key]!r} here, not {_either(allowed)}. "
                    f"Leave it out, or search {key}."
                )
            elif any(isinstance(parent.domain, FloatRange) for parent in parents):
                yield f"{one.key}: 'when' goes by choices and whole numbers; {key} is a range of numbers."
            else:
                foreign = [v for v in allowed if parents and not any(p.domain.contains(v) for p in parents)]
                yield from (f"{one.key}: 'when' asks for {key} {v!r}, which it never is." for v in foreign)
        if one.key in one.when:
            yield f"{one.key}: 'when' names itself."

    def _doubles(self) -> Iterator[str]:
        """Keys that would be there twice at once."""
        for index, one in enumerate(self.dimensions):
            for other in self.dimensions[:index]:
                exclusive = any(
                    not any(_among(value, other.when[key]) for value in one.when[key])
                    for key in one.when.keys() & other.when.keys()
                )
                if one.key == other.key and not exclusive:
                    yield f"{one.key}: there twice at once; 'when' has to exclude one where the other is."

    def _in_order(self) -> tuple[Dimension, ...]:
        """Parents first, otherwise as they were given; those of one key together, as a file has them."""
        keys = list(dict.fromkeys(one.key for one in self.dimensions))
        left, ordered = sorted(self.dimensions, key=lambda one: keys.index(one.key)), list[Dimension]()
        while left:
            open_keys = {one.key for one in left}
            ready = next((one for one in left if not open_keys & one.when.keys()), None)
            if ready is None:
                raise UsageError(f"conditions go in a circle: {', '.join(sorted(open_keys))}.", where="space")
            ordered.append(ready)
            left.remove(ready)
        return tuple(ordered)


def condition_of(when: Mapping[str, Any]) -> str:
    """`optimizer.name=sgd`, of the values that each key may have."""
    return ",".join(f"{key}={'|'.join(map(str, values))}" for key, values in sorted(when.items()))


def _among(value: Any, allowed: Sequence[Any]) -> bool:
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)


def _either(allowed: Sequence[Any]) -> str:
    return " or ".join(map(repr, allowed))
