"""Probes of a finished run: short extra trainings that each take one possible cause of a high error away.

A probe is the run's own recipe with a few values changed, trained on the same data with the same seed and the same order of
batches, and scored on the same images. Its folder is `probes/NAME` of the run's; what came out is a record `probe` of the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.evidence import ProbeResult
from trainwright.diagnosis.gap import LEAST_MARGIN
from trainwright.diagnosis.recorded import as_json, from_json
from trainwright.diagnosis.rules.fit import MOST_OF_IT
from trainwright.diagnosis.stats import bootstrap_measures, paired_bootstrap, paired_difference, wilson
from trainwright.diagnosis.wording import changed_values
from trainwright.errors import NonFiniteLossError, RecipeError, TrainwrightError, UsageError, did_you_mean
from trainwright.optim.published_rates import published_lr
from trainwright.recipe import AugmentSpec, Recipe
from trainwright.records import Interval, Scores
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.device import choose_device
from trainwright.training.names import CUSTOM
from trainwright.training.weights import check_weights
from trainwright.workflows.judge import keep_model
from trainwright.workflows.label_probe import LABELS, label_answers, why_not
from trainwright.workflows.larger import larger_network
from trainwright.workflows.lr import range_of, refuse_without_lr, training_steps
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import Prepared, prepare, probe_rows
from trainwright.workflows.run import data_of, recipe_of
from trainwright.workflows.training import Training, repeatable, save_arrays

if TYPE_CHECKING:
    from torch import nn

PROMISING = 0.05  # ours: two and a half times what is worth acting on (LEAST_MARGIN)
LONGER, MUCH_LONGER, SHORT = (
    2,
    4,
    5,
)  # times the steps; of at most so many epochs or fewer than FEW_STEPS, which cost little
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
class _Change:
    """What a probe changes. note: why there is nothing to change, or what is known without training. rows: trains on others.
    otherwise: changes for a second training where the first did not settle it; the better one on unseen images counts.
    if_it_fits: the second one only where the first surely lowered the train error. if_it_promises: only where besides the unseen
    error seemed to fall by more than PROMISING, and not surely by enough. outside: as of `ProbeResult`. labels: the
    answers of networks that have not seen an image are wanted, which are trained elsewhere."""

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


def recorded_probes(folder: RunFolder) -> dict[str, ProbeResult]:
    """The probes of a run so far, by name; of several of one name the newest."""
    return {record["name"]: from_json(ProbeResult, record) for record in folder.records("probe")}


def check_probe(name: str) -> None:
    """Raise UsageError for a name that no probe has."""
    if name not in PROBES:
        raise UsageError(
            f"no such probe {name!r}. {did_you_mean(name, list(PROBES))}".strip(),
            where="probe",
            cure=f"Known: {', '.join(PROBES)}.",
        )


def run_probe(subject: Subject, name: str) -> ProbeResult:
    """Run one probe, or give what it found before; it is recorded in the run's folder.

    What was stopped in the middle goes on where it was. Raises UsageError for a name that is none, and what a training raises,
    but for a loss that is not finite, which is an answer.
    """
    check_probe(name)
    known = recorded_probes(subject.folder)
    if name in known:
        return known[name]
    started = time.perf_counter()
    device = choose_device("auto" if subject.options.device == "auto" else subject.options.device)
    threads = subject.folder.manifest["machine"]["torch_threads"]
    with repeatable(device, subject.options.threads or threads), subject.folder:
        change = PROBES[name](subject, known)
        found = ProbeResult(name=name, state="needless", note=change.note)
        if change.labels:
            found = label_answers(subject.prepared({}), subject.options)
        elif change.changes or change.rows is not None:
            found = _trained(subject, name, change)
            if change.otherwise is not None and _is_open(found, change):
                second = _trained(subject, f"{name}-2", replace(change, changes=change.otherwise))
                found = replace(_better(found, second), name=name, steps=found.steps + second.steps)
            found = replace(found, outside=change.outside)
        found = replace(found, seconds=round(time.perf_counter() - started, 3))
        subject.folder.append("probe", as_json(found))
    return found


def _trained(subject: Subject, name: str, change: _Change) -> ProbeResult:
    prepared = subject.prepared(change.changes)
    if change.rows is not None:
        prepared = change.rows(prepared)
    before = {key: _value(subject.recipe, key) for key in change.changes}
    place = subject.folder.path / "probes"
    result = ProbeResult(
        name=name, changes=dict(change.changes), before=before, note=change.note, folder=f"probes/{name}"
    )
    with _folder(place, name, prepared) as folder:
        training = Training(
            folder,
            prepared,
            workers=subject.options.workers,
            reporter=subject.options.reporter,
            stop_asked=subject.options.stop_asked,
            checkpoint_seconds=subject.options.checkpoint_seconds,
        )
        subject.options.reporter.note(f"probe {name}: {training.steps:,} steps" + _told(before, change.changes))
        try:
            if not training.run():
                raise TrainwrightError(
                    "stopped; its state is saved.", where=str(folder.path), cure="Ask for the probe again to go on."
                )
        except NonFiniteLossError as error:
            folder.set_status("failed", message=error.message)
            return replace(result, state="failed", note=error.message, steps=training.position.step)
        measured = _measured(subject, training, folder)
        folder.set_status("finished")
    return replace(result, steps=training.position.step, **measured)


def _is_open(found: ProbeResult, change: _Change) -> bool:
    """Whether a second training is worth its time: the first has not taken most of the train error away to the good of unseen
    images."""
    error, drop, unseen = found.train_error, found.train_drop, found.val_drop
    if error is None or drop is None or unseen is None:
        return True
    if change.if_it_promises:
        return drop.low > 0 and unseen.value > PROMISING and unseen.low <= LEAST_MARGIN
    if change.if_it_fits and drop.low <= 0:
        return False
    return drop.value <= MOST_OF_IT * (error.value + drop.value) or unseen.low <= LEAST_MARGIN


def _better(first: ProbeResult, second: ProbeResult) -> ProbeResult:
    """Of two the one with the lower unseen error; the first where nobody knows."""
    if second.val_drop is None or (first.val_drop is not None and first.val_drop.value >= second.val_drop.value):
        return first
    return second


def _folder(place: Path, name: str, prepared: Prepared) -> RunFolder:
    """The probe's own folder: a new one, or that of a probe that was stopped."""
    if (place / name / "manifest.json").is_file():
        return RunFolder.open(place / name)
    manifest = {"name": name, "machine": {"device": str(prepared.device)}, "probe": True}
    return RunFolder.create(place, recipe_yaml=prepared.recipe.to_yaml(), manifest=manifest, run_id=name)


