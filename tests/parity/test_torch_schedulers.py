"""Where torch.optim.lr_scheduler defines the same schedule, ours is the same at every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from trainwright.optim.schedules import build_schedule, momentum_of
from trainwright.plugins import RememberingSchedule
from trainwright.recipe import ScheduleSpec

STEPS = 120
Scheduler = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]


def torchs(build: Scheduler, steps: int) -> tuple[list[float], list[float]]:
    """(lr, momentum) of each step under torch's scheduler, at a peak of 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler, lrs, momenta = build(optimizer), [], []
    for _ in range(steps):
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        momenta.append(float(optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    return lrs, momenta


@pytest.mark.parametrize(
    ("spec", "build"),
    [
        (ScheduleSpec(name="step"), lambda o: lr_scheduler.MultiStepLR(o, [60, 90])),
        (
            ScheduleSpec(name="step", milestones=(0.25, 0.5, 0.75), decay=0.5),
            lambda o: lr_scheduler.StepLR(o, 30, gamma=0.5),
        ),
        (
            ScheduleSpec(name="exponential", final=0.01),
            lambda o: lr_scheduler.ExponentialLR(o, gamma=0.01 ** (1 / STEPS)),
        ),
        (ScheduleSpec(name="polynomial"), lambda o: lr_scheduler.PolynomialLR(o, STEPS, power=0.9)),
        (ScheduleSpec(name="cosine"), lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
        (
            ScheduleSpec(name="cosine-restarts", cycles=4, growth=2.0, final=0.1),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=8, T_mult=2, eta_min=0.1),  # 8 + 16 + 32 + 64
        ),
        (
            ScheduleSpec(name="cosine-restarts", cycles=4, growth=1.0),
            lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, T_0=30),
        ),
        (
            ScheduleSpec(name="triangular"),
            lambda o: lr_scheduler.CyclicLR(o, 0.25, 1.0, step_size_up=15, cycle_momentum=False),
        ),
        (
            ScheduleSpec(name="triangular2", cycles=3, low=0.1),
            lambda o: lr_scheduler.CyclicLR(o, 0.1, 1.0, step_size_up=20, mode="triangular2", cycle_momentum=False),
        ),
        (  # with a lower bound of 0 both read Smith alike; see `exponential_range`
            ScheduleSpec(name="exponential-range", low=0.0, final=0.05),
            lambda o: lr_scheduler.CyclicLR(
                o, 0.0, 1.0, step_size_up=15, mode="exp_range", gamma=0.05 ** (1 / STEPS), cycle_momentum=False
            ),
        ),
        (
            ScheduleSpec(name="constant", warmup=0.25),
            lambda o: lr_scheduler.LinearLR(o, start_factor=1e-12, total_iters=30),
        ),
    ],
    ids=[
        "MultiStepLR",
        "StepLR",
        "ExponentialLR",
        "PolynomialLR",
        "CosineAnnealingLR",
        "WarmRestarts-doubling",
        "WarmRestarts-even",
        "CyclicLR-triangular",
        "CyclicLR-triangular2",
        "CyclicLR-exp_range",
        "LinearLR",
    ],
)
def test_a_schedule_is_torchs_at_every_step(spec, build):
    schedule = build_schedule(spec)

    ours = [schedule(step / STEPS) for step in range(STEPS)]

    assert ours == pytest.approx(torchs(build, STEPS)[0], abs=1e-9)


def test_one_cycle_is_torchs_with_its_own_constants():
    """Torch reaches the end at its last step and the peak a step early; we reach the end after it. So ours has one fewer."""
    spec = ScheduleSpec(name="one-cycle", rise=(0.3 * (STEPS + 1) - 1) / STEPS, momentum=(0.85, 0.95))
    schedule, momentum = build_schedule(spec), momentum_of(spec)

    lrs, momenta = torchs(lambda o: lr_scheduler.OneCycleLR(o, max_lr=1.0, total_steps=STEPS + 1), STEPS + 1)

    assert momentum is not None
    assert [schedule(step / STEPS) for step in range(STEPS + 1)] == pytest.approx(lrs, abs=1e-12)
    assert [momentum(step / STEPS) for step in range(STEPS + 1)] == pytest.approx(momenta, abs=1e-12)


def test_reduce_on_plateau_is_torchs():
    """Torch's patience is the epochs it still bears: one fewer than ours. Its threshold is set to 0: any better score counts."""
    scores = [0.5, 0.6, 0.6, 0.55, 0.59, 0.61, 0.6, 0.6, 0.6, 0.6, 0.6, 0.7, 0.69, 0.69, 0.69, 0.69]
    schedule = build_schedule(ScheduleSpec(name="reduce-on-plateau", patience=3, decay=0.2, final=0.01))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", patience=2, factor=0.2, threshold=0.0, min_lr=0.01, eps=0.0
    )
    assert isinstance(schedule, RememberingSchedule)
    ours, theirs = [], []

    for score in scores:
        schedule.observe(score)
        scheduler.step(score)
        ours.append(schedule(0.5))
        theirs.append(optimizer.param_groups[0]["lr"])

    assert ours == pytest.approx(theirs)
    assert ours[-1] < ours[0]
