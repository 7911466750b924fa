"""Ray beyond what every executor promises (test_contract.py): nodes that die, folders they do not see, whole studies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import trainwright as tw
from trainwright.data.digits import write_digits
from trainwright.errors import RunError
from trainwright.execution import nodes as machines
from trainwright.execution.jobs import Ended
from trainwright.execution.ray import Ray

# Ray leaves sockets and processes to the garbage collector.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
SMALL = {"epochs": 2, "network.width": 8, "data.image_size": 16, "precision": "fp32"}


@pytest.fixture
def ray_jobs(nodes: Any, tmp_path: Path, jobs: dict[str, str]) -> Any:
    """(slots, …) → Ray on the cluster, whose jobs are those of JOBS."""

    def make(slots: int, **more: Any) -> Ray:
        given = {"folder": tmp_path / "runs", "address": nodes.address, "environment": jobs, **more}
        return Ray("jobs:work", slots=slots, log=tmp_path / "log", **given)

    return make


def all_of(executor: Ray) -> dict[int, Ended]:
    ended: dict[int, Ended] = {}
    while executor.under_way:
        ended |= {one.key: one for one in executor.wait()}
    return ended


def node_of(pid: int) -> str:
    """The node on which a worker process of ours runs: its parent is Ray's worker, whose parent is the node's raylet."""
    import psutil

    raylet = psutil.Process(pid).parent().parent()
    (name,) = (word for word in raylet.cmdline() if word.startswith("--node_id="))
    return name.partition("=")[2]


def test_a_job_whose_node_dies_ends_on_another_and_nothing_is_printed(nodes, ray_jobs, tmp_path, capfd):
    with ray_jobs(2) as executor:
        executor.submit(0, ["until", str(tmp_path / "flag")], threads=2)  # the head has one core
        first = _worker_of(executor, tmp_path)
        nodes.kill(node_of(first))
        second = _worker_of(executor, tmp_path, after=first)
        (tmp_path / "flag").touch()
        ended = all_of(executor)

    assert (ended[0].value, ended[0].died) == ("done", "")
    assert first != second
    assert capfd.readouterr().out == ""


def _worker_of(executor: Ray, tmp_path: Path, *, after: int = 0) -> int:
    """Process id of the worker that carries out the one job of JOBS, once the one before has ended."""
    import psutil

    def workers() -> list[int]:
        found = []
        for process in psutil.process_iter(["cmdline", "environ"]):
            with contextlib.suppress(psutil.Error):
                line, environment = process.info["cmdline"] or [], process.info["environ"] or {}
                if "trainwright.execution.worker" in line and environment.get("PYTHONPATH") == str(tmp_path):
                    found.append(process.pid)
        return found

    until = time.monotonic() + 120
    while time.monotonic() < until:
        executor.wait()
        pids = workers()
        if pids and after not in pids:
            return pids[0]
    raise AssertionError("no worker began")


def test_a_connection_of_our_own_ends_with_us_and_takes_no_signal_and_leaves_no_mark(ray_jobs, tmp_path):
    import ray

    before = signal.getsignal(signal.SIGTERM)
    with ray_jobs(1) as executor:
        connected = ray.is_initialized()
        marks = list((tmp_path / "runs").glob(f"{machines.MARK}*"))
        executor.submit(0, ["echo", 1])
        executor.submit(1, ["echo", 2])
        ended = all_of(executor)

    assert (connected, ray.is_initialized(), len(marks)) == (True, False, 1)
    assert [ended[key].value["value"] for key in range(2)] == [1, 2]
    assert signal.getsignal(signal.SIGTERM) == before
    assert not list((tmp_path / "runs").glob(f"{machines.MARK}*"))


def test_data_that_no_machine_sees_is_an_error_at_the_start(ray_jobs, tmp_path):
    with pytest.raises(RunError, match=f"machine {socket.gethostname()} does not see /nowhere/photos"):
        ray_jobs(1, needs=[Path("/nowhere/photos")]).__enter__()

    assert not list((tmp_path / "runs").glob(f"{machines.MARK}*"))


def test_without_an_address_a_cluster_of_its_own_is_begun_and_ended(tmp_path, jobs):
    """In a program of its own: which interfaces Ray binds to is settled when it is imported."""
    program = f"""
import json, os, psutil, sys
from pathlib import Path
from trainwright.execution.ray import Ray
heard = []
with Ray("jobs:work", slots=1, folder=Path({str(tmp_path)!r}), environment={jobs!r}) as executor:
    executor.submit(0, ["echo", "there"])
    ended = []
    while not ended:
        ended = executor.wait()
    family = psutil.Process().children(recursive=True)
    listening = {{one.laddr.ip for child in family for one in child.net_connections() if one.status == "LISTEN"}}
gone, left = psutil.wait_procs(family, timeout=20)
print(json.dumps([ended[0].value["value"], sorted(listening), len(left)]))
"""
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**environment, "HOME": str(home)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer, listening, left = json.loads(done.stdout)

    assert (answer, left) == ("there", 0)
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert stat.S_IMODE((home / ".ray" / "auth_token").stat().st_mode) == 0o600


def test_a_study_on_a_cluster_takes_the_decisions_of_one_on_this_machine(nodes, tmp_path):
    data = write_digits(tmp_path / "digits")
    asked = {"budget": "2h", "changes": SMALL, "seed": 0, "threads": 2, "slots": 2, "mirrors": (), "report": False}
    here = tw.improve(data, "story", name="study", runs=tmp_path / "here" / "runs", **asked)
    there = tw.improve(
        data, "story", name="study", runs=tmp_path / "there" / "runs", executor="ray", address=nodes.address, **asked
    )

    assert there.result["rounds"] == here.result["rounds"]
    assert there.story == here.story
    assert there.best.result["weights_sha256"] == here.best.result["weights_sha256"]
    options = json.loads((there.folder / "study.json").read_text())["options"]
    assert (options["executor"], options["address"]) == ("ray", nodes.address)
