"""Networks for maps on backbones of timm. Importing segmentation_models_pytorch takes seconds: once, here."""

import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from trainwright.errors import RecipeError, UsageError, WeightsError
from trainwright.recipe import NetworkSpec
from trainwright.training.model import ImageNetwork, build_network, parameter_stages

NAMES = ["unet", "fpn", "deeplabv3plus"]
STAGES = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


def build(name="unet", *, size=(64, 96), outputs=5, seed=0, **spec):
    return build_network(NetworkSpec(name=name, **spec), form="map", outputs=outputs, size=size, seed=seed)


def test_it_is_not_imported_before_one_is_built():
    check = (
        "import sys; from trainwright.plugins import networks; networks.names();"
        "print([name for name in ('timm', 'segmentation_models_pytorch') if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert answer.stdout == "[]\n"


@pytest.mark.parametrize("name", NAMES)
def test_every_pixel_has_its_logits_and_nothing_is_said_aloud(name, capfd):
    network = build(name).eval()

    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 64, 96)
    assert capfd.readouterr() == ("", "")


def test_deeplabv3plus_takes_sides_of_half_the_multiple_of_the_others():
    network = build("deeplabv3plus", size=(48, 80)).eval()

    with torch.no_grad():
        assert network(torch.zeros(1, 3, 48, 80)).shape == (1, 5, 48, 80)


def test_a_backbone_of_a_fixed_size_is_built_for_the_images():
    network = build(backbone="swin_tiny_patch4_window7_224", size=(64, 96)).eval()

    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 5, 64, 96)


@pytest.mark.parametrize(
    ("name", "backbone"), [("unet", "vit_tiny_patch16_224"), ("deeplabv3plus", "swin_tiny_patch4_window7_224")]
)
def test_a_backbone_that_does_not_do_is_refused(name, backbone):
    with pytest.raises(RecipeError) as caught:
        build(name, backbone=backbone)

    assert str(caught.value).startswith(f"network.backbone: {backbone!r} cannot be the backbone of {name} (")
    assert str(caught.value).endswith("such as resnet18, resnet50 or convnext_tiny.")


@pytest.mark.parametrize("name", NAMES)
def test_the_stages_are_the_backbones_and_what_follows_it_is_the_head(name):
    stages = parameter_stages(build(name))

    owners = {name.split(".")[2] if name.startswith("encoder.") else "head": stage for name, stage in stages.items()}
    assert owners == {stage: number for number, stage in enumerate([*STAGES, "head"])}


def test_the_blocks_of_an_efficientnet_are_stages():
    """Stem, its norm, seven rows of blocks, and the head."""
    stages = parameter_stages(build(backbone="efficientnet_b0"))

    assert stages["encoder.model.conv_stem.weight"] == 0
    assert stages["encoder.model.blocks.6.0.conv_pw.weight"] == max(stages.values()) - 1 == 8


def test_a_head_only_training_leaves_the_backbone_and_its_statistics():
    model = ImageNetwork(build(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.freeze("head")
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]

    model.train()(torch.zeros(2, 3, 64, 96)).square().mean().backward()
    torch.optim.SGD(learning, lr=0.1).step()

    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not {name for name in changed if name.startswith("network.encoder.")}


def test_the_random_weights_depend_on_the_seed_alone():
    first, second, other = (build(seed=seed).segmentation_head[1].weight for seed in (1, 1, 2))

    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", NAMES)
def test_dropout_is_on_the_way_to_the_head(name):
    rates = {module.p for module in build(name, dropout=0.25).modules() if "Dropout" in type(module).__name__}

    assert 0.25 in rates


@pytest.mark.parametrize("name", NAMES)
def test_weights_learned_with_dropout_fit_a_network_without(name):
    assert build(name).state_dict().keys() == build(name, dropout=0.25).state_dict().keys()


# Weights of the backbone from the hub cache


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub cache of a client that is offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_the_backbone_starts_from_its_published_weights(hub, capfd):
    import timm

    published = timm.create_model("resnet18", num_classes=1000)
    snapshot = hub / "models--timm--resnet18.a1_in1k" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    save_file(published.state_dict(), snapshot / "model.safetensors")

    network = build(backbone="resnet18.a1_in1k", weights="pretrained")

    weights = network.encoder.model.state_dict()
    assert torch.equal(weights["conv1.weight"], published.conv1.weight)
    assert torch.equal(weights["layer4.1.conv2.weight"], published.layer4[1].conv2.weight)
    assert capfd.readouterr() == ("", "")


def test_weights_of_a_backbone_that_are_not_cached_are_answered_with_three_ways_out(hub):
    with pytest.raises(WeightsError) as caught:
        build(weights="pretrained")

    assert str(caught.value).startswith(
        "network.weights: the pre-trained weights of 'resnet18' (hub repository timm/resnet18) are not in the hub "
        f"cache {hub}, and offline was asked for. Three ways out: "
    )


def test_a_backbone_that_nobody_has_published_weights_of_is_told(hub):
    with pytest.raises(UsageError, match=r"^network\.weights: 'cspresnet50d' has no published weights\."):
        build(backbone="cspresnet50d", weights="pretrained")
