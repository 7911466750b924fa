"""The closed loop as a verb: baseline, diagnosis, prescriptions beside a control, until no gain is in sight."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.wording import epochs
from trainwright.recipe import Recipe
from trainwright.records import to_json
from trainwright.search.coach import Coach
from trainwright.search.ending import PLATEAU
from trainwright.search.ledger import Ledger, Pace
from trainwright.search.rounds import Entry
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows.choose import facts_of
from trainwright.workflows.chosen_epoch import score_of
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.pace import fitting, seconds_of
from trainwright.workflows.prepare import Prepared, build_task
from trainwright.workflows.request import wanted_of
from trainwright.workflows.studies import Kind, Study, carry_out
from trainwright.workflows.study_beginning import begun, created, measured_here, options_asked, ready_for_a_study
from trainwright.workflows.study_result import result_of

if TYPE_CHECKING:
    from torch import nn

LOOKED_AT = 64  # images


def improve(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    budget: str | float = "30m",
    model: nn.Module | None = None,
    seed: int | None = None,
    target: str | None = None,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    on_all: bool | None = None,
    told: Callable[[Entry], None] = lambda entry: None,
    options: RunOptions | None = None,
    **more: Any,
) -> Study:
    """Find a better recipe than `recipe` for `data` within `budget`, and prove that it is better.

    budget: wall-clock, as `10m`, `1h30m` or seconds. on_all: train the best recipe once more on train and val together at the
    end; None: where there is a test part, since without one the validation images are the last that a model can be scored by.
    told: called with every sentence of the story as it happens. name: of the study. The other arguments are those of `train`.
    The test part stays locked (`finalise`). Raises what `train` raises, UsageError for a budget that is none or too small for
    a single comparison, and for a recipe that trains on the validation images.
    """
    options = options_from(options, more)
    limit, start = seconds_of(budget), time.perf_counter()
    wanted = wanted_of(changes, seed=seed)
    prepared = ready_for_a_study(data, recipe, wanted, model=model, target=target, options=options)
    data = prepared.dataset
    content = begun(IMPROVE, data, prepared, on_all=on_all, own_network=model is not None, options=options)
    content |= {"budget_seconds": limit, "known": _known(data, prepared)}
    content |= _paced(prepared, content, options=options, began=start)
    del prepared
    folder = created(content, data, name=name, options=options)
    return carry_out(IMPROVE, folder, data, options=options, model=model, told=told)


def _paced(prepared: Prepared, content: Mapping[str, Any], *, options: RunOptions, began: float) -> dict[str, Any]:
    """What this machine makes of it: its pace, the baseline as long as the budget allows, and what all this took."""
    asked, limit = prepared.asked, content["budget_seconds"]
    here = measured_here(prepared, content, budget=limit, options=options)
    spent = time.perf_counter() - began
    # Time is kept for the end where there is something to train then: on all images, or for longer (`Coach`).
    final = content["on_all"] is not None or asked.schedule.name not in ("constant", PLATEAU)
    fitted = fitting(asked, here.pace, limit, spent=spent, on_all=final)
    shortened = None
    if fitted.epochs < asked.epochs:
        shortened = {"from": asked.epochs, "to": fitted.epochs}
        said = f"{limit:,.0f} s leave no time to compare longer ones; the last training may be longer"
        options.reporter.note(f"{epochs(fitted.epochs)}, not {asked.epochs}: {said}")
    return {
        "recipe": fitted.model_dump(mode="json"),
        "shortened": shortened,
        "pace": to_json(here.pace),
        "machine": here.machine,
        "options": options_asked(here, prepared, options),
        "spent_seconds": time.perf_counter() - began,
    }


def coach_of(folder: StudyFolder, data: Dataset) -> Coach:
    """The strategy of an improving study, from what the study was asked: of the clock only what that says."""
    asked = folder.asked
    recipe = Recipe.model_validate(asked["recipe"])
    task = build_task(recipe.changed({"task": recipe.task or data.task}), data.info(data.split(recipe.data).train))
    limit = asked["budget_seconds"]
    known = dict(asked["known"])
    known |= {"classes": tuple(known["classes"]), "image_size": tuple(known["image_size"])}
    known |= {"pretrained": frozenset(known["pretrained"])}
    slots = asked["options"].get("slots", 1)
    ledger = Ledger(limit=math.inf if limit is None else limit, pace=Pace(**asked["pace"]), slots=slots)
    ledger.book(asked["spent_seconds"])
    return Coach(
        recipe,
        ledger=ledger,
        score=None if task.counts_right else score_of(task),
        known=known,
        seed=recipe.seed,
        on_all=asked["on_all"],
    )


def _known(data: Dataset, prepared: Prepared) -> dict[str, Any]:
    facts = facts_of(data)
    return {
        "task": data.task,
        "train_count": len(prepared.split.train),
        "image_size": list(facts.image_size),
        "classes": list(prepared.task.info.names) if prepared.task.target in ("class", "mask", "boxes") else [],
        "device": prepared.device.type,
        "pretrained": sorted(facts.pretrained_at_hand),
        "grey": _grey(prepared),
    }


def _grey(prepared: Prepared) -> bool:
    """Whether the images have no colours, by some of them."""
    rows = prepared.split.train[:: max(1, len(prepared.split.train) // LOOKED_AT)]
    images_NHWC = prepared.pixels.take(rows)
    return bool((images_NHWC == images_NHWC[..., :1]).all())


def _end(folder: StudyFolder, coach: Coach, runs: Path) -> dict[str, Any]:
    if coach.incumbent is not None:
        recipe, _ = coach.handed_over
        folder.write_json("best-recipe.json", recipe.model_dump(mode="json"))
        folder.write_text("best-recipe.yaml", recipe.to_yaml())
    return result_of(folder, coach)


IMPROVE = Kind(name="improve", strategy_of=coach_of, end=_end)
