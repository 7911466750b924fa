"""The data of a run that exists, opened again and refused where it has changed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError, UsageError
from trainwright.tracking.run_folder import RunFolder
from trainwright.workflows.options import RunOptions


def data_of(folder: RunFolder, given: Dataset | None, options: RunOptions) -> Dataset:
    """The data that a run was trained on: what is given, or opened again. Raises DataError where it has changed since,
    UsageError where only Python code can give it."""
    source = folder.manifest["dataset"]["source"]
    data = given or open_again(source, options, what="run", where=folder.run_id)
    _refuse_other_data(data, folder)
    return data


def open_again(source: Mapping[str, Any] | None, options: RunOptions, *, what: str, where: str) -> Dataset:
    """The data that a run or a study keeps the source of. what, where: of which, for the error. Raises UsageError without one."""
    if source is None:
        raise UsageError(f"this {what}'s data was given by Python code.", where=where, cure="Give it again: data=….")
    return open_dataset(
        Path(source["path"]),
        target=source["target"],
        task=source["task"],
        workers=options.workers,
        progress=options.reporter.progress,
    )


def _refuse_other_data(data: Dataset, folder: RunFolder) -> None:
    expected = folder.manifest["dataset"]["fingerprint"]
    if data.digest != expected:
        raise DataError(
            f"the data has changed since the run began (fingerprint {data.digest[:12]}, then {expected[:12]}).",
            where=str(data.table.root),
            cure="Bring the files back as they were, or start a new run with 'trainwright train'.",
        )
