"""The next larger network of the same family."""

from __future__ import annotations

import pytest

from trainwright.recipe import NetworkSpec
from trainwright.workflows.larger import FAMILIES, larger_network


@pytest.mark.parametrize(("width", "wider"), [(8, 32), (16, 64), (32, 64), (200, 256)])
def test_a_network_of_ours_gets_wider_and_a_thin_one_much_wider(width: int, wider: int) -> None:
    assert larger_network(NetworkSpec(width=width)) == ({"network.width": wider}, "")


def test_the_widest_one_stays() -> None:
    assert larger_network(NetworkSpec(width=256)) == ({}, "The network is as wide as a recipe may ask for: 256.")


def test_a_published_network_becomes_the_next_of_its_family_whatever_its_weights_are_called() -> None:
    assert larger_network(NetworkSpec(name="resnet18.a1_in1k")) == ({"network.name": "resnet34"}, "")


def test_a_network_on_a_backbone_gets_a_larger_backbone() -> None:
    assert larger_network(NetworkSpec(name="unet", backbone="resnet34")) == ({"network.backbone": "resnet50"}, "")


def test_where_none_is_known_it_says_so() -> None:
    assert larger_network(NetworkSpec(name="resnet152")) == (
        {},
        "No larger network of the family of resnet152 is known.",
    )


def test_weights_from_a_file_stay_with_their_network() -> None:
    assert larger_network(NetworkSpec(name="resnet18", weights="/tmp/mine.safetensors"))[0] == {}


@pytest.mark.slow
def test_timm_has_every_network_of_the_families() -> None:
    import timm

    known = set(timm.list_models())

    assert [name for family in FAMILIES for name in family if name not in known] == []
