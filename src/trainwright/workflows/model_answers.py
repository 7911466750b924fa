"""What a run's model itself says of its validation images, in fp32: what everything that is handed over is held against."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainwright.batch import Batch
from trainwright.data.dataset import Dataset
from trainwright.data.split import Split
from trainwright.deploy.agreement import EXACT, ROUNDED, agreement
from trainwright.deploy.certificate import LEAST_AGREEMENT, Runs
from trainwright.deploy.predict import as_function
from trainwright.errors import DataError, GoalNotMetError
from trainwright.plugins import Task
from trainwright.records import Answers, part_of
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.device import PRECISIONS
from trainwright.training.evaluate import evaluate
from trainwright.training.model import ImageNetwork
from trainwright.workflows.calibrated import tempered
from trainwright.workflows.options import RunOptions
from trainwright.workflows.run import recipe_of
from trainwright.workflows.stored_images import batches_as_trained

LEAST_AS_ROUNDED = (
    0.98  # agreement with answers that were computed with fewer bits, our choice: rounding decides edges of masks
)
CPU = torch.device("cpu")  # where what is handed over is held against the model: everybody has one


def split_of(folder: RunFolder, data: Dataset) -> Split:
    """The split of the run. Raises DataError where the data changed since."""
    split = data.split(recipe_of(folder).data)
    if split.digest != folder.manifest["split"]["digest"]:
        raise DataError(
            "the data has changed since the run began.",
            where=str(data.table.root),
            cure="Bring the files back as they were.",
        )
    return split


def own_answers(
    folder: RunFolder, network: ImageNetwork, task: Task, data: Dataset, rows: np.ndarray, *, options: RunOptions
) -> Answers:
    """What the model says of these rows of the sample table, read as in training."""
    recipe = recipe_of(folder)
    batches = batches_as_trained(recipe, task, data, rows, options=options)
    network = copy.deepcopy(network)  # another layout in memory
    network.to(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)
    return evaluate(
        network,
        task,
        batches,
        device=CPU,
        after_batch=lambda done: options.reporter.progress("the model's own answers", done, len(rows)),
    )


def refuse_other_than_trained(
    folder: RunFolder, network: ImageNetwork, task: Task, data: Dataset, own: Answers, *, options: RunOptions
) -> dict[str, Any] | None:
    """Hold what the model says today against what it said when it was judged after training, which the run has kept.

    own: of the validation images. Of a training on these too, other images were kept, which are answered once more. Returns what
    a certificate says of it, None where no answers are kept. Raises GoalNotMetError where they are others: a module of the same
    tensors that computes something else, packages that do.
    """
    part = "train" if recipe_of(folder).data.train_on == "train+val" else "val"
    kept = _kept(folder, part)
    if kept is None:
        return None
    if not np.array_equal(np.sort(kept.rows), np.sort(own.rows)):
        own = own_answers(folder, network, task, data, np.sort(kept.rows), options=options)
    order = np.argsort(kept.rows)
    kept = part_of(kept, order[np.searchsorted(kept.rows[order], own.rows)])
    manifest = folder.manifest
    exact = manifest["precision"]["name"] == "fp32" and manifest["machine"]["device"] == "cpu"
    found = agreement(task, kept.columns, own.columns, EXACT if exact else ROUNDED)
    least = LEAST_AGREEMENT if exact else LEAST_AS_ROUNDED
    differs = found.allowed is not None and not found.largest <= found.allowed
    if found.share < least or not found.finite or differs:
        raise GoalNotMetError(
            f"the model no longer answers as it did when it was judged: agreement {found.share:.4f} ({found.of}), largest "
            f"difference {found.largest:.3g} ({found.largest_of}). Nothing was written.",
            where=folder.run_id,
            cure="Are the packages the same as then, and is model= the one that was trained?",
        )
    return {"agreement": found.share, "agreement_of": found.of, "least": least, "images": len(own.rows)}


def _kept(folder: RunFolder, part: str) -> Answers | None:
    file = folder.answers / f"{part}.npz"
    if not file.is_file():
        return None
    with np.load(file, allow_pickle=False) as saved:
        return Answers(rows=saved["rows"], columns={name: saved[name] for name in saved.files if name != "rows"})


def image_files(data: Dataset, rows: np.ndarray, scratch: Path) -> list[Path]:
    """The files of these rows. scratch: folder for those of images that a program gave as arrays."""
    if data.source is None:
        return _as_files(data, rows, scratch)
    return [data.table.root / data.table.paths[row] for row in rows]


def _as_files(data: Dataset, rows: np.ndarray, folder: Path) -> list[Path]:
    """Images that a program gave as arrays, as PNG files, which lose nothing."""
    from PIL import Image

    files = []
    for row in rows:
        size = int(data.fingerprint.heights[row]), int(data.fingerprint.widths[row])
        files.append(folder / f"{row}.png")
        Image.fromarray(data.read(int(row), size, "squash")).save(files[-1])
    return files


def in_torch(network: ImageNetwork, task: Task, *, temperature: float) -> Runs:
    """The model itself as a function of uint8 pixels [N, H, W, 3]."""
    function = as_function(
        network, lambda outputs, rows: task.answers(outputs, None, rows), device=CPU, dtype=PRECISIONS["fp32"]
    )

    def runs(images_NHWC: np.ndarray) -> Mapping[str, np.ndarray]:
        images_NCHW = torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)
        rows_N = np.arange(len(images_NHWC))
        batch = Batch(images_NCHW=images_NCHW, target=torch.zeros(len(rows_N)), rows_N=rows_N)
        return tempered(function(batch), temperature).columns

    return runs
