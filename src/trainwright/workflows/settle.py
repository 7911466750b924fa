"""What a recipe leaves to measurement, measured before a run begins: the batch size, then the learning rate for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainwright.errors import RecipeError
from trainwright.optim.optimizers import refuse_batch
from trainwright.recipes import Choice
from trainwright.records import LrRange, to_json
from trainwright.training.batch_size import BatchSizes, measure_batch_sizes
from trainwright.workflows.cautions import cautions, with_a_step_of_its_own
from trainwright.workflows.ingredients import batches_of, optimizer_of, settings_of
from trainwright.workflows.lr import range_of, stated, training_steps, with_range
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import Prepared

ANY_LR = 1e-3  # trial steps scale whatever rate there is until nothing moves


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A training whose recipe is all numbers. sizes, lr_range: what was measured for that, None where nothing had to be.

    choice: the published recipe that it starts from, and why; None where somebody named one. asked: how the recipe was
    named and what was to be changed in it, as plain JSON.
    """

    prepared: Prepared
    sizes: BatchSizes | None = None
    lr_range: LrRange | None = None
    choice: Choice | None = None
    asked: dict[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> dict[str, Any]:
        """What a manifest keeps of the measurements beside the recipe; empty without any."""
        return {} if self.sizes is None else {"batch_size": to_json(self.sizes)}


def settle(
    prepared: Prepared, *, options: RunOptions, own_batch_size: int | None = None, usual: int | None = None
) -> Settled:
    """Put numbers where the recipe says `batch_size: auto` and `optimizer.lr: null`. The model stays as it is.

    own_batch_size: that of the recipe whose learning rate this is; for a step of another number of images the rate is found
    anew. None: the rate is kept. usual: the batch size to keep where measuring shows nothing. Raises what training steps
    raise, RecipeError for an optimizer without a rate to be found.
    """
    sizes, images = None, len(prepared.split.train)
    whole_only = _needs_whole(prepared)
    if prepared.recipe.batch_size == "auto":
        sizes = batch_sizes_of(prepared, options=options, usual=None if whole_only else usual)
        options.reporter.note(table_of(sizes))
        changes: dict[str, Any] = {"batch_size": sizes.chosen}
        if whole_only:
            parts = max(prepared.recipe.accumulate, math.ceil(images / sizes.chosen))
            changes = {"batch_size": images, "accumulate": parts}
            options.reporter.note(
                f"{prepared.recipe.optimizer.name} needs all {images:,} train images for a step: "
                f"they are worked through in {parts} parts"
            )
        prepared = _with(prepared, changes)
    prepared, said = with_a_step_of_its_own(prepared)
    for note in (*said, *cautions(prepared)):
        options.reporter.note(note)
    recipe = prepared.recipe
    if own_batch_size not in (None, recipe.batch_size) and recipe.optimizer.lr is not None and not whole_only:
        options.reporter.note(
            f"batch size {recipe.batch_size} instead of {own_batch_size}: the learning rate is found anew"
        )
        prepared = _with(prepared, {"optimizer.lr": None})
    if prepared.recipe.optimizer.lr is not None:
        return Settled(prepared=prepared, sizes=sizes)
    found = range_of(prepared, options=options)
    low_is_given = prepared.asked.schedule.low is not None
    prepared = replace(prepared, recipe=with_range(prepared.recipe, found, low_is_given=low_is_given))
    options.reporter.note(stated(prepared.recipe, found, training_steps=training_steps(prepared)))
    return Settled(prepared=prepared, sizes=sizes, lr_range=found)


def batch_sizes_of(prepared: Prepared, *, options: RunOptions, usual: int | None = None) -> BatchSizes:
    """How fast a training that is ready to start goes at each batch size; its recipe need not have one yet."""
    recipe, seed = prepared.recipe, prepared.recipe.seed
    return measure_batch_sizes(
        prepared.model,
        prepared.task,
        optimizer_of(prepared, lr=recipe.optimizer.lr or ANY_LR),
        lambda size: batches_of(prepared, seed=seed, workers=0, batch_size=size).batch(0),
        train_images=len(prepared.split.train),
        device=prepared.device,
        settings=settings_of(prepared),
        ema_decay=recipe.ema_decay,
        usual=usual,
        progress=lambda done, total: options.reporter.progress("measuring batch sizes", done, total),
    )


def table_of(sizes: BatchSizes) -> str:
    """The measurements as lines of text, a mark at the choice."""
    lines = ["batch size   images/s   ms a step   memory (MB)   steps an epoch"]
    for row in sizes.rows:
        memory = "not known" if row.memory_bytes is None else f"{row.memory_bytes / 1e6:,.0f}"
        mark = "  ←" if row.batch_size == sizes.chosen else ""
        lines.append(
            f"{row.batch_size:>10}   {row.images_per_second:>8,.0f}   {row.step_seconds * 1000:>9,.1f}   "
            f"{memory:>11}   {row.steps_per_epoch:>14,}{mark}"
        )
    estimate = "; memory is an estimate" if sizes.memory_is_estimate else ""
    lines.append(f"no larger ones: {sizes.stopped}; measured in {sizes.seconds:.0f} s{estimate}")
    return "\n".join(lines)


def _needs_whole(prepared: Prepared) -> bool:
    """Whether the optimizer's steps are valid for the whole train part only."""
    images = len(prepared.split.train)
    try:
        refuse_batch(prepared.recipe.optimizer, batch_size=images - 1, train_images=images)
    except RecipeError:
        return True
    return False


def _with(prepared: Prepared, changes: Mapping[str, Any]) -> Prepared:
    return replace(prepared, recipe=prepared.recipe.changed(changes))
