"""Schedules: the learning rate as a function of progress, 0 at the first step and 1 after the last.

The families are `decay`, `cycles` and `plateau`. Here is what they have in common: the warm-up before any of them, their
published constants, and what is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from trainwright.errors import RecipeError
from trainwright.optim import cycles, decay, plateau
from trainwright.optim.decay import Schedule
from trainwright.plugins import RememberingSchedule, schedules
from trainwright.recipe import ScheduleSpec

PUBLISHED: Mapping[str, Mapping[str, Any]] = {**decay.PUBLISHED, **cycles.PUBLISHED, **plateau.PUBLISHED}
CONSTANTS: Mapping[str, tuple[str, ...]] = {  # the values of a `ScheduleSpec` that each goes by, beside `warmup`
    "constant": (),
    "step": ("decay", "milestones"),
    "exponential": ("final",),
    "polynomial": ("final", "power"),
    "cosine": ("final",),
    "warmup-stable-decay": ("final", "cooldown"),
    "one-cycle": ("low", "final", "rise", "momentum"),
    "triangular": ("low", "cycles"),
    "triangular2": ("low", "cycles"),
    "exponential-range": ("low", "cycles", "final"),
    "cosine-restarts": ("cycles", "final", "growth"),
    "reduce-on-plateau": ("decay", "patience", "final"),
}
SHORTEST_CYCLE = 1e-6  # of the training: no training has as many steps


def published_constants(spec: ScheduleSpec, *, momentum_is_given: bool = False) -> dict[str, Any]:
    """Values for those of the spec's constants that are None: the named schedule's published ones.

    Those that the named schedule does not have stay None; so does the momentum of one-cycle where the recipe says the
    optimizer's itself (momentum_is_given), and is then not moved. Raises RecipeError where the constants contradict.
    """
    refuse_contradictions(spec)
    left = {"momentum"} if momentum_is_given else set()
    known = PUBLISHED.get(spec.name, {})
    return {key: value for key, value in known.items() if key not in left and getattr(spec, key) is None}


def momentum_of(spec: ScheduleSpec) -> Callable[[float], float] | None:
    """progress → momentum, for one-cycle with a `momentum`, which goes against lr; None for all others.

    During a warm-up it stays where the schedule begins.
    """
    if spec.name != "one-cycle" or spec.momentum is None:
        return None
    after = cycles.cycled_momentum(spec)
    return lambda progress: after(max(0.0, progress - spec.warmup) / (1 - spec.warmup))


def build_schedule(spec: ScheduleSpec) -> Schedule:
    """progress → factor of the peak lr: the named schedule, behind a linear warm-up where the recipe asks for one.

    The warm-up rises from 0 to where the schedule begins, and that runs over what is left (Goyal et al., arXiv:1706.02677
    §2.2). A `RememberingSchedule` stays one. Raises UnknownNameError, and RecipeError where the constants contradict.
    """
    refuse_contradictions(spec)
    after = schedules.get(spec.name)(spec)
    if spec.warmup == 0:
        return after
    return (
        RememberingWarmUp(after, spec.warmup) if isinstance(after, RememberingSchedule) else WarmUp(after, spec.warmup)
    )


class WarmUp:
    """A schedule behind a linear warm-up. part: of the training, that the warm-up takes."""

    def __init__(self, after: Schedule, part: float) -> None:
        self._after, self._part = after, part

    def __call__(self, progress: float) -> float:
        if progress < self._part:
            return progress / self._part * self._after(0.0)
        return self._after((progress - self._part) / (1 - self._part))


class RememberingWarmUp(WarmUp):
    """A schedule with a memory behind a linear warm-up; it hears of every epoch, also of those of the warm-up."""

    def __init__(self, after: RememberingSchedule, part: float) -> None:
        super().__init__(after, part)
        self.observe, self.state_dict, self.load_state_dict = after.observe, after.state_dict, after.load_state_dict


def refuse_contradictions(spec: ScheduleSpec) -> None:
    """Raise RecipeError for constants that the named schedule cannot follow."""
    if spec.name == "step":
        _refuse_milestones(spec.milestones)
    if spec.name in ("exponential", "exponential-range") and spec.final == 0:
        raise RecipeError(
            f"{spec.name} never gets to 0.",
            where="schedule.final",
            cure="Set it above 0, or to null for the published one. Schedules that end at 0: cosine, polynomial.",
        )
    if spec.name == "one-cycle" and spec.momentum is not None and not 0 < spec.momentum[0] <= spec.momentum[1]:
        raise RecipeError(
            f"{list(spec.momentum)} is not momentum at the peak and, as high or higher, at the ends.",
            where="schedule.momentum",
            cure="Set [0.85, 0.95], or twice the same number to keep it. Without momentum: optimizer.momentum=0.",
        )
    if spec.cycles is not None and "cycles" in PUBLISHED.get(spec.name, {}):
        _refuse_short_cycles(spec.cycles, spec.growth if spec.name == "cosine-restarts" else 1.0)


def _refuse_milestones(milestones: tuple[float, ...]) -> None:
    if not milestones or any(later <= earlier for earlier, later in pairwise((0.0, *milestones))):
        raise RecipeError(
            f"{list(milestones)} are not parts of the training above 0, each later than the one before.",
            where="schedule.milestones",
            cure="Set for example [0.5, 0.75]. To keep lr: schedule.name=constant.",
        )


def _refuse_short_cycles(count: int, growth: float) -> None:
    """The first of `count` cycles, each `growth` times the one before, must not be over before the first step."""
    most = 1 / SHORTEST_CYCLE  # Σ growth^k of all cycles is what the first one is a part of
    short = count > most if growth == 1 else count * math.log(growth) > math.log1p(most * (growth - 1))
    if short:
        raise RecipeError(
            f"the first of {count} cycles would be less than a millionth of the training.",
            where="schedule.cycles",
            cure=f"Set fewer{'' if growth == 1 else ', or schedule.growth nearer to 1'}; usual are 3 to 10.",
        )
