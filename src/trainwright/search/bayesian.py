"""`tpe`, `gp`: Optuna's samplers behind our asks. The only file that imports optuna.

Optuna's own study is a scratch pad in memory: it is filled from the history, and its sampler is set anew with a seed of its own
for every ask. A seeded sampler would otherwise replay its first trials after a restart.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from trainwright.errors import MissingPackageError
from trainwright.plugins import strategies
from trainwright.search.domains import Choice, FloatRange, IntRange
from trainwright.search.drawing import Chance, unseen
from trainwright.search.history import History, Move, Told
from trainwright.search.searching import Setting
from trainwright.search.space import Space
from trainwright.seeding import derive

STARTUP = 10  # trainings by chance before the model is asked: the default of Optuna's TPE and Gaussian process
DIVERGED = "diverged"
# Trainings that a model is shown: of more, the best and the latest, half each. A decision takes the same time however many there
# were: with 500 the estimator has a hundredth of a second for it, with 150 the process a fifth (docs/search.md).
TPE_SHOWN, GP_SHOWN = 500, 150
CUT = 0.25  # of them, that come on top before the others are chosen anew
SCRATCH = 200  # trials that were only ever pending, beside as many as were told, before the scratch pad is made anew


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A training that counts. score: None where it diverged."""

    values: Mapping[str, Any]
    score: float | None


