"""What the benchmarks of the search share: an objective paid by the epoch, our own strategies as arms, and how arms compare.

A benchmark brings curves, and says what it claims.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.stats import wilcoxon

from trainwright.search.history import Told, frozen
from trainwright.search.searching import start
from trainwright.search.space import Space, Values

OURS = "freeze-thaw"
TRAININGS = (1, 2, 5, 10, 20)  # full trainings at which regret is shown; the last one is the budget
SHOWN_P = (10, 20)
LEAST_EPOCHS = (
    2  # of the races: after one epoch networks are untrained (LCBench: rank correlation with the last epoch 0.0)
)
RULES = {  # what is handed out
    "seen": "the best checkpoint is handed out",
    "last": "its training's last epoch is handed out",
}


class Spent(Exception):
    """The budget is used up."""


class Curves(Protocol):
    """Trainings that are known. The scores [epochs] of values on a task, 0–1."""

    def curve(self, task: str, values: Values) -> np.ndarray: ...


class Objective:
    """Trainings on one task that are paused and gone on with, paid by the epoch, until the budget is spent.

    worth: of the same trainings the scores without noise, where what is told has some; by these a search is judged, so that luck
    is no merit. seen: the worth of the checkpoint with the best score so far, after each epoch that was paid for. last: that at
    the last epoch of the same training.
    """

    def __init__(
        self, curves: Curves, task: str, *, budget: int, worth: Callable[[str, Values], np.ndarray] | None = None
    ) -> None:
        self._curves, self._task, self._budget, self._worth = curves, task, budget, worth
        self._known: dict[Any, tuple[np.ndarray, np.ndarray]] = {}  # (told, worth) by values
        self._reached: dict[Any, int] = {}
        self._best = -np.inf
        self.seen: list[float] = []
        self.last: list[float] = []

    def train(self, values: Values, epochs: int | None = None) -> tuple[float, ...]:
        """The curve up to that epoch; those that were trained before are not paid for again. Raises Spent."""
        key = frozen({name: float(value) if _is_number(value) else value for name, value in values.items()})
        if key not in self._known:
            curve = self._curves.curve(self._task, values)
            self._known[key] = curve, curve if self._worth is None else self._worth(self._task, values)
            self._reached[key] = 0
        curve, worth = self._known[key]
        epochs = len(curve) if epochs is None else epochs
        while self._reached[key] < epochs:
            if len(self.seen) == self._budget:
                raise Spent
            epoch = self._reached[key]
            self._reached[key] += 1
            better = float(curve[epoch]) > self._best
            self._best = max(self._best, float(curve[epoch]))
            self.seen.append(float(worth[epoch]) if better else self.seen[-1])
            self.last.append(float(worth[-1]) if better else self.last[-1])
        return tuple(map(float, curve[:epochs]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is searched. published: values to begin with, the best known first. epochs: of a whole training."""

    space: Space
    published: Sequence[Values]
    epochs: int


Search = Callable[[Objective, int], None]  # objective, seed; until it raises Spent, or nothing is left to try


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of our strategies. first: how many of the published values it trains before anything else."""

    problem: Problem
    strategy: str
    first: int = 0
    least_epochs: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, objective: Objective, seed: int) -> None:
        epochs = self.problem.epochs
        search = start(
            self.strategy,
            self.problem.space,
            seed=seed,
            first=self.problem.published[: self.first],
            epochs=epochs,
            least_epochs=self.least_epochs,
            options=self.options,
        )
        paid = 0
        while (ask := search.ask()) is not None:
            scores = objective.train(ask.values, ask.epochs or epochs)
            seconds = float(len(objective.seen) - paid)  # an epoch counts as a second, whatever the values
            paid = len(objective.seen)
            search.tell(Told(number=ask.number, state="finished", score=max(scores), scores=scores, seconds=seconds))


def own_arms(problem: Problem) -> dict[str, Search]:
    """Our strategies. With `+default` published values come first: two of them (where there are two) where every training goes to
    its end, one where trainings are compared early, as in `freeze-thaw`. `default` trains nothing else.

    Another library's optimizer is one more entry: a function of the objective and the seed.
    """

    def arm(strategy: str, first: int = 0, least_epochs: int = 1) -> Arm:
        return Arm(problem=problem, strategy=strategy, first=first, least_epochs=least_epochs)

    races = ("hyperband", "asha", "bohb")
    return {
        OURS: arm(OURS, 1),
        "tpe+default": arm("tpe", 2),
        "random+default": arm("random", 2),
        "default": arm("list", 2),
        "tpe": arm("tpe"),
        "random": arm("random"),
        **{name: arm(name, least_epochs=LEAST_EPOCHS) for name in races},
        **{f"{name}+default": arm(name, 1, LEAST_EPOCHS) for name in races},
    }


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What regret is measured by: the best score that is known, and the median of trainings by chance after the last epoch."""

    best: float
    median: float

    def regret(self, score: float) -> float:
        """0 for the best known one, 1 for the median."""
        return (self.best - score) / (self.best - self.median)


