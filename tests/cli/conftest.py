"""The command line in this process, small images to train on, and one folder with two finished runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.cli.main import main

SMALL = (  # what makes a training take a fraction of a second
    "--set=network.width=8",
    "--set=data.image_size=16",
    "--set=batch_size=16",
    "--set=optimizer.lr=0.01",
    "--set=precision=fp32",
    "--mirrors=none",
)


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """(words of a command line) → its exit code, stdout and stderr."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def small() -> tuple[str, ...]:
    """Options that make a training small."""
    return SMALL


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders: the handwritten 0, 1 and 2, fifty PNG files each. Read it, never write to it."""
    from sklearn.datasets import load_digits

    source = load_digits()
    folder = tmp_path_factory.mktemp("data") / "digits"
    for label in range(3):
        (folder / str(label)).mkdir(parents=True)
        for row in np.flatnonzero(source.target == label)[:50]:
            grey_HW = np.rint(source.images[row] * (255 / 16)).astype(np.uint8)
            Image.fromarray(grey_HW.repeat(2, axis=0).repeat(2, axis=1)).save(folder / str(label) / f"{row:04d}.png")
    return folder


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory, digits: Path) -> tuple[tw.Run, tw.Run]:
    """Two finished runs in one folder, the second with another learning rate and seed. Read them, never write to them."""
    runs = tmp_path_factory.mktemp("cli") / "runs"
    recipe = tw.Recipe().changed(
        {"network.width": 8, "data.image_size": 16, "batch_size": 16, "epochs": 3, "precision": "fp32"}
    )
    first = tw.train(digits, recipe.changed({"optimizer.lr": 0.02}), runs=runs, mirrors=())
    return first, tw.train(digits, recipe.changed({"optimizer.lr": 1e-6}), seed=1, runs=runs, mirrors=())


@pytest.fixture
def runs(two_runs: tuple[tw.Run, tw.Run]) -> Path:
    """The folder of the two runs."""
    return two_runs[0].folder.parent
