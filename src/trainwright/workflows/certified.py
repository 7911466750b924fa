"""The certificate of an export: every file held against the model itself on every validation image, each read once."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.deploy import certificate as parity
from trainwright.deploy import reader
from trainwright.deploy.agreement import agreement
from trainwright.deploy.folder import WEIGHTS
from trainwright.errors import GoalNotMetError
from trainwright.plugins import Task
from trainwright.records import Answers, part_of, to_json
from trainwright.workflows.calibrated import tempered
from trainwright.workflows.export_subject import Subject
from trainwright.workflows.finalise import with_interval
from trainwright.workflows.manifest import machine
from trainwright.workflows.model_answers import CPU, in_torch
from trainwright.workflows.options import RunOptions

READ_FILES = 50  # whose reading is timed


@dataclass(frozen=True, kw_only=True)
class Held:
    """What files are held against. own: of the model, without a temperature, in the order of `files`. groups: of the images, as
    intervals need them. trained: what came of holding `own` against the answers that were judged."""

    own: Answers = field(repr=False)
    files: Sequence[Path] = field(repr=False)
    groups: np.ndarray = field(repr=False)
    trained: Mapping[str, Any] | None


def temperature_in(name: str, subject: Subject) -> float:
    """What divides logits inside of a file: weights alone answer as they were trained."""
    return 1.0 if name == WEIGHTS else subject.temperature


def certified(
    subject: Subject, runs: Mapping[str, parity.Runs], held: Held, stage: Path, options: RunOptions
) -> dict[str, Any]:
    """The `trainwright.certificate/1` object. Raises GoalNotMetError where any file does not answer as the model does."""
    task, spec, size = subject.task, subject.described["input"], subject.recipe.data.size
    own = {name: tempered(held.own, temperature_in(name, subject)) for name in runs}
    said = _said(task, runs, own, held.files, spec, options)
    files: dict[str, Any] = {}
    for name, run in runs.items():
        found = parity.judge(said[name], held.files, own[name], task)
        parity.refuse_breaches(found, what=name)
        same = found.agreement
        files[name] = {
            "bytes": (stage / name).stat().st_size,
            "sha256": sha256(stage / name),
            "temperature": temperature_in(name, subject),
            "agreement": same.share,
            "agreement_of": same.of,
            "decided": same.decided,
            "largest_difference": same.largest,
            "largest_difference_of": same.largest_of,
            "score": with_interval(task, found.exported, held.groups),
            "seconds_per_image": parity.latency(run, size=size),
        }
    run_itself = in_torch(subject.network, task, temperature=subject.temperature)
    content: dict[str, Any] = to_json(
        {
            "schema": "trainwright.certificate/1",
            "run": subject.folder.run_id,
            "task": task.name,
            "metric": task.metric,
            "images": len(held.files),
            "note": _note(subject, held.own),
            "temperature": subject.temperature,
            "test_time_flip": subject.recipe.test_time_flip,
            "limits": {"agreement": parity.LEAST_AGREEMENT, "score": parity.SCORE_TOLERANCE},
            "score": {"model": with_interval(task, task.scores(held.own), held.groups), "trained": _judged(subject)},
            "trained": held.trained,
            "files": files,
            "model_seconds_per_image": parity.latency(run_itself, size=size),
            "reading_seconds_per_image": _reading_seconds(held.files, spec),
            "machine": machine(CPU),
            "packages": subject.described["packages"],
        }
    )
    return content


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _said(
    task: Task,
    runs: Mapping[str, parity.Runs],
    own: Mapping[str, Answers],
    files: Sequence[Path],
    spec: Mapping[str, Any],
    options: RunOptions,
) -> dict[str, dict[str, np.ndarray]]:
    """What each says of all images, and of the first one also by itself, which has to be the same."""
    said: dict[str, dict[str, np.ndarray]] = {name: {} for name in runs}
    read = partial(_read, spec=spec)
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, options.workers)) as pool:
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of images that the training has read too
        for start in range(0, len(files), parity.FILES_AT_ONCE):
            chunk = files[start : start + parity.FILES_AT_ONCE]
            images_NHWC = np.stack(list(pool.map(read, chunk)))
            for name, run in runs.items():
                parity.collect(said[name], run(images_NHWC), start=start, own=own[name])
                if not start:
                    _refuse_other_alone(task, run(images_NHWC[:1]), said[name], what=name)
            options.reporter.progress("certifying", start + len(chunk), len(files))
    return said


def _refuse_other_alone(
    task: Task, alone: Mapping[str, np.ndarray], among: Mapping[str, np.ndarray], *, what: str
) -> None:
    """Raise GoalNotMetError where an image is answered otherwise by itself than among others."""
    first = part_of(Answers(rows=np.arange(1), columns=among), np.arange(1)).columns
    found = agreement(task, first, alone)
    if found.share < parity.LEAST_AGREEMENT or not found.largest <= (found.allowed or np.inf):
        raise GoalNotMetError(
            f"answers otherwise to an image by itself than among others: agreement {found.share:.4f} ({found.of}), largest "
            f"difference {found.largest:.3g} ({found.largest_of}). Nothing was written.",
            where=what,
            cure="Does the network look at other images of its batch, as batch norm in train mode does? Other formats: --format.",
        )


def _read(file: Path, spec: Mapping[str, Any]) -> np.ndarray:
    """By the reader that goes along with what is exported. Raises GoalNotMetError for what it cannot read."""
    try:
        return reader.read_image(file, spec)
    except Exception as error:  # Pillow's readers raise anything at all
        raise GoalNotMetError(
            f"the exported reader cannot read it ({error}).",
            where=str(file),
            cure="Save it as 8-bit RGB, and train on that.",
        ) from error


def _note(subject: Subject, own: Answers) -> str:
    notes = []
    if any(finding["rule"] == "nothing-unseen" for finding in subject.result["findings"]):
        notes.append("These images were trained on: the scores say nothing of unseen ones.")
    alone = agreement(subject.task, own.columns, own.columns).alone
    if alone is not None:
        notes.append(f"Every answer of the model is {alone!r}: that these are the same shows little.")
    return " ".join(notes)


def _judged(subject: Subject) -> dict[str, Any]:
    """The score that was judged after training, in the precision of the training."""
    interval = subject.result["intervals"]["score"] or {}
    return {
        "score": subject.result["score"]["val"],
        "low": interval.get("low"),
        "high": interval.get("high"),
        "precision": subject.folder.manifest["precision"]["name"],
    }


def _reading_seconds(files: Sequence[Path], spec: Mapping[str, Any]) -> float:
    """Median time of reading one file to pixels."""
    seconds = []
    for file in files[:READ_FILES]:
        begun = time.perf_counter()
        reader.read_image(file, spec)
        seconds.append(time.perf_counter() - begun)
    return float(np.median(seconds))
