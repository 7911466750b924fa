"""One run of a study: from what was asked for to what the journal keeps. In this process, or as the job of a worker."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError, TrainwrightError
from trainwright.recipe import Recipe
from trainwright.records import EpochRecord, Proposal, to_json
from trainwright.tracking.lock import FileLock
from trainwright.tracking.run_folder import MANIFEST, RunFolder
from trainwright.training.checkpoint import load_newest
from trainwright.workflows import run as runs
from trainwright.workflows.diagnose import diagnose
from trainwright.workflows.options import RunOptions
from trainwright.workflows.outcomes import ended, finished, is_outcome, paused, probed_seconds
from trainwright.workflows.reporting import Reporter, Silent

if TYPE_CHECKING:
    from torch import nn

EVENT_SECONDS = 0.2  # between two words of a worker on how far it is
LEFT_SECONDS = 30.0  # for a worker that nobody waits for any more to end
JOB = "trainwright.workflows.trial:job"

_opened: dict[str, Dataset] = {}  # by a worker, for all of its jobs


def carry_out(
    proposal: Proposal, path: Path, *, data: Dataset, options: RunOptions, model: nn.Module | None = None
) -> dict[str, Any] | None:
    """Train it, or go on with it; the `tell` record of what came of it, None where somebody asked to stop.

    path: of its run folder. model: the user's own module, which is copied. Raises what is no answer about the recipe.
    """
    watch = Watch(options.reporter, proposal)
    watched = replace(
        options,
        mirrors=(),
        report=False,  # written when somebody asks for it: the study has a page of its own
        reporter=watch,
        stop_asked=lambda: watch.hopeless or watch.paused or options.stop_asked(),
    )
    began = time.perf_counter()
    try:
        found = _trained(proposal, path, watch, data=data, options=watched, model=copy.deepcopy(model))
    except Exception as error:
        if not is_outcome(error, proposal):
            raise
        message = error.message if isinstance(error, TrainwrightError) else str(error)
        seconds = time.perf_counter() - began
        return ended(proposal, path, state="failed", seconds=seconds, message=message, error=error)
    if found is not None and found.finished:
        _probe(proposal, found, data=data, options=options, model=model)
        if proposal.probe_seconds > 0 and options.stop_asked():
            return None  # its probes may not be whole; it has finished, so going on with it is quick
        return finished(proposal, RunFolder.open(path), seconds=time.perf_counter() - began)
    seconds = time.perf_counter() - began
    if watch.hopeless:
        message = f"stopped after epoch {watch.epochs}: far below the control at the same epoch."
        return ended(proposal, path, state="stopped", seconds=seconds, message=message)
    return _paused(proposal, path, seconds=seconds) if watch.paused else None


def _paused(proposal: Proposal, path: Path, *, seconds: float) -> dict[str, Any]:
    """Say so in its folder, and to the study."""
    with RunFolder.open(path) as folder:
        folder.claim()
        study = path.name.rpartition("-")[0]
        folder.set_status("paused", message=f"by the study {study}, which goes on with it or leaves it")
    return paused(proposal, RunFolder.open(path), seconds=seconds)


def _probe(proposal: Proposal, run: runs.Run, *, data: Dataset, options: RunOptions, model: nn.Module | None) -> None:
    """Run the probes that would tell why its train error is high, as far as there is time; its findings say what they showed.

    A probe that cannot be run takes nothing from the run, which has finished. Raises what has to be seen: a full disk.
    """
    left = proposal.probe_seconds - probed_seconds(run._folder)
    if left <= 0:
        return
    quiet = replace(options, reporter=Silent(), mirrors=())
    fresh = None if model is None else lambda: copy.deepcopy(model)
    try:
        diagnose(run, probes="auto", data=data, model=fresh, limit_seconds=left, options=quiet)
    except Exception as error:
        if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
            raise
        if not options.stop_asked():
            options.reporter.note(f"{proposal.label}: a probe could not be run ({error})")
            diagnose(run, data=data, options=quiet)  # with those before it


def _trained(
    proposal: Proposal, path: Path, watch: Watch, *, data: Dataset, options: RunOptions, model: nn.Module | None
) -> runs.Run | None:
    """The run, as far as it got; None where it was given up, or paused, before a kill, which came before anybody was told."""
    if not (path / MANIFEST).is_file():
        return runs.train(data, proposal.recipe, model=model, run_id=path.name, options=options)
    folder = RunFolder.open(path)
    if folder.result() is None:
        watch.look_back(folder)
    if watch.hopeless or (watch.paused and _is_saved(folder, watch.epochs)):
        return None
    watch.paused = False  # its last epoch was recorded and not saved
    return runs.resume(path, data=data, model=model, options=options)


def _is_saved(folder: RunFolder, epochs: int) -> bool:
    """Whether its newest checkpoint has so many epochs behind it."""
    found = load_newest(folder.checkpoints)
    last_steps = [record["step"] for record in folder.records("epoch")]
    return found is not None and bool(found.state["position"]["step"] > last_steps[epochs - 1])


class Watch:
    """A reporter that passes on what concerns the run's way, and sees when it falls under its floor, or is to pause."""

    def __init__(self, inner: Reporter, proposal: Proposal) -> None:
        self._inner, self._proposal = inner, proposal
        self._best = -math.inf
        self.epochs = 0
        self.hopeless = self.paused = False

    def progress(self, what: str, done: int, total: int) -> None:
        self._inner.progress(f"{self._proposal.label}: {what}", done, total)

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self._inner.progress(f"{self._proposal.label}: epochs", record.epoch + 1, epochs)
        self._see(record.epoch, record.val.score, epochs)

    def look_back(self, folder: RunFolder) -> None:
        """See the epochs that a run has had already, as if they had just been trained."""
        for record in folder.records("epoch"):
            score = record["val"]["score"]
            self._see(record["epoch"], math.nan if score is None else score, self._proposal.recipe.epochs)
            if self.hopeless or self.paused:
                return

    def _see(self, epoch: int, score: float, epochs: int) -> None:
        self.epochs = epoch + 1
        if math.isfinite(score):
            self._best = max(self._best, score)
        floor = self._proposal.floor
        if floor and self.epochs < epochs:
            # An arm of fewer epochs is compared at the same part of its training.
            place = max(0, math.ceil(self.epochs / epochs * len(floor)) - 1)
            self.hopeless = self._best < floor[place]
        pause = self._proposal.epochs_now
        self.paused = pause is not None and pause <= self.epochs < epochs

    def note(self, text: str) -> None:
        return


