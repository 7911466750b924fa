"""Predictions with a model that was exported: the same answers in the same form as `predict` gives, of the file alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.batch import Batch
from trainwright.deploy import onnx, program
from trainwright.deploy.certificate import Runs
from trainwright.deploy.predict import Fitting, find_images, predict_files
from trainwright.errors import RunError
from trainwright.recipe import Recipe
from trainwright.records import Answers, Progress, TargetInfo
from trainwright.workflows.predict import PIXELS_AT_ONCE, tell
from trainwright.workflows.prepare import build_task


def predict_exported(
    model: Path | str,
    images: Sequence[Path | str] | Path | str,
    *,
    pictures: Path | str | None = None,
    progress: Progress | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """(the run that the model is of, what it says of image files and of the images in folders, as `predict` returns it).

    model: a `.onnx` or `.pt2` file that `export` wrote. Raises RunError for any other file, DataError where there are no images.
    """
    runs, described = _opened(Path(model))
    given = [images] if isinstance(images, Path | str) else list(images)
    files = find_images([Path(path) for path in given])
    info = {key: tuple(values) for key, values in described["info"].items()}
    task = build_task(Recipe.model_validate(described["recipe"]), TargetInfo(**info))
    stored, size = (tuple(described["input"][key]) for key in ("stored", "size"))
    fitting = Fitting(stored=stored, size=size, fit=described["input"]["fit"])
    at_once = max(1, min(32, PIXELS_AT_ONCE // math.prod(size)))
    answered = predict_files(_as_network(runs), files, fitting=fitting, batch_size=at_once)
    return described["run"], tell(answered, task, fitting, images=len(files), pictures=pictures, progress=progress)


def _opened(path: Path) -> tuple[Runs, Mapping[str, Any]]:
    if not path.is_file():
        raise RunError("no such file.", where=str(path), cure="'trainwright export RUN' writes one.")
    opened = onnx.OnnxModel(path) if path.suffix == Path(onnx.FILE).suffix else program.ProgramModel(path)
    described = opened.metadata.get("trainwright")
    described = json.loads(described) if isinstance(described, str) else described
    if described is None:
        raise RunError(
            "says nothing of what it answers.", where=str(path), cure="Give a file that 'trainwright export' wrote."
        )
    return opened, described


def _as_network(runs: Runs) -> Callable[[Batch], Answers]:
    def network(batch: Batch) -> Answers:
        images_NHWC = np.ascontiguousarray(batch.images_NCHW.permute(0, 2, 3, 1).numpy())
        return Answers(rows=batch.rows_N, columns=runs(images_NHWC))

    return network
