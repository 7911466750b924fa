"""What every kind of study shares: how it is carried out, stops, goes on and ends."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset
from trainwright.errors import DataError, RunError, TrainwrightError, UsageError
from trainwright.plugins import Strategy
from trainwright.search.rounds import Entry
from trainwright.tracking.run_folder import MANIFEST
from trainwright.tracking.study_folder import RESULT, StudyFolder
from trainwright.tracking.sync import sync
from trainwright.workflows.crew import refuse_study
from trainwright.workflows.executors import as_begun, check_elsewhere, given_by_code, on_a_cluster
from trainwright.workflows.hands import AtOnce, Hands, InTurn, Threads
from trainwright.workflows.options import RunOptions, installed_mirrors
from trainwright.workflows.run import Run
from trainwright.workflows.run_data import open_again
from trainwright.workflows.study import Conductor, trials_of

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
    refuse_study(options)
    with folder:
        folder.claim()
        data = data or open_again(folder.asked["data"], options, what="study", where=folder.name)
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
