"""Pipes, terminals and shells around the program."""

import json
import os
import pty
import subprocess
import sys

import pytest

PROGRAM = [sys.executable, "-m", "trainwright"]


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone_brings_no_traceback(runs, unbuffered):
    read, write = os.pipe()
    os.close(read)

    done = subprocess.run(
        [*PROGRAM, "runs", "list", f"--runs={runs}"],
        stdout=write,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(write)

    assert done.stderr == b""


def test_the_first_line_can_be_taken_alone(runs):
    line = f"{sys.executable} -m trainwright recipes show story | head -1"

    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True)

    assert (done.stdout.count("\n"), done.stderr) == (1, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_for_the_shell(shell):
    done = subprocess.run([*PROGRAM, "--show-completion", shell], capture_output=True, text=True)

    assert done.returncode == 0
    assert "_TRAINWRIGHT_COMPLETE" in done.stdout


def test_bash_completes_a_command():
    environment = {
        **os.environ,
        "_TRAINWRIGHT_COMPLETE": "complete_bash",
        "COMP_WORDS": "trainwright re",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "trainwright re",
    }
    done = subprocess.run(["trainwright"], executable=script(), env=environment, capture_output=True, text=True)

    assert {"resume", "recipes"} <= set(done.stdout.split())


def script():
    """The installed program beside this Python."""
    return os.path.join(os.path.dirname(sys.executable), "trainwright")  # noqa: PTH118, PTH120


def on_a_terminal(arguments, **environment):
    """(exit code, stdout, what a terminal on stderr got) of the program."""
    master, slave = pty.openpty()
    inherited = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=slave,
        env={**inherited, "TERM": "xterm-256color", **environment},
    )
    os.close(slave)
    seen = _read_all(master)
    out, _ = process.communicate(timeout=120)
    os.close(master)
    return process.returncode, out.decode(), seen


def _read_all(descriptor):
    pieces = []
    try:
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    except OSError:  # the other side of a terminal has been closed
        pass
    return b"".join(pieces).decode()


def test_a_terminal_sees_bars_and_every_epoch_and_stdout_stays_clean(digits, small, tmp_path):
    code, out, seen = on_a_terminal(["train", digits, *small, "--epochs=2", f"--runs={tmp_path}", "--json"])

    assert code == 0
    assert json.loads(out)["epochs"] == 2
    assert "━" in seen
    assert "epoch 2/2" in seen


def test_no_color_is_respected_on_a_terminal(digits, small, tmp_path):
    _, _, seen = on_a_terminal(["train", digits, *small, "--epochs=1", f"--runs={tmp_path}"], NO_COLOR="1")

    assert "\x1b[3" not in seen  # SGR 30–37 and 38 set a colour
    assert "epoch 1/1" in seen
