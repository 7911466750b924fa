"""Worker processes of this machine, beyond what every executor promises (test_contract.py). Real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from trainwright.errors import RunError
from trainwright.execution.jobs import Ended
from trainwright.execution.processes import Processes


@pytest.fixture
def processes(tmp_path: Path, jobs: dict[str, str]) -> Any:
    """(slots, …) → Processes whose jobs are those of JOBS."""

    def make(slots: int, **more: Any) -> Processes:
        each = {slot: {**jobs, "SLOT": str(slot)} for slot in range(slots)}
        return Processes("jobs:work", slots=slots, environments=each, log=tmp_path / "log", **more)

    return make


def all_of(processes: Processes) -> dict[int, Ended]:
    """Every job that is under way, by its key, once all have ended."""
    ended: dict[int, Ended] = {}
    while processes.under_way:
        ended |= {one.key: one for one in processes.wait()}
    return ended


def test_each_worker_has_the_environment_of_its_slot(processes):
    with processes(2) as pool:
        for key in range(2):
            pool.submit(key, ["echo", key])
        free = pool.free
        ended = all_of(pool)

    assert free == 0
    assert {ended[key].value["threads"] for key in range(2)} == {"0", "1"}


def test_a_worker_is_used_again(processes):
    with processes(1) as pool:
        pool.submit(0, ["echo", 1])
        pool.submit(1, ["echo", 2])
        ended = all_of(pool)

    assert ended[0].value["pid"] == ended[1].value["pid"]


def test_a_worker_whose_parent_is_killed_ends(jobs):
    """The end of its standard input is its own: a pipe closes with whoever held it."""
    import subprocess
    import sys

    parent = f"""
import sys, time
from trainwright.execution.processes import Processes
with Processes("jobs:work", slots=1, environments={{0: {jobs!r}}},
               heard=lambda key, event: print(event["begun"], flush=True)) as pool:
    pool.submit(0, ["until stopped", None])
    while True:
        pool.wait()
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        worker = int(process.stdout.readline())  # type: ignore[union-attr]
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
        time.sleep(0.02)

    assert not Path(f"/proc/{worker}").exists()


def test_workers_that_cannot_start_are_an_error_and_not_a_wait(tmp_path):
    def wait(pool: Processes) -> None:
        for _ in range(60):
            pool.wait(seconds=1.0)

    with Processes("no_such_module:work", slots=1, log=tmp_path / "log") as pool:  # noqa: SIM117
        with pytest.raises(RunError, match="a worker process ended by itself with status 1"):
            wait(pool)