def _measured(subject: Subject, training: Training, folder: RunFolder) -> dict[str, Any]:
    """Errors of the weights that the probe kept, and how far they lie below those of the run on the same images."""
    prepared = training.prepared
    found: dict[str, Any] = {}
    keep_model(training, sum(1 for _ in folder.records("epoch")))
    for part, rows in (("train", prepared.probe_rows), ("val", prepared.split.val)):
        scores = prepared.task.scores(training.evaluate(rows, what=f"probing: {part}"))
        save_arrays(folder, part, {"rows": rows, "tally": scores.tally, "per_image": scores.per_image})
        found[f"{part}_error"] = _error(prepared, scores)
        with np.load(subject.folder.answers / f"{part}.npz", allow_pickle=False) as saved:
            if np.array_equal(saved["rows"], rows):
                found[f"{part}_drop"] = _drop(prepared, scores, saved)
    return found


def _error(prepared: Prepared, scores: Scores) -> Interval:
    if prepared.task.counts_right:
        count = len(scores.per_image)
        return wilson((1 - scores.score) * count, count)
    score = bootstrap_measures(scores.tally, prepared.task.measures).get("score")
    if score is None or not math.isfinite(score.low) or not math.isfinite(score.high):
        return Interval(value=1 - scores.score, low=-math.inf, high=math.inf)
    return Interval(value=1 - score.value, low=1 - score.high, high=1 - score.low)


def _drop(prepared: Prepared, scores: Scores, saved: Mapping[str, np.ndarray]) -> Interval:
    groups = saved["groups"]
    alone = len(np.unique(groups)) == len(groups)
    if prepared.task.counts_right and alone:
        return paired_difference(scores.per_image, saved["per_image"])
    return paired_bootstrap(
        scores.tally, saved["tally"], lambda tally_BQ: prepared.task.measures(tally_BQ)["score"], groups=groups
    )


