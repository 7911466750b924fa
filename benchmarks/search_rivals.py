"""Optimizers of other libraries as arms of the search benchmarks, each through its own ask and tell; none is rebuilt here.

Every one gets the same space (`Problem`: log scales, choices, conditions), is told the best score of a training so far, since
the best checkpoint is handed out, and pays each epoch once: an objective's `train` goes on with a training that was paused.
Where trainings are compared early that begins at epoch 3; what else they could be told stays as their library has it.

A library is imported when its arm begins. `pip install ".[search-rivals]"` has all of them; where two cannot be
installed together, each goes into an environment of its own, and `--arms` of the benchmark picks those that are there.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from search_arms import Problem
from trainwright.search.domains import Choice, Domain, FloatRange
from trainwright.search.space import Space, Values

LEAST_EPOCHS = 3  # before which no training is compared; the default of all these libraries is 1, an untrained network
REDUCTION = 3  # of trainings from rung to rung: the default of DEHB, NePS and Syne Tune
FREE = 300  # asks in a row that cost nothing: an optimizer that only repeats itself has come to its end
CONFIDENCE = "medium"  # of the published values as NePS's prior: what its examples use
INSTALL = 'pip install ".[search-rivals]"'
PACKAGES = {
    "optuna": "optuna",
    "neps": "neural-pipeline-search",
    "dehb": "dehb",
    "syne_tune": "syne-tune",
}  # by the name of the import


class Trains(Protocol):
    """What a benchmark offers. train: the curve up to that epoch; raises where the budget is spent. seen: an entry an epoch."""

    seen: list[float]

    def train(self, values: Values, epochs: int) -> tuple[float, ...]: ...


class _Flat:
    """A space as libraries take it: dimensions with names without dots, and choices by their number, since libraries differ in
    which values they take for choices."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.domains = {f"dimension_{index}": one.domain for index, one in enumerate(space.dimensions)}

    def values(self, suggest: Callable[[str], Any]) -> Values:
        """Values of the dimensions that are there. suggest: of a dimension by its name, asked only for these."""
        found: dict[str, Any] = dict(self._space.fixed)
        for (name, domain), one in zip(self.domains.items(), self._space.dimensions, strict=True):
            if self._space.holds(one, found):
                found[one.key] = _decoded(domain, suggest(name))
        return found

    def given(self, values: Values) -> dict[str, Any]:
        """A value for every dimension; those that are not there lie in the middle."""
        there = set(self._space.active(values))
        every = zip(self.domains.items(), self._space.dimensions, strict=True)
        return {
            name: _encoded(domain, values[one.key] if index in there else domain.middle)
            for index, ((name, domain), one) in enumerate(every)
        }


def _encoded(domain: Domain, value: Any) -> Any:
    return domain.index(value) if isinstance(domain, Choice) else value


def _decoded(domain: Domain, given: Any) -> Any:
    if isinstance(domain, Choice):
        return domain.values[int(given)]
    return domain.nearest(float(given) if isinstance(domain, FloatRange) else int(given))


class _Repeating(Exception):
    """Nothing has been paid for in a long time."""


class _Trainings:
    """An objective as an optimizer sees it."""

    def __init__(self, objective: Trains) -> None:
        self._objective, self._free = objective, 0

    def score(self, values: Values, epochs: int) -> float:
        """The best until that epoch."""
        paid = len(self._objective.seen)
        scores = self._objective.train(values, epochs)
        self._free = 0 if len(self._objective.seen) > paid else self._free + 1
        if self._free >= FREE:
            raise _Repeating
        return max(scores)


@dataclass(frozen=True, kw_only=True)
class Rival:
    """An optimizer of another library, until the budget is spent. package: that it is imported from. options: of `run`."""

    run: Callable[..., None]
    package: str
    problem: Problem
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, objective: Trains, seed: int) -> None:
        with _quiet(), contextlib.suppress(_Repeating):
            self.run(self.problem, _Trainings(objective), seed % 2**32, **self.options)


