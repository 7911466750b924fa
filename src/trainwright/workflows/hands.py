"""Who carries out the runs of a study: this process, one after the other, or several worker processes at a time."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from trainwright import plugins
from trainwright.data.dataset import Dataset
from trainwright.errors import OutOfResourcesError
from trainwright.execution.jobs import Ended
from trainwright.records import Proposal
from trainwright.workflows.executors import executor_for, given_by_code, options_there
from trainwright.workflows.options import RunOptions
from trainwright.workflows.outcomes import OPTIONAL, ended
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.trial import carry_out, job_of

if TYPE_CHECKING:
    from torch import nn

MOST_AT_ONCE = 4  # a control and the arms of a round (search/coach.py)
SAVING_SECONDS = 30.0  # for runs beside one that ended in an error, to save what they have
MEMORY_BYTES = 2 * 2**30  # of a worker: torch, a network and its gradients; the images are mapped, and shared
WORTH_IT_SECONDS = 150.0  # budgets from which on starting workers, some 7 s each, is under a twentieth


@dataclass(frozen=True, kw_only=True)
class Done:
    """A trial that came to an end. record: its `tell`; None where somebody asked to stop. seconds: wall-clock it took."""

    number: int
    record: dict[str, Any] | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Threads:
    """Of torch: of the whole study, and the share of a run that others may be trained beside. They depend on what the study was
    asked for alone, and not on who carries it out: other threads give other bits."""

    whole: int
    share: int

    def of(self, proposal: Proposal) -> int:
        return self.whole if proposal.alone else self.share


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
    threads: Threads | None = None
    model: nn.Module | None = None
    slots: int = 1
    _next: list[tuple[Proposal, Path]] = field(default_factory=list)

    def submit(self, proposal: Proposal, path: Path) -> None:
        self._next.append((proposal, path))

    def wait(self) -> list[Done]:
        proposal, path = self._next.pop(0)
        options = self.options
        if self.threads is not None:
            options = replace(options, threads=self.threads.of(proposal))
        record = carry_out(proposal, path, data=self.data, options=options, model=copy.deepcopy(self.model))
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
    """In worker processes, of this machine or of a cluster's."""

    def __init__(self, *, slots: int, data: Dataset, options: RunOptions, threads: Threads, log: Path) -> None:
        """log: file that takes what the workers print."""
        self.slots, self._threads = slots, threads
        self._data, self._options = data, options
        self._processes = executor_for(slots=slots, data=data, options=options, log=log, heard=self._hear)
        self._trials: dict[int, tuple[Proposal, Path]] = {}
        self._far: dict[int, Mapping[str, Any]] = {}

    def submit(self, proposal: Proposal, path: Path) -> None:
        threads = self._threads.of(proposal)
        options = replace(options_there(self._options), threads=threads)
        self._trials[proposal.number] = (proposal, path)
        job = job_of(proposal, path, data=self._data, options=options)
        self._processes.submit(proposal.number, job, threads=threads)

    def wait(self) -> list[Done]:
        done: list[Done] = []
        for one in self._processes.wait():
            proposal, path = self._trials.pop(one.key)
            self._far.pop(one.key, None)
            if one.error is not None:
                self._let_the_others_save()
                raise one.error
            record = self._dead(proposal, path, one) if one.died else one.value
            done.append(Done(number=one.key, record=record, seconds=one.seconds))
        for number in self._trials.keys() - set(self._processes.under_way):  # stopped before any worker had it
            del self._trials[number]
            done.append(Done(number=number, record=None, seconds=0.0))
        return done

    def _let_the_others_save(self) -> None:
        """Before an error ends the study: those beside it stop as if somebody had asked them to."""
        self._processes.stop()
        until = time.monotonic() + SAVING_SECONDS
        while self._processes.under_way and time.monotonic() < until:
            self._processes.wait()

    def _dead(self, proposal: Proposal, path: Path, one: Ended) -> dict[str, Any]:
        """Of a trial whose process died more than once. Raises where the study cannot do without it."""
        how = f"{one.died}, {'twice' if one.starts == 2 else f'{one.starts} times'}"
        if proposal.role not in OPTIONAL:
            raise OutOfResourcesError(
                f"the process that trained it {how}.",
                where=path.name,
                cure="Give the machine more room, or resume with one training at a time: --slots 1.",
            )
        return ended(proposal, path, state="failed", seconds=one.seconds, message=f"its process {how}.")

    def stop(self) -> None:
        self._processes.stop()

    def _hear(self, number: int, event: Mapping[str, Any]) -> None:
        """Say how far all are, as one piece of work."""
        if "note" in event:
            self._options.reporter.note(event["note"])
            return
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


def made_here(prepared: Prepared, content: Mapping[str, Any]) -> str:
    """What of a study this process alone has, so that no other can carry out its runs; empty where there is nothing.

    content: of `study.json`.
    """
    recipe = prepared.recipe
    if by_code := given_by_code(content):
        return by_code
    named = (
        (plugins.tasks, recipe.task or prepared.task.name, "task"),
        (plugins.networks, recipe.network.name, "network"),
        (plugins.losses, recipe.loss.name or "", "loss"),
        (plugins.optimizers, recipe.optimizer.name, "optimizer"),
        (plugins.schedules, recipe.schedule.name, "schedule"),
    )
    own = [f"the {what} {name!r}" for registry, name, what in named if registry.is_made_here(name)]
    return f"{' and '.join(own)} was registered by this program" if own else ""


def slots_for(*, device: str, threads: int, budget_seconds: float | None) -> int:
    """How many trainings at a time pay, where other processes can carry them out.

    On a CPU small steps leave threads idle: two processes of one thread do 1.6 times the work of one of two (docs/log.md).
    """
    if device != "cpu" or (budget_seconds is not None and budget_seconds < WORTH_IT_SECONDS):
        return 1
    room = psutil.virtual_memory().available // MEMORY_BYTES
    return max(1, min(threads, MOST_AT_ONCE, os.cpu_count() or 1, room))
