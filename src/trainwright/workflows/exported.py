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
from trainwright.deploy.predict import Absent, Fitting, find_images, predict_files
from trainwright.errors import RunError
from trainwright.recipe import Recipe
from trainwright.records import Answers, Progress, TargetInfo
from trainwright.workflows.predict import PIXELS_AT_ONCE, tell
from trainwright.workflows.prepare import build_task


def predict_exported(
    model: Path | str,
    images: Sequence[Path | str] | Path | str,
    *,
    absent: Absent = "refused",
    pictures: Path | str | None = None,
    progress: Progress | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """(the run that the model is of, what it says of image files and of the images in folders, as `predict` returns it).

    model: a `.onnx` or `.pt2` file that `export` wrote. Raises RunError for any other file, DataError where there are no images.
    """
    opened = ExportedModel(Path(model))
    given = [images] if isinstance(images, Path | str) else list(images)
    files = find_images([Path(path) for path in given], absent=absent)
    return opened.run, opened.said_of(files, pictures=pictures, progress=progress)


class ExportedModel:
    """An exported file, ready to answer. run: that it is of."""

    def __init__(self, path: Path) -> None:
        """Raises RunError for a file that `export` did not write."""
        runs, described = _opened(path)
        info = {key: tuple(values) for key, values in described["info"].items()}
        stored, size = (tuple(described["input"][key]) for key in ("stored", "size"))
        self.run: str = described["run"]
        self._network = _as_network(runs)
        self._task = build_task(Recipe.model_validate(described["recipe"]), TargetInfo(**info))
        self._fitting = Fitting(stored=stored, size=size, fit=described["input"]["fit"])
        self._at_once = max(1, min(32, PIXELS_AT_ONCE // math.prod(size)))

    def said_of(
        self, files: Sequence[Path], *, pictures: Path | str | None = None, progress: Progress | None = None
    ) -> list[dict[str, Any]]:
        """What `predict` returns, of image files."""
        answered = predict_files(self._network, files, fitting=self._fitting, batch_size=self._at_once)
        return tell(answered, self._task, self._fitting, images=len(files), pictures=pictures, progress=progress)


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
