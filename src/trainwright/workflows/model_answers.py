"""What a run's model itself says of its validation images, in fp32: what everything that is handed over is held against."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from trainwright.batch import Batch
from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.dataset import Dataset
from trainwright.data.loader import EvalBatches
from trainwright.deploy.certificate import Runs
from trainwright.deploy.predict import as_function
from trainwright.errors import DataError
from trainwright.plugins import Task
from trainwright.records import Answers
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.device import PRECISIONS
from trainwright.training.evaluate import evaluate
from trainwright.training.model import ImageNetwork
from trainwright.workflows.judge import groups_of
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import stored_for
from trainwright.workflows.run import recipe_of

EVALUATED_AT_ONCE = 64
CPU = torch.device("cpu")  # where what is handed over is held against the model: everybody has one


def own_answers(
    folder: RunFolder,
    network: ImageNetwork,
    task: Task,
    data: Dataset,
    *,
    temperature: float,
    options: RunOptions,
    scratch: Path,
) -> tuple[Answers, list[Path], np.ndarray]:
    """(the model's own answers for all validation images in fp32, their files, their groups): read as in training.

    scratch: folder for the files of images that a program gave as arrays. Raises DataError where the data changed since.
    """
    recipe = recipe_of(folder)
    split = data.split(recipe.data)
    if split.digest != folder.manifest["split"]["digest"]:
        raise DataError(
            "the data has changed since the run began.",
            where=str(data.table.root),
            cure="Bring the files back as they were.",
        )
    rows, stored = split.val, stored_for(task, recipe)
    pixels = open_pixels(
        lambda row: data.read(row, stored, recipe.data.fit),
        rows=rows,
        size=stored,
        key=pixels_key((data.fingerprint.pixel_hashes[row] for row in rows), fit=recipe.data.fit),
        workers=options.workers,
        progress=options.reporter.progress,
    )
    targets = data.stored_targets(rows, stored, recipe.data.fit, workers=options.workers)
    batches = EvalBatches(
        pixels, targets, rows, batch_size=EVALUATED_AT_ONCE, image_size=recipe.data.size, workers=options.workers
    )
    network = copy.deepcopy(network)  # another layout in memory
    network.to(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)
    answers = evaluate(
        network,
        task,
        batches,
        device=CPU,
        after_batch=lambda done: options.reporter.progress("the model's own answers", done, len(rows)),
    )
    files = [data.table.root / data.table.paths[row] for row in answers.rows]
    if data.source is None:
        files = _as_files(data, answers.rows, scratch)
    return tempered(answers, temperature), files, groups_of(data, answers.rows)


def tempered(answers: Answers, temperature: float) -> Answers:
    """With probabilities as they are once their logits were divided by the temperature."""
    if temperature == 1:
        return answers
    powers_NK = answers.columns["probabilities"].astype(np.float64) ** (1 / temperature)
    probabilities_NK = (powers_NK / powers_NK.sum(axis=1, keepdims=True)).astype(np.float32)
    return Answers(rows=answers.rows, columns={**answers.columns, "probabilities": probabilities_NK})


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
