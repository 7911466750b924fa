"""How long things take on this machine, and what of a recipe fits into a budget."""

from __future__ import annotations

import math
import re
import time

import numpy as np

from trainwright.errors import UsageError
from trainwright.recipe import Recipe
from trainwright.search.ending import FINAL_SHARE, ROOM
from trainwright.search.ledger import Pace, rung
from trainwright.search.planning import RETUNE_COST
from trainwright.training.loop import fit
from trainwright.training.twin import twin_of
from trainwright.workflows.ingredients import batches_of, optimizer_of, settings_of
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import Prepared

TIMED_STEPS, WARM_UP_STEPS = 10, 2
UNDISTURBED = 0.25  # the quantile of the steps' times that is taken: other work on the machine makes some of them long
FORWARD = 1 / 3  # of a step's time: evaluation has no backward pass, which costs twice as much (arXiv:2001.08361 §2.1)
RUN_SECONDS = 3.0  # a guess of what a run costs beside its epochs, until the first has told
# Of the budget, at most: what is longer leaves time for one lean round alone, or too little for the end, where length pays more.
BASELINE_SHARE = 0.2
# The smallest study in trainings: the baseline, one arm, and that once more; a round fills ROOM of what is left.
RUNS = 1 + 2 / ROOM
WAVERING = 1.1  # ours: the next start measures the pace again, on a few steps, and is to agree
DURATION = re.compile(r"^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?$")


def pace_of(prepared: Prepared, *, options: RunOptions) -> Pace:
    """How long an epoch of a training that is ready to start takes here, by a few steps of a copy, and by how many images it
    evaluates beside."""
    recipe = prepared.recipe
    optimizer = optimizer_of(prepared, lr=recipe.optimizer.lr or 1e-6)
    model, optimizer = twin_of(prepared.model, optimizer, where="model", cure="Give it a __deepcopy__.")
    size = recipe.step_images if recipe.batch_size != "auto" else 64
    batches = batches_of(prepared, seed=recipe.seed, workers=options.workers, batch_size=size)
    steps = fit(
        model,
        prepared.task,
        batches.iterate(),
        optimizer,
        lambda progress: 1e-6,
        steps=WARM_UP_STEPS + TIMED_STEPS,
        device=prepared.device,
        settings=settings_of(prepared),
    )
    stamps = [time.perf_counter() for record in steps if math.isfinite(float(record.loss))]
    taken = np.diff(stamps[WARM_UP_STEPS - 1 :])
    step_seconds = float(np.quantile(taken, UNDISTURBED)) if len(taken) else 1.0
    evaluated = (len(prepared.split.val) + len(prepared.probe_rows)) * (1 + recipe.test_time_flip)
    return Pace(
        epoch_seconds=step_seconds * (batches.steps_per_epoch + FORWARD * evaluated / size), run_seconds=RUN_SECONDS
    )


def fitting(recipe: Recipe, pace: Pace, limit: float | None, *, spent: float = 0.0, on_all: bool = True) -> Recipe:
    """The recipe, shortened where a baseline of all its epochs would leave no time to compare anything with it.

    limit: of the study, in seconds. spent: of these, before the baseline. on_all: a part is kept for a final training. With
    several trainings at a time more is kept (`ending.py`), and still two arms fit beside each other.
    Raises UsageError where not even runs of one epoch leave time for a whole round.
    """
    if limit is None:
        return recipe
    kept = FINAL_SHARE if on_all else 0.0
    fits = _epochs(((1 - kept) * limit - spent) / RUNS, pace)
    if fits < 1:
        least = (RUNS * (1 + RETUNE_COST) * (pace.run_seconds + pace.epoch_seconds) + spent) / (1 - kept)
        raise UsageError(
            f"an epoch takes about {pace.epoch_seconds:.0f} s here: {limit:.0f} s are too few to compare anything.",
            where="--budget",
            cure=f"Give it at least {math.ceil(WAVERING * least)}s, or take smaller images (--set data.image_size=…).",
        )
    fits = max(1, min(fits, _epochs(BASELINE_SHARE * limit, pace)))
    return recipe if recipe.epochs <= fits else recipe.changed({"epochs": rung(fits)})


def _epochs(seconds: float, pace: Pace) -> int:
    """As many whole epochs as a run of so many seconds has, its range test included; 0 or less where not one fits."""
    return math.floor((seconds / (1 + RETUNE_COST) - pace.run_seconds) / pace.epoch_seconds)


def seconds_of(budget: str | float | int) -> float:
    """`90s`, `10m`, `1h30m` or a number of seconds. Raises UsageError for anything else."""
    if isinstance(budget, int | float):
        seconds = float(budget)
    else:
        found = DURATION.match(budget.strip())
        parts = [float(part or 0) for part in found.groups()] if found else [0.0]
        seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not (0 < seconds < math.inf):
        raise UsageError(f"no such budget {budget!r}.", where="--budget", cure="Write for example 90s, 10m or 1h30m.")
    return seconds
