"""Weights that were asked for are found, filled in, or refused with what to do, before anything heavy is imported."""

import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn

from trainwright.errors import UsageError, WeightsError
from trainwright.recipe import NetworkSpec
from trainwright.training import weights
from trainwright.training.model import ImageNetwork, build_network
from trainwright.training.weights import cached_weights, check_weights, load_weight_file, saved_normalization

PRETRAINED = NetworkSpec(name="resnet18", weights="pretrained")
ASK = """
import sys, time
from trainwright.recipe import NetworkSpec
from trainwright.training.weights import check_weights
started = time.perf_counter()
try:
    check_weights(NetworkSpec(name="resnet18", weights="pretrained"), offline=OFFLINE)
except OSError as error:
    print(error)
print(time.perf_counter() - started < 1.0)
print([name for name in ("torch", "timm", "torchvision") if name in sys.modules])
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache, and a client that has not been told to be offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    return tmp_path


@pytest.fixture
def answering(hub, monkeypatch):
    """(yes or no) → the hub answers, or does not: a port of this machine that is open, or was."""

    def set_up(yes):
        server = socket.create_server(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.delenv("HTTPS_PROXY", raising=False)
        monkeypatch.delenv("https_proxy", raising=False)
        return server if yes else server.close()

    return set_up


def cache(hub: Path, repository: str, file: str = "model.safetensors") -> Path:
    path = hub / f"models--timm--{repository}" / "snapshots" / "abc" / file
    path.parent.mkdir(parents=True)
    path.touch()
    return path


# Whether they can be had


@pytest.mark.parametrize(
    ("offline", "why"),
    [("True", "offline was asked for"), ("False", "http://127.0.0.1:9 cannot be reached")],
    ids=["offline", "unreachable"],
)
def test_missing_weights_are_told_at_once_with_three_ways_out(tmp_path, offline, why):
    """Within a second, and without importing torch, which takes longer than that."""
    environment = {
        name: value for name, value in os.environ.items() if name.upper() not in ("HTTPS_PROXY", "HF_HUB_OFFLINE")
    }
    environment |= {"HF_HUB_CACHE": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}

    answer = subprocess.run(
        [sys.executable, "-c", ASK.replace("OFFLINE", offline)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert answer.stdout.splitlines() == [
        "network.weights: the pre-trained weights of 'resnet18' (hub repository timm/resnet18) are not in the hub cache "
        f"{tmp_path}, and {why}. "
        "Three ways out: (1) give a file of weights, --set network.weights=FILE.safetensors; "
        "(2) on a machine with a network run 'hf download timm/resnet18…' and copy its hub cache here "
        "(or set HF_HUB_CACHE to it); "
        "(3) start from random weights, --set network.weights=random.",
        "True",
        "[]",
    ]


def test_random_weights_need_nothing(hub):
    check_weights(NetworkSpec(name="resnet18"), offline=True)


def test_cached_weights_suffice_without_a_network(hub):
    cache(hub, "resnet18.a1_in1k")

    check_weights(PRETRAINED, offline=True)


def test_a_hub_that_answers_suffices_without_a_cache(answering):
    with answering(True):
        check_weights(PRETRAINED, offline=False)

    assert os.environ["HF_HUB_OFFLINE"] == "0"


def test_a_hub_that_does_not_answer_is_named(hub, answering):
    answering(False)

    with pytest.raises(WeightsError, match=r"and http://127\.0\.0\.1:\d+ cannot be reached\. Three ways out"):
        check_weights(PRETRAINED, offline=False)


def test_a_user_who_is_offline_is_not_asked_for_a_connection(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was tried"))

    with pytest.raises(WeightsError):
        check_weights(PRETRAINED, offline=False)


def test_a_hub_client_that_is_imported_already_is_told_to_be_offline(hub):
    """It reads the environment once, at its import; told too late it retries for most of a minute."""
    cache(hub, "resnet18.a1_in1k")

    check_weights(PRETRAINED, offline=True)

    assert constants.is_offline_mode()
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_the_weights_of_a_network_on_a_backbone_are_its_backbones(hub):
    spec = NetworkSpec(name="unet", backbone="resnet34", weights="pretrained")
    cache(hub, "resnet34.a1_in1k")

    check_weights(spec, offline=True)

    with pytest.raises(WeightsError, match=r"the pre-trained weights of 'resnet18' \(hub repository timm/resnet18\)"):
        check_weights(spec.model_copy(update={"backbone": "resnet18"}), offline=True)


@pytest.mark.parametrize("name", ["small-resnet", "small-unet"])
def test_a_network_that_is_ours_from_end_to_end_has_no_published_weights(hub, name):
    with pytest.raises(UsageError) as caught:
        check_weights(NetworkSpec(name=name, weights="pretrained"), offline=True)

    assert str(caught.value) == (
        f"network.weights: {name!r} has no published weights. Use --set network.weights=random, "
        "or a network that has some: resnet18, or one on a backbone such as unet."
    )


# What is in the cache


def test_a_name_without_its_tag_finds_every_tag(hub):
    first, second = cache(hub, "resnet18.a1_in1k"), cache(hub, "resnet18.fb_ssl", "pytorch_model.bin")

    assert cached_weights("resnet18") == [first, second]


def test_a_name_with_its_tag_finds_that_alone(hub):
    cache(hub, "resnet18.a1_in1k")
    wanted = cache(hub, "resnet18.fb_ssl")

    assert cached_weights("resnet18.fb_ssl") == [wanted]


@pytest.mark.parametrize("repository", ["resnet18d.ra2_in1k", "resnet180.a1_in1k", "xresnet18.a1_in1k"])
def test_a_network_whose_name_begins_the_same_is_another(hub, repository):
    cache(hub, repository)

    assert cached_weights("resnet18") == []


def test_a_repository_without_weights_does_not_count(hub):
    """As a download that was cut short leaves it."""
    cache(hub, "resnet18.a1_in1k", "config.json")

    assert cached_weights("resnet18") == []


# Files of weights


@pytest.mark.parametrize("file", ["gone.safetensors", "pretraned", "."], ids=["missing", "misspelt", "a folder"])
def test_a_file_that_is_not_there_is_named(tmp_path, file):
    path = tmp_path / file

    with pytest.raises(WeightsError) as caught:
        check_weights(NetworkSpec(weights=str(path)), offline=True)

    assert str(caught.value) == (
        f"network.weights: {path}: no such file. Give random, pretrained, or the path of a file of weights."
    )


def test_a_file_too_large_for_weights_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MAX_WEIGHT_BYTES", 10)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(bytes(11))

    with pytest.raises(WeightsError, match=r"weights\.safetensors: larger than 10 bytes\. Check the path\.$"):
        check_weights(NetworkSpec(weights=str(path)), offline=True)


def small(outputs: int = 3, *, seed: int = 0) -> nn.Module:
    return build_network(NetworkSpec(width=8), form="vector", outputs=outputs, size=(8, 8), seed=seed)


def write(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    {".safetensors": save_file, ".pth": torch.save}[path.suffix](tensors, path)
    return path


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_file_fills_the_network(tmp_path, ending, tensors_of, assert_same):
    path = write(tmp_path / f"weights{ending}", small(seed=1).state_dict())
    network = small(seed=2)

    unfilled = load_weight_file(network, path)

    assert unfilled == []
    assert_same(tensors_of(network), tensors_of(small(seed=1)))


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_head_for_other_classes_is_left_out(tmp_path, ending):
    given = small(outputs=1000, seed=1)
    path = write(tmp_path / f"weights{ending}", given.state_dict())

    network = build_network(NetworkSpec(width=8, weights=str(path)), form="vector", outputs=3, size=(8, 8), seed=2)

    assert torch.equal(network.stem[0].weight, given.stem[0].weight)
    assert torch.equal(network.head.weight, small(seed=2).head.weight)
    assert load_weight_file(network, path) == ["head.weight", "head.bias"]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "network.", "module._orig_mod.network."])
def test_names_that_wrappers_put_in_front_are_taken_off(tmp_path, prefix):
    own = small(seed=1).state_dict()
    path = write(tmp_path / "weights.safetensors", {f"{prefix}{name}": tensor for name, tensor in own.items()})

    assert load_weight_file(small(), path) == []


def test_a_network_whose_own_names_begin_like_a_wrappers_is_filled(tmp_path):
    """timm's volo_d1_224 has its stages in an attribute called `network`."""
    network = nn.ModuleDict({"network": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})
    path = write(tmp_path / "weights.safetensors", network.state_dict())

    assert load_weight_file(network, path) == []


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_a_state_dict_inside_a_training_checkpoint_is_found(tmp_path, key):
    path = tmp_path / "checkpoint.pth"
    torch.save({key: small(seed=1).state_dict(), "epoch": 3}, path)

    assert load_weight_file(small(), path) == []


