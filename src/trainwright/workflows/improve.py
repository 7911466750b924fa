"""The closed loop as a verb: baseline, diagnosis, prescriptions beside a control, until no gain is in sight."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError, RunError, TrainwrightError, UsageError
from trainwright.recipe import Recipe
from trainwright.records import to_json
from trainwright.search.coach import Coach
from trainwright.search.ledger import Ledger, Pace
from trainwright.search.rounds import Entry
from trainwright.tracking.run_folder import MANIFEST
from trainwright.tracking.study_folder import RESULT, StudyFolder, find_study, folder_of_studies, last_study
from trainwright.tracking.sync import sync
from trainwright.training.device import choose_device
from trainwright.workflows.choose import facts_of
from trainwright.workflows.hands import AtOnce, Hands, InTurn, slots_for
from trainwright.workflows.judge import score_of
from trainwright.workflows.manifest import command_line, machine, packages, sources_sha256
from trainwright.workflows.options import RunOptions, installed_mirrors, options_from
from trainwright.workflows.pace import fitting, pace_of, seconds_of
from trainwright.workflows.prepare import Prepared, build_task, prepare
from trainwright.workflows.request import asked_for
from trainwright.workflows.run import Run
from trainwright.workflows.study import Conductor, trials_of
from trainwright.workflows.study_result import result_of
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
    limit, began = seconds_of(budget), time.perf_counter()
    wanted = {**(changes or {}), **({} if seed is None else {"seed": seed})}
    device = choose_device(options.device)
    data, asked, _ = asked_for(data, recipe, wanted, own_network=model is not None, target=target, options=options)
    if asked.data.train_on != "train":
        raise UsageError(
            "nothing unseen is left to compare by.",
            where="data.train_on",
            cure="Set it to train: the best recipe is trained on train and val together at the end.",
        )
    prepared = prepare(
        data,
        asked,
        device=device,
        workers=options.workers,
        reporter=options.reporter,
        custom=None if model is None else copy.deepcopy(model),
    )
    content = {
        "schema": "trainwright.study-asked/1",
        "kind": "improve",
        "data": dict(data.source) if data.source is not None else None,
        "fingerprint": data.digest,
        "own_network": model is not None,
        "budget_seconds": limit,
        "known": _known(data, prepared),
        **_images(prepared, on_all, options),
        "command": command_line(),
        "code_sha256": sources_sha256(),
        "packages": packages(),
    }
    content |= _paced(prepared, content, options=options, began=began)
    del prepared
    hint = f"improve {_hint(data)}"
    folder = StudyFolder.create(folder_of_studies(options.runs), asked=content, name=name, hint=hint)
    return _carry_out(folder, data, options=options, model=model, told=told)


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
    return {"on_all": (train + val) / train if final else None, "test_images": test}


def _paced(prepared: Prepared, content: Mapping[str, Any], *, options: RunOptions, began: float) -> dict[str, Any]:
    """What this machine makes of it: its pace, the baseline as long as the budget allows, and what all this took."""
    with repeatable(prepared.device, options.threads):
        here = machine(prepared.device)
    slots = options.slots or slots_for(
        device=prepared.device.type,
        threads=here["torch_threads"],
        budget_seconds=content["budget_seconds"],
        elsewhere=content["data"] is not None and not content["own_network"],
    )
    with repeatable(prepared.device, max(1, here["torch_threads"] // slots)):
        pace = pace_of(prepared, options=options)
    asked, limit = prepared.asked, content["budget_seconds"]
    spent = time.perf_counter() - began
    fitted = fitting(asked, pace, limit, spent=spent, on_all=content["on_all"] is not None, slots=slots)
    shortened = None
    if fitted.epochs < asked.epochs:
        shortened = {"from": asked.epochs, "to": fitted.epochs}
        said = f"{limit:,.0f} s leave no time to compare longer trainings"
        options.reporter.note(f"{fitted.epochs} epochs, not {asked.epochs}: {said}")
    return {
        "recipe": fitted.model_dump(mode="json"),
        "shortened": shortened,
        "pace": to_json(pace),
        "machine": here,
        "options": {
            "threads": here["torch_threads"],
            "slots": slots,
            "device": str(prepared.device),
            "offline": options.offline,
            "mirrors": None if options.mirrors is None else list(options.mirrors),
        },
        "spent_seconds": time.perf_counter() - began,
    }


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

    study: its name or a unique beginning of one, its folder, or `last`. data, model: what only Python code could give, again.
    Threads, device and offline are those that it began with unless `options` has others; other threads, or another device,
    give other bits. Raises RunError for no such study, DataError where its data changed.
    """
    options = options_from(options, more)
    if isinstance(study, Study):
        folder: StudyFolder | None = study._folder
    else:
        folder = last_study(options.runs) if study == "last" else find_study(options.runs, study)
    if folder is None:
        raise RunError(
            "there is no such study.", where=str(study), cure=f"Studies lie in {folder_of_studies(options.runs)}."
        )
    if folder.result() is not None:
        return Study(folder, options.runs)
    with folder:
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
        return _carry_out(folder, data, options=options, model=model, told=told)


