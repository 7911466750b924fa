"""The methods that `improve.py` sets side by side: our loop, Optuna's TPE and random search, fastai's defaults.

A method gets the images of train/ and a wall time, and hands over one model. What of train/ it judges by is its own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

import trainwright as tw
from improve_budget import Job, Wall
from improve_fastai import fitted
from improve_search import Search

RECIPE = "story"
# Two of Optuna's defaults are changed, since both wait for more trials than ten minutes have: TPE would draw at random until the
# tenth trial, and the pruner would stop none before the sixth.
STARTUP, UNPRUNED = 4, 3
UNPRUNED_TENTHS = 3  # of its training, in which no trial is stopped


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a method handed over.

    seconds: until the model was there; the test images are not counted. right_N: which of them it gets right; paths_N: how they
    are called. val: the unseen score that it was chosen by, None where nothing was. trials: trainings, the last one left out.
    """

    seconds: float
    right_N: np.ndarray
    paths_N: np.ndarray
    val: float | None
    trials: int
    notes: Mapping[str, Any]


def ours(job: Job) -> Made:
    """`trainwright improve DATA --recipe story --budget …`, then `trainwright finalise`."""
    wall = Wall(job.seconds)
    study = tw.improve(job.data, RECIPE, budget=job.seconds, seed=job.seed, options=job.options)
    seconds, result = wall.spent, study.result
    right_N, paths_N = _opened(study, job)
    best, trials = result["best"], [trial for trial in result["trials"] if trial["role"] != "final"]
    notes = {key: best[key] for key in ("trained_on", "remedies", "recipe")}
    notes |= {"baseline": result["baseline"], "summary": result["summary"], "journal": study.story}
    val = best["score"]
    return Made(seconds=seconds, right_N=right_N, paths_N=paths_N, val=val, trials=len(trials), notes=notes)


def tpe(job: Job) -> Made:
    """Optuna's tree-structured Parzen estimator."""
    import optuna

    return _searched(job, optuna.samplers.TPESampler(seed=job.seed, n_startup_trials=STARTUP))


def random_search(job: Job) -> Made:
    """Independent draws; all else as TPE has it."""
    import optuna

    return _searched(job, optuna.samplers.RandomSampler(seed=job.seed))


def fastai(job: Job, *, bfloat16: bool = False) -> Made:
    """`lr_find` and `fit_one_cycle` with the standard augmentation, as often through train/ as the wall time allows."""
    learned = fitted(job, tw.recipes.get(RECIPE), bfloat16=bfloat16)
    right_N, paths_N = learned.answered()
    return Made(seconds=learned.seconds, right_N=right_N, paths_N=paths_N, val=None, trials=0, notes=learned.notes)


METHODS: dict[str, Callable[[Job], Made]] = {
    "ours": ours,
    "tpe": tpe,
    "random": random_search,
    "fastai": fastai,
    "fastai-bf16": partial(fastai, bfloat16=True),
}
# What a method needs of the extra `rivals`.
PACKAGES = {"tpe": "optuna", "random": "optuna", "fastai": "fastai", "fastai-bf16": "fastai"}


def _searched(job: Job, sampler: Any) -> Made:
    """The best of as many trials as fit, hopeless ones stopped by the median rule, trained once more on all of train/."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    wall = Wall(job.seconds)
    search = Search(job, wall, tw.recipes.get(RECIPE))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=UNPRUNED_TENTHS)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    states = {"pruned": optuna.trial.TrialState.PRUNED, "failed": optuna.trial.TrialState.FAIL}
    while search.room():
        trial = study.ask()
        score = search.train(trial)
        study.tell(trial, score, state=None if score is not None else states[search.states[-1]])
    if search.best is None:
        raise SystemExit(f"improve.py: not one trial got to its end in {job.seconds:g} s: give more --budget.")
    run, note = search.finish()
    seconds, val = wall.spent, search.best.score["val"]
    right_N, paths_N = _opened(run, job)
    trials = [{"state": state, "drawn": one.params} for state, one in zip(search.states, study.trials, strict=True)]
    notes = {"final": note, "recipe": run.recipe.model_dump(mode="json"), "trials": trials}
    return Made(seconds=seconds, right_N=right_N, paths_N=paths_N, val=val, trials=len(trials), notes=notes)


def _opened(model: tw.Run | tw.Study, job: Job) -> tuple[np.ndarray, np.ndarray]:
    """(right or wrong, file) of every test image, from the locked test part."""
    found = tw.finalise(model, options=job.options)
    with np.load(job.options.runs / found["run"] / "answers" / "test.npz", allow_pickle=False) as saved:
        return saved["tally"][:, 0] == 1, saved["paths"]