class Model:
    """One of Optuna's samplers over a space. make: a sampler from a seed. shown: the most trainings that it is told of.

    as_cube: it sees every dimension between 0 and 1, those that are not there in the middle. Optuna's Gaussian process models
    the dimensions alone that every trial has.
    """

    def __init__(self, space: Space, make: Callable[[int], Any], *, shown: int, as_cube: bool = False) -> None:
        _need_optuna()
        self._space, self._make, self._as_cube, self._most = space, make, as_cube, shown
        self._distributions = dict(zip(space.names, map(self._distribution, space.dimensions), strict=True))
        self._study: Any = None
        self._known = 0  # of what was seen, that were looked at
        self._cut = 0  # of these, that those on the scratch pad were chosen from; 0 as long as all are there
        self._kept: list[Seen] = []  # of these
        self._scratch = 0
        self._constrained = False  # as long as nothing diverged there is no constraint to be modelled
        self._worst: float | None = None

    def draw(self, seen: Sequence[Seen], pending: Sequence[Mapping[str, Any]], *, seed: int) -> Mapping[str, Any]:
        """Values by the model. seen: only ever added to. pending: those that are under way; the model keeps away from them."""
        from optuna.trial import TrialState

        with _quiet():
            self._learn(seen)
            self._study.sampler = self._make(seed)
            for values in pending:
                self._study.add_trial(self._trial(values, state=TrialState.RUNNING))
            trial = self._study.ask()
            values = self._suggested(trial)
            # What was only pending is crossed out again: its outcome is learned in its own turn.
            for number in range(trial.number - len(pending), trial.number + 1):
                self._study.tell(number, state=TrialState.FAIL)
        self._scratch += len(pending) + 1
        return values

    def _learn(self, seen: Sequence[Seen]) -> None:
        """Bring the scratch pad up to date."""
        import optuna

        new = seen[self._known :]
        constrained = self._constrained or any(one.score is None for one in new)
        cut = self._chosen(seen)
        often = self._scratch > SCRATCH + min(len(seen), self._most)
        if self._study is None or constrained != self._constrained or cut or often:
            self._study = optuna.create_study(direction="maximize")
            self._scratch, self._worst, self._constrained = 0, None, constrained
            new = [*self._kept, *seen[self._cut :]]
        for one in new:
            if one.score is None:
                # Never compared: the constraint is. The Gaussian process wants a number here, the worst one before it.
                value, constraints = self._worst or 0.0, {DIVERGED: 1.0}
            else:
                value, constraints = one.score, {DIVERGED: 0.0}
                self._worst = value if self._worst is None else min(value, self._worst)
            self._study.add_trial(
                self._trial(one.values, value=value, constraints=constraints if constrained else None)
            )
        self._known = len(seen)

    def _chosen(self, seen: Sequence[Seen]) -> bool:
        """Choose those that the model is shown, where there are too many; whether that changed. At fixed numbers of outcomes, so
        that it is a function of the history."""
        step = max(1, int(CUT * self._most))
        cut = 0 if len(seen) <= self._most else self._most + (len(seen) - self._most) // step * step
        if cut == self._cut:
            return False
        latest = range(cut - self._most // 2, cut)
        ranked = sorted(range(latest.start), key=lambda index: (-worth(seen[index]), index))
        best = sorted(ranked[: self._most - len(latest)])
        self._kept, self._cut = [seen[index] for index in (*best, *latest)], cut
        return True

    def _trial(self, values: Mapping[str, Any], **more: Any) -> Any:
        from optuna.trial import create_trial

        whole = self._space.completed(values)
        there = set(self._space.active(whole))
        shown = {}
        for index, (name, one) in enumerate(zip(self._space.names, self._space.dimensions, strict=True)):
            if index in there:
                shown[name] = self._shown(one.domain, whole[one.key])
            elif self._as_cube:
                shown[name] = 0 if isinstance(one.domain, Choice) else 0.5
        return create_trial(params=shown, distributions={name: self._distributions[name] for name in shown}, **more)

    def _shown(self, domain: Any, value: Any) -> Any:
        if isinstance(domain, Choice):
            return domain.index(value)
        return domain.place_of(value) if self._as_cube else value

    def _distribution(self, one: Any) -> Any:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        domain = one.domain
        if isinstance(domain, Choice):
            return CategoricalDistribution(range(len(domain.values)))
        if self._as_cube:
            return FloatDistribution(0.0, 1.0)
        kind = IntDistribution if isinstance(domain, IntRange) else FloatDistribution
        return kind(domain.low, domain.high, log=domain.log)

    def _suggested(self, trial: Any) -> Mapping[str, Any]:
        if self._as_cube:
            return self._space.from_cube([self._place(trial, index) for index in range(len(self._space.dimensions))])
        found: dict[str, Any] = dict(self._space.fixed)
        for index, one in enumerate(self._space.dimensions):
            if self._space.holds(one, found):
                found[one.key] = self._value(trial, index)
        return found

    def _place(self, trial: Any, index: int) -> float:
        name, domain = self._space.names[index], self._space.dimensions[index].domain
        if isinstance(domain, Choice):
            return domain.place_of(self._value(trial, index))
        return float(trial.suggest_float(name, 0.0, 1.0))

    def _value(self, trial: Any, index: int) -> Any:
        name, domain = self._space.names[index], self._space.dimensions[index].domain
        if isinstance(domain, Choice):
            return domain.values[trial.suggest_categorical(name, range(len(domain.values)))]
        if isinstance(domain, FloatRange):
            return domain.value_at(domain.place_of(trial.suggest_float(name, domain.low, domain.high, log=domain.log)))
        return trial.suggest_int(name, domain.low, domain.high, log=domain.log)


class Bayesian:
    """Trainings by chance at first, then where a model of the outcomes expects the most."""

    learns = True

    def __init__(self, setting: Setting, model: Model, *, startup: int) -> None:
        self._setting, self._model, self._startup = setting, model, startup
        self._chance = Chance(setting)
        self._seen: list[Seen] = []
        self._tolds = 0

    def propose(self, history: History) -> Move | None:
        new = history.tolds[self._tolds :]
        self._seen += [seen for told in new if (seen := seen_of(told, history)) is not None]
        self._tolds = len(history.tolds)
        if not self._setting.space.dimensions:
            return None
        if len(self._seen) < self._startup:
            values = self._chance(history)
        else:
            values = unseen(self._setting, history, lambda number, turn: self._draw(history, number, turn))
        return None if values is None else Move(values=values)

    def _draw(self, history: History, number: int, turn: int) -> Mapping[str, Any]:
        pending = [trial.values for trial in history.running.values()]
        return self._model.draw(self._seen, pending, seed=seed_of(self._setting, number, turn))


@strategies.register("tpe")
def tpe(setting: Setting, *, startup: int = STARTUP) -> Bayesian:
    """Optuna's tree-structured Parzen estimator: Watanabe, arXiv:2304.11127. startup: trainings by chance before it."""
    return Bayesian(setting, tpe_model(setting.space), startup=max(1, startup))


@strategies.register("gp")
def gp(setting: Setting, *, startup: int = STARTUP) -> Bayesian:
    """Optuna's Gaussian process with the logarithm of the expected improvement: Ament et al., arXiv:2310.20708.

    startup: trainings by chance before it. Slower to decide than tpe, for some hundred trainings of minutes and longer: of more
    than 150 the model is shown the best and the latest.
    """

    def make(seed: int) -> Any:
        from optuna.samplers import GPSampler

        return GPSampler(seed=_seed_32(seed), n_startup_trials=1)

    return Bayesian(setting, Model(setting.space, make, shown=GP_SHOWN, as_cube=True), startup=max(1, startup))


def tpe_model(space: Space) -> Model:
    """The estimator over all dimensions at once; in groups where some are there under conditions alone."""
    conditional = any(one.when for one in space.dimensions)

    def make(seed: int) -> Any:
        from optuna.samplers import TPESampler

        return TPESampler(seed=_seed_32(seed), n_startup_trials=1, group=conditional)

    return Model(space, make, shown=TPE_SHOWN)


def seen_of(told: Told, history: History) -> Seen | None:
    """An outcome as the model sees it; None for one that says nothing of its values."""
    values = history.trial_of(told).values
    if told.state == "diverged":
        return Seen(values=values, score=None)
    return Seen(values=values, score=told.score) if told.scored else None


def worth(seen: Seen) -> float:
    """Its score; the least where it diverged."""
    return -math.inf if seen.score is None else seen.score


def seed_of(setting: Setting, number: int, turn: int) -> int:
    """Of the sampler of one ask."""
    return derive(setting.seed, "optuna", number, turn)


def _seed_32(seed: int) -> int:
    return seed % 2**32  # the most that numpy's older generators take


def _need_optuna() -> None:
    import importlib.util

    if importlib.util.find_spec("optuna") is None:
        raise MissingPackageError(
            "the package 'optuna' is not installed.",
            where="strategy",
            cure="Install it: pip install 'trainwright[bayesian]'; random, sobol, asha and hyperband need nothing more.",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's lines on every trial, its warning that groups of dimensions are experimental, and numpy's about 0 / 0 in
    its Gaussian process, which takes the answer for what it is."""
    import numpy as np
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
