"""Loss curves that a refactor reproduces.

`curves.json` holds the losses of short trainings as the hexadecimal of doubles. Single precision has other last bits on
every processor (torch picks its kernels by instruction set, and each adds up in another order), so bits cannot be kept in
a repository. These trainings run in double precision from weights and images that are exact on every machine: processors
then differ by about 1e-15, which eight smooth steps do not raise above TOLERANCE, while a training that does something else
is off by far more (`test_a_small_change_of_the_training_is_seen`). That `fit` has the bits it should have on this very
machine is shown in tests/parity.

Anew, after a change that is meant to change them: TRAINWRIGHT_TEST_WRITE_GOLDEN=1 .venv/bin/python FILE.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainwright.batch import Batch
from trainwright.optim.optimizers import build_optimizer
from trainwright.optim.schedules import build_schedule
from trainwright.plugins import tasks
from trainwright.recipe import NetworkSpec, OptimizerSpec, ScheduleSpec
from trainwright.records import TargetInfo
from trainwright.training.ema import WeightAverage
from trainwright.training.loop import FitSettings, fit
from trainwright.training.model import ImageNetwork, build_network

FILE = Path(__file__).with_name("curves.json")
TOLERANCE = 1e-9  # relative
STEPS = 8
CPU = torch.device("cpu")

TRAININGS = {
    "sgd": {"optimizer": OptimizerSpec(name="sgd", lr=0.05)},
    "sgd-clipped-in-parts": {
        "optimizer": OptimizerSpec(name="sgd", lr=0.2, weight_decay=0.01, nesterov=True),
        "schedule": ScheduleSpec(name="cosine", warmup=0.25),
        "clip_norm": 1.0,
        "parts": 3,
    },
    "adam-head": {"optimizer": OptimizerSpec(name="adam", lr=0.01), "trainable": "last-1"},
    "adamw-stages": {
        "optimizer": OptimizerSpec(name="adamw", lr=0.01, weight_decay=0.1),
        "schedule": ScheduleSpec(name="cosine", final=0.1),
        "stage_lr_decay": 0.5,
    },
}


def double_cross_entropy(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, target, reduction="none")


def exact_network(trainable: str) -> ImageNetwork:
    """small-resnet in double precision, its weights multiples of 1/256 from a generator that is the same everywhere."""
    draws = np.random.Generator(np.random.Philox(0))
    network = build_network(NetworkSpec(width=8), form="vector", outputs=3, size=(8, 8), seed=0)
    model = ImageNetwork(network, mean=(0.5, 0.25, 0.5), std=(0.25, 0.25, 0.5)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            weights = draws.integers(-64, 65, tuple(parameter.shape)) / 256
            parameter.copy_(torch.from_numpy(weights + (parameter.ndim == 1)))
    model.scale.copy_(1 / (torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64).view(1, 3, 1, 1) * 255))
    model.shift.copy_(-torch.tensor([2.0, 1.0, 1.0], dtype=torch.float64).view(1, 3, 1, 1))
    model.freeze(trainable)
    return model


def exact_batches() -> list[Batch]:
    draws = np.random.Generator(np.random.Philox(1))
    return [
        Batch(
            images_NCHW=torch.from_numpy(draws.integers(0, 256, (9, 3, 8, 8)).astype(np.uint8)),
            target=torch.from_numpy(draws.integers(0, 3, 9)),
            rows_N=np.arange(9),
        )
        for _ in range(STEPS)
    ]


def curve(
    *,
    optimizer: OptimizerSpec,
    schedule: ScheduleSpec | None = None,
    trainable: str = "all",
    stage_lr_decay: float = 1.0,
    clip_norm: float | None = None,
    parts: int = 1,
) -> list[float]:
    """The loss of every step, then a fingerprint of the averaged weights at the end: their mean square."""
    model = exact_network(trainable)
    average = WeightAverage(model, 0.5)
    records = fit(
        model,
        tasks.get("classification")(TargetInfo(names=("ant", "bee", "cat")), double_cross_entropy),
        exact_batches(),
        build_optimizer(model.learning_rates(stage_lr_decay), optimizer, CPU),
        build_schedule(schedule or ScheduleSpec()),
        steps=STEPS,
        device=CPU,
        settings=FitSettings(clip_norm=clip_norm, parts=parts, average=average),
    )
    losses = [record.loss.item() for record in records]
    weights = torch.cat([parameter.flatten() for parameter in average.model.parameters()])
    return [*losses, weights.square().mean().item()]


def golden() -> dict[str, list[float]]:
    return {name: [float.fromhex(text) for text in texts] for name, texts in json.loads(FILE.read_text()).items()}


def test_every_training_has_its_curve():
    assert golden().keys() == TRAININGS.keys()


@pytest.mark.parametrize("name", TRAININGS)
def test_the_losses_are_those_that_were_written_down(name):
    assert curve(**TRAININGS[name]) == pytest.approx(golden()[name], rel=TOLERANCE, abs=0)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_small_change_of_the_training_is_seen(name):
    """A learning rate that is off by one part in a million."""
    training = dict(TRAININGS[name])
    optimizer = training.pop("optimizer")
    changed = optimizer.model_copy(update={"lr": optimizer.lr * (1 + 1e-6)})

    assert curve(optimizer=changed, **training) != pytest.approx(golden()[name], rel=TOLERANCE, abs=0)


@pytest.mark.parametrize("name", TRAININGS)
def test_the_same_training_twice_has_the_same_bits(name):
    assert curve(**TRAININGS[name]) == curve(**TRAININGS[name])


if __name__ == "__main__" and os.environ.get("TRAINWRIGHT_TEST_WRITE_GOLDEN") == "1":
    torch.set_num_threads(1)
    curves = {name: [value.hex() for value in curve(**training)] for name, training in TRAININGS.items()}
    FILE.write_text(json.dumps(curves, indent=1) + "\n")
