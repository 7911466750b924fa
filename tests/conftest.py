"""What every test stands on: one thread, no network, no telemetry, caches of its own, and real data where there is some.

The environment is set here, before anything imports torch, so that `pytest` alone gives what `make test` gives; programs
that a test starts inherit it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Forced, not defaults: another number of threads gives other bits, and the golden losses are compared bit for bit.
# One thread each, because the tests already run one process a core; passive waiting, because libgomp's spinning barrier
# makes small steps many times slower on a shared machine.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "agg",
    "NO_COLOR": "1",
}
for name in [name for name in os.environ if name.startswith("TRAINWRIGHT_") and name != "TRAINWRIGHT_DATA"]:
    del os.environ[name]  # a developer's own settings are not part of a test
for name in ("MLFLOW_TRACKING_URI", "FORCE_COLOR"):
    os.environ.pop(name, None)

settings.register_profile("trainwright", deadline=None, derandomize=True, database=None)
settings.load_profile("trainwright")

CACHE = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """One empty cache folder for the whole session; the workers of xdist inherit it from the process that starts them."""
    if hasattr(config, "workerinput"):
        return
    config.stash[CACHE] = Path(tempfile.mkdtemp(prefix="trainwright-cache-"))
    os.environ["XDG_CACHE_HOME"] = str(config.stash[CACHE])
    if (kept := getattr(config, "cache", None)) is not None:  # absent with -p no:cacheprovider
        os.environ["MPLCONFIGDIR"] = str(kept.mkdir("matplotlib"))  # its list of fonts takes seconds to make


def pytest_unconfigure(config: pytest.Config) -> None:
    if CACHE in config.stash:
        shutil.rmtree(config.stash[CACHE], ignore_errors=True)


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from the name of an archive in TRAINWRIGHT_DATA (`cats-dogs`) to its folder, unpacked once a session.

    Skips the test where there is no such archive. The folder is shared by tests and processes: read it, never write to it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def unpack(name: str) -> Path:
        archives = os.environ.get("TRAINWRIGHT_DATA")
        if not archives:
            pytest.skip("needs real data: TRAINWRIGHT_DATA is not set")
        archive = Path(archives) / f"{name}.tar.gz"
        if not archive.is_file():
            pytest.skip(f"needs real data: no {archive.name} in TRAINWRIGHT_DATA")
        target = shared / "real-data" / name
        target.parent.mkdir(exist_ok=True)
        with (target.parent / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when closed, and by the system when the process dies
            if not target.is_dir():
                with tempfile.TemporaryDirectory(dir=target.parent) as stage, tarfile.open(archive) as tar:
                    tar.extractall(stage, filter="data")
                    (Path(stage) / name).rename(target)
        return target

    return unpack


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serving() -> Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]:
    """(command, variables, page) → a server inside of `with`, from when `page` answers; all that it started ends with it."""

    @contextlib.contextmanager
    def serve(command: Sequence[str], variables: Mapping[str, str], page: str) -> Iterator[subprocess.Popen[bytes]]:
        server = subprocess.Popen(
            command,
            env={**os.environ, **variables},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for(page)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)  # the group of the session that was started above
            server.wait(timeout=60)

    return serve


def _wait_for(page: str) -> None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(page, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(page)


@pytest.fixture(scope="session")
def lr_range_of() -> Callable[..., Any]:
    """(kind, seeds=3) → a learning-rate range test as one comes out: `found`, `flat`, `diverging` or `nothing`.

    The loss starts at 2.3. Of `found` it falls from 2e-4 to 6e-2, the suggestion is 0.013, and one of nine short runs diverged.
    """
    import numpy as np

    from trainwright.records import LrRange, LrTrial

    found_L = np.geomspace(1e-7, 10, 97)
    x_L = np.log10(found_L)
    fall_L, rise_L = 1.4 / (1 + np.exp(-2.2 * (x_L + 3.2))), np.exp(np.clip(5 * (x_L + 0.9), -20, 14))
    curves = {
        "found": 2.3 - fall_L + rise_L,
        "flat": np.full(97, 2.3),
        "diverging": 2.3 + 20 * rise_L,
        "nothing": np.full(97, np.nan),
    }
    reasons = {
        "found": "of three short runs the one at 0.013 ended lowest, beyond the noise between seeds.",
        "flat": "the loss never falls below its start by more than the noise between seeds.",
        "diverging": "the loss only rises.",
        "nothing": "the loss is not finite at any learning rate.",
    }
    trials = (
        LrTrial(lr=0.004, losses=(1.1, 1.14, 1.08)),
        LrTrial(lr=0.013, losses=(0.85, 0.9, 0.87)),
        LrTrial(lr=0.04, losses=(1.0, float("nan"), 1.3)),
    )

    def make(kind: str, *, seeds: int = 3) -> LrRange:
        draws = np.random.Generator(np.random.Philox(0))
        losses_SL = curves[kind] + draws.normal(0, 0.08, (seeds, 97))
        losses_SL[:, (x_L > 0.3) & (kind in ("found", "diverging"))] = np.nan
        smooth_L = np.where(np.isnan(losses_SL).all(axis=0), np.nan, curves[kind])
        told = kind == "found"
        return LrRange(
            lrs_L=found_L,
            losses_SL=losses_SL,
            smooth_L=smooth_L,
            low_L=smooth_L - 0.06,
            high_L=smooth_L + 0.06,
            start=float("nan") if kind == "nothing" else 2.3,
            interval=(2e-4, 6e-2) if told else None,
            suggestion=0.013 if told else None,
            reason=reasons[kind],
            trials=trials if told else (),
            steps=330,
            seconds=4.25,
        )

    return make
