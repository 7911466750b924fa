"""What a search has asked for and was told, as its searcher sees it: asks, outcomes, and the trials that they make up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

State = Literal["finished", "stopped", "diverged", "failed"]


@dataclass(frozen=True, kw_only=True)
class Move:
    """What a searcher wants next: a new trial with these values, or to go on with one that is paused.

    epochs: until how many epochs of it, counted from its beginning, are trained; None for the whole training. trial: number
    of the one to go on with, whose values these are; None for a new one. label: why, in a few words.
    """

    values: Mapping[str, Any]
    epochs: int | None = None
    trial: int | None = None
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A piece of work. number: counts from 0. trial: number of the ask that began it, its own one for a new trial.

    epochs: train until this many epochs of the trial are done, from its last checkpoint; None: to the end. given: the values are
    the user's, not the searcher's.
    """

    number: int
    trial: int
    values: Mapping[str, Any]
    epochs: int | None = None
    given: bool = False
    label: str = ""

    @property
    def new(self) -> bool:
        return self.trial == self.number


@dataclass(frozen=True, kw_only=True)
class Told:
    """What came of an ask.

    state: stopped is one that was given up below its end, diverged one that cannot be trained so: a constraint, no score. failed
    says nothing of the values. score: of the model that is in hand now, higher is better; nan where there is none. seconds: that
    this piece took. scores: of every epoch of the trial so far, where they are known.
    """

    number: int
    state: State
    score: float = math.nan
    seconds: float = 0.0
    scores: tuple[float, ...] = ()

    @property
    def scored(self) -> bool:
        return self.state in ("finished", "stopped") and math.isfinite(self.score)


@dataclass(kw_only=True)
class Trial:
    """One set of values and how far its training has come. asks, tolds: its pieces, in order; read them only."""

    number: int
    values: Mapping[str, Any]
    given: bool
    asks: list[Ask] = field(default_factory=list)
    tolds: list[Told] = field(default_factory=list)

    @property
    def pending(self) -> bool:
        """Whether a piece of it is asked for and not told, or not yet to be known."""
        return len(self.asks) > len(self.tolds)

    @property
    def state(self) -> State | None:
        """Of what was told last; None before that. Only a finished one can be gone on with."""
        return self.tolds[-1].state if self.tolds else None

    @property
    def score(self) -> float:
        """Of the best model that it has given so far; nan where it gave none."""
        return max((told.score for told in self.tolds if told.scored), default=math.nan)

    @property
    def epochs(self) -> int | None:
        """Up to which it is known to be trained; 0 before anything is known, None for the whole training."""
        done = [ask.epochs for ask, told in zip(self.asks, self.tolds, strict=False) if told.state == "finished"]
        return done[-1] if done else 0

    @property
    def scores(self) -> tuple[float, ...]:
        """Of every epoch so far, where they were told."""
        return self.tolds[-1].scores if self.tolds else ()

    @property
    def seconds(self) -> float:
        return sum(told.seconds for told in self.tolds)


class History:
    """Asks in the order of their numbers, and of their outcomes those that may be known, in the same order. Only ever added to.

    trials: by number. tolds: known outcomes.
    """

    def __init__(self) -> None:
        self.asks: list[Ask] = []
        self.tolds: list[Told] = []
        self.trials: dict[int, Trial] = {}
        self.running: dict[int, Trial] = {}  # those that are pending
        self.own = 0  # trials that the searcher began
        self._seen: set[Any] = set()

    def add_ask(self, ask: Ask) -> None:
        self.asks.append(ask)
        if ask.new:
            self.trials[ask.number] = Trial(number=ask.number, values=ask.values, given=ask.given)
            self.own += not ask.given
            self.mark(ask.values)
        trial = self.trials[ask.trial]
        trial.asks.append(ask)
        self.running[trial.number] = trial

    def add_told(self, told: Told) -> None:
        self.tolds.append(told)
        trial = self.trial_of(told)
        trial.tolds.append(told)
        if not trial.pending:
            del self.running[trial.number]

    def trial_of(self, told: Told) -> Trial:
        return self.trials[self.asks[told.number].trial]

    def seen(self, values: Mapping[str, Any]) -> bool:
        """Whether a trial with these values was asked for."""
        return frozen(values) in self._seen

    def mark(self, values: Mapping[str, Any]) -> None:
        """Count these values as asked for."""
        self._seen.add(frozen(values))


def frozen(value: Any) -> Any:
    """Plain data as what can be looked up; lists and tuples are one, True is not 1."""
    if isinstance(value, Mapping):
        return frozenset((key, frozen(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(frozen(item) for item in value)
    return (isinstance(value, bool), value)
