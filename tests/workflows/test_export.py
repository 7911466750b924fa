"""A model handed over: what is written, that it answers as the run does, and that nothing is written where it does not."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import trainwright as tw
from trainwright.deploy import onnx, reader
from trainwright.deploy.graph import ServedModel
from trainwright.errors import DataError, GoalNotMetError, MissingPackageError, RunError, UnknownNameError, UsageError
from trainwright.workflows import certified, export_subject
from trainwright.workflows import export as workflow
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


@pytest.fixture
def weights(trained: tw.Run, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """(any argument) → an export of the weights alone, which is quick, into `tmp_path / "out"`."""

    def start(run: Any = trained, **more: Any) -> dict[str, Any]:
        arguments = {"format": "safetensors", "out": tmp_path / "out", "workers": 1, **more}
        return tw.export(run, **arguments)

    return start


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
    program = code.replace("photo.jpg", str(photo)) + "print(label[0], f'{probabilities[0].sum():.4f}')"

    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)

    _, (own,) = predict_exported(folder / "model.onnx", photo)
    assert done.stdout == f"{own['label']} 1.0000\n"


def test_weights_start_another_run(folder: Path, train: Callable[..., tw.Run]) -> None:
    run = train({"network.weights": str(folder / "model.safetensors"), "epochs": 1, "optimizer.lr": 1e-9})

    assert run.finished


def test_weights_alone_come_without_a_graph(weights: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    made = weights()

    assert made["outputs"] == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        name for name in FILES if name not in ("model.onnx", "model.pt2")
    ]


def test_a_later_export_leaves_nothing_of_the_one_before(
    weights: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    weights()
    (tmp_path / "out" / "model.pt2").write_text("of another format")

    weights()

    assert not (tmp_path / "out" / "model.pt2").exists()


def test_it_lies_in_the_run_unless_said_otherwise(train: Callable[..., tw.Run]) -> None:
    run = train({"epochs": 1})

    made = tw.export(run, format="safetensors", workers=1)

    assert made["folder"] == str(run.folder / "export")
    assert (run.folder / "export" / "certificate.json").is_file()


def test_a_breach_leaves_nothing_at_all(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = reader.read_image
    monkeypatch.setattr(reader, "read_image", lambda path, spec: true(path, spec)[::-1].copy())  # upside down

    with pytest.raises(GoalNotMetError, match=r"model\.safetensors: does not answer as the model does: agreement 0"):
        weights()
    assert list(tmp_path.iterdir()) == []


def test_a_breach_leaves_an_earlier_export_as_it_was(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(reader, "read_image", lambda path, spec: np.zeros((16, 16, 3), np.uint8))

    with pytest.raises(GoalNotMetError):
        weights()

    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_file_that_the_reader_cannot_read_is_a_breach(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, spec: Any) -> np.ndarray:
        raise SyntaxError("not a TIFF file")  # as Pillow says of damaged EXIF data

    monkeypatch.setattr(reader, "read_image", refuse)

    with pytest.raises(GoalNotMetError, match=r"\.png: the exported reader cannot read it \(not a TIFF file"):
        weights()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def temperature_of_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """A diagnosis that found it."""
    monkeypatch.setattr(export_subject, "found_temperature", lambda result, task: 2.0)


@pytest.mark.usefixtures("temperature_of_2")
def test_weights_are_certified_for_what_they_say_which_has_no_temperature(
    weights: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    made = weights(calibrated=True)

    held = made["certificate"]["files"]["model.safetensors"]
    assert (made["temperature"], made["certificate"]["temperature"], held["temperature"]) == (2, 2, 1)
    assert held["agreement"] == 1
    text, card = ((tmp_path / "out" / name).read_text() for name in ("certificate.txt", "README.md"))
    assert "held against the model without the temperature of 2, which is not in this file" in text
    assert "probabilities = (outputs / 2.0).softmax(dim=1)" not in card  # of a network of ours, which needs the package
    assert "Nor is the temperature of 2" in card


@pytest.mark.usefixtures("temperature_of_2")
def test_a_graph_with_another_temperature_is_refused(
    weights: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(subject: Any) -> ServedModel:
        return ServedModel(subject.network, subject.task, size=subject.recipe.data.size, temperature=1.9).eval()

    monkeypatch.setattr(workflow, "_served", other)

    with pytest.raises(GoalNotMetError, match=r"model\.pt2: does not answer as the model does: .*\(probability\)"):
        weights(format="torch", calibrated=True)


@pytest.mark.slow
@pytest.mark.usefixtures("temperature_of_2")
def test_the_temperature_is_inside_of_the_graph(
    weights: Callable[..., dict[str, Any]], digits: Path, folder: Path
) -> None:
    made = weights(format="onnx", calibrated=True)

    _, plain = predict_exported(folder / "model.onnx", digits / "1")
    _, honest = predict_exported(Path(made["folder"], "model.onnx"), digits / "1")

    roots = [np.sqrt(list(item["probabilities"].values())) for item in plain]
    expected = [root / root.sum() for root in roots]
    np.testing.assert_allclose([list(item["probabilities"].values()) for item in honest], expected, atol=1e-5)


def test_without_a_temperature_nothing_can_be_calibrated(weights: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(UsageError, match="calibrated: the run's diagnosis found no temperature"):
        weights(calibrated=True)


@pytest.mark.parametrize(
    ("task", "figures", "refused"),
    [
        ("classification", {"temperature": 1.4, "temperature_gain_low": 0.01}, None),
        ("classification", {"temperature": 1.4, "temperature_gain_low": -0.01}, "it is not sure that any temperature"),
        ("classification", {"temperature": 1.4}, "it is not sure that any temperature.* best one found is 1.40"),
        ("classification", {}, "found no temperature"),
        ("segmentation", {"temperature": 1.4, "temperature_gain_low": 0.01}, "found no temperature"),
    ],
)
def test_a_temperature_is_taken_where_it_surely_helps(
    task: str, figures: dict[str, float], refused: str | None
) -> None:
    result = {"findings": [{"rule": "over-confident", "verdict": "cannot-tell", "figures": figures}]}
    expected = nullcontext() if refused is None else pytest.raises(UsageError, match=refused)

    with expected:
        assert export_subject.found_temperature(result, SimpleNamespace(name=task)) == 1.4


class Small(nn.Module):
    """A small network for images of 16 x 16 pixels and three classes."""

    def __init__(self, activation: type[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(768, 16, bias=False), nn.BatchNorm1d(16), activation(), nn.Linear(16, 3)
        )

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.layers(images_NCHW)


def test_a_module_of_the_same_tensors_that_computes_something_else_is_refused(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = train(model=Small(nn.ReLU))

    with pytest.raises(GoalNotMetError, match="the model no longer answers as it did when it was judged: agreement 0"):
        weights(run, model=Small(nn.Softsign))
    assert not (tmp_path / "out").exists()

    trained = weights(run, model=Small(nn.ReLU))["certificate"]["trained"]
    assert (trained["agreement"], trained["least"], trained["images"]) == (1, 0.999, 27)


def test_of_a_training_on_the_validation_images_the_answers_that_were_kept_are_held(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]]
) -> None:
    run = train({"data.train_on": "train+val", "keep": "last"}, model=Small(nn.ReLU))

    made = weights(run, model=Small(nn.ReLU))

    assert made["certificate"]["trained"]["agreement"] == 1
    with pytest.raises(GoalNotMetError, match="no longer answers as it did"):
        weights(run, model=Small(nn.Softsign))


def test_a_run_in_bf16_is_held_against_its_answers_with_room_for_rounding(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]]
) -> None:
    made = weights(train({"precision": "bf16"}))

    trained = made["certificate"]["trained"]
    assert trained["least"] == 0.98
    assert trained["agreement"] >= 0.98


def test_without_kept_answers_there_is_nothing_to_hold_it_against(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]]
) -> None:
    run = train({"epochs": 1})
    (run.folder / "answers" / "val.npz").unlink()

    assert weights(run)["certificate"]["trained"] is None


def test_mirror_images_are_told_of_in_certificate_and_card(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    run = train({"epochs": 1, "test_time_flip": True}, model=Small(nn.ReLU))

    made = weights(run, model=Small(nn.ReLU))

    assert made["certificate"]["test_time_flip"]
    text, card = ((tmp_path / "out" / name).read_text() for name in ("certificate.txt", "README.md"))
    assert "An answer is the mean of those to the image and to its mirror image." in text
    assert "outputs = (network(images) + network(images.flip(-1))) / 2" in card


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # a file that is left open, as short code does
def test_the_code_for_the_weights_gives_the_answers_of_the_run(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]], tmp_path: Path, digits: Path
) -> None:
    run = train({"epochs": 1, "test_time_flip": True}, model=Small(nn.ReLU))
    weights(run, model=Small(nn.ReLU))
    card, photo = (tmp_path / "out" / "README.md").read_text(), next((digits / "2").iterdir())
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    scope: dict[str, Any] = {"network_given": Small(nn.ReLU)}

    code = code.replace("network = ...", "network = network_given").replace("photo.jpg", str(photo))
    code = code.replace('"export.json"', repr(str(tmp_path / "out" / "export.json")))
    code = code.replace('"model.safetensors"', repr(str(tmp_path / "out" / "model.safetensors")))
    exec(code.replace("from reader import", "from trainwright.deploy.reader import"), scope)

    (own,) = tw.predict(run, photo, model=Small(nn.ReLU), device="cpu")
    np.testing.assert_allclose(scope["probabilities"][0].numpy(), list(own["probabilities"].values()), atol=1e-5)


def test_one_answer_for_every_image_is_told_of(
    train: Callable[..., tw.Run], weights: Callable[..., dict[str, Any]]
) -> None:
    run = train({"epochs": 1, "optimizer.lr": 1e-9, "network.norm": "group"})

    assert "Every answer of the model is " in weights(run)["certificate"]["note"]


def test_every_image_is_read_once_whatever_the_formats(
    weights: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    true, asked = reader.read_image, []
    monkeypatch.setattr(certified, "_reading_seconds", lambda files, spec: 0.001)
    monkeypatch.setattr(reader, "read_image", lambda path, spec: asked.append(path) or true(path, spec))
    both = {"torch": "model.pt2", "safetensors": "model.safetensors"}
    monkeypatch.setattr(workflow, "FILES", both)

    made = weights(format="all")

    assert list(made["certificate"]["files"]) == list(both.values())
    assert len(asked) == len(set(asked)) == 27


def test_an_answer_that_hangs_on_the_other_images_is_refused(
    weights: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = workflow.in_torch

    def batched(*arguments: Any, **more: Any) -> Any:
        runs = true(*arguments, **more)

        def answers(images_NHWC: np.ndarray) -> Any:
            said = dict(runs(images_NHWC))
            return said if len(images_NHWC) > 1 else {"probabilities": said["probabilities"][:, ::-1]}

        return answers

    monkeypatch.setattr(workflow, "in_torch", batched)

    with pytest.raises(GoalNotMetError, match="answers otherwise to an image by itself than among others"):
        weights()


def test_an_export_that_was_killed_is_made_up_for(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, left = Path.replace, iter([None, None])

    def killed(path: Path, target: Path) -> Path:
        if path.parent.name.startswith(".export-") and target.parent == tmp_path / "out" and next(left, path) is path:
            raise KeyboardInterrupt
        return true(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            weights()
    (tmp_path / "out" / ".export-of-a-killed-one").mkdir()
    lay = sorted(path.name for path in (tmp_path / "out").iterdir())

    weights()

    assert lay == [".export-of-a-killed-one", "README.md", "export.json"]
    assert ".export-of-a-killed-one" not in [path.name for path in (tmp_path / "out").iterdir()]
    assert (tmp_path / "out" / "certificate.json").is_file()


def test_it_is_made_within_its_folder_and_renamed_there(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()  # as where another disk is mounted: nothing can be renamed into it from beside it
    true = Path.replace
    moved: list[tuple[Path, Path]] = []
    monkeypatch.setattr(Path, "replace", lambda path, target: moved.append((path, Path(target))) or true(path, target))

    weights()

    into = [(path, target) for path, target in moved if target.parent == tmp_path / "out"]
    assert len(into) == 6
    assert all(path.is_relative_to(tmp_path / "out") for path, _ in into)


def test_a_card_that_was_filled_in_is_kept(
    weights: Callable[..., dict[str, Any]], tmp_path: Path, listener: Any
) -> None:
    weights()
    weights()
    (tmp_path / "out" / "README.md").write_text("license: mit")

    weights(reporter=listener)

    assert (tmp_path / "out" / "README.md.bak").read_text() == "license: mit"
    assert (tmp_path / "out" / "README.md").read_text().startswith("---\nlicense: unknown")
    assert "the card that lay there had been changed: it is kept as README.md.bak" in listener.notes

    (tmp_path / "out" / "README.md").write_text("license: bsd")
    weights()

    kept = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.bak*")}
    assert kept == {"README.md.bak": "license: mit", "README.md.bak-2": "license: bsd"}


def test_a_folder_of_other_things_is_left_alone(weights: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "README.md").write_text("mine")

    with pytest.raises(UsageError, match="out: is not empty, and no earlier export lies there"):
        weights()
    assert (tmp_path / "out" / "README.md").read_text() == "mine"


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
