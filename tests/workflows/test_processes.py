"""Several processes share each step of one run: the same training up to rounding, repeatable, resumable, and none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

import trainwright as tw
from trainwright.errors import NonFiniteLossError, RecipeError, UsageError
from trainwright.execution.place import Place, place_told
from trainwright.workflows import crew
from trainwright.workflows.crew import device_at
from trainwright.workflows.options import RunOptions

PATIENCE_SECONDS = 120.0
# Plain sums of gradients: Adam divides by their size, which makes much of the last bits where a gradient is nearly nothing.
PLAIN: dict[str, Any] = {"optimizer.name": "sgd", "optimizer.lr": 0.05, "network.dropout": 0.0, "network.norm": "group"}
# Everything that draws a random number or has a state, batch norm too.
ALL = {"augment.mixup": 0.2, "augment.cutmix": 1.0, "ema_decay": 0.9, "network.dropout": 0.2}
LONG = [
    *(f"--set={key}={value}" for key, value in ALL.items()),
    "--set=network.width=8",
    "--set=data.image_size=16",
    "--set=optimizer.lr=0.01",
    "--set=batch_size=16",
    "--set=precision=fp32",
    "--epochs=12",
]


def last_weights(run: tw.Run) -> dict[str, torch.Tensor]:
    newest = max((run.folder / "checkpoints").glob("step-*.safetensors"))
    return {name: tensor for name, tensor in load_file(newest).items() if name.startswith("model.")}


def learned(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in weights.items() if "running_" not in name and "tracked" not in name}


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


# What cannot be, refused before anything starts


def test_a_step_that_cannot_be_shared_equally_is_refused_before_anything_is_written(
    train: Callable[..., tw.Run], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as refused:
        train(batch_size=15, processes=2)

    assert refused.value.where == "batch_size"
    assert refused.value.message == "the 15 images of a step are not to be shared equally by 2 processes."
    assert refused.value.cure == "Set it to 14 or 16."
    assert not (tmp_path / "runs").exists()


def test_a_network_given_by_python_code_is_refused(train: Callable[..., tw.Run]) -> None:
    with pytest.raises(UsageError, match=r"the network was given by Python code.*torchrun --nproc-per-node"):
        train(model=torch.nn.Flatten(), processes=2)


def test_arrays_given_by_python_code_are_refused(train: Callable[..., tw.Run]) -> None:
    images, labels = np.zeros((20, 8, 8, 3), np.uint8), np.arange(20) % 2

    with pytest.raises(UsageError, match="the data was given by Python code"):
        train(data=tw.Dataset.from_arrays(images, labels), processes=2)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(crew, "choose_device", torch.device)

    with pytest.raises(UsageError, match="3 on a machine with 2 GPUs"):
        device_at(Place(rank=0, count=3, local_rank=0, local_count=3), "cuda")


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(crew, "choose_device", torch.device)
    third = Place(rank=2, count=4, local_rank=0, local_count=2)  # the first of a second machine

    assert device_at(third, "cuda") == torch.device("cuda:0")
    assert device_at(replace(third, rank=3, local_rank=1), "cuda") == torch.device("cuda:1")


def test_one_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "choose_device", torch.device)

    with pytest.raises(UsageError, match="cuda:1 is one GPU, and each of 2 processes takes one of its own"):
        device_at(Place(rank=0, count=2, local_rank=0, local_count=2), "cuda:1")


def test_a_study_is_not_shared(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a study trains one run in each process"):
        tw.improve(digits, runs=tmp_path / "runs", processes=2)


def test_a_run_of_one_process_is_not_resumed_with_two(train: Callable[..., tw.Run], polls: Any) -> None:
    stopped = train(stop_asked=polls(2))

    with pytest.raises(UsageError, match="was begun with 1, not 2: another number adds up in another order"):
        tw.resume(stopped, processes=2)


def listening() -> set[str]:
    """The addresses that this process and those that it started wait for others at."""
    own = psutil.Process()
    found = [one.net_connections(kind="inet") for one in (own, *own.children(recursive=True))]
    return {one.laddr.ip for some in found for one in some if one.status == psutil.CONN_LISTEN}


def test_where_the_processes_meet_nobody_from_outside_can_come() -> None:
    before = listening()

    with crew.crew_for(RunOptions(processes=2)):
        now = listening()

    assert now - before <= {"127.0.0.1"}
    assert "127.0.0.1" in now


@pytest.mark.slow
def test_while_they_train_the_processes_listen_on_this_machine_alone(train: Callable[..., tw.Run]) -> None:
    seen: set[str] = set()

    def look() -> bool:
        seen.update(listening())
        return False

    train(processes=2, stop_asked=look)

    assert seen == {"127.0.0.1"}


def test_a_place_is_what_torchrun_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(rank=3, count=4, local_rank=1, local_count=2)
    for name, value in place.environment("127.0.0.1", 29500).items():
        monkeypatch.setenv(name, value)

    assert place_told() == place
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert place_told() is None


def test_torchrun_before_a_command_that_shares_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainwright.cli.main import main

    place = Place(rank=0, count=2, local_rank=0, local_count=2)
    for name, value in place.environment("127.0.0.1", 29500).items():
        monkeypatch.setenv(name, value)

    assert main(["runs", "list"]) == 2
    assert "torchrun started this, and runs does not share its work. Use it with train or resume" in (
        capsys.readouterr().err
    )


# The same training


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 4])
def test_two_processes_train_as_one_does_up_to_rounding(train: Callable[..., tw.Run], accumulate: int) -> None:
    one = train({**PLAIN, "accumulate": accumulate})
    two = train({**PLAIN, "accumulate": accumulate}, processes=2)

    steps_of_one, steps_of_two = ([line["loss"] for line in run._folder.records("steps")] for run in (one, two))
    assert np.concatenate(steps_of_two) == pytest.approx(np.concatenate(steps_of_one), abs=1e-4)
    # Sums in another order move the weights by less than a rate does that is a thousandth higher.
    other = train({**PLAIN, "accumulate": accumulate, "optimizer.lr": PLAIN["optimizer.lr"] * 1.001})
    assert furthest(last_weights(one), last_weights(two)) < furthest(last_weights(one), last_weights(other))
    assert two._folder.manifest["processes"] == {"count": 2, "backend": "gloo", "batch_norm": "none"}
    assert "processes" not in one._folder.manifest


@pytest.mark.slow
def test_batch_norm_normalizes_as_in_a_step_of_two_parts(train: Callable[..., tw.Run]) -> None:
    changes = {**PLAIN, "network.norm": "batch", "epochs": 1}
    parts = train({**changes, "accumulate": 2})
    processes = train(changes, processes=2)

    assert furthest(learned(last_weights(parts)), learned(last_weights(processes))) < 1e-5
    assert processes._folder.manifest["processes"]["batch_norm"] == "by the images of each process"


@pytest.mark.slow
def test_running_statistics_are_of_all_images_of_a_step(train: Callable[..., tw.Run], polls: Any) -> None:
    """After one step with momentum 0.1: 0.9 of the start and 0.1 of the step's mean, which is the mean of those of its halves."""
    changes = {**PLAIN, "network.norm": "batch"}
    whole = last_weights(train(changes, stop_asked=polls(1)))
    halves = last_weights(train(changes, processes=2, stop_asked=polls(1)))

    (first,) = (
        name for name in whole if "stem" in name and name.endswith("running_mean")
    )  # later ones see normalized halves
    assert float((whole[first] - halves[first]).abs().max()) < 1e-6


