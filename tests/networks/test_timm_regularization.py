"""Dropout and stochastic depth inside networks of timm, and of ours that stand on one: there, or refused."""

import pytest
import torch
from timm.layers import DropBlock2d, DropPath
from torch import nn

from trainwright.errors import RecipeError
from trainwright.networks.timm_regularization import inner_rates
from trainwright.recipe import NetworkSpec
from trainwright.training.model import build_network

BACKED = [("unet", "map"), ("fpn", "map"), ("deeplabv3plus", "map"), ("retinanet", "boxes"), ("fcos", "boxes")]


def build(name, form="vector", **spec):
    spec = {"backbone": "resnet10t", **spec}
    return build_network(NetworkSpec(name=name, **spec), form=form, outputs=3, size=(64, 64), seed=0)


def path_rates(network):
    return [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("test_resnet", "drop_block_rate"),
        ("test_vit", "proj_drop_rate"),
        ("swin_tiny_patch4_window7_224", "proj_drop_rate"),
        ("densenet121", "proj_drop_rate"),
    ],
)
def test_dropout_inside_is_what_the_family_has(name, option):
    assert inner_rates(NetworkSpec(block_dropout=0.3), name) == {option: 0.3}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "convnext_atto", "efficientnet_b0"])
def test_stochastic_depth_has_one_name_in_all_families(name):
    assert inner_rates(NetworkSpec(drop_path=0.3), name) == {"drop_path_rate": 0.3}


def test_nothing_asked_is_nothing_set():
    """So that what a network has by itself stays, such as the stochastic depth of a Swin."""
    assert inner_rates(NetworkSpec(), "swin_tiny_patch4_window7_224") == {}


@pytest.mark.parametrize("name", ["convnext_atto", "efficientnet_b0"])
def test_a_network_without_dropout_inside_is_refused(name):
    with pytest.raises(RecipeError) as caught:
        build(name, block_dropout=0.3)

    assert str(caught.value) == (
        f"network.block_dropout: {name!r} has no dropout inside. Set it to 0, or take a network that has it: "
        "small-resnet, resnet18 or vit_tiny_patch16_224."
    )


@pytest.mark.parametrize(("name", "form", "spec"), [("vgg11", "vector", {}), ("unet", "map", {"backbone": "vgg11"})])
def test_a_network_without_stochastic_depth_is_refused(name, form, spec):
    with pytest.raises(RecipeError) as caught:
        build(name, form, drop_path=0.3, **spec)

    assert str(caught.value) == (
        "network.drop_path: 'vgg11' has no stochastic depth. Set it to 0, or take a network that has it: "
        "small-resnet, resnet18 or convnext_tiny."
    )


def test_a_resnet_drops_patches_in_its_last_two_stages_and_blocks_ever_more_often():
    """timm's rule of rates: number of the block over that of the last. test_resnet has four stages of one block."""
    network = build("test_resnet", block_dropout=0.2, drop_path=0.3)

    with_patches = {name.split(".")[0] for name, m in network.named_modules() if isinstance(m, DropBlock2d)}
    assert with_patches == {"layer3", "layer4"}
    assert path_rates(network) == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(("name", "form"), BACKED)
def test_a_network_on_a_backbone_has_them_in_its_backbone(name, form):
    network = build(name, form, drop_path=0.3, block_dropout=0.2)

    assert max(path_rates(network.encoder)) == pytest.approx(0.3)
    assert any(isinstance(module, DropBlock2d) for module in network.encoder.modules())


