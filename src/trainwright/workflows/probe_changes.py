"""What each probe changes of a finished run, and the run made ready to be trained again so."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.evidence import ProbeResult
from trainwright.errors import RecipeError, TrainwrightError, UsageError
from trainwright.optim.published_rates import published_lr
from trainwright.recipe import AugmentSpec, Recipe
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.device import choose_device
from trainwright.training.names import CUSTOM
from trainwright.training.weights import check_weights
from trainwright.workflows.label_probe import LABELS, why_not
from trainwright.workflows.larger import larger_network
from trainwright.workflows.lr import range_of, refuse_without_lr, training_steps
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import Prepared, prepare, probe_rows
from trainwright.workflows.run import recipe_of
from trainwright.workflows.run_data import data_of

if TYPE_CHECKING:
    from torch import nn

LONGER, MUCH_LONGER = 2, 4  # times the steps; the latter where they cost little:
SHORT = 5  # of at most so many epochs, or fewer than FEW_STEPS
LOWER_LR = 4.0  # times below what the range test suggests: it errs on the high side for schedules that do not anneal
FEW_IMAGES, FEW_STEPS, FEW_EPOCHS = 64, 300, 3  # of fit-64: enough steps for any network that can learn (docs/log.md)
OTHER_LR = 10.0  # times, where the range test cannot tell and the rate is the published one
SAME_LR = 3.0  # times: the range test finds rates to within about this (docs/learning-rate.md)
NONE = {  # no regularization: the value of each key
    "network.dropout": 0.0,
    "network.block_dropout": 0.0,
    "network.drop_path": 0.0,
    "optimizer.weight_decay": 0.0,
    "loss.label_smoothing": 0.0,
    "ema_decay": None,
    **{f"augment.{key}": value for key, value in AugmentSpec().model_dump(mode="json").items() if key != "mix"},
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a probe changes. note: why there is nothing to change, or what is known without training. rows: trains on others.
    otherwise: changes for a second training where the first did not settle it; the better one on unseen images counts.
    if_it_fits: the second one only where the first surely lowered the train error. if_it_promises: only where besides the unseen
    error seemed to fall by much, and not surely by enough. outside: as of `ProbeResult`. labels: the answers of networks that
    have not seen an image are wanted, which are trained elsewhere."""

    changes: Mapping[str, Any]
    note: str = ""
    rows: Callable[[Prepared], Prepared] | None = None
    otherwise: Mapping[str, Any] | None = None
    if_it_fits: bool = False
    if_it_promises: bool = False
    outside: bool = False
    labels: bool = False


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is probed: a finished run, with what is needed to train its recipe again. model: makes the user's own anew."""

    folder: RunFolder
    data: Dataset
    recipe: Recipe
    options: RunOptions
    model: Callable[[], nn.Module] | None = None

    def prepared(self, changes: Mapping[str, Any]) -> Prepared:
        """Ready to train with `changes`. Raises what `prepare` does, UsageError without the user's own network."""
        custom = None
        if self.recipe.network.name == CUSTOM:
            if self.model is None:
                raise UsageError(
                    "this run's network was given by Python code.",
                    where=self.folder.run_id,
                    cure="Call tw.diagnose(run, model=…) with a function that makes it anew.",
                )
            custom = self.model()
        options = self.options
        device = choose_device(
            self.folder.manifest["machine"]["device"] if options.device == "auto" else options.device
        )
        return prepare(
            self.data,
            self.recipe.changed(changes),
            device=device,
            workers=options.workers,
            reporter=options.reporter,
            custom=custom,
        )


def subject_of(
    folder: RunFolder, *, data: Dataset | None, model: Callable[[], nn.Module] | None, options: RunOptions
) -> Subject:
    """A finished run made ready for probes. Raises DataError where its data has changed."""
    found = data_of(folder, data, options)
    return Subject(folder=folder, data=found, recipe=recipe_of(folder), options=options, model=model)


def _learning_rate(subject: Subject, known: Mapping[str, ProbeResult]) -> Change:
    """The rate that the range test finds, then the one that the optimizer was published with. Where it cannot tell, the latter,
    then a decade from the run's own towards it: the published one may lie as far beyond the best as the run's own before it."""
    try:
        refuse_without_lr(subject.recipe)
    except RecipeError as error:
        return Change(changes={}, note=error.message)
    used = subject.recipe.optimizer.peak_lr
    published, _ = published_lr(subject.recipe.optimizer, batch_size=subject.recipe.step_images)
    found = range_of(subject.prepared({}), options=subject.options)
    if found.suggestion is None:
        other = published if _differ(published, used) else _further(subject, used)
        decade = used * OTHER_LR if other > used else used / OTHER_LR
        return Change(
            changes={"optimizer.lr": other},
            otherwise={"optimizer.lr": decade} if _differ(decade, other) else None,
            note=f"The range test cannot tell: {found.reason}",
        )
    if not _differ(found.suggestion, used):
        return Change(
            changes={},
            note=f"The range test suggests {found.suggestion:.3g}, which is near the {used:.3g} of the recipe.",
        )
    second = next((rate for rate in (published, found.suggestion / LOWER_LR) if _differ(rate, used)), None)
    otherwise = None if second is None else {"optimizer.lr": second}
    outside = found.interval is not None and not found.interval[0] <= used <= found.interval[1]
    return Change(changes={"optimizer.lr": found.suggestion}, otherwise=otherwise, outside=outside)