@pytest.mark.slow
def test_the_same_again_bit_for_bit(train: Callable[..., tw.Run]) -> None:
    one, other = (train(ALL, processes=2) for _ in range(2))

    assert one.result["weights_sha256"] == other.result["weights_sha256"]
    assert one.score == other.score


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all_of_them(train: Callable[..., tw.Run], tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError):
        train({**PLAIN, "network.norm": "batch", "optimizer.lr": 1e30, "clip_norm": None}, processes=2)

    (status,) = (tmp_path / "runs").glob("*/status.json")
    assert json.loads(status.read_text())["state"] == "failed"
    assert psutil.Process().children(recursive=True) == []


@pytest.mark.slow
def test_a_repetition_with_another_number_of_processes_says_so(train: Callable[..., tw.Run], tmp_path: Path) -> None:
    run = train({**PLAIN, "epochs": 1}, processes=2)
    options = {"runs": tmp_path / "runs", "mirrors": (), "workers": 1, "report": False}

    again, alone = tw.reproduce(run, **options), tw.reproduce(run, processes=1, **options)

    assert again["verdict"] == "identical"
    assert alone["differences"][0]["said"] == "processes that share each step: 2 then, 1 now"
    assert not alone["differences"][0]["another"]


# Ends of all kinds, each from the command line


