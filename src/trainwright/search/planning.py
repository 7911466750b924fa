"""Which arms a round has, in which recipe, and below what they are given up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainwright.diagnosis.comparison import Comparison
from trainwright.diagnosis.prescribe import combine
from trainwright.errors import RecipeError
from trainwright.recipe import Recipe
from trainwright.records import Interval, Outcome, Prescription
from trainwright.search.ledger import Ledger

RETUNE_COST = 0.1  # of a training: the range test (training/lr_range.py)
HOPELESS = 0.10  # below the control at the same epoch by this and by five noises of a difference: stopped
CHANCES = 5
JUDGED_FROM = 1 / 2  # of the training: before that, regularized trainings lie below for good reasons
LEAST_JUDGED = 6  # epochs of a control: a shorter one says too little of its way
SHORTEST = 2.0  # times fewer epochs than the control: with still fewer, a larger network has not begun to learn
COLLAPSED = 0.1  # of the train score: what a final training may not lose
LOST = Interval(value=-HOPELESS, low=-1.0, high=0.0)  # what is known of the gain of an arm that was stopped or failed
NEVER = -1e9  # a score that none falls under


def joined(proven: Sequence[Prescription]) -> list[Prescription]:
    """All that seemed better beside what was adopted, as one arm; those that contradict it are left out."""
    arm: Prescription | None = None
    for one in proven:
        arm = one if arm is None else combine(arm, one) or arm
    return [] if arm is None else [arm]


def compatible(adopted: Prescription, others: Sequence[Prescription]) -> list[Prescription]:
    """Those that go together with what was adopted: neither one value in two ways, nor two kinds of the same thing."""
    return [one for one in others if combine(adopted, one) is not None]


def affordable(
    candidates: Sequence[Prescription],
    base: Recipe,
    ledger: Ledger,
    *,
    seconds: float,
    cost: float,
    least_gain: float,
    most: int,
    beside: Sequence[float] = (),
    beside_again: Sequence[float] = (),
) -> list[Prescription]:
    """Of the candidates, in their order, `most` that make another recipe each, may gain enough, and fit together. What is a part
    of another one waits for a round after it.

    seconds: of all of them, and of looking at the costliest of them again. cost: time of an epoch of `base` over that of the
    unchanged recipe. beside, beside_again: seconds of runs that are begun before them, and beside the second look.
    """
    chosen: dict[str, tuple[Prescription, Recipe, float]] = {}
    for one in candidates:
        if one.gain < least_gain or not changes_it(base, one):
            continue
        if any(_is_part(one, other) for other, _, _ in chosen.values()):
            continue
        recipe = with_remedy(base, one)
        takes = seconds_of(base, one, ledger, cost=cost)
        kept = {name: arm for name, arm in chosen.items() if not _is_part(arm[0], one)}
        runs = [*beside, *(arm[2] for arm in kept.values()), takes]
        new = all(recipe != other for _, other, _ in kept.values())
        again = max([takes, *(arm[2] for arm in kept.values())])
        needed = ledger.together(runs) + ledger.together([again, *beside_again])
        if len(kept) < most and new and needed <= seconds:
            chosen = {**kept, one.remedy: (one, recipe, takes)}
    arms = [one for one, _, _ in chosen.values()]
    # What would leave slots idle in a second wave waits for another round, unless the budget is none.
    count = len(beside) + len(arms)
    idle = count % ledger.slots if count > ledger.slots and math.isfinite(ledger.limit) else 0
    return arms[: len(arms) - idle]


def seconds_of(base: Recipe, one: Prescription, ledger: Ledger, *, cost: float) -> float:
    """Of a training of the recipe with what is prescribed. cost: time of an epoch of `base` over that of the unchanged recipe."""
    return ledger.seconds(with_remedy(base, one).epochs, cost=cost * one.cost) * (1 + RETUNE_COST * one.retune)


def _is_part(one: Prescription, other: Prescription) -> bool:
    """Whether the other does all that it does, and more: what it does by itself is asked where that one fails."""
    return one.changes.items() < other.changes.items()


def is_new(base: Recipe, one: Prescription, known: Sequence[Recipe]) -> bool:
    """Whether it makes another recipe of this one, and none that is known."""
    return changes_it(base, one) and with_remedy(base, one) not in known


def changes_it(base: Recipe, one: Prescription) -> bool:
    """Whether it makes another recipe of this one, and a valid one."""
    try:
        return base.changed(dict(one.changes)) != base
    except RecipeError:
        return False


def with_remedy(base: Recipe, one: Prescription) -> Recipe:
    """The recipe with what is prescribed, in the time that it takes without, but with half of its epochs at least: what is
    costlier than that has more time. Unless the prescription is about its length."""
    return base.changed({"epochs": max(1, math.ceil(base.epochs / min(one.cost, SHORTEST))), **one.changes})


def filled(recipe: Recipe, outcome: Outcome) -> Recipe:
    """The recipe with what its run measured: the batch size, the learning rate, where it left these open."""
    used = outcome.result["recipe"]
    changes: dict[str, Any] = {}
    if recipe.batch_size == "auto":
        changes["batch_size"] = used["batch_size"]
    if recipe.optimizer.lr is None:
        changes |= {"optimizer.lr": used["optimizer"]["lr"], "schedule.low": used["schedule"]["low"]}
    return recipe.changed(changes) if changes else recipe


def proven_epochs(recipe: Recipe, outcome: Outcome) -> int:
    """How long its training was good for: where lr stays as it is and the best epoch was kept, that many."""
    kept = outcome.result.get("kept_epoch")
    if recipe.schedule.name == "constant" and recipe.keep == "best" and kept is not None:
        return int(kept) + 1
    return recipe.epochs


def wrong_with(final: Outcome, proven: Outcome) -> str:
    """Why a final training is not handed over; empty where nothing speaks against it."""
    if final.state != "finished":
        return f"it {final.state} ({final.result.get('message', '')})"
    reached, known = final.result["score"]["train"], proven.result["score"]["train"]
    if final.result["verdict"] == "diverged":
        return "it diverged."
    if reached is None or (known is not None and reached < known - COLLAPSED):
        fallen = "nothing" if reached is None else f"{reached:.3f}"
        return f"its train score fell to {fallen}{'' if known is None else f', from {known:.3f}'}."
    return ""


def floor_under(control: Outcome, chance: float) -> tuple[float, ...]:
    """Val score by epoch below which an arm is hopeless. chance: the noise of a difference."""
    if control.result["epochs"] < LEAST_JUDGED:
        return ()
    scores = np.nan_to_num(np.array(control.result["val_scores"], dtype=np.float64), nan=NEVER)
    margin, start = max(HOPELESS, CHANCES * chance), math.ceil(JUDGED_FROM * len(scores))
    best = np.maximum.accumulate(scores)
    return tuple(NEVER if epoch < start else float(score) - margin for epoch, score in enumerate(best))


def lost(controls: int) -> Comparison:
    """Of an arm that was stopped or failed: it counts among those that are corrected for."""
    return Comparison(gain=LOST, p=1.0, images=0, seeds=(1, controls))
