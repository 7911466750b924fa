"""`sobol`: quasi-random values, which fill the space more evenly than chance."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from trainwright.plugins import strategies
from trainwright.search.drawing import unseen
from trainwright.search.history import History, Move
from trainwright.search.searching import Setting
from trainwright.seeding import derive, stream


@strategies.register("sobol")
class Sobol:
    """Train the points of a scrambled Sobol sequence: the playbook's choice for a first look at a space.

    Bousquet et al., arXiv:1706.03200; a power of two of them is spread most evenly. prior: they lie as the priors say.
    """

    learns = False

    def __init__(self, setting: Setting, *, prior: bool = False) -> None:
        self._setting, self._prior = setting, prior
        self._seed = derive(setting.seed, "sobol")

    def propose(self, history: History) -> Move | None:
        space, index = self._setting.space, history.own

        def draw(number: int, turn: int) -> Mapping[str, Any]:
            if turn:  # the point is refused, or was given
                return space.sample(stream(self._setting.seed, "sobol", number, turn), prior=self._prior)
            return space.from_cube(_point(index, len(space.dimensions), self._seed), prior=self._prior)

        values = unseen(self._setting, history, draw) if space.dimensions else None
        return None if values is None else Move(values=values)


def _point(index: int, dimensions: int, seed: int) -> np.ndarray:
    """Point `index` of the scrambled sequence: float64 [dimensions]. A longer sequence begins with the shorter one."""
    found: np.ndarray = _points(max(index.bit_length(), 6), dimensions, seed)[index]
    return found


@lru_cache(maxsize=4)
def _points(power: int, dimensions: int, seed: int) -> np.ndarray:
    from scipy.stats.qmc import Sobol as Sequence

    points: np.ndarray = Sequence(dimensions, scramble=True, rng=np.random.default_rng(seed)).random_base2(power)
    return points
