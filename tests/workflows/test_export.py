"""A model handed over: what is written, that it answers as the run does, and that nothing is written where it does not."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainwright as tw
from trainwright.deploy import onnx, reader
from trainwright.errors import DataError, GoalNotMetError, MissingPackageError, RunError, UnknownNameError, UsageError
from trainwright.workflows.exported import predict_exported

FILES = [
    "README.md",
    "certificate.json",
    "certificate.txt",
    "export.json",
    "model.onnx",
    "model.pt2",
    "model.safetensors",
    "reader.py",
]


@pytest.fixture(scope="module")
def made(trained: tw.Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `export` says of the digits' run, whose files lie in `folder`. Read it, never write to it."""
    return tw.export(trained, out=tmp_path_factory.mktemp("made") / "model", runs=trained.folder.parent, workers=1)


@pytest.fixture(scope="module")
def folder(made: dict[str, Any]) -> Path:
    return Path(made["folder"])


def test_every_file_is_there_and_listed_with_its_hash(made: dict[str, Any], folder: Path) -> None:
    listed = {name: entry["sha256"] for name, entry in made["files"].items()}

    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert listed == {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES if name != "export.json"
    }
    assert [path.stat().st_mode & 0o777 for path in folder.iterdir()] == [0o644] * len(FILES)


def test_the_description_says_what_the_model_is(made: dict[str, Any], folder: Path, trained: tw.Run) -> None:
    described = json.loads((folder / "export.json").read_text())

    assert described == {key: value for key, value in made.items() if key not in ("folder", "certificate")}
    assert described["schema"] == "trainwright.export/1"
    assert (described["run"], described["task"], described["names"]) == (trained.id, "classification", ["0", "1", "2"])
    assert described["input"]["size"] == [16, 16]
    assert described["outputs"] == ["probabilities", "label"]
    assert described["recipe"] == trained.recipe.model_dump(mode="json")
    assert {"onnx", "onnxruntime", "torch", "pillow", "trainwright"} <= described["packages"].keys()


def test_the_onnx_file_says_it_too(made: dict[str, Any], folder: Path) -> None:
    metadata = onnx.OnnxModel(folder / "model.onnx").metadata

    assert (metadata["task"], json.loads(metadata["classes"])) == ("classification", ["0", "1", "2"])
    assert json.loads(metadata["image_size"]) == [16, 16]
    assert json.loads(metadata["recipe"]) == made["recipe"]


