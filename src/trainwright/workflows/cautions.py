"""What a training will do otherwise than its recipe sounds: it works, so it is told and not refused."""

from __future__ import annotations

from dataclasses import replace

from trainwright.optim.schedules import build_schedule
from trainwright.recipe import Recipe
from trainwright.workflows.changes import SCHEDULE_FREE
from trainwright.workflows.lr import training_steps
from trainwright.workflows.prepare import Prepared

SAMPLED = 1_000  # steps at most at which lr is looked at
# When a warm-up is told, all ours: it takes most of the training; or the training is of so few steps that lr never gets to
# this part of the peak that it has without a warm-up, as with the usual 0.05 and at most four steps.
MOST_OF_IT, PEAK_REACHED = 0.5, 0.9


def with_a_step_of_its_own(prepared: Prepared) -> tuple[Prepared, list[str]]:
    """(the training without a warm-up where a single step is all of it, since a warm-up begins at lr 0; what is said of it)."""
    if training_steps(prepared) > 1 or not prepared.recipe.schedule.warmup:
        return prepared, []
    note = "the training is a single step, at which a warm-up has lr 0: it is left out"
    return replace(prepared, recipe=prepared.recipe.changed({"schedule.warmup": 0.0})), [note]


def cautions(prepared: Prepared) -> list[str]:
    """A line for everything in a recipe that is all numbers whose effect will be another than it sounds, or none."""
    recipe, images = prepared.recipe, len(prepared.split.train)
    notes = []
    if recipe.step_images > images:
        notes.append(f"batch size {recipe.step_images:,}: train has {images:,} images, and a step takes all of them")
    notes += _about_warm_up(recipe, training_steps(prepared))
    if recipe.optimizer.name == SCHEDULE_FREE and recipe.schedule.name != "constant":
        notes.append(
            f"schedule {recipe.schedule.name}: {SCHEDULE_FREE} averages the weights in place of a schedule, and is meant for "
            "schedule.name=constant behind a warm-up (Defazio et al., arXiv:2405.15682)"
        )
    last = recipe.epochs - 1  # the first epoch is the best so far, and what is decided after the last has no effect
    if recipe.early_stop is not None and recipe.early_stop >= last:
        notes.append(f"early_stop {recipe.early_stop}: without effect in {_epochs(recipe)}")
    if recipe.schedule.name == "reduce-on-plateau" and recipe.schedule.patience >= last:
        notes.append(f"schedule.patience {recipe.schedule.patience}: lr is never reduced in {_epochs(recipe)}")
    if recipe.augment.mix != 1 and not (recipe.augment.mixup or recipe.augment.cutmix):
        notes.append(
            f"augment.mix {recipe.augment.mix:g}: without effect, since augment.mixup and augment.cutmix are 0"
        )
    return notes


def _about_warm_up(recipe: Recipe, steps: int) -> list[str]:
    spec = recipe.schedule
    if not spec.warmup:
        return []
    count = min(steps, SAMPLED)
    warmed, whole = (
        [schedule(step / count) for step in range(count)]
        for schedule in (build_schedule(spec), build_schedule(spec.model_copy(update={"warmup": 0.0})))
    )
    if max(warmed) >= PEAK_REACHED * max(whole) and spec.warmup <= MOST_OF_IT:
        return []
    return [
        f"schedule.warmup {spec.warmup:g}: of the {steps:,} steps of this training it leaves few or none at the peak; lr "
        f"gets to {max(warmed):.0%} of it, and is {sum(warmed) / count:.0%} of it on average"
    ]


def _epochs(recipe: Recipe) -> str:
    return f"{recipe.epochs} epoch{'' if recipe.epochs == 1 else 's'}"
