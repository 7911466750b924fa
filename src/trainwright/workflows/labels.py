"""Which labels are probably wrong: networks are trained on parts of the images and asked about the rest, fold by fold."""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.diagnosis.labels import LEAST_IMAGES, LabelNoise, label_noise, suspects
from trainwright.errors import DataError, UsageError
from trainwright.files import write_atomically
from trainwright.recipe import Recipe
from trainwright.seeding import stream
from trainwright.workflows import run as runs
from trainwright.workflows.chosen_epoch import groups_of
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.prepare import refuse_unusable

FOLDS = 5  # as many as cleanlab's tutorials: each network has four fifths of the images


@dataclass(frozen=True, kw_only=True)
class DoubtfulLabel:
    """An image whose label the networks that have not seen it contradict.

    label: the given one. seems: the class that it seems to be. probability_of_label, probability_of_seems: by these networks.
    """

    path: str
    label: str
    seems: str
    probability_of_label: float
    probability_of_seems: float


@dataclass(frozen=True, kw_only=True)
class LabelCheck:
    """noise: the share of wrong labels with its interval; None where there are too few images. doubtful: the surest first.
    accuracy: of the out-of-fold answers. images: of train and val together, which were all asked about."""

    noise: LabelNoise | None
    doubtful: tuple[DoubtfulLabel, ...] = field(repr=False)
    accuracy: float
    images: int
    folds: int

    def write_csv(self, file: Path | str) -> None:
        """The doubtful labels as a table, the surest first. Raises OSError where it cannot be written."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", "label", "seems", "probability_of_label", "probability_of_seems"])
        for found in self.doubtful:
            sure = (f"{found.probability_of_label:.4f}", f"{found.probability_of_seems:.4f}")
            writer.writerow([found.path, found.label, found.seems, *sure])
        write_atomically(Path(file), text.getvalue().encode())


def check_labels(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    seed: int | None = None,
    target: str | None = None,
    folds: int = FOLDS,
    options: RunOptions | None = None,
    **more: Any,
) -> LabelCheck:
    """Train `folds` networks, each without a fold of the train and val images, and hold its answers against their labels.

    The test part is not looked at. Twins and groups stay in one fold. The networks are not kept: no run appears in the runs
    folder, and no mirror gets a copy. The other arguments are those of `train`. A network that learns wrong labels by heart
    repeats them: a recipe with augmentation and no more epochs than needed sees more. Raises DataError where images have not
    one class each, UsageError for fewer than 2 folds, and what `train` raises.
    """
    options = options_from(options, more)
    if folds < 2:
        raise UsageError(f"expected at least 2 folds, got {folds}.", where="folds", cure="Take 5.")
    if not isinstance(data, Dataset):
        data = open_dataset(Path(data), target=target, workers=options.workers, progress=options.reporter.progress)
    if data.targets.kind != "class":
        raise DataError(
            f"its task is {data.task}: labels are examined where each image has one class.", where=str(data.table.root)
        )
    refuse_unusable(data)
    fold_of_row = _folds(data, folds, 0 if seed is None else seed)
    rows = np.flatnonzero(fold_of_row >= 0)
    if len(rows) < LEAST_IMAGES:
        raise DataError(
            f"{len(rows)} images are too few to doubt their labels; {LEAST_IMAGES} are needed.",
            where=str(data.table.root),
        )
    probabilities_SK = np.zeros((len(data), len(data.classes)), dtype=np.float32)
    for fold in range(folds):
        options.reporter.note(f"labels: network {fold + 1} of {folds}")
        asked, answers_NK = _answered(_with_parts(data, fold_of_row, fold), recipe, changes, seed, options)
        probabilities_SK[asked] = answers_NK
    return _checked(data, rows, probabilities_SK[rows], folds)


def _folds(data: Dataset, folds: int, seed: int) -> np.ndarray:
    """[S]: the fold of each image, -1 for those of the test part and unusable ones. Each class is dealt out in turn."""
    rows = np.flatnonzero(data.fingerprint.usable & (data.table.parts != "test"))
    group_N = groups_of(data, rows)
    label_N = data.targets.array(rows)
    fold_of_row, fold_of_group, dealt = np.full(len(data), -1), {}, dict.fromkeys(range(len(data.classes)), 0)
    for place in stream(seed, "label-folds").permutation(len(rows)):
        label, group = int(label_N[place]), int(group_N[place])
        if group not in fold_of_group:
            fold_of_group[group] = dealt[label] % folds
            dealt[label] += 1
        fold_of_row[rows[place]] = fold_of_group[group]
    return fold_of_row


def _with_parts(data: Dataset, fold_of_row: np.ndarray, fold: int) -> Dataset:
    """The dataset with this fold as val, the others as train, and the rest as test, which no training opens."""
    parts = np.where(fold_of_row == fold, "val", np.where(fold_of_row >= 0, "train", "test"))
    table = replace(data.table, parts=parts)
    return Dataset(table, data.fingerprint, arrays=data._arrays, source=None)


def _answered(
    data: Dataset,
    recipe: Recipe | str | os.PathLike[str] | None,
    changes: Mapping[str, Any] | None,
    seed: int | None,
    options: RunOptions,
) -> tuple[np.ndarray, np.ndarray]:
    """(rows of val [N], the probabilities [N, K] of a network trained on train)."""
    with tempfile.TemporaryDirectory(prefix="trainwright-labels-") as place:
        own = replace(options, runs=Path(place), mirrors=(), report=False)
        run = runs.train(data, recipe, changes=changes, seed=seed, name="labels", options=own)
        if not run.finished:
            raise KeyboardInterrupt  # `stop_asked` said so: without all folds there is no answer
        with np.load(run.folder / "answers" / "val.npz", allow_pickle=False) as saved:
            return saved["rows"], saved["probabilities"]


def _checked(data: Dataset, rows: np.ndarray, probabilities_NK: np.ndarray, folds: int) -> LabelCheck:
    label_N = data.targets.array(rows)
    found = suspects(probabilities_NK, label_N)
    doubtful = tuple(
        DoubtfulLabel(
            path=data.table.paths[rows[place]],
            label=data.classes[label_N[place]],
            seems=data.classes[seems],
            probability_of_label=float(probabilities_NK[place, label_N[place]]),
            probability_of_seems=float(probabilities_NK[place, seems]),
        )
        for place, seems in zip(found.order, found.seems, strict=True)
    )
    units = len(np.unique(groups_of(data, rows)))
    return LabelCheck(
        noise=label_noise(probabilities_NK, label_N, units=units, out_of_fold=True),
        doubtful=doubtful,
        accuracy=float((probabilities_NK.argmax(axis=1) == label_N).mean()),
        images=len(rows),
        folds=folds,
    )
