"""Schedules that rise again: pure functions of progress, 0 at the first step and 1 after the last."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import Any

from trainwright.optim.decay import ROUNDING, Schedule
from trainwright.plugins import schedules
from trainwright.recipe import ScheduleSpec

# "Replacing each step of a constant learning rate with at least 3 cycles trains the network weights most of the way and
# running for 4 or more cycles will achieve even better performance": Smith, arXiv:1506.01186 §3.2
CYCLES = 4
LOW = 1 / 4  # of the upper bound, where no range test was made: Smith, arXiv:1506.01186 §3.3, a third or a quarter
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    # low, final: torch.optim.lr_scheduler.OneCycleLR, after fastai; Smith's own advice for the start is a tenth or a
    # twentieth. momentum: Smith, arXiv:1803.09820 §4.3
    "one-cycle": {"low": 1 / 25, "final": 1 / 25 / 1e4, "momentum": (0.85, 0.95)},
    "triangular": {"low": LOW, "cycles": CYCLES},
    "triangular2": {"low": LOW, "cycles": CYCLES},
    # final: 0.99994 an iteration over the 42,000 after which training could end: Smith, arXiv:1506.01186 §4.1.1
    "exponential-range": {"low": LOW, "cycles": CYCLES, "final": 0.08},
    # cycles of 10, 20, 40 and 80 epochs, down to 0: Loshchilov and Hutter, arXiv:1608.03983 §4.2, who train for 200
    "cosine-restarts": {"cycles": 4, "final": 0.0},
}


@schedules.register("one-cycle")
def one_cycle(spec: ScheduleSpec) -> Schedule:
    """Half a cosine up from `low` to the peak lr at `rise` of the training, and half a cosine down to `final` of it.

    Smith and Topin, arXiv:1708.07120, and Smith, arXiv:1803.09820, with the two phases of torch's OneCycleLR. The momentum
    goes the other way, where the recipe has `momentum`: `cycled_momentum`.
    """
    low, final, height = _low(spec), _final(spec), _one_cycle_height(spec)
    return lambda progress: _between(low if progress < spec.rise else final, height(progress))


def cycled_momentum(spec: ScheduleSpec) -> Callable[[float], float]:
    """progress → momentum of one-cycle: high where lr is low (Smith, arXiv:1803.09820 §4.3)."""
    assert spec.momentum is not None
    at_peak, at_ends = spec.momentum
    height = _one_cycle_height(spec)
    return lambda progress: float(at_ends - (at_ends - at_peak) * height(progress))


@schedules.register("triangular")
def triangular(spec: ScheduleSpec) -> Schedule:
    """`cycles` times up from `low` to the peak lr and down again, in straight lines: Smith, arXiv:1506.01186 §3.1.

    Ends at `low`, where a cycle ends: "it is best to stop training at the end of a cycle" (§3.2).
    """
    low, wave = _low(spec), _triangles(_cycles(spec))
    return lambda progress: _between(low, wave(progress)[1])


@schedules.register("triangular2")
def triangular2(spec: ScheduleSpec) -> Schedule:
    """As triangular, with half the height after each cycle: Smith, arXiv:1506.01186 §3.1."""
    low, wave = _low(spec), _triangles(_cycles(spec))

    def factor(progress: float) -> float:
        cycle, height = wave(progress)
        return _between(low, height * 0.5**cycle)

    return factor


@schedules.register("exponential-range")
def exponential_range(spec: ScheduleSpec) -> Schedule:
    """As triangular, while both bounds fall by the same factor each step, to `final` of themselves at the end.

    Smith, arXiv:1506.01186 §3.1: "each boundary value declines". torch's CyclicLR lets only the upper one fall; with a lower
    bound of 0 both are the same. lr never gets to the peak itself: the upper bound has fallen before the first rise ends.
    """
    low, final, wave = _low(spec), _final(spec), _triangles(_cycles(spec))
    return lambda progress: _between(low, wave(progress)[1]) * math.pow(final, min(progress, 1.0))


@schedules.register("cosine-restarts")
def cosine_restarts(spec: ScheduleSpec) -> Schedule:
    """Half a cosine from the peak lr to `final` of it, `cycles` times, each `growth` times as long as the one before.

    SGDR: Loshchilov and Hutter, arXiv:1608.03983 §3.
    """
    final, cycles = _final(spec), _cycles(spec)
    lengths = [math.pow(spec.growth, cycle - cycles + 1) for cycle in range(cycles)]  # of the last one
    total = sum(lengths)
    starts = [0.0, *(end / total for end in accumulate(lengths[:-1]))]

    def factor(progress: float) -> float:
        cycle = bisect_right(starts, progress + ROUNDING) - 1
        within = min(1.0, max(0.0, progress - starts[cycle]) * total / lengths[cycle])
        return _between(final, (1 + math.cos(math.pi * within)) / 2)

    return factor


def _one_cycle_height(spec: ScheduleSpec) -> Callable[[float], float]:
    """progress → 0 at both ends, 1 at the peak."""

    def height(progress: float) -> float:
        if progress < spec.rise:
            return (1 - math.cos(math.pi * progress / spec.rise)) / 2
        return (1 + math.cos(math.pi * min(1.0, (progress - spec.rise) / (1 - spec.rise)))) / 2

    return height


def _triangles(cycles: int) -> Callable[[float], tuple[int, float]]:
    """progress → (cycle, height): height 0 where a cycle begins and ends, 1 in its middle."""

    def wave(progress: float) -> tuple[int, float]:
        position = min(progress, 1.0) * cycles
        cycle = math.floor(position)
        return cycle, 1 - abs(2 * (position - cycle) - 1)

    return wave


def _between(low: float, height: float) -> float:
    """Exactly `low` at height 0 and 1 at height 1."""
    return height + low * (1 - height)


def _low(spec: ScheduleSpec) -> float:
    return float(PUBLISHED[spec.name]["low"]) if spec.low is None else spec.low


def _final(spec: ScheduleSpec) -> float:
    return float(PUBLISHED[spec.name]["final"]) if spec.final is None else spec.final


def _cycles(spec: ScheduleSpec) -> int:
    return int(PUBLISHED[spec.name]["cycles"]) if spec.cycles is None else spec.cycles
