"""Who carries out the runs of a study: this process, one after the other, or several worker processes at a time."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from trainwright.data.dataset import Dataset
from trainwright.errors import OutOfResourcesError
from trainwright.execution.processes import Processes
from trainwright.records import Proposal
from trainwright.workflows.options import RunOptions
from trainwright.workflows.outcomes import OPTIONAL, ended
from trainwright.workflows.trial import JOB, carry_out, job_of

if TYPE_CHECKING:
    from torch import nn

MOST_AT_ONCE = 4  # a control and the arms of a round (search/coach.py)
MEMORY_BYTES = 2 * 2**30  # of a worker: torch, a network and its gradients; the images are mapped, and shared
WORTH_IT_SECONDS = 150.0  # budgets from which on starting workers, some 7 s each, is under a twentieth


@dataclass(frozen=True, kw_only=True)
class Done:
    """A trial that came to an end. record: its `tell`; None where somebody asked to stop. seconds: wall-clock it took."""

    number: int
    record: dict[str, Any] | None
    seconds: float


class Hands(Protocol):
    """Carries out trials, `slots` at a time at most. A context manager."""

    slots: int

    def submit(self, proposal: Proposal, path: Path) -> None:
        """Begin it, or go on with it. path: its run folder."""
        ...

    def wait(self) -> list[Done]:
        """Those that have ended since the last call; may be none."""
        ...

    def stop(self) -> None:
        """Ask all that are under way to save and end."""
        ...

    def __enter__(self) -> Hands: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(kw_only=True)
class InTurn:
    """In this process, one after the other."""

    data: Dataset
    options: RunOptions
    model: nn.Module | None = None
    slots: int = 1
    _next: list[tuple[Proposal, Path]] = field(default_factory=list)

    def submit(self, proposal: Proposal, path: Path) -> None:
        self._next.append((proposal, path))

    def wait(self) -> list[Done]:
        proposal, path = self._next.pop(0)
        record = carry_out(proposal, path, data=self.data, options=self.options, model=copy.deepcopy(self.model))
        return [Done(number=proposal.number, record=record, seconds=0.0 if record is None else record["seconds"])]

    def stop(self) -> None:
        self._next.clear()

    def __enter__(self) -> InTurn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class AtOnce:
    """In worker processes. Each trial has its share of the threads; one that is asked for alone has all of them."""

    def __init__(self, *, slots: int, data: Dataset, options: RunOptions, threads: int, log: Path) -> None:
        """threads: of the whole study. log: file that takes what the workers print."""
        self.slots, self._threads = slots, threads
        self._data, self._options = data, options
        self._processes = Processes(JOB, slots=slots, log=log, heard=self._hear)
        self._trials: dict[int, tuple[Proposal, Path]] = {}
        self._far: dict[int, Mapping[str, Any]] = {}

    def submit(self, proposal: Proposal, path: Path) -> None:
        threads = self._threads if proposal.alone else max(1, self._threads // self.slots)
        options = replace(self._options, threads=threads)
        self._trials[proposal.number] = (proposal, path)
        self._processes.submit(proposal.number, job_of(proposal, path, data=self._data, options=options))

    def wait(self) -> list[Done]:
        done: list[Done] = []
        for one in self._processes.wait():
            proposal, path = self._trials.pop(one.key)
            self._far.pop(one.key, None)
            if one.error is not None:
                raise one.error
            record = self._dead(proposal, path, one.died, one.seconds) if one.died else one.value
            done.append(Done(number=one.key, record=record, seconds=one.seconds))
        for number in self._trials.keys() - set(self._processes.under_way):  # stopped before any worker had it
            del self._trials[number]
            done.append(Done(number=number, record=None, seconds=0.0))
        return done

    def _dead(self, proposal: Proposal, path: Path, how: str, seconds: float) -> dict[str, Any]:
        """Of a trial whose process died twice. Raises where the study cannot do without it."""
        if proposal.role not in OPTIONAL:
            raise OutOfResourcesError(
                f"the process that trained it {how}, twice.",
                where=path.name,
                cure="Give the machine more room, or train one at a time: --slots 1.",
            )
        return ended(proposal, path, state="failed", seconds=seconds, message=f"its process {how}, twice.")

    def stop(self) -> None:
        self._processes.stop()

    def _hear(self, number: int, event: Mapping[str, Any]) -> None:
        """Say how far all are, as one piece of work."""
        if not str(event["what"]).endswith(": epochs"):
            return
        self._far[number] = event
        label = ", ".join(str(far["what"]).removesuffix(": epochs") for _, far in sorted(self._far.items()))
        done, total = (sum(far[key] for far in self._far.values()) for key in ("done", "total"))
        self._options.reporter.progress(f"{label}: epochs", done, total)

    def __enter__(self) -> AtOnce:
        self._processes.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._processes.close()


def slots_for(*, device: str, threads: int, budget_seconds: float | None, elsewhere: bool) -> int:
    """How many trainings at a time pay. elsewhere: whether another process can open the data and build the network.

    On a CPU small steps leave threads idle: two processes of one thread do 1.6 times the work of one of two (docs/log.md).
    """
    if device != "cpu" or not elsewhere or (budget_seconds is not None and budget_seconds < WORTH_IT_SECONDS):
        return 1
    room = psutil.virtual_memory().available // MEMORY_BYTES
    return max(1, min(threads, MOST_AT_ONCE, os.cpu_count() or 1, room))
