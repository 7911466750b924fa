"""The closed loop as a verb: baseline, diagnosis, prescriptions beside a control, until no gain is in sight."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.diagnosis.noise import luck
from trainwright.errors import DataError, RunError, TrainwrightError, UsageError
from trainwright.recipe import Recipe
from trainwright.records import to_json
from trainwright.search.coach import Coach
from trainwright.search.ledger import Ledger, Pace
from trainwright.search.rounds import Entry
from trainwright.tracking.study_folder import StudyFolder, find_study, folder_of_studies
from trainwright.tracking.sync import sync
from trainwright.training.device import choose_device
from trainwright.workflows.choose import facts_of
from trainwright.workflows.judge import score_of
from trainwright.workflows.manifest import command_line, machine, packages, sources_sha256
from trainwright.workflows.options import RunOptions, installed_mirrors, options_from
from trainwright.workflows.pace import fitting, pace_of, seconds_of
from trainwright.workflows.prepare import Prepared, build_task, prepare
from trainwright.workflows.request import asked_for
from trainwright.workflows.run import Run
from trainwright.workflows.study import Conductor, trials_of
from trainwright.workflows.training import repeatable

if TYPE_CHECKING:
    from torch import nn

LOOKED_AT = 64  # images
MIRRORS_SHARE = 0.05  # of the budget: what filling the mirrors may take afterwards


class Study:
    """A study: its folder, and what came out of it once it has ended."""

    def __init__(self, folder: StudyFolder, runs: Path) -> None:
        self.folder, self.name = folder.path, folder.name
        self._folder, self._runs = folder, runs

    @property
    def finished(self) -> bool:
        return self._folder.result() is not None

    @property
    def result(self) -> dict[str, Any]:
        """The `trainwright.study/1` object. Raises RunError before the study has ended."""
        result = self._folder.result()
        if result is None:
            raise RunError(
                f"has not ended (it is {self._folder.status()['state']}).",
                where=self.name,
                cure=f"Go on with 'trainwright resume {self.name}'.",
            )
        return result

    @property
    def best(self) -> Run:
        """The run whose model the study hands over."""
        from trainwright.tracking.run_folder import RunFolder

        return Run(RunFolder.open(self._runs / self.result["best"]["run"]))

    @property
    def story(self) -> list[str]:
        """What was believed, tried, found and decided, in order."""
        return [entry["text"] for entry in self._folder.records("entry")]

    def __repr__(self) -> str:
        if not self.finished:
            return f"Study({self.name!r}, {self._folder.status()['state']})"
        return f"Study({self.name!r}, {self.result['summary']!r})"


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
    on_all: bool = True,
    told: Callable[[Entry], None] = lambda entry: None,
    options: RunOptions | None = None,
    **more: Any,
) -> Study:
    """Find a better recipe than `recipe` for `data` within `budget`, and prove that it is better.

    budget: wall-clock, as `10m`, `1h30m` or seconds. on_all: train the best recipe once more on train and val together at the
    end. told: called with every sentence of the story as it happens. name: of the study. The other arguments are those of
    `train`. The test part stays locked (`finalise`). Raises what `train` raises, UsageError for a budget that is none or too
    small for a single comparison.
    """
    options = options_from(options, more)
    limit = seconds_of(budget)
    began = time.perf_counter()
    wanted = {**(changes or {}), **({} if seed is None else {"seed": seed})}
    device = choose_device(options.device)
    data, asked, _ = asked_for(data, recipe, wanted, own_network=model is not None, target=target, options=options)
    prepared = prepare(
        data,
        asked,
        device=device,
        workers=options.workers,
        reporter=options.reporter,
        custom=None if model is None else copy.deepcopy(model),
    )
    if len(prepared.split.val) < 2:
        raise DataError("no validation images to compare on.", where=str(data.table.root), cure="Add images.")
    with repeatable(device, options.threads):
        pace = pace_of(prepared, options=options)
    asked = fitting(asked, pace, limit)
    content = {
        "schema": "trainwright.study-asked/1",
        "kind": "improve",
        "data": dict(data.source) if data.source is not None else None,
        "fingerprint": data.digest,
        "own_network": model is not None,
        "recipe": asked.model_dump(mode="json"),
        "budget_seconds": limit,
        "pace": to_json(pace),
        "on_all": (len(prepared.split.train) + len(prepared.split.val)) / len(prepared.split.train) if on_all else None,
        "known": _known(data, prepared),
        "command": command_line(),
        "code_sha256": sources_sha256(),
        "packages": packages(),
        "machine": machine(device),
    }
    folder = StudyFolder.create(
        folder_of_studies(options.runs), asked=content, name=name, hint=f"improve {_hint(data)}"
    )
    spent = time.perf_counter() - began
    del prepared
    return _carry_out(folder, data, options=options, model=model, told=told, spent=spent)


def resume_study(
    study: str | Study,
    *,
    data: Dataset | None = None,
    model: nn.Module | None = None,
    told: Callable[[Entry], None] = lambda entry: None,
    options: RunOptions | None = None,
    **more: Any,
) -> Study:
    """Go on with a study that stopped: the same rounds and decisions as if it never had.

    data, model: what only Python code could give, again. Raises RunError for no such study, DataError where its data changed.
    """
    options = options_from(options, more)
    folder = study._folder if isinstance(study, Study) else find_study(options.runs, study)
    if folder is None:
        raise RunError(
            "there is no such study.", where=str(study), cure=f"Studies lie in {folder_of_studies(options.runs)}."
        )
    if folder.result() is not None:
        return Study(folder, options.runs)
    folder.claim()
    data = data or _open_again(folder, options)
    if data.digest != folder.asked["fingerprint"]:
        raise DataError(
            "the data has changed since the study began.",
            where=str(data.table.root),
            cure="Bring the files back as they were.",
        )
    if model is None and folder.asked["own_network"]:
        raise UsageError("this study's network was given by Python code.", where=folder.name, cure="Give model=….")
    threads = folder.asked["machine"]["torch_threads"] if options.threads is None else options.threads
    return _carry_out(folder, data, options=replace(options, threads=threads), model=model, told=told, spent=0.0)


def _carry_out(
    folder: StudyFolder,
    data: Dataset,
    *,
    options: RunOptions,
    model: nn.Module | None,
    told: Callable[[Entry], None],
    spent: float,
) -> Study:
    with folder:
        coach = coach_of(folder, data)
        coach.ledger.book(spent)
        folder.set_status("running")
        conductor = Conductor(study=folder, strategy=coach, data=data, options=options, model=model, told=told)
        try:
            if conductor.carry_out():
                folder.write_json("result.json", result_of(folder, coach))
                if coach.incumbent is not None:
                    folder.write_json("best-recipe.json", coach.incumbent.recipe.model_dump(mode="json"))
                folder.set_status("finished")
                _fill_mirrors(folder, options)
            else:
                folder.set_status("interrupted", message="stopped when asked to; everything so far is saved")
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
            folder.set_status(state, message=f"{type(error).__name__}: {error}")
            raise
    return Study(folder, options.runs)


def _fill_mirrors(folder: StudyFolder, options: RunOptions) -> None:
    """Copy the runs to the mirrors, now that no clock runs; what there is no time for, or no store, is named."""
    names = installed_mirrors() if options.mirrors is None else options.mirrors
    runs = [str(trial["run"]) for trial in trials_of(folder)] if names else []
    until = time.monotonic() + MIRRORS_SHARE * folder.asked["budget_seconds"]
    for done, run in enumerate(runs):
        options.reporter.progress("filling the mirrors", done, len(runs))
        try:
            if time.monotonic() > until:
                raise RunError("no time was left for the others.")
            sync(options.runs / run, names)
        except TrainwrightError as error:
            left = f"{len(runs) - done} of {len(runs)} runs are not in {' and '.join(names)} yet"
            options.reporter.note(f"{left} ({error.message}): 'trainwright sync {run}', and so on for the later ones")
            break
    options.reporter.progress("filling the mirrors", len(runs), max(1, len(runs)))


def coach_of(folder: StudyFolder, data: Dataset) -> Coach:
    """The strategy of an improving study, from what the study was asked; nothing of it depends on the clock."""
    asked = folder.asked
    recipe = Recipe.model_validate(asked["recipe"])
    task = build_task(recipe.changed({"task": recipe.task or data.task}), data.info(data.split(recipe.data).train))
    limit = asked["budget_seconds"]
    known = dict(asked["known"])
    known |= {"classes": tuple(known["classes"]), "image_size": tuple(known["image_size"])}
    known |= {"pretrained": frozenset(known["pretrained"])}
    return Coach(
        recipe,
        ledger=Ledger(limit=math.inf if limit is None else limit, pace=Pace(**asked["pace"])),
        score=None if task.counts_right else score_of(task),
        known=known,
        seed=recipe.seed,
        on_all=asked["on_all"],
    )


def result_of(folder: StudyFolder, coach: Coach) -> dict[str, Any]:
    """The `trainwright.study/1` object."""
    trials = list(trials_of(folder))
    incumbent, baseline = coach.incumbent, coach.baselines[0] if coach.baselines else None
    gain = coach.gain()
    compared = sum(len(one.arms) for one in coach.rounds)
    best: dict[str, Any] | None = None
    if incumbent is not None:
        model = coach.final or incumbent.judged
        best = {
            "run": model.run,
            "score": incumbent.judged.score,
            "gap": incumbent.judged.result["gap"],
            "scored_by": incumbent.judged.run,
            "trained_on": "train+val" if coach.final is not None else "train",
            "remedies": list(incumbent.remedies),
            "recipe": incumbent.recipe.model_dump(mode="json"),
        }
    return {
        "schema": "trainwright.study/1",
        "study": folder.name,
        "folder": str(folder.path),
        "strategy": "coach",
        "metric": None if baseline is None else baseline.result["metric"],
        "trials": trials,
        "baseline": None
        if baseline is None
        else {
            "run": baseline.run,
            "score": baseline.score,
            "gap": baseline.result["gap"],
            "verdict": baseline.result["verdict"],
        },
        "best": best,
        "gain": None if gain is None else gain.gain,
        "noise_floor": coach.noise,
        "luck": None if math.isnan(coach.noise) or compared < 1 else luck(coach.noise, compared),
        "importance": None,
        "warnings": [trial["label"] + " " + trial["state"] for trial in trials if trial["state"] != "finished"],
        "rounds": [
            {
                "round": one.number,
                "epochs": one.epochs,
                "verdict": one.believed,
                "control": {"run": one.control.run, "score": one.control.score},
                "arms": [
                    {
                        "remedy": arm.prescription.remedy,
                        "changes": dict(arm.prescription.changes),
                        "reason": arm.prescription.reason,
                        "source": arm.prescription.source,
                        "run": arm.outcome.run,
                        "score": arm.outcome.score,
                        "gain": None if arm.comparison is None else arm.comparison.gain,
                        "p": None if arm.comparison is None else arm.comparison.p,
                        "verdict": arm.verdict,
                        "adopted": arm.prescription.remedy == one.adopted,
                    }
                    for arm in one.arms
                ],
                "adopted": one.adopted,
            }
            for one in coach.rounds
        ],
        "journal": [to_json(entry) for entry in coach.entries],
        "summary": coach.summary(),
        "seconds": coach.ledger.spent,
        "budget_seconds": folder.asked["budget_seconds"],
    }


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


def _hint(data: Dataset) -> str:
    return "arrays" if data.source is None else Path(data.source["path"]).stem


def _open_again(folder: StudyFolder, options: RunOptions) -> Dataset:
    source = folder.asked["data"]
    if source is None:
        raise UsageError("this study's data was given by Python code.", where=folder.name, cure="Give data=….")
    return open_dataset(
        Path(source["path"]),
        target=source["target"],
        task=source["task"],
        workers=options.workers,
        progress=options.reporter.progress,
    )
