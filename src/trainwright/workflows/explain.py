"""Why a run's model says what it says of single images: which pixels speak for it, as pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainwright.data.decode import DecodeError, decode
from trainwright.data.problems import printable
from trainwright.deploy.attribution import STEPS, Attribution, attribute, check_installed, overlaid
from trainwright.deploy.predict import Fitting, find_images
from trainwright.errors import DataError, RunError, UsageError, unknown_name
from trainwright.files import write_atomically
from trainwright.plugins import Task
from trainwright.records import Tile, to_json
from trainwright.report import figures
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.model import ImageNetwork
from trainwright.workflows.finalise import model_run
from trainwright.workflows.known_truth import KnownTruth, answered, answered_in_words, data_folder
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.predict import load_model, task_of
from trainwright.workflows.prepare import stored_for
from trainwright.workflows.run import Run, recipe_of
from trainwright.workflows.studies import Study

if TYPE_CHECKING:
    from torch import nn

METHOD = f"integrated gradients from the image's mean colour, {STEPS} steps"
HARDEST = 8  # images that are explained where none are named
PAIRS = figures.MOST_IMAGES // 2  # of an image and its explanation on a sheet
SUM_MISSES = 0.1  # share of the output that is not explained, from which on it is said
LOGIT, MEAN_LOGIT, OUTPUT, DEVIATIONS = (
    "the logit of the class, which the probabilities are made of",
    "the mean logit of the class over the pixels that are given it",
    "the network's output",
    "the network's output, in deviations of the train images from their mean",
)
FOLDER = "explained"  # in a run's folder


def explain(
    run: str | os.PathLike[str] | Run | Study,
    images: Sequence[Path | str] | Path | str | None = None,
    *,
    of: str | None = None,
    out: str | os.PathLike[str] | None = None,
    model: nn.Module | None = None,
    options: RunOptions | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Write pictures of what speaks for and against the model's answers; the `trainwright.explained/1` object.

    images: files and folders; None for the run's hardest validation images. of: the class, or the value, that is explained;
    None for the model's answer (of a map the class that most of its pixels have), and for the first value. out: folder of the
    sheets, `explained` in the run's where none is given: `why-001.png` and on, each image beside its explanation, red for and
    blue against. Of class scores it is the logit that is explained; the answer, its probability and, of images that the run was
    judged by, the truth stand beside it. Raises RunError for no such run or one without a model,
    UsageError for a task whose answers are boxes and for a class it does not know, DataError where there are no images,
    MissingPackageError without captum.
    """
    options = options_from(options, more)
    check_installed()
    folder, _ = model_run(run, options)
    subject = _subject(folder, model)
    wanted = None if of is None else _index(subject.task, of)
    files = _hardest(folder) if images is None else find_images([Path(path) for path in _listed(images)])
    target = folder.path / FOLDER if out is None else Path(out)
    told: list[dict[str, Any]] = []
    tiles: list[Tile] = []
    for file in files:
        said, pair = _explained(file, subject, wanted)
        told.append(said)
        tiles += pair
        options.reporter.progress("explaining", len(told), len(files))
    sheets = _written(tiles, target)
    content: dict[str, Any] = to_json(
        {
            "schema": "trainwright.explained/1",
            "run": folder.run_id,
            "method": METHOD,
            "explains": explained_figure(subject.task),
            "images": told,
            "sheets": [str(sheet) for sheet in sheets],
        }
    )
    return content


