"""Studies whose runs are trained several at a time: the same decisions at every replay, and no second of the clock twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import trainwright as tw
from trainwright import plugins
from trainwright.data.dataset import open_dataset
from trainwright.data.digits import write_digits
from trainwright.errors import OutOfResourcesError
from trainwright.execution.jobs import Ended
from trainwright.recipe import Recipe
from trainwright.records import Proposal
from trainwright.workflows import hands
from trainwright.workflows.hands import AtOnce, Threads, made_here, slots_for
from trainwright.workflows.options import RunOptions
from trainwright.workflows.study import Clock
from trainwright.workflows.trial import EVENT_SECONDS, Sender

SMALL = {"epochs": 2, "network.width": 8, "data.image_size": 16, "precision": "fp32"}


def test_runs_that_overlap_take_as_long_as_the_longer_one():
    clock = Clock(2)
    clock._real = float("inf")  # no time passes beside the runs
    clock.begin(0)
    clock.begin(1)
    clock.end(1, 30.0)
    clock.end(0, 20.0)

    assert [clock.elapsed(0), clock.elapsed(1)] == [20.0, 10.0]


def test_a_third_run_begins_when_the_first_slot_is_free():
    clock = Clock(2)
    clock._real = float("inf")
    for number in (0, 1):
        clock.begin(number)
    clock.end(0, 20.0)
    clock.begin(2)
    clock.end(1, 30.0)
    clock.end(2, 15.0)

    assert [clock.elapsed(number) for number in range(3)] == [20.0, 10.0, 5.0]


def test_runs_in_turn_take_the_sum_of_their_times():
    clock = Clock(1)
    clock._real = float("inf")
    took = []
    for number, seconds in ((0, 20.0), (1, 30.0)):
        clock.begin(number)
        clock.end(number, seconds)
        took.append(clock.elapsed(number))

    assert took == [20.0, 30.0]


def test_what_the_journal_has_is_not_counted_again():
    clock = Clock(2)
    clock._real = float("inf")
    clock.passed(100.0)
    clock.begin(1)
    clock.end(1, 30.0)

    assert clock.elapsed(1) == 30.0


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, 4),
        ({"threads": 2}, 2),
        ({"threads": 1}, 1),
        ({"device": "cuda"}, 1),
        ({"budget_seconds": 60.0}, 1),
        ({"budget_seconds": None}, 4),
    ],
)
def test_several_at_a_time_where_that_pays(monkeypatch, asked, expected):
    """Eight threads of a processor, ten minutes, unless said otherwise."""
    monkeypatch.setattr(hands.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(hands.psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * 2**30))

    assert slots_for(**{"device": "cpu", "threads": 8, "budget_seconds": 600.0, **asked}) == expected


def test_no_more_at_a_time_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr(hands.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(hands.psutil, "virtual_memory", lambda: SimpleNamespace(available=5 * 2**30))

    assert slots_for(device="cpu", threads=8, budget_seconds=600.0) == 2


ELSEWHERE = {"data": {"path": "photos"}, "own_network": False}


def prepared(**changes: Any) -> Any:
    return SimpleNamespace(
        recipe=Recipe(task="classification").changed(changes), task=SimpleNamespace(name="classification")
    )


def test_what_another_process_can_open_and_build_is_trained_there():
    assert made_here(prepared(), ELSEWHERE) == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"data": None}, "the data was given by Python code"),
        ({"own_network": True}, "the network was given by Python code"),
    ],
)
def test_what_python_code_has_given_is_trained_here(content, said):
    assert made_here(prepared(), {**ELSEWHERE, **content}) == said


def test_what_this_program_alone_has_registered_is_trained_here(monkeypatch):
    monkeypatch.setitem(plugins.losses._known, "mine", lambda spec: None)

    assert made_here(prepared(**{"loss.name": "mine"}), ELSEWHERE) == "the loss 'mine' was registered by this program"


def test_a_runs_threads_depend_on_what_was_asked_and_not_on_who_carries_it_out():
    threads, proposal = Threads(whole=4, share=2), Proposal(number=0, role="arm", recipe=Recipe(), label="mine")

    assert threads.of(proposal) == 2
    assert threads.of(replace(proposal, alone=True)) == 4


def test_the_epochs_of_a_run_are_told_though_its_evaluations_are_too():
    """Between two epochs an evaluation ends, of which every end is told."""
    said: list[Any] = []
    sender = Sender(said.append)
    for epoch in range(1, 3):
        sender.progress("baseline: evaluating val", 100, 100)
        sender.progress("baseline: epochs", epoch, 20)
        time.sleep(1.1 * EVENT_SECONDS)

    assert [event["done"] for event in said if event["what"] == "baseline: epochs"] == [1, 2]


@pytest.fixture
def dead(tmp_path: Path, digits: Path) -> Callable[[str], Any]:
    """role → what comes of a trial of that role whose worker died twice."""
    log = tmp_path / "log"
    at_once = AtOnce(
        slots=2,
        data=open_dataset(digits),
        options=RunOptions(runs=tmp_path),
        threads=Threads(whole=2, share=1),
        log=log,
    )

    def of(role: Any) -> Any:
        proposal = Proposal(number=3, role=role, recipe=Recipe(), label="mine")
        at_once._trials[3] = (proposal, tmp_path / "s-003")
        ended = [Ended(key=3, died="was killed (signal 9)", seconds=5.0)]
        at_once._processes = SimpleNamespace(wait=lambda: ended, under_way=[])  # type: ignore[assignment]
        (done,) = at_once.wait()
        return done.record

    return of


def test_an_arm_whose_process_dies_has_failed_and_the_study_goes_on(dead):
    record = dead("arm")

    assert (record["state"], record["score"], record["run"]) == ("failed", None, "s-003")
    assert record["result"]["message"] == "its process was killed (signal 9), twice."


def test_a_baseline_whose_process_dies_ends_the_study_with_what_to_do(dead):
    with pytest.raises(OutOfResourcesError, match=r"s-003: the process that trained it was killed .* --slots 1"):
        dead("baseline")


def improve(data: Path, runs: Path, **more: Any) -> tw.Study:
    asked = {"budget": "2h", "changes": SMALL, "seed": 0, "name": "study", "threads": 2, "slots": 2, "mirrors": ()}
    return tw.improve(data, "story", runs=runs, **{**asked, **more})


def decided(study: tw.Study) -> Any:
    """Rounds, decisions and figures, without the clock."""
    result = study.result
    return json.loads(json.dumps(result["rounds"])), study.story, result["best"], result["gain"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tw.Study:
    folder = tmp_path_factory.mktemp("at-once")
    return improve(write_digits(folder / "digits"), folder / "runs")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_control_is_trained_beside_the_baseline_and_each_run_has_its_share_of_the_threads(study: tw.Study) -> None:
    manifests = {path.parent.name: json.loads(path.read_text()) for path in study._runs.glob("*/manifest.json")}
    alone = study.best.id if study.result["best"]["trained_on"] == "train+val" else ""

    assert study.result["rounds"][0]["control"]["run"] == "study-001"
    assert {m["machine"]["torch_threads"] for run, m in manifests.items() if run != alone} == {1}
    began, ended = (
        [(study._runs / f"study-00{number}" / file).stat().st_mtime for number in range(2)]
        for file in ("manifest.json", "result.json")
    )
    assert max(began) < min(ended)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_stopped_and_gone_on_with_it_takes_the_same_decisions(study: tw.Study, tmp_path: Path) -> None:
    until = time.monotonic() + 12.0
    stopped = improve(study._runs.parent / "digits", tmp_path / "runs", stop_asked=lambda: time.monotonic() > until)
    assert not stopped.finished

    resumed = tw.resume_study("study", runs=tmp_path / "runs")

    assert decided(resumed) == decided(study)
    assert resumed.best.result["weights_sha256"] == study.best.result["weights_sha256"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_at_random_moments_and_resumed_it_takes_the_same_decisions(study: tw.Study, tmp_path: Path) -> None:
    changes = [f"--set={key}={value}" for key, value in SMALL.items()]
    data = str(study._runs.parent / "digits")
    command = ["improve", data, "--recipe=story", *changes, "--budget=2h", "--seed=0", "--name=study", "--slots=2"]
    moments, runs = random.Random(1), tmp_path / "runs"
    for _ in range(6):
        process = _start(*command, runs=runs)
        while process.poll() is None and not (tmp_path / "studies" / "study" / "study.json").is_file():
            time.sleep(0.05)
        time.sleep(moments.uniform(3.0, 14.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        command = ["resume", "study"]

    process = _start("resume", "study", runs=runs)
    out, err = process.communicate(timeout=900)

    assert process.returncode == 0, err
    resumed = json.loads(out)
    assert resumed["rounds"] == json.loads(json.dumps(study.result["rounds"]))
    assert [entry["text"] for entry in resumed["journal"]] == study.story


def _start(*words: str, runs: Path) -> subprocess.Popen[str]:
    options = ["--runs", str(runs), "--mirrors", "none", "--threads", "2", "--quiet", "--json"]
    command = [sys.executable, "-m", "trainwright", *words, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