@pytest.mark.parametrize(("name", "form"), [("test_resnet", "vector"), ("test_vit", "vector"), ("unet", "map")])
@pytest.mark.parametrize("spec", [{"dropout": 0.5}, {"block_dropout": 0.5}, {"drop_path": 0.5}], ids=str)
def test_each_kind_of_dropout_acts_in_train_mode_and_only_there(name, form, spec):
    """With every norm's scale at 1: timm starts the last one of a block at 0, and then there is nothing to leave out."""
    network, plain = build(name, form, **spec), build(name, form)
    for norm in (module for module in plain.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.ones_(norm.weight)
    network.load_state_dict(plain.state_dict())
    images_NCHW = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(1)
        torch.testing.assert_close(network.eval()(images_NCHW), plain.eval()(images_NCHW), rtol=0, atol=0)
        assert not torch.equal(network.train()(images_NCHW), network(images_NCHW))


@pytest.mark.parametrize(("name", "form"), [("test_resnet", "vector"), ("unet", "map"), ("retinanet", "boxes")])
def test_what_is_left_out_leaves_the_first_weights_as_they_are(name, form):
    plain = build(name, form).state_dict()
    other = build(name, form, block_dropout=0.2, drop_path=0.3).state_dict()

    assert plain.keys() == other.keys()
    assert [key for key in plain if not torch.equal(plain[key], other[key])] == []


@pytest.mark.parametrize("name", ["faster-rcnn", "retinanet", "fcos"])
def test_dropout_before_the_head_of_torchvisions_detectors_is_refused(name):
    with pytest.raises(RecipeError) as caught:
        build(name, "boxes", dropout=0.2)

    assert str(caught.value) == (
        f"network.dropout: {name!r} has no dropout before its head. "
        "Set it to 0; small-detector has it, and network.drop_path acts in the backbone."
    )


@pytest.mark.parametrize(
    ("name", "form"),
    [("test_resnet", "vector"), ("efficientnet_b0", "vector"), *BACKED, ("faster-rcnn", "boxes")],
)
def test_group_norm_leaves_no_batch_norm_in_any_kind_of_network(name, form):
    plain = build(name, form, backbone="efficientnet_b0")

    network = build(name, form, backbone="efficientnet_b0", norm="group")

    kinds = {type(module).__name__ for module in network.modules()}
    assert not {kind for kind in kinds if "BatchNorm" in kind}
    assert {kind for kind in kinds if "GroupNorm" in kind}
    weights = dict(network.named_parameters())
    assert [key for key, value in plain.named_parameters() if not torch.equal(weights[key], value)] == []


@pytest.mark.parametrize(("name", "form"), [("test_resnet", "vector"), ("unet", "map")])
def test_with_group_norm_an_image_does_not_change_the_answer_for_another(name, form):
    network = build(name, form, norm="group").train()
    images_NCHW = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    with torch.no_grad():
        torch.testing.assert_close(network(images_NCHW)[:1], network(images_NCHW[:1]), rtol=1e-4, atol=1e-4)


def test_group_norm_takes_what_mixed_precision_hands_it():
    network = build("test_resnet", norm="group").to(memory_format=torch.channels_last).train()
    images_NCHW = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images_NCHW = images_NCHW.contiguous(memory_format=torch.channels_last)
    exact = network(images_NCHW)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(images_NCHW)
    half.float().square().mean().backward()

    torch.testing.assert_close(half.float(), exact, rtol=0.05, atol=0.02)
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters())


def test_a_transformer_has_no_batch_norm_to_replace():
    with pytest.raises(
        RecipeError, match=r"^network\.norm: 'test_vit' has no batch norm that group norm could stand in"
    ):
        build("test_vit", norm="group")


def test_norms_of_tokens_are_refused():
    with pytest.raises(RecipeError, match=r"of 'repvit_m0_9' is a BatchNorm1d, which group norm cannot stand in for\."):
        build("repvit_m0_9", norm="group")


def test_a_norm_with_an_activation_inside_keeps_it():
    """Of an EfficientNet nearly every activation is inside of a norm."""

    def activations(network):
        return sum(isinstance(module, nn.SiLU) for module in network.modules())

    assert activations(build("efficientnet_b0", norm="group")) == activations(build("efficientnet_b0")) > 40
