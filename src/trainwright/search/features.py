"""Recipes as points between which a kernel can measure distances."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainwright.search.domains import Choice, Domain
from trainwright.search.space import Space, Values

LOOKS = 1025  # at a domain, evenly over its scale
COARSE = 256  # a domain with fewer values is taken at its values alone; of more, two neighbours are one for a model


class Features:
    """The unit cube for a kernel: choices have a coordinate each, and dimensions that are not there lie in the middle.

    groups_F: which dimension a feature belongs to.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        sizes = np.array([_coordinates(one.domain) for one in space.dimensions], int)
        self.groups_F = np.repeat(np.arange(len(sizes)), sizes)
        # Looking each domain over once is a hundred times as fast as asking the space for every candidate.
        looks = [float(look) for look in np.linspace(0, 1, LOOKS)]
        values = [[one.domain.value_at(look) for look in looks] for one in space.dimensions]
        self._snapped = [
            np.array([one.domain.place_of(value) for value in seen]) if one.domain.count < COARSE else None
            for one, seen in zip(space.dimensions, values, strict=True)
        ]
        self._conditions = [
            [self._parents(key, wanted, values) for key, wanted in one.when.items() if key in space.keys]
            for one in space.dimensions
        ]

    def of(self, values: Values) -> np.ndarray:
        """float64 [F] of one recipe. Two different choices lie as far apart as the ends of a range."""
        return np.asarray(self.of_places(self._space.to_cube(values)[None])[0])

    def of_places(self, places_ND: np.ndarray) -> np.ndarray:
        """float64 [N, F] of points of the unit cube, as `Space.from_cube` reads them; nan where a dimension is not there."""
        looks_ND = np.rint(np.nan_to_num(places_ND, nan=0.5) * (LOOKS - 1)).astype(int)
        there_ND = np.ones(places_ND.shape, bool)
        parts = [np.zeros((len(places_ND), 0))]
        for index, one in enumerate(self._space.dimensions):
            for parents in self._conditions[index]:
                each = [there_ND[:, parent] & allowed[looks_ND[:, parent]] for parent, allowed in parents]
                there_ND[:, index] &= np.any(each, axis=0)
            snapped, there_N1 = self._snapped[index], there_ND[:, index, None]
            places_N1 = (places_ND[:, index] if snapped is None else snapped[looks_ND[:, index]])[:, None]
            size = _coordinates(one.domain)
            if size > 1:
                places_N1 = 0.5 + math.sqrt(0.5) * (np.floor(places_N1 * size) == np.arange(size))
            parts.append(np.where(there_N1, places_N1, 0.5))
        return np.concatenate(parts, axis=1)

    def _parents(
        self, key: str, wanted: Sequence[Any], values: Sequence[Sequence[Any]]
    ) -> list[tuple[int, np.ndarray]]:
        """Dimensions of that key, and at which of the looks each has one of these values."""
        kinds = {(isinstance(one, bool), one) for one in wanted}
        return [
            (index, np.array([(isinstance(value, bool), value) in kinds for value in values[index]]))
            for index, one in enumerate(self._space.dimensions)
            if one.key == key
        ]


def _coordinates(domain: Domain) -> int:
    """One, or one for each of three or more choices."""
    return len(domain.values) if isinstance(domain, Choice) and len(domain.values) > 2 else 1
