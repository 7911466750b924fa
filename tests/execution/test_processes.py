"""Jobs in worker processes: what they answer, what they raise, and what becomes of them when a worker dies. Real processes."""

from __future__ import annotations

import os
import signal
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from trainwright.errors import DataError, RunError
from trainwright.execution.processes import Ended, Processes

JOBS = """
import os, sys, time
from pathlib import Path
from trainwright.errors import DataError

def work(argument, send, stop_asked):
    kind, value = argument
    if kind == "echo":
        print("this is printed and no answer")
        send({"seen": value})
        return {"value": value, "pid": os.getpid(), "threads": os.environ.get("SLOT")}
    if kind == "raise":
        raise DataError("it is broken.", where="a.png", cure="Mend it.")
    if kind == "fail":
        return {}["nothing"]
    if kind == "die once" and not Path(value).exists():
        Path(value).touch()
        os.kill(os.getpid(), 9)
    if kind == "die":
        os.kill(os.getpid(), 9)
    if kind == "until":
        while not Path(value).exists():
            time.sleep(0.01)
    if kind == "until stopped":
        send({"begun": os.getpid()})
        while not stop_asked():
            time.sleep(0.01)
        return None
    if kind == "sleep":
        time.sleep(value)
    return "done"
"""


@pytest.fixture
def processes(tmp_path: Path) -> Any:
    """(slots, …) → Processes whose jobs are those of JOBS."""
    (tmp_path / "jobs.py").write_text(textwrap.dedent(JOBS))

    def make(slots: int, **more: Any) -> Processes:
        path = {slot: {"PYTHONPATH": str(tmp_path), "SLOT": str(slot)} for slot in range(slots)}
        return Processes("jobs:work", slots=slots, environments=path, log=tmp_path / "log", **more)

    return make


def all_of(processes: Processes) -> dict[int, Ended]:
    """Every job that is under way, by its key, once all have ended."""
    ended: dict[int, Ended] = {}
    while processes.under_way:
        ended |= {one.key: one for one in processes.wait()}
    return ended


def test_jobs_are_answered_each_by_a_worker_of_its_own_and_what_they_print_goes_to_the_log(processes, tmp_path):
    heard = []
    with processes(2, heard=lambda key, event: heard.append((key, event))) as pool:
        for key in range(2):
            pool.submit(key, ["echo", f"job {key}"])
        free = pool.free
        ended = all_of(pool)

    assert free == 0
    assert [ended[key].value["value"] for key in range(2)] == ["job 0", "job 1"]
    assert {ended[key].value["threads"] for key in range(2)} == {"0", "1"}
    assert sorted(heard) == [(0, {"seen": "job 0"}), (1, {"seen": "job 1"})]
    assert (tmp_path / "log").read_text().count("this is printed") == 2


def test_a_worker_is_used_again(processes):
    with processes(1) as pool:
        pool.submit(0, ["echo", 1])
        pool.submit(1, ["echo", 2])
        ended = all_of(pool)

    assert ended[0].value["pid"] == ended[1].value["pid"]


def test_jobs_really_overlap(processes, tmp_path):
    """The first waits for what the second leaves behind."""
    with processes(2) as pool:
        pool.submit(0, ["until", str(tmp_path / "flag")])
        pool.submit(1, ["die once", str(tmp_path / "flag")])
        ended = all_of(pool)

    assert (ended[0].value, ended[1].value) == ("done", "done")


def test_an_error_of_ours_arrives_as_what_it_was(processes):
    with processes(1) as pool:
        pool.submit(0, ["raise", None])
        error = all_of(pool)[0].error

    assert isinstance(error, DataError)
    assert (error.message, error.where, error.cure) == ("it is broken.", "a.png", "Mend it.")


def test_any_other_error_arrives_with_where_it_came_from(processes):
    with processes(1) as pool:
        pool.submit(0, ["fail", None])
        pool.submit(1, ["echo", "still there"])
        ended = all_of(pool)

    assert str(ended[0].error) == "KeyError: 'nothing'"
    assert 'return {}["nothing"]' in "".join(ended[0].error.__notes__)
    assert ended[1].value["value"] == "still there"


def test_a_job_whose_worker_dies_is_begun_once_more(processes, tmp_path):
    with processes(1) as pool:
        pool.submit(0, ["die once", str(tmp_path / "flag")])
        ended = all_of(pool)[0]

    assert (ended.value, ended.died) == ("done", "")


def test_a_job_whose_worker_dies_twice_costs_itself_and_no_other(processes):
    with processes(2) as pool:
        pool.submit(0, ["die", None])
        pool.submit(1, ["sleep", 0.3])
        pool.submit(2, ["echo", "after it"])
        ended = all_of(pool)

    assert "signal 9" in ended[0].died
    assert ended[1].value == "done"
    assert ended[2].value["value"] == "after it"


def test_a_job_that_takes_longer_than_it_may_is_ended(processes):
    with processes(1) as pool:
        pool.submit(0, ["sleep", 600], limit_seconds=0.1)
        pool.submit(1, ["echo", "after it"])
        ended = all_of(pool)

    assert ended[0].died == "took longer than it may"
    assert ended[1].value["value"] == "after it"


def test_asked_to_stop_a_job_ends_by_itself_and_one_that_waits_is_never_begun(processes):
    began: list[int] = []
    with processes(1, heard=lambda key, event: began.append(key)) as pool:
        pool.submit(0, ["until stopped", None])
        pool.submit(1, ["until stopped", None])
        while not began:
            pool.wait()
        pool.stop()
        ended = all_of(pool)

    assert began == [0]
    assert list(ended) == [0]
    assert (ended[0].value, ended[0].error) == (None, None)


def test_at_the_end_no_worker_is_left(processes):
    pids: list[int] = []
    with processes(2, heard=lambda key, event: pids.append(event["begun"])) as pool:
        for key in range(2):
            pool.submit(key, ["until stopped", None])
        while len(pids) < 2:
            pool.wait()

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_worker_whose_parent_is_killed_ends(tmp_path):
    """The end of its standard input is its own: a pipe closes with whoever held it."""
    import subprocess
    import sys

    (tmp_path / "jobs.py").write_text(textwrap.dedent(JOBS))
    parent = f"""
import sys, time
from trainwright.execution.processes import Processes
with Processes("jobs:work", slots=1, environments={{0: {{"PYTHONPATH": {str(tmp_path)!r}}}}},
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


def test_less_than_one_slot_is_refused():
    with pytest.raises(ValueError, match="slots: expected 1 or more, got 0"):
        Processes("jobs:work", slots=0)
