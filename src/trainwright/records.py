"""Frozen values that travel between stages: intervals, records of steps and epochs, answers, findings, results.

Everything here is numbers and text (numpy at most, never torch) and writes itself as JSON with `to_json`.
Fractions are 0–1. A score is higher when better, a loss lower.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from trainwright.recipe import Recipe

Answer = Literal["yes", "no", "cannot-tell"]
Part = Literal["train", "val", "test"]
TargetKind = Literal["class", "numbers", "mask", "boxes"]  # what a dataset knows of each image
Role = Literal["baseline", "control", "arm", "probe", "confirmation", "final", "trial"]  # of a run in a study
OutputForm = Literal["vector", "map", "boxes"]  # what a network says of each image
IGNORED = 255  # in masks: a pixel that is neither learned from nor scored
Progress = Callable[[str, int, int], None]  # called with (what is being done, how many are done, how many in all)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A number with its doubt: the 95 % interval [low, high] around `value`."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isnan(self.value) or self.low <= self.value <= self.high):
            raise ValueError(f"Interval: {self.value} does not lie between {self.low} and {self.high}")


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimizer step. `loss` is the mean over the batch, as the device left it: `float(loss)` waits for the device.

    tally_sum: [Q], the task's tallies of its images in train mode summed, likewise unread. images: how many. parts: how many
    pieces the batch was worked through in. momentum: what the schedule set it to, None where it does not.
    """

    step: int
    loss: Any
    tally_sum: Any
    images: int
    lr: float
    progress: float
    parts: int = 1
    momentum: float | None = None


@dataclass(frozen=True, kw_only=True)
class TargetInfo:
    """What a task has to know of a dataset's targets.

    names: of the scored classes in the order of their index, or of the number columns. mean, std: of each number column
    over the train images; empty for other kinds. kept in a run's manifest, so that its model can be read again.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One evaluation in numbers.

    per_image: float64 [N], how good the answer for each image is, 0–1 (1 for right, 0 for wrong). tally: float [N, Q], what each
    image adds to the score: `Task.measures` of its sum gives the score. metrics: further figures by name.
    """

    score: float
    loss: float
    per_image: np.ndarray = field(repr=False)
    tally: np.ndarray = field(repr=False)
    per_class: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Per-image predictions of one evaluation. rows: int64 [N], rows of the sample table; every column's first axis is N."""

    rows: np.ndarray
    columns: Mapping[str, np.ndarray]


def part_of(answers: Answers, images: np.ndarray) -> Answers:
    """The answers for some of the images. images: int64, positions in `answers`, in any order."""
    return Answers(
        rows=answers.rows[images], columns={name: column[images] for name, column in answers.columns.items()}
    )


@dataclass(frozen=True, kw_only=True)
class Means:
    """Loss and score of one set of images, each a mean over images."""

    loss: float
    score: float


