"""What came of a run of a study: as the journal keeps it, and as the strategy is told of it.

The strategy is told what the journal has, at first and at every replay: `diagnose` may judge a run's result again in between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trainwright.errors import NonFiniteLossError, OutOfResourcesError, RunError, UsageError, WeightsError
from trainwright.records import Finding, Outcome, Proposal, to_json
from trainwright.tracking.run_folder import MANIFEST, RunFolder
from trainwright.workflows.run import diverged, recipe_of

# Of `trainwright.run/1`: all that a strategy may look at. What it does not find here it would not find at a replay.
KEPT = ("metric", "score", "gap", "verdict", "findings", "epochs", "kept_epoch", "seconds", "recipe")
OPTIONAL = ("arm", "probe", "confirmation", "final", "trial")  # roles that a study can do without
NO_GAP = dict.fromkeys(("value", "low", "high"))


def finished(proposal: Proposal, folder: RunFolder, *, seconds: float) -> dict[str, Any]:
    """The `tell` record of a run that has a result. seconds: its wall-clock since it was last gone on with, probes included.

    Raises RunError where the result is gone.
    """
    result = folder.result()
    if result is None:
        raise RunError("has no result any more.", where=str(folder.path), cure="Restore the run, or start a new study.")
    kept = {key: result[key] for key in KEPT} | {"val_scores": _val_scores(folder), "message": ""}
    trained = _trained_seconds(folder, proposal) if proposal.epochs_before else float(result["seconds"])
    probed = probed_seconds(folder)
    kept |= {"probed_seconds": probed, "step_seconds": _trained_seconds(folder, proposal)}
    return _record(proposal, folder.path.name, "finished", result["score"]["val"], max(seconds, trained + probed), kept)


def probed_seconds(folder: RunFolder) -> float:
    """Wall-clock of all probes of a run that have ended."""
    return sum(float(record["seconds"]) for record in folder.records("probe"))


def paused(proposal: Proposal, folder: RunFolder, *, seconds: float) -> dict[str, Any]:
    """The `tell` record of a run that has come to where its proposal ends, and can be gone on with. seconds: its wall-clock.

    Its score is that of the model it would hand over now: of the best epoch so far, or of the last one.
    """
    record = ended(proposal, folder.path, state="paused", seconds=seconds, message="")
    known = [score for score in record["result"]["val_scores"] if score is not None]
    score = (max(known) if proposal.recipe.keep == "best" else known[-1]) if known else None
    record["result"]["score"]["val"] = score
    return {**record, "score": score}


def ended(
    proposal: Proposal, path: Path, *, state: str, seconds: float, message: str, error: BaseException | None = None
) -> dict[str, Any]:
    """The `tell` record of a run that was stopped or failed: what is known of it, all of it where its folder was begun.

    path: where its folder is, or would be. seconds: since it was last gone on with. error: that it failed with.
    """
    folder = RunFolder.open(path) if (path / MANIFEST).is_file() else None
    epochs = [] if folder is None else list(folder.records("epoch"))
    findings = {} if folder is None else {record["rule"]: _finding(record) for record in folder.records("finding")}
    if isinstance(error, NonFiniteLossError):
        findings.setdefault("diverged", to_json(diverged(error)))
    broke_down = findings.get("diverged", {}).get("verdict") == "yes"
    trained = _trained_seconds(folder, proposal)
    kept = {
        "metric": None if folder is None else folder.manifest["metric"],
        "score": {"train": epochs[-1]["train"]["score"] if epochs else None, "val": None},
        "gap": NO_GAP,
        "verdict": "diverged" if broke_down else "cannot-tell",
        "findings": list(findings.values()),
        "epochs": len(epochs),
        "kept_epoch": None,
        "seconds": trained,
        "recipe": (proposal.recipe if folder is None else recipe_of(folder)).model_dump(mode="json"),
        "val_scores": [] if folder is None else _val_scores(folder),
        "message": message,
    }
    return _record(proposal, path.name, state, None, max(seconds, trained), kept)


def outcome_of(record: Mapping[str, Any], proposal: Proposal, path: Path) -> Outcome:
    """What a strategy is told, of a `tell` record; only the answers are read from the run's folder, at `path`.

    Raises RunError where a finished run has no answers any more.
    """
    answers, groups = None, None
    # A search goes by scores alone, and has trials by the thousand.
    if record["state"] == "finished" and not proposal.on_all and proposal.role != "trial":
        answers, groups = answers_of(RunFolder.open(path))
    result = record["result"]
    return Outcome(
        number=record["number"],
        run=record["run"],
        state=record["state"],
        score=_number(record["score"]),
        seconds=record["seconds"],
        elapsed=record.get("elapsed"),
        result={**result, "val_scores": [_number(score) for score in result["val_scores"]]},
        answers=answers,
        groups=groups,
    )


def is_outcome(error: BaseException, proposal: Proposal) -> bool:
    """Whether a failure is an answer about the recipe that was asked for, and not about the machine at that moment.

    A loss that is not finite always is. A recipe that cannot be trained here (refused, without its weights, too large for the
    device) is where a remedy made it; for a first baseline, or a control, whose recipe was trained before, it is an error. All
    else, as a lock, a file that cannot be read or a full disk, may be gone at the next start, and so raises.
    """
    if isinstance(error, NonFiniteLossError):
        return True
    if proposal.number == 0 or proposal.role == "control":
        return False
    return isinstance(error, UsageError | WeightsError) or _out_of_memory(error)


def answers_of(folder: RunFolder) -> tuple[np.ndarray, np.ndarray | None]:
    """(tallies [N, Q], groups [N] or None where all images are on their own) of the val images, in the order of their rows.

    Where the epoch that was kept is the best one on these images, the tallies are cross-fitted: no gain is to hold that choice.
    """
    try:
        with np.load(folder.answers / "val.npz", allow_pickle=False) as saved:
            order = np.argsort(saved["rows"], kind="stable")
            tally = saved["cross_fitted" if "cross_fitted" in saved.files else "tally"][order].astype(np.float64)
            groups = saved["groups"][order]
    except FileNotFoundError:
        raise RunError(
            "has no answers any more.", where=str(folder.path), cure="Restore the run, or start a new study."
        ) from None
    return tally, None if len(np.unique(groups)) == len(groups) else groups


def _record(
    proposal: Proposal, run: str, state: str, score: float | None, seconds: float, result: Mapping[str, Any]
) -> dict[str, Any]:
    record: dict[str, Any] = to_json(
        {
            "number": proposal.number,
            "run": run,
            "state": state,
            "score": score,
            "seconds": seconds,
            "result": result,
        }
    )
    return record


def _trained_seconds(folder: RunFolder | None, proposal: Proposal) -> float:
    """Of the epochs that this proposal asked for, over all starts."""
    epochs = () if folder is None else folder.records("epoch")
    return float(sum(epoch["seconds"] for epoch in epochs if epoch["epoch"] >= proposal.epochs_before))


def _val_scores(folder: RunFolder) -> list[float | None]:
    return [epoch["val"]["score"] for epoch in folder.records("epoch")]


def _finding(record: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.name for field in fields(Finding)}
    return {key: value for key, value in record.items() if key in known}


def _number(value: float | None) -> float:
    """A journaled number; what is not finite is kept as null."""
    return math.nan if value is None else value


def _out_of_memory(error: BaseException) -> bool:
    """Of the device, or of the machine that is one; a full disk is the same error, raised from the system's."""
    if isinstance(error, OutOfResourcesError):
        return not isinstance(error.__cause__, OSError)
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