def _learning_rate(subject: Subject, known: Mapping[str, ProbeResult]) -> _Change:
    """The rate that the range test finds, then the one that the optimizer was published with. Where it cannot tell, the latter,
    then a decade from the run's own towards it: the published one may lie as far beyond the best as the run's own before it."""
    try:
        refuse_without_lr(subject.recipe)
    except RecipeError as error:
        return _Change(changes={}, note=error.message)
    used = subject.recipe.optimizer.peak_lr
    published, _ = published_lr(subject.recipe.optimizer, batch_size=subject.recipe.step_images)
    found = range_of(subject.prepared({}), options=subject.options)
    if found.suggestion is None:
        other = published if _differ(published, used) else _further(subject, used)
        decade = used * OTHER_LR if other > used else used / OTHER_LR
        return _Change(
            changes={"optimizer.lr": other},
            otherwise={"optimizer.lr": decade} if _differ(decade, other) else None,
            note=f"The range test cannot tell: {found.reason}",
        )
    if not _differ(found.suggestion, used):
        return _Change(
            changes={},
            note=f"The range test suggests {found.suggestion:.3g}, which is near the {used:.3g} of the recipe.",
        )
    second = next((rate for rate in (published, found.suggestion / LOWER_LR) if _differ(rate, used)), None)
    otherwise = None if second is None else {"optimizer.lr": second}
    outside = found.interval is not None and not found.interval[0] <= used <= found.interval[1]
    return _Change(changes={"optimizer.lr": found.suggestion}, otherwise=otherwise, outside=outside)


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


def _no_regularization(subject: Subject, known: Mapping[str, ProbeResult]) -> _Change:
    """All of it, then all but the augmentation: that stands for images, and what unseen images gain without the rest, they may
    lose without it."""
    changes = {key: value for key, value in NONE.items() if _value(subject.recipe, key) != value}
    within = {key: value for key, value in changes.items() if not key.startswith("augment.")}
    otherwise = within if 0 < len(within) < len(changes) else None
    note = "" if changes else "The recipe has no regularization."
    return _Change(changes=changes, note=note, otherwise=otherwise, if_it_fits=True)


def _longer(subject: Subject, known: Mapping[str, ProbeResult]) -> _Change:
    epochs = subject.recipe.epochs
    short = epochs <= SHORT or training_steps(subject.prepared({})) < FEW_STEPS
    return _Change(changes={"epochs": (MUCH_LONGER if short else LONGER) * epochs})


def _wider(subject: Subject, known: Mapping[str, ProbeResult]) -> _Change:
    """The next larger network; the one after that where the first promises much and does not prove it."""
    changes, note = _had(subject, subject.recipe)
    further = _had(subject, subject.recipe.changed(changes))[0] if changes else {}
    return _Change(changes=changes, note=note, otherwise=further or None, if_it_promises=True)


def _had(subject: Subject, recipe: Recipe) -> tuple[dict[str, Any], str]:
    """(changes of a recipe for the next larger network than its own, why there are none)."""
    changes, note = larger_network(recipe.network)
    if changes:
        try:
            check_weights(recipe.changed(changes).network, offline=subject.options.offline)
        except TrainwrightError as error:
            return {}, f"The next larger network cannot be had: {error.message}"
    return changes, note


def _fit_64(subject: Subject, known: Mapping[str, ProbeResult]) -> _Change:
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

    return _Change(changes=changes, rows=few)


def _half_data(subject: Subject, known: Mapping[str, ProbeResult]) -> _Change:
    """Half of the train images, as many steps as the run."""

    def half(prepared: Prepared) -> Prepared:
        seed, strata = prepared.recipe.data.split_seed, prepared.dataset.targets.strata()
        rows = probe_rows(prepared.split.train, strata, len(prepared.split.train) // 2, seed)
        scored = probe_rows(rows, strata, len(prepared.split.val), seed)
        return replace(prepared, split=replace(prepared.split, train=rows), probe_rows=scored)

    return _Change(changes={"epochs": 2 * subject.recipe.epochs}, rows=half)


def _labels(subject: Subject, known: Mapping[str, ProbeResult]) -> _Change:
    note = why_not(subject.data, subject.recipe)
    return _Change(changes={}, note=note, labels=not note)


PROBES: dict[str, Callable[[Subject, Mapping[str, ProbeResult]], _Change]] = {
    "learning-rate": _learning_rate,
    "no-regularization": _no_regularization,
    "longer": _longer,
    "wider": _wider,
    "fit-64": _fit_64,
    "half-data": _half_data,
    LABELS: _labels,
}


def _value(recipe: Recipe, key: str) -> Any:
    value: Any = recipe.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return value


def _told(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return f", {changed_values(before, after)}" if after else ""
