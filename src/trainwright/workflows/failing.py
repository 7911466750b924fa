"""Which kinds of images a run's model is worse at: its recorded answers beside what is known of each image."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.slices import LEAST_IMAGES, Slice, slices
from trainwright.errors import DataError, RunError, unknown_name
from trainwright.records import to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.run import Run
from trainwright.workflows.run_data import data_of

Part = Literal["val", "test"]
PARTS = ("val", "test")
SIDE = 64  # pixels of each side that are looked at
GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue: ITU-R BT.601
NAMES = ("image", "path", "file")  # of the column of a table that says which image a row is of
SCORES = {  # what the score of a single image is, by task, as `Scores.per_image` has it
    "classification": "share of right answers",
    "regression": "exp(−error), the error in deviations of the train images: 1 for right",
    "segmentation": "IoU of an image",
    "detection": "F1 of an image's boxes",
}


def slices_of(
    run: str | os.PathLike[str] | Run,
    *,
    part: Part = "val",
    metadata: str | os.PathLike[str] | None = None,
    data: Dataset | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The slices of a run's unseen images, worst first; the `trainwright.slices/1` object.

    By class, by the height and width of the file, and by brightness, contrast, saturation and sharpness of the pixels. part: val,
    or test once `finalise` has opened it. metadata: a CSV file with a row an image; the column `image` (or path, file) has paths
    below the dataset's folder or names of files, any other is one more attribute. data: what only Python code could give.
    Raises RunError for no such run and where it has no answers for the part, DataError where the data changed or the table is
    of no use.
    """
    from trainwright.workflows.library import open_run

    options = options_from(options, more)
    if part not in PARTS:
        raise unknown_name(part, PARTS, where="part", what="part")
    folder = run._folder if isinstance(run, Run) else open_run(run, options.runs)._folder
    rows, scores, groups = answers_of(folder, part)
    data = data_of(folder, data, options)
    attributes = attributes_of(data, rows, options)
    if metadata is not None:
        attributes |= _of_table(Path(metadata), [data.table.paths[row] for row in rows])
    return told(folder, part, attributes, scores, groups)


def told(
    folder: RunFolder, part: str, attributes: Mapping[str, np.ndarray], scores: np.ndarray, groups: np.ndarray
) -> dict[str, Any]:
    """The `trainwright.slices/1` object. attributes: of each image, by name. scores, groups: of each image."""
    found = slices(scores, attributes, groups=groups)
    failing = [one for one in found if one.fails]
    content: dict[str, Any] = to_json(
        {
            "schema": "trainwright.slices/1",
            "run": folder.run_id,
            "part": part,
            "metric": folder.manifest["metric"],
            "score_is": SCORES.get(str(folder.manifest["dataset"]["task"]), "how good the answer is, 0 to 1"),
            "images": len(scores),
            "score": float(np.nanmean(scores)),
            "attributes": list(attributes),
            "failing": [_plain(one) for one in failing],
            "slices": [_plain(one) for one in found],
            "least_images": LEAST_IMAGES,
        }
    )
    return content


def attributes_of(data: Dataset, rows: np.ndarray, options: RunOptions) -> dict[str, np.ndarray]:
    """What is known of these rows' images without any table: class, size, and what their pixels look like."""
    return {**_of_targets(data, rows), **_of_files(data, rows), **_of_pixels(data, rows, options)}


def answers_of(folder: RunFolder, part: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, score of each image, groups) of the answers that a run has kept."""
    file = folder.answers / f"{part}.npz"
    if not file.is_file():
        cure = (
            "'trainwright finalise RUN' opens the test part, once."
            if part == "test"
            else "A run that has not ended, or that learned from its validation images, has none."
        )
        raise RunError(f"has no answers to its {part} images.", where=folder.run_id, cure=cure)
    with np.load(file, allow_pickle=False) as saved:
        return saved["rows"], saved["per_image"].astype(np.float64), saved["groups"]


def _of_targets(data: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    if data.task != "classification":
        return {}
    strata = data.targets.strata()
    return {"class": np.array([strata[row] for row in rows])}


def _of_files(data: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    height_N, width_N = (
        sides[rows].astype(np.float64) for sides in (data.fingerprint.heights, data.fingerprint.widths)
    )
    return {"pixels of the file": height_N * width_N, "width over height": width_N / height_N}


def _of_pixels(data: Dataset, rows: np.ndarray, options: RunOptions) -> dict[str, np.ndarray]:
    """Brightness, contrast and saturation 0–1, and sharpness, of each image made SIDE × SIDE."""

    def look(row: int) -> tuple[float, float, float, float]:
        return _figures(data.read(row, (SIDE, SIDE), "squash") / 255)

    figures_NF = np.empty((len(rows), 4))
    with ThreadPoolExecutor(max(1, options.workers), thread_name_prefix="looking") as threads:  # Pillow lets others run
        for place, found in enumerate(threads.map(look, rows.tolist())):
            figures_NF[place] = found
            options.reporter.progress("looking at images", place + 1, len(rows))
    return dict(zip(("brightness", "contrast", "saturation", "sharpness"), figures_NF.T, strict=True))


def _figures(image_HWC: np.ndarray) -> tuple[float, float, float, float]:
    grey_HW = image_HWC @ GREY
    curved_HW = (
        4 * grey_HW[1:-1, 1:-1] - grey_HW[:-2, 1:-1] - grey_HW[2:, 1:-1] - grey_HW[1:-1, :-2] - grey_HW[1:-1, 2:]
    )
    saturation = float((image_HWC.max(axis=2) - image_HWC.min(axis=2)).mean())
    return float(grey_HW.mean()), float(grey_HW.std()), saturation, float(curved_HW.std())


def _of_table(file: Path, paths: Sequence[str | os.PathLike[str]]) -> dict[str, np.ndarray]:
    """The columns of a CSV file for these images: numbers where all of them are, else words; "" and nan for images it lacks."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            table = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot be read ({error}).", where=str(file), cure="Give a CSV file in UTF-8.") from None
    key = next((name for name in NAMES if table and name in table[0]), None)
    if key is None:
        raise DataError(
            f"expected a column {', '.join(NAMES)}, got {', '.join(map(str, table[0])) if table else 'no rows'}.",
            where=str(file),
            cure="Name the column that says which image a row is of 'image'.",
        )
    known = {str(row[key]): row for row in table}
    found = [known.get(str(path)) or known.get(Path(path).name) or {} for path in paths]
    if not any(found):
        raise DataError(
            f"names none of the {len(paths)} images, as {Path(paths[0]).as_posix()}.",
            where=f"{file}, column {key}",
            cure="Write paths below the dataset's folder, or names of files.",
        )
    columns = [name for name in table[0] if name not in (key, None)]
    return {name: _column([row.get(name) for row in found]) for name in columns}


def _column(values: Sequence[str | None]) -> np.ndarray:
    given = [value for value in values if value not in (None, "")]
    try:
        numbers = {value: float(value) for value in given if value is not None}
    except ValueError:
        return np.array([value or "" for value in values])
    return np.array([numbers.get(value, math.nan) if value else math.nan for value in values])


def _plain(one: Slice) -> Mapping[str, Any]:
    return {**vars(one), "fails": one.fails}
