"""Predictions of a finished run for new images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainwright.data.problems import printable
from trainwright.deploy.predict import Absent, Fitting, Predicted, as_function, find_images, predict_files
from trainwright.errors import RunError
from trainwright.files import write_atomically
from trainwright.plugins import Task
from trainwright.recipe import Recipe
from trainwright.records import IGNORED, Progress, TargetInfo, Tile
from trainwright.report import figures
from trainwright.tracking.run_folder import RunFolder
from trainwright.training import checkpoint as checkpoints
from trainwright.training.device import PRECISIONS, choose_device
from trainwright.training.model import DROPPING, ImageNetwork, build_network
from trainwright.workflows.calibrated import found_temperature, tempered
from trainwright.workflows.prepare import build_task, stored_for
from trainwright.workflows.run import Run, recipe_of

if TYPE_CHECKING:
    from torch import nn

PIXELS_AT_ONCE = 4_000_000
THINNEST = 1.0  # pixels of the file: a box that is thinner shows nothing


def predict(
    run: Run | RunFolder,
    images: Sequence[Path | str] | Path | str,
    *,
    model: nn.Module | None = None,
    device: str = "auto",
    calibrated: bool = False,
    absent: Absent = "refused",
    pictures: Path | str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """What the run's model says of image files and of the images in folders.

    Returns an object for each: `image`, and what the task says (`label`, `probability`, `probabilities`; `values`; `shares` of
    the image by class; `boxes`, each with `label`, `score` and `box`: left, top, right, bottom in pixels of the file's upright
    image), or `error` where the file could not be read. A segmentation's `mask` is uint8 [H, W] of the file's size: class
    indices, 255 where the network saw nothing of it. model: your own nn.Module, where the run trained one. pictures: folder to
    write sheets of the images with what was said of them to, `predictions-001.png` and on, and masks as PNG to `masks/`.
    calibrated: divide logits of classes by the temperature that the run's diagnosis found, so that probabilities are about as
    often right as they say. absent: what a path that does not exist is: `refused`, or an `error` like a broken file, `told`.
    progress: called with files done and in all. Raises RunError before the run has a model, DataError where there are no
    images, GoalNotMetError where no temperature surely helps.
    """
    folder = run._folder if isinstance(run, Run) else run
    given = [images] if isinstance(images, Path | str) else list(images)
    files = find_images([Path(path) for path in given], absent=absent)
    recipe = recipe_of(folder)
    task = task_of(folder, recipe)
    temperature = found_temperature(Run(folder).result, task) if calibrated else 1.0
    fitting = Fitting(stored=stored_for(task, recipe), size=recipe.data.size, fit=recipe.data.fit)
    model = load_model(folder, recipe, task, custom=model)
    answered = _answers(model, recipe, task, files, fitting, temperature=temperature, device=choose_device(device))
    return tell(answered, task, fitting, images=len(files), pictures=pictures, progress=progress)


def tell(
    answered: Iterable[Predicted],
    task: Task,
    fitting: Fitting,
    *,
    images: int,
    pictures: Path | str | None = None,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """What `predict` returns of what was said of `images` files; pictures and progress as there."""
    gallery = None if pictures is None else _Gallery(Path(pictures))
    found = []
    for answer in answered:
        said = _said(answer, task, fitting)
        if gallery is not None and answer.answers is not None:
            gallery.add(answer, task, said)
        found.append(said)
        if progress is not None:
            progress("predicting", len(found), images)
    if gallery is not None:
        gallery.finish()
    return found


def load_model(folder: RunFolder, recipe: Recipe, task: Task, *, custom: nn.Module | None = None) -> ImageNetwork:
    """The run's kept model, on the CPU. Raises RunError where it has none yet, CheckpointError where it is damaged."""
    described = folder.checkpoints / "model.json"
    if not described.is_file():
        raise RunError(
            "has no model yet.", where=folder.run_id, cure=f"Go on with 'trainwright resume {folder.run_id}'."
        )
    network = build_network(
        recipe.network.model_copy(update=dict.fromkeys(DROPPING, 0.0)),  # an answer leaves nothing out
        form=task.form,
        outputs=task.outputs,
        size=recipe.data.size,
        seed=recipe.seed,
        custom=custom,
        weights_follow=True,
    )
    model = ImageNetwork(network, mean=(0.0,) * 3, std=(1.0,) * 3, test_time_flip=recipe.test_time_flip)
    digest = json.loads(described.read_bytes())["sha256"]
    checkpoints.load_model(model, checkpoints.load_tensors(folder.checkpoints / "model.safetensors", digest))
    return model


