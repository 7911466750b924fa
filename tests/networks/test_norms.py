"""Group norm in the place of batch norm: everywhere or not at all, with the same scale and shift."""

import pytest
import torch
from timm.layers import BatchNormAct2d, DropBlock2d, GroupNormAct
from torch import nn

from trainwright.errors import RecipeError
from trainwright.networks.norms import group_size, is_fresh, norms_with_statistics, put_group_norms


def normed(*norms):
    return nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 32, 1), norm) for norm in norms))


def learned():
    norm = nn.BatchNorm2d(32)
    norm.running_mean.fill_(0.5)
    return norm


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(64, 16), (16, 16), (8, 8), (24, 12), (40, 20), (88, 22), (112, 16), (10, 10), (2, 2), (1, 1), (37, 37)],
)
def test_a_group_has_sixteen_channels_or_the_nearest_number_that_divides(channels, expected):
    assert group_size(channels) == expected


def test_every_batch_norm_makes_way_and_its_scale_and_shift_stay():
    network = normed(nn.BatchNorm2d(32, eps=0.25), nn.BatchNorm2d(32, affine=False))
    scale, shift = network[0][1].weight, network[0][1].bias
    nn.init.constant_(scale, 3.0)

    put_group_norms(network, of="mine")

    norms = [row[1] for row in network]
    assert [type(norm) for norm in norms] == [nn.GroupNorm, nn.GroupNorm]
    assert [(norm.num_groups, norm.affine, norm.eps) for norm in norms] == [(2, True, 0.25), (2, False, 1e-5)]
    assert norms[0].weight is scale
    assert norms[0].bias is shift
    assert norms[1].weight is None
    assert norms_with_statistics(network) == []


def test_an_image_is_normalized_by_itself_alone():
    network = normed(nn.BatchNorm2d(32))
    put_group_norms(network.train(), of="mine")
    images_NCHW = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))

    alone, beside = network(images_NCHW[:1]), network(images_NCHW)[:1]

    torch.testing.assert_close(alone, beside)
    groups = beside.detach().view(1, 2, -1)
    torch.testing.assert_close(groups.mean(dim=2), torch.zeros(1, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(groups.var(dim=2, unbiased=False), torch.ones(1, 2), atol=1e-3, rtol=0)


def test_a_norm_that_stands_in_two_places_stays_one():
    shared = nn.BatchNorm2d(32)
    network = nn.ModuleDict({"first": nn.Sequential(shared, shared), "second": shared})

    put_group_norms(network, of="mine")

    assert isinstance(network["second"], nn.GroupNorm)
    assert network["first"][0] is network["first"][1] is network["second"]


def test_what_timm_put_inside_of_a_norm_stays_inside():
    norm = BatchNormAct2d(32, act_layer=nn.SiLU, drop_layer=DropBlock2d)
    network = normed(norm)

    put_group_norms(network, of="mine")

    new = network[0][1]
    assert type(new) is GroupNormAct
    assert (new.act, new.drop, new.weight, new.num_groups) == (norm.act, norm.drop, norm.weight, 2)


def test_what_learned_with_batch_norm_is_not_given_another():
    network = normed(nn.BatchNorm2d(32), learned())

    with pytest.raises(RecipeError) as caught:
        put_group_norms(network, of="resnet18")

    assert str(caught.value) == (
        "network.norm: the weights of 'resnet18' were learned with batch norm: by group norm, which takes its statistics "
        "from each image, they would be shown other features than they know. Set it to frozen (good for small batches too) "
        "or batch, start from random weights, or take a network that was published with group norm, such as resnet50_gn."
    )
    assert len(norms_with_statistics(network)) == 2


def test_weights_that_a_checkpoint_replaces_are_not_judged():
    network = normed(learned())

    put_group_norms(network, of="mine", learned=False)

    assert isinstance(network[0][1], nn.GroupNorm)


def test_a_network_that_has_group_norm_stays_as_it_is():
    network = normed(nn.GroupNorm(4, 32))

    put_group_norms(network, of="mine")

    assert network[0][1].num_groups == 4


def test_a_network_without_batch_norm_is_refused():
    with pytest.raises(RecipeError) as caught:
        put_group_norms(normed(nn.LayerNorm(32)), of="vit_tiny_patch16_224")

    assert str(caught.value) == (
        "network.norm: 'vit_tiny_patch16_224' has no batch norm that group norm could stand in for. "
        "Set it to batch, which leaves a network the norms that it has."
    )


def test_a_norm_of_other_things_than_maps_is_refused_before_anything_is_changed():
    network = normed(nn.BatchNorm2d(32), nn.BatchNorm1d(32))

    with pytest.raises(
        RecipeError, match=r"^network\.norm: '1\.1' of 'mine' is a BatchNorm1d, which group norm cannot"
    ):
        put_group_norms(network, of="mine")

    assert type(network[0][1]) is nn.BatchNorm2d


def test_a_batch_norm_is_fresh_until_it_has_seen_an_image():
    norm = nn.BatchNorm2d(3)
    assert is_fresh(norm)

    norm.train()(torch.rand(2, 3, 4, 4))

    assert not is_fresh(norm)
