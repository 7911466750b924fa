"""A run that is killed at random moments and resumed each time ends in the very same weights as one left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data.digits import write_digits

KILLS = 20
PATIENCE_SECONDS = 120.0
# dropout, averaged weights, momentum and augmentation: everything that has a state or draws a random number
RECIPE = [
    "--set=network.width=8",
    "--set=network.dropout=0.2",
    "--set=ema_decay=0.99",
    "--set=augment.crop_padding=0.125",
    "--set=clip_norm=1.0",
    "--set=data.image_size=16",
    "--set=precision=fp32",
    "--epochs=60",
]
OF_ALL_TASKS = [
    "--set=network.width=8",
    "--set=ema_decay=0.99",
    "--set=augment.crop_scale=[0.6, 1]",
    "--set=data.image_size=32",
    "--set=precision=fp32",
    "--epochs=30",
]
OF_TASK = {
    "regression": ["--set=network.dropout=0.2"],
    "segmentation": ["--set=network.dropout=0.2"],
    "detection": ["--set=augment.flip=0.5"],
}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_kills_change_no_bit_of_the_weights(tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits")
    untouched = _finish(_start("train", str(data), *RECIPE, runs=tmp_path / "untouched"))
    moments = random.Random(0)
    runs = tmp_path / "killed"
    command = ["train", str(data), *RECIPE]
    inside_writes = 0
    for kill in range(KILLS):
        process = _start(*command, f"--workers={kill % 4}", runs=runs)
        inside_write = kill % 2 == 1
        inside_writes += _kill(process, runs, inside_write=inside_write, after_seconds=moments.uniform(0.0, 0.6))
        command = ["resume", "last"]

    resumed = _finish(_start(*command, "--workers=3", runs=runs))

    assert inside_writes >= KILLS // 4
    assert resumed["weights_sha256"] == untouched["weights_sha256"]
    assert resumed["score"] == untouched["score"]
    assert resumed["gap"] == untouched["gap"]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("task", ["regression", "segmentation", "detection"])
def test_kills_change_no_bit_of_any_task(tmp_path: Path, task: str) -> None:
    """Five kills of each; classification has twenty above."""
    data, recipe = _write_dots(tmp_path / task, task), [*OF_ALL_TASKS, *OF_TASK[task]]
    untouched = _finish(_start("train", *data, *recipe, runs=tmp_path / "untouched"))
    moments = random.Random(1)
    runs = tmp_path / "killed"
    command = ["train", *data, *recipe]
    for kill in range(5):
        process = _start(*command, f"--workers={kill % 3}", runs=runs)
        _kill(process, runs, inside_write=kill % 2 == 1, after_seconds=moments.uniform(0.0, 0.4))
        command = ["resume", "last"]

    resumed = _finish(_start(*command, "--workers=3", runs=runs))

    for key in ("weights_sha256", "score", "gap", "metrics", "train_errors"):
        assert resumed[key] == untouched[key]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "schedule",
    [["reduce-on-plateau", "--set=schedule.patience=1", "--set=schedule.decay=0.7"], ["one-cycle"]],
    ids=["with-a-memory", "with-moved-momentum"],
)
def test_kills_change_no_bit_under_a_schedule_that_moves_more_than_lr(tmp_path: Path, schedule: list[str]) -> None:
    data, recipe = _write_dots(tmp_path / "dots", "regression"), [*OF_ALL_TASKS, f"--set=schedule.name={schedule[0]}"]
    command = ["train", *data, *recipe, *schedule[1:]]
    untouched = _finish(_start(*command, runs=tmp_path / "untouched"))
    moments = random.Random(2)
    runs = tmp_path / "killed"
    for kill in range(4):
        process = _start(*command, runs=runs)
        _kill(process, runs, inside_write=kill % 2 == 1, after_seconds=moments.uniform(0.0, 0.4))
        command = ["resume", "last"]

    resumed = _finish(_start(*command, runs=runs))

    assert resumed["weights_sha256"] == untouched["weights_sha256"]
    assert resumed["score"] == untouched["score"]


def _write_dots(folder: Path, task: str) -> list[str]:
    """Forty noisy images of 32 pixels with a bright square each, and what a task learns from; what `train` is to be told."""
    stream = np.random.default_rng(0)
    for name in ("images", "masks", "labels"):
        (folder / name).mkdir(parents=True)
    lines = ["image,side"]
    for number in range(40):
        pixels_HWC = stream.integers(0, 90, (32, 32, 3)).astype(np.uint8)
        side = int(stream.integers(6, 20))
        left, top = (int(stream.integers(0, 32 - side)) for _ in range(2))
        pixels_HWC[top : top + side, left : left + side] = 220
        Image.fromarray(pixels_HWC).save(folder / "images" / f"{number:02d}.png")
        lines.append(f"images/{number:02d}.png,{side}")
        mask_HW = np.zeros((32, 32), np.uint8)
        mask_HW[top : top + side, left : left + side] = 1
        Image.fromarray(mask_HW).save(folder / "masks" / f"{number:02d}.png")
        box = ((left + side / 2) / 32, (top + side / 2) / 32, side / 32, side / 32)
        (folder / "labels" / f"{number:02d}.txt").write_text(f"0 {' '.join(f'{value:.6f}' for value in box)}\n")
    (folder / "sides.csv").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("ground\nsquare\n" if task == "segmentation" else "square\n")
    unused = {"segmentation": ["labels"], "detection": ["masks"], "regression": []}[task]
    for name in unused:
        shutil.rmtree(folder / name)
    return [str(folder / "sides.csv"), "--target=side"] if task == "regression" else [str(folder)]


def _start(*arguments: str, runs: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "trainwright",
            *arguments,
            f"--runs={runs}",
            "--checkpoint-seconds=0.05",
            "--json",
            "--quiet",
        ],
        stdout=subprocess.PIPE,
        env={**os.environ, "TRAINWRIGHT_MIRRORS": "none"},
    )


def _finish(process: subprocess.Popen[bytes]) -> dict[str, object]:
    output, _ = process.communicate(timeout=PATIENCE_SECONDS * 4)
    assert process.returncode == 0
    result: dict[str, object] = json.loads(output)
    return result


def _kill(process: subprocess.Popen[bytes], runs: Path, *, inside_write: bool, after_seconds: float) -> bool:
    """SIGKILL `after_seconds` after the training got under way, or then while a checkpoint is being written.

    Returns whether a half-written checkpoint was seen at that moment.
    """
    before = _recorded(runs)
    _wait(lambda: _recorded(runs) != before, process)
    time.sleep(after_seconds)  # a random moment is the point of this test
    if inside_write:
        _wait(lambda: _half_written(runs), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed: make it longer"
    return _half_written(runs)


def _recorded(runs: Path) -> float:
    """Changes when a step is recorded."""
    return sum(file.stat().st_mtime for file in runs.glob("*/records.jsonl"))


def _half_written(runs: Path) -> bool:
    return any(runs.glob("*/checkpoints/.*.part"))


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed: make it longer"
        assert time.monotonic() < deadline, "the training did not get under way"