def rivals(problem: Problem) -> dict[str, Rival]:
    """Arms by name. `+default`: the best known of the published values comes first; `+defaults`: two of them."""
    if problem.space.refuses is not None:
        raise ValueError("search_rivals.py: these optimizers know nothing of combinations that a space refuses.")

    def rival(run: Callable[..., None], package: str, **options: Any) -> Rival:
        return Rival(run=run, package=package, problem=problem, options=options)

    return {
        "optuna-tpe": rival(_optuna, "optuna", sampler="tpe"),
        "optuna-tpe-halving+default": rival(_optuna, "optuna", sampler="tpe", halving=True, first=1),
        "optuna-tpe-halving+defaults": rival(_optuna, "optuna", sampler="tpe", halving=True, first=2),
        "optuna-gp": rival(_optuna, "optuna", sampler="gp"),
        "optuna-gp+default": rival(_optuna, "optuna", sampler="gp", first=1),
        "neps-priorband": rival(_neps, "neps", prior=True),
        "neps-hyperband": rival(_neps, "neps"),
        "dehb": rival(_dehb, "dehb"),
        "syne-asha": rival(_syne, "syne_tune", scheduler="ASHA"),
        "syne-asha+default": rival(_syne, "syne_tune", scheduler="ASHA", first=1),
        "syne-bohb": rival(_syne, "syne_tune", scheduler="BOHB"),
        "syne-bohb+default": rival(_syne, "syne_tune", scheduler="BOHB", first=1),
    }


def missing(arms: Mapping[str, Any], wanted: Collection[str]) -> dict[str, str]:
    """Those of the wanted arms whose package is not installed here, and the package."""
    rivals_wanted = {name: arms[name] for name in wanted if isinstance(arms[name], Rival)}
    return {
        name: PACKAGES[rival.package]
        for name, rival in rivals_wanted.items()
        if importlib.util.find_spec(rival.package) is None
    }


def there(benchmark: str, arms: Mapping[str, Any], named: Sequence[str] | None) -> list[str]:
    """The arms that can run here: all that were named, or of all arms those whose library is installed. benchmark: the file's
    name. Raises SystemExit where a named one cannot."""
    absent = missing(arms, named or arms)
    if absent and named:
        packages = " and ".join(sorted(set(absent.values())))
        raise SystemExit(
            f"{benchmark}: {', '.join(absent)}: {packages} not installed here. Install what the arms compare with: {INSTALL}."
        )
    if absent:
        print(f"left out, not installed here: {', '.join(absent)}. All of them: {INSTALL}", file=sys.stderr)
    return [arm for arm in named or arms if arm not in absent]


# Optuna: Akiba et al., arXiv:1907.10902


def _optuna(
    problem: Problem, trainings: _Trainings, seed: int, *, sampler: str, halving: bool = False, first: int = 0
) -> None:
    """TPE or the Gaussian process. halving: trials are stopped by asynchronous successive halving."""
    import optuna

    flat, conditional = _Flat(problem.space), any(one.when for one in problem.space.dimensions)
    pruners = optuna.pruners
    pruner = pruners.SuccessiveHalvingPruner(min_resource=LEAST_EPOCHS) if halving else pruners.NopPruner()
    made = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed, group=conditional),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed),
    }[sampler]()
    study = optuna.create_study(direction="maximize", sampler=made, pruner=pruner)
    for values in problem.published[:first]:
        study.enqueue_trial(flat.given(values))
    while True:
        trial = study.ask()
        suggest = partial(_suggested, trial, flat.domains)
        if sampler == "gp":  # it models the dimensions alone that every trial has: each gets all of them
            suggest = {name: suggest(name) for name in flat.domains}.__getitem__
        values = flat.values(suggest)
        if not halving:
            study.tell(trial, trainings.score(values, problem.epochs))
            continue
        for epoch in range(1, problem.epochs + 1):
            score = trainings.score(values, epoch)
            trial.report(score, epoch)
            if epoch < problem.epochs and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, score)


def _suggested(trial: Any, domains: Mapping[str, Domain], name: str) -> Any:
    domain = domains[name]
    if isinstance(domain, Choice):
        return trial.suggest_categorical(name, range(len(domain.values)))
    suggest = trial.suggest_float if isinstance(domain, FloatRange) else trial.suggest_int
    return suggest(name, domain.low, domain.high, log=domain.log)


# NePS: Hyperband, Li et al., arXiv:1603.06560; PriorBand, Mallik et al., arXiv:2306.12370


