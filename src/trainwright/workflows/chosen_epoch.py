"""What the choice of an epoch by the validation images does to figures of these images, and the gap without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.gap import Gap, cross_fitted_answers, cross_fitted_gap, gap
from trainwright.plugins import Task
from trainwright.records import Scores
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.training import Training


def gap_of(training: Training, epochs: int, chosen: int, train: Scores, val: Scores) -> Gap:
    """The gap of the kept weights; cross-fitted where their epoch was chosen on the same validation images."""
    prepared = training.prepared
    total, groups = len(prepared.split.train), dependent(prepared)
    right_or_wrong = prepared.task.counts_right
    score = None if right_or_wrong else score_of(prepared.task)
    if not _was_chosen(training, epochs):
        sides = (train.per_image, val.per_image) if right_or_wrong else (train.tally, val.tally)
        return gap(*sides, score=score, groups_val=groups, train_total=total)
    train_E, val_E = (_Recorded(training.folder, epochs, side, right_or_wrong) for side in ("train", "val"))
    return cross_fitted_gap(
        np.stack(train_E) if right_or_wrong else train_E,
        np.stack(val_E) if right_or_wrong else val_E,
        score=score,
        strata_N=_strata(prepared),
        groups_N=groups,
        train_total=total,
        kept=chosen,
    )


def _was_chosen(training: Training, epochs: int) -> bool:
    """Whether the kept epoch is the best of several on the validation images."""
    return training.prepared.recipe.keep == "best" and epochs > 1 and training.position.best_epoch is not None


def cross_fitted(training: Training, epochs: int) -> dict[str, np.ndarray]:
    """The tallies that a comparison with another training may take, where the kept epoch was chosen by these images."""
    if not _was_chosen(training, epochs):
        return {}
    prepared = training.prepared
    tally_NQ = cross_fitted_answers(
        _Recorded(training.folder, epochs, "val", False),
        score=None if prepared.task.counts_right else score_of(prepared.task),
        strata_N=_strata(prepared),
        groups_N=dependent(prepared),
    )
    return {"cross_fitted": tally_NQ}


def _strata(prepared: Prepared) -> np.ndarray:
    """Those of the validation images."""
    strata = prepared.dataset.targets.strata()
    return np.array([strata[row] for row in prepared.split.val])


class _Recorded(Sequence[np.ndarray]):
    """What was recorded of every epoch, read when it is asked for: tallies [N, Q], or their first figure [N] (right or not)."""

    def __init__(self, folder: RunFolder, epochs: int, side: str, first: bool) -> None:
        self._folder, self._epochs, self._side, self._first = folder, epochs, side, first

    def __len__(self) -> int:
        return self._epochs

    def __getitem__(self, epoch: int) -> np.ndarray:  # type: ignore[override]
        if not 0 <= epoch < self._epochs:
            raise IndexError(epoch)
        with np.load(self._folder.answers / f"scores-epoch-{epoch:04d}.npz", allow_pickle=False) as saved:
            tally_NQ: np.ndarray = saved[self._side]
        return tally_NQ[:, 0] if self._first else tally_NQ


def score_of(task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """The task's score [B] as a function of summed tallies [B, Q]."""
    return lambda tally_BQ: task.measures(tally_BQ)["score"]


def groups_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """A number for each image, shared by twins and by images of one group."""
    table, hashes = dataset.table, dataset.fingerprint.pixel_hashes
    names = [(table.groups[row] if table.groups is not None else "") or hashes[row] for row in rows]
    numbers: np.ndarray = np.unique(names, return_inverse=True)[1]
    return numbers


def dependent(prepared: Prepared) -> np.ndarray | None:
    """The groups of the validation images; None where all are on their own."""
    groups = groups_of(prepared.dataset, prepared.split.val)
    return None if len(np.unique(groups)) == len(groups) else groups
