"""`hyperband`: successive halving from several starting lengths, by chance."""

from __future__ import annotations

from trainwright.plugins import strategies
from trainwright.search.brackets import Brackets
from trainwright.search.drawing import Chance
from trainwright.search.halving import rungs_of
from trainwright.search.history import History, Move
from trainwright.search.searching import Setting


@strategies.register("hyperband")
class Hyperband:
    """Train values by chance in races that begin with many short and with few long trainings: Li et al., arXiv:1603.06560.

    reduction: their η. prior: share of new trials that are drawn as the space's priors say.
    """

    learns = True

    def __init__(self, setting: Setting, *, reduction: int = 3, prior: float = 0.0) -> None:
        self._draw = Chance(setting, prior=prior)
        epochs = rungs_of(setting, reduction=reduction, strategy="hyperband")
        self._brackets = Brackets(epochs, reduction=reduction)

    def propose(self, history: History) -> Move | None:
        return self._brackets.move(history, self._draw)
