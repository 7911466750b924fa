"""A model as one function of pixels: for every task the answers that the task itself gives, also read from files again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from trainwright.deploy.graph import ServedModel
from trainwright.deploy.onnx import OnnxModel, write_onnx
from trainwright.deploy.program import ProgramModel, write_program
from trainwright.errors import RunError, UsageError
from trainwright.optim.losses import build_loss
from trainwright.plugins import networks, tasks
from trainwright.recipe import LossSpec, NetworkSpec
from trainwright.records import TargetInfo
from trainwright.training.model import ImageNetwork, build_network

SIZE = (32, 48)
TASKS = {
    "classification": ("small-resnet", TargetInfo(names=("a", "b", "c"))),
    "regression": ("small-resnet", TargetInfo(names=("year", "area"), mean=(1990.0, 0.5), std=(12.0, 0.0))),
    "segmentation": ("small-unet", TargetInfo(names=("a", "b", "c"))),
    "detection": ("small-detector", TargetInfo(names=("a", "b"))),
}
LARGE = [  # networks of others, each with something of its own: attention, squeeze and excitation, an encoder in an encoder
    ("classification", {"name": "vit_tiny_patch16_224"}, (224, 224)),
    ("classification", {"name": "efficientnet_b0"}, (64, 64)),
    ("classification", {"name": "convnext_atto"}, (64, 96)),
    ("classification", {"name": "resnet18", "norm": "group"}, (64, 64)),
    ("segmentation", {"name": "unet", "backbone": "resnet18"}, (64, 96)),
    ("segmentation", {"name": "deeplabv3plus", "backbone": "resnet18"}, (64, 96)),
]


def made(name, network=None, size=SIZE):
    """(model, task) of random weights."""
    of_task, info = TASKS[name]
    kind = tasks.get(name)
    task = kind(info, build_loss(LossSpec(), kind.losses))
    spec = NetworkSpec(**({"name": of_task, "width": 8} | (network or {})))
    built = build_network(spec, form=task.form, outputs=task.outputs, size=size, seed=0)
    return ImageNetwork(built, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)).eval(), task


def pixels(count=3, size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def own_answers(model, task, images_NHWC):
    with torch.no_grad():
        outputs = model(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2))
    return task.answers(outputs, None, np.arange(len(images_NHWC))).columns


def assert_same(own, said):
    assert own.keys() <= said.keys()
    for name, column in own.items():
        assert said[name].shape == column.shape
        assert said[name].dtype == column.dtype
        np.testing.assert_allclose(said[name], column, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_the_answers_are_those_of_the_task(name):
    model, task = made(name)

    with torch.no_grad():
        said = ServedModel(model, task, size=SIZE)(torch.from_numpy(pixels()))

    assert_same(own_answers(model, task, pixels()), {key: tensor.numpy() for key, tensor in said.items()})


def test_the_model_itself_stays_as_it_is():
    model, task = made("classification")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    served = ServedModel(model, task, size=SIZE)

    served.scale.zero_()

    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_temperature_divides_the_logits():
    model, task = made("classification")
    own_NK = own_answers(model, task, pixels())["probabilities"].astype(np.float64)

    with torch.no_grad():
        said = ServedModel(model, task, size=SIZE, temperature=2.0)(torch.from_numpy(pixels()))

    expected_NK = np.sqrt(own_NK) / np.sqrt(own_NK).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(said["probabilities"].numpy(), expected_NK, atol=1e-6)


def test_a_task_of_another_package_may_bring_its_own_answers():
    model, _ = made("classification")
    task = SimpleNamespace(
        name="multi-label", form="vector", served=lambda outputs: {"probabilities": outputs.float().sigmoid()}
    )

    served = ServedModel(model, task, size=SIZE)

    assert served.names(SIZE) == ("probabilities",)


def test_a_task_that_brings_none_is_refused():
    model, _ = made("classification")

    with pytest.raises(
        UsageError, match=r"outputs of a network for 'multi-label'.*a method served.*--format safetensors"
    ):
        ServedModel(model, SimpleNamespace(name="multi-label", form="vector"), size=SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_a_torch_program_says_the_same(name, tmp_path):
    model, task = made(name)

    write_program(ServedModel(model, task, size=SIZE), tmp_path / "model.pt2", size=SIZE, metadata={"task": name})

    opened = ProgramModel(tmp_path / "model.pt2")
    assert opened.metadata == {"task": name}
    for count in (1, 3):
        assert_same(own_answers(model, task, pixels(count)), opened(pixels(count)))


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_an_onnx_file_says_the_same(name, tmp_path):
    model, task = made(name)

    write_onnx(ServedModel(model, task, size=SIZE), tmp_path / "model.onnx", size=SIZE, metadata={"names": ["a", "ü"]})

    opened = OnnxModel(tmp_path / "model.onnx", threads=1)
    assert opened.metadata["names"] == '["a", "\\u00fc"]'
    for count in (1, 3):
        assert_same(own_answers(model, task, pixels(count)), opened(pixels(count)))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network", "size"), LARGE, ids=lambda value: str(value))
def test_networks_of_others_say_the_same(name, network, size, tmp_path):
    if network["name"] in networks.names():
        network = {**network, "weights": "random"}
    model, task = made(name, network, size)
    served = ServedModel(model, task, size=size)

    write_onnx(served, tmp_path / "model.onnx", size=size, metadata={})
    write_program(served, tmp_path / "model.pt2", size=size, metadata={})

    own = own_answers(model, task, pixels(2, size))
    for opened in (OnnxModel(tmp_path / "model.onnx", threads=1), ProgramModel(tmp_path / "model.pt2")):
        said = opened(pixels(2, size))
        if name == "segmentation":  # of random weights two classes may be equally probable
            assert (said["masks"] == own["masks"]).mean() > 0.999
        else:
            assert_same(own, said)


def test_a_file_that_is_no_program_is_refused(tmp_path):
    (tmp_path / "model.pt2").write_text("no program")

    with pytest.raises(RunError, match=r"model\.pt2: is no torch\.export program that can be run"):
        ProgramModel(tmp_path / "model.pt2")
