"""Every time that the test part was opened for a run or a study: what came of it, and what is in the ledger alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright.errors import RunError
from trainwright.report.values import Opening
from trainwright.tracking import journal
from trainwright.tracking.run_folder import OPENINGS, RunFolder

MOST = 1000  # results of one run that are looked for


def openings_of(folder: RunFolder) -> tuple[Opening, ...]:
    """Every time that the test part was opened for this run, the first one first."""
    times = [record.get("time") for record in _ledger(folder.path.parent) if record["run"] == folder.run_id]
    return _in_order(_matched(folder.run_id, _results(folder), times))


def openings_of_study(study: str, trials: Collection[str], runs: Path) -> tuple[Opening, ...]:
    """Every time that it was opened for a study or one of its runs, the first one first.

    trials: their ids, whose folders may have been moved or taken away since.
    """
    times: dict[str, list[float | None]] = {run: [] for run in trials}
    for record in _ledger(runs):
        if record["run"] in times or record.get("study") == study:
            times.setdefault(record["run"], []).append(record.get("time"))
    found: list[Opening] = []
    for run, opened in times.items():
        try:
            results = _results(RunFolder.open(runs / run))
        except RunError:
            results = []
        found += _matched(run, results, opened)
    return _in_order(found)


def _ledger(runs: Path) -> list[dict[str, Any]]:
    """Who opened a test part and when, in order; without the images, which are most of it."""
    file = runs / OPENINGS
    if not file.is_file():
        return []
    return [{**record, "images": None} for record in journal.read_records(file, "opening")]


def _results(folder: RunFolder) -> list[Mapping[str, Any]]:
    found = []
    for number in range(1, MOST):
        result = folder.read_json("test.json" if number == 1 else f"test-{number}.json")
        if result is None:
            break
        found.append(result)
    return found


def _matched(run: str, results: Sequence[Mapping[str, Any]], times: Sequence[float | None]) -> list[Opening]:
    """Results with their times, and the times at which an opening was written down that came to nothing.

    A result says itself when its images were opened. Those that do not, of older versions, take the last of the times that
    are left: what came to nothing was mostly tried again.
    """
    said = {result["time"] for result in results if result.get("time") is not None}
    left = [when for when in times if when not in said]
    silent = [result for result in results if result.get("time") is None]
    known = left[len(left) - len(silent) :] if len(left) >= len(silent) else [None] * len(silent)
    nothing = left[: len(left) - len(silent)] if len(left) >= len(silent) else []
    told = [
        Opening(run=run, result=result, time=result["time"]) for result in results if result.get("time") is not None
    ]
    told += [Opening(run=run, result=result, time=when) for result, when in zip(silent, known, strict=True)]
    return [*told, *(Opening(run=run, result=None, time=when) for when in nothing)]


def _in_order(found: Sequence[Opening]) -> tuple[Opening, ...]:
    return tuple(sorted(found, key=lambda one: math.inf if one.time is None else one.time))
