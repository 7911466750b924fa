"""Which executor carries out a study's runs: as asked, as it began, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainwright.data.dataset import open_dataset
from trainwright.errors import UnknownNameError, UsageError
from trainwright.execution.processes import Processes
from trainwright.workflows.executors import (
    as_begun,
    asked_executor,
    check_elsewhere,
    executor_for,
    on_a_cluster,
    options_there,
)
from trainwright.workflows.options import RunOptions


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, False),
        ({"executor": "local"}, False),
        ({"executor": "ray"}, True),
        ({"address": "auto"}, True),
        ({"executor": "ray", "address": "head:6379"}, True),
    ],
)
def test_a_cluster_is_asked_for_by_its_name_or_its_address(asked, expected):
    assert on_a_cluster(RunOptions(**asked)) is expected


def test_an_executor_that_is_none_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match=r"executor: no such executor 'rai'\. Did you mean 'ray'"):
        on_a_cluster(RunOptions(executor="rai"))


def test_an_address_is_none_of_this_machine():
    with pytest.raises(UsageError, match="address: an address is of a cluster"):
        on_a_cluster(RunOptions(executor="local", address="head:6379"))


def test_a_study_goes_on_where_it_began_unless_told_otherwise():
    begun = asked_executor(RunOptions(address="head:6379"))

    resumed = as_begun(RunOptions(), begun)
    brought_home = as_begun(RunOptions(executor="local"), begun)
    moved = as_begun(RunOptions(address="other:6379"), begun)

    assert (resumed.executor, resumed.address) == ("ray", "head:6379")
    assert (brought_home.executor, brought_home.address) == ("local", None)
    assert (moved.executor, moved.address) == ("auto", "other:6379")


def test_a_study_of_this_machine_writes_down_no_executor_and_goes_on_here():
    assert asked_executor(RunOptions()) == {}
    assert as_begun(RunOptions(), {}).executor == "local"


def test_what_only_this_program_has_is_refused_on_a_cluster_and_here_it_is_not():
    alone = "the network was given by Python code"

    check_elsewhere(RunOptions(), alone=alone)
    check_elsewhere(RunOptions(executor="ray"), alone="")
    with pytest.raises(UsageError, match=f"executor: {alone}, so no other machine can train with it"):
        check_elsewhere(RunOptions(executor="ray"), alone=alone)


def test_on_a_cluster_a_run_takes_the_gpu_that_it_is_given():
    assert options_there(RunOptions(executor="ray", device="cuda:1")).device == "cuda"
    assert options_there(RunOptions(device="cuda:1")).device == "cuda:1"


def test_unless_a_cluster_is_asked_for_workers_are_processes_of_this_machine(tmp_path: Path, digits: Path):
    options = RunOptions(runs=tmp_path)

    executor = executor_for(slots=2, data=open_dataset(digits), options=options, log=tmp_path / "log", heard=print)

    assert isinstance(executor, Processes)
    assert executor.slots == 2
