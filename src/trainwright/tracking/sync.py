"""Bring mirrors up to date with a run folder, once: `trainwright sync`, and what a sweep leaves to be closed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from trainwright.errors import RunError, TrainwrightError
from trainwright.tracking.lock import FileLock
from trainwright.tracking.mirrors import mirrors as registry
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.store import store_of

MIRRORS = ("mlflow", "tensorboard")
MIRRORS_LOCK = "mirrors.lock"
WAIT_SECONDS = 5.0  # for a follower that is just finishing
log = logging.getLogger(__name__)


def sync(run_path: Path, mirrors: Iterable[str] = MIRRORS) -> dict[str, int]:
    """Add to each mirror what it lacks, and close the run there if it has ended; returns the rows added, by mirror.

    Raises TrainwrightError with cause and cure where a store cannot be reached (the other mirrors are done first),
    RunError where the run's follower is at work, UnknownNameError for an unknown mirror.
    """
    run = RunFolder.open(Path(run_path))
    chosen = {name: registry.get(name) for name in mirrors}
    added: dict[str, int] = {}
    errors: list[TrainwrightError] = []
    with FileLock(run.path / MIRRORS_LOCK) as lock:
        if not lock.acquire(wait_seconds=WAIT_SECONDS):
            raise RunError(
                f"process {lock.holder} is bringing this run's mirrors up to date.",
                where=str(run.path),
                cure="It catches up by itself; sync again when the run has ended.",
            )
        for name, make in chosen.items():
            mirror = make()
            try:
                added[name] = mirror.update(run.path)
                state = run.status()["state"]
                if state != "running":
                    mirror.close(run.path, state)
            except TrainwrightError as error:
                errors.append(error)
    if errors:
        raise errors[0]
    return added


def close_interrupted(runs: Path, ids: Iterable[str]) -> list[str]:
    """Close interrupted runs in MLflow if their store exists; returns the ids of those that could not be closed.

    For use after `sweep`, so it raises nothing: a store that cannot be reached must not stop a command. `sync` closes
    them later. No store and no MLflow run is made for it.
    """
    ids = list(ids)
    if not ids or not store_of(runs).exists():
        return []
    mirror = registry.get("mlflow")()
    left = []
    for run_id in ids:
        try:
            mirror.close(runs / run_id, "interrupted")
        except TrainwrightError as error:
            log.info("%s: not closed in MLflow (%s)", run_id, error)
            left.append(run_id)
    return left
