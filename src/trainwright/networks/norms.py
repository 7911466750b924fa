"""Batch norm, and group norm in its place: which norms a network has, and whether they have learned statistics yet."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainwright.errors import RecipeError

CHANNELS_A_GROUP = 16  # Wu and He, arXiv:1803.08494 §4.1: the best fixed number of channels a group
NARROW_GROUP = 8  # of our small networks, whose first stages have as few channels


def norm_layer(kind: str, channels: int) -> nn.Module:
    """The norm of our small networks. kind: `batch`, `group` or `frozen`, which is batch norm until the training starts."""
    return nn.GroupNorm(channels // NARROW_GROUP, channels) if kind == "group" else nn.BatchNorm2d(channels)


def norms_with_statistics(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """(name, module) of every batch norm that keeps a mean and a variance for evaluation."""
    return [(name, norm) for name, norm in _batch_norms(network) if norm.running_mean is not None]


def is_fresh(norm: Any) -> bool:
    """Whether a batch norm's statistics are those it is made with, mean 0 and variance 1: it has seen no image yet."""
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())


def refuse_fresh_statistics(norms: list[tuple[str, nn.Module]], *, of: str) -> None:
    """Raise RecipeError where batch norms are to keep statistics that they do not have. of: the network's name."""
    if not norms:
        raise _nothing_there(of, "whose statistics could stay as they are")
    fresh = [name for name, norm in norms if is_fresh(norm)]
    if fresh:
        raise RecipeError(
            f"{len(fresh)} of the {len(norms)} batch norms of {of!r} have no statistics yet (mean 0, variance 1; the first: "
            f"{fresh[0]!r}), and frozen they would never get any.",
            where="network.norm",
            cure="Start from weights that have learned (network.weights=pretrained, or a file), or set it to batch or group.",
        )


def put_group_norms(network: nn.Module, *, of: str, learned: bool = True) -> None:
    """Put a group norm in the place of every batch norm of `network`, with its scale and shift; changed in place.

    A network that has group norms and no batch norm stays as it is. of: its name. learned: refuse batch norms that have
    learned statistics. Raises RecipeError, before anything is changed, for those, where there is no norm to replace, and for
    kinds of batch norm that see other things than maps.
    """
    norms = _batch_norms(network)
    if not norms:
        if any(isinstance(module, nn.GroupNorm) for module in network.modules()):
            return
        raise _nothing_there(of, "that group norm could stand in for")
    if learned and not all(is_fresh(norm) for _, norm in norms_with_statistics(network)):
        raise RecipeError(
            f"the weights of {of!r} were learned with batch norm: by group norm, which takes its statistics from each image, "
            "they would be shown other features than they know.",
            where="network.norm",
            cure="Set it to frozen (good for small batches too) or batch, start from random weights, or take a network that "
            "was published with group norm, such as resnet50_gn.",
        )
    instead = {id(norm): _group_norm(norm, name, of=of) for name, norm in norms}
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):  # named_children leaves out the second place of a shared norm
            if id(child) in instead:
                setattr(parent, name, instead[id(child)])


def group_size(channels: int) -> int:
    """Channels a group: the divisor of `channels` that is the fewest times away from `CHANNELS_A_GROUP`.

    16 itself where it divides. Not a fixed number of groups: networks of few channels would get groups of one, which loses
    most in the paper (its instance norm).
    """
    divisors = [size for size in range(1, channels + 1) if channels % size == 0]
    return min(divisors, key=lambda size: max(size / CHANNELS_A_GROUP, CHANNELS_A_GROUP / size))


def _batch_norms(network: nn.Module) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]


def _group_norm(norm: Any, name: str, *, of: str) -> nn.Module:
    """The group norm for the place of `norm`: same scale and shift (the same parameters), same eps, same mode."""
    channels = norm.num_features
    if type(norm) is nn.BatchNorm2d:
        new: Any = nn.GroupNorm(channels // group_size(channels), channels, eps=norm.eps, affine=False)
    else:
        new = _timms_group_norm(norm, name, of=of)
    new.affine, new.weight, new.bias = norm.affine, norm.weight, norm.bias
    new.train(norm.training)
    assert isinstance(new, nn.Module)
    return new


def _timms_group_norm(norm: Any, name: str, *, of: str) -> nn.Module:
    """For timm's batch norm that has an activation, and sometimes dropout, inside of it."""
    from timm.layers import BatchNormAct2d, GroupNormAct

    if type(norm) is not BatchNormAct2d:
        raise RecipeError(
            f"{name!r} of {of!r} is a {type(norm).__name__}, which group norm cannot stand in for.",
            where="network.norm",
            cure="Set it to batch or frozen, or take a network whose norms are all BatchNorm2d, such as resnet18.",
        )
    channels = norm.num_features
    new = GroupNormAct(channels, channels // group_size(channels), eps=norm.eps, affine=False, apply_act=False)
    new.drop, new.act = norm.drop, norm.act
    assert isinstance(new, nn.Module)
    return new


def _nothing_there(of: str, what_for: str) -> RecipeError:
    return RecipeError(
        f"{of!r} has no batch norm {what_for}.",
        where="network.norm",
        cure="Set it to batch, which leaves a network the norms that it has.",
    )
