"""What is taken for what: the confusion matrix, the scores of each class, and the pairs most often confused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainwright.diagnosis.stats import wilson
from trainwright.records import Interval


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """How well one class is told from the others.

    recall: share of its images that are found. precision: share of the answers of this class that are right; nan where it
    was never answered. f1: their harmonic mean; nan where the class neither occurs nor was answered. count: its images.
    """

    name: str
    count: int
    recall: Interval
    precision: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """`count` images of class `truth` were taken for `prediction`, `share` of all images of `truth`."""

    truth: str
    prediction: str
    count: int
    share: float


def confusion_matrix(target_N: np.ndarray, predicted_N: np.ndarray, classes: int) -> np.ndarray:
    """int64 [classes, classes]: row the truth, column the prediction. Raises ValueError on indices outside 0 … classes − 1."""
    target, predicted = np.asarray(target_N), np.asarray(predicted_N)
    if target.shape != predicted.shape or target.ndim != 1:
        raise ValueError(
            f"confusion_matrix: expected one prediction a target, got shapes {target.shape}, {predicted.shape}"
        )
    both = np.concatenate([target, predicted])
    if len(both) and (both.min() < 0 or both.max() >= classes):
        raise ValueError(f"confusion_matrix: expected classes 0 to {classes - 1}, got {both.min()} to {both.max()}")
    counts = np.bincount(target.astype(np.int64) * classes + predicted.astype(np.int64), minlength=classes**2)
    return counts.astype(np.int64).reshape(classes, classes)


def class_scores(matrix: np.ndarray, classes: Sequence[str]) -> tuple[ClassScores, ...]:
    """The scores of every class, in the order of `classes`."""
    hits, truths, answers = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    return tuple(
        ClassScores(
            name=name,
            count=int(truths[k]),
            recall=wilson(int(hits[k]), int(truths[k])),
            precision=_share(hits[k], answers[k]),
            f1=_share(2 * hits[k], truths[k] + answers[k]),
        )
        for k, name in enumerate(classes)
    )


def most_confused(matrix: np.ndarray, classes: Sequence[str], limit: int = 5) -> tuple[Confusion, ...]:
    """The pairs with the most wrong answers, most first; pairs that never occur are left out."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    pairs = [divmod(int(flat), len(classes)) for flat in order]
    return tuple(
        Confusion(
            truth=classes[row],
            prediction=classes[column],
            count=int(wrong[row, column]),
            share=_share(wrong[row, column], matrix[row].sum()),
        )
        for row, column in pairs
        if wrong[row, column]
    )


def _share(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else math.nan
