"""`RecipeSearch`: a search over changes of a recipe, as a `Strategy` whose proposals the study trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trainwright.plugins import Searcher
from trainwright.recipe import Recipe
from trainwright.records import Outcome, Proposal
from trainwright.search.domains import as_tuples
from trainwright.search.history import Ask, State, Told
from trainwright.search.searching import Search, Setting, searcher_of
from trainwright.search.space import Space


class RecipeSearch:
    """A `Strategy`. `search`: what it asks, with its history and the best so far. `stage`: how often it went on in a space anew.

    build: a searcher over a space. timed: whether it is told the seconds of trainings. They are those of a clock, so with them no
    two machines, nor one worker and two, find the same trials.
    """

    def __init__(
        self, recipe: Recipe, search: Search, build: Callable[[Space], Searcher], *, timed: bool = False
    ) -> None:
        self.recipe, self.search, self._build, self._timed = recipe, search, build, timed
        self.stage = 0

    def go_on(self, space: Space, *, within: Space, trials: int | None) -> None:
        """From here on look at `within`, a part of `space` or all of it; every outcome so far has to be told."""
        self.search.go_on(self._build(within), space=space, trials=trials)

    def ask(self) -> Proposal | None:
        ask = self.search.ask()
        return None if ask is None else self.proposal(ask)

    def tell(self, outcome: Outcome) -> None:
        told = told_of(outcome)
        self.search.tell(told if self._timed else replace(told, seconds=0.0))

    def restore(self, record: Mapping[str, Any]) -> Proposal:
        """Take over a proposal of the journal (number, changes, epochs_now, continues, label) without asking for it anew."""
        number, continues = record["number"], record.get("continues")
        ask = Ask(
            number=number,
            trial=number if continues is None else continues,
            values={key: as_tuples(value) for key, value in record["changes"].items()},
            epochs=record.get("epochs_now") or self.search.epochs,
            given=number < len(self.search.first),
            label=record.get("reason", ""),
        )
        self.search.restore(ask)
        return self.proposal(ask)

    @property
    def done(self) -> bool:
        return self.search.done

    def proposal(self, ask: Ask) -> Proposal:
        """What the study is to train for an ask."""
        before = self.search.history.trials[ask.trial].asks[:-1]  # without this one, which is the last
        return Proposal(
            number=ask.number,
            role="trial",
            recipe=self.recipe.changed(ask.values),
            label=label_of(ask.values) if ask.new else f"trial {ask.trial} to epoch {ask.epochs}",
            reason=ask.label,
            changes=dict(ask.values),
            continues=None if ask.new else ask.trial,
            epochs_now=None if ask.epochs in (None, self.recipe.epochs) else ask.epochs,
            epochs_before=0 if not before else before[-1].epochs or self.recipe.epochs,
            stage=self.stage,
        )


def search_recipes(
    strategy: str,
    recipe: Recipe,
    space: Space,
    *,
    seed: int = 0,
    first: Sequence[Mapping[str, Any]] = ({},),
    least_epochs: int = 1,
    lag: int = 1,
    trials: int | None = None,
    timed: bool = False,
    options: Mapping[str, Any] | None = None,
) -> RecipeSearch:
    """A search around a recipe. first: changes of it that are trained to the end before anything else; at first it, unchanged.
    timed: whether its budget is time, so that seconds count.

    Raises UnknownNameError, UsageError as `searching.start`.
    """

    def build(over: Space) -> Searcher:
        setting = Setting(space=over, seed=seed, epochs=recipe.epochs, least_epochs=least_epochs, trials=trials)
        return searcher_of(strategy, setting, options)

    given = [{**space.fixed, **changes} for changes in first]
    search = Search(build(space), space=space, first=given, epochs=recipe.epochs, lag=lag, trials=trials)
    return RecipeSearch(recipe, search, build, timed=timed)


def told_of(outcome: Outcome) -> Told:
    """What a search is told of a run: its state, with divergence as one of its own, its score and its curve."""
    done: State = "finished" if outcome.state == "paused" else outcome.state  # a piece that came to where it was to end
    diverged = done != "finished" and outcome.result.get("verdict") == "diverged"
    state: State = "diverged" if diverged else done
    scores = tuple(float(score) for score in outcome.result.get("val_scores", ()))
    finite = [score for score in scores if math.isfinite(score)]
    # One that was stopped has no result; its best epoch is what its checkpoint holds.
    score = max(finite, default=math.nan) if state == "stopped" and math.isnan(outcome.score) else outcome.score
    return Told(number=outcome.number, state=state, score=score, seconds=outcome.seconds, scores=scores)


def label_of(values: Mapping[str, Any]) -> str:
    """Values in a few words: `lr 0.003, weight_decay 0.05`."""
    if not values:
        return "as published"
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {_said(value)}" for key, value in sorted(values.items()))


def _said(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
