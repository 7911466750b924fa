"""The brackets of Hyperband: races of successive halving that begin with many short or with few long trainings, in turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from trainwright.search.history import History, Move
from trainwright.search.space import Values


@dataclass(kw_only=True)
class _Bracket:
    """A race. epochs, sizes: of its rungs. asked, scores: by rung, the trials in it; −inf for those that cannot go on."""

    epochs: tuple[int, ...]
    sizes: list[int]
    asked: list[list[int]] = field(default_factory=list)
    scores: list[dict[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = [[] for _ in self.sizes]
        self.scores = [{} for _ in self.sizes]

    def promotion(self) -> tuple[int, int] | None:
        """(trial, rung to go on to) of the next one; None where a rung has to be complete first."""
        for rung in range(len(self.sizes) - 1):
            if len(self.asked[rung]) < self.sizes[rung] or len(self.scores[rung]) < self.sizes[rung]:
                return None
            going_on = self._going_on(rung)
            self.sizes[rung + 1] = len(going_on)
            left = [trial for trial in going_on if trial not in self.asked[rung + 1]]
            if left:
                return left[0], rung + 1
        return None

    @property
    def over(self) -> bool:
        """Whether it has nothing left to ask for."""
        complete = all(len(scores) == size for scores, size in zip(self.scores, self.sizes, strict=True))
        return complete and self.promotion() is None

    def _going_on(self, rung: int) -> list[int]:
        """The best of a complete rung, best first; fewer where too few can go on."""
        scores = self.scores[rung]
        fit = sorted(
            (trial for trial in scores if scores[trial] > -math.inf), key=lambda trial: (-scores[trial], trial)
        )
        return fit[: self.sizes[rung + 1]]


class Brackets:
    """Hyperband's brackets, one after the other and again from the first: Li et al., arXiv:1603.06560, Algorithm 1.

    A rung is decided when all of it is known. The next bracket begins where every open one waits, so that workers have work.
    """

    def __init__(self, epochs: tuple[int, ...], *, reduction: int) -> None:
        self._epochs, self._reduction = epochs, reduction
        self._open: list[_Bracket] = []
        self._begun = 0
        self._of: dict[int, _Bracket] = {}
        self._asks = self._tolds = 0

    def move(self, history: History, draw: Callable[[History], Values | None]) -> Move | None:
        """The next piece. draw: values of a new trial; where it has none left, the open races go on without."""
        self._read(history)
        move = self._promotion(history)
        if move is not None:
            return move
        values = draw(history)
        if values is not None:
            return Move(values=values, epochs=self._with_room().epochs[0])
        for bracket in self._open:
            bracket.sizes[0] = len(bracket.asked[0])
        return self._promotion(history)

    def _promotion(self, history: History) -> Move | None:
        """Of the oldest race that has one."""
        for bracket in self._open:
            promoted = bracket.promotion()
            if promoted is not None:
                trial, rung = promoted
                label = f"among the best {bracket.sizes[rung]} of {bracket.sizes[rung - 1]}"
                values = history.trials[trial].values
                return Move(values=values, epochs=bracket.epochs[rung], trial=trial, label=label)
        return None

    def _with_room(self) -> _Bracket:
        """The bracket that the next new trial belongs to."""
        if not self._open or len(self._open[-1].asked[0]) == self._open[-1].sizes[0]:
            self._open.append(self._made(self._begun))
            self._begun += 1
        return self._open[-1]

    def _made(self, number: int) -> _Bracket:
        most = len(self._epochs) - 1
        halvings = most - number % (most + 1)
        trials = math.ceil((most + 1) / (halvings + 1) * self._reduction**halvings)
        sizes = [trials // self._reduction**rung for rung in range(halvings + 1)]
        return _Bracket(epochs=self._epochs[-(halvings + 1) :], sizes=sizes)

    def _read(self, history: History) -> None:
        for ask in history.asks[self._asks :]:
            if ask.given:
                continue
            bracket = self._with_room() if ask.new else self._of[ask.trial]
            self._of[ask.trial] = bracket
            bracket.asked[bracket.epochs.index(ask.epochs or self._epochs[-1])].append(ask.trial)
        self._asks = len(history.asks)
        for told in history.tolds[self._tolds :]:
            ask = history.asks[told.number]
            if not ask.given:
                bracket = self._of[ask.trial]
                fit = told.scored and told.state == "finished"
                rung = bracket.epochs.index(ask.epochs or self._epochs[-1])
                bracket.scores[rung][ask.trial] = told.score if fit else -math.inf
        self._tolds = len(history.tolds)
        self._open = [bracket for bracket in self._open if not bracket.over]
