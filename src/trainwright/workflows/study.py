"""A study from its question to its answer: a strategy asks, runs are trained, outcomes are told, everything is journaled.

Killed at any moment and resumed, it tells its strategy the journal again and goes on where it stopped (decision 7).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from trainwright.data.dataset import Dataset
from trainwright.errors import RunError, TrainwrightError
from trainwright.plugins import Strategy
from trainwright.recipe import Recipe
from trainwright.records import EpochRecord, Proposal
from trainwright.tracking.run_folder import MANIFEST, RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows import run as runs
from trainwright.workflows.options import RunOptions
from trainwright.workflows.outcomes import ended, finished, is_outcome, outcome_of
from trainwright.workflows.reporting import Reporter

if TYPE_CHECKING:
    from torch import nn


class Teller(Protocol):
    """A strategy that tells its story as it goes."""

    entries: list[Any]


@dataclass(kw_only=True)
class Conductor:
    """Carries a study out: one run after the other, in this process.

    data: of all runs. model: the user's own module, copied for each run. told: called with every new sentence of the story.
    """

    study: StudyFolder
    strategy: Strategy
    data: Dataset
    options: RunOptions
    model: nn.Module | None = None
    told: Callable[[Any], None] = lambda entry: None
    _said: int = field(default=0, init=False)

    def carry_out(self) -> bool:
        """Go on until the strategy wants no more; False where somebody asked to stop before."""
        tells = {record["number"]: record for record in self.study.records("tell")}
        asks = {record["number"]: record for record in self.study.records("ask")}
        entries = sum(1 for _ in self.study.records("entry"))
        self._tell_story(known=entries)
        while not self.strategy.done:
            proposal = self.strategy.ask()
            if proposal is None:
                raise RuntimeError("the strategy waits for an outcome, and no run is under way")
            if proposal.number in asks:
                _refuse_another_way(asks[proposal.number], proposal, self.study)
            else:
                self.study.append("ask", _asked(proposal))
            record = tells.get(proposal.number)
            if record is None:
                record = self._run(proposal)
                if record is None:
                    return False
                self.study.append("tell", record)
            self.strategy.tell(outcome_of(record, proposal, self._path(proposal)))
            self._tell_story(known=entries)
        return True

    def _tell_story(self, *, known: int) -> None:
        """Journal and pass on what the strategy has said since the last time; what the journal has already is passed over."""
        entries = getattr(self.strategy, "entries", [])
        for index in range(self._said, len(entries)):
            if index >= known:
                self.study.append("entry", entries[index])
                self.told(entries[index])
        self._said = len(entries)

    def _run(self, proposal: Proposal) -> dict[str, Any] | None:
        """Train it, or go on with it; the `tell` record of what came of it, None where somebody asked to stop."""
        path = self._path(proposal)
        watch = Watch(self.options.reporter, proposal)
        options = replace(
            self.options, mirrors=(), reporter=watch, stop_asked=lambda: watch.hopeless or self.options.stop_asked()
        )
        began = time.perf_counter()
        try:
            found = self._trained(proposal, path, watch, options)
        except Exception as error:
            if not is_outcome(error, proposal):
                raise
            message = error.message if isinstance(error, TrainwrightError) else str(error)
            seconds = time.perf_counter() - began
            return ended(proposal, path, state="failed", seconds=seconds, message=message, error=error)
        seconds = time.perf_counter() - began
        if found is not None and found.finished:
            return finished(proposal, RunFolder.open(path), seconds=seconds)
        if watch.hopeless:
            message = f"stopped after epoch {watch.epochs}: far below the control at the same epoch."
            return ended(proposal, path, state="stopped", seconds=seconds, message=message)
        return None

    def _trained(self, proposal: Proposal, path: Path, watch: Watch, options: RunOptions) -> runs.Run | None:
        """The run, as far as it got; None where it was given up before a kill, which came before anybody was told."""
        model = None if self.model is None else copy.deepcopy(self.model)
        if not (path / MANIFEST).is_file():
            return runs.train(self.data, proposal.recipe, model=model, run_id=path.name, options=options)
        folder = RunFolder.open(path)
        if folder.result() is None:
            watch.look_back(folder)
        return None if watch.hopeless else runs.resume(path, data=self.data, model=model, options=options)

    def _path(self, proposal: Proposal) -> Path:
        """Where its run lies, or will lie."""
        return self.options.runs / self.study.run_id(proposal.number)


class Watch:
    """A reporter that passes on what concerns the run's way, and sees when it falls under its floor."""

    def __init__(self, inner: Reporter, proposal: Proposal) -> None:
        self._inner, self._proposal = inner, proposal
        self._best = -math.inf
        self.epochs = 0
        self.hopeless = False

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
            if self.hopeless:
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

    def note(self, text: str) -> None:
        return


def trials_of(study: StudyFolder) -> Iterator[Mapping[str, Any]]:
    """Every run of the study that has ended: number, run, role, label, state, score, seconds."""
    asks = {record["number"]: record for record in study.records("ask")}
    for record in study.records("tell"):
        asked = asks[record["number"]]
        yield {
            **{key: asked[key] for key in ("number", "role", "label")},
            **{key: record[key] for key in ("run", "state", "score", "seconds")},
        }


def _asked(proposal: Proposal) -> dict[str, Any]:
    return {
        "number": proposal.number,
        "role": proposal.role,
        "label": proposal.label,
        "reason": proposal.reason,
        "recipe": proposal.recipe.model_dump(mode="json"),
    }


def _refuse_another_way(asked: Mapping[str, Any], proposal: Proposal, study: StudyFolder) -> None:
    if Recipe.model_validate(asked["recipe"]) != proposal.recipe:
        raise RunError(
            f"run {proposal.number} of this study was asked for with another recipe than it would be now: the code or its "
            "records have changed since.",
            where=str(study.path),
            cure="Resume with the version that began it, or start a new study.",
        )
