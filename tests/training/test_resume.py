"""Stopping after any step and going on from the saved state ends in the very same weights."""

import itertools

import pytest
import torch

from trainwright.optim.schedules import build_schedule
from trainwright.recipe import ScheduleSpec
from trainwright.training.checkpoint import (
    Checkpoint,
    load_newest,
    restore_training,
    save_checkpoint,
    training_tensors,
)
from trainwright.training.ema import WeightAverage
from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")
STEPS = 6
SCHEDULE = build_schedule(ScheduleSpec(name="cosine", warmup=0.3))
OPTIMIZERS = [("sgd", {"momentum": 0.9}), ("adam", {}), ("adamw", {"weight_decay": 0.1})]


@pytest.fixture
def train(make_model, make_batches, make_optimizer, task):
    """(folder, starts, optimizer name, constants, memory format) → (tensors, state) after STEPS steps, in as many
    processes' worth of fresh objects as there are `starts`, each from the checkpoint of the one before."""
    batches = make_batches(STEPS)

    def run(folder, starts, name, constants, memory_format=torch.contiguous_format):
        for first, last in itertools.pairwise([*starts, STEPS]):
            model = make_model(dropout=0.4).to(memory_format=memory_format)
            optimizer, average = make_optimizer(model, name, **constants), WeightAverage(model, 0.9)
            for checkpoint in filter(None, [load_newest(folder)]):
                restore_training(checkpoint, model, optimizer, average)
            settings = FitSettings(clip_norm=0.5, average=average, seed=7)
            parts = fit(
                model,
                task,
                batches[first:last],
                optimizer,
                SCHEDULE,
                steps=STEPS,
                device=CPU,
                first_step=first,
                settings=settings,
            )
            for _ in parts:
                pass
            tensors, state = training_tensors(model, optimizer, average)
            save_checkpoint(folder, last, Checkpoint(tensors=tensors, state=state))
        return dict(tensors), state

    return run


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["rows", "channels-last"])
@pytest.mark.parametrize(("name", "constants"), OPTIMIZERS, ids=[name for name, _ in OPTIMIZERS])
@pytest.mark.parametrize("stop", range(1, STEPS))
def test_a_training_stopped_after_any_step_ends_in_the_same_bits(
    tmp_path, train, assert_same, stop, name, constants, memory_format
):
    """Weights, buffers, averaged weights and the optimizer's state; in channels-last memory the optimizer's tensors have
    to come back in the same layout, because fused kernels walk weights and momentum by address."""
    whole, whole_state = train(tmp_path / "whole", [0], name, constants, memory_format)

    resumed, resumed_state = train(tmp_path / "resumed", [0, stop], name, constants, memory_format)

    assert_same(resumed, whole)
    assert resumed_state == whole_state


@pytest.mark.parametrize("stops", [(1, 2), (2, 5), (1, 3, 4), (1, 2, 3, 4, 5)], ids=str)
def test_a_training_stopped_any_number_of_times_ends_in_the_same_bits(tmp_path, train, assert_same, stops):
    whole, _ = train(tmp_path / "whole", [0], "adamw", {})

    resumed, _ = train(tmp_path / "resumed", [0, *stops], "adamw", {})

    assert_same(resumed, whole)
