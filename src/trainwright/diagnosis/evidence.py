"""`Evidence`: everything a rule may look at, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from trainwright.diagnosis.gap import Gap
from trainwright.records import TrainErrors


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one run showed.

    gap, errors: at the checkpoint that was kept; None where the run ended before anything was evaluated. train_loss,
    val_loss, train_score, val_score: one an epoch, in eval mode on the clean transform; may hold nan. classes: their names;
    empty where the task has none. val_per_class: score of each. val_count, train_count: images of each part.
    chance_score: score of always answering the most frequent class. diverged: training was stopped because of a loss
    that was not finite; nonfinite_step: at which step.
    """

    gap: Gap | None = None
    errors: TrainErrors | None = None
    train_loss: tuple[float, ...]
    val_loss: tuple[float, ...]
    train_score: tuple[float, ...]
    val_score: tuple[float, ...]
    classes: tuple[str, ...] = ()
    val_per_class: Mapping[str, float] = field(default_factory=dict)
    val_count: int
    train_count: int
    chance_score: float
    diverged: bool = False
    nonfinite_step: int | None = None

    @property
    def scored_train_count(self) -> int:
        """Train images that were scored: about as many as there are validation images (statistics.md, "The gap")."""
        return min(self.train_count, max(self.val_count, 1))

    @property
    def guess_loss(self) -> float:
        """Cross-entropy of giving every class the same probability; infinite where there are no classes."""
        return math.log(len(self.classes)) if len(self.classes) > 1 else math.inf
