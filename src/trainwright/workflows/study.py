"""A study from its question to its answer: a strategy asks, runs are trained, outcomes are told, everything is journaled.

Killed at any moment and resumed, it tells its strategy the journal again and goes on where it stopped (decision 7).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.errors import OutOfResourcesError, RunError, TrainwrightError
from trainwright.plugins import Strategy
from trainwright.recipe import Recipe
from trainwright.records import EpochRecord, Outcome, Proposal
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows import run as runs
from trainwright.workflows.options import RunOptions
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
            if proposal.number in tells:
                outcome = self._outcome(proposal, **_kept(tells[proposal.number]))
            else:
                found = self._run(proposal)
                if found is None:
                    return False
                outcome = found
                self.study.append("tell", _tell(outcome))
            self.strategy.tell(outcome)
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

    def _run(self, proposal: Proposal) -> Outcome | None:
        """Train it, or go on with it; None where somebody asked to stop."""
        run_id = self.study.run_id(proposal.number)
        watch = Watch(self.options.reporter, proposal)
        options = replace(
            self.options, mirrors=(), reporter=watch, stop_asked=lambda: watch.hopeless or self.options.stop_asked()
        )
        model = None if self.model is None else copy.deepcopy(self.model)
        began = time.perf_counter()
        try:
            if (self.options.runs / run_id / "manifest.json").is_file():
                found = runs.resume(self.options.runs / run_id, data=self.data, model=model, options=options)
            else:
                found = runs.train(self.data, proposal.recipe, model=model, run_id=run_id, options=options)
        except OutOfResourcesError:
            raise
        except TrainwrightError as error:
            if proposal.role == "baseline":
                raise
            seconds = time.perf_counter() - began
            return self._outcome(proposal, state="failed", seconds=seconds, message=error.message)
        seconds = time.perf_counter() - began
        if found.finished:
            seconds = max(seconds, float(found.result["seconds"]))
            return self._outcome(proposal, state="finished", seconds=seconds)
        if watch.hopeless:
            message = f"stopped after epoch {watch.epochs}: far below the control at the same epoch."
            return self._outcome(proposal, state="stopped", seconds=seconds, message=message)
        return None

    def _outcome(self, proposal: Proposal, *, state: Any, seconds: float, message: str = "") -> Outcome:
        run_id = self.study.run_id(proposal.number)
        if state != "finished":
            return Outcome(
                number=proposal.number,
                run=run_id,
                state=state,
                score=float("nan"),
                seconds=seconds,
                result={"message": message},
            )
        folder = RunFolder.open(self.options.runs / run_id)
        result = folder.result()
        if result is None:
            raise RunError(
                "has no result any more.", where=str(folder.path), cure="Restore the run, or start a new study."
            )
        curve = [epoch["val"]["score"] for epoch in folder.records("epoch")]
        answers, groups = (None, None) if proposal.on_all else answers_of(folder)
        score = result["score"]["val"]
        return Outcome(
            number=proposal.number,
            run=run_id,
            state="finished",
            score=float("nan") if score is None else score,
            seconds=seconds,
            result={**result, "val_scores": [float("nan") if value is None else value for value in curve]},
            answers=answers,
            groups=groups,
        )


class Watch:
    """A reporter that passes on what concerns the run's way, and sees when it falls under its floor."""

    def __init__(self, inner: Reporter, proposal: Proposal) -> None:
        self._inner, self._proposal = inner, proposal
        self._best = -np.inf
        self.epochs = 0
        self.hopeless = False

    def progress(self, what: str, done: int, total: int) -> None:
        self._inner.progress(f"{self._proposal.label}: {what}", done, total)

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self.epochs = record.epoch + 1
        self._inner.progress(f"{self._proposal.label}: epochs", self.epochs, epochs)
        if np.isfinite(record.val.score):
            self._best = max(self._best, record.val.score)
        floor = self._proposal.floor
        if floor and self.epochs < epochs:
            # An arm of fewer epochs is compared at the same part of its training.
            place = max(0, math.ceil(self.epochs / epochs * len(floor)) - 1)
            self.hopeless = self._best < floor[place]

    def note(self, text: str) -> None:
        return


def answers_of(folder: RunFolder) -> tuple[np.ndarray, np.ndarray | None]:
    """(tallies [N, Q], groups [N] or None where all images are on their own) of the val images, in the order of their rows."""
    with np.load(folder.answers / "val.npz", allow_pickle=False) as saved:
        order = np.argsort(saved["rows"], kind="stable")
        tally, groups = saved["tally"][order].astype(np.float64), saved["groups"][order]
    return tally, None if len(np.unique(groups)) == len(groups) else groups


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


def _tell(outcome: Outcome) -> dict[str, Any]:
    message = outcome.result.get("message", "")
    return {
        "number": outcome.number,
        "run": outcome.run,
        "state": outcome.state,
        "score": outcome.score,
        "seconds": outcome.seconds,
        "message": message,
    }


def _kept(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("state", "seconds", "message")}


def _refuse_another_way(asked: Mapping[str, Any], proposal: Proposal, study: StudyFolder) -> None:
    if Recipe.model_validate(asked["recipe"]) != proposal.recipe:
        raise RunError(
            f"run {proposal.number} of this study was asked for with another recipe than it would be now: the code or its "
            "records have changed since.",
            where=str(study.path),
            cure="Resume with the version that began it, or start a new study.",
        )
