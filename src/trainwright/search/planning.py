"""Which arms a round has, in which recipe, and below what they are given up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from trainwright.diagnosis.prescribe import combine
from trainwright.recipe import Recipe
from trainwright.records import Outcome, Prescription
from trainwright.search.ledger import Ledger

RETUNE_COST = 0.1  # of a training: the range test (training/lr_range.py)
HOPELESS = 0.10  # below the control at the same epoch by this and by five noises of a difference: stopped
CHANCES = 5
JUDGED_FROM = 1 / 2  # of the training: before that, regularized trainings lie below for good reasons
LEAST_JUDGED = 6  # epochs of a control: a shorter one says too little of its way
NEVER = -1e9  # a score that none falls under


def joined(proven: Sequence[Prescription]) -> list[Prescription]:
    """All that seemed better beside what was adopted, as one arm; those that contradict it are left out."""
    arm: Prescription | None = None
    for one in proven:
        arm = one if arm is None else combine(arm, one) or arm
    return [] if arm is None else [arm]


def affordable(
    candidates: Sequence[Prescription],
    base: Recipe,
    ledger: Ledger,
    *,
    seconds: float,
    cost: float,
    least_gain: float,
) -> list[Prescription]:
    """Of the candidates, in their order, those that change the recipe, may gain enough, and fit into the seconds together.

    cost: time of an epoch of `base` over that of the unchanged recipe.
    """
    chosen, left = [], seconds
    for one in candidates:
        epochs = with_remedy(base, one).epochs
        takes = ledger.seconds(epochs, cost=cost * one.cost) * (1 + RETUNE_COST * one.retune)
        if takes <= left and one.gain >= least_gain and base.changed(dict(one.changes)) != base:
            chosen.append(one)
            left -= takes
    return chosen


def with_remedy(base: Recipe, one: Prescription) -> Recipe:
    """The recipe with what is prescribed, in the time that it takes without; unless the prescription is about its length."""
    return base.changed({"epochs": max(1, round(base.epochs / one.cost)), **one.changes})


def filled(recipe: Recipe, outcome: Outcome) -> Recipe:
    """The recipe with the learning rate that its run found, where it left that to the range test."""
    if recipe.optimizer.lr is not None:
        return recipe
    used = outcome.result["recipe"]
    return recipe.changed({"optimizer.lr": used["optimizer"]["lr"], "schedule.low": used["schedule"]["low"]})


def floor_under(control: Outcome, chance: float) -> tuple[float, ...]:
    """Val score by epoch below which an arm is hopeless. chance: the noise of a difference."""
    if control.result["epochs"] < LEAST_JUDGED:
        return ()
    scores = np.nan_to_num(np.array(control.result["val_scores"], dtype=np.float64), nan=NEVER)
    margin, start = max(HOPELESS, CHANCES * chance), math.ceil(JUDGED_FROM * len(scores))
    best = np.maximum.accumulate(scores)
    return tuple(NEVER if epoch < start else float(score) - margin for epoch, score in enumerate(best))