def test_weights_of_another_network_are_refused(tmp_path, tensors_of, assert_same):
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    path = write(tmp_path / "weights.safetensors", other.state_dict())
    network = small()

    with pytest.raises(WeightsError) as caught:
        load_weight_file(network, path)

    assert str(caught.value) == (
        f"{path}: fills 0 of the network's 56 tensors: these are weights of another network. "
        "It has for example 0.bias, 0.weight, 1.bias; expected stem.0.weight, stem.1.weight, stem.1.bias. "
        "Check network.name."
    )
    assert_same(tensors_of(network), tensors_of(small()))


def test_weights_of_another_width_are_refused(tmp_path):
    other = build_network(NetworkSpec(width=16), form="vector", outputs=3, size=(8, 8), seed=0)
    path = write(tmp_path / "weights.safetensors", other.state_dict())

    with pytest.raises(WeightsError, match="these are weights of another network"):
        load_weight_file(small(), path)


class Malicious:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("ending", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("write_pickle", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, ending, write_pickle):
    target = tmp_path / "it ran"
    path = tmp_path / f"weights{ending}"
    write_pickle({"weight": torch.ones(2), "surprise": Malicious(target)}, path)

    with pytest.raises(WeightsError) as caught:
        load_weight_file(small(), path)

    assert not target.exists()
    assert str(caught.value).startswith(f"{path}: cannot be read as weights (")
    assert str(caught.value).endswith("Give a .safetensors file, or a .pth file that holds only a state dict.")


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"], ids=["empty", "text", "half a zip"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path, ending, content):
    path = tmp_path / f"weights{ending}"
    path.write_bytes(content)

    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_weight_file(small(), path)


def test_a_file_of_a_single_tensor_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(torch.ones(3), path)

    with pytest.raises(WeightsError) as caught:
        load_weight_file(small(), path)

    assert str(caught.value) == f"{path}: holds a Tensor, expected a state dict. Save model.state_dict()."


def test_weights_of_a_larger_network_of_the_same_family_are_refused(tmp_path):
    larger = build_network(NetworkSpec(width=8, blocks=3), form="vector", outputs=2, size=(16, 16), seed=0)
    save_file(larger.state_dict(), tmp_path / "larger.safetensors")
    smaller = build_network(NetworkSpec(width=8, blocks=1), form="vector", outputs=2, size=(16, 16), seed=0)

    with pytest.raises(WeightsError, match=r"that the network has no place for \(for example .*larger network"):
        load_weight_file(smaller, tmp_path / "larger.safetensors")


def test_a_model_of_an_earlier_run_brings_its_normalization_along(tmp_path):
    network = build_network(NetworkSpec(width=8), form="vector", outputs=2, size=(16, 16), seed=0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    save_file(ImageNetwork(network, mean=mean, std=std).state_dict(), tmp_path / "model.safetensors")

    saved = saved_normalization(tmp_path / "model.safetensors")

    assert saved == (pytest.approx(mean, rel=1e-6), pytest.approx(std, rel=1e-6))


def test_a_file_from_elsewhere_brings_no_normalization(tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "other.safetensors")

    assert saved_normalization(tmp_path / "other.safetensors") is None


def test_a_network_of_ones_own_starts_from_a_file_of_weights(tmp_path):
    given, own = nn.Linear(3, 2), nn.Linear(3, 2)
    save_file(given.state_dict(), tmp_path / "own.safetensors")

    build_network(
        NetworkSpec(weights=str(tmp_path / "own.safetensors")),
        form="vector",
        outputs=2,
        size=(8, 8),
        seed=0,
        custom=own,
    )

    assert torch.equal(own.weight, given.weight)


def test_a_network_of_ones_own_has_no_published_weights():
    with pytest.raises(UsageError, match="no published weights for a network of your own"):
        build_network(
            NetworkSpec(weights="pretrained"), form="vector", outputs=2, size=(8, 8), seed=0, custom=nn.Linear(3, 2)
        )
