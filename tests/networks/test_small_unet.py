"""The small U-Net says something of every pixel, whatever the size, and learns where things are."""

import pytest
import torch
from torch import nn

from trainwright.networks.small_unet import SmallUNet
from trainwright.optim.losses import build_loss
from trainwright.recipe import LossSpec, NetworkSpec
from trainwright.training.model import ImageNetwork, build_network, parameter_stages


def small(**spec):
    return build_network(NetworkSpec(name="small-unet", width=8, **spec), form="map", outputs=3, size=(32, 48), seed=0)


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("size", [(16, 16), (45, 61), (64, 32)])
def test_every_pixel_has_its_logits(norm, blocks, size):
    network = SmallUNet(5, NetworkSpec(width=8, blocks=blocks, norm=norm, dropout=0.1))

    assert network(torch.zeros(2, 3, *size)).shape == (2, 5, *size)


def test_a_batch_of_one_image_can_be_learned_from():
    """Its mean over the image is a single value a channel, of which there are no statistics."""
    network = SmallUNet(3, NetworkSpec(width=8)).train()

    network(torch.rand(1, 3, 32, 32)).square().sum().backward()

    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert all(bool(weight.grad.isfinite().all()) for weight in network.parameters())


def test_it_has_as_many_parameters_as_is_told():
    assert round(sum(p.numel() for p in SmallUNet(11, NetworkSpec()).parameters()) / 1e6, 1) == 1.5


def test_group_norm_leaves_no_statistics_of_the_batch():
    names = {type(module).__name__ for module in SmallUNet(3, NetworkSpec(width=16, norm="group")).modules()}

    assert "GroupNorm" in names
    assert "BatchNorm2d" not in names


def test_the_random_weights_depend_on_the_seed_alone():
    spec = NetworkSpec(name="small-unet", width=8)

    first, second, other = (
        build_network(spec, form="map", outputs=3, size=(32, 32), seed=seed).head.weight for seed in (1, 1, 2)
    )

    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_its_stages_go_down_and_all_that_leads_back_up_is_the_head():
    stages = parameter_stages(small())

    assert {".".join(name.split(".")[:2]) for name, stage in stages.items() if stage < 4} == {
        f"encoder.{number}" for number in range(4)
    }
    assert {name.split(".")[0] for name, stage in stages.items() if stage == 4} == {"context", "decoder", "head"}


def test_an_object_that_moves_moves_its_answer():
    """By 16 pixels, a whole step of the deepest stage, far from the borders: the same answer, moved."""
    network = small().eval()
    images_NCHW = torch.zeros(1, 3, 160, 160)
    images_NCHW[..., 64:72, 64:72] = 1.0

    with torch.no_grad():
        there, moved = network(images_NCHW), network(images_NCHW.roll(16, dims=-1))

    near = slice(60, 80)
    torch.testing.assert_close(moved[..., near, 76:96], there[..., near, 60:80], rtol=1e-4, atol=1e-4)
    assert float((there[..., near, 60:80] - there[..., near, 76:96]).abs().max()) > 1e-3


def test_it_learns_which_pixels_are_bright():
    model = ImageNetwork(small(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)).train()
    bright_NHW = torch.rand(4, 4, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    target_NHW = nn.functional.interpolate(bright_NHW[:, None].float(), scale_factor=8)[:, 0].to(torch.uint8)
    images_NCHW = (target_NHW[:, None] * 200).expand(-1, 3, -1, -1)
    loss, optimizer = build_loss(LossSpec(), ["dice+cross-entropy"]), torch.optim.AdamW(model.parameters(), lr=3e-3)

    for _ in range(25):
        optimizer.zero_grad()
        loss(model(images_NCHW), target_NHW).mean().backward()
        optimizer.step()

    right = model(images_NCHW).argmax(dim=1) == target_NHW
    assert float(right.float().mean()) > 0.9
