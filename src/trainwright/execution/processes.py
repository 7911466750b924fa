"""Jobs in processes of this machine, several at a time: one worker for each slot, started once and used again.

A worker that dies costs its own job alone, and that once: it is given to a fresh one. What a job is called with and what it
answers is plain JSON (`worker`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from trainwright.errors import RunError
from trainwright.execution.jobs import MOST_STARTS, WAIT_SECONDS, Ended, Heard, Key, error_of

ENDING_SECONDS = 5.0  # for a worker to end once it has closed its output
# Idle threads of OpenMP spin by default, and take the core that another worker needs.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}


@dataclass(kw_only=True, eq=False)
class _Worker:
    slot: int
    process: subprocess.Popen[bytes]
    job: _Job | None = None
    ready: bool = False
    rest: bytes = b""


@dataclass(kw_only=True)
class _Job:
    key: Key
    argument: Any
    limit_seconds: float | None
    began: float = field(default_factory=time.monotonic)
    starts: int = 0
    late: bool = False


class Processes:
    """Worker processes that call one function. A context manager: at its end no worker is left.

    call: `module:function`, as `worker` has it. slots: how many jobs at a time. environments: of each slot, on top of this
    process's, as its part of the devices. log: file that takes what workers print, or None to pass it on.
    """

    def __init__(
        self,
        call: str,
        *,
        slots: int,
        environments: Mapping[int, Mapping[str, str]] | None = None,
        log: Path | None = None,
        heard: Heard = lambda key, event: None,
    ) -> None:
        """heard: called with every event that a job sends while it works."""
        if slots < 1:
            raise ValueError(f"slots: expected 1 or more, got {slots}")
        self.slots = slots
        self._call, self._environments, self._log, self._heard = call, environments or {}, log, heard
        self._workers: list[_Worker] = []
        self._waiting: list[_Job] = []
        self._selector = selectors.DefaultSelector()
        self._stopping = False

    def __enter__(self) -> Processes:
        for slot in range(self.slots):
            self._start(slot)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def under_way(self) -> list[Key]:
        """Jobs that have not ended, in the order in which they were given."""
        jobs = [worker.job for worker in self._workers if worker.job is not None]
        return sorted(job.key for job in [*jobs, *self._waiting])

    @property
    def free(self) -> int:
        """Slots that have nothing to do."""
        return max(0, self.slots - len(self.under_way))

    def submit(self, key: Key, argument: Any, *, threads: int = 1, limit_seconds: float | None = None) -> None:
        """Give a job to the next free worker. limit_seconds: wall-clock after which it is ended as one whose worker died.

        threads: nothing here; a worker has a slot, whatever it computes with.
        """
        self._waiting.append(_Job(key=key, argument=argument, limit_seconds=limit_seconds))
        self._hand_out()

    def wait(self, *, seconds: float = WAIT_SECONDS) -> list[Ended]:
        """The jobs that have ended since the last call; waits for one for `seconds` at most."""
        ended: list[Ended] = []
        for ready, _ in self._selector.select(timeout=seconds):
            ended += self._read(ready.data)
        ended += self._end_late_ones()
        self._hand_out()
        return ended

    def stop(self) -> None:
        """Ask every job to save and end; those that wait for a worker are dropped."""
        self._stopping = True
        self._waiting.clear()
        for worker in self._workers:
            if worker.job is not None:
                self._send(worker, {"kind": "stop", "key": worker.job.key})

    def close(self) -> None:
        """End all workers. What a job has saved stays saved."""
        self._waiting.clear()
        for worker in self._workers:
            with contextlib.suppress(OSError):
                worker.process.stdin.close()  # type: ignore[union-attr]
        until = time.monotonic() + 2.0
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=max(0.0, until - time.monotonic()))
            self._dismiss(worker)
        self._workers.clear()

    # Workers

    def _start(self, slot: int) -> None:
        log: IO[bytes] | None = None if self._log is None else self._log.open("ab")
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "trainwright.execution.worker", self._call],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **ENVIRONMENT, **self._environments.get(slot, {})},
                process_group=0,  # Ctrl-C is the parent's to answer; its session stays, and with it its share of the machine
            )
        finally:
            if log is not None:
                log.close()
        worker = _Worker(slot=slot, process=process)
        os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        self._workers.append(worker)

    def _dismiss(self, worker: _Worker, *, wait_seconds: float = 0.0) -> int:
        """Make sure that it has ended; its exit status, negative for a signal. wait_seconds: for it to end by itself."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.process.stdout)  # type: ignore[arg-type]
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(timeout=wait_seconds)
        if worker.process.poll() is None:
            worker.process.kill()
        status = worker.process.wait()
        for stream in (worker.process.stdin, worker.process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        return status

    def _replace(self, worker: _Worker, *, wait_seconds: float) -> int:
        status = self._dismiss(worker, wait_seconds=wait_seconds)
        self._workers.remove(worker)
        self._start(worker.slot)
        return status

    # Jobs

    def _hand_out(self) -> None:
        for worker in sorted(self._workers, key=lambda worker: worker.slot):
            if not self._waiting:
                return
            if worker.job is None:
                worker.job = self._waiting.pop(0)
                worker.job.starts += 1
                self._send(worker, {"kind": "job", "key": worker.job.key, "argument": worker.job.argument})

    def _send(self, worker: _Worker, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # a dead worker is found by what it no longer says
            worker.process.stdin.write(json.dumps(message).encode() + b"\n")  # type: ignore[union-attr]
            worker.process.stdin.flush()  # type: ignore[union-attr]

    def _read(self, worker: _Worker) -> list[Ended]:
        try:
            data = worker.process.stdout.read()  # type: ignore[union-attr]
        except BlockingIOError:
            return []
        if data is None:
            return []
        if not data:
            return self._died(worker)
        *lines, worker.rest = (worker.rest + data).split(b"\n")
        ended: list[Ended] = []
        for line in lines:
            ended += self._told(worker, json.loads(line))
        return ended

    def _told(self, worker: _Worker, message: Mapping[str, Any]) -> list[Ended]:
        job = worker.job
        if message["kind"] == "ready":
            worker.ready = True
        if job is None:
            return []
        if message["kind"] == "event":
            self._heard(job.key, message["value"])
        if message["kind"] not in ("done", "error"):
            return []
        worker.job = None
        seconds = time.monotonic() - job.began
        if message["kind"] == "done":
            return [Ended(key=job.key, value=message["value"], seconds=seconds)]
        return [Ended(key=job.key, error=error_of(message), seconds=seconds)]

    def _died(self, worker: _Worker) -> list[Ended]:
        job = worker.job
        late = job is not None and job.late
        status = self._replace(worker, wait_seconds=0.0 if late else ENDING_SECONDS)
        if not worker.ready and not late:
            raise RunError(
                f"a worker process could not start (it {_how(status)}).",
                where=str(self._log or ""),
                cure="Look at what it printed; one training at a time needs no worker (--slots 1).",
            )
        if job is None:  # a fresh one stands in for it already
            return []
        if self._stopping:
            return [Ended(key=job.key, seconds=time.monotonic() - job.began)]
        if job.starts < MOST_STARTS and not late:
            self._waiting.insert(0, job)
            return []
        how = "took longer than it may" if late else _how(status)
        return [Ended(key=job.key, died=how, seconds=time.monotonic() - job.began)]

    def _end_late_ones(self) -> list[Ended]:
        ended: list[Ended] = []
        now = time.monotonic()
        for worker in list(self._workers):
            job = worker.job
            if job is not None and job.limit_seconds is not None and now - job.began > job.limit_seconds:
                job.late = True
                ended += self._died(worker)
        return ended


def _how(status: int) -> str:
    if status == -9:
        return "was killed (signal 9, as the system does when memory runs out)"
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
