"""What every executor promises: worker processes of this machine, and the machines of a Ray cluster. Real ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from trainwright.errors import DataError
from trainwright.execution.jobs import Ended, Executor
from trainwright.execution.processes import Processes
from trainwright.execution.ray import Ray

Make = Callable[..., Executor]
EXECUTORS = ["processes", pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
# Ray leaves sockets and processes to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=EXECUTORS)
def make(request: pytest.FixtureRequest, tmp_path: Path, jobs: dict[str, str]) -> Make:
    """(slots, …) → an executor whose jobs are those of JOBS."""
    log = tmp_path / "log"
    if request.param == "processes":
        return lambda slots, **more: Processes(
            "jobs:work", slots=slots, environments=dict.fromkeys(range(slots), jobs), log=log, **more
        )
    address = request.getfixturevalue("connected")
    return lambda slots, **more: Ray(
        "jobs:work", slots=slots, folder=tmp_path / "runs", address=address, environment=jobs, log=log, **more
    )


@pytest.fixture(scope="module")
def connected(_nodes: Any) -> Iterator[str]:
    """The address of a cluster to which this process is connected already."""
    import ray

    ray.init(address=_nodes.address, log_to_driver=False)
    yield _nodes.address
    ray.shutdown()


def all_of(executor: Executor) -> dict[int, Ended]:
    """Every job that is under way, by its key, once all have ended."""
    ended: dict[int, Ended] = {}
    while executor.under_way:
        ended |= {one.key: one for one in executor.wait()}
    return ended


def test_jobs_are_answered_their_events_heard_and_what_they_print_goes_to_the_log(make, tmp_path):
    heard = []
    with make(2, heard=lambda key, event: heard.append((key, event))) as executor:
        for key in range(2):
            executor.submit(key, ["echo", f"job {key}"])
        under_way = executor.under_way
        ended = all_of(executor)

    assert under_way == [0, 1]
    assert [ended[key].value["value"] for key in range(2)] == ["job 0", "job 1"]
    assert len({ended[key].value["pid"] for key in range(2)}) == 2
    assert sorted(heard) == [(0, {"seen": "job 0"}), (1, {"seen": "job 1"})]
    assert (tmp_path / "log").read_text().count("this is printed") == 2


def test_jobs_really_overlap(make, tmp_path):
    """The first waits for what the second leaves behind."""
    with make(2) as executor:
        executor.submit(0, ["until", str(tmp_path / "flag")])
        executor.submit(1, ["die once", str(tmp_path / "flag")])
        ended = all_of(executor)

    assert (ended[0].value, ended[1].value) == ("done", "done")


def test_an_error_of_ours_arrives_as_what_it_was(make):
    with make(1) as executor:
        executor.submit(0, ["raise", None])
        error = all_of(executor)[0].error

    assert isinstance(error, DataError)
    assert (error.message, error.where, error.cure) == ("it is broken.", "a.png", "Mend it.")


def test_any_other_error_arrives_with_where_it_came_from(make):
    with make(1) as executor:
        executor.submit(0, ["fail", None])
        executor.submit(1, ["echo", "still there"])
        ended = all_of(executor)

    assert str(ended[0].error) == "KeyError: 'nothing'"
    assert 'return {}["nothing"]' in "".join(ended[0].error.__notes__)
    assert ended[1].value["value"] == "still there"


def test_a_job_whose_worker_dies_is_begun_once_more(make, tmp_path):
    with make(1) as executor:
        executor.submit(0, ["die once", str(tmp_path / "flag")])
        ended = all_of(executor)[0]

    assert (ended.value, ended.died) == ("done", "")


def test_a_job_whose_worker_dies_twice_costs_itself_and_no_other(make):
    with make(2) as executor:
        executor.submit(0, ["die", None])
        executor.submit(1, ["sleep", 0.3])
        executor.submit(2, ["echo", "after it"])
        ended = all_of(executor)

    assert "signal 9" in ended[0].died
    assert ended[1].value == "done"
    assert ended[2].value["value"] == "after it"


def test_a_job_that_takes_longer_than_it_may_is_ended(make):
    with make(1) as executor:
        executor.submit(0, ["sleep", 600], limit_seconds=0.1)
        executor.submit(1, ["echo", "after it"])
        ended = all_of(executor)

    assert ended[0].died == "took longer than it may"
    assert ended[1].value["value"] == "after it"


def test_asked_to_stop_a_job_ends_by_itself_and_one_that_waits_is_never_begun(make):
    began: list[int] = []
    with make(1, heard=lambda key, event: began.append(key)) as executor:
        executor.submit(0, ["until stopped", None])
        executor.submit(1, ["until stopped", None])
        while not began:
            executor.wait()
        executor.stop()
        ended = all_of(executor)

    assert began == [0]
    assert list(ended) == [0]
    assert (ended[0].value, ended[0].error) == (None, None)


def test_what_is_no_plain_data_is_given_as_plain_data(make):
    """As a tuple, which comes as a list."""
    with make(1) as executor:
        executor.submit(0, ("echo", (1, 2)))
        ended = all_of(executor)

    assert ended[0].value["value"] == [1, 2]


def test_at_the_end_no_worker_is_left(make):
    pids: list[int] = []
    with make(2, heard=lambda key, event: pids.append(event["begun"])) as executor:
        for key in range(2):
            executor.submit(key, ["until stopped", None])
        while len(pids) < 2:
            executor.wait()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)

    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_less_than_one_slot_is_refused(make):
    with pytest.raises(ValueError, match="slots: expected 1 or more, got 0"):
        make(0)