def hardest_explained(
    folder: RunFolder, *, options: RunOptions
) -> Iterator[tuple[str, Mapping[str, Any], Sequence[Tile]]]:
    """(path within the data, what is told of it, the image and its explanation) of each of the run's hardest images.

    Raises as `explain` does.
    """
    check_installed()
    subject, files = _subject(folder, None), _hardest(folder)
    for done, (file, one) in enumerate(zip(files, (folder.result() or {})["hardest"], strict=False), start=1):
        said, tiles = _explained(file, subject, None)
        options.reporter.progress("explaining", done, len(files))
        yield str(one["path"]), said, tiles


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that is asked why. fitting: how it sees a file. known: what is known of the truth."""

    task: Task
    fitting: Fitting
    network: ImageNetwork
    known: KnownTruth


def _subject(folder: RunFolder, model: nn.Module | None) -> Subject:
    recipe = recipe_of(folder)
    task = task_of(folder, recipe)
    if task.form == "boxes":
        raise UsageError(
            f"{task.name} answers with boxes, of which no single figure is explained.",
            where=folder.run_id,
            cure="'trainwright predict --pictures' shows what it finds.",
        )
    return Subject(
        task=task,
        fitting=Fitting(stored=stored_for(task, recipe), size=recipe.data.size, fit=recipe.data.fit),
        network=load_model(folder, recipe, task, custom=model),
        known=KnownTruth(folder, task),
    )


def _listed(images: Sequence[Path | str] | Path | str) -> list[Path | str]:
    return [images] if isinstance(images, Path | str) else list(images)


def _index(task: Task, of: str) -> int:
    if of not in task.info.names:
        raise unknown_name(of, task.info.names, where="of", what="class or value")
    return task.info.names.index(of)


def _hardest(folder: RunFolder) -> list[Path]:
    """Files of the validation images that the run found hardest."""
    source = folder.manifest["dataset"].get("source")
    hardest = (folder.result() or {}).get("hardest") or []
    if source is None or not hardest:
        raise RunError(
            "has no hardest validation images with files.", where=folder.run_id, cure="Name the images to explain."
        )
    root = data_folder(Path(source["path"]))
    files = [root / image["path"] for image in hardest[:HARDEST]]
    gone = [file for file in files if not file.is_file()]
    if gone:
        raise DataError("is not there any more.", where=str(gone[0]), cure="Name the images to explain.")
    return files


def _explained(file: Path, subject: Subject, wanted: int | None) -> tuple[dict[str, Any], list[Tile]]:
    """(what is told of a file, the image and its explanation as tiles)."""
    task, fitting, network = subject.task, subject.fitting, subject.network
    try:
        (image_HWC,) = fitting.shown(decode(file, size=fitting.stored, fit=fitting.fit)[None])
    except DecodeError as error:
        return {"image": str(file), "error": f"{error.kind}: {error}"}, []
    network.eval()
    with torch.no_grad():
        outputs = network(torch.from_numpy(image_HWC.copy()).permute(2, 0, 1)[None].float())
    place = _answer(task, outputs) if wanted is None else wanted
    (said,) = task.say(task.answers(outputs, None, np.arange(1)))
    told = answered(said, subject.known.of(file))
    found = attribute(network, image_HWC, _figure(task, place, outputs))
    name = task.info.names[place] if place < len(task.info.names) else str(place)
    title = f"{name}: {found.output:.3g}, plain image {found.plain:.3g}"
    missed = f"\n{found.unexplained:.0%} not explained" if found.unexplained > SUM_MISSES else ""
    words = answered_in_words(told).replace(", answer", "\nanswer")
    tiles = [
        Tile(image_HWC=image_HWC, title="\n".join(filter(None, (printable(file.name), printable(words))))),
        Tile(image_HWC=overlaid(image_HWC, found.heat_HW), title=f"{title}{missed}"),
    ]
    return {"image": str(file), **told, "of": name, **_figures(found)}, tiles


def explained_figure(task: Task) -> str:
    """What the numbers of an explanation are, in words."""
    if task.form == "map":
        return MEAN_LOGIT
    return {"class": LOGIT, "numbers": DEVIATIONS}.get(task.target, OUTPUT)


def _figures(found: Attribution) -> dict[str, float]:
    return {"output": found.output, "plain": found.plain, "unexplained": found.unexplained}


def _answer(task: Task, outputs: torch.Tensor) -> int:
    """The index of what the model says of its one image."""
    if task.form == "map":
        return int(outputs[0].argmax(dim=0).flatten().mode().values)
    return int(outputs[0].argmax()) if task.target == "class" else 0


def _figure(task: Task, place: int, outputs: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """What is explained of the outputs for N images: the logit of a class, its mean over the pixels that have it, or a value."""
    if task.form != "map":
        return lambda outputs_NK: outputs_NK[:, place]
    own_HW = outputs[0].argmax(dim=0) == place
    pixels_HW = own_HW if bool(own_HW.any()) else torch.ones_like(own_HW)
    return lambda outputs_NKHW: outputs_NKHW[:, place][:, pixels_HW].mean(dim=1)


def _written(tiles: Sequence[Tile], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    sheets = []
    for number, start in enumerate(range(0, len(tiles), 2 * PAIRS), start=1):
        sheets.append(folder / f"why-{number:03d}.png")
        write_atomically(sheets[-1], figures.sheet(tiles[start : start + 2 * PAIRS]))
    return sheets
