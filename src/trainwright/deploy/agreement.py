"""How far two sets of answers to the same images agree: in their decisions, and by how much they differ at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from trainwright.errors import UsageError
from trainwright.plugins import Task
from trainwright.tasks.detection import SAID

DECISIVE = (
    "boxes",
    "masks",
    "values",
    "probabilities",
)  # columns of answers, of which the first one that is there decides


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """What counts as the same. numbers: deviations that a number column has in training. overlap: intersection over union.

    rounded: whether an image is alike by its probabilities alone, whichever of two near ones is the largest. Otherwise by its
    class, and a probability that differs by more is a breach wherever it is.
    """

    probability: float
    numbers: float
    score: float  # of a box: what is left of hundreds of places after suppression may hang on the last digit of one
    overlap: float
    rounded: bool = False


# Our choice: a hundred times and more what two ways of adding up in float32 were seen to differ by, and far less than what
# another resize or order of colours does to a model that uses what it sees.
EXACT = Tolerance(probability=0.001, numbers=0.001, score=0.01, overlap=0.95)
# Our choice too, for answers of which one side was computed with 8 to 11 bits (bf16, fp16, and TF32, in which a GPU convolves
# float32): a layer is off by up to 2⁻⁹, and tens of layers add up.
ROUNDED = Tolerance(probability=0.1, numbers=0.1, score=0.1, overlap=0.8, rounded=True)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """share: of what is decided (`of`), how much is decided alike, 0–1. by_image: float64 [N], the same within each image.

    largest: the largest difference, `largest_of` what it is of. allowed: more of it is a breach whatever the decisions; None
    where the share says it all. decided: how many decisions were held against each other; 0 shows nothing. alone: the one class
    that all decisions are, None where there are several. finite: whether all of theirs are numbers.
    """

    share: float
    of: str
    by_image: np.ndarray = field(repr=False)
    largest: float
    largest_of: str
    allowed: float | None = None
    decided: int
    alone: str | None = None
    finite: bool = True


def agreement(
    task: Task, ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: Tolerance = EXACT
) -> Agreement:
    """Of two sets of `Task.answers` columns [N, …]. What is not a number agrees with nothing.

    Raises UsageError for answers of a task that it is not known how to compare.
    """
    column = next((name for name in DECISIVE if name in ours), None)
    if column is None or column not in theirs:
        raise _incomparable(task, column, ours if column is None else theirs)
    of = {"boxes": _of_boxes, "masks": _of_masks, "values": _of_numbers, "probabilities": _of_probabilities}[column]
    finite = all(bool(np.isfinite(theirs[name]).all()) for name in (column, "scores") if name in theirs)
    return replace(of(task, ours, theirs, tolerance), finite=finite)


def _incomparable(task: Task, column: str | None, said: Mapping[str, Any]) -> UsageError:
    found = ", ".join(said) or "none"
    if column is None:
        return UsageError(
            f"nothing says how answers of the task {task.name!r} are compared, whose columns are {found}.",
            where="task",
            cure=f"Let its answers have one of these columns: {', '.join(DECISIVE)}.",
        )
    return UsageError(
        f"what is exported of the task {task.name!r} does not say {column!r}, by which it decides, but {found}.",
        where="task",
        cure="Let its method served(outputs) return tensors by the names of its answers' columns.",
    )


def _of_masks(task: Task, ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: Tolerance) -> Agreement:
    masks_NHW = ours["masks"]
    same_N = (masks_NHW == theirs["masks"]).reshape(len(masks_NHW), -1).mean(axis=1)
    return Agreement(
        share=float(same_N.mean()),
        of="pixels with the same class",
        by_image=same_N,
        largest=float(1 - same_N.min()),
        largest_of="share of an image's pixels",
        decided=int(masks_NHW.size),
        alone=_alone(task, masks_NHW),
    )


def _of_probabilities(
    task: Task, ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: Tolerance
) -> Agreement:
    """Of one class an image where the score counts right ones, otherwise of yes and no to each class."""
    ours_NK, theirs_NK = ours["probabilities"], theirs["probabilities"]
    one_class = task.counts_right
    apart_NK = np.abs(ours_NK.astype(np.float64) - theirs_NK)
    of = f"images with the same {'class' if one_class else 'classes'}"
    if tolerance.rounded:
        of = f"images with the same probabilities, within {tolerance.probability:g}"
        same_N = apart_NK.max(axis=1) <= tolerance.probability
    elif one_class:
        same_N = ours_NK.argmax(axis=1) == theirs_NK.argmax(axis=1)
    else:
        same_N = ((ours_NK >= 0.5) == (theirs_NK >= 0.5)).all(axis=1)
    same_N = same_N & np.isfinite(theirs_NK).all(axis=1)
    return Agreement(
        share=float(same_N.mean()),
        of=of,
        by_image=same_N.astype(np.float64),
        largest=_largest(apart_NK),
        largest_of="probability",
        allowed=None if tolerance.rounded else tolerance.probability,
        decided=len(ours_NK),
        alone=_alone(task, ours_NK.argmax(axis=1)) if one_class else None,
    )


def _of_numbers(task: Task, ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: Tolerance) -> Agreement:
    """Of numbers within the tolerance, in terms of the spread that the column has in training."""
    std_T = np.array([std or 1.0 for std in task.info.std])
    apart_NT = np.abs(ours["values"] - theirs["values"]) / std_T
    same_N = (apart_NT <= tolerance.numbers).all(axis=1)
    return Agreement(
        share=float(same_N.mean()),
        of=f"images with the same numbers, within {tolerance.numbers:g} of their deviation in training",
        by_image=same_N.astype(np.float64),
        largest=_largest(apart_NT),
        largest_of="deviations",
        decided=int(apart_NT.size),
    )


def _of_boxes(task: Task, ours: Mapping[str, Any], theirs: Mapping[str, Any], tolerance: Tolerance) -> Agreement:
    """Of boxes that either says (score of at least SAID): has the other one of the same class, place and score?"""
    alike, said, apart = [], [], 0.0
    for n in range(len(ours["boxes"])):
        one, other = ({key: side[key][n] for key in ("boxes", "scores", "labels")} for side in (ours, theirs))
        forth, back = _found_again(one, other, tolerance), _found_again(other, one, tolerance)
        alike.append(int(np.isfinite(forth).sum() + np.isfinite(back).sum()))
        said.append(len(forth) + len(back))
        apart = max([apart, *forth[np.isfinite(forth)].tolist(), *back[np.isfinite(back)].tolist()])
    alike_N, said_N = np.array(alike, dtype=np.float64), np.array(said, dtype=np.float64)
    return Agreement(
        share=float(alike_N.sum() / said_N.sum()) if said_N.any() else 1.0,
        of=f"boxes of a score of at least {SAID:g} that both say",
        by_image=np.divide(alike_N, said_N, out=np.ones(len(said_N)), where=said_N > 0),
        largest=apart,
        largest_of="pixels between edges of the same box",
        decided=int(said_N.sum()),
    )


def _alone(task: Task, labels: np.ndarray) -> str | None:
    """The name of the class that all labels are; of a task with a single class there is no other."""
    if len(task.info.names) < 2 or labels.size == 0 or not (labels == labels.flat[0]).all():
        return None
    return task.info.names[int(labels.flat[0])]


def _found_again(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], tolerance: Tolerance) -> np.ndarray:
    """By how many pixels an edge of each box that `one` says lies elsewhere in `other`; infinite where it has no such box."""
    said = (one["labels"] >= 0) & (one["scores"] >= SAID)
    boxes_A4, boxes_B4 = one["boxes"][said].astype(np.float64), other["boxes"].astype(np.float64)
    same_AB = (
        (one["labels"][said][:, None] == other["labels"])
        & (np.abs(one["scores"][said][:, None] - other["scores"]) <= tolerance.score)
        & (_overlaps(boxes_A4, boxes_B4) >= tolerance.overlap)
    )
    edges_AB = np.abs(boxes_A4[:, None] - boxes_B4[None]).max(axis=2)
    nearest_A: np.ndarray = np.where(same_AB, edges_AB, np.inf).min(axis=1, initial=np.inf)
    return nearest_A


def _overlaps(boxes_A4: np.ndarray, boxes_B4: np.ndarray) -> np.ndarray:
    """Intersection over union, [A, B]; 0 where both are empty."""
    first, second = boxes_A4[:, None], boxes_B4[None]
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = np.maximum(sides, 0).prod(axis=2)
    union = (first[..., 2:] - first[..., :2]).prod(axis=2) + (second[..., 2:] - second[..., :2]).prod(axis=2) - common
    found: np.ndarray = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return found


def _largest(apart: np.ndarray) -> float:
    """Infinite where something is not a number."""
    return float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
