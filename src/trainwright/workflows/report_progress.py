"""How far a run came that has no result: what its page says of one that failed, was stopped, or is still under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.recipe import Recipe
from trainwright.report.values import Progress
from trainwright.tracking.process import is_gone
from trainwright.tracking.run_folder import RunFolder

DIED = "its process ended without a word"


def state_of(folder: RunFolder) -> Mapping[str, Any]:
    """Its status; interrupted where it says running and nobody runs it any more. Nothing is written."""
    status = folder.status()
    if status["state"] == "running" and is_gone(status):
        return {**status, "state": "interrupted", "message": DIED}
    return status


def progress_of(folder: RunFolder, recipe: Recipe, steps: Sequence[Mapping[str, Any]]) -> Progress:
    """How far it came. steps: its records of steps."""
    last = steps[-1] if steps else None
    status = folder.status()
    times = [float(record["time"]) for record in (*steps[-1:], *list(folder.records("epoch"))[-1:]) if "time" in record]
    if status["state"] != "running" and status.get("time"):
        times.append(
            float(status["time"])
        )  # of one that died it is the time at which somebody noticed, if not its start
    return Progress(
        steps=0 if last is None else int(last["first_step"]) + len(last["loss"]),
        epochs=recipe.epochs,
        saved=_saved(folder),
        ended=max(times, default=None),
        findings=tuple(folder.records("finding")),
    )


def _saved(folder: RunFolder) -> int | None:
    """The step of the newest checkpoint that a resume would begin from."""
    names = sorted(file.stem for file in (folder.path / "checkpoints").glob("step-*.json"))
    return int(names[-1].removeprefix("step-")) if names else None
