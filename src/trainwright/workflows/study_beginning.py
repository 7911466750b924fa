"""How a study of any kind begins: a training made ready, what this machine makes of it, and the folder that keeps both."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset
from trainwright.errors import DataError, UsageError
from trainwright.recipe import Recipe
from trainwright.search.ledger import Pace
from trainwright.tracking.runs import folder_of_studies
from trainwright.tracking.study_folder import StudyFolder
from trainwright.training.device import choose_device
from trainwright.training.repeatable import repeatable
from trainwright.workflows.crew import refuse_study
from trainwright.workflows.executors import asked_executor, check_elsewhere, on_a_cluster
from trainwright.workflows.finalise import openings
from trainwright.workflows.hands import MOST_AT_ONCE, made_here, slots_for
from trainwright.workflows.manifest import command_line, machine, packages, sources_sha256
from trainwright.workflows.options import RunOptions
from trainwright.workflows.pace import pace_of
from trainwright.workflows.prepare import Prepared, prepare
from trainwright.workflows.request import asked_for
from trainwright.workflows.studies import Kind

if TYPE_CHECKING:
    from torch import nn


def ready_for_a_study(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None,
    wanted: Mapping[str, Any],
    *,
    model: nn.Module | None,
    target: str | None,
    options: RunOptions,
) -> Prepared:
    """A training that is ready to start, to be measured. Raises UsageError for a recipe that trains on the validation images."""
    refuse_study(options)
    device = choose_device(options.device)
    data, asked, _ = asked_for(data, recipe, wanted, own_network=model is not None, target=target, options=options)
    if asked.data.train_on != "train":
        raise UsageError(
            "nothing unseen is left to compare by.",
            where="data.train_on",
            cure="Set it to train: the best recipe is trained on train and val together at the end.",
        )
    custom = None if model is None else copy.deepcopy(model)
    return prepare(data, asked, device=device, workers=options.workers, reporter=options.reporter, custom=custom)


def begun(
    kind: Kind, data: Dataset, prepared: Prepared, *, on_all: bool | None, own_network: bool, options: RunOptions
) -> dict[str, Any]:
    """What is kept of every study that was asked for: on which data, by which program."""
    return {
        "schema": "trainwright.study-asked/1",
        "kind": kind.name,
        "data": dict(data.source) if data.source is not None else None,
        "fingerprint": data.digest,
        "own_network": own_network,
        **_images(prepared, on_all, options),
        "command": command_line(),
        "code_sha256": sources_sha256(),
        "packages": packages(),
    }


def _images(prepared: Prepared, on_all: bool | None, options: RunOptions) -> dict[str, Any]:
    """What the parts of the data allow. Raises DataError where there is nothing to compare on."""
    train, val, test = (len(rows) for rows in (prepared.split.train, prepared.split.val, prepared.split.test))
    if val < 2:
        root = str(prepared.dataset.table.root)
        raise DataError("no validation images to compare on.", where=root, cure="Add images.")
    final = test > 0 if on_all is None else on_all
    if not test and final:
        note = "after the final training on train and val no unseen image is left"
        options.reporter.note(f"this data has no test part: {note}")
    elif not test:
        note = "the validation images are the last unseen ones, so no model is trained on them (--final does)"
        options.reporter.note(f"this data has no test part: {note}")
    hashes = prepared.dataset.fingerprint.pixel_hashes
    opened = openings(options.runs, {hashes[row] for row in prepared.split.test})
    return {"on_all": (train + val) / train if final else None, "test_images": test, "test_opened_before": len(opened)}


@dataclass(frozen=True, kw_only=True)
class Here:
    """What this machine makes of a study. slots: trainings at a time. pace: of one of them, beside the others."""

    machine: Mapping[str, Any]
    slots: int
    pace: Pace


def measured_here(prepared: Prepared, content: Mapping[str, Any], *, budget: float | None, options: RunOptions) -> Here:
    """How many trainings at a time pay here, and how long an epoch takes then. content: `begun`. budget: in seconds."""
    with repeatable(prepared.device, options.threads):
        here = machine(prepared.device)
    slots, alone = 1, made_here(prepared, content)
    check_elsewhere(options, alone=alone)
    if on_a_cluster(options):
        slots = options.slots or MOST_AT_ONCE
    elif not alone:
        device, threads = prepared.device.type, here["torch_threads"]
        slots = options.slots or slots_for(device=device, threads=threads, budget_seconds=budget)
    elif (options.slots or 1) > 1:
        said = f"one training at a time, not {options.slots}"
        options.reporter.note(f"{said}: {alone}, so no other process can train with it")
    with repeatable(prepared.device, max(1, here["torch_threads"] // slots)):
        return Here(machine=here, slots=slots, pace=pace_of(prepared, options=options))


def options_asked(here: Here, prepared: Prepared, options: RunOptions) -> dict[str, Any]:
    """The options that going on with the study takes again."""
    return {
        "threads": here.machine["torch_threads"],
        "slots": here.slots,
        "device": str(prepared.device),
        "offline": options.offline,
        "mirrors": None if options.mirrors is None else list(options.mirrors),
        **asked_executor(options),
    }


def created(content: Mapping[str, Any], data: Dataset, *, name: str | None, options: RunOptions) -> StudyFolder:
    """Its folder, which this process writes. content: all of `study.json`."""
    hint = "arrays" if data.source is None else Path(data.source["path"]).stem
    studies = folder_of_studies(options.runs)
    return StudyFolder.create(studies, asked=content, name=name, hint=f"{content['kind']} {hint}")
