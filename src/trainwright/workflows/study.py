"""A study from its question to its answer: a strategy asks, runs are trained, outcomes are told, everything is journaled.

Killed at any moment and resumed, it tells its strategy the journal again and goes on where it stopped (decision 7).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trainwright.errors import RunError
from trainwright.plugins import Strategy
from trainwright.recipe import Recipe
from trainwright.records import Proposal
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows.hands import Hands
from trainwright.workflows.outcomes import outcome_of

SEARCHES = ("trial",)  # roles whose asks say what a search needs to take them over
SEARCHED = ("changes", "continues", "epochs_now", "stage")


class Teller(Protocol):
    """A strategy that tells its story as it goes."""

    entries: list[Any]


@runtime_checkable
class Restoring(Protocol):
    """A strategy that takes over what it asked for before a kill, without working it out again."""

    def restore(self, record: Mapping[str, Any]) -> Proposal | None:
        """The proposal of an `ask` record, in the order of their numbers; None where it has to be told an outcome first."""
        ...


@dataclass(kw_only=True)
class Conductor:
    """Carries a study out: asks for as many runs as there are hands, and tells what came of them in the order of their numbers.

    runs: folder of run folders. told: called with every new sentence of the story.
    """

    study: StudyFolder
    strategy: Strategy
    hands: Hands
    runs: Path
    stop_asked: Callable[[], bool] = lambda: False
    told: Callable[[Any], None] = lambda entry: None
    _said: int = field(default=0, init=False)
    _asked: int = field(default=0, init=False)  # proposals so far
    _open: dict[int, Proposal] = field(default_factory=dict, init=False)  # asked for and not told
    _records: dict[int, dict[str, Any]] = field(default_factory=dict, init=False)  # of those, what came of them
    _left_off: set[int] = field(default_factory=set, init=False)  # of those, stopped because somebody asked to
    _clock: Clock = field(init=False)

    def carry_out(self) -> bool:
        """Go on until the strategy wants no more; False where somebody asked to stop before."""
        tells, asks = self.study.numbered("tell"), self.study.numbered("ask")
        entries = sum(1 for _ in self.study.records("entry"))
        self._clock = Clock(self.hands.slots)
        self._tell_story(known=entries)
        stopping = False
        restores = isinstance(self.strategy, Restoring)
        while (restores and self._asked in asks) or not self.strategy.done:
            asked = not stopping and self._ask(asks, tells)
            told = self._tell(tells)
            self._tell_story(known=entries)
            if asked or told:
                continue
            waiting = self._open.keys() - self._records.keys() - self._left_off
            if stopping and not waiting:
                return False
            if not waiting:
                raise RuntimeError("the strategy waits for an outcome, and no run is under way")
            stopping = self._wait(stopping)
        self._tell_story(known=entries)  # what was said as it found that nothing is left to be done
        return True

    def _ask(self, asks: Mapping[int, Mapping[str, Any]], tells: Mapping[int, dict[str, Any]]) -> bool:
        """Ask for one more run where a hand is free, and begin it; whether there was one."""
        under_way = sum(number not in self._records for number in self._open)
        if under_way >= self.hands.slots:
            return False
        if self._asked in asks and isinstance(self.strategy, Restoring):
            proposal: Proposal | None = self.strategy.restore(asks[self._asked])
        else:
            proposal = self.strategy.ask()
        if proposal is None:
            return False
        number = proposal.number
        self._asked += 1
        if number in asks:
            _refuse_another_way(asks[number], proposal, self.study)
        else:
            self.study.append("ask", _asked(proposal))
        self._open[number] = proposal
        if number in tells:
            self._records[number] = tells[number]
        else:
            self._clock.begin(number)
            self.hands.submit(proposal, self._path(proposal))
        return True

    def _tell(self, tells: Mapping[int, Any]) -> bool:
        """Tell the next outcome, if it is there."""
        number = min(self._open, default=-1)
        if number not in self._records:
            return False
        record, proposal = self._records.pop(number), self._open.pop(number)
        if number not in tells:
            record = {**record, "elapsed": self._clock.elapsed(number)}
            self.study.append("tell", record)
        else:
            self._clock.passed(record.get("elapsed", record["seconds"]))
        self.strategy.tell(outcome_of(record, proposal, self._path(proposal)))
        return True

    def _wait(self, stopping: bool) -> bool:
        """Take in what has ended; whether no more is to be begun."""
        for done in self.hands.wait():
            if done.record is None:
                self._left_off.add(done.number)
                stopping = True
            else:
                self._records[done.number] = done.record
                self._clock.end(done.number, max(done.seconds, done.record["seconds"]))
        if self.stop_asked():
            self.hands.stop()
            stopping = True
        return stopping

    def _tell_story(self, *, known: int) -> None:
        """Journal and pass on what the strategy has said since the last time; what the journal has already is passed over."""
        entries = getattr(self.strategy, "entries", [])
        for index in range(self._said, len(entries)):
            if index >= known:
                self.study.append("entry", entries[index])
                self.told(entries[index])
        self._said = len(entries)

    def _path(self, proposal: Proposal) -> Path:
        """Where its run lies, or will lie: that of the proposal which began the training."""
        began = proposal.number if proposal.continues is None else proposal.continues
        return self.runs / self.study.run_id(began)


class Clock:
    """Wall-clock that a study has spent, for runs that overlap: what is told is how far it went on since the outcome before.

    A run that was gone on with after a kill counts as long as it took in all.
    """

    def __init__(self, slots: int) -> None:
        self._now = 0.0  # seconds of the study, at the last outcome that was told
        self._free = [0.0] * slots  # when each slot became free
        self._began: dict[int, float] = {}
        self._ends: dict[int, float] = {}
        self._real = time.monotonic()

    def begin(self, number: int) -> None:
        self._free.sort()
        self._began[number] = max(self._free.pop(0) if self._free else 0.0, self._now)

    def end(self, number: int, seconds: float) -> None:
        self._ends[number] = self._began.pop(number) + seconds
        self._free.append(self._ends[number])

    def elapsed(self, number: int) -> float:
        """Since the outcome before this one was told; the run has ended."""
        real = time.monotonic()
        seconds = max(0.0, self._ends.pop(number) - self._now, real - self._real)
        self._real = real
        self._now += seconds
        return seconds

    def passed(self, seconds: float) -> None:
        """An outcome was told that the journal had already."""
        self._now += seconds


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
        **({key: getattr(proposal, key) for key in SEARCHED} if proposal.role in SEARCHES else {}),
    }


def _refuse_another_way(asked: Mapping[str, Any], proposal: Proposal, study: StudyFolder) -> None:
    if asked["recipe"] == proposal.recipe.model_dump(mode="json"):
        return
    if Recipe.model_validate(asked["recipe"]) != proposal.recipe:  # a version before may have written it otherwise
        raise RunError(
            f"run {proposal.number} of this study was asked for with another recipe than it would be now: the code or its "
            "records have changed since.",
            where=str(study.path),
            cure="Resume with the version that began it, or start a new study.",
        )
