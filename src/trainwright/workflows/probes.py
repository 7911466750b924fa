"""Probes of a finished run: short extra trainings that each take one possible cause of a high error away.

A probe is the run's own recipe with a few values changed, trained on the same data with the same seed and the same order of
batches, and scored on the same images. Its folder is `probes/NAME` of the run's; what came out is a record `probe` of the run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.diagnosis.evidence import ProbeResult
from trainwright.diagnosis.gap import LEAST_MARGIN
from trainwright.diagnosis.recorded import as_json, from_json
from trainwright.diagnosis.rules.fit import MOST_OF_IT
from trainwright.diagnosis.stats import bootstrap_measures, paired_bootstrap, paired_difference, wilson
from trainwright.diagnosis.wording import changed_values
from trainwright.errors import NonFiniteLossError, TrainwrightError, UsageError, did_you_mean
from trainwright.records import Interval, Scores
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.device import choose_device
from trainwright.training.repeatable import repeatable
from trainwright.workflows.judge import keep_model
from trainwright.workflows.label_probe import label_answers
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.probe_changes import PROBES, Change, Subject, value_of
from trainwright.workflows.training import Training, save_arrays

PROMISING = 0.05  # ours: two and a half times what is worth acting on (LEAST_MARGIN)


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


def _trained(subject: Subject, name: str, change: Change) -> ProbeResult:
    prepared = subject.prepared(change.changes)
    if change.rows is not None:
        prepared = change.rows(prepared)
    before = {key: value_of(subject.recipe, key) for key in change.changes}
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


def _is_open(found: ProbeResult, change: Change) -> bool:
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


def _told(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return f", {changed_values(before, after)}" if after else ""
