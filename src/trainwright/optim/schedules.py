"""Schedules: the learning rate as a stateless function of progress, 0 at the first step and 1 after the last."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from trainwright.plugins import schedules
from trainwright.recipe import ScheduleSpec

Schedule = Callable[[float], float]


def published_constants(spec: ScheduleSpec) -> dict[str, Any]:
    """Values for those of the spec's constants that are None: the named schedule's published ones."""
    return {"final": 0.0} if spec.final is None else {}


def momentum_of(spec: ScheduleSpec) -> Callable[[float], float] | None:
    """progress → momentum, for schedules that move it against lr; None for all others."""
    return None


def build_schedule(spec: ScheduleSpec) -> Schedule:
    """progress → factor of the peak lr: the named schedule, behind a linear warm-up where the recipe asks for one.

    The named schedule runs over what the warm-up leaves (Goyal et al., arXiv:1706.02677 §2.2). Raises UnknownNameError.
    """
    after = schedules.get(spec.name)(spec)
    if spec.warmup == 0:
        return after

    def warmed_up(progress: float) -> float:
        if progress < spec.warmup:
            return progress / spec.warmup
        return after((progress - spec.warmup) / (1 - spec.warmup))

    return warmed_up


@schedules.register("constant")
def constant(spec: ScheduleSpec) -> Schedule:
    """The peak lr throughout."""
    return lambda progress: 1.0


@schedules.register("cosine")
def cosine(spec: ScheduleSpec) -> Schedule:
    """Half a cosine from the peak lr to `final` of it (Loshchilov and Hutter, arXiv:1608.03983 §3, without restarts)."""
    final = spec.final or 0.0
    return lambda progress: final + (1 - final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
