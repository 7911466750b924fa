"""What the page of a run is made of, from its folder."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainwright.diagnosis.prescribe import Circumstances, prescribe
from trainwright.diagnosis.rules.fit import probes_that_would_tell
from trainwright.recipe import Recipe
from trainwright.recipes import published
from trainwright.records import Answers, Chart, Finding, Prescription
from trainwright.report.reliability import Bin, reliability_bins
from trainwright.report.values import RecipeValue, RunValues
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import ASKED, folder_of_studies
from trainwright.workflows.judge import EVIDENCE
from trainwright.workflows.kept_evidence import evidence_of
from trainwright.workflows.lr import PICTURE
from trainwright.workflows.options import RunOptions
from trainwright.workflows.predict import task_of
from trainwright.workflows.report_explained import explained_pictures
from trainwright.workflows.report_openings import openings_of
from trainwright.workflows.report_pictures import of_one_class, pictures_of
from trainwright.workflows.report_progress import progress_of, state_of
from trainwright.workflows.report_slices import slices_of_page
from trainwright.workflows.run import recipe_of

if TYPE_CHECKING:
    from trainwright.data.dataset import Dataset

OPEN = (None, "auto")  # what a recipe leaves to the data and the machine
OWN_COLUMNS = ("rows", "paths", "per_image", "tally", "groups")  # of answers as they are kept, beside those of the task


def run_values(
    folder: RunFolder, *, data: Dataset | None, beside: Path, explain: RunOptions | None = None
) -> RunValues:
    """Everything that the page of a run says. data: for the pictures, None to read them from where they were. beside: the folder
    of the page, which links are written from. explain: how to explain the hardest images anew; None for what has been."""
    result, recipe, manifest, status = folder.result(), recipe_of(folder), folder.manifest, state_of(folder)
    explained, explained_note = explained_pictures(folder, result, explain)
    steps = list(folder.records("steps"))
    ranges = list(folder.records("lr_range"))
    named, choice = _named(manifest)
    return RunValues(
        run=folder.run_id,
        data_name=str(manifest.get("name", "")),
        state=str(status["state"]),
        message=str(status["message"]),
        created=float(manifest.get("created") or math.nan),
        manifest=manifest,
        result=result,
        recipe=_recipe_values(recipe, manifest, named, measured=bool(ranges)),
        recipe_name=named,
        choice=choice,
        folder=str(folder.path),
        epochs=list(folder.records("epoch")),
        losses=[loss for record in steps for loss in record["loss"]],
        lrs=[lr for record in steps for lr in record["lr"]],
        lr_range=ranges[-1] if ranges else None,
        lr_sweeps=_sweeps(folder) if ranges else (),
        openings=openings_of(folder),
        study=_study_of(folder, beside),
        version=str((manifest.get("code") or {}).get("version", "")),
        unseen=recipe.data.train_on != "train+val",
        prescriptions=_prescriptions(result, recipe, manifest) if result else (),
        would_tell=_would_tell(folder) if result else (),
        explained=explained,
        explained_note=explained_note,
        progress=None if result else progress_of(folder, recipe, steps),
        **_of_answers(folder, recipe, result, data),
    )


def _of_answers(
    folder: RunFolder, recipe: Recipe, result: Mapping[str, Any] | None, data: Dataset | None
) -> dict[str, Any]:
    """charts, reliability, pictures, slices: what the kept answers for unseen images show."""
    nothing: dict[str, Any] = {"charts": (), "reliability": (), "pictures": (), "pictures_note": ""}
    file = folder.path / "answers" / "val.npz"
    if result is None or not file.is_file():
        return nothing
    with np.load(file, allow_pickle=False) as saved:
        kept = {name: saved[name] for name in saved.files}
    answers = Answers(
        rows=kept["rows"], columns={name: column for name, column in kept.items() if name not in OWN_COLUMNS}
    )
    task = task_of(folder, recipe)
    charts: Sequence[Chart] = task.charts(answers)
    bins: tuple[Bin, ...] = ()
    if of_one_class(task, answers):
        bins = reliability_bins(answers.columns["probabilities"], answers.columns["target"])
    pictures, note = pictures_of(folder, recipe, task, answers, kept, data)
    found, why_not = slices_of_page(folder, data)
    return {
        "charts": tuple(charts),
        "reliability": bins,
        "pictures": pictures,
        "pictures_note": note,
        "slices": found,
        "slices_note": why_not,
    }


def _sweeps(folder: RunFolder) -> list[list[float]]:
    file = folder.path / "answers" / f"{PICTURE}.npz"
    if not file.is_file():
        return []
    with np.load(file, allow_pickle=False) as saved:
        losses: list[list[float]] = saved["losses_SL"].tolist()
    return losses


def _would_tell(folder: RunFolder) -> tuple[str, ...]:
    """The probes not run yet that would tell why the train error is high."""
    if folder.read_json(EVIDENCE) is None:
        return ()
    return probes_that_would_tell(evidence_of(folder))


def _study_of(folder: RunFolder, beside: Path) -> tuple[str, str] | None:
    """(name, link to its page, empty where there is none) of the study that a run is a part of."""
    name, _, number = folder.run_id.rpartition("-")
    path = folder_of_studies(folder.path.parent) / name
    if not number.isdecimal() or not name or not (path / ASKED).is_file():
        return None
    return name, link_to(path / "report.html", beside)


def link_to(page: Path, beside: Path) -> str:
    """A relative link from a folder to a page, empty where that is not written yet."""
    from urllib.parse import quote

    return quote(os.path.relpath(page, beside)) if page.is_file() else ""


def _prescriptions(result: Mapping[str, Any], recipe: Recipe, manifest: Mapping[str, Any]) -> tuple[Prescription, ...]:
    """What answers the findings, with changes that could be trained."""
    dataset, score = manifest["dataset"], result["score"]["val"]
    if score is None:
        return ()
    gap, train = result["gap"]["value"], result["score"]["train"]
    circumstances = Circumstances(
        task=dataset["task"],
        train_count=int(manifest["split"]["train"]),
        classes=tuple(dataset["classes"]),
        image_size=recipe.data.size,
        device=str(manifest["machine"]["device"]).partition(":")[0],
        score=float(score),
        gap=None if gap is None else float(gap),
        train_error=math.nan if train is None else 1 - float(train),
        grey=True,  # not looked at here, so that no mirror is proposed in company
    )
    known = {field.name for field in dataclasses.fields(Finding)}
    findings = [
        Finding(**{key: value for key, value in one.items() if key in known} | {"figures": one.get("figures") or {}})
        for one in result["findings"]
    ]
    return tuple(one for one in prescribe(findings, recipe, circumstances) if one.changes)


def _named(manifest: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """(name of the published recipe that was taken, empty for none; why, where nobody named one)."""
    choice = manifest.get("recipe")
    if isinstance(choice, Mapping):
        return str(choice.get("name", "")), tuple(choice.get("reasons") or ())
    asked = (manifest.get("asked") or {}).get("recipe")
    return (asked, ()) if isinstance(asked, str) and asked in published.names() else ("", ())


def _recipe_values(
    recipe: Recipe, manifest: Mapping[str, Any], named: str, *, measured: bool
) -> tuple[RecipeValue, ...]:
    """Every value of the recipe with where it is from."""
    page = published.page(named) if named else None
    before = by_key((page.recipe if page is not None else Recipe()).model_dump(mode="json"))
    asked: Mapping[str, Any] = manifest.get("asked") or {}
    sources = page.sources if page is not None else {}
    values = []
    for key, value in by_key(recipe.model_dump(mode="json")).items():
        given = ""
        if value != before.get(key):
            given = _setter(key, asked, named, left_open=before.get(key) in OPEN, measured=measured)
        source = "" if given else sources.get(key) or sources.get(key.partition(".")[0], "")
        values.append(RecipeValue(key=key, value=value, published=before.get(key), given=given, source=source))
    return tuple(values)


def _setter(key: str, asked: Mapping[str, Any], named: str, *, left_open: bool, measured: bool) -> str:
    """Who gave a value that differs from that of the published recipe. left_open: that one leaves it to be filled in."""
    changes, recipe = asked.get("changes") or {}, asked.get("recipe")
    if not asked:
        return "not recorded"
    if key == "optimizer.lr" and measured and changes.get(key) is None:
        return "the range test"
    if key in changes:
        return "the caller"
    if isinstance(recipe, Mapping) and key in by_key(recipe):
        return "the recipe given"
    if left_open:
        return "filled in"
    if isinstance(recipe, str) and not named:
        return recipe
    return "what goes with a change of the caller" if changes else "filled in"


def by_key(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a recipe by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= by_key(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
