"""The locked test part, opened: one figure for images that nothing was chosen by, and a ledger of every time it was opened."""

from __future__ import annotations

import base64
import itertools
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.stats import bootstrap_measures
from trainwright.errors import DataError, RunError, TrainwrightError
from trainwright.records import Answers, Interval, Scores, to_json
from trainwright.tracking import journal
from trainwright.tracking.lock import FileLock
from trainwright.tracking.run_folder import OPENINGS, RunFolder
from trainwright.tracking.runs import find_run
from trainwright.tracking.study_folder import LAST, find_study, study_of_newest_run
from trainwright.tracking.sync import MIRRORS_LOCK, sync
from trainwright.training.device import PRECISIONS, choose_device
from trainwright.training.evaluate import evaluate
from trainwright.training.repeatable import repeatable
from trainwright.workflows.chosen_epoch import groups_of
from trainwright.workflows.judge import moved_to, share_right
from trainwright.workflows.manifest import command_line
from trainwright.workflows.options import RunOptions, installed_mirrors, options_from
from trainwright.workflows.predict import load_model, task_of
from trainwright.workflows.report import refresh
from trainwright.workflows.run import Run, recipe_of
from trainwright.workflows.run_data import data_of
from trainwright.workflows.stored_images import batches_as_trained
from trainwright.workflows.training import save_arrays

if TYPE_CHECKING:
    from torch import nn

    from trainwright.plugins import Task
    from trainwright.training.model import ImageNetwork
    from trainwright.workflows.studies import Study

