"""Every published recipe trains: two steps on small arrays, from random weights where its own are not at hand."""

import math

import numpy as np
import pytest

import trainwright as tw
from trainwright import recipes
from trainwright.workflows import judge

pytestmark = pytest.mark.slow

IMAGES, BATCH, SIDE = 20, 5, 64
NEW_START = {"network.weights": "random", "network.norm": "batch"}  # frozen statistics would be those of no image


def dots(task):
    """Grey noise with a bright square in each image, and what a task asks of it."""
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(90, 130, (IMAGES, SIDE, SIDE, 3)).astype(np.uint8)
    kinds = np.arange(IMAGES) % 2
    labels = []
    for image_HWC, kind in zip(images_NHWC, kinds, strict=True):
        left, top = rng.integers(0, SIDE - 24, 2)
        image_HWC[top : top + 24, left : left + 24, kind] = 250
        mask_HW = np.zeros((SIDE, SIDE), dtype=np.int64)
        mask_HW[top : top + 24, left : left + 24] = 1
        box = [[int(kind), left, top, left + 24, top + 24]]
        labels.append(
            {"classification": int(kind), "regression": left / SIDE, "segmentation": mask_HW, "detection": box}[task]
        )
    classes = {"segmentation": ["ground", "square"], "regression": None}.get(task, ["red", "green"])
    parts = ["train"] * (2 * BATCH) + ["val"] * (IMAGES - 2 * BATCH)
    return tw.Dataset.from_arrays(images_NHWC, labels, task=task, classes=classes, parts=parts)


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_trains_two_steps_and_is_judged(name, tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)  # pictures take longer than all the rest
    page = recipes.page(name)
    changes = {
        "data.image_size": SIDE,
        "batch_size": BATCH,
        "epochs": 1,
        "precision": "fp32",
        "optimizer.lr": page.recipe.optimizer.lr or 0.01,
        **(NEW_START if page.start == "pretrained" else {}),
    }

    run = tw.train(
        dots(page.tasks[0]), page.recipe.changed(changes), runs=tmp_path, device="cpu", workers=1, mirrors=()
    )

    assert run.finished
    assert run.epochs[0]["step"] == 1  # counted from 0
    assert math.isfinite(run.epochs[0]["train_running"]["loss"])
