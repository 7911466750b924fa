"""The schedule with a memory: it goes by the val score of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainwright.plugins import schedules
from trainwright.recipe import ScheduleSpec

PUBLISHED: Mapping[str, Mapping[str, Any]] = {"reduce-on-plateau": {"final": 0.0}}  # torch's ReduceLROnPlateau


@schedules.register("reduce-on-plateau")
def reduce_on_plateau(spec: ScheduleSpec) -> Callable[[float], float]:
    """The peak lr, times `decay` after each `patience` epochs without a better val score, never below `final` of the peak.

    "Divided by 10 when the error plateaus": He et al., arXiv:1512.03385 §3.4. `patience` is counted as `early_stop` counts.
    """
    return ReduceOnPlateau(decay=spec.decay, patience=spec.patience, final=spec.final or 0.0)


class ReduceOnPlateau:
    """A `RememberingSchedule`: the best score, the epochs since, and the factor that came of it."""

    def __init__(self, *, decay: float, patience: int, final: float) -> None:
        self._decay, self._patience, self._final = decay, patience, final
        self._factor = 1.0
        self._best: float | None = None
        self._waited = 0

    def __call__(self, progress: float) -> float:
        """The factor of the peak lr; the same for every progress, until the next epoch is observed."""
        return self._factor

    def observe(self, score: float) -> None:
        """Take in the val score of an epoch that has just ended; one that is no number is no better than any."""
        if score > (float("-inf") if self._best is None else self._best):
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited >= self._patience:
            self._factor, self._waited = max(self._factor * self._decay, self._final), 0

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as plain JSON data."""
        return {"factor": self._factor, "best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to what `state_dict` gave."""
        self._factor, self._best, self._waited = state["factor"], state["best"], state["waited"]