def task_of(folder: RunFolder, recipe: Recipe) -> Task:
    """The task of a run, with what it knew of its targets."""
    dataset = folder.manifest["dataset"]
    info: dict[str, Any] = dataset.get("info") or {"names": dataset["classes"]}
    return build_task(
        recipe.changed({"task": recipe.task or dataset["task"]}),
        TargetInfo(**{key: tuple(values) for key, values in info.items()}),
    )


def _answers(
    model: nn.Module,
    recipe: Recipe,
    task: Task,
    files: Sequence[Path],
    fitting: Fitting,
    *,
    temperature: float,
    device: torch.device,
) -> Iterator[Predicted]:
    model.to(device, memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    network = as_function(
        model,
        lambda outputs, rows: tempered(task.answers(outputs, None, rows), temperature),
        device=device,
        dtype=PRECISIONS[recipe.precision],
    )
    batch_size = max(1, min(256, PIXELS_AT_ONCE // math.prod(fitting.size)))
    return predict_files(network, files, fitting=fitting, batch_size=batch_size)


def _said(predicted: Predicted, task: Task, fitting: Fitting) -> dict[str, Any]:
    """What was said of one file, in pixels of its upright image."""
    if predicted.answers is None:
        assert predicted.error is not None
        return {"image": str(predicted.file), "error": f"{predicted.error.kind}: {predicted.error}"}
    (said,) = task.say(predicted.answers)
    if "boxes" in said:
        said["boxes"] = list(_boxes_in_file(said["boxes"], predicted, fitting))
    if task.form == "map" and "masks" in predicted.answers.columns:
        mask_HW = fitting.mask_back(predicted.answers.columns["masks"][0], predicted.width, predicted.height)
        counts_K = np.bincount(mask_HW[mask_HW != IGNORED], minlength=len(task.info.names))
        shares = {name: count / max(1, counts_K.sum()) for name, count in zip(task.info.names, counts_K, strict=True)}
        said["shares"] = {name: float(shares[name]) for name in sorted(shares, key=lambda name: -shares[name])}
        said["mask"] = mask_HW
    return {"image": str(predicted.file), **said}


def _boxes_in_file(boxes: Sequence[dict[str, Any]], predicted: Predicted, fitting: Fitting) -> Iterator[dict[str, Any]]:
    """The boxes in pixels of the file; those that lie in the padding beside it are none."""
    for box in boxes:
        (edges_4,) = fitting.boxes_back(np.array([box["box"]]), predicted.width, predicted.height)
        left, top, right, bottom = (round(float(edge), 2) for edge in edges_4)
        if right - left >= THINNEST and bottom - top >= THINNEST:
            yield {**box, "box": [left, top, right, bottom]}


class _Gallery:
    """Writes sheets of answered images as they fill, and masks; at most a sheet's images are held at once."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._tiles, self._sheets = folder, list[Tile](), 0
        self._masks: set[str] = set()
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, predicted: Predicted, task: Task, said: dict[str, Any]) -> None:
        assert predicted.answers is not None
        assert predicted.image_HWC is not None
        (tile,) = task.tiles(predicted.answers, predicted.image_HWC[None])
        title = tile.title
        if "shares" in said:  # of the file, without the padding that the network saw
            name, share = next(iter(said["shares"].items()))
            title = f"{name} {100 * share:.0f} %"
        self._tiles.append(replace(tile, title=f"{title}\n{printable(predicted.file.name)}".strip()))
        if "mask" in said:
            self._write_mask(predicted.file, said["mask"])
        if len(self._tiles) == figures.MOST_IMAGES:
            self.finish()

    def finish(self) -> None:
        """Write the sheet that is not full yet."""
        if self._tiles:
            self._sheets += 1
            write_atomically(self._folder / f"predictions-{self._sheets:03d}.png", figures.sheet(self._tiles))
            self._tiles.clear()

    def _write_mask(self, file: Path, mask_HW: np.ndarray) -> None:
        import io

        from PIL import Image

        name, number = file.stem, 1
        while name in self._masks:  # files of several folders may share a name
            number += 1
            name = f"{file.stem}-{number}"
        self._masks.add(name)
        buffer = io.BytesIO()
        Image.fromarray(mask_HW).save(buffer, format="PNG")
        (self._folder / "masks").mkdir(exist_ok=True)
        write_atomically(self._folder / "masks" / f"{name}.png", buffer.getvalue())