# In a worker


def job_of(proposal: Proposal, path: Path, *, data: Dataset, options: RunOptions) -> dict[str, Any]:
    """What a worker is given to carry a trial out: plain JSON. The data has to be one that can be opened again."""
    return {
        "proposal": {**to_json(replace(proposal, recipe=Recipe())), "recipe": proposal.recipe.model_dump(mode="json")},
        "path": str(path.absolute()),
        "data": dict(data.source or {}),
        "fingerprint": data.digest,
        "options": {
            "runs": str(options.runs.absolute()),
            "device": options.device,
            "workers": options.workers,
            "offline": options.offline,
            "threads": options.threads,
            "checkpoint_seconds": options.checkpoint_seconds,
        },
    }


def job(
    argument: Mapping[str, Any], send: Callable[[Mapping[str, Any]], None], stop_asked: Callable[[], bool]
) -> dict[str, Any] | None:
    """`carry_out` as the job of a worker. Raises DataError where the data is no longer what the study began with."""
    given = argument["options"]
    options = RunOptions(
        **{**given, "runs": Path(given["runs"])}, mirrors=(), reporter=Sender(send), stop_asked=stop_asked
    )
    asked = argument["proposal"]
    recipe = Recipe.model_validate(asked["recipe"])
    proposal = Proposal(**{**asked, "recipe": recipe, "floor": tuple(asked["floor"])})
    data = _data(argument, options)
    path = Path(argument["path"])
    _wait_for(path)
    return carry_out(proposal, path, data=data, options=options)


def _wait_for(path: Path) -> None:
    """Until whoever had the run before has let go of it: a worker whose machine was given up may end a little later."""
    if path.is_dir():
        with FileLock(path / "run.lock") as lock:
            lock.acquire(wait_seconds=LEFT_SECONDS)


def _data(argument: Mapping[str, Any], options: RunOptions) -> Dataset:
    fingerprint, source = argument["fingerprint"], argument["data"]
    if fingerprint not in _opened:
        data = open_dataset(Path(source["path"]), target=source["target"], task=source["task"], workers=options.workers)
        if data.digest != fingerprint:
            raise DataError(
                "the data has changed since the study began.",
                where=source["path"],
                cure="Bring the files back as they were.",
            )
        _opened[fingerprint] = data
    return _opened[fingerprint]


class Sender:
    """A reporter that sends on how far a run is, not more often than anybody reads; and every note."""

    def __init__(self, send: Callable[[Mapping[str, Any]], None]) -> None:
        self._send = send
        self._said: dict[str, float] = {}  # when, by what was said

    def progress(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._said.get(what, -math.inf) > EVENT_SECONDS:
            self._said[what] = now
            self._send({"what": what, "done": done, "total": total})

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self.progress("epochs", record.epoch + 1, epochs)

    def note(self, text: str) -> None:
        self._send({"note": text})
