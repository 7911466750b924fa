"""`fit` does what a loop of ten lines in plain PyTorch does: the same weights, to the last bit where the sums are the same."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from trainwright.batch import Batch
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import build_optimizer
from trainwright.optim.schedules import build_schedule
from trainwright.plugins import Task, tasks
from trainwright.recipe import LossSpec, OptimizerSpec, ScheduleSpec
from trainwright.records import IGNORED, TargetInfo
from trainwright.seeding import derive
from trainwright.training.ema import WeightAverage
from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")
STEPS = 8
LR = 0.02
CLASSIFICATION = tasks.get("classification")
TASK = CLASSIFICATION(TargetInfo(names=("ant", "bee", "cat")), build_loss(LossSpec(), CLASSIFICATION.losses))


def batches() -> list[Batch]:
    draws = torch.Generator().manual_seed(0)
    return [
        Batch(
            images_NCHW=torch.randn(8, 3, 8, 8, generator=draws),
            target=torch.randint(0, 3, (8,), generator=draws),
            rows_N=np.arange(8),
        )
        for _ in range(STEPS)
    ]


def network(*, norm: nn.Module | None = None, dropout: float = 0.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8) if norm is None else norm,
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(72, 3),
        )


def task_of(name: str, loss: str, info: TargetInfo) -> Task:
    task = tasks.get(name)
    return task(info, build_loss(LossSpec(name=loss), task.losses))


def fitted(model: nn.Module, spec: OptimizerSpec, *, schedule: ScheduleSpec | None = None, **settings) -> list[float]:
    """Train with trainwright; returns the losses."""
    optimizer = build_optimizer([(p, 1.0) for p in model.parameters()], spec, CPU)
    records = fit(
        model,
        TASK,
        batches(),
        optimizer,
        build_schedule(schedule or ScheduleSpec()),
        steps=STEPS,
        device=CPU,
        settings=FitSettings(**settings),
    )
    return [record.loss.item() for record in records]


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


@pytest.mark.parametrize(
    ("spec", "build"),
    [
        (
            OptimizerSpec(name="sgd", lr=LR, momentum=0.9),
            lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, fused=True),
        ),
        (
            OptimizerSpec(name="sgd", lr=LR, momentum=0.9, nesterov=True),
            lambda p: torch.optim.SGD(p, lr=LR, momentum=0.9, nesterov=True, fused=True),
        ),
        (OptimizerSpec(name="adam", lr=LR), lambda p: torch.optim.Adam(p, lr=LR, fused=True)),
        (
            OptimizerSpec(name="adamw", lr=LR),
            lambda p: torch.optim.AdamW(p, lr=LR, weight_decay=0.0, fused=True),
        ),
    ],
    ids=["sgd", "nesterov", "adam", "adamw"],
)
def test_an_optimizer_trains_the_same_weights_bit_for_bit(spec, build):
    ours, theirs = network(), network()
    losses = []

    optimizer = build(theirs.parameters())
    for batch in batches():
        loss = functional.cross_entropy(theirs(batch.images_NCHW), batch.target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert fitted(ours, spec) == pytest.approx(losses, rel=1e-6)
    assert_equal(ours, theirs)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_fused_update_is_that_of_the_plain_one(name):
    """Only the order of roundings differs. No batch norm: a bias before it has no gradient but rounding, whose sign Adam
    follows."""
    ours, theirs = network(norm=nn.Identity()), network(norm=nn.Identity())
    plain = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]

    optimizer = plain(theirs.parameters(), lr=LR, weight_decay=0.0, foreach=False, fused=False)
    for batch in batches():
        optimizer.zero_grad()
        functional.cross_entropy(theirs(batch.images_NCHW), batch.target).backward()
        optimizer.step()
    fitted(ours, OptimizerSpec(name=name, lr=LR, momentum=0.0))

    for weight, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-4)


def test_weight_decay_in_two_groups_trains_the_same_weights_bit_for_bit():
    ours, theirs = network(), network()
    spec = OptimizerSpec(name="adamw", lr=LR, weight_decay=0.3)

    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim > 1], "weight_decay": 0.3},
        {"params": [p for p in theirs.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, fused=True)
    for batch in batches():
        optimizer.zero_grad()
        functional.cross_entropy(theirs(batch.images_NCHW), batch.target).backward()
        optimizer.step()
    fitted(ours, spec)

    assert_equal(ours, theirs)


def test_a_schedule_trains_the_same_weights_bit_for_bit():
    ours, theirs = network(), network()

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 + math.cos(math.pi * (step / STEPS))) / 2)
    for batch in batches():
        optimizer.zero_grad()
        functional.cross_entropy(theirs(batch.images_NCHW), batch.target).backward()
        optimizer.step()
        scheduler.step()
    fitted(ours, OptimizerSpec(name="sgd", lr=LR), schedule=ScheduleSpec(name="cosine"))

    assert_equal(ours, theirs)


def test_torchs_own_cosine_is_ours():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS, eta_min=0.25)
    schedule = build_schedule(ScheduleSpec(name="cosine", final=0.25))
    theirs = []

    for _ in range(STEPS):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()

    assert [schedule(step / STEPS) for step in range(STEPS)] == pytest.approx(theirs)


def test_clipping_trains_the_same_weights_bit_for_bit():
    ours, theirs = network(), network()
    norms = []

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=True)
    for batch in batches():
        optimizer.zero_grad()
        functional.cross_entropy(theirs(batch.images_NCHW), batch.target).backward()
        norms.append(nn.utils.clip_grad_norm_(theirs.parameters(), 0.5).item())
        optimizer.step()
    fitted(ours, OptimizerSpec(name="sgd", lr=LR), clip_norm=0.5)

    assert max(norms) > 0.5  # or nothing was clipped
    assert_equal(ours, theirs)


def test_accumulation_trains_the_same_weights_bit_for_bit_as_accumulation_by_hand():
    ours, theirs = network(), network()

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=True)
    for batch in batches():
        optimizer.zero_grad()
        for images_NCHW, target in zip(batch.images_NCHW.split(4), batch.target.split(4), strict=True):
            (functional.cross_entropy(theirs(images_NCHW), target, reduction="sum") / 8).backward()
        optimizer.step()
    fitted(ours, OptimizerSpec(name="sgd", lr=LR), parts=2)

    assert_equal(ours, theirs)


@pytest.mark.parametrize("parts", [2, 3, 8])
def test_accumulation_is_the_whole_batch_up_to_rounding(parts):
    """Where no layer looks at the batch, as batch norm does."""
    in_parts, whole = network(norm=nn.GroupNorm(2, 8)), network(norm=nn.GroupNorm(2, 8))
    spec = OptimizerSpec(name="sgd", lr=LR)

    losses = fitted(in_parts, spec, parts=parts)

    assert losses == pytest.approx(fitted(whole, spec), rel=1e-4)
    for weight, expected in zip(in_parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-5)


def test_numbers_are_learned_as_by_hand_from_standardized_ones():
    ours, theirs = network(), network()
    mean_T, std_T = torch.tensor([10.0, 0.0, -5.0]), torch.tensor([4.0, 1.0, 0.5])
    of_numbers = [replace(b, target=mean_T + std_T * b.images_NCHW.mean(dim=(2, 3))) for b in batches()]
    info = TargetInfo(names=("x", "y", "z"), mean=tuple(mean_T.tolist()), std=tuple(std_T.tolist()))

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=True)
    for batch in of_numbers:
        optimizer.zero_grad()
        functional.mse_loss(theirs(batch.images_NCHW), (batch.target - mean_T) / std_T).backward()
        optimizer.step()
    train(ours, task_of("regression", "mse", info), of_numbers)

    for weight, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_masks_are_learned_as_by_hand_without_the_pixels_that_are_ignored():
    """Images with as many scored pixels each: torch's mean is over all pixels, ours over each image's."""
    ours, theirs = (nn.Sequential(network()[0], nn.ReLU(), network()[3]) for _ in range(2))
    of_masks = [replace(b, target=(b.images_NCHW[:, :, :3, :3].argmax(dim=1)).to(torch.uint8)) for b in batches()]
    for batch in of_masks:
        batch.target[:, 0, :] = IGNORED
    info = TargetInfo(names=tuple("abcdefgh"))

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=True)
    for batch in of_masks:
        optimizer.zero_grad()
        functional.cross_entropy(theirs(batch.images_NCHW), batch.target.long(), ignore_index=IGNORED).backward()
        optimizer.step()
    train(ours, task_of("segmentation", "cross-entropy", info), of_masks)

    for weight, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def train(model: nn.Module, task: Task, given: list[Batch]) -> None:
    """Train with trainwright, with SGD and momentum."""
    optimizer = build_optimizer(
        [(p, 1.0) for p in model.parameters()], OptimizerSpec(name="sgd", lr=LR, momentum=0.9), CPU
    )
    for _ in fit(model, task, given, optimizer, build_schedule(ScheduleSpec()), steps=STEPS, device=CPU):
        pass


def test_dropout_draws_from_the_stream_of_seed_and_step():
    ours, theirs = network(dropout=0.5), network(dropout=0.5)

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=True)
    with torch.random.fork_rng(devices=[]):
        for step, batch in enumerate(batches()):
            torch.default_generator.manual_seed(derive(3, "step", step))
            optimizer.zero_grad()
            functional.cross_entropy(theirs(batch.images_NCHW), batch.target).backward()
            optimizer.step()
    fitted(ours, OptimizerSpec(name="sgd", lr=LR), seed=3)

    assert_equal(ours, theirs)


def test_mixed_precision_trains_the_same_weights_bit_for_bit():
    ours, theirs = network(), network()

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=True)
    for batch in batches():
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(theirs(batch.images_NCHW).float(), batch.target)
        loss.backward()
        optimizer.step()
    fitted(ours, OptimizerSpec(name="sgd", lr=LR), autocast=torch.bfloat16)

    assert_equal(ours, theirs)


def test_scaled_gradients_of_half_precision_train_the_same_weights_bit_for_bit():
    """Scaling before the clipping would clip the scaled gradient."""
    ours, theirs = network(), network()

    optimizer = torch.optim.SGD(theirs.parameters(), lr=LR, momentum=0.9, fused=False, foreach=False)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for batch in batches():
        optimizer.zero_grad()
        scaler.scale(functional.cross_entropy(theirs(batch.images_NCHW), batch.target)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
    fitted(
        ours,
        OptimizerSpec(name="sgd", lr=LR),
        clip_norm=0.5,
        scaler=torch.amp.GradScaler("cpu", init_scale=1024.0),
    )

    for weight, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6)


def test_averaged_weights_are_torchs():
    """Once the decay has grown to its full size, after eleven updates at 0.5 from the rule (1 + t) / (10 + t)."""
    model = network()
    average = WeightAverage(model, 0.5)
    average.updates = 11
    theirs = torch.optim.swa_utils.AveragedModel(
        copy.deepcopy(model), multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    )
    theirs.update_parameters(model)  # its first update copies

    for _ in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.5)
        average.update(model)
        theirs.update_parameters(model)

    for weight, expected in zip(average.model.parameters(), theirs.module.parameters(), strict=True):
        torch.testing.assert_close(weight, expected.detach(), rtol=1e-6, atol=0)
