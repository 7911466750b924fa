"""How far two sets of answers to the same images agree: in their decisions, and by how much they differ at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainwright.plugins import Task
from trainwright.tasks.detection import SAID

# What counts as the same, our choice: a hundred times and more what two ways of adding up in float32 were seen to differ by, and
# far less than what another resize or order of colours does to a model that uses what it sees.
SAME_PROBABILITY = 0.001
SAME_NUMBER = 0.001  # train deviations of a number column
SAME_SCORE = 0.01  # of a box: what is left of hundreds of places after suppression may hang on the last digit of one
SAME_BOX = 0.95  # intersection over union


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """share: of what is decided (`of`), how much is decided alike, 0–1. by_image: float64 [N], the same within each image.

    largest: the largest difference, `largest_of` what it is of. allowed: more of it is a breach whatever the decisions; None
    where the share says it all.
    """

    share: float
    of: str
    by_image: np.ndarray = field(repr=False)
    largest: float
    largest_of: str
    allowed: float | None = None


def agreement(task: Task, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Agreement:
    """Of two sets of `Task.answers` columns [N, …]. What is not a number agrees with nothing."""
    if "boxes" in ours:
        return _of_boxes(ours, theirs)
    if "masks" in ours:
        same_N = (ours["masks"] == theirs["masks"]).reshape(len(ours["masks"]), -1).mean(axis=1)
        return Agreement(
            share=float(same_N.mean()),
            of="pixels with the same class",
            by_image=same_N,
            largest=float(1 - same_N.min()),
            largest_of="share of an image's pixels",
        )
    if "values" in ours:
        return _of_numbers(task, ours["values"], theirs["values"])
    return _of_probabilities(task, ours["probabilities"], theirs["probabilities"])


def _of_probabilities(task: Task, ours_NK: np.ndarray, theirs_NK: np.ndarray) -> Agreement:
    """Of one class an image where the score counts right ones, otherwise of yes and no to each class."""
    one_class = task.counts_right
    same_N = (
        ours_NK.argmax(axis=1) == theirs_NK.argmax(axis=1)
        if one_class
        else ((ours_NK >= 0.5) == (theirs_NK >= 0.5)).all(axis=1)
    )
    same_N = same_N & np.isfinite(theirs_NK).all(axis=1)
    return Agreement(
        share=float(same_N.mean()),
        of=f"images with the same {'class' if one_class else 'classes'}",
        by_image=same_N.astype(np.float64),
        largest=_largest(np.abs(ours_NK.astype(np.float64) - theirs_NK)),
        largest_of="probability",
        allowed=SAME_PROBABILITY,
    )


def _of_numbers(task: Task, ours_NT: np.ndarray, theirs_NT: np.ndarray) -> Agreement:
    """Of numbers within SAME_NUMBER of the spread that the column has in training."""
    std_T = np.array([std or 1.0 for std in task.info.std])
    apart_NT = np.abs(ours_NT - theirs_NT) / std_T
    same_N = (apart_NT <= SAME_NUMBER).all(axis=1)
    return Agreement(
        share=float(same_N.mean()),
        of=f"images with the same numbers, within {SAME_NUMBER:g} of their deviation in training",
        by_image=same_N.astype(np.float64),
        largest=_largest(apart_NT),
        largest_of="deviations",
    )


def _of_boxes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Agreement:
    """Of boxes that either says (score of at least SAID): has the other one of the same class, place and score?"""
    alike, said, apart = [], [], 0.0
    for n in range(len(ours["boxes"])):
        of_image = [{key: one[key][n] for key in ("boxes", "scores", "labels")} for one in (ours, theirs)]
        forth, back = _found_again(*of_image), _found_again(*reversed(of_image))
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
    )


def _found_again(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> np.ndarray:
    """By how many pixels an edge of each box that `one` says lies elsewhere in `other`; infinite where it has no such box."""
    said = (one["labels"] >= 0) & (one["scores"] >= SAID)
    boxes_A4, boxes_B4 = one["boxes"][said].astype(np.float64), other["boxes"].astype(np.float64)
    same_AB = (
        (one["labels"][said][:, None] == other["labels"])
        & (np.abs(one["scores"][said][:, None] - other["scores"]) <= SAME_SCORE)
        & (_overlaps(boxes_A4, boxes_B4) >= SAME_BOX)
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
