"""All runs of a folder: list them fast, find one by name, notice those that died.

`index.jsonl` beside them is a cache of what their files say, checked against the files' times on every use, so a run that
was deleted, moved or changed by hand is seen at once. Deleting it costs nothing but the next listing's time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainwright.errors import RunError, TrainwrightError, did_you_mean
from trainwright.files import write_atomically
from trainwright.tracking import journal
from trainwright.tracking.process import is_gone
from trainwright.tracking.run_folder import (
    HALF_MADE,
    MANIFEST,
    RECIPE,
    RECORDS,
    RESULT,
    STATUS,
    RunFolder,
)

INDEX = "index.jsonl"
ASKED = "study.json"  # in the folder of a study
INDEX_FORMAT = {"format": "trainwright.index/2"}
ABANDONED_SECONDS = 3600.0  # building a run folder takes milliseconds
NETWORK_NAME = re.compile(
    r"^network:\s*(?:\{(?:[^}\n]*,)?\s*|(?:\n[ \t]+[^\n]*)*?\n[ \t]+)name:\s*['\"]?([^\s,}'\"]+)", re.MULTILINE
)
COUNTED = re.compile(r"last(?:~(\d{1,6}))?")  # from the newest, as git counts
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """A line of `runs list`. started: epoch seconds. Scores are those of the model, or of the last epoch so far.

    repeats: id of the run that this one reproduces.
    """

    run_id: str
    folder: str
    state: str
    started: float
    dataset: str
    network: str
    metric: str
    train_score: float | None
    val_score: float | None
    verdict: str | None
    seconds: float | None
    repeats: str | None


def list_runs(runs: Path) -> list[RunSummary]:
    """Every run in the folder, oldest first. 1,000 of them take some hundredths of a second."""
    known = _read_index(runs)
    current: dict[str, tuple[list[int], RunSummary]] = {}
    for name, stamp in _stamps(runs).items():
        if name in known and known[name][0] == stamp:
            current[name] = known[name]
        else:
            summary = _summary(runs / name)
            if summary is not None:
                current[name] = (stamp, summary)
    settled = {name: entry for name, entry in current.items() if entry[1].state != "running"}
    if settled != known:
        _write_index(runs, settled)
    return sorted((summary for _, summary in current.values()), key=lambda summary: (summary.started, summary.run_id))


def sweep(runs: Path) -> list[str]:
    """Mark the runs that say running and whose process is gone as interrupted; returns their ids.

    Called at the start of every command: reads only what changed since the last listing, and the runs that are running.
    """
    _remove_half_made(runs)
    running = [summary for summary in list_runs(runs) if summary.state == "running"]
    return [summary.run_id for summary in running if mark_interrupted(runs / summary.folder)]


def mark_interrupted(path: Path) -> bool:
    """If the run says running and nobody runs it any more, say interrupted. Whether that was so.

    Both must hold: its process is gone, and its lock is free (the lock also sees through containers that share a host).
    """
    try:
        run = RunFolder.open(path)
        if run.status()["state"] != "running" or not is_gone(run.status()):
            return False
        with run:
            run.claim()
            status = run.status()  # again, as its only writer: a resume may have come in between
            if status["state"] != "running" or not is_gone(status):
                return False
            run.write_json(STATUS, {**status, "state": "interrupted", "message": "its process ended without a word"})
    except (OSError, TrainwrightError) as error:
        log.warning("%s: cannot be marked as interrupted (%s)", path, error)
        return False
    return True


def newest_run(runs: Path, *, back: int = 0, stopped: bool = False) -> RunSummary | None:
    """The run that began last, or the one `back` runs before it; None where there are not so many.

    One that only repeats another does not count. Of a study that handed over a model that alone counts, of others what they did
    not pause, give up or fail at. With `stopped` those count that can be gone on with; where there is nothing else, all do.
    """
    found = list_runs(runs)
    own = [run for run in found if run.repeats is None or (stopped and run.state != "finished")]
    kept = own if stopped else _without_what_studies_left(runs, own)
    found = kept or own or found
    return found[-1 - back] if back < len(found) else None


def find_run(runs: Path, name: str, *, stopped: bool = False) -> RunFolder:
    """The run of that path, id or unique beginning of an id, the 'last' one, as `newest_run` has it, or 'last~2' two before it.

    By the name of a study, or a beginning that only its runs share, the run whose model it handed over. Raises RunError with the
    nearest name.
    """
    names = sorted(_stamps(runs))
    counted = COUNTED.fullmatch(name)
    if counted and (newest := newest_run(runs, back=int(counted[1] or 0), stopped=stopped)) is not None:
        return RunFolder.open(runs / newest.folder)
    if name in names:
        return RunFolder.open(runs / name)
    if os.sep not in name and (model := model_of(folder_of_studies(runs) / name)):
        return RunFolder.open(runs / model)
    if os.sep in name or (Path(name) / MANIFEST).is_file():
        return RunFolder.open(Path(name))
    begin = [known for known in names if known.startswith(name)] or [
        summary.folder for summary in list_runs(runs) if summary.run_id == name
    ]
    if len(begin) == 1:
        return RunFolder.open(runs / begin[0])
    shared = {known.rpartition("-")[0] for known in begin}
    if (
        len(shared) == 1
        and (study := shared.pop()).startswith(name)
        and (model := model_of(folder_of_studies(runs) / study))
    ):
        return RunFolder.open(runs / model)
    if begin:
        raise RunError(f"{len(begin)} runs begin with {name!r}: {', '.join(begin[:5])}.", cure="Give more of the id.")
    cure = f"{did_you_mean(name, names)}'trainwright runs list' shows all runs."
    raise RunError(f"no such run {name!r}.", where=str(runs), cure=cure)


def folder_of_studies(runs: Path) -> Path:
    """Where studies lie whose runs lie in `runs`: beside it."""
    return runs.absolute().parent / "studies"


def model_of(study: Path) -> str:
    """The folder of the run whose model a study handed over; empty where it has none, or none yet."""
    return str((_read(study / RESULT).get("best") or {}).get("run", ""))


def _without_what_studies_left(runs: Path, found: list[RunSummary]) -> list[RunSummary]:
    """Without trainings of a study that did not come to their end; a study with a model counts as that, at its newest run."""
    studies = folder_of_studies(runs)
    made: dict[str, list[RunSummary]] = {}  # by name of the study
    kept: list[tuple[float, RunSummary]] = []
    for run in found:
        study, _, number = run.run_id.rpartition("-")
        if number.isdecimal() and (studies / study / ASKED).is_file():
            made.setdefault(study, []).append(run)
        elif run.state != "paused":
            kept.append((run.started, run))
    for study, its in made.items():
        name = model_of(studies / study)
        models = [run for run in its if name and name in (run.folder, run.run_id)]
        ended = [(run.started, run) for run in its if run.state in ("running", "finished")]
        kept += [(its[-1].started, models[0])] if models else ended
    return [run for _, run in sorted(kept, key=lambda pair: (pair[0], pair[1].run_id))]


def _stamps(runs: Path) -> dict[str, list[int]]:
    """Run folders with what changes whenever a summary does: the times, sizes and inodes of two files."""
    stamps: dict[str, list[int]] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(runs) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                stamp = _stamp(f"{entry.path}/{STATUS}")
                if stamp:
                    stamps[entry.name] = stamp + _stamp(f"{entry.path}/{RESULT}")
    return stamps


def _stamp(path: str) -> list[int]:
    try:
        status = os.stat(path)  # noqa: PTH116  # a Path for each would take half the time of a listing
    except OSError:
        return []
    return [status.st_mtime_ns, status.st_size, status.st_ino]


def _summary(path: Path) -> RunSummary | None:
    """What a run's files say. None for a folder that is no run; a damaged one is listed as such."""
    manifest, status, result = (_read(path / name) for name in (MANIFEST, STATUS, RESULT))
    if not (path / MANIFEST).is_file():
        return None
    scores, seconds = result.get("score"), result.get("seconds")
    if not isinstance(scores, Mapping):
        scores, seconds = _so_far(path, float(manifest.get("created") or 0.0))
    return RunSummary(
        run_id=str(manifest.get("run_id") or path.name),
        folder=path.name,
        state=str(status.get("state", "damaged")) if manifest else "damaged",
        started=float(manifest.get("created") or 0.0),
        dataset=str(manifest.get("name", "")),
        network=_network(path),
        metric=str(result.get("metric") or manifest.get("metric") or ""),
        train_score=scores.get("train"),
        val_score=scores.get("val"),
        verdict=result.get("verdict"),
        seconds=seconds,
        repeats=manifest.get("reproduces"),
    )