# Cells: an arm on a task with a seed

Cell = tuple[str, str, int]


def file_of(results: Path, cell: Cell) -> Path:
    return results / "{}.{}.{}.json".format(*cell)


def measure_all(
    cells: Iterable[Cell], keep: Callable[[Cell], float], *, file_of: Callable[[Cell], Path], processes: int
) -> None:
    """Those that are not there yet. keep: measures a cell, writes its file and returns the seconds of a processor."""
    missing = [cell for cell in cells if not file_of(cell).is_file()]
    with ProcessPoolExecutor(processes) as pool:
        waiting = {pool.submit(keep, cell): cell for cell in missing}
        for count, done in enumerate(as_completed(waiting), 1):
            arm, task, seed = waiting[done]
            print(f"{count}/{len(missing)}  {arm} {task} {seed}  {done.result():.1f} s", file=sys.stderr, flush=True)


def at_trainings(values: Sequence[float], epochs: int) -> list[float]:
    """Of what was known after each epoch, that after 1, 2, … full trainings; a search that ended earlier keeps what it had."""
    return [values[min(count * epochs, len(values)) - 1] for count in range(1, TRAININGS[-1] + 1)]


# How arms compare

Pair = Callable[[Mapping[str, Any]], Hashable]


def by_task(row: Mapping[str, Any]) -> Hashable:
    return row["task"]


def table(
    rows: Sequence[Mapping[str, Any]], references: Mapping[str, Reference], rule: str, *, pair: Pair = by_task
) -> dict[str, dict[str, Any]]:
    """By arm: mean regret after each number of trainings, cells, and how ours compares: p, and pairs better, worse.

    pair: what the cells of two arms have in common where they are compared, as a rule the task; over what lies within it they are
    averaged.
    """
    found = {}
    ours = regrets(rows, references, rule, arm=OURS, pair=pair)
    for arm in dict.fromkeys(row["arm"] for row in rows):
        found_here = regrets(rows, references, rule, arm=arm, pair=pair)
        both = [one for one in found_here if one in ours]
        means = np.mean(list(found_here.values()), axis=0)
        line: dict[str, Any] = {
            "regret": {count: round(float(means[count - 1]), 4) for count in TRAININGS},
            "cells": sum(row["arm"] == arm for row in rows),
            "pairs": len(found_here),
        }
        if arm != OURS and both:
            gains = np.array([found_here[one] - ours[one] for one in both])
            line["against"] = {count: _compared(gains[:, count - 1]) for count in TRAININGS}
        found[arm] = line
    return found


def regrets(
    rows: Sequence[Mapping[str, Any]],
    references: Mapping[str, Reference],
    rule: str,
    *,
    arm: str,
    pair: Pair = by_task,
) -> dict[Hashable, np.ndarray]:
    """Regret after 1, 2, … trainings [20] by pair, the mean over what lies within it."""
    found: dict[Hashable, list[list[float]]] = {}
    for row in rows:
        if row["arm"] == arm:
            of_row = [references[row["task"]].regret(score) for score in row[rule]]
            found.setdefault(pair(row), []).append(of_row)
    return {one: np.mean(every, axis=0) for one, every in found.items()}


def _compared(gains: np.ndarray) -> dict[str, Any]:
    """gains: another arm's regret minus ours, by pair. p: two-sided, Wilcoxon's signed-rank test; 1 where all are equal."""
    p = float(wilcoxon(gains).pvalue) if np.any(gains) else 1.0
    return {"p": p, "better": int((gains > 0).sum()), "worse": int((gains < 0).sum())}


def shown(found: Mapping[str, Mapping[str, Any]], title: str, *, pairs: str) -> str:
    """A table for a person. pairs: what they are."""
    lines = ["", f"{title:<40}" + "".join(f"{count:>8}" for count in TRAININGS) + f"   cells  p at 10, 20 ({pairs})"]
    for arm, line in sorted(found.items(), key=lambda item: item[1]["regret"][TRAININGS[-1]]):
        of_arm = "".join(f"{line['regret'][count]:8.3f}" for count in TRAININGS)
        against = [
            f"{line['against'][count]['p']:.4f} ({line['against'][count]['better']} of {line['pairs']})"
            for count in SHOWN_P
            if "against" in line
        ]
        lines.append(f"{arm:<40}{of_arm}{line['cells']:>8}  {', '.join(against)}")
    return "\n".join(lines)