def _differ(one: float, other: float) -> bool:
    return not other / SAME_LR <= one <= other * SAME_LR


def _further(subject: Subject, used: float) -> float:
    """Ten times the rate, or a tenth of it where the loss of the steps rose."""
    losses = [loss for record in subject.folder.records("steps") for loss in record["loss"]]
    return used / OTHER_LR if _rose(losses) else used * OTHER_LR


def _rose(losses: Sequence[float | None]) -> bool:
    known = [math.inf if loss is None else loss for loss in losses]
    tenth = max(1, len(known) // 10)
    return bool(known) and float(np.mean(known[-tenth:])) > float(np.mean(known[:tenth]))


def _no_regularization(subject: Subject, known: Mapping[str, ProbeResult]) -> Change:
    """All of it, then all but the augmentation: that stands for images, and what unseen images gain without the rest, they may
    lose without it."""
    changes = {key: value for key, value in NONE.items() if value_of(subject.recipe, key) != value}
    within = {key: value for key, value in changes.items() if not key.startswith("augment.")}
    otherwise = within if 0 < len(within) < len(changes) else None
    note = "" if changes else "The recipe has no regularization."
    return Change(changes=changes, note=note, otherwise=otherwise, if_it_fits=True)


def _longer(subject: Subject, known: Mapping[str, ProbeResult]) -> Change:
    epochs = subject.recipe.epochs
    short = epochs <= SHORT or training_steps(subject.prepared({})) < FEW_STEPS
    return Change(changes={"epochs": (MUCH_LONGER if short else LONGER) * epochs})


def _wider(subject: Subject, known: Mapping[str, ProbeResult]) -> Change:
    """The next larger network; the one after that where the first promises much and does not prove it."""
    changes, note = _had(subject, subject.recipe)
    further = _had(subject, subject.recipe.changed(changes))[0] if changes else {}
    return Change(changes=changes, note=note, otherwise=further or None, if_it_promises=True)


def _had(subject: Subject, recipe: Recipe) -> tuple[dict[str, Any], str]:
    """(changes of a recipe for the next larger network than its own, why there are none)."""
    changes, note = larger_network(recipe.network)
    if changes:
        try:
            check_weights(recipe.changed(changes).network, offline=subject.options.offline)
        except TrainwrightError as error:
            return {}, f"The next larger network cannot be had: {error.message}"
    return changes, note


def _fit_64(subject: Subject, known: Mapping[str, ProbeResult]) -> Change:
    """About 64 train images over and over, without regularization, at the best rate that is known."""
    changes = dict(_no_regularization(subject, known).changes)
    rate = known.get("learning-rate")
    if rate is not None and "optimizer.lr" in rate.changes and not (rate.train_drop and rate.train_drop.value < 0):
        changes["optimizer.lr"] = rate.changes["optimizer.lr"]
    changes |= {"epochs": FEW_EPOCHS, "keep": "last", "early_stop": None}

    def few(prepared: Prepared) -> Prepared:
        seed, strata = prepared.recipe.data.split_seed, prepared.dataset.targets.strata()
        rows = probe_rows(prepared.split.train, strata, FEW_IMAGES, seed)
        images = min(prepared.recipe.step_images, len(prepared.split.train))
        again = math.ceil(FEW_STEPS * images / (FEW_EPOCHS * len(rows)))
        return replace(prepared, split=replace(prepared.split, train=np.tile(rows, again), val=rows), probe_rows=rows)

    return Change(changes=changes, rows=few)


def _half_data(subject: Subject, known: Mapping[str, ProbeResult]) -> Change:
    """Half of the train images, as many steps as the run."""

    def half(prepared: Prepared) -> Prepared:
        seed, strata = prepared.recipe.data.split_seed, prepared.dataset.targets.strata()
        rows = probe_rows(prepared.split.train, strata, len(prepared.split.train) // 2, seed)
        scored = probe_rows(rows, strata, len(prepared.split.val), seed)
        return replace(prepared, split=replace(prepared.split, train=rows), probe_rows=scored)

    return Change(changes={"epochs": 2 * subject.recipe.epochs}, rows=half)


def _labels(subject: Subject, known: Mapping[str, ProbeResult]) -> Change:
    note = why_not(subject.data, subject.recipe)
    return Change(changes={}, note=note, labels=not note)


PROBES: dict[str, Callable[[Subject, Mapping[str, ProbeResult]], Change]] = {
    "learning-rate": _learning_rate,
    "no-regularization": _no_regularization,
    "longer": _longer,
    "wider": _wider,
    "fit-64": _fit_64,
    "half-data": _half_data,
    LABELS: _labels,
}


def value_of(recipe: Recipe, key: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value
