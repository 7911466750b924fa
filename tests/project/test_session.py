"""What conftest promises every test: one thread, caches of its own, no network, and real data unpacked once."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import torch

LOOK_TWICE = """
def test_one(real_data):
    assert (real_data("planted") / "train" / "a.txt").read_text() == "a"
    (real_data("planted") / "seen").touch(exist_ok=False)

def test_two(real_data):
    assert (real_data("planted") / "seen").exists()

def test_three(real_data):
    real_data("absent")
"""


def pytest_in(folder: Path, *options: str, **environment: str) -> str:
    """What `pytest -q` says of LOOK_TWICE in `folder`, with our conftest."""
    (folder / "test_inner.py").write_text(LOOK_TWICE)
    (folder / "conftest.py").write_bytes((Path(__file__).parents[1] / "conftest.py").read_bytes())
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rs",
        "-p",
        "no:cacheprovider",
        f"--rootdir={folder}",
        *options,
        folder,
    ]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "TRAINWRIGHT_"))}
    done = subprocess.run(command, env=inherited | environment, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def test_torch_computes_in_one_thread():
    assert torch.get_num_threads() == 1


def test_caches_are_not_the_users():
    assert Path(os.environ["XDG_CACHE_HOME"]).name.startswith("trainwright-cache-")


def test_hub_and_telemetry_stay_silent():
    assert (os.environ["HF_HUB_OFFLINE"], os.environ["MLFLOW_DISABLE_TELEMETRY"]) == ("1", "true")


@pytest.mark.parametrize("options", [[], ["-n", "2", "--dist", "loadfile"]], ids=["one process", "workers"])
def test_real_data_is_unpacked_once_and_missing_archives_skip(tmp_path, options):
    archives = tmp_path / "archives"
    (archives / "planted" / "train").mkdir(parents=True)
    (archives / "planted" / "train" / "a.txt").write_text("a")
    with tarfile.open(archives / "planted.tar.gz", "w:gz") as tar:
        tar.add(archives / "planted", "planted")
    inner = tmp_path / "inner"
    inner.mkdir()

    output = pytest_in(inner, *options, TRAINWRIGHT_DATA=str(archives))

    assert "2 passed, 1 skipped" in output, output
    assert "needs real data: no absent.tar.gz in TRAINWRIGHT_DATA" in output


def test_without_real_data_its_tests_are_skipped(tmp_path):
    output = pytest_in(tmp_path)

    assert "3 skipped" in output, output
    assert "TRAINWRIGHT_DATA is not set" in output
