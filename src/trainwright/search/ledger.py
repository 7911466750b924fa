"""What a study may spend, what it has spent, and how many epochs fit into the rest. Seconds of wall-clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Epoch counts that trainings are compared at: steps of about a fifth, so that a second more or less changes no decision.
LADDER = (
    1,
    2,
    3,
    4,
    5,
    6,
    8,
    10,
    12,
    15,
    18,
    22,
    26,
    32,
    38,
    46,
    55,
    66,
    80,
    95,
    115,
    140,
    165,
    200,
    240,
    290,
    350,
    420,
    500,
)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long things take here. epoch_seconds: an epoch of the baseline, with its evaluation, beside as many other runs as are
    trained at a time. run_seconds: what a run costs beside its epochs: reading, judging, drawing."""

    epoch_seconds: float
    run_seconds: float

    def __post_init__(self) -> None:
        if not (self.epoch_seconds > 0 and self.run_seconds >= 0):
            raise ValueError(f"Pace: expected seconds above 0, got {self.epoch_seconds} and {self.run_seconds}")


class Ledger:
    """The budget of a study. limit: seconds; infinite where only rounds are limited. slots: runs that are trained at a time."""

    def __init__(self, *, limit: float, pace: Pace, slots: int = 1) -> None:
        self.limit, self.pace, self.slots = limit, pace, slots
        self.spent = 0.0

    @property
    def left(self) -> float:
        return self.limit - self.spent

    def book(self, seconds: float) -> None:
        """The study has gone on for so long."""
        self.spent += seconds

    def learn(self, *, epochs: int, seconds: float, training_seconds: float, cost: float = 1.0) -> None:
        """Take the pace from a run. training_seconds: of `seconds`, those of its epochs. cost: as in `seconds`."""
        if epochs > 0 and training_seconds > 0:
            epoch_seconds = training_seconds / epochs / cost
            self.pace = Pace(epoch_seconds=epoch_seconds, run_seconds=max(0.0, seconds - training_seconds))

    def seconds(self, epochs: float, *, cost: float = 1.0) -> float:
        """Of a run. cost: time of its epochs over that of the unchanged recipe's."""
        return self.pace.run_seconds + epochs * cost * self.pace.epoch_seconds

    def together(self, runs: Sequence[float]) -> float:
        """Of several runs of so many seconds each, begun in their order as slots become free."""
        free = [0.0] * self.slots
        for seconds in runs:
            free.sort()
            free[0] += seconds
        return max(free)

    def epochs(self, seconds: float, *, cost: float = 1.0) -> int:
        """As many whole epochs as a run of so many seconds has; 0 where not one fits."""
        if not math.isfinite(seconds):
            return LADDER[-1]
        return max(0, math.floor((seconds - self.pace.run_seconds) / (self.pace.epoch_seconds * cost) + 1e-9))


class Trained:
    """What all trainings so far took: some are costlier than others. training_seconds: of `seconds`, those of epochs."""

    def __init__(self) -> None:
        self.count = self.epochs = 0
        self.seconds = self.training_seconds = 0.0

    def add(self, epochs: int, *, seconds: float, training_seconds: float) -> None:
        self.count += 1
        self.epochs += epochs
        self.seconds += max(seconds, training_seconds)
        self.training_seconds += training_seconds

    def teach(self, ledger: Ledger) -> None:
        """Let a ledger take its pace from them."""
        beside = (self.seconds - self.training_seconds) / self.count
        taken = self.training_seconds
        ledger.learn(epochs=self.epochs, seconds=taken + beside, training_seconds=taken)


def rung(epochs: int) -> int:
    """The largest count of the ladder that is not above `epochs`; at least 1."""
    return max([step for step in LADDER if step <= epochs], default=1)
