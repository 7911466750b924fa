"""The locked test part, opened: one figure for images that nothing was chosen by, and a ledger of every time it was opened."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.loader import EvalBatches
from trainwright.diagnosis.stats import bootstrap_measures, wilson
from trainwright.errors import DataError, RunError, UsageError
from trainwright.records import Interval, Scores, to_json
from trainwright.tracking import journal
from trainwright.tracking.lock import FileLock
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import find_run
from trainwright.tracking.study_folder import find_study
from trainwright.training.device import PRECISIONS, choose_device
from trainwright.training.evaluate import evaluate
from trainwright.workflows.judge import groups_of, moved_to
from trainwright.workflows.manifest import command_line
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.predict import load_model, task_of
from trainwright.workflows.prepare import stored_for
from trainwright.workflows.run import Run, recipe_of
from trainwright.workflows.training import repeatable, save_arrays

if TYPE_CHECKING:
    from torch import nn

    from trainwright.plugins import Task
    from trainwright.workflows.improve import Study

LEDGER = "test-openings.jsonl"  # beside the runs: a test part belongs to a dataset, not to a run
EVALUATED_AT_ONCE = 64
LOCK_SECONDS = 60.0


def finalise(
    run: str | os.PathLike[str] | Run | Study,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Open the test part for the model of a run or of a study; the `trainwright.final/1` object, kept as `test.json` too.

    run: id, unique beginning of one, folder, or `last`; of a study its name. data, model: what only Python code could give.
    Every opening is written down before the images are looked at; `opened_before` counts those of the same images by any run
    of this folder. Raises RunError for no such run or one without a model, DataError without a test part or where it changed.
    """
    options = options_from(options, more)
    folder, study = _found(run, options)
    recipe = recipe_of(folder)
    task = task_of(folder, recipe)
    network = load_model(folder, recipe, task, custom=model)
    device = choose_device(options.device)
    data = data or _data_of(folder, options)
    split = data.split(recipe.data)
    if split.digest != folder.manifest["split"]["digest"]:
        raise DataError(
            "the data has changed since the run began.",
            where=str(data.table.root),
            cure="Bring the files back as they were.",
        )
    if not len(split.test):
        raise DataError(
            "there is no test part to open.",
            where=str(data.table.root),
            cure="Give the data a test/ folder, or let one be split off: train on data without val/ and test/ parts.",
        )
    before = _open(folder.path.parent, folder, data, split.test, study)
    stored = stored_for(task, recipe)
    pixels = open_pixels(
        lambda row: data.read(row, stored, recipe.data.fit),
        rows=split.test,
        size=stored,
        key=pixels_key((data.fingerprint.pixel_hashes[row] for row in split.test), fit=recipe.data.fit),
        workers=options.workers,
        progress=options.reporter.progress,
    )
    targets = data.stored_targets(
        split.test, stored, recipe.data.fit, workers=options.workers, progress=options.reporter.progress
    )
    network.to(device, memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    with repeatable(device, options.threads):
        answers = evaluate(
            network,
            task,
            EvalBatches(
                pixels,
                targets,
                split.test,
                batch_size=EVALUATED_AT_ONCE,
                image_size=recipe.data.size,
                workers=options.workers,
            ),
            device=device,
            dtype=PRECISIONS[recipe.precision],
            after_batch=lambda done: options.reporter.progress("test images", done, len(split.test)),
        )
    scores = task.scores(answers)
    groups = groups_of(data, answers.rows)
    result = {
        "schema": "trainwright.final/1",
        "run": folder.run_id,
        "study": study,
        "metric": task.metric,
        "test": _with_interval(task, scores, groups),
        "metrics": dict(scores.metrics),
        "per_class": dict(scores.per_class),
        "images": len(split.test),
        "opened_before": before,
        "note": _said(before),
    }
    with folder:
        paths = np.array([data.table.paths[row] for row in answers.rows])
        tallies = {"per_image": scores.per_image, "tally": scores.tally, "groups": groups}
        save_arrays(folder, "test", {"rows": answers.rows, "paths": paths, **answers.columns, **tallies})
        clean: dict[str, Any] = to_json(result)
        folder.write_json("test.json", clean)
    return clean


def openings(runs: Path, images: str) -> list[dict[str, Any]]:
    """Every opening of the test part with this hash of images, by the runs of this folder."""
    file = runs / LEDGER
    return (
        [record for record in journal.read_records(file, "opening") if record["images"] == images]
        if file.is_file()
        else []
    )


def _open(runs: Path, folder: RunFolder, data: Dataset, test: np.ndarray, study: str | None) -> int:
    """Write the opening down; how often these images were looked at before."""
    import hashlib

    images = hashlib.sha256("".join(sorted(data.fingerprint.pixel_hashes[row] for row in test)).encode()).hexdigest()
    lock = FileLock(runs / f"{LEDGER}.lock")
    if not lock.acquire(wait_seconds=LOCK_SECONDS):
        raise RunError(
            f"process {lock.holder} is opening a test part.", where=str(runs), cure="Wait until it has ended."
        )
    try:
        before = openings(runs, images)
        record = {
            "images": images,
            "run": folder.run_id,
            "study": study,
            "command": command_line(),
            "time": time.time(),
        }
        with (runs / LEDGER).open("ab") as file:
            file.write(journal.encode("opening", record))
            file.flush()
            os.fsync(file.fileno())
    finally:
        lock.release()
    return len(before)


def _said(before: int) -> str:
    if not before:
        return "The first time that anybody looked at these images: the score is an honest estimate."
    times = "once" if before == 1 else f"{before} times"
    return f"These images were looked at {times} before: what was chosen since may fit them by chance."


def _with_interval(task: Task, scores: Scores, groups: np.ndarray) -> dict[str, Any]:
    """{"score", "low", "high"}: over images, or groups of them."""
    if task.counts_right:
        found: Interval | None = wilson(scores.score * len(scores.per_image), len(scores.per_image))
    else:
        dependent = None if len(np.unique(groups)) == len(groups) else groups
        found = bootstrap_measures(scores.tally, task.measures, groups=dependent).get("score")
        found = None if found is None else moved_to(found, scores.score)
    return {
        "score": scores.score,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
    }


def _found(run: str | os.PathLike[str] | Run | Study, options: RunOptions) -> tuple[RunFolder, str | None]:
    """(the run whose model it is about, the name of its study or None)."""
    if isinstance(run, Run):
        return RunFolder.open(run.folder), None
    if not isinstance(run, str | os.PathLike):
        return RunFolder.open(run.best.folder), run.name
    study = find_study(options.runs, os.fspath(run))
    if study is None:
        return find_run(options.runs, os.fspath(run)), None
    result = study.result()
    if result is None or result["best"] is None:
        raise RunError("has no model yet.", where=study.name, cure=f"Go on with 'trainwright resume {study.name}'.")
    return RunFolder.open(options.runs / result["best"]["run"]), study.name


def _data_of(folder: RunFolder, options: RunOptions) -> Dataset:
    source = folder.manifest["dataset"]["source"]
    if source is None:
        raise UsageError(
            "this run's data was given by Python code.", where=folder.run_id, cure="Call tw.finalise(run, data=…)."
        )
    return open_dataset(
        Path(source["path"]),
        target=source["target"],
        task=source["task"],
        workers=options.workers,
        progress=options.reporter.progress,
    )


def last_opening(folder: RunFolder) -> dict[str, Any] | None:
    """The run's `test.json`; None while its test part is locked."""
    file = folder.path / "test.json"
    return json.loads(file.read_bytes()) if file.is_file() else None
