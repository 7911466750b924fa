"""The unseen images that a page shows: the answers that are worst, as small JPEG files."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainwright.data.decode import DecodeError, decode
from trainwright.errors import DataError
from trainwright.recipe import Recipe
from trainwright.records import Answers, part_of
from trainwright.report.figures import worth_showing
from trainwright.report.values import Picture, Pictures
from trainwright.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from trainwright.data.dataset import Dataset
    from trainwright.plugins import Task

log = logging.getLogger(__name__)
SHOWN = 12  # pictures of a group
LEAST_SIDE = 112  # pixels: small inputs are shown from the file with more of its detail
MOST_SIDE = 320
JPEG_QUALITY = 80
SUREST = "The most confident mistakes: wrong labels, and what the network is blind to, stand here first."
HARDEST = "The least probability for the truth, of those not shown above."


def of_one_class(task: Task, answers: Answers) -> bool:
    """Whether each image has one class, and an answer is a probability of each."""
    found, target = answers.columns.get("probabilities"), answers.columns.get("target")
    return task.target == "class" and found is not None and found.ndim == 2 and target is not None and target.ndim == 1


def pictures_of(
    folder: RunFolder,
    recipe: Recipe,
    task: Task,
    answers: Answers,
    kept: Mapping[str, np.ndarray],
    data: Dataset | None,
) -> tuple[tuple[Pictures, ...], str]:
    """The images that say most, in groups; and a word where there are none."""
    per_image = kept["per_image"]
    if of_one_class(task, answers):
        probabilities_NK, target_N = answers.columns["probabilities"], answers.columns["target"]
        sure_N = probabilities_NK.max(axis=1)
        wrong = np.flatnonzero(probabilities_NK.argmax(axis=1) != target_N)
        surest = wrong[np.argsort(-sure_N[wrong], kind="stable")][:SHOWN]
        of_truth_N = probabilities_NK[np.arange(len(target_N)), target_N]
        hardest = [n for n in np.argsort(of_truth_N, kind="stable")[: 2 * SHOWN] if n not in set(surest.tolist())]
        groups = [
            ("Wrong, and sure of it", SUREST, surest),
            ("Hardest", HARDEST, np.array(hardest[:SHOWN], dtype=int)),
        ][: 1 if probabilities_NK.shape[1] == 2 else 2]  # of two classes both orders are the same
        if not len(wrong):
            return (), "No unseen image is answered wrongly."
    else:
        worst = worth_showing(per_image)[:SHOWN]
        note = {
            "mask": "The answer painted in on the left, the truth on the right.",
            "boxes": "Boxes of the answer in the colour of their class, true ones dashed.",
        }.get(task.target, "")
        groups = [("Hardest", f"The unseen images with the worst answers. {note}".strip(), worst)]
    chosen = np.unique(np.concatenate([found for *_, found in groups]).astype(int))
    try:
        images = _read(folder, recipe, task, answers, kept["paths"], chosen, data)
    except (DataError, DecodeError, OSError) as error:
        log.debug("%s: no pictures: %s", folder.run_id, error)
        return (), f"The pictures are left out: {_why(error)}"
    if isinstance(images, str):
        return (), images
    made = {n: _picture(task, answers, str(kept["paths"][n]), n, image) for n, image in images.items()}
    return tuple(
        Pictures(title=title, note=note, shown=tuple(made[int(n)] for n in found)) for title, note, found in groups
    ), ""


def _why(error: Exception) -> str:
    return str(getattr(error, "message", "") or error)


def _read(
    folder: RunFolder,
    recipe: Recipe,
    task: Task,
    answers: Answers,
    paths: np.ndarray,
    chosen: np.ndarray,
    data: Dataset | None,
) -> dict[int, np.ndarray] | str:
    """uint8 images [H, W, 3] by position in `answers`, cut as the network saw them; a sentence where they are out of reach."""
    height, width = recipe.data.size
    if task.target not in ("mask", "boxes"):  # nothing is painted in, so that more of the file's detail may be shown
        larger = max(1.0, LEAST_SIDE / max(height, width))
        height, width = round(height * larger), round(width * larger)
    if data is not None:
        return {int(n): data.read(int(answers.rows[n]), (height, width), recipe.data.fit) for n in chosen}
    source = folder.manifest["dataset"]["source"]
    if source is None:
        return "The pictures are left out: this run's data was given by Python code (run.report(data=…) has them)."
    path = Path(source["path"])
    root = path if path.is_dir() else path.parent
    files = {int(n): root / str(paths[n]) for n in chosen}
    missing = [str(paths[n]) for n, file in files.items() if not file.is_file()]
    if missing:
        return f"The pictures are left out: {missing[0]} of the data is not there, so the data is not where it was."
    return {n: decode(file, size=(height, width), fit=recipe.data.fit) for n, file in files.items()}


def _picture(task: Task, answers: Answers, path: str, n: int, image_HWC: np.ndarray) -> Picture:
    from PIL import Image

    tile = task.tiles(part_of(answers, np.array([n])), image_HWC[None])[0]
    shown = Image.fromarray(tile.image_HWC)
    most = MOST_SIDE * (2 if shown.width > 1.6 * shown.height else 1)  # two images beside each other
    if max(shown.size) > most:
        shown.thumbnail((most, most))
    file = io.BytesIO()
    shown.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return Picture(
        data=file.getvalue(), width=shown.width, height=shown.height, said=tile.title, path=path, good=tile.good
    )
