"""What the network of nine layers is made of."""

import pytest
import torch

from trainwright.errors import UsageError
from trainwright.networks.small_resnet_9 import ResNet9
from trainwright.recipe import NetworkSpec
from trainwright.training.model import build_network, parameter_stages


def network(outputs=10, **spec):
    return ResNet9(outputs, NetworkSpec(name="small-resnet-9", **{"width": 8, **spec}))


def test_it_has_as_many_parameters_as_its_description_says():
    assert round(sum(p.numel() for p in network(width=16).parameters()) / 1e6, 1) == 0.4


def test_it_has_nine_layers_with_weights():
    layers = [module for module in network().modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]

    assert len(layers) == 9


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("side", [8, 9, 33])
def test_it_takes_any_size_from_eight_pixels_on(norm, side):
    assert network(7, norm=norm, blocks=2, drop_path=0.2, dropout=0.1)(torch.zeros(2, 3, side, side)).shape == (2, 7)


def test_smaller_images_are_refused_with_the_cure():
    with pytest.raises(
        UsageError, match=r"network.name: small-resnet-9 .* needs 8 pixels a side; these have 6. Set data.image_size"
    ):
        build_network(NetworkSpec(name="small-resnet-9"), form="vector", outputs=3, size=(6, 32), seed=0)


def test_a_pair_adds_to_what_came_in():
    """With weights of zero in what is added, only what came in is left."""
    built = network().eval()
    pair = built.pairs1[0]
    for parameter in pair.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 16, 4, 4)

    torch.testing.assert_close(pair(x), x)


def test_pooling_before_the_norm_answers_what_pooling_after_the_relu_does_where_scales_are_positive():
    torch.manual_seed(0)
    layer = network().eval().stage1
    convolution, pool, norm, relu = layer
    torch.nn.init.uniform_(norm.weight, 0.1, 2.0)
    torch.nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    x = torch.randn(2, 8, 8, 8)

    torch.testing.assert_close(layer(x), pool(relu(norm(convolution(x)))))


def test_stochastic_depth_rises_from_nothing_to_the_rate_that_was_asked_for():
    built = network(blocks=2, drop_path=0.3)
    pairs = [*built.pairs1, *built.pairs3]

    assert [getattr(pair.drop_path, "p", 0.0) for pair in pairs] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_its_parts_learn_in_stages_from_the_stem_to_the_head():
    stages = parameter_stages(network())

    assert stages["stem.0.weight"] == 0
    assert stages["head.weight"] == max(stages.values()) == 6


def test_weights_are_drawn_with_the_deviation_that_keeps_the_gradients_size():
    """sqrt(2 / (outputs · 3 · 3)) of the 128 channels of the last stage: He et al., arXiv:1502.01852 §2.2."""
    built = build_network(NetworkSpec(name="small-resnet-9", width=16), form="vector", outputs=3, size=(8, 8), seed=0)

    assert built.pairs3[0].first[0].weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
