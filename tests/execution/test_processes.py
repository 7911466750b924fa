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


@pytest.mark.parametrize("count", [0, 1])
def test_workers_that_cannot_start_are_an_error_that_says_where_to_look(tmp_path, count):
    def wait(pool: Processes) -> None:
        for key in range(count):
            pool.submit(key, None)
        for _ in range(60):
            pool.wait(seconds=1.0)

    with Processes("no_such_module:work", slots=1, log=tmp_path / "log") as pool:  # noqa: SIM117
        with pytest.raises(RunError, match=r"log: a worker process could not start .it ended with status 1"):
            wait(pool)

    assert "No module named 'no_such_module'" in (tmp_path / "log").read_text()


def test_an_idle_worker_that_is_killed_is_replaced(processes):
    with processes(1) as pool:
        pool.submit(0, ["echo", None])
        first = all_of(pool)[0].value["pid"]
        os.kill(first, signal.SIGKILL)
        while Path(f"/proc/{first}").exists():
            pool.wait()
        pool.submit(1, ["echo", None])
        second = all_of(pool)[1].value["pid"]

    assert first != second


def test_a_worker_that_dies_after_it_was_asked_to_stop_begins_nothing_anew(processes):
    began: list[int] = []
    with processes(1, heard=lambda key, event: began.append(event["begun"])) as pool:
        pool.submit(0, ["until stopped", None])
        while not began:
            pool.wait()
        os.kill(began[0], signal.SIGSTOP)  # it cannot hear that it is to stop
        pool.stop()
        os.kill(began[0], signal.SIGKILL)
        ended = all_of(pool)

    assert (ended[0].value, ended[0].error, ended[0].died) == (None, None, "")
    assert len(began) == 1


def test_a_job_that_is_to_stop_before_its_worker_has_started_stops(processes):
    with processes(1) as pool:
        pool.submit(0, ["until stopped", None])
        pool.stop()
        ended = all_of(pool)

    assert (ended[0].value, ended[0].error) == (None, None)
