"""Schedules that only fall, or stay: pure functions of progress, 0 at the first step and 1 after the last."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

from trainwright.plugins import schedules
from trainwright.recipe import ScheduleSpec

Schedule = Callable[[float], float]

ROUNDING = 1e-9  # of progress: behind a warm-up of 0.2 a half is 0.49999999999999994, and a milestone would wait a step

PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "exponential": {"final": 0.01},  # ours: as far down as two steps of a tenth, the published `step`
    "polynomial": {"final": 0.0},  # Chen et al., arXiv:1606.00915 §4.1
    "cosine": {"final": 0.0},  # Loshchilov and Hutter, arXiv:1608.03983, figure 1
    "warmup-stable-decay": {"final": 0.0},  # Hägele et al., arXiv:2405.18392 §3
}


@schedules.register("constant")
def constant(spec: ScheduleSpec) -> Schedule:
    """The peak lr throughout."""
    return lambda progress: 1.0


@schedules.register("step")
def step(spec: ScheduleSpec) -> Schedule:
    """The peak lr times `decay` at each of the `milestones` (He et al., arXiv:1512.03385 §4.2: a tenth at ½ and at ¾)."""
    return lambda progress: spec.decay ** bisect_right(spec.milestones, progress + ROUNDING)


@schedules.register("exponential")
def exponential(spec: ScheduleSpec) -> Schedule:
    """The same factor each step, from the peak lr to `final` of it. Its default, a hundredth, is a choice of ours."""
    final = _final(spec)
    return lambda progress: math.pow(final, min(progress, 1.0))


@schedules.register("polynomial")
def polynomial(spec: ScheduleSpec) -> Schedule:
    """(1 − progress) to the `power`, from the peak lr to `final` of it: "poly" of Chen et al., arXiv:1606.00915 §4.1."""
    final = _final(spec)
    return lambda progress: final + (1 - final) * math.pow(max(0.0, 1 - progress), spec.power)


@schedules.register("cosine")
def cosine(spec: ScheduleSpec) -> Schedule:
    """Half a cosine from the peak lr to `final` of it (Loshchilov and Hutter, arXiv:1608.03983 §3, without restarts)."""
    final = _final(spec)
    return lambda progress: final + (1 - final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


@schedules.register("warmup-stable-decay")
def warmup_stable_decay(spec: ScheduleSpec) -> Schedule:
    """The peak lr, and in the last part, `cooldown`, down to `final` of it as 1 − √: Hägele et al., arXiv:2405.18392 §3.

    Its warm-up is the `warmup` of every schedule.
    """
    final, starts = _final(spec), 1 - spec.cooldown

    def factor(progress: float) -> float:
        if progress <= starts:
            return 1.0
        cooled = min(1.0, (progress - starts) / spec.cooldown)
        return final + (1 - final) * (1 - math.sqrt(cooled))

    return factor


def _final(spec: ScheduleSpec) -> float:
    """lr at the end, as a part of the peak."""
    return float(PUBLISHED[spec.name]["final"]) if spec.final is None else spec.final