def everything_in(folder: Path) -> dict[str, bytes]:
    """The bytes of every file, and of what lies in those that are archives."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    with zipfile.ZipFile(folder / "model.pt2") as archive:
        return found | {name: archive.read(name) for name in archive.namelist()}


def test_no_path_of_this_machine_is_in_any_file(folder: Path) -> None:
    ours = {str(Path.home()), str(Path(tw.__file__).parent), str(Path(np.__file__).parents[1]), "site-packages"}
    found = everything_in(folder)

    assert [(name, path) for name, data in found.items() for path in ours if path.encode() in data] == []
    graphs = [data for name, data in found.items() if name == "model.onnx" or name.endswith("models/model.json")]
    assert [re.findall(rb"[\w/.-]+\.py\b", data) for data in graphs] == [[], []]


def test_of_weights_that_it_started_from_the_name_alone_is_told(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]], folder: Path, tmp_path: Path
) -> None:
    run = train({"network.weights": str(folder / "model.safetensors"), "epochs": 1})

    made = weights(run)

    assert made["recipe"]["network"]["weights"] == "model.safetensors"
    assert "from model.safetensors weights" in (tmp_path / "out" / "README.md").read_text()
    assert [path.name for path in (tmp_path / "out").iterdir() if str(folder).encode() in path.read_bytes()] == []


def test_the_certificate_is_over_all_validation_images(made: dict[str, Any], trained: tw.Run) -> None:
    certificate = made["certificate"]

    assert (certificate["schema"], certificate["images"]) == ("trainwright.certificate/1", 27)
    assert list(certificate["files"]) == ["model.onnx", "model.pt2", "model.safetensors"]
    assert [held["agreement"] for held in certificate["files"].values()] == [1, 1, 1]
    assert all(held["largest_difference"] < 1e-5 for held in certificate["files"].values())
    assert [held["score"]["score"] for held in certificate["files"].values()] == [trained.score["val"]] * 3


def test_the_score_is_said_in_both_precisions(made: dict[str, Any], trained: tw.Run) -> None:
    score = made["certificate"]["score"]

    assert score["model"]["score"] == score["trained"]["score"] == trained.score["val"]
    assert score["trained"]["precision"] == "fp32"
    assert score["model"]["low"] < score["model"]["score"] < score["model"]["high"]


def test_the_certificate_can_be_read_by_people(made: dict[str, Any], folder: Path) -> None:
    text = (folder / "certificate.txt").read_text()

    assert text.startswith(f"Parity certificate of {made['run']}\n")
    assert "All 27 validation images, from the image file on, against the model itself in fp32." in text
    assert f"model.onnx, {made['certificate']['files']['model.onnx']['bytes']:,} bytes" in text
    assert "agreement           1.00000 of images with the same class" in text


@pytest.mark.parametrize("name", ["model.onnx", "model.pt2"])
def test_the_file_predicts_as_the_run_does(folder: Path, trained: tw.Run, digits: Path, name: str) -> None:
    own = tw.predict(trained, digits / "1", device="cpu")

    run, said = predict_exported(folder / name, digits / "1")

    assert run == trained.id
    assert [(item["image"], item["label"]) for item in said] == [(item["image"], item["label"]) for item in own]
    probabilities = [[list(item["probabilities"].values()) for item in found] for found in (own, said)]
    np.testing.assert_allclose(*probabilities, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_any_number_of_images_is_taken(folder: Path, count: int) -> None:
    said = onnx.OnnxModel(folder / "model.onnx")(np.zeros((count, 16, 16, 3), np.uint8))

    assert {name: array.shape for name, array in said.items()} == {"probabilities": (count, 3), "label": (count,)}
    assert said["label"].tolist() == said["probabilities"].argmax(axis=1).tolist()


def test_the_card_stands_alone(folder: Path, trained: tw.Run) -> None:
    card = (folder / "README.md").read_text()
    value = trained.score["val"]

    assert card.startswith("---\nlicense: unknown  # fill in\n")
    assert "classification of 3 classes: 0, 1, 2" in card
    assert f"| validation | {value:.4f} | {trained.result['intervals']['score']['low']:.4f} to" in card
    assert f"Verdict: **{trained.verdict}**." in card
    assert trained._folder.recipe_yaml.strip() in card
    assert "The test part was not opened" in card


def test_the_code_of_the_card_runs_as_it_is_printed(folder: Path, digits: Path, tmp_path: Path) -> None:
    card = (folder / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", card, re.DOTALL) if "onnxruntime" in block)
    photo = next((digits / "2").iterdir())
    program = code.replace("photo.jpg", str(photo))

    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)

    _, (own,) = predict_exported(folder / "model.onnx", photo)
    name, probability = done.stdout.split()
    assert (name, float(probability)) == (own["label"], pytest.approx(own["probability"], abs=1e-5))


def test_weights_start_another_run(folder: Path, train: Callable[..., tw.Run]) -> None:
    run = train({"network.weights": str(folder / "model.safetensors"), "epochs": 1, "optimizer.lr": 1e-9})

    assert run.finished


def test_weights_alone_come_without_a_graph(weights: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    made = weights()

    assert made["outputs"] == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        name for name in FILES if name not in ("model.onnx", "model.pt2")
    ]


def test_a_file_that_the_reader_cannot_read_is_a_breach(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, spec: Any) -> np.ndarray:
        raise SyntaxError("not a TIFF file")  # as Pillow says of damaged EXIF data

    monkeypatch.setattr(reader, "read_image", refuse)

    with pytest.raises(GoalNotMetError, match=r"\.png: the exported reader cannot read it \(not a TIFF file"):
        weights()
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_answered_with_the_known_ones(weights: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(
        UnknownNameError, match=r"no such format 'onxx'. Did you mean 'onnx'\? Known formats: all, onnx"
    ):
        weights(format="onxx")


def test_a_missing_package_is_named_with_what_installs_it(
    weights: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(
        MissingPackageError, match=r"ONNX files need onnx and onnxscript and onnxruntime.*trainwright\[export\]"
    ):
        weights(format="all")


def test_images_given_as_arrays_are_certified_too(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]]
) -> None:
    images_NHWC = np.random.default_rng(0).integers(0, 256, (60, 20, 24, 3), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images_NHWC, [str(index % 2) for index in range(60)])
    run = train({"epochs": 1}, data=data)

    made = weights(run, data=data)

    assert made["certificate"]["files"]["model.safetensors"]["agreement"] == 1


def test_other_data_than_that_of_the_run_is_refused(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]], tmp_path: Path, digits: Path
) -> None:
    import shutil

    own = tmp_path / "digits"
    shutil.copytree(digits, own)
    run = train({"epochs": 1}, data=own)
    Image.new("RGB", (16, 16), "red").save(next((own / "0").iterdir()))

    with pytest.raises(DataError, match="the data has changed since the run began"):
        weights(run)


def test_a_file_that_is_no_model_is_refused(tmp_path: Path, digits: Path) -> None:
    (tmp_path / "model.onnx").write_text("no model")

    with pytest.raises(RunError, match="is no ONNX file that can be run"):
        predict_exported(tmp_path / "model.onnx", digits)
    with pytest.raises(RunError, match="no such file"):
        predict_exported(tmp_path / "other.onnx", digits)


@pytest.mark.slow
def test_a_detector_of_torchvision_says_what_can_be_exported_of_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images_NHWC = rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    boxes = [np.array([[0, 4.0, 4, 20, 20]])] * 30
    data = tw.Dataset.from_arrays(images_NHWC, boxes, task="detection", classes=["cell"])
    changes = {"epochs": 1, "network.name": "fcos", "network.backbone": "resnet18", "optimizer.lr": 1e-3}
    options = {"runs": tmp_path / "runs", "mirrors": (), "workers": 1}
    run = tw.train(data, changes=changes | {"data.image_size": 32, "precision": "fp32"}, **options)

    with pytest.raises(UsageError, match=r"no graph can be made.*small-detector.*--format safetensors"):
        tw.export(run, data=data, out=tmp_path / "out")

    assert not (tmp_path / "out").exists()