@pytest.fixture(scope="module")
def untouched(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    runs = tmp_path_factory.mktemp("untouched")
    return finished(start("train", str(digits), *LONG, "--processes=2", runs=runs))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", ["first", "other"])
def test_a_killed_process_ends_the_run_which_resumes_into_the_same_weights(
    digits: Path, tmp_path: Path, untouched: dict[str, Any], victim: str
) -> None:
    process = start("train", str(digits), *LONG, "--processes=2", runs=tmp_path)
    all_of_them = under_way(process, tmp_path)

    (process if victim == "first" else all_of_them[0]).send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)

    _, left = psutil.wait_procs(all_of_them, timeout=PATIENCE_SECONDS)
    assert not left
    resumed = finished(start("resume", "last", runs=tmp_path))
    assert resumed["weights_sha256"] == untouched["weights_sha256"]
    assert victim == "first" or (process.returncode == 1 and said.count(b"error:") == 1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("asked", ["first", "other"])
def test_a_process_that_is_asked_to_stop_stops_all_with_their_state_saved(
    digits: Path, tmp_path: Path, untouched: dict[str, Any], asked: str
) -> None:
    process = start("train", str(digits), *LONG, "--processes=2", runs=tmp_path)
    all_of_them = under_way(process, tmp_path)

    (process if asked == "first" else all_of_them[0]).send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)

    assert process.returncode == (143 if asked == "first" else 1)
    assert b"stopped; its state is saved" in said
    _, left = psutil.wait_procs(all_of_them, timeout=PATIENCE_SECONDS)
    assert not left
    (status,) = tmp_path.glob("*/status.json")
    assert json.loads(status.read_text())["state"] == "interrupted"
    assert finished(start("resume", "last", runs=tmp_path))["weights_sha256"] == untouched["weights_sha256"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_torchrun_gives_the_same_weights_and_its_run_is_resumed_without_it(
    digits: Path, tmp_path: Path, untouched: dict[str, Any]
) -> None:
    process = start("train", str(digits), *LONG, runs=tmp_path, before=["torch.distributed.run", "--nproc-per-node=2"])
    under_way(process, tmp_path)

    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)

    (status,) = tmp_path.glob("*/status.json")
    assert json.loads(status.read_text())["state"] == "interrupted"
    assert finished(start("resume", "last", runs=tmp_path))["weights_sha256"] == untouched["weights_sha256"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_script_trains_its_own_network_under_torchrun_where_one_process_has_less_memory(
    digits: Path, tmp_path: Path
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import os, sys, torch, trainwright as tw\n"
        "class Net(torch.nn.Sequential):\n"
        "    def forward(self, images):\n"
        "        if os.environ['RANK'] == '1' and len(images) > 4: raise torch.OutOfMemoryError('more than 4 images')\n"
        "        return super().forward(images)\n"
        "model = Net(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 3))\n"
        "recipe = tw.Recipe().changed({'data.image_size': 16, 'optimizer.lr': 0.01, 'epochs': 1, 'batch_size': 16})\n"
        "run = tw.train(sys.argv[1], recipe, model=model, runs=sys.argv[2], mirrors=(), workers=1, report=False)\n"
        "print('kept', run.result['weights_sha256'])\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(script)]

    done = subprocess.run(
        [*command, str(digits), str(tmp_path / "runs")], capture_output=True, text=True, timeout=PATIENCE_SECONDS * 2
    )

    assert done.returncode == 0, done.stderr
    kept = [line for line in done.stdout.splitlines() if line.startswith("kept")]
    (result,) = (tmp_path / "runs").glob("*/result.json")
    newest = max((tmp_path / "runs").glob("*/checkpoints/step-*.json"))
    assert json.loads(newest.read_text())["state"]["position"]["parts"] == 2  # of the 8 images of each process
    assert kept == [f"kept {json.loads(result.read_text())['weights_sha256']}"] * 2


def start(*arguments: str, runs: Path, before: tuple[str, ...] | list[str] = ()) -> subprocess.Popen[bytes]:
    program = [*before, "-m", "trainwright"] if before else ["trainwright"]
    return subprocess.Popen(
        [sys.executable, "-m", *program, *arguments, f"--runs={runs}", "--checkpoint-seconds=0.2", "--json", "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "TRAINWRIGHT_MIRRORS": "none", "TRAINWRIGHT_WORKERS": "1"},
    )


def finished(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, said = process.communicate(timeout=PATIENCE_SECONDS * 4)
    assert process.returncode == 0, said.decode()
    result: dict[str, Any] = json.loads(output)
    return result


def under_way(process: subprocess.Popen[bytes], runs: Path) -> list[psutil.Process]:
    """Wait until some steps have been taken; the processes below this one."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(b'"steps"' in file.read_bytes() for file in runs.glob("*/records.jsonl")):
        assert process.poll() is None, "the run ended before anything happened to it: make it longer"
        assert time.monotonic() < deadline, "the training did not get under way"
        time.sleep(0.05)
    return psutil.Process(process.pid).children(recursive=True)
