"""Ctrl-C and a polite kill: the state is saved, the exit code says so, and the run goes on to the same weights."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

EPOCHS = 12  # of which the first is recorded when a signal comes
LONG = [
    "--set=network.width=8",
    "--set=data.image_size=16",
    "--set=precision=fp32",
    "--set=batch_size=8",
    f"--epochs={EPOCHS}",
]


def test_a_server_ends_with_all_that_it_has_begun():
    from trainwright.cli.runs import _end_group

    command = ["sh", "-c", "sleep 60 & echo $!; wait"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    with server.stdout as said:
        worker = int(said.readline())

    before = signal.getsignal(signal.SIGINT)
    _end_group(server)

    assert signal.getsignal(signal.SIGINT) == before
    assert server.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 20
    while _is_there(worker):
        assert time.monotonic() < deadline, "its worker is still there"
        time.sleep(0.01)


def _is_there(pid):
    """Whether a process is there and has not ended; one whose parent is gone may wait to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_page_of_mlflow_ends_with_the_command_that_serves_it(tmp_path, free_port, serving):
    command = [sys.executable, "-m", "trainwright", "ui", f"--port={free_port}", f"--runs={tmp_path / 'runs'}"]
    (tmp_path / "runs").mkdir()
    with serving(command, {}, f"http://127.0.0.1:{free_port}/health") as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", free_port), timeout=5):
            pass


def start(digits, runs, *more):
    """A training under way: its first epoch is recorded."""
    command = [sys.executable, "-m", "trainwright", "train", str(digits), *LONG, f"--runs={runs}", "--mirrors=none"]
    process = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))
    deadline = time.monotonic() + 120
    while not any(b'"epoch"' in file.read_bytes() for file in runs.glob("*/records.jsonl")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the training did not get under way"
        time.sleep(0.01)
    return process


@pytest.fixture(scope="module")
def untouched(digits, tmp_path_factory):
    """The weights' hash of the same training left alone."""
    import trainwright as tw
    from trainwright.cli.recipes import recipe_from

    assignments = [option.removeprefix("--set=") for option in LONG if option.startswith("--set=")]
    _, changes = recipe_from(None, assignments, epochs=EPOCHS, seed=None)
    run = tw.train(digits, changes=changes, runs=tmp_path_factory.mktemp("untouched"), mirrors=())
    return run.result["weights_sha256"]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_the_state_and_the_run_ends_in_the_same_weights(cli, digits, tmp_path, untouched, number, code):
    process = start(digits, tmp_path, "--json")

    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    (listed,) = cli("runs", "list", "--runs", tmp_path, "--json").json["runs"]
    resumed = cli("resume", "last", "--runs", tmp_path, "--mirrors=none", "--json")

    said = json.loads(out)
    assert process.returncode == code
    assert (said["schema"], said["kind"], said["where"]) == ("trainwright.error/1", "interrupted", listed["run_id"])
    assert f"trainwright resume {listed['run_id']}" in err.decode()
    assert "Traceback" not in err.decode()
    assert listed["state"] == "interrupted"
    assert resumed.json["weights_sha256"] == untouched


def test_a_killed_run_is_interrupted_after_the_next_command(cli, digits, tmp_path):
    process = start(digits, tmp_path, "--quiet")

    process.kill()
    process.communicate()
    (listed,) = cli("runs", "list", "--runs", tmp_path, "--json").json["runs"]

    assert listed["state"] == "interrupted"
    assert "its process ended without a word" in cli("runs", "show", "last", "--runs", tmp_path).out


def test_a_run_that_is_alive_is_running_and_cannot_be_resumed(cli, digits, tmp_path):
    process = start(digits, tmp_path, "--quiet")

    try:
        (listed,) = cli("runs", "list", "--runs", tmp_path, "--json").json["runs"]
        refused = cli("resume", "last", "--runs", tmp_path, "--mirrors=none", "--json")
    finally:
        process.kill()
        process.communicate()

    assert listed["state"] == "running"
    assert (refused.code, refused.json["kind"]) == (1, "run")
    assert f"process {process.pid} is writing this run" in refused.json["message"]


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted."), (signal.SIGTERM, 143, "terminated.")],
    ids=["SIGINT", "SIGTERM"],
)
@pytest.mark.parametrize("reads", ["trainwright.data.dataset.read_facts", "trainwright.workflows.settle.range_of"])
def test_a_signal_before_the_training_is_told_too(cli, monkeypatch, digits, tmp_path, number, code, said, reads):
    monkeypatch.setattr(reads, lambda *arguments, **more: signal.raise_signal(number))

    done = cli("train", digits, *LONG, "--set=optimizer.lr=null", "--mirrors=none", f"--runs={tmp_path}", "--json")

    assert (done.code, done.json["kind"], done.json["message"]) == (code, "interrupted", said)
    assert f"error: {said} Nothing was written: start it again." in done.err
    assert list(tmp_path.iterdir()) == []


def test_a_signal_between_the_run_folder_and_the_first_step_says_how_to_go_on(cli, monkeypatch, digits, tmp_path):
    monkeypatch.setattr("trainwright.workflows.run.Training", lambda *_, **__: signal.raise_signal(signal.SIGTERM))

    done = cli("train", digits, *LONG, "--mirrors=none", f"--runs={tmp_path}", "--json")

    (listed,) = cli("runs", "list", "--runs", tmp_path, "--json").json["runs"]
    assert (done.code, listed["state"]) == (143, "interrupted")
    assert done.json["cure"] == f"Go on with 'trainwright resume {listed['run_id']}'."


def test_a_polite_kill_while_modules_are_imported_is_told(digits, tmp_path):
    """Of a command that imports torch, which takes longer than it takes to hear signals."""
    command = [sys.executable, "-m", "trainwright", "train", str(digits), *LONG, f"--runs={tmp_path}", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    _wait_until_it_hears(process.pid, signal.SIGTERM)

    process.terminate()
    out, err = process.communicate(timeout=60)

    assert (process.returncode, json.loads(out)["message"]) == (143, "terminated.")
    assert err.decode().startswith("error: terminated.")


def _wait_until_it_hears(pid: int, number: signal.Signals) -> None:
    """Until a process has a handler for a signal: on a busy machine its interpreter alone takes more than a second."""
    status, deadline = Path(f"/proc/{pid}/status"), time.monotonic() + 60
    if not status.exists():  # not Linux
        time.sleep(0.5)
        return
    while True:
        (caught,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught, 16) >> (number - 1) & 1:
            return
        assert time.monotonic() < deadline, f"it does not hear {number.name}"
        time.sleep(0.01)


def test_ctrl_c_while_images_are_read_ends_with_130(cli, monkeypatch, digits):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainwright.data.dataset.read_facts", interrupted)

    done = cli("inspect", digits, "--json")

    assert (done.code, done.json["kind"]) == (130, "interrupted")
