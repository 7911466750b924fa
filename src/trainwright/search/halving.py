"""Rungs: the epochs at which trainings are compared, and how many of them go on."""

from __future__ import annotations

import math

from trainwright.errors import UsageError
from trainwright.search.searching import Setting


def rungs_of(setting: Setting, *, reduction: int, strategy: str) -> tuple[int, ...]:
    """Epochs after which trainings are compared, the whole training last: each `reduction` times as many as the one before.

    Raises UsageError where the objective has no epochs, or too few for two rungs.
    """
    if setting.epochs is None:
        raise UsageError(
            f"{strategy} compares trainings after few epochs, and was not told how many a whole one has.",
            where="strategy",
            cure="Give epochs, or take a strategy that trains each to the end: random, sobol, tpe, gp.",
        )
    if reduction < 2:
        raise UsageError(f"reduction: expected 2 or more, got {reduction}.", where="strategy")
    steps = int(math.log(setting.epochs / setting.least_epochs) / math.log(reduction) + 1e-9)
    if setting.least_epochs < 1 or steps < 1:
        raise UsageError(
            f"{strategy} needs at least {reduction} times the fewest epochs: {setting.epochs} of at least "
            f"{setting.least_epochs} leave nothing to stop early.",
            where="strategy",
            cure="Take more epochs, a lower least_epochs, or a strategy that trains each to the end.",
        )
    return tuple(round(setting.epochs / reduction**step) for step in range(steps, -1, -1))
