"""Images of a finished run's data, read as they were in its training, to be answered once more."""

from __future__ import annotations

import numpy as np

from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.dataset import Dataset
from trainwright.data.loader import EvalBatches
from trainwright.plugins import Task
from trainwright.recipe import Recipe
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import stored_for

EVALUATED_AT_ONCE = 64


def batches_as_trained(
    recipe: Recipe, task: Task, data: Dataset, rows: np.ndarray, *, options: RunOptions
) -> EvalBatches:
    """Batches of these rows of the sample table. recipe: the run's, every value filled in."""
    stored, fit = stored_for(task, recipe), recipe.data.fit
    pixels = open_pixels(
        lambda row: data.read(row, stored, fit),
        rows=rows,
        size=stored,
        key=pixels_key((data.fingerprint.pixel_hashes[row] for row in rows), fit=fit),
        workers=options.workers,
        progress=options.reporter.progress,
    )
    targets = data.stored_targets(rows, stored, fit, workers=options.workers, progress=options.reporter.progress)
    return EvalBatches(
        pixels, targets, rows, batch_size=EVALUATED_AT_ONCE, image_size=recipe.data.size, workers=options.workers
    )
