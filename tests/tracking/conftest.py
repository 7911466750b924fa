"""Runs to be mirrored, and an MLflow store whose tables are made once for all tests."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from trainwright.tracking.run_folder import RunFolder

RECIPE = (
    "title: test\nnetwork:\n  name: resnet18\n  dropout: 0.2\noptimizer:\n  name: adam\n  betas:\n  - 0.9\n  - 0.999\n"
)
MANIFEST = {
    "name": "cats-dogs",
    "metric": "accuracy",
    "code": "0.1.0",
    "dataset": {"fingerprint": "f00d"},
    "command": ["trainwright", "train", "cats-dogs"],
}
RESULT = {
    "schema": "trainwright.run/1",
    "metric": "accuracy",
    "score": {"train": 0.95, "val": 0.75},
    "gap": {"value": 0.2, "low": 0.1, "high": 0.3},
    "verdict": "overfits",
    "seconds": 12.5,
}


@pytest.fixture(autouse=True)
def _no_other_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")  # the client that reads back sees a new file too


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables and nothing in them but the default experiment."""
    runs = tmp_path_factory.mktemp("template")
    code = (
        "import sys; from pathlib import Path\n"
        "from trainwright.tracking.mlflow import _calm, _create\n"
        "from trainwright.tracking.store import store_of\n"
        "with _calm(): _create(store_of(Path(sys.argv[1])))"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(runs)], check=True, timeout=200)
    return runs / "mlflow.db"


@pytest.fixture
def runs(tmp_path: Path, store_template: Path) -> Path:
    """A folder for runs with an MLflow store beside them."""
    folder = tmp_path / "runs"
    folder.mkdir()
    shutil.copy(store_template, folder / "mlflow.db")
    return folder


@pytest.fixture
def bare_runs(tmp_path: Path) -> Path:
    """A folder for runs, without any store."""
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


@pytest.fixture
def new_run() -> Iterator[Callable[..., RunFolder]]:
    """Makes a run of this process; closed after the test."""
    made: list[RunFolder] = []

    def make(runs: Path, epochs: int = 0, *, run_id: str | None = None, recipe: str = RECIPE) -> RunFolder:
        made.append(RunFolder.create(runs, recipe_yaml=recipe, manifest=MANIFEST, run_id=run_id))
        for epoch in range(epochs):
            add_epoch(made[-1], epoch)
        return made[-1]

    yield make
    for run in made:
        run.close()


def add_epoch(run: RunFolder, epoch: int) -> None:
    """Three steps, a figure and an epoch record, as the training writes them."""
    loss = 1.0 / (epoch + 1)
    run.append("steps", {"first_step": 3 * epoch, "loss": [loss, loss, loss], "lr": [0.001, 0.001, 0.001]})
    (run.figures / f"confusion-val-epoch-{epoch:04d}.png").write_bytes(png())
    run.append("figure", {"name": f"confusion-val-epoch-{epoch:04d}.png"})
    run.append(
        "epoch",
        {
            "epoch": epoch,
            "step": 3 * (epoch + 1),
            "train_running": {"loss": loss, "score": 0.5},
            "train": {"loss": loss, "score": 0.5 + epoch / 100},
            "val": {"loss": float("nan"), "score": 0.25 + epoch / 100},
            "lr": 0.001,
            "seconds": 1.5,
            "images_per_second": 100.0,
            "step_seconds": 0.5,
            "memory_bytes": 1024,
        },
    )


def end(run: RunFolder) -> None:
    """What a training writes at its proper end."""
    run.write_json("result.json", RESULT)
    run.append("end", {"state": "finished"})
    run.set_status("finished")


def png() -> bytes:
    """A grey image of 3 × 2 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\x00\x10\x20\x30" * 2)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def next_epoch() -> Callable[[RunFolder, int], None]:
    return add_epoch


@pytest.fixture
def ending() -> Callable[[RunFolder], None]:
    return end
