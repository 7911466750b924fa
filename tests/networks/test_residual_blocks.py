"""What is left out of a residual block in train mode, how often, and that nothing is in eval mode."""

import pytest
import torch

from trainwright.networks.residual_blocks import Block, drop_path_rates
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec

NAMES = ["small-resnet", "small-unet", "small-detector"]


def build(name, **spec):
    """That network with the weights of seed 0, in train mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return networks.get(name)().build(NetworkSpec(name=name, width=8, **spec), outputs=3, size=(32, 32)).train()


def answer(network, images_NCHW, seed):
    """What the network says with torch's random stream at `seed`, as one tensor."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        said = network(images_NCHW)
    return said if isinstance(said, torch.Tensor) else said.boxes_NM4


def changed_rows(block, x, seed):
    """Of each image whether the block did anything to it."""
    return (answer(block, x, seed) != x).flatten(1).any(dim=1)


@pytest.fixture
def x():
    """4,000 images that a ReLU has been over, as all are between blocks."""
    return torch.rand(4000, 8, 4, 4, generator=torch.Generator().manual_seed(0))


def test_a_share_of_the_images_skips_a_block_as_it_is(x):
    """Of 4,000 images with probability 0.3: a deviation of 0.0072, of which four are allowed."""
    block = Block(8, 8, NetworkSpec(width=8), stride=1, drop_path=0.3).train()

    skipped = 1 - changed_rows(block, x, seed=0).float().mean()

    assert skipped.item() == pytest.approx(0.3, abs=0.029)


def test_which_images_skip_a_block_is_drawn_anew_each_time(x):
    block = Block(8, 8, NetworkSpec(width=8), stride=1, drop_path=0.5).train()

    first, again, other = (changed_rows(block, x, seed) for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_stays_is_made_larger_by_what_is_left_out(x):
    """With 0.75 left out the rest counts four times, so that the mean over all draws is that of eval mode."""
    block = Block(8, 8, NetworkSpec(width=8), stride=1, drop_path=0.75).train()
    block.norm1.eval(), block.norm2.eval()
    block.norm2.bias.data.fill_(1.0)  # so that the last ReLU cuts nothing off
    block.norm2.weight.data.fill_(0.01)

    stays = changed_rows(block, x, seed=0)
    added = (answer(block, x, seed=0) - x)[stays]
    usual = (answer(block.eval(), x, seed=0) - x)[stays]

    assert 0 < stays.sum() < len(x)
    torch.testing.assert_close(added, 4 * usual, rtol=1e-3, atol=1e-4)


def test_the_rate_rises_from_nothing_at_the_first_block_to_the_given_one_at_the_last():
    rates = drop_path_rates(NetworkSpec(blocks=2, drop_path=0.5), stages=3)

    assert [len(stage) for stage in rates] == [2, 2, 2]
    assert [rate for stage in rates for rate in stage] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(("name", "stages"), [("small-resnet", 3), ("small-unet", 3), ("small-detector", 4)])
def test_every_block_of_a_small_network_has_its_rate(name, stages):
    network = build(name, blocks=2, drop_path=0.3, block_dropout=0.2)

    blocks = [module for module in network.modules() if isinstance(module, Block)]

    assert len(blocks) == 2 * stages
    assert [getattr(block.drop_path, "p", 0.0) for block in blocks] == pytest.approx(
        [0.3 * number / (2 * stages - 1) for number in range(2 * stages)]
    )
    assert {block.dropout.p for block in blocks} == {0.2}


def test_dropout_stands_between_the_convolutions_after_the_relu():
    """What the second convolution is shown: nothing below 0, about half of it 0 by the draw and a quarter by the ReLU."""
    block = Block(8, 8, NetworkSpec(width=8, block_dropout=0.5), stride=1).train()
    shown = []
    block.conv2.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))

    answer(block, torch.randn(64, 8, 8, 8, generator=torch.Generator().manual_seed(0)), seed=0)

    assert float(shown[0].min()) == 0
    assert (shown[0] == 0).float().mean().item() == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spec", [{"dropout": 0.5}, {"block_dropout": 0.5}, {"drop_path": 0.5}], ids=str)
def test_each_kind_of_dropout_acts_in_train_mode_and_only_there(name, spec):
    network, plain = build(name, **spec), build(name)
    images_NCHW = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    assert not torch.equal(answer(network, images_NCHW, seed=1), answer(network, images_NCHW, seed=2))
    network.load_state_dict(plain.state_dict())
    network.eval(), plain.eval()
    assert torch.equal(answer(network, images_NCHW, seed=1), answer(network, images_NCHW, seed=2))
    assert torch.equal(answer(network, images_NCHW, seed=1), answer(plain, images_NCHW, seed=3))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_leaves_the_first_weights_as_they_are(name):
    plain = build(name, blocks=2).state_dict()
    other = build(name, blocks=2, dropout=0.1, block_dropout=0.2, drop_path=0.3).state_dict()

    assert plain.keys() == other.keys()
    assert [key for key in plain if not torch.equal(plain[key], other[key])] == []


@pytest.mark.parametrize("name", NAMES)
def test_without_rates_a_network_draws_nothing(name):
    network = build(name)

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        before = torch.get_rng_state()
        network(torch.zeros(2, 3, 32, 32))
        assert torch.equal(torch.get_rng_state(), before)
