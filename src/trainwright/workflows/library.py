"""What Python code does with runs that exist."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trainwright.tracking import runs as tracked
from trainwright.tracking import sync as mirroring
from trainwright.tracking.runs import RunSummary, find_run
from trainwright.workflows.options import installed_mirrors
from trainwright.workflows.run import Run


def list_runs(runs: str | os.PathLike[str] = "runs") -> list[RunSummary]:
    """All runs in a folder of runs, the oldest first; those whose process has died are marked as interrupted."""
    folder = Path(runs)
    mirroring.close_interrupted(folder, tracked.sweep(folder))
    return tracked.list_runs(folder)


def open_run(run: str | os.PathLike[str], runs: str | os.PathLike[str] = "runs") -> Run:
    """The run of that id, unique beginning of an id, or path; `last` for the newest that no `reproduce` made. By the name of a
    study that has ended, or where the newest run is one of its, the run whose model it handed over.

    Raises RunError with the nearest.
    """
    return Run(find_run(Path(runs), os.fspath(run)))


def sync(run: Run, mirrors: Sequence[str] | None = None) -> dict[str, int]:
    """Bring MLflow and TensorBoard up to date with a run; returns the rows added by mirror."""
    return mirroring.sync(run.folder, installed_mirrors() if mirrors is None else tuple(mirrors))
