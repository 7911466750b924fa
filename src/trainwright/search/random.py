"""`random`: values by chance."""

from __future__ import annotations

from trainwright.plugins import strategies
from trainwright.search.drawing import Chance
from trainwright.search.history import History, Move
from trainwright.search.searching import Setting


@strategies.register("random")
class Random:
    """Train values by chance, evenly on each dimension's scale: what every other strategy has to beat.

    prior: share of the draws that lie as the space's priors say, 0–1.
    """

    learns = False

    def __init__(self, setting: Setting, *, prior: float = 0.0) -> None:
        self._draw = Chance(setting, prior=prior)

    def propose(self, history: History) -> Move | None:
        values = self._draw(history)
        return None if values is None else Move(values=values)
