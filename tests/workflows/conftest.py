"""Small trainings of handwritten digits: three classes, fifty images each, a network of 20,000 parameters, two epochs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.workflows import judge

CLASSES, IMAGES_PER_CLASS, SIDE = ("0", "1", "2"), 50, 16


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of class folders, 150 grey PNG files. Read it, never write to it."""
    from sklearn.datasets import load_digits

    source = load_digits()
    folder = tmp_path_factory.mktemp("data") / "digits"
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for row in np.flatnonzero(source.target == int(label))[:IMAGES_PER_CLASS]:
            grey_HW = np.rint(source.images[row] * (255 / 16)).astype(np.uint8)
            Image.fromarray(grey_HW.repeat(2, axis=0).repeat(2, axis=1)).save(folder / label / f"{row:04d}.png")
    return folder


@pytest.fixture(scope="session")
def recipe() -> tw.Recipe:
    """Everything that has a state or draws a random number, and six steps an epoch."""
    return tw.Recipe().changed(
        {
            "network.width": 8,
            "network.dropout": 0.2,
            "data.image_size": SIDE,
            "augment.crop_padding": 0.125,
            "optimizer.lr": 0.01,
            "epochs": 2,
            "batch_size": 16,
            "precision": "fp32",
        }
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Path, recipe: tw.Recipe) -> tw.Run:
    """A finished run of the recipe on the digits, seed 0. Read it, never write to it."""
    return tw.train(digits, recipe, runs=tmp_path_factory.mktemp("trained"), mirrors=(), workers=1)


@pytest.fixture
def train(tmp_path: Path, digits: Path, recipe: tw.Recipe, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tw.Run]:
    """(changes of the recipe, data=…, model=…, seed=…, any option) → a run in `tmp_path / "runs"`, without mirrors.

    Nor does it draw pictures or write a page, which takes five times as long as all the rest; `trained` has them.
    """
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)

    def start(changes: dict[str, object] | None = None, *, data: object = digits, **more: object) -> tw.Run:
        options = {"runs": tmp_path / "runs", "mirrors": (), "workers": 1, "report": False, **more}
        own = {"network.dropout": 0.0} if "model" in more else {}  # nothing is put inside of a network of one's own
        return tw.train(data, recipe.changed(own | (changes or {})), **options)

    return start


@pytest.fixture
def weights(trained: tw.Run, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """(any argument) → an export of the weights alone, which is quick, into `tmp_path / "out"`."""

    def start(run: Any = trained, **more: Any) -> dict[str, Any]:
        arguments = {"format": "safetensors", "out": tmp_path / "out", "workers": 1, **more}
        return tw.export(run, **arguments)

    return start


@pytest.fixture
def polls() -> Callable[[int], Callable[[], bool]]:
    """(n) → a `stop_asked` that says no until it has been asked n times: n = 1 stops after the first step."""

    def after(count: int) -> Callable[[], bool]:
        asked = iter(range(count - 1))
        return lambda: next(asked, None) is None

    return after


class Listener:
    """A reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.epochs: list[int] = []
        self.work: dict[str, tuple[int, int]] = {}

    def progress(self, what: str, done: int, total: int) -> None:
        self.work[what] = (done, total)

    def epoch(self, record: object, epochs: int) -> None:
        self.epochs.append(record.epoch)

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def listener() -> Listener:
    return Listener()
