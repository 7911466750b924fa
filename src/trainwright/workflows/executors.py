"""Where the runs of a study are trained: in processes of this machine, or on the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainwright.data.dataset import Dataset
from trainwright.errors import UsageError, unknown_name
from trainwright.execution.jobs import Executor, Heard
from trainwright.execution.processes import Processes
from trainwright.workflows.options import RunOptions
from trainwright.workflows.trial import JOB

AUTO, LOCAL, RAY = "auto", "local", "ray"
EXECUTORS = (AUTO, LOCAL, RAY)


def on_a_cluster(options: RunOptions) -> bool:
    """Whether a study's runs are trained on a Ray cluster; an address alone says so. Raises UsageError, UnknownNameError."""
    if options.executor not in EXECUTORS:
        raise unknown_name(options.executor, EXECUTORS, where="executor", what="executor")
    if options.executor == LOCAL and options.address is not None:
        raise UsageError("an address is of a cluster.", where="address", cure="Leave it out, or --executor ray.")
    return options.executor == RAY or options.address is not None


def given_by_code(content: Mapping[str, Any]) -> str:
    """What of a study no other process can get; empty where there is nothing. content: of `study.json`."""
    if content["data"] is None:
        return "the data was given by Python code"
    return "the network was given by Python code" if content["own_network"] else ""


def check_elsewhere(options: RunOptions, *, alone: str) -> None:
    """alone: why no other process can carry out the runs, or empty. Raises UsageError where a cluster was asked for."""
    if alone and on_a_cluster(options):
        raise UsageError(
            f"{alone}, so no other machine can train with it.",
            where="executor",
            cure="Give data by its path and networks by their names, or leave the executor out.",
        )


def as_begun(options: RunOptions, begun: Mapping[str, Any]) -> RunOptions:
    """The options with the executor that the study began with, where they leave it open."""
    if options.executor != AUTO or options.address is not None:
        return options
    return replace(options, executor=begun.get("executor", LOCAL), address=begun.get("address"))


def asked_executor(options: RunOptions) -> dict[str, Any]:
    """What going on with the study takes again; nothing for this machine."""
    return {"executor": RAY, "address": options.address} if on_a_cluster(options) else {}


def options_there(options: RunOptions) -> RunOptions:
    """The options of a run where it is trained: on a cluster its own GPU is the first that it sees."""
    return replace(options, device=options.device.partition(":")[0]) if on_a_cluster(options) else options


def executor_for(*, slots: int, data: Dataset, options: RunOptions, log: Path, heard: Heard) -> Executor:
    """Raises MissingPackageError where ray is asked for and not installed. log: file that takes what workers print."""
    if not on_a_cluster(options):
        return Processes(JOB, slots=slots, log=log, heard=heard)
    from trainwright.execution.ray import Ray

    return Ray(
        JOB,
        slots=slots,
        folder=options.runs,
        needs=[Path(data.source["path"])] if data.source else [],
        address=options.address,
        gpus=options.device.startswith("cuda"),
        environment={"OMP_WAIT_POLICY": "passive"},
        log=log,
        heard=heard,
    )
