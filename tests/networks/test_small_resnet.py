"""What the small residual network is made of."""

import pytest
import torch

from trainwright.networks.small_resnet import SmallResNet
from trainwright.recipe import NetworkSpec
from trainwright.training.model import build_network


@pytest.mark.parametrize(
    ("width", "blocks", "millions"), [(32, 1, 0.3), (64, 2, 2.8)], ids=["the default", "the largest that is told"]
)
def test_small_resnet_has_as_many_parameters_as_its_description_says(width, blocks, millions):
    network = SmallResNet(10, NetworkSpec(width=width, blocks=blocks))

    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("blocks", [1, 3])
@pytest.mark.parametrize("side", [4, 9, 32])
def test_small_resnet_takes_any_size(norm, blocks, side):
    network = SmallResNet(7, NetworkSpec(width=8, blocks=blocks, norm=norm, dropout=0.1))

    assert network(torch.zeros(2, 3, side, side)).shape == (2, 7)


def test_weights_are_drawn_with_the_deviation_that_keeps_the_gradients_size():
    """sqrt(2 / (outputs · 3 · 3)), for 64 outputs 0.0589: He et al., arXiv:1502.01852 §2.2. Of 36,864 draws, 2 % is plenty."""
    network = build_network(NetworkSpec(width=64, blocks=2), form="vector", outputs=3, size=(8, 8), seed=0)

    assert network.stage1[0].conv1.weight.std().item() == pytest.approx(0.0589, rel=0.02)
    assert torch.equal(network.stage1[0].norm2.weight, torch.ones(64))


def test_group_norm_leaves_no_statistics_of_the_batch():
    names = [type(module).__name__ for module in SmallResNet(3, NetworkSpec(width=16, norm="group")).modules()]

    assert "GroupNorm" in names
    assert "BatchNorm2d" not in names


def test_dropout_stands_before_the_head():
    network = build_network(NetworkSpec(width=8, dropout=0.3), form="vector", outputs=3, size=(8, 8), seed=0)

    assert network.dropout.p == 0.3
