"""The probe that asks about the labels themselves: a finished run's recipe, cross-validated over its own train and val images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.evidence import ProbeResult
from trainwright.recipe import Recipe
from trainwright.training.names import CUSTOM
from trainwright.workflows.labels import check_labels
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import Prepared

LABELS = "labels"


def why_not(data: Dataset, recipe: Recipe) -> str:
    """Why labels cannot be asked about; empty where they can."""
    if data.targets.kind != "class":
        return "Labels are examined where each image has one class."
    if recipe.network.name == CUSTOM:
        return "Networks that were given by Python code are not trained fold by fold."
    return ""


def label_answers(prepared: Prepared, options: RunOptions) -> ProbeResult:
    """What networks that have not seen an image say of its label. Images of the test part are not looked at."""
    parts = np.full(len(prepared.dataset), "test", dtype="<U5")
    parts[prepared.split.train], parts[prepared.split.val] = "train", "val"
    table = replace(prepared.dataset.table, parts=parts)
    data = Dataset(table, prepared.dataset.fingerprint, arrays=prepared.dataset._arrays, source=None)
    recipe = prepared.recipe.changed({"data.train_fraction": 1.0})
    found = check_labels(data, recipe, seed=recipe.seed, options=options)
    right = f"{found.accuracy:.1%} of {found.images:,} right"
    note = f"{found.folds} networks, each asked about images that it has not seen: {right}."
    return ProbeResult(name=LABELS, note=note, label_noise=found.noise)
