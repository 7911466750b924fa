"""The learning-rate range test as a verb of its own: from a dataset and a recipe to an answer, with nothing written."""

from __future__ import annotations

import copy
import hashlib
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.lr_sweep import lies, still_falling, tight_bounds
from trainwright.recipe import Recipe
from trainwright.records import LrRange
from trainwright.report import lr_figure
from trainwright.training.batch_size import BatchSizes
from trainwright.training.device import choose_device
from trainwright.training.lr_range import HIGH, LOW, SEEDS, refuse_bounds
from trainwright.training.repeatable import repeatable
from trainwright.workflows.lr import range_of, rates, refuse_without_lr, seeds_of, sweeps, training_steps, with_range
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.prepare import Prepared, prepare
from trainwright.workflows.request import asked_for, wanted_of
from trainwright.workflows.settle import batch_sizes_of, table_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, repr=False)
class LrTest(LrRange):
    """A learning-rate range test of a dataset and a recipe.

    recipe: the one that was tested, every value filled in, with the learning rate that was found. training_steps: those of
    the training that it is for. asked_seeds: how many sweeps were asked for. state_restored: whether weights, buffers and
    random streams were bit for bit as before. sizes: what was measured of batch sizes, None where nothing had to be. recipe_lr:
    the rate that the recipe had before, None where it left it open.
    """

    recipe: Recipe = field(repr=False)
    training_steps: int
    asked_seeds: int
    state_restored: bool
    sizes: BatchSizes | None = None
    recipe_lr: float | None = None

    @property
    def low(self) -> float | None:
        """The lowest lr at which the loss really falls; None where the test cannot tell."""
        return None if self.interval is None else self.interval[0]

    @property
    def high(self) -> float | None:
        """The highest lr at which the loss really falls; None where the test cannot tell."""
        return None if self.interval is None else self.interval[1]

    @property
    def suggested(self) -> float | None:
        """The peak lr to train with; None where the test cannot tell, for `reason`."""
        return self.suggestion

    @property
    def seeds(self) -> int:
        """How many sweeps there were: fewer than asked for where the budget ends, `notes` says why."""
        return seeds_of(self)

    @property
    def still_falling(self) -> bool:
        """Whether the loss is lowest at the upper end of the sweep: `high` was too low."""
        return still_falling(self)

    @property
    def recipe_lr_lies(self) -> Literal["below", "inside", "above"] | None:
        """Where the rate that the recipe had lies beside the interval; None where there is no such rate or no interval."""
        return lies(self.recipe_lr, self)

    @property
    def notes(self) -> tuple[str, ...]:
        """What limited the test: sweeps that its budget did not pay for, bounds that were too tight."""
        cut = (sweeps(self, self.training_steps, asked=self.asked_seeds),) if 0 < self.seeds < self.asked_seeds else ()
        return (*cut, *tight_bounds(self))

    def figure(self) -> bytes:
        """Loss against lr with band, interval and suggestion, as PNG."""
        return lr_figure.lr_range(self)

    def __repr__(self) -> str:
        if self.suggestion is None:
            return f"LrTest(cannot tell: {self.reason})"
        return f"LrTest({rates(self)})"


def lr_range_test(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | None = None,
    *,
    model: nn.Module | None = None,
    seed: int | None = None,
    target: str | None = None,
    changes: Mapping[str, Any] | None = None,
    batch_size: int | Literal["auto"] | None = None,
    low: float = LOW,
    high: float = HIGH,
    seeds: int = SEEDS,
    options: RunOptions | None = None,
    **more: Any,
) -> LrTest:
    """Find the learning rate for training `recipe` on `data`, or say why it cannot be told. Writes nothing.

    low, high: of the sweep. seeds: how many sweeps, at most: the test takes no more than its share of the training. model:
    your own nn.Module; a copy of it is tested. The other arguments are those of `train`. Raises UsageError for a sweep that
    is none, RecipeError for an optimizer without a learning rate to be found, and what `train` raises before it writes
    anything.
    """
    refuse_bounds(low, high, seeds)
    options = options_from(options, more)
    wanted = wanted_of(changes, seed=seed)
    if batch_size is not None or "batch_size" in wanted:
        batch_size = wanted.pop("batch_size", None) if batch_size is None else batch_size
        Recipe().changed({"batch_size": batch_size})  # refused before any file is read
    device = choose_device(options.device)
    data, recipe, _ = asked_for(data, recipe, wanted, own_network=model is not None, target=target, options=options)
    refuse_without_lr(recipe)
    prepared = prepare(
        data,
        recipe if batch_size is None else recipe.changed({"batch_size": batch_size}),
        device=device,
        workers=options.workers,
        reporter=options.reporter,
        custom=None if model is None else copy.deepcopy(model),
    )
    with repeatable(device, options.threads):
        prepared, sizes = _with_batch_size(prepared, usual=recipe.batch_size, options=options)
        before = _state(prepared.model)
        found = range_of(prepared, options=options, low=low, high=high, seeds=seeds)
        restored = _state(prepared.model) == before
    return LrTest(
        **{f.name: getattr(found, f.name) for f in fields(LrRange)},
        recipe=with_range(prepared.recipe, found, low_is_given=prepared.asked.schedule.low is not None),
        training_steps=training_steps(prepared),
        asked_seeds=seeds,
        state_restored=restored,
        sizes=sizes,
        recipe_lr=prepared.asked.optimizer.lr,
    )


def _with_batch_size(
    prepared: Prepared, *, usual: int | Literal["auto"], options: RunOptions
) -> tuple[Prepared, BatchSizes | None]:
    """With a number of images a step, measured where the recipe leaves it open. usual: what it was before that was asked."""
    if prepared.recipe.batch_size != "auto":
        return prepared, None
    sizes = batch_sizes_of(prepared, options=options, usual=None if usual == "auto" else usual)
    options.reporter.note(table_of(sizes))
    return replace(prepared, recipe=prepared.recipe.changed({"batch_size": sizes.chosen})), sizes


def _state(model: torch.nn.Module) -> str:
    """A hash of everything that a test could leave changed: weights, buffers, and the random streams of this process."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    found.update(torch.get_rng_state().numpy().tobytes())
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        for state in torch.cuda.get_rng_state_all():
            found.update(state.numpy().tobytes())
    found.update(repr(random.getstate()).encode())
    found.update(repr([np.asarray(part).tolist() for part in np.random.get_state()]).encode())  # noqa: NPY002  # only read
    return found.hexdigest()