def _neps(problem: Problem, trainings: _Trainings, seed: int, *, prior: bool = False) -> None:
    """Hyperband; PriorBand with the published values as its prior, trained to their end first."""
    import neps
    import torch

    np.random.seed(seed)  # noqa: NPY002 - NePS draws from the global generators
    torch.manual_seed(seed)
    flat = _Flat(problem.space)
    centre = flat.given(problem.published[0]) if prior else {}
    parameters = {
        name: _neps_parameter(neps, domain, {"prior": centre[name], "prior_confidence": CONFIDENCE} if prior else {})
        for name, domain in flat.domains.items()
    }
    parameters["epochs"] = neps.IntegerFidelity(lower=LEAST_EPOCHS, upper=problem.epochs)
    space = type("Searched", (neps.PipelineSpace,), parameters)()
    if prior:
        optimizer = neps.algorithms.priorband(space, eta=REDUCTION, sample_prior_first="highest_fidelity")
    else:
        optimizer = neps.algorithms.hyperband(space, eta=REDUCTION)
    search = neps.AskAndTell(optimizer)
    while True:
        trial = search.ask()
        score = trainings.score(flat.values(trial.config.__getitem__), int(trial.config["epochs"]))
        search.tell(trial, -score)


def _neps_parameter(neps: Any, domain: Domain, prior: Mapping[str, Any]) -> Any:
    if isinstance(domain, Choice):
        return neps.Categorical(choices=tuple(range(len(domain.values))), **prior)
    kind = neps.Float if isinstance(domain, FloatRange) else neps.Integer
    return kind(lower=domain.low, upper=domain.high, log=domain.log, **prior)


# DEHB: Awad et al., arXiv:2105.09821


def _dehb(problem: Problem, trainings: _Trainings, seed: int) -> None:
    """Differential evolution with Hyperband, over the unit cube that the space has for such optimizers."""
    from dehb import DEHB
    from loguru import logger

    with tempfile.TemporaryDirectory() as folder:
        search = DEHB(
            dimensions=len(problem.space.dimensions),
            min_fidelity=LEAST_EPOCHS,
            max_fidelity=problem.epochs,
            eta=REDUCTION,
            seed=seed,
            n_workers=1,
            output_path=folder,
            save_freq=None,
        )
        logger.remove()  # its log file, which a thread writes
        while True:
            job = search.ask()
            score = trainings.score(problem.space.from_cube(job["config"]), round(job["fidelity"]))
            search.tell(job, {"fitness": -score, "cost": float(job["fidelity"])})


# Syne Tune: Salinas et al., AutoML 2022; ASHA: Li et al., arXiv:1810.05934; BOHB: Falkner et al., arXiv:1807.01774


def _syne(problem: Problem, trainings: _Trainings, seed: int, *, scheduler: str, first: int = 0) -> None:
    """Its asynchronous successive halving, that stops trials and begins others; with kernel densities it is its BOHB."""
    import datetime

    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer import baselines
    from syne_tune.optimizer.scheduler import SchedulerDecision

    flat = _Flat(problem.space)
    np.random.seed(seed)  # noqa: NPY002 - domains draw from the global generator before there is a model
    search = getattr(baselines, scheduler)(
        {name: _syne_domain(domain) for name, domain in flat.domains.items()},
        metric="score",
        do_minimize=False,
        time_attr="epoch",
        max_t=problem.epochs,
        grace_period=LEAST_EPOCHS,
        reduction_factor=REDUCTION,
        random_seed=seed,
        points_to_evaluate=[flat.given(values) for values in problem.published[:first]],
    )
    number = 0
    while (suggestion := search.suggest()) is not None:
        trial = Trial(number, suggestion.config, datetime.datetime.now())
        search.on_trial_add(trial)
        values = flat.values(trial.config.__getitem__)
        for epoch in range(1, problem.epochs + 1):
            result = {"score": trainings.score(values, epoch), "epoch": epoch}
            if epoch == problem.epochs:
                search.on_trial_complete(trial, result)
            elif search.on_trial_result(trial, result) == SchedulerDecision.STOP:
                break
        number += 1


def _syne_domain(domain: Domain) -> Any:
    from syne_tune import config_space

    if isinstance(domain, Choice):
        return config_space.choice(list(range(len(domain.values))))
    if isinstance(domain, FloatRange):
        return (config_space.loguniform if domain.log else config_space.uniform)(domain.low, domain.high)
    return (config_space.lograndint if domain.log else config_space.randint)(domain.low, domain.high)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without their lines on every trial, and without warnings that no setting of ours could answer."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
