"""`Search`: ask and tell for any objective, whatever the strategy, repeatable with any number of workers and after any kill.

    search = start("tpe", space, seed=0)
    for _ in range(50):
        ask = search.ask()
        search.tell(Told(number=ask.number, state="finished", score=objective(**ask.values)))
    trial, score = search.best()

A strategy (`plugins.Searcher`) looks at a `History` and names the next move. What it is shown at ask number n is fixed by the
numbers alone (decision 7): every ask below n, and every outcome up to number n − lag.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainwright.errors import UsageError, did_you_mean
from trainwright.plugins import Searcher, strategies
from trainwright.search.history import Ask, History, Move, Told, Trial, frozen
from trainwright.search.space import Space


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every strategy is built from. epochs: of a whole training; None where the objective has none. least_epochs: the
    fewest after which trainings may be compared. trials: that may be begun in all, those that are given among them."""

    space: Space
    seed: int = 0
    epochs: int | None = None
    least_epochs: int = 1
    trials: int | None = None


def start(
    strategy: str,
    space: Space,
    *,
    seed: int = 0,
    first: Sequence[Mapping[str, Any]] = (),
    epochs: int | None = None,
    least_epochs: int = 1,
    lag: int = 1,
    trials: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Search:
    """A search by the strategy of that name.

    first: values to be trained to the end before anything else, as a rule the published ones; what they leave out is taken as
    unchanged. trials: the most that are begun; those that are paused go on. options: the strategy's own.
    Raises UnknownNameError for the name, UsageError for an option that it does not have.
    """
    setting = Setting(space=space, seed=seed, epochs=epochs, least_epochs=least_epochs, trials=trials)
    searcher = searcher_of(strategy, setting, options)
    return Search(searcher, space=space, first=first, epochs=epochs, lag=lag, trials=trials)


def searcher_of(strategy: str, setting: Setting, options: Mapping[str, Any] | None = None) -> Searcher:
    """The strategy of that name. Raises UnknownNameError for the name, UsageError for an option that it does not have."""
    build = strategies.get(strategy)
    known = [name for name, one in inspect.signature(build).parameters.items() if one.kind is one.KEYWORD_ONLY]
    wrong = [
        f"{name}: no option of {strategy}. {did_you_mean(name, known)}Its options: {', '.join(known) or 'none'}."
        for name in options or {}
        if name not in known
    ]
    if wrong:
        raise UsageError(" ".join(wrong), where="strategy")
    return build(setting, **(options or {}))


class Search:
    """Asks by a searcher. `history`: what it is shown; `outcomes`: all that was told, by number; `best()`.

    lag: how many numbers an outcome is older than the ask that learns from it, so the most workers that are kept busy.
    """

    def __init__(
        self,
        searcher: Searcher,
        *,
        space: Space,
        first: Sequence[Mapping[str, Any]] = (),
        epochs: int | None = None,
        lag: int = 1,
        trials: int | None = None,
    ) -> None:
        if lag < 1:
            raise UsageError(f"lag: expected 1 or more, got {lag}.", where="search")
        self.searcher, self.space, self.first, self.epochs, self.lag = searcher, space, tuple(first), epochs, lag
        self.trials = trials
        self.history = History()
        self.outcomes: dict[int, Told] = {}
        self._next: Ask | None = None
        self._refused_at: int | None = None  # how many outcomes were known when the searcher had no move

    def ask(self) -> Ask | None:
        """The next piece of work; None where an outcome has to be told first, or nothing is left (`done`)."""
        ask = self.look()
        if ask is not None:
            self._take(ask)
        return ask

    @property
    def full(self) -> bool:
        """Whether no more trials may be begun."""
        return self.trials is not None and len(self.history.trials) >= self.trials

    def tell(self, told: Told) -> None:
        """What came of an ask, in any order. Raises UsageError for one that was not asked for, or is told twice."""
        if told.number >= len(self.history.asks) or told.number < 0:
            raise UsageError(f"outcome {told.number} was not asked for.", where="search")
        if told.number in self.outcomes:
            raise UsageError(f"outcome {told.number} is told twice.", where="search")
        self.outcomes[told.number] = told

    def restore(self, ask: Ask) -> None:
        """Take over an ask of a journal, in the order of numbers, without asking for it again: nothing is computed.

        Told the outcomes of the same journal, before, between or after, the search goes on as the one that was killed.
        """
        if ask.number != len(self.history.asks):
            raise UsageError(f"ask {ask.number} comes after {len(self.history.asks) - 1}.", where="search")
        self._take(ask)

    def go_on(self, searcher: Searcher, *, space: Space, trials: int | None) -> None:
        """From here on ask by another searcher, over another space, with all that was asked for and told behind it.

        It is shown every outcome so far: all of them have to be told, so that what follows does not depend on who was quick.
        trials: as at the beginning, of the whole search.
        """
        if len(self.outcomes) < len(self.history.asks):
            raise UsageError("another space, with outcomes still out.", where="search")
        self.searcher, self.space, self.trials = searcher, space, trials
        self._next = self._refused_at = None
        while self._show_one():
            pass

    @property
    def done(self) -> bool:
        """Whether nothing is left to be asked for and told."""
        return len(self.outcomes) == len(self.history.asks) and self.look() is None

    def best(self) -> tuple[Trial, float] | None:
        """(the trial with the best score so far, that score), the first of equal ones; None where none has a score."""
        scores: dict[int, float] = {}
        for number, told in sorted(self.outcomes.items()):
            trial = self.history.asks[number].trial
            if told.scored and told.score > scores.get(trial, float("-inf")):
                scores[trial] = told.score
        if not scores:
            return None
        best = max(sorted(scores), key=scores.__getitem__)
        return self.history.trials[best], scores[best]

    def _take(self, ask: Ask) -> None:
        self.history.add_ask(ask)
        if ask.given:  # what is left out counts as the default; what lies outside of the space is no proposal of it
            whole, known = self.space.completed(ask.values), {**self.space.default, **ask.values}
            if all(frozen(known.get(key, value)) == frozen(value) for key, value in whole.items()):
                self.history.mark(whole)
        self._next = self._refused_at = None

    def look(self) -> Ask | None:
        """What `ask` would give: it stays the next one until it is taken."""
        if self._next is None:
            number = len(self.history.asks)
            if number < len(self.first):
                self._next = Ask(
                    number=number,
                    trial=number,
                    values=self.first[number],
                    epochs=self.epochs,
                    given=True,
                    label="given",
                )
            elif (move := self._move(number)) is not None:
                self._next = self._asked(number, move)
        return self._next

    def _move(self, number: int) -> Move | None:
        """The searcher's move at this number; None where it must not or cannot know yet.

        Where it has none, it is shown one outcome more after the other: what it waits for does not depend on who is quick.
        """
        history = self.history
        if self.searcher.learns:
            while len(history.tolds) <= number - self.lag:
                if not self._show_one():
                    return None
        while True:
            if self._refused_at != len(history.tolds):
                move = self.searcher.propose(history)
                if move is not None and not (move.trial is None and self.full):
                    return move
                self._refused_at = len(history.tolds)
            if not self._show_one():
                return None

    def _show_one(self) -> bool:
        told = self.outcomes.get(len(self.history.tolds))
        if told is None:
            return False
        self.history.add_told(told)
        return True

    def _asked(self, number: int, move: Move) -> Ask:
        name = type(self.searcher).__name__
        if move.trial is None and (why := self.space.why_not(move.values)) is not None and self.space.dimensions:
            raise RuntimeError(f"{name} proposes what is not in the space: {why}")
        trial = number if move.trial is None else move.trial
        if move.trial is not None and self.history.trials[trial].pending:
            raise RuntimeError(f"{name} goes on with trial {trial}, of which a piece is still out")
        epochs = self.epochs if move.epochs is None else move.epochs
        return Ask(number=number, trial=trial, values=move.values, epochs=epochs, label=move.label)
