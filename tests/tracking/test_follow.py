"""The follower: live mirrors that cannot harm the training, whatever happens to them, and that outlive it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from trainwright.errors import RunError, TrainwrightError, UnknownNameError
from trainwright.tracking import follow
from trainwright.tracking.follow import Follower
from trainwright.tracking.lock import FileLock
from trainwright.tracking.mlflow import MlflowMirror
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import sweep
from trainwright.tracking.store import store_of
from trainwright.tracking.sync import close_interrupted, sync

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside mlflow's own imports
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")
PATIENCE = 90.0  # seconds; a busy machine takes ten for importing mlflow
TRAINING = """
import os, signal, sys, time
from pathlib import Path
from trainwright.tracking.follow import Follower
from trainwright.tracking.run_folder import RunFolder
run = RunFolder.create(Path(sys.argv[1]), recipe_yaml="network: {name: x}", manifest={"name": "cats-dogs"}, run_id="dead")
run.append("epoch", {"epoch": 0, "val": {"score": 0.5}})
follower = Follower.start(run.path, mirrors=sys.argv[2:])
print(follower.pid, flush=True)
time.sleep(600)
"""


def copies(runs: Path):
    client = MlflowClient(tracking_uri=store_of(runs).uri)
    experiment = client.get_experiment_by_name("cats-dogs")
    return client, client.search_runs([experiment.experiment_id]) if experiment else []


def epochs_in_mlflow(runs: Path) -> list[list[int]]:
    client, found = copies(runs)
    return [[metric.step for metric in client.get_metric_history(copy.info.run_id, "lr")] for copy in found]


def wait_until(condition, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def killed_training(runs: Path, *mirrors: str) -> None:
    """A training that is killed after its follower has started, once the follower has ended too."""
    training = subprocess.Popen([sys.executable, "-c", TRAINING, str(runs), *mirrors], stdout=subprocess.PIPE)
    assert training.stdout is not None
    follower = int(training.stdout.readline())
    wait_until(lambda: not FileLock(runs / "dead" / "mirrors.lock").acquire())  # it is at work
    training.send_signal(signal.SIGKILL)
    training.wait()
    training.stdout.close()
    wait_until(lambda: not Path(f"/proc/{follower}").exists() or "Z" in Path(f"/proc/{follower}/stat").read_text())


def test_a_followed_run_is_in_both_mirrors_at_its_end(runs, new_run, next_epoch, ending):
    run = new_run(runs, 1)
    follower = Follower.start(run.path)
    next_epoch(run, 1)
    ending(run)
    assert follower.stop(timeout_seconds=PATIENCE) == []
    assert epochs_in_mlflow(runs) == [[0, 1]]
    assert copies(runs)[1][0].info.status == "FINISHED"
    assert sync(run.path) == {"mlflow": 0, "tensorboard": 0}
    assert not (run.path / "mirrors.log").exists()


def test_a_follower_keeps_up_while_the_run_is_live(bare_runs, new_run, next_epoch):
    run = new_run(bare_runs, 1)
    follower = Follower.start(run.path, mirrors=["tensorboard"])
    try:
        wait_until(lambda: any((run.path / "tensorboard").glob("events*")))
        before = sum(path.stat().st_size for path in run.tensorboard.iterdir())
        next_epoch(run, 1)
        wait_until(lambda: sum(path.stat().st_size for path in run.tensorboard.iterdir()) > before)
    finally:
        assert follower.stop(timeout_seconds=PATIENCE) == []


def test_a_locked_store_delays_nothing_and_sync_fills_it_up(runs, new_run, next_epoch, ending):
    run = new_run(runs)
    other = sqlite3.connect(runs / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    follower = Follower.start(run.path)
    start = time.monotonic()
    for epoch in range(3):
        next_epoch(run, epoch)
    ending(run)
    assert time.monotonic() - start < 2
    assert follower.stop(timeout_seconds=PATIENCE) == ["mlflow"]
    assert "mlflow: " in (run.path / "mirrors.log").read_text()
    assert "database is locked" in (run.path / "mirrors.log").read_text()
    with pytest.raises(TrainwrightError, match="database is locked"):
        sync(run.path)
    other.close()
    assert sync(run.path)["mlflow"] > 0
    assert epochs_in_mlflow(runs) == [[0, 1, 2]]


def test_a_store_that_cannot_be_written_costs_only_its_mirror(bare_runs, new_run, next_epoch, ending, store_template):
    (bare_runs / "mlflow.db").mkdir()
    run = new_run(bare_runs, 1)
    follower = Follower.start(run.path)
    next_epoch(run, 1)
    ending(run)
    assert follower.stop(timeout_seconds=PATIENCE) == ["mlflow"]
    assert (run.path / "mirrors.log").read_text().count("\n") == 1
    (bare_runs / "mlflow.db").rmdir()
    shutil.copy(store_template, bare_runs / "mlflow.db")
    sync(run.path)
    assert epochs_in_mlflow(bare_runs) == [[0, 1]]


@pytest.mark.slow
def test_a_store_deleted_while_the_run_is_live_is_made_anew(runs, new_run, next_epoch, ending):
    run = new_run(runs, 1)
    follower = Follower.start(run.path, mirrors=["mlflow"])
    wait_until(lambda: epochs_in_mlflow(runs) == [[0]])
    (runs / "mlflow.db").unlink()
    next_epoch(run, 1)
    ending(run)
    assert follower.stop(timeout_seconds=PATIENCE) == []
    assert epochs_in_mlflow(runs) == [[0, 1]]


def test_a_follower_that_is_not_done_in_time_is_killed_and_its_mirrors_are_named(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    follower = Follower.start(run.path)
    pid = follower.pid
    assert follower.stop(timeout_seconds=0.0) == ["mlflow", "tensorboard"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_follower_that_was_killed_leaves_its_mirrors_behind(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    follower = Follower.start(run.path, mirrors=["tensorboard"])
    os.kill(follower.pid, signal.SIGKILL)
    run.append("start", {})
    assert follower.stop(timeout_seconds=PATIENCE) == ["tensorboard"]
    assert sync(run.path, ["tensorboard"])["tensorboard"] > 0


def test_a_follower_that_cannot_be_started_is_no_error(bare_runs, new_run, monkeypatch):
    monkeypatch.setattr(follow.sys, "executable", "/nowhere/python")
    follower = Follower.start(new_run(bare_runs).path, mirrors=["tensorboard"])
    assert (follower.pid, follower.stop()) == (None, ["tensorboard"])


def test_a_mirror_whose_package_is_missing_is_left_out_with_a_note(bare_runs, new_run, monkeypatch):
    monkeypatch.setattr(follow, "installed", lambda _: False)
    run = new_run(bare_runs)
    follower = Follower.start(run.path, mirrors=["mlflow"])
    assert (follower.pid, follower.stop()) == (None, [])
    assert "pip install 'trainwright[mlflow]'" in (run.path / "mirrors.log").read_text()


def test_a_run_whose_training_was_killed_is_interrupted_by_its_follower(bare_runs):
    killed_training(bare_runs, "tensorboard")
    assert RunFolder.open(bare_runs / "dead").status()["state"] == "interrupted"
    assert sweep(bare_runs) == []
    assert any((bare_runs / "dead" / "tensorboard").iterdir())


@pytest.mark.slow
def test_a_run_whose_training_was_killed_is_closed_as_killed_in_mlflow(runs):
    killed_training(runs, "mlflow")
    client, (copy,) = copies(runs)
    assert copy.info.status == "KILLED"
    assert len(client.get_metric_history(copy.info.run_id, "val/score")) == 1


def test_what_a_sweep_found_is_closed_in_mlflow(runs, new_run):
    run = new_run(runs, 1, run_id="swept")
    MlflowMirror().update(run.path)
    assert close_interrupted(runs, ["swept", "unknown"]) == ["unknown"]
    assert copies(runs)[1][0].info.status == "KILLED"


def test_closing_interrupted_runs_makes_no_store(bare_runs, new_run):
    new_run(bare_runs, run_id="swept")
    assert close_interrupted(bare_runs, ["swept"]) == []
    assert not (bare_runs / "mlflow.db").exists()


def test_sync_of_a_run_that_is_followed_is_refused(bare_runs, new_run, monkeypatch):
    monkeypatch.setattr("trainwright.tracking.sync.WAIT_SECONDS", 0.0)
    run = new_run(bare_runs)
    with FileLock(run.path / "mirrors.lock") as lock:
        lock.acquire()
        with pytest.raises(RunError, match=f"process {os.getpid()} is bringing this run's mirrors up to date"):
            sync(run.path)


def test_sync_does_the_other_mirrors_before_it_reports_one_that_failed(bare_runs, new_run):
    (bare_runs / "mlflow.db").mkdir()
    run = new_run(bare_runs, 1)
    with pytest.raises(TrainwrightError, match="unable to open database file"):
        sync(run.path)
    assert any(run.tensorboard.iterdir())


def test_sync_answers_an_unknown_mirror_with_the_nearest(bare_runs, new_run):
    with pytest.raises(UnknownNameError, match="Did you mean 'tensorboard'"):
        sync(new_run(bare_runs).path, ["tensorbord"])


def test_a_note_that_cannot_be_written_is_no_error(tmp_path):
    follow._note(tmp_path / "nowhere", "lost")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_following_costs_the_training_nothing_but_its_appends(bare_runs, new_run, next_epoch, ending):
    run = new_run(bare_runs)
    follower = Follower.start(run.path)
    slowest = 0.0
    for epoch in range(50):
        start = time.process_time()
        next_epoch(run, epoch)
        slowest = max(slowest, time.process_time() - start)
    ending(run)
    assert slowest < 0.05
    assert follower.stop(timeout_seconds=PATIENCE) == []
    assert json.loads((run.path / "status.json").read_text())["state"] == "finished"
