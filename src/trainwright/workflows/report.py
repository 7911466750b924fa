"""`trainwright report`: what a folder of a run or a study knows, put into one page that needs nothing but a browser."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.errors import UsageError
from trainwright.files import write_atomically
from trainwright.report.run_page import run_page
from trainwright.report.study_page import study_page
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import find_run, folder_of_studies
from trainwright.tracking.study_folder import LAST, StudyFolder, find_study, study_of_newest_run
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.report_of_run import run_values
from trainwright.workflows.report_of_study import study_values
from trainwright.workflows.reporting import Reporter
from trainwright.workflows.run import Run

if TYPE_CHECKING:
    from trainwright.data.dataset import Dataset
    from trainwright.workflows.studies import Study

log = logging.getLogger(__name__)
REPORT = "report.html"  # in a run's or study's folder


def write_report(
    run: str | os.PathLike[str] | Run | Study,
    *,
    out: str | os.PathLike[str] | None = None,
    data: Dataset | None = None,
    explain: bool = False,
    options: RunOptions | None = None,
    **more: Any,
) -> Path:
    """Write the page of a run or a study, and return where it is: `report.html` in its folder, or `out`.

    run: id, unique beginning of one, folder, or `last`; of a study its name; `last` is the study that the newest run belongs to,
    where there is one. data: for the pictures, where only Python code can give it; files are read from where they were.
    explain: show what speaks for the answers to a run's hardest images, too, which takes the model and some seconds (extra
    `[explain]`); pages that are written later have it still. Raises RunError for no such run, UsageError for a study's images.
    """
    options = options_from(options, more)
    found = _found(run, options.runs)
    file = Path(out).absolute() if out is not None else found.path / REPORT
    if isinstance(found, StudyFolder):
        if explain:
            best = ((found.result() or {}).get("best") or {}).get("run", "RUN")
            cure = f"Name the run: 'trainwright report {best} --explain'."
            raise UsageError("a study's page shows no images that could be explained.", where=found.name, cure=cure)
        return write_study_report(found, runs=_runs_of(run, found, options.runs), file=file)
    return write_run_report(found, data=data, file=file, explain=options if explain else None)


def write_run_report(
    folder: RunFolder, *, data: Dataset | None = None, file: Path | None = None, explain: RunOptions | None = None
) -> Path:
    """The page of a run. data: what it was trained on, where it is at hand. explain: how to explain its hardest images anew."""
    file = file or folder.path / REPORT
    write_atomically(file, run_page(run_values(folder, data=data, beside=file.parent, explain=explain)).encode())
    return file


def write_study_report(folder: StudyFolder, *, runs: Path, file: Path | None = None) -> Path:
    """The page of a study. runs: the folder of its runs."""
    file = file or folder.path / REPORT
    write_atomically(file, study_page(study_values(folder, runs=runs, beside=file.parent)).encode())
    return file


def refresh(folder: RunFolder, *, reporter: Reporter, study: str | None = None, data: Dataset | None = None) -> None:
    """Write the pages anew that tell of a run: its own, and that of the study it is handed over by. What has not been written
    yet is left to who asks for it.

    data: what the run was trained on, where it is at hand. What the pages tell of is kept already: whatever keeps one from
    being written takes nothing from it, and is noted.
    """
    if (folder.path / REPORT).is_file():
        _try_again(folder.run_id, lambda: write_run_report(folder, data=data), reporter)
    path = folder_of_studies(folder.path.parent) / (study or "")
    if study and (path / REPORT).is_file():
        _try_again(study, lambda: write_study_report(StudyFolder.open(path), runs=folder.path.parent), reporter)


def _try_again(name: str, write: Callable[[], Path], reporter: Reporter) -> None:
    try:
        write()
    except Exception as error:
        log.warning("%s: its page was not written anew", name, exc_info=True)
        reporter.note(f"the report is as it was ({error}); 'trainwright report {name}' tries again")


def _found(run: str | os.PathLike[str] | Run | Study, runs: Path) -> RunFolder | StudyFolder:
    if isinstance(run, Run):
        return RunFolder.open(run.folder)
    if not isinstance(run, str | os.PathLike):
        return StudyFolder.open(run.folder)
    name = os.fspath(run)
    study = study_of_newest_run(runs) if name == LAST else find_study(runs, name)
    return find_run(runs, name) if study is None else study


def _runs_of(run: Any, study: StudyFolder, runs: Path) -> Path:
    """The folder of a study's runs: that of the options, or what lies beside the studies where these are elsewhere."""
    if folder_of_studies(runs) == study.path.parent:
        return runs
    beside = study.path.parent.parent / "runs"
    return beside if beside.is_dir() else runs
