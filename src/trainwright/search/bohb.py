"""`bohb`: Hyperband whose new trainings are drawn by a model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainwright.plugins import strategies
from trainwright.search.bayesian import Seen, seed_of, tpe_model
from trainwright.search.brackets import Brackets
from trainwright.search.drawing import Chance, unseen
from trainwright.search.halving import rungs_of
from trainwright.search.history import History, Move
from trainwright.search.searching import Setting
from trainwright.seeding import stream

BY_CHANCE = 1 / 3  # of the new trainings, whatever the model says: the default of the authors' code (HpBandSter)


@strategies.register("bohb")
class Bohb:
    """Hyperband with new values from a Parzen estimator of the longest trainings that there are enough of.

    Falkner et al., arXiv:1807.01774; the estimator is Optuna's. reduction: η. What diverged is told to the model of every length
    from there on, and trainings that were given count at every length that their curve shows.
    """

    learns = True

    def __init__(self, setting: Setting, *, reduction: int = 3) -> None:
        self._setting, self._chance = setting, Chance(setting)
        self._epochs = rungs_of(setting, reduction=reduction, strategy="bohb")
        self._brackets = Brackets(self._epochs, reduction=reduction)
        self._models = [tpe_model(setting.space) for _ in self._epochs]
        self._seen: list[list[Seen]] = [[] for _ in self._epochs]
        self._tolds = 0
        self._enough = len(setting.space.dimensions) + 2  # their N_min = d + 1, and one that is not among the good ones

    def propose(self, history: History) -> Move | None:
        self._read(history)
        return self._brackets.move(history, self._drawn)

    def _drawn(self, history: History) -> Mapping[str, Any] | None:
        level = max((level for level, seen in enumerate(self._seen) if len(seen) >= self._enough), default=None)
        chance = stream(self._setting.seed, "bohb", len(history.asks)).random() < BY_CHANCE
        if level is None or chance or not self._setting.space.dimensions:
            return self._chance(history)
        pending = [trial.values for trial in history.running.values()]

        def draw(number: int, turn: int) -> Mapping[str, Any]:
            return self._models[level].draw(self._seen[level], pending, seed=seed_of(self._setting, number, turn))

        return unseen(self._setting, history, draw)

    def _read(self, history: History) -> None:
        for told in history.tolds[self._tolds :]:
            ask, values = history.asks[told.number], history.trial_of(told).values
            end = ask.epochs or self._epochs[-1]
            for level, epochs in enumerate(self._epochs):
                if told.state == "diverged" and epochs >= end:
                    self._seen[level].append(Seen(values=values, score=None))
                elif told.scored and epochs == end:
                    self._seen[level].append(Seen(values=values, score=told.score))
                elif told.scored and ask.given and epochs < end and len(told.scores) >= epochs:
                    score = told.scores[epochs - 1]
                    if math.isfinite(score):
                        self._seen[level].append(Seen(values=values, score=score))
        self._tolds = len(history.tolds)
