"""`Evidence`: everything a rule may look at, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainwright.diagnosis.balance import Balance
from trainwright.diagnosis.calibration import Calibration
from trainwright.diagnosis.gap import Gap
from trainwright.diagnosis.labels import LabelNoise
from trainwright.diagnosis.shift import Shift
from trainwright.diagnosis.twins import Twins
from trainwright.records import Interval, TrainErrors


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """A short extra training that tells one cause, beside the run that it explains.

    name: as `longer`. changes: of the recipe, by dotted key; empty where nothing was changed. before: what these were.
    state: trained; needless where there is nothing to change, or the answer is known without a training; failed where its
    loss stopped being finite. note: what was found without training, or why it failed. train_error, val_error: of the weights
    that it kept, in eval mode on clean images. train_drop, val_drop: by how much these are below those of the run, on the same
    images. Errors and drops are None where they were not measured. outside: the range test finds that the loss does not fall at
    the learning rate of the run. label_noise: of all images, out of fold; None of other probes. steps, seconds: what it took.
    folder: its own, under that of the run; empty without one.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] = field(default_factory=dict)
    state: Literal["trained", "needless", "failed"] = "trained"
    note: str = ""
    train_error: Interval | None = None
    val_error: Interval | None = None
    train_drop: Interval | None = None
    val_drop: Interval | None = None
    outside: bool = False
    label_noise: LabelNoise | None = None
    steps: int = 0
    seconds: float = 0.0
    folder: str = ""


@dataclass(frozen=True, kw_only=True)
class StepLosses:
    """What the losses of the single steps tell, each step on a batch of its own.

    steps: how many. start: mean of the first ones, before much was learned. end: mean over the last tenth. spikes: how often
    the loss, smoothed over a few steps, rose back by half of all that had been gained until then. largest: the highest of
    these rises, as a part of what had been gained; 0 without any.
    """

    steps: int
    start: float
    end: float
    spikes: int
    largest: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one run showed.

    metric: what the score measures; errors are 1 − score. gap, errors: at the checkpoint that was kept; None where the run
    ended before anything was evaluated; single errors may be nan. train_loss, val_loss, train_score, val_score: one an
    epoch, in eval mode on the clean transform; may hold nan. classes: their names; empty where the task has none.
    val_per_class: score of each. val_count, train_count: images of each part. chance_score: score of the best answer that
    does not look at the image: always the most frequent class; 0 for R² and mAP. guess_loss: loss of such an answer, as
    log(K) for K classes; infinite where it is not known. probabilistic: answers are probabilities and the loss is their
    cross-entropy. counts_right: the score is the share of images that are right. eval_excess: how much larger the clean
    error is than that in train mode, on the same train images; None where the errors themselves have to tell. diverged:
    training was stopped because of a loss that was not finite; nonfinite_step: at which step. mixed: trained on mixtures.
    step_losses: of the training itself, in train mode; None where they were not kept. steps: how many it took; None where that is
    not known. probes: those that were run, by name.
    twins, shift, label_noise, balance, calibration: of the validation images; None where it was not looked at, or cannot be.
    """

    metric: str = "accuracy"

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
    guess_loss: float = math.inf
    probabilistic: bool = True
    counts_right: bool = True
    eval_excess: Interval | None = None
    diverged: bool = False
    nonfinite_step: int | None = None
    mixed: bool = False
    step_losses: StepLosses | None = None
    steps: int | None = None
    probes: Mapping[str, ProbeResult] = field(default_factory=dict)
    twins: Twins | None = None
    shift: Shift | None = None
    label_noise: LabelNoise | None = None
    balance: Balance | None = None
    calibration: Calibration | None = None

    @property
    def score_name(self) -> str:
        """How findings call the score; that of plain accuracy goes without saying."""
        return "score" if self.metric == "accuracy" else self.metric

    @property
    def error_note(self) -> str:
        """What findings put behind the first "error" that they name: ' (1 − mean IoU)'; nothing for accuracy."""
        return "" if self.metric == "accuracy" else f" (1 − {self.metric})"

    @property
    def scored_train_count(self) -> int:
        """Train images that were scored: about as many as there are validation images (statistics.md, "The gap")."""
        return min(self.train_count, max(self.val_count, 1))
