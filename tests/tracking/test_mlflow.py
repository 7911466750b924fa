"""The MLflow mirror, read back with MLflow's own client."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings

import pytest

from trainwright.errors import MissingPackageError, TrainwrightError, UsageError
from trainwright.tracking import mirrors as mirrors_module
from trainwright.tracking.mlflow import MlflowMirror
from trainwright.tracking.mlflow_commands import ui_command
from trainwright.tracking.store import store_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecations inside mlflow's own imports
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.filterwarnings("ignore:.*noload.*:DeprecationWarning")  # the client's, when it reads back


@pytest.fixture
def read(runs):
    """All MLflow runs of the dataset, as the client sees them."""

    def runs_in_store():
        client = MlflowClient(tracking_uri=store_of(runs).uri)
        experiment = client.get_experiment_by_name("cats-dogs")
        return client, client.search_runs([experiment.experiment_id]) if experiment else []

    return runs_in_store


def history(client, run, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]


def test_a_finished_run_arrives_whole(runs, new_run, ending, read):
    run = new_run(runs, 3)
    ending(run)
    mirror = MlflowMirror()
    assert mirror.update(run.path) > 0
    mirror.close(run.path, "finished")
    client, (copy,) = read()
    assert (copy.info.run_name, copy.info.status) == (run.run_id, "FINISHED")
    assert copy.data.params["network.name"] == "resnet18"
    assert copy.data.params["optimizer.betas"] == "[0.9, 0.999]"
    assert history(client, copy, "train/score") == [(0, 0.5), (1, 0.51), (2, 0.52)]
    assert history(client, copy, "gap_low") == [(2, 0.1)]
    assert (copy.data.metrics["best_score"], copy.data.metrics["seconds"]) == (0.27, 12.5)
    assert copy.data.tags["verdict"] == "overfits"
    assert (copy.data.tags["code_version"], copy.data.tags["dataset_fingerprint"]) == ("0.1.0", "f00d")
    files = [item.path for place in (None, "figures") for item in client.list_artifacts(copy.info.run_id, place)]
    assert {"recipe.yaml", "manifest.json", "result.json", "figures/confusion-val-epoch-0002.png"} <= set(files)


def test_numbers_that_were_not_finite_are_left_out(runs, new_run, read):
    MlflowMirror().update(new_run(runs, 2).path)
    _, (copy,) = read()
    assert "val/score" in copy.data.metrics
    assert "val/loss" not in copy.data.metrics


def test_metrics_carry_the_time_of_their_record(runs, new_run, read):
    run = new_run(runs, 1)
    MlflowMirror().update(run.path)
    client, (copy,) = read()
    (metric,) = client.get_metric_history(copy.info.run_id, "lr")
    (record,) = run.records("epoch")
    assert metric.timestamp == int(record["time"] * 1000)


def test_a_second_update_adds_nothing_also_by_another_mirror(runs, new_run, ending, read):
    run = new_run(runs, 2)
    ending(run)
    mirror = MlflowMirror()
    mirror.update(run.path)
    assert (mirror.update(run.path), MlflowMirror().update(run.path)) == (0, 0)
    client, copies = read()
    assert [len(history(client, copy, "lr")) for copy in copies] == [2]


def test_only_epochs_that_are_missing_are_added(runs, new_run, next_epoch, read):
    run = new_run(runs, 1)
    MlflowMirror().update(run.path)
    next_epoch(run, 1)
    live = MlflowMirror()
    live.update(run.path)
    next_epoch(run, 2)
    live.update(run.path)
    client, (copy,) = read()
    assert [step for step, _ in history(client, copy, "lr")] == [0, 1, 2]


@pytest.mark.parametrize(("state", "status"), [("failed", "FAILED"), ("interrupted", "KILLED")])
def test_a_run_that_ended_early_is_closed_and_reopened_by_a_resume(runs, new_run, read, state, status):
    run = new_run(runs, 1)
    mirror = MlflowMirror()
    mirror.update(run.path)
    run.set_status(state)
    mirror.close(run.path, state)
    assert read()[1][0].info.status == status
    run.set_status("running")
    MlflowMirror().update(run.path)
    assert read()[1][0].info.status == "RUNNING"


def test_a_run_that_was_deleted_in_mlflow_is_made_anew(runs, new_run, read):
    run = new_run(runs, 2)
    mirror = MlflowMirror()
    mirror.update(run.path)
    client, (copy,) = read()
    client.delete_run(copy.info.run_id)
    assert mirror.update(run.path) > 0
    assert [len(history(client, copy, "lr")) for copy in read()[1]] == [2]


def test_a_deleted_experiment_is_restored(runs, new_run, read):
    run = new_run(runs, 1)
    MlflowMirror().update(run.path)
    client, (copy,) = read()
    client.delete_experiment(copy.info.experiment_id)
    MlflowMirror().update(run.path)
    assert client.get_experiment(copy.info.experiment_id).lifecycle_stage == "active"


def test_a_database_that_was_replaced_gets_the_run_anew(runs, new_run, next_epoch, read, store_template):
    run = new_run(runs, 2)
    mirror = MlflowMirror()
    mirror.update(run.path)
    (runs / "mlflow.db").unlink()
    shutil.copy(store_template, runs / "mlflow.db")
    next_epoch(run, 2)
    mirror.update(run.path)
    client, (copy,) = read()
    assert [step for step, _ in history(client, copy, "lr")] == [0, 1, 2]


def test_a_folder_with_a_difficult_name_works(tmp_path, new_run, ending, store_template):
    runs = tmp_path / "my runs, 100% #1 ü"
    runs.mkdir()
    shutil.copy(store_template, runs / "mlflow.db")
    run = new_run(runs, 1)
    ending(run)
    MlflowMirror().update(run.path)
    client = MlflowClient(tracking_uri=store_of(runs).uri)
    (copy,) = client.search_runs([client.get_experiment_by_name("cats-dogs").experiment_id])
    assert len(client.list_artifacts(copy.info.run_id, "figures")) == 1
    assert len(list((runs / "mlflow-artifacts").rglob("*.png"))) == 1


def test_more_epochs_than_one_batch_holds_arrive(runs, new_run, read):
    run = new_run(runs)
    for epoch in range(1200):
        run.append("epoch", {"epoch": epoch, "val": {"score": 0.5}})
    MlflowMirror().update(run.path)
    client, (copy,) = read()
    assert len(history(client, copy, "val/score")) == 1200


def test_a_locked_database_is_named_within_seconds(runs, new_run):
    run = new_run(runs, 1)
    with sqlite3.connect(runs / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with pytest.raises(TrainwrightError, match=r"database is locked.*Another program.*trainwright sync RUN"):
            MlflowMirror().update(run.path)
        assert time.monotonic() - start < 8
    other.close()


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda path: path.mkdir(), "unable to open database file.*Make it writable"),
        (lambda path: path.write_bytes(b"no database " * 100), "not a database.*move it away"),
    ],
)
def test_an_unusable_database_is_named_with_its_cure(runs, new_run, spoil, cause):
    run = new_run(runs, 1)
    (runs / "mlflow.db").unlink()
    spoil(runs / "mlflow.db")
    with pytest.raises(TrainwrightError, match=cause):
        MlflowMirror().update(run.path)


def test_a_server_that_is_gone_is_named_within_seconds(runs, new_run, monkeypatch, free_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port}")
    start = time.monotonic()
    with pytest.raises(TrainwrightError, match="Start the server, or correct MLFLOW_TRACKING_URI"):
        MlflowMirror().update(new_run(runs, 1).path)
    assert time.monotonic() - start < 20


def test_closing_makes_no_store_and_no_copy(runs, new_run, read):
    (runs / "mlflow.db").rename(runs / "aside.db")
    run = new_run(runs, 1)
    MlflowMirror().close(run.path, "interrupted")
    assert not (runs / "mlflow.db").exists()
    (runs / "aside.db").rename(runs / "mlflow.db")
    MlflowMirror().close(run.path, "interrupted")
    assert read()[1] == []


def test_the_user_s_environment_is_as_before(runs, new_run):
    before = dict(os.environ)
    MlflowMirror().update(new_run(runs, 1).path)
    assert {**os.environ, "PYTEST_CURRENT_TEST": ""} == {**before, "PYTEST_CURRENT_TEST": ""}


@pytest.mark.slow
def test_nothing_is_written_to_standard_error(runs, new_run):
    run = new_run(runs, 1)
    (runs / "mlflow.db").unlink()
    code = (
        "import sys; from pathlib import Path; from trainwright.tracking.mlflow import MlflowMirror\n"
        "MlflowMirror().update(Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, timeout=200)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_mlflow_the_cure_is_named(bare_runs, new_run, monkeypatch):
    monkeypatch.setattr(mirrors_module, "installed", lambda _: False)
    run = new_run(bare_runs)
    with pytest.raises(MissingPackageError, match=r"pip install 'trainwright\[mlflow\]'"):
        MlflowMirror().update(run.path)
    with pytest.raises(MissingPackageError):
        ui_command(bare_runs, 5000)


def test_the_page_is_served_to_this_machine_only(runs, monkeypatch):
    command, variables = ui_command(runs, 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--backend-store-uri") + 1] == f"sqlite:///{runs / 'mlflow.db'}"
    assert command[command.index("--workers") + 1] == "1"
    assert variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://10.0.0.1:5000")
    with pytest.raises(UsageError, match="a server with its own page"):
        ui_command(runs, 5001)


@pytest.mark.slow
def test_a_kill_while_the_tables_are_made_leaves_no_half_made_store(bare_runs, new_run):
    run = new_run(bare_runs, 1)
    code = (
        "import os, signal, sys; from pathlib import Path; from trainwright.tracking import mlflow\n"
        "make = mlflow._client\n"
        "mlflow._client = lambda store: (make(store).search_experiments(), os.kill(os.getpid(), signal.SIGKILL))\n"
        "mlflow.MlflowMirror().update(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(run.path)], timeout=200, check=False)
    assert not (bare_runs / "mlflow.db").exists()
    assert len(list(bare_runs.glob(".mlflow.db.*.tmp"))) == 1
    MlflowMirror().update(run.path)
    assert (bare_runs / "mlflow.db").exists()
    assert not list(bare_runs.glob(".mlflow.db.*.tmp*"))


@pytest.mark.slow
def test_two_processes_create_one_store_at_the_same_time(bare_runs, new_run):
    paths = [str(new_run(bare_runs, 1).path) for _ in range(3)]
    code = (
        "import sys; from pathlib import Path; from trainwright.tracking.mlflow import MlflowMirror\n"
        "MlflowMirror().update(Path(sys.argv[1]))"
    )
    started = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, path]) for path in paths]
    assert [process.wait(timeout=200) for process in started] == [0, 0, 0]
    client = MlflowClient(tracking_uri=store_of(bare_runs).uri)
    experiment = client.get_experiment_by_name("cats-dogs")
    assert len(client.search_runs([experiment.experiment_id])) == 3


@pytest.mark.slow
def test_a_real_server_gets_the_same_rows_and_files(runs, new_run, ending, monkeypatch, free_port, serving):
    command, variables = ui_command(runs, free_port)
    server = f"http://127.0.0.1:{free_port}"
    with serving(command, variables, f"{server}/health"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        run = new_run(runs, 2)
        ending(run)
        mirror = MlflowMirror()
        assert mirror.update(run.path) > 0
        mirror.close(run.path, "finished")
        assert MlflowMirror().update(run.path) == 0
        client = MlflowClient(tracking_uri=server)
        (copy,) = client.search_runs([client.get_experiment_by_name("cats-dogs").experiment_id])
        assert copy.info.status == "FINISHED"
        assert history(client, copy, "train/score") == [(0, 0.5), (1, 0.51)]
        assert len(client.list_artifacts(copy.info.run_id, "figures")) == 2