def _so_far(path: Path, created: float) -> tuple[dict[str, float | None], float | None]:
    """Scores of the last epoch and seconds until then, of a run without a result."""
    with contextlib.suppress(RunError, TypeError, KeyError):
        epoch = journal.last_record(path / RECORDS, "epoch")
        if epoch is not None:
            scores = {part: (epoch.get(part) or {}).get("score") for part in ("train", "val")}
            return scores, round(epoch["time"] - created, 3)
    return {}, None


def _network(path: Path) -> str:
    """The network's name, without a YAML parser: that takes longer than all the rest."""
    try:
        match = NETWORK_NAME.search((path / RECIPE).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return ""
    return match.group(1) if match else ""


def _read(path: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(path.read_bytes())
        if isinstance(value, dict):
            return value
    return {}


def _read_index(runs: Path) -> dict[str, tuple[list[int], RunSummary]]:
    """The index, or nothing where it is missing, damaged or of another version: then it is made anew."""
    try:
        head, *lines = (runs / INDEX).read_bytes().splitlines()
        if json.loads(head) != INDEX_FORMAT:
            return {}
        entries = [json.loads(line) for line in lines]
        return {entry["folder"]: (entry["stamp"], RunSummary(**entry["summary"])) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _write_index(runs: Path, entries: Mapping[str, tuple[list[int], RunSummary]]) -> None:
    lines = [json.dumps(INDEX_FORMAT)]
    for name, (stamp, summary) in entries.items():
        lines.append(json.dumps({"folder": name, "stamp": stamp, "summary": dataclasses.asdict(summary)}))
    try:
        write_atomically(runs / INDEX, "\n".join(lines).encode())
    except (
        OSError,
        TrainwrightError,
    ) as error:  # somebody else's folder, a full disk: the next listing reads the runs again
        log.debug("%s: not written (%s)", runs / INDEX, error)


def _remove_half_made(runs: Path) -> None:
    """Remove what a kill during `RunFolder.create` left."""
    with contextlib.suppress(OSError), os.scandir(runs) as entries:
        for entry in entries:
            if entry.name.startswith(HALF_MADE) and time.time() - entry.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(entry.path, ignore_errors=True)
