"""Predictions of a finished run for new images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainwright.data.augment import clean, stored_size
from trainwright.data.decode import DecodeError, decode
from trainwright.deploy.predict import as_function, find_images, predict_files
from trainwright.errors import RunError
from trainwright.files import write_atomically
from trainwright.optim.losses import build_loss
from trainwright.plugins import Task, tasks
from trainwright.recipe import RANDOM, Recipe
from trainwright.records import Progress
from trainwright.report import figures
from trainwright.tracking.run_folder import RunFolder
from trainwright.training import checkpoint as checkpoints
from trainwright.training.device import PRECISIONS, choose_device
from trainwright.training.model import ImageNetwork, build_network
from trainwright.workflows.run import Run, recipe_of

if TYPE_CHECKING:
    from torch import nn

PIXELS_AT_ONCE = 4_000_000
SHEET_SIDE = 160  # pixels of an image on a sheet of predictions


def predict(
    run: Run | RunFolder,
    images: Sequence[Path | str] | Path | str,
    *,
    model: nn.Module | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """What the run's model says of image files and of the images in folders.

    Returns an object for each: `image`, and `label`, `probability`, `probabilities` (by class), or `error` where the
    file could not be read. model: your own nn.Module, where the run trained one. progress: called with files done and
    in all. Raises RunError before the run has a model, DataError where there are no images.
    """
    folder = run._folder if isinstance(run, Run) else run
    given = [images] if isinstance(images, Path | str) else list(images)
    files = find_images([Path(path) for path in given])
    found = []
    for prediction in _predictions(folder, files, custom=model, device=choose_device(device)):
        found.append(prediction)
        if progress is not None:
            progress("predicting", len(found), len(files))
    return found


def draw_predictions(predictions: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Write sheets of the images with what was said of them, `predictions-001.png` and on, in order; returns the files.

    Images that could not be read are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = [item for item in predictions if "error" not in item]
    sheets: list[Path] = []
    for start in range(0, len(shown), figures.MOST_IMAGES):
        part = shown[start : start + figures.MOST_IMAGES]
        images = [decode(Path(item["image"]), size=SHEET_SIDE, fit="crop") for item in part]
        said = [f"{item['label']} {100 * item['probability']:.0f} %" for item in part]
        sheets.append(folder / f"predictions-{len(sheets) + 1:03d}.png")
        write_atomically(sheets[-1], figures.answers(images, [Path(item["image"]).name for item in part], said))
    return sheets


def load_model(folder: RunFolder, recipe: Recipe, task: Any, *, custom: nn.Module | None = None) -> ImageNetwork:
    """The run's kept model, on the CPU. Raises RunError where it has none yet, CheckpointError where it is damaged."""
    described = folder.checkpoints / "model.json"
    if not described.is_file():
        raise RunError(
            "has no model yet.", where=folder.run_id, cure=f"Go on with 'trainwright resume {folder.run_id}'."
        )
    assert recipe.data.image_size is not None  # a run's recipe has every value
    spec = recipe.network.model_copy(update={"weights": RANDOM})  # the run's own weights follow
    network = build_network(
        spec, outputs=task.outputs, image_size=recipe.data.image_size, seed=recipe.seed, custom=custom
    )
    model = ImageNetwork(network, mean=(0.0,) * 3, std=(1.0,) * 3)
    digest = json.loads(described.read_bytes())["sha256"]
    checkpoints.load_model(model, checkpoints.load_tensors(folder.checkpoints / "model.safetensors", digest))
    return model


def task_of(folder: RunFolder, recipe: Recipe) -> Task:
    """The task of a run, with the classes that it was trained on."""
    return tasks.get(recipe.task or "classification")(folder.manifest["dataset"]["classes"], build_loss(recipe.loss))


def _predictions(
    folder: RunFolder, files: Sequence[Path], *, custom: nn.Module | None, device: torch.device
) -> Iterator[dict[str, Any]]:
    recipe = recipe_of(folder)
    task = task_of(folder, recipe)
    size, classes = recipe.data.image_size or 0, folder.manifest["dataset"]["classes"]
    model = load_model(folder, recipe, task, custom=custom)
    model.to(device, memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)  # type: ignore[call-overload]

    def probabilities(outputs: torch.Tensor) -> np.ndarray:
        return np.asarray(task.answers(outputs, None, np.arange(len(outputs))).columns["probabilities"])

    answers = predict_files(
        as_function(model, probabilities, device=device, dtype=PRECISIONS[recipe.precision]),
        files,
        stored_size=stored_size(size, recipe.augment),
        fit=recipe.data.fit,
        crop=lambda images_NHWC: clean(images_NHWC, size),
        batch_size=max(1, min(256, PIXELS_AT_ONCE // size**2)),
    )
    for file, answer in answers:
        if isinstance(answer, DecodeError):
            yield {"image": str(file), "error": f"{answer.kind}: {answer}"}
            continue
        best = int(answer.argmax())
        by_class = {name: float(p) for name, p in zip(classes, answer, strict=True)}
        yield {
            "image": str(file),
            "label": classes[best],
            "probability": float(answer[best]),
            "probabilities": by_class,
        }
