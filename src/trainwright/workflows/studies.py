"""What every kind of study shares: how it begins, is carried out, stops, goes on and ends."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError, RunError, TrainwrightError, UsageError
from trainwright.plugins import Strategy
from trainwright.recipe import Recipe
from trainwright.search.ledger import Pace
from trainwright.search.rounds import Entry
from trainwright.tracking.run_folder import MANIFEST
from trainwright.tracking.study_folder import RESULT, StudyFolder, folder_of_studies
from trainwright.tracking.sync import sync
from trainwright.training.device import choose_device
from trainwright.workflows.executors import as_begun, asked_executor, check_elsewhere, given_by_code, on_a_cluster
from trainwright.workflows.hands import MOST_AT_ONCE, AtOnce, Hands, InTurn, Threads, made_here, slots_for
from trainwright.workflows.manifest import command_line, machine, packages, sources_sha256
from trainwright.workflows.options import RunOptions, installed_mirrors
from trainwright.workflows.pace import pace_of
from trainwright.workflows.prepare import Prepared, prepare
from trainwright.workflows.request import asked_for
from trainwright.workflows.run import Run
from trainwright.workflows.study import Conductor, trials_of
from trainwright.workflows.training import repeatable

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
MIRRORS_SHARE = 0.05  # of the time of a study: what filling the mirrors may take afterwards
Tell = Callable[[Entry], None]


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

    def report(self, out: str | os.PathLike[str] | None = None) -> Path:
        """Write its page, and return where it is: `report.html` in its folder, or `out`."""
        from trainwright.workflows.report import write_report

        return write_report(self, out=out)

    def __repr__(self) -> str:
        if not self.finished:
            return f"Study({self.name!r}, {self._folder.status()['state']})"
        return f"Study({self.name!r}, {self.result['summary']!r})"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a study of one kind does in its own way.

    name: in `study.json`. strategy_of: its strategy, from what the study was asked. end: writes what it hands over beside the
    result, which it returns: `trainwright.study/1`. ends_in_time: whether it ends with what it has once its time is over.
    """

    name: str
    strategy_of: Callable[[StudyFolder, Dataset], Strategy]
    end: Callable[[StudyFolder, Any, Path], dict[str, Any]]
    ends_in_time: bool = False


# How it begins


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
    return {"on_all": (train + val) / train if final else None, "test_images": test}


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


# How it is carried out


def carry_out(
    kind: Kind,
    folder: StudyFolder,
    data: Dataset,
    *,
    options: RunOptions,
    model: nn.Module | None,
    told: Tell,
) -> Study:
    """Begin a study, or go on with it, until it ends or somebody asks to stop."""
    options = _as_begun(folder, options)
    with folder:
        strategy = kind.strategy_of(folder, data)
        folder.set_status("running")
        timer = Timer(options.stop_asked, seconds=_seconds_left(folder) if kind.ends_in_time else None)
        timed = replace(options, stop_asked=timer.stop_asked)
        try:
            with _hands(folder, data, timed, model) as hands:
                conductor = Conductor(
                    study=folder,
                    strategy=strategy,
                    hands=hands,
                    runs=options.runs,
                    stop_asked=timer.stop_asked,
                    told=told,
                )
                ended = conductor.carry_out() or timer.ran_out
            if ended:
                folder.write_json(RESULT, kind.end(folder, strategy, options.runs))  # last: with it the study has ended
                folder.set_status("finished")
                if options.report:
                    _report(folder, options)
            else:
                folder.set_status("interrupted", message="stopped when asked to; everything so far is saved")
        except BaseException as error:
            _say_how_to_go_on(folder, error)
            raise
        if ended:
            _fill_mirrors(folder, options)
    return Study(folder, options.runs)


def go_on(
    kind: Kind,
    folder: StudyFolder,
    *,
    data: Dataset | None,
    model: nn.Module | None,
    told: Tell,
    options: RunOptions,
) -> Study:
    """Go on with a study that has not ended. Raises DataError where its data changed, UsageError where only Python code can
    give what it needs."""
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
        return carry_out(kind, folder, data, options=options, model=model, told=told)


class Timer:
    """Whether trainings are to stop: because somebody asks for it, or the study's time is over.

    ran_out: that it was the time, and nobody asked. seconds: that are left; None for no end.
    """

    def __init__(self, asked: Callable[[], bool], *, seconds: float | None) -> None:
        self._asked = asked
        self._until = None if seconds is None else time.monotonic() + seconds
        self.ran_out = False

    def stop_asked(self) -> bool:
        if self._asked():
            self.ran_out = False
            return True
        self.ran_out = self._until is not None and time.monotonic() > self._until
        return self.ran_out


def _seconds_left(folder: StudyFolder) -> float | None:
    """Of its budget, by its journal; None where it has no budget of time."""
    limit = folder.asked["budget_seconds"]
    if limit is None:
        return None
    told = sum(record.get("elapsed", record["seconds"]) for record in folder.records("tell"))
    return float(limit - folder.asked["spent_seconds"] - told)


def _report(folder: StudyFolder, options: RunOptions) -> None:
    """Write the study's page. The study has ended: whatever keeps a page from being written takes nothing from it."""
    from trainwright.workflows.report import write_study_report

    try:
        write_study_report(folder, runs=options.runs)
    except Exception as error:
        log.warning("%s: no page was written", folder.name, exc_info=True)
        again = f"'trainwright report {folder.name}' tries again"
        options.reporter.note(f"no report was written ({error}); {again}")


def _hands(folder: StudyFolder, data: Dataset, options: RunOptions, model: nn.Module | None) -> Hands:
    """Those that the study began with, unless `options` has another number: what is asked for stays the same, and so does a
    run's share of the threads."""
    planned = folder.asked["options"].get("slots", 1)
    slots = options.slots or planned
    if slots < planned:
        fewer = f"planned for {planned} trainings at a time, carried out {slots} at a time"
        options.reporter.note(f"{fewer}: it will take longer")
    threads = Threads(whole=options.threads or 1, share=max(1, (options.threads or 1) // planned))
    check_elsewhere(options, alone=given_by_code(folder.asked))
    if not on_a_cluster(options) and (slots == 1 or planned == 1):
        return InTurn(data=data, options=options, threads=threads, model=model)
    return AtOnce(slots=slots, data=data, options=options, threads=threads, log=folder.path / "workers.log")


def _as_begun(folder: StudyFolder, options: RunOptions) -> RunOptions:
    """The options, with what the study began with where they leave it open: it decides the bits of every run."""
    begun = folder.asked["options"]
    return replace(
        as_begun(options, begun),
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
    runs = list(dict.fromkeys(str(trial["run"]) for trial in trials_of(folder))) if names else []
    runs = [run for run in runs if (options.runs / run / MANIFEST).is_file()]  # some failed before they had a folder
    limit = folder.asked["budget_seconds"] or (folder.result() or {}).get("seconds") or 0.0
    until = time.monotonic() + MIRRORS_SHARE * limit
    left: dict[str, str] = {}
    for done, run in enumerate(runs):
        options.reporter.progress("copying the runs to MLflow and TensorBoard", done, len(runs))
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
        options.reporter.progress("copying the runs to MLflow and TensorBoard", len(runs), len(runs))
    if left:
        why = "; ".join(dict.fromkeys(left.values()))
        missing = f"{len(left)} of {len(runs)} runs are not in {' and '.join(names)} yet ({why})"
        options.reporter.note(f"{missing}. 'trainwright sync RUN' brings each of them: {', '.join(left)}")


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
