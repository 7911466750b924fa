"""A machine of a cluster: what it must have before it is given a job, and how it carries one out."""

from __future__ import annotations

import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import trainwright
from trainwright.errors import RunError, TrainwrightError
from trainwright.execution.jobs import Ended, failure
from trainwright.execution.processes import Processes

MARK = ".reachable-"  # beginning of the name of a file that is there as long as a study is carried out
EXCHANGE_SECONDS = 0.5  # between two words of a job with the driver


def mark(folder: Path) -> Path:
    """A file of a name that nobody has asked for before: a network's file system may remember what it did not find.

    Those that killed programs of this machine left behind are taken away.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = f"{MARK}{platform.node()}."
    for old in folder.glob(f"{MARK}*"):
        if old.name.startswith(ours) and not psutil.pid_exists(int(old.name.rsplit(".", 2)[-2])):
            old.unlink(missing_ok=True)
    path = folder.absolute() / f"{ours}{os.getpid()}.{secrets.token_hex(8)}"
    path.touch()
    return path


def look(needs: Iterable[str]) -> dict[str, Any]:
    """What this machine is, and which of the paths it does not see."""
    return {
        "host": platform.node(),
        "version": trainwright.__version__,
        "missing": [path for path in needs if not Path(path).exists()],
    }


def refuse(found: Sequence[Mapping[str, Any]]) -> None:
    """Raises RunError where a machine, by its `look`, lacks the files or has another version."""
    blind = sorted({one["host"] for one in found if one["missing"]})
    if blind:
        missing = dict.fromkeys(Path(path) for one in found for path in one["missing"])
        paths = " and ".join(str(path.parent if path.name.startswith(MARK) else path) for path in missing)
        raise RunError(
            f"{_machines(blind)} not see {paths}.",
            where="executor ray",
            cure="Put the runs (--runs) and the data into a folder that all machines share under the same path, as of a "
            "network file system, or leave those machines out.",
        )
    other = sorted(
        {f"{one['host']} has {one['version']}" for one in found if one["version"] != trainwright.__version__}
    )
    if other:
        raise RunError(
            f"this is trainwright {trainwright.__version__}, but {', '.join(other)}.",
            where="executor ray",
            cure="Install the same version on every machine.",
        )


def _machines(hosts: Sequence[str]) -> str:
    return f"machine {hosts[0]} does" if len(hosts) == 1 else f"machines {', '.join(hosts)} do"


def gpu_share(gpus: Sequence[float], slots: int) -> float:
    """GPUs of one of `slots` jobs at a time, of machines that have so many: a whole one, or an equal part of one."""
    whole = [int(count) for count in gpus]
    if sum(whole) == 0:
        raise RunError(
            "no machine of the cluster has a GPU.",
            where="executor ray",
            cure="Start its machines with their GPUs (ray start --num-gpus=N), or train on processors: --device cpu.",
        )
    return 1.0 / -(-slots // sum(whole))


@dataclass(kw_only=True)
class _Pool:
    """The worker process of one of Ray's, kept for its next job."""

    of: str
    processes: Processes
    events: list[Mapping[str, Any]]


_pools: list[_Pool] = []  # one, or none


def work(given: Mapping[str, Any], exchange: Callable[[Sequence[Mapping[str, Any]]], bool]) -> dict[str, Any]:
    """Carry one job out in a worker process of this machine, and say what came of it: `done`, `error` or `dropped`.

    given: call, environment, log, needs, key, argument, limit_seconds. exchange: sends events, and says whether to stop.
    """
    try:
        if exchange(()):
            return {"kind": "dropped"}
        refuse([look(given["needs"])])
        return _carried_out(given, exchange)
    except BaseException as error:  # an end that is asked for by Ray, too
        _let_go()
        if isinstance(error, TrainwrightError):
            return failure(error)
        raise


def _carried_out(given: Mapping[str, Any], exchange: Callable[[Sequence[Mapping[str, Any]]], bool]) -> dict[str, Any]:
    pool = _pool(given)
    pool.events.clear()
    pool.processes.submit(given["key"], given["argument"], limit_seconds=given["limit_seconds"])
    said, stopping = time.monotonic(), False
    while True:
        ended = pool.processes.wait()
        if not ended and time.monotonic() - said < EXCHANGE_SECONDS:
            continue
        stop = exchange(pool.events)
        pool.events.clear()
        said = time.monotonic()
        if ended:
            if stopping:
                _let_go()  # it begins nothing any more
            return _answer(ended[0])
        if stop and not stopping:
            stopping = True
            pool.processes.stop()


def _pool(given: Mapping[str, Any]) -> _Pool:
    """The worker process of the job before, where this job may have the same."""
    of = json.dumps([given["call"], given["environment"], given["log"], os.environ.get("CUDA_VISIBLE_DEVICES")])
    if _pools and _pools[0].of == of:
        return _pools[0]
    _let_go()
    events: list[Mapping[str, Any]] = []
    processes = Processes(
        given["call"],
        slots=1,
        environments={0: given["environment"]},
        log=given["log"] and Path(given["log"]),
        heard=lambda key, event: events.append(event),
    )
    _pools.append(_Pool(of=of, processes=processes, events=events))
    processes.__enter__()
    return _pools[0]


def _let_go() -> None:
    while _pools:
        _pools.pop().processes.close()


def _answer(one: Ended) -> dict[str, Any]:
    if one.error is not None:
        return failure(one.error)
    return {"kind": "done", "value": one.value, "died": one.died}
