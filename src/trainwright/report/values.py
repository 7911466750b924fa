"""What the pages are made of, gathered by `workflows/report.py`: numbers and text, nothing that has to be looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainwright.records import Chart, Prescription
from trainwright.report.reliability import Bin


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image with what was said of it. data: of a JPEG file. width, height: its pixels. good: None where nobody knows."""

    data: bytes = field(repr=False)
    width: int
    height: int
    said: str
    path: str
    good: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Images that belong together. note: what is to be known of them."""

    title: str
    note: str
    shown: tuple[Picture, ...]


@dataclass(frozen=True, kw_only=True)
class RecipeValue:
    """A value of the recipe. published: that of the published recipe; given: who set it where it differs. source: its origin."""

    key: str
    value: Any
    published: Any
    given: str
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A look at the test part. result: `trainwright.final/1`, None where it came to nothing after the images were unlocked.
    time: epoch seconds, None where nobody wrote it down."""

    run: str
    result: Mapping[str, Any] | None
    time: float | None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run without a result came. steps: done. epochs: that it was to have. saved: the step after which its newest saved
    state is; None for none. ended: epoch seconds of its end, or of its last sign of life. findings: what is known of why."""

    steps: int
    epochs: int
    saved: int | None
    ended: float | None
    findings: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class RunValues:
    """A run. result: `trainwright.run/1`, None before it has finished. epochs: EpochRecords as mappings. losses, lrs: of steps.

    lr_range: the record of its range test. lr_sweeps: losses of each seed of it. charts: the task's, of the unseen images.
    class_images: how many images (or what a class is counted in) of each class. recipe_name: of the published recipe, empty
    for none. choice: why it was taken where nobody named one. study: (name, link) of the study that it is a part of.
    unseen: whether the validation images are; not those of a training on train and val together. slices: `trainwright.slices/1`,
    None where there are none, for which slices_note says why. explained: hardest images beside what speaks for their answers.
    progress: how far it came, of a run that has no result.
    """

    run: str
    data_name: str
    state: str
    message: str
    created: float
    manifest: Mapping[str, Any]
    result: Mapping[str, Any] | None
    recipe: Sequence[RecipeValue]
    recipe_name: str
    choice: Sequence[str]
    folder: str
    epochs: Sequence[Mapping[str, Any]]
    losses: Sequence[Any]
    lrs: Sequence[Any]
    lr_range: Mapping[str, Any] | None
    lr_sweeps: Sequence[Sequence[float]]
    charts: Sequence[Chart]
    reliability: Sequence[Bin]
    pictures: Sequence[Pictures]
    pictures_note: str
    prescriptions: Sequence[Prescription]
    openings: Sequence[Opening]
    would_tell: Sequence[str] = ()
    slices: Mapping[str, Any] | None = None
    slices_note: str = ""
    explained: Sequence[Picture] = ()
    explained_note: str = ""
    progress: Progress | None = None
    study: tuple[str, str] | None = None
    unseen: bool = True
    version: str = ""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A run of a study. changes: of its recipe against the baseline's, (then, now) by dotted key. ended: seconds since the study
    began; None where it is not known. link: to its own page, empty where there is none. interval: of its score, None where its
    folder does not say. there: whether it has a folder."""

    number: int
    run: str
    role: str
    label: str
    state: str
    score: float
    seconds: float
    verdict: str
    changes: Mapping[str, tuple[Any, Any]]
    recipe: Mapping[str, Any]
    ended: float | None
    link: str = ""
    interval: Mapping[str, Any] | None = None
    there: bool = True


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A sentence of a study's story. step: belief, trial, outcome or decision. runs: ids of those that it speaks of."""

    step: str
    text: str
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StudyValues:
    """A study. asked: study.json. result: `trainwright.study/1`, None before it has ended. runs: folder where its runs are looked
    for. handed_over: file of the recipe that is, empty where there is none."""

    study: str
    state: str
    message: str
    created: float
    folder: str
    asked: Mapping[str, Any]
    result: Mapping[str, Any] | None
    metric: str
    trials: Sequence[Trial]
    story: Sequence[Entry]
    openings: Sequence[Opening]
    version: str = ""
    runs: str = ""
    handed_over: str = ""
