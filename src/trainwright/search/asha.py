"""`asha`: successive halving that never waits."""

from __future__ import annotations

import math
from bisect import bisect_left, insort

from trainwright.plugins import strategies
from trainwright.search.drawing import Chance
from trainwright.search.halving import rungs_of
from trainwright.search.history import History, Move
from trainwright.search.searching import Setting

Place = tuple[float, int]  # (−score, trial): the best one first, the earlier of equal ones


class _Rung:
    """Trainings that reached it. all: in order of merit. waiting: those of them that may go on and have not."""

    def __init__(self) -> None:
        self.all: list[Place] = []
        self.waiting: list[Place] = []
        self.place_of: dict[int, Place] = {}


@strategies.register("asha")
class Asha:
    """Train many for a few epochs and go on with the best 1/reduction of each rung: Li et al., arXiv:1810.05934, Algorithm 2.

    Trainings go on from their checkpoint. Which are promoted depends on the outcomes below the lag, by number, not on who was
    quick. reduction: their η. prior: share of new trials that are drawn as the space's priors say.
    """

    learns = True

    def __init__(self, setting: Setting, *, reduction: int = 3, prior: float = 0.0) -> None:
        self._reduction, self._draw = reduction, Chance(setting, prior=prior)
        self._epochs = rungs_of(setting, reduction=reduction, strategy="asha")
        self._rungs = [_Rung() for _ in self._epochs]
        self._asks = self._tolds = 0  # of the history, that are in the rungs

    def propose(self, history: History) -> Move | None:
        self._read(history)
        for level in range(len(self._rungs) - 2, -1, -1):
            rung = self._rungs[level]
            going_on = len(rung.all) // self._reduction
            if rung.waiting and bisect_left(rung.all, rung.waiting[0]) < going_on:
                trial = history.trials[rung.waiting[0][1]]
                label = f"among the best {going_on} of {len(rung.all)} after epoch {self._epochs[level]}"
                return Move(values=trial.values, epochs=self._epochs[level + 1], trial=trial.number, label=label)
        values = self._draw(history)
        return None if values is None else Move(values=values, epochs=self._epochs[0])

    def _read(self, history: History) -> None:
        """Take in what is new; trainings that were given are no part of the race."""
        for told in history.tolds[self._tolds :]:
            ask = history.asks[told.number]
            if not history.trials[ask.trial].given:
                rung = self._rungs[self._epochs.index(ask.epochs or self._epochs[-1])]
                fit = told.scored and told.state == "finished"
                place = (-told.score if fit else math.inf, ask.trial)
                insort(rung.all, place)
                rung.place_of[ask.trial] = place
                if fit:
                    insort(rung.waiting, place)
        self._tolds = len(history.tolds)
        for ask in history.asks[self._asks :]:
            if not ask.new:
                rung = self._rungs[self._epochs.index(ask.epochs or self._epochs[-1]) - 1]
                rung.waiting.remove(rung.place_of[ask.trial])
        self._asks = len(history.asks)