def _carry_out(
    folder: StudyFolder,
    data: Dataset,
    *,
    options: RunOptions,
    model: nn.Module | None,
    told: Callable[[Entry], None],
) -> Study:
    options = _as_begun(folder, options)
    with folder:
        coach = coach_of(folder, data)
        folder.set_status("running")
        try:
            with _hands(folder, data, options, model) as hands:
                conductor = Conductor(
                    study=folder,
                    strategy=coach,
                    hands=hands,
                    runs=options.runs,
                    stop_asked=options.stop_asked,
                    told=told,
                )
                ended = conductor.carry_out()
            if ended:
                if coach.incumbent is not None:
                    folder.write_json("best-recipe.json", coach.incumbent.recipe.model_dump(mode="json"))
                    folder.write_text("best-recipe.yaml", coach.incumbent.recipe.to_yaml())
                folder.write_json(RESULT, result_of(folder, coach))  # last: with it the study has ended
                folder.set_status("finished")
            else:
                folder.set_status("interrupted", message="stopped when asked to; everything so far is saved")
        except BaseException as error:
            _say_how_to_go_on(folder, error)
            raise
        if ended:
            _fill_mirrors(folder, options)
    return Study(folder, options.runs)


def _hands(folder: StudyFolder, data: Dataset, options: RunOptions, model: nn.Module | None) -> Hands:
    """Those that the study began with, unless `options` has another number: what is asked for stays the same."""
    slots = options.slots or folder.asked["options"].get("slots", 1)
    if slots == 1 or model is not None or folder.asked["data"] is None:
        return InTurn(data=data, options=options, model=model)
    threads = options.threads or 1
    return AtOnce(slots=slots, data=data, options=options, threads=threads, log=folder.path / "workers.log")


def _as_begun(folder: StudyFolder, options: RunOptions) -> RunOptions:
    """The options, with what the study began with where they leave it open: it decides the bits of every run."""
    begun = folder.asked["options"]
    return replace(
        options,
        threads=begun["threads"] if options.threads is None else options.threads,
        device=begun["device"] if options.device == "auto" else options.device,
        offline=begun["offline"] or options.offline,
        mirrors=begun["mirrors"] if options.mirrors is None else options.mirrors,
    )


def _say_how_to_go_on(folder: StudyFolder, error: BaseException) -> None:
    """In the error and in the folder. A full disk takes no word more; the error itself is what has to be seen."""
    stopped = isinstance(error, KeyboardInterrupt | SystemExit)
    cure = f"Go on with 'trainwright resume {folder.name}'."
    with contextlib.suppress(OSError, TrainwrightError):
        state = "interrupted" if stopped else "failed"
        folder.set_status(state, message=state if stopped else f"{type(error).__name__}: {error}")
    if isinstance(error, TrainwrightError):
        error.cure = f"{error.cure} {cure}".strip()
        return
    if stopped:
        error.__notes__ = []  # the run's own way to go on: the study is what goes on
    error.add_note(cure if stopped else f"Study {folder.name} keeps what it has. {cure}")


def _fill_mirrors(folder: StudyFolder, options: RunOptions) -> None:
    """Copy the runs to the mirrors, now that no clock runs; what there is no time for, or no store, is named."""
    names = installed_mirrors() if options.mirrors is None else options.mirrors
    runs = [str(trial["run"]) for trial in trials_of(folder)] if names else []
    runs = [run for run in runs if (options.runs / run / MANIFEST).is_file()]  # some failed before they had a folder
    until = time.monotonic() + MIRRORS_SHARE * folder.asked["budget_seconds"]
    left: dict[str, str] = {}
    for done, run in enumerate(runs):
        options.reporter.progress("filling the mirrors", done, len(runs))
        try:
            if options.stop_asked():
                raise KeyboardInterrupt
            if time.monotonic() > until:
                raise RunError("no time was left")
            sync(options.runs / run, names)
        except KeyboardInterrupt:  # of this alone: the study has ended
            left |= dict.fromkeys(runs[done:], "stopped when asked to")
            break
        except Exception as error:  # a mirror may raise anything, and the next run may go well
            left[run] = error.message if isinstance(error, TrainwrightError) else str(error)
    if runs:
        options.reporter.progress("filling the mirrors", len(runs), len(runs))
    if left:
        why = "; ".join(dict.fromkeys(left.values()))
        missing = f"{len(left)} of {len(runs)} runs are not in {' and '.join(names)} yet ({why})"
        options.reporter.note(f"{missing}. 'trainwright sync RUN' brings each of them: {', '.join(left)}")


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