HASH_BYTES = 8  # of an image's hash: that two of a million agree by chance has a probability of 3e-8
LEAST_SHARE = 0.01  # of the images that is told in percent
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

    run: id, unique beginning of one, folder, or `last`; of a study its name; `last` is the study where the newest run is of
    one. data, model: what only Python code could give.
    Every opening is written down before the images are looked at; `opened_before` counts those by any run of this folder that
    had some of the same images, whatever the split. What a later opening says is kept beside the first one, as `test-2.json`
    and on. Raises RunError for no such run or one without a model, DataError without a test part or where it changed.
    """
    options = options_from(options, more)
    folder, study = model_run(run, options)
    recipe = recipe_of(folder)
    task = task_of(folder, recipe)
    network = load_model(folder, recipe, task, custom=model)
    device = choose_device(options.device)
    data = data_of(folder, data, options)
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
    before, opened = _open(folder, data, split.test, study)
    answers = _answered(folder, task, network, data, split.test, device=device, options=options)
    scores = task.scores(answers)
    groups = groups_of(data, answers.rows)
    result = {
        "schema": "trainwright.final/1",
        "run": folder.run_id,
        "study": study,
        "metric": task.metric,
        "test": with_interval(task, scores, groups),
        "metrics": dict(scores.metrics),
        "per_class": dict(scores.per_class),
        "images": len(split.test),
        "time": opened,
        "opened_before": len(before),
        "note": _said(before),
    }
    with folder:
        folder.claim()
        paths = np.array([data.table.paths[row] for row in answers.rows])
        tallies = {"per_image": scores.per_image, "tally": scores.tally, "groups": groups}
        name = _free_name(folder)
        save_arrays(folder, name, {"rows": answers.rows, "paths": paths, **answers.columns, **tallies})
        clean: dict[str, Any] = to_json(result)
        folder.write_json(f"{name}.json", clean)
    refresh(folder, study=study, data=data, reporter=options.reporter)
    _tell_mirrors(folder, options)
    return clean


def _tell_mirrors(folder: RunFolder, options: RunOptions) -> None:
    """Bring the mirrors that have this run up to date with the opening. One that cannot be reached takes nothing from it."""
    names = installed_mirrors() if options.mirrors is None else options.mirrors
    if not names or not (folder.path / MIRRORS_LOCK).is_file():  # nobody ever copied this run
        return
    try:
        sync(folder.path, names)
    except TrainwrightError as error:
        options.reporter.note(
            f"{' and '.join(names)} do not have this opening yet ({error.message}): 'trainwright sync {folder.run_id}'"
        )


def _answered(
    folder: RunFolder,
    task: Task,
    network: ImageNetwork,
    data: Dataset,
    rows: np.ndarray,
    *,
    device: torch.device,
    options: RunOptions,
) -> Answers:
    """What the run's model says of the test images, read as its validation images were."""
    recipe = recipe_of(folder)
    batches = batches_as_trained(recipe, task, data, rows, options=options)
    network.to(device, memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    with repeatable(device, options.threads):
        return evaluate(
            network,
            task,
            batches,
            device=device,
            dtype=PRECISIONS[recipe.precision],
            after_batch=lambda done: options.reporter.progress("test images", done, len(rows)),
        )


def openings(runs: Path, hashes: Collection[str]) -> list[float]:
    """Of each opening of a test part by the runs of this folder that had some of these images: what share of them it had.

    hashes: of the images' pixels, hexadecimal.
    """
    file = runs / OPENINGS
    if not file.is_file() or not hashes:
        return []
    now = {_prefix(known) for known in hashes}
    shares = [len(now & _prefixes(record["images"])) / len(now) for record in journal.read_records(file, "opening")]
    return [share for share in shares if share > 0]


def _open(folder: RunFolder, data: Dataset, test: np.ndarray, study: str | None) -> tuple[list[float], float]:
    """Write the opening down; (the shares of these images that were looked at before, one an opening; when, epoch seconds)."""
    runs, hashes = folder.path.parent, {data.fingerprint.pixel_hashes[row] for row in test}
    lock = FileLock(runs / f"{OPENINGS}.lock")
    if not lock.acquire(wait_seconds=LOCK_SECONDS):
        raise RunError(
            f"process {lock.holder} is opening a test part.", where=str(runs), cure="Wait until it has ended."
        )
    try:
        before, opened = openings(runs, hashes), time.time()
        record = {
            "images": base64.b64encode(b"".join(sorted(map(_prefix, hashes)))).decode(),
            "run": folder.run_id,
            "study": study,
            "command": command_line(),
            "time": opened,
        }
        if (runs / OPENINGS).is_file():
            os.truncate(
                runs / OPENINGS, journal.whole_bytes(runs / OPENINGS)
            )  # a kill tore its last line: nothing was looked at
        with (runs / OPENINGS).open("ab") as file:
            file.write(journal.encode("opening", record))
            file.flush()
            os.fsync(file.fileno())
    finally:
        lock.release()
    return before, opened


def _prefix(known: str) -> bytes:
    """The beginning of an image's hash: the ledger grows by this for every image of an opening."""
    return bytes.fromhex(known)[:HASH_BYTES]


def _prefixes(images: str) -> set[bytes]:
    joined = base64.b64decode(images)
    return {joined[start : start + HASH_BYTES] for start in range(0, len(joined), HASH_BYTES)}


def _said(before: Sequence[float]) -> str:
    """A sentence of how often, and how many of them, before: shares of the images, one an opening."""
    if not before:
        return "The first time that anybody looked at these images: the score is an honest estimate."
    share = f"{min(99, round(100 * max(before)))} %" if max(before) >= LEAST_SHARE else "Under 1 %"
    if min(before) == 1:
        times = "once" if len(before) == 1 else f"{len(before)} times"
        looked = f"These images were looked at {times} before"
    elif len(before) == 1:
        looked = f"{share} of these images were looked at once before"
    else:
        most = "all" if max(before) == 1 else f"up to {share.lower()}"
        looked = f"In {len(before)} earlier openings {most} of these images were looked at"
    return f"{looked}: what was chosen since may fit them by chance."


def _free_name(folder: RunFolder) -> str:
    """`test`, and of later openings `test-2` and on: the first one is the one that nothing was chosen by."""
    names = itertools.chain(["test"], (f"test-{number}" for number in itertools.count(2)))
    return next(name for name in names if not (folder.path / f"{name}.json").is_file())


def with_interval(task: Task, scores: Scores, groups: np.ndarray) -> dict[str, Any]:
    """{"score", "low", "high"}: over images, or groups of them."""
    dependent = None if len(np.unique(groups)) == len(groups) else groups
    if task.counts_right:
        found: Interval | None = share_right(scores.score, scores.per_image, dependent)
    else:
        found = bootstrap_measures(scores.tally, task.measures, groups=dependent).get("score")
        found = None if found is None else moved_to(found, scores.score)
    return {
        "score": scores.score,
        "low": None if found is None else found.low,
        "high": None if found is None else found.high,
    }


def model_run(run: str | os.PathLike[str] | Run | Study, options: RunOptions) -> tuple[RunFolder, str | None]:
    """(the run whose model it is about, the name of its study or None)."""
    if isinstance(run, Run):
        return RunFolder.open(run.folder), None
    if not isinstance(run, str | os.PathLike):
        return RunFolder.open(run.best.folder), run.name
    name = os.fspath(run)
    study = study_of_newest_run(options.runs) if name == LAST else find_study(options.runs, name)
    if study is None:
        return find_run(options.runs, os.fspath(run)), None
    result = study.result()
    if result is None or result["best"] is None:
        raise RunError("has no model yet.", where=study.name, cure=f"Go on with 'trainwright resume {study.name}'.")
    return RunFolder.open(options.runs / result["best"]["run"]), study.name
