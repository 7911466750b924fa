"""The closed loop as a verb: baseline, diagnosis, prescriptions beside a control, until no gain is in sight."""

from __future__ import annotations

import copy
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.diagnosis.noise import luck
from trainwright.errors import DataError, RunError, UsageError
from trainwright.recipe import Recipe
from trainwright.records import to_json
from trainwright.search.coach import Coach
from trainwright.search.ledger import Ledger, Pace, rung
from trainwright.search.rounds import Entry
from trainwright.tracking.study_folder import StudyFolder, find_study, folder_of_studies
from trainwright.training.device import choose_device
from trainwright.training.loop import fit
from trainwright.training.twin import twin_of
from trainwright.workflows.choose import facts_of
from trainwright.workflows.ingredients import batches_of, optimizer_of, settings_of
from trainwright.workflows.judge import score_of
from trainwright.workflows.manifest import command_line, machine, packages, sources_sha256
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.prepare import Prepared, build_task, prepare
from trainwright.workflows.request import asked_for
from trainwright.workflows.run import Run
from trainwright.workflows.study import Conductor, trials_of
from trainwright.workflows.training import repeatable

if TYPE_CHECKING:
    from torch import nn

TIMED_STEPS, WARM_UP_STEPS = 6, 2
FORWARD = (
    1 / 3
)  # of a training step's time: evaluation has no backward pass, which costs twice as much (arXiv:2001.08361 §2.1)
RUN_SECONDS = 3.0  # a guess of what a run costs beside its epochs, until the first has told
BASELINE_SHARE = 0.2  # of the budget: a longer baseline would leave no time for a control and an arm of its length
DURATION = re.compile(r"^(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?$")


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
    asked = _fitting(asked, pace, limit)
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
            else:
                folder.set_status("interrupted", message="stopped when asked to; everything so far is saved")
        except BaseException as error:
            state = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
            folder.set_status(state, message=f"{type(error).__name__}: {error}")
            raise
    return Study(folder, options.runs)


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


def pace_of(prepared: Prepared, *, options: RunOptions) -> Pace:
    """How long an epoch of a training that is ready to start takes here, by a few steps of a copy, and by how many images it
    evaluates beside."""
    recipe = prepared.recipe
    optimizer = optimizer_of(prepared, lr=recipe.optimizer.lr or 1e-6)
    model, optimizer = twin_of(prepared.model, optimizer, where="model", cure="Give it a __deepcopy__.")
    size = recipe.step_images if recipe.batch_size != "auto" else 64
    batches = batches_of(prepared, seed=recipe.seed, workers=options.workers, batch_size=size)
    steps = fit(
        model,
        prepared.task,
        batches.iterate(),
        optimizer,
        lambda progress: 1e-6,
        steps=WARM_UP_STEPS + TIMED_STEPS,
        device=prepared.device,
        settings=settings_of(prepared),
    )
    stamps = [time.perf_counter() for record in steps if math.isfinite(float(record.loss))]
    step_seconds = float(np.median(np.diff(stamps[WARM_UP_STEPS - 1 :]))) if len(stamps) > WARM_UP_STEPS else 1.0
    evaluated = len(prepared.split.val) + len(prepared.probe_rows)
    return Pace(
        epoch_seconds=step_seconds * (batches.steps_per_epoch + FORWARD * evaluated / size), run_seconds=RUN_SECONDS
    )


def _fitting(recipe: Recipe, pace: Pace, limit: float | None) -> Recipe:
    """The recipe, shortened where a baseline of all its epochs would leave no time to compare anything with it."""
    if limit is None:
        return recipe
    fits = math.floor((BASELINE_SHARE * limit - pace.run_seconds) / pace.epoch_seconds)
    if fits < 1:
        least = (pace.epoch_seconds + pace.run_seconds) / BASELINE_SHARE
        raise UsageError(
            f"an epoch takes about {pace.epoch_seconds:.0f} s here: {limit:.0f} s are too few to compare anything.",
            where="--budget",
            cure=f"Give it at least {math.ceil(least)}s, or take smaller images (--set data.image_size=…).",
        )
    return recipe if recipe.epochs <= fits else recipe.changed({"epochs": rung(fits)})


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
                        "run": arm.run,
                        "score": arm.score,
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


def seconds_of(budget: str | float | int) -> float:
    """`90s`, `10m`, `1h30m` or a number of seconds. Raises UsageError for anything else."""
    if isinstance(budget, int | float):
        seconds = float(budget)
    else:
        found = DURATION.match(budget.strip())
        parts = [float(part or 0) for part in found.groups()] if found else [0.0]
        seconds = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
    if not (0 < seconds < math.inf):
        raise UsageError(f"no such budget {budget!r}.", where="--budget", cure="Write for example 90s, 10m or 1h30m.")
    return seconds


def _known(data: Dataset, prepared: Prepared) -> dict[str, Any]:
    facts = facts_of(data)
    return {
        "task": data.task,
        "train_count": len(prepared.split.train),
        "image_size": list(facts.image_size),
        "classes": list(prepared.task.info.names) if prepared.task.target in ("class", "mask", "boxes") else [],
        "device": prepared.device.type,
        "pretrained": sorted(facts.pretrained_at_hand),
    }


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
