"""The four tasks on real images: what is exported is certified, and each planted fault is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.deploy import onnx, reader
from trainwright.errors import GoalNotMetError
from trainwright.workflows import export as workflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {  # by name: the archive, the data in it, what `train` is given
    "cats-dogs": ("cats-dogs", "", {"changes": {"data.image_size": 64, "data.train_fraction": 0.2}}),
    "flowers12": ("flowers12", "", {"changes": {"data.image_size": 64}}),
    "camvid": ("camvid-small", "", {"changes": {"data.image_size": [96, 128]}}),
    "bccd-boxes": ("bccd", "", {"changes": {"data.image_size": [128, 160]}}),
    "bccd-counts": (
        "bccd",
        "train/red-cell-counts.csv",
        {"changes": {"data.image_size": [96, 128]}, "target": "red_cells"},
    ),
}


@pytest.fixture(scope="module")
def trained(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tw.Run]:
    """(name) → a run of one epoch, a model that has begun to see; made once."""
    runs, made = tmp_path_factory.mktemp("runs"), dict[str, tw.Run]()

    def run(name: str) -> tw.Run:
        if name not in made:
            archive, within, more = RUNS[name]
            changes = {"epochs": 1, "optimizer.lr": 0.003, **more["changes"]}
            made[name] = tw.train(
                real_data(archive) / within, **{**more, "changes": changes}, runs=runs, mirrors=(), workers=1, threads=1
            )
        return made[name]

    return run


@pytest.mark.parametrize("name", RUNS)
def test_every_file_agrees_from_the_image_file_on(trained: Callable[[str], tw.Run], tmp_path: Path, name: str) -> None:
    made = tw.export(trained(name), out=tmp_path / "model", workers=1, threads=1)

    certificate = made["certificate"]
    assert list(certificate["files"]) == ["model.onnx", "model.pt2", "model.safetensors"]
    assert all(held["agreement"] >= 0.999 for held in certificate["files"].values())


def swapped(path: Path, spec: Any) -> np.ndarray:
    return np.ascontiguousarray(TRUE(path, spec)[:, :, ::-1])


def resized_without_antialiasing(path: Path, spec: Any) -> np.ndarray:
    height, width = spec["size"]
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.NEAREST))


TRUE = reader.read_image


@pytest.mark.parametrize("name", ["cats-dogs", "camvid", "bccd-counts", "bccd-boxes"])
@pytest.mark.parametrize("read", [swapped, resized_without_antialiasing], ids=lambda function: function.__name__)
def test_other_pixels_are_refused(
    trained: Callable[[str], tw.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: Any
) -> None:
    run = trained(name)
    monkeypatch.setattr(reader, "read_image", read)

    with pytest.raises(GoalNotMetError, match="does not answer as the model does"):
        tw.export(run, format="safetensors", out=tmp_path / "model", workers=1, threads=1)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_normalization_is_refused(
    trained: Callable[[str], tw.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, true = trained("cats-dogs"), workflow._served

    def bare(subject: Any) -> Any:
        served = true(subject)
        served.scale.fill_(1 / 255)
        served.shift.zero_()
        return served

    monkeypatch.setattr(workflow, "_served", bare)

    with pytest.raises(GoalNotMetError, match=rf"{onnx.FILE}: does not answer as the model does"):
        tw.export(run, format="onnx", out=tmp_path / "model", workers=1, threads=1)
    assert list(tmp_path.iterdir()) == []
