"""Dropout and stochastic depth in networks of timm: what each is called there, and whether a network has a place for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainwright.errors import RecipeError
from trainwright.recipe import NetworkSpec

# Inside of blocks, the first one that a network takes: dropout after every projection of a transformer, or its kin
# (arXiv:2010.11929 §B.1), and after every dense layer of a DenseNet; DropBlock (arXiv:1810.12890) in the last two stages of a
# ResNet.
INSIDE = ("proj_drop_rate", "drop_block_rate")
PROBE = 0.123456  # a rate that no network has by itself
RATES = ("p", "drop_prob", "drop_rate")  # what layers call their rate, and networks that call torch's functions


def inner_rates(spec: NetworkSpec, name: str, **building: Any) -> dict[str, float]:
    """The options of timm that give the network `name` the dropout inside and the stochastic depth that `spec` asks for.

    building: the other options that it will be built with. Raises RecipeError where it has no place for what is asked.
    """
    options: dict[str, float] = {}
    if spec.drop_path:
        if not _takes(name, "drop_path_rate", building):
            raise _no_place(name, "drop_path", "no stochastic depth", "small-resnet, resnet18 or convnext_tiny")
        options["drop_path_rate"] = spec.drop_path
    if spec.block_dropout:
        option = next((each for each in INSIDE if _takes(name, each, building)), None)
        if option is None:
            raise _no_place(
                name, "block_dropout", "no dropout inside", "small-resnet, resnet18 or vit_tiny_patch16_224"
            )
        options[option] = spec.block_dropout
    return options


def refuse_idle_dropout(spec: NetworkSpec, network: nn.Module) -> None:
    """Raise RecipeError where timm's `network` took `spec.dropout` and does nothing with it."""
    if spec.dropout and not _has_rate(network, spec.dropout):
        raise _no_place(spec.name, "dropout", "no dropout before its head", "small-resnet, resnet18 or convnext_tiny")


def _takes(name: str, option: str, building: dict[str, Any]) -> bool:
    """Whether the network knows the option and some layer of it follows: found by building it without memory for weights."""
    import timm

    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        try:
            network: nn.Module = timm.create_model(name, pretrained=False, **building, **{option: PROBE})
        except TypeError as error:
            return f"'{option}'" not in str(error)  # another reason is told when it is built in earnest
        except (AssertionError, AttributeError, LookupError, RuntimeError, ValueError):
            return True
    if option == "drop_path_rate":  # a share of it in each block
        return any(0 < getattr(module, "drop_prob", 0.0) <= PROBE for module in network.modules())
    return _has_rate(network, PROBE)


def _has_rate(network: nn.Module, rate: float) -> bool:
    return any(getattr(module, name, None) == rate for module in network.modules() for name in RATES)


def _no_place(name: str, field: str, what: str, others: str) -> RecipeError:
    return RecipeError(
        f"{name!r} has {what}.", where=f"network.{field}", cure=f"Set it to 0, or take a network that has it: {others}."
    )
