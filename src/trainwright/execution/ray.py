"""Jobs on the machines of a Ray cluster, as core tasks. The only module that imports ray.

A task starts one worker process (`processes`) on its machine and passes on what that says, so a job runs as it does without
Ray. A job whose machine is lost is given to another, where its run goes on from the checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from trainwright.errors import RunError
from trainwright.execution import cluster, nodes
from trainwright.execution.jobs import MOST_STARTS, WAIT_SECONDS, Ended, Heard, Key, error_of

log = logging.getLogger(__name__)
# Of a job: machines that come and go may take it with them now and then, one that fells every machine goes no further.
MOST_LOSSES = 8
PROBE_SECONDS = 120.0  # for a machine to say what it sees; Ray starts a process for it
ENDING_SECONDS = 5.0  # for jobs to end at the end
UNEASY_SECONDS = 60.0  # without room for a job, before that is said
STORE_BYTES = 80 * 2**20  # of a local cluster's object store: answers are small; Ray takes no less than 75 MiB
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's own switch: without clusters it stays on 127.0.0.1


@dataclass(kw_only=True, eq=False)
class _Job:
    key: Key
    argument: Any
    threads: int
    limit_seconds: float | None
    ref: Any = None
    given: float = 0.0  # to Ray, the last time
    began: float | None = None  # the first time
    attempt: int = 0
    running: bool = False
    stopped: bool = False
    losses: int = 0
    deaths: int = 0  # of those, for want of memory


class Ray:
    """Calls one function on the machines of a cluster. A context manager: at its end no job is left, and nothing else ended.

    call: `module:function`, as `worker` has it. slots: jobs at a time. address: `ray://…`, `host:port`, `auto` for the cluster
    of this machine, or `local` for one of its own; None: RAY_ADDRESS, else `local`. Where this process is connected already,
    that is used. folder, needs: what every machine must see; a mark is kept in the folder. gpus: whether jobs compute on GPUs,
    which are shared out evenly. environment: of workers, on top of their machine's. log: as of `Processes`.
    """

    def __init__(
        self,
        call: str,
        *,
        slots: int,
        folder: Path,
        needs: Sequence[Path] = (),
        address: str | None = None,
        gpus: bool = False,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        heard: Heard = lambda key, event: None,
    ) -> None:
        """Raises MissingPackageError without ray."""
        if slots < 1:
            raise ValueError(f"slots: expected 1 or more, got {slots}")
        cluster.need_ray()
        self.slots = slots
        self._folder, self._needs, self._gpus, self._heard = folder, needs, gpus, heard
        self._address = address or os.environ.get("RAY_ADDRESS") or "local"
        self._place: dict[str, Any] = {
            "call": call,
            "environment": dict(environment or {}),
            "log": log and str(log.absolute()),
        }
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._ours = self._uneasy = False
        self._mark: Path | None = None
        self._task: Any = None
        self._board: Any = None

    def __enter__(self) -> Ray:
        """Connect. Raises RunError where no cluster answers, or its machines lack what jobs need."""
        self._ours = _connect(self._address)
        try:
            self._mark = nodes.mark(self._folder)
            self._place |= {"needs": [str(self._mark), *(str(path.absolute()) for path in self._needs)]}
            self._begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def under_way(self) -> list[Key]:
        """Jobs that have not ended, in the order of their keys."""
        return sorted(job.key for job in [*self._running, *self._waiting])

    @property
    def free(self) -> int:
        """Slots that have nothing to do."""
        return max(0, self.slots - len(self.under_way))

    def submit(self, key: Key, argument: Any, *, threads: int = 1, limit_seconds: float | None = None) -> None:
        """Give a job to the next free machine. threads: cores that are kept for it there, as far as a machine has so many.

        limit_seconds: wall-clock on its machines, after which it is ended as one whose worker died, and not begun again.
        """
        self._waiting.append(_Job(key=key, argument=argument, threads=threads, limit_seconds=limit_seconds))
        self._hand_out()

    def wait(self, *, seconds: float = WAIT_SECONDS) -> list[Ended]:
        """The jobs that have ended since the last call; waits `seconds` at most. Raises RunError where the cluster is lost."""
        import ray
        from ray.exceptions import RayError

        running = {job.ref: job for job in self._running}
        try:
            ready = ray.wait(list(running), num_returns=len(running), timeout=seconds)[0] if running else []
            self._listen()
        except RayError as error:
            raise RunError(f"the cluster was lost ({error}).", where=self._address, cure="Start it again.") from error
        ended = [one for ref in ready for one in self._end(running[ref])]
        self._hand_out()
        self._say_what_waits()
        return ended

    def stop(self) -> None:
        """Ask every job to save and end; those that wait for a machine are dropped."""
        import ray

        self._waiting.clear()
        self._board.stop.remote([(job.key, job.attempt) for job in self._running])
        for job in self._running:
            job.stopped = True
            if not job.running:
                ray.cancel(job.ref)

    def close(self) -> None:
        """End all jobs, and the cluster if it was started here. What a job has saved stays saved."""
        import ray

        self._waiting.clear()
        with contextlib.suppress(Exception):  # a cluster that is gone has nothing left to end
            for job in self._running:
                ray.cancel(job.ref, force=True)
            if self._running:
                refs = [job.ref for job in self._running]
                ray.wait(refs, num_returns=len(refs), timeout=ENDING_SECONDS)
            if self._board is not None:
                ray.kill(self._board)
        self._running.clear()
        self._board = None
        if self._mark is not None:
            self._mark.unlink(missing_ok=True)
        if self._ours:
            with cluster.signals_kept():
                ray.shutdown()
            self._ours = False

    # Machines

    def _begin(self) -> None:
        """Look at the machines, and set up what jobs talk to."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        if not alive:
            raise RunError("no machine of the cluster has a core to give.", where=self._address, cure="Add a machine.")
        self._cores = int(max(node["Resources"]["CPU"] for node in alive))
        counts = [node["Resources"].get("GPU", 0) for node in alive]
        self._share = nodes.gpu_share(counts, self.slots) if self._gpus else 0.0
        if self._gpus:
            alive = [node for node, count in zip(alive, counts, strict=True) if count]
        places = [On(node["NodeID"], soft=False) for node in alive]
        look = ray.remote(_look)
        asked = [
            look.options(num_cpus=0, max_retries=0, scheduling_strategy=place).remote(self._place["needs"])
            for place in places
        ]
        nodes.refuse(_answers(asked))
        # Where the driver is, or its connection ends: what ends that ends the study anyhow.
        here = On(ray.get_runtime_context().get_node_id(), soft=False)
        self._board = ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()
        # Kept for the next job, workers of a connection that is not ours would outlive us.
        self._task = ray.remote(_work) if self._ours else ray.remote(max_calls=1)(_work)

    # Jobs

    def _hand_out(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            self._start(self._waiting.pop(0))

    def _start(self, job: _Job) -> None:
        now = time.monotonic()
        left = job.limit_seconds
        if left is not None and job.began is not None:
            left = max(0.0, left - (now - job.began))
        job.attempt, job.given, job.running = job.attempt + 1, now, False
        order = {"key": job.key, "attempt": job.attempt, "argument": job.argument, "limit_seconds": left}
        place = self._task.options(
            num_cpus=min(job.threads, self._cores),
            num_gpus=self._share,
            max_retries=0,  # we know which losses are the job's own
            scheduling_strategy="SPREAD",
            name=f"trainwright job {job.key}",
        )
        job.ref = place.remote(json.dumps(self._place | order), self._board)
        self._running.append(job)

    def _listen(self) -> None:
        """Take in what jobs have sent; what comes from an attempt that was lost is passed over."""
        import ray
        from ray.exceptions import ActorUnavailableError

        attempts = {(job.key, job.attempt): job for job in self._running}
        sent: list[tuple[Key, int, str]] = []
        with contextlib.suppress(ActorUnavailableError):  # for now: Ray raises another error once it is lost
            sent = ray.get(self._board.take.remote())
        for key, attempt, events in sent:
            job = attempts.get((key, attempt))
            if job is None:
                continue
            job.running = True
            job.began = job.began or time.monotonic()
            for event in json.loads(events):
                self._heard(key, event)

    def _end(self, job: _Job) -> list[Ended]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        self._running.remove(job)
        seconds = 0.0 if job.began is None else time.monotonic() - job.began
        try:
            answer = json.loads(ray.get(job.ref))
        except RayTaskError as error:
            if isinstance(error.cause, RayError):  # it reached nobody for a while
                return self._lost(job, error, seconds)
            return [Ended(key=job.key, error=RuntimeError(str(error)), seconds=seconds)]
        except RayError as error:
            return self._lost(job, error, seconds)
        if answer["kind"] == "dropped":
            return []
        if answer["kind"] == "error":
            return [Ended(key=job.key, error=error_of(answer), seconds=seconds)]
        return [Ended(key=job.key, value=answer["value"], died=answer["died"], seconds=seconds)]

    def _lost(self, job: _Job, error: Exception, seconds: float) -> list[Ended]:
        """A job whose machine is gone, or ran out of memory: once more, unless somebody wants an end."""
        from ray.exceptions import OutOfMemoryError

        if job.stopped:
            return []
        job.losses += 1
        job.deaths += isinstance(error, OutOfMemoryError)
        if job.deaths < MOST_STARTS and job.losses < MOST_LOSSES:
            log.info("job %s was lost (%s); it is given to another machine", job.key, type(error).__name__)
            self._waiting.insert(0, job)
            return []
        how = "was ended because its machine ran out of memory" if job.deaths else "was lost with its machine"
        return [Ended(key=job.key, died=how, starts=job.deaths or job.losses, seconds=seconds)]

    def _say_what_waits(self) -> None:
        now = time.monotonic()
        begun = all(job.running or now - job.given < UNEASY_SECONDS for job in self._running)
        if not begun and not self._uneasy:
            log.warning("no machine of the cluster has room for a training; it waits until one has")
        self._uneasy = not begun


# In the cluster


class _Board:
    """What the driver and its jobs tell each other."""

    def __init__(self) -> None:
        self._events: list[tuple[Key, int, str]] = []
        self._stopped: set[tuple[Key, int]] = set()

    def exchange(self, key: Key, attempt: int, events: str) -> bool:
        """By a job: its events, as JSON. Whether it is to stop."""
        self._events.append((key, attempt, events))
        return (key, attempt) in self._stopped

    def take(self) -> list[tuple[Key, int, str]]:
        """By the driver: the events since the last time."""
        events, self._events = self._events, []
        return events

    def stop(self, jobs: Sequence[tuple[Key, int]]) -> None:
        self._stopped |= {(key, attempt) for key, attempt in jobs}


def _work(order: str, board: Any) -> str:
    """Carry one job out on this machine; its answer as JSON."""
    import ray

    given = json.loads(order)

    def exchange(events: Sequence[Mapping[str, Any]]) -> bool:
        return bool(ray.get(board.exchange.remote(given["key"], given["attempt"], json.dumps(events))))

    return json.dumps(nodes.work(given, exchange))


def _look(needs: Sequence[str]) -> dict[str, Any]:
    return nodes.look(needs)


# The connection


def _connect(address: str) -> bool:
    """Connect this process; False where it is connected already. Raises RunError where no cluster answers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        os.environ.setdefault(LOOPBACK, "0")
    elif address != "auto":
        cluster.refuse_silence(address)
    import ray

    if ray.is_initialized():
        return False
    cluster.tighten_token(create=address == "local")
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == "local" else {}
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with cluster.signals_kept():
            ray.init(address=address, **quiet, **own)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise cluster.no_cluster(address, str(error)) from error
    finally:
        cluster.tighten_token(create=False)
    # What happens to nodes is printed on the standard output, log_to_driver or not; there stand results. No public switch.
    ray._private.worker._worker_logs_enabled = False
    return True


def _answers(asked: Sequence[Any]) -> list[dict[str, Any]]:
    """What the machines say that have not gone since they were asked. Raises RunError where none answers."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_SECONDS)
    found = []
    for ref in ready:
        try:
            found.append(ray.get(ref))
        except RayTaskError as error:
            raise RunError(
                f"a machine of the cluster cannot run trainwright ({error.cause or error}).",
                where="executor ray",
                cure="Install the same version on every machine.",
            ) from error
        except RayError:  # a machine that has gone since
            continue
    if not found:
        raise RunError(
            f"no machine of the cluster answered within {PROBE_SECONDS:.0f} s ({len(late)} were asked).",
            where="executor ray",
            cure="Look at 'ray status'.",
        )
    return found