@dataclass(frozen=True, kw_only=True)
class LrTrial:
    """A short training at one learning rate. losses: train loss at its end, one a seed; nan where it diverged."""

    lr: float
    losses: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class LrRange:
    """What a learning-rate range test measured, and what it concludes (`diagnosis/lr_choice.py`).

    lrs_L: the sweep, ascending; every array after it belongs to them. losses_SL: train loss of each batch before its step,
    a row a seed, nan after its divergence. smooth_L: their mean over seeds, smoothed on log lr, nan where no seed got;
    low_L, high_L: its 95 % band. start: the loss before anything was learned. interval: lr between which the loss really
    falls. suggestion: the peak lr. Both None where the test cannot tell. reason: why this one, or why it cannot tell. trials:
    the short trainings that confirmed it, by lr. likeliest: where it cannot tell, a rate to train with all the same, from where
    the sweep breaks down; None where only what is published says one. steps: optimizer steps that the whole test took.
    seconds: its wall-clock.
    """

    lrs_L: np.ndarray = field(repr=False)
    losses_SL: np.ndarray = field(repr=False)
    smooth_L: np.ndarray = field(repr=False)
    low_L: np.ndarray = field(repr=False)
    high_L: np.ndarray = field(repr=False)
    start: float
    interval: tuple[float, float] | None
    suggestion: float | None
    reason: str
    trials: tuple[LrTrial, ...] = ()
    likeliest: float | None = None
    steps: int = 0
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """`found` or `cannot tell`."""
        return "cannot tell" if self.suggestion is None else "found"


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One epoch. `train_running` is the mean during the epoch in train mode (train error A of statistics);
    `train` and `val` are in eval mode on the clean transform, not a number where nobody looked."""

    epoch: int
    step: int
    train_running: Means
    train: Means
    val: Means
    lr: float
    seconds: float
    images_per_second: float
    step_seconds: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class TrainErrors:
    """The four train errors (1 − score) and the unseen one, all at one checkpoint.

    running: A, mean during the epoch in train mode. train_mode: B, at the checkpoint in train mode. augmented: C, eval
    mode with augmentation. clean: D, eval mode on the clean transform. val: the same as D on unseen images.
    """

    running: float
    train_mode: float
    augmented: float
    clean: float
    val: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A judgement with its evidence: does `rule` hold, what the figures are, and what to do about it."""

    rule: str
    verdict: Answer
    evidence: str
    advice: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Prescription:
    """A change of recipe that answers a finding.

    remedy: its name, as `augmentation`; several joined by `+`. changes: `{"augment.flip": 0.5}`. gain: of the score that is
    expected before anybody tried it here, 0–1. cost: time of an epoch over that of the unchanged recipe. retune: whether the
    learning rate has to be found anew.
    """

    remedy: str
    finding: str
    changes: Mapping[str, Any]
    reason: str
    effect: str
    source: str
    gain: float
    cost: float = 1.0
    retune: bool = False


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A run that a strategy asks for. number: counts from 0 in a study. label: in a few words, as `control` or `augmentation`.

    floor: val score by epoch under which it is stopped as hopeless; empty for never. on_all: to be trained on train and val.
    alone: nothing else is asked for until it is told, so it may have the whole machine. changes: what of the searched recipe is
    changed in it. continues: number of the proposal whose training it goes on with, from its last checkpoint. epochs_now: after
    how many epochs of it the training pauses; None for not before its end. epochs_before: of the training, asked for before.
    stage: how often the search had gone on in a space anew.
    """

    number: int
    role: Role
    recipe: Recipe = field(repr=False)
    label: str
    reason: str = ""
    floor: tuple[float, ...] = ()
    on_all: bool = False
    alone: bool = False
    probe_seconds: float = 0.0
    changes: Mapping[str, Any] = field(default_factory=dict)
    continues: int | None = None
    epochs_now: int | None = None
    epochs_before: int = 0
    stage: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a proposal, as its strategy is told.

    state: paused is one that was to end there for now, stopped one that fell under its floor, failed one that ended in an error.
    score: of val, of the model that it would hand over; nan where there is none.
    seconds: its wall-clock. elapsed: of the study, since the outcome that was told before it; None where runs follow each other,
    so that it is `seconds`. result: `trainwright.run/1`. answers: [N, Q], the task's tally of each val image, in the order of
    their rows; 1 or 0 alone in column 0 where the score is the share of images that are right. groups: [N], images that depend
    on each other share a number. Both None where nothing was judged.
    """

    number: int
    run: str
    state: Literal["finished", "paused", "stopped", "failed"]
    score: float
    seconds: float
    elapsed: float | None = None
    result: Mapping[str, Any] = field(default_factory=dict, repr=False)
    answers: np.ndarray | None = field(default=None, repr=False)
    groups: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image of a picture of answers. image_HWC: uint8 RGB, with mask or boxes painted in. good: None where nobody knows."""

    image_HWC: np.ndarray = field(repr=False)
    title: str
    good: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ConfusionChart:
    """What is taken for what: counts int64 [K, K], row the truth, column the answer. unit: what is counted, `images`."""

    name: str
    matrix: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    unit: str = "images"


@dataclass(frozen=True, kw_only=True)
class ResidualChart:
    """Truth and answer of every number: float64 [N, T], in their own unit, a column each of `columns`."""

    name: str
    truth: np.ndarray = field(repr=False)
    answer: np.ndarray = field(repr=False)
    columns: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BarsChart:
    """A figure for each name, 0–1. label: what it is, as `IoU`."""

    name: str
    values: Mapping[str, float]
    label: str


Chart = ConfusionChart | ResidualChart | BarsChart


def to_json(value: Any) -> Any:
    """`value` as what JSON knows: dataclasses become objects, arrays lists, numbers that are not finite null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, np.generic):
        return to_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
