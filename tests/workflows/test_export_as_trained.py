"""What is certified of an export: that the model is still the one that was judged, and what each file has inside."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import trainwright as tw
from trainwright.deploy import reader
from trainwright.deploy.graph import ServedModel
from trainwright.errors import GoalNotMetError, UsageError
from trainwright.workflows import certified, export_subject
from trainwright.workflows import export as workflow
from trainwright.workflows.exported import predict_exported


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
    assert "Nor are they divided by the temperature of 2" in card


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
    weights: Callable[..., dict[str, Any]], trained: tw.Run, digits: Path
) -> None:
    made = weights(format="onnx", calibrated=True)

    plain = tw.predict(trained, digits / "1", device="cpu")
    _, honest = predict_exported(Path(made["folder"], "model.onnx"), digits / "1")

    roots = [np.sqrt(list(item["probabilities"].values())) for item in plain]
    expected = [root / root.sum() for root in roots]
    np.testing.assert_allclose([list(item["probabilities"].values()) for item in honest], expected, atol=1e-5)


def test_without_a_temperature_nothing_can_be_calibrated(weights: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(GoalNotMetError, match="calibrated: the run's diagnosis found no temperature"):
        weights(calibrated=True)


@pytest.mark.parametrize(
    ("task", "figures", "refused"),
    [
        ("classification", {"temperature": 1.4, "temperature_gain_low": 0.01}, None),
        ("classification", {"temperature": 1.4, "temperature_gain_low": -0.01}, "it is not sure that any temperature"),
        ("classification", {"temperature": 1.4}, "it is not sure that any temperature.* best one found is 1.40"),
        ("classification", {}, "found no temperature"),
        ("segmentation", {"temperature": 1.4, "temperature_gain_low": 0.01}, "segmentation has no probabilities"),
    ],
)
def test_a_temperature_is_taken_where_it_surely_helps(
    task: str, figures: dict[str, float], refused: str | None
) -> None:
    result = {"findings": [{"rule": "over-confident", "verdict": "cannot-tell", "figures": figures}]}
    error = GoalNotMetError if task == "classification" else UsageError
    expected = nullcontext() if refused is None else pytest.raises(error, match=refused)

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

    with pytest.raises(
        GoalNotMetError, match=r"no longer answers as it did when it was judged: .*difference 0\.\d+ \(probability\)"
    ):
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
