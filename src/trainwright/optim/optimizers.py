"""Optimizers by name: their published constants, the parameter groups they work on, and what they do not go with.

Weight decay never acts on biases and norms: those are the parameters of one dimension or fewer
(Goyal et al., arXiv:1706.02677; He et al., arXiv:1812.01187 §3.1). Nor on what a network names itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import torch
from torch import nn

from trainwright.errors import RecipeError
from trainwright.plugins import optimizers
from trainwright.recipe import OptimizerSpec

BETAS, EPS = (0.9, 0.999), 1e-8  # Kingma and Ba, arXiv:1412.6980, Algorithm 1
ADAM = {"betas": BETAS, "eps": EPS}
PUBLISHED: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": False},  # Krizhevsky et al., NeurIPS 2012, §5
    "adam": ADAM,
    "adamw": ADAM,  # as Adam: Loshchilov and Hutter, arXiv:1711.05101, Algorithm 2
    "adamax": ADAM,  # Kingma and Ba, arXiv:1412.6980, Algorithm 2; eps is torch's
    "nadam": ADAM,  # as Adam: torch's choice
    "nadamw": ADAM,  # as Adam: timm's choice
    "radam": ADAM,  # as Adam: torch's choice
    "adopt": {"betas": (0.9, 0.9999), "eps": 1e-6},  # Taniguchi et al., arXiv:2411.02853
    "lamb": {"betas": BETAS, "eps": 1e-6},  # You et al., arXiv:1904.00962
    "lion": {"betas": (0.9, 0.99)},  # Chen et al., arXiv:2302.06675
    # momentum: Jordan et al. 2024, kellerjordan.github.io/posts/muon; betas and eps of the AdamW beside it: its program
    "muon": {"momentum": 0.95, "nesterov": True, "betas": (0.9, 0.95), "eps": 1e-10},
    # alpha: Tieleman and Hinton 2012, "Neural Networks for Machine Learning", lecture 6e, without momentum; eps is torch's
    "rmsprop": {"alpha": 0.9, "momentum": 0.0, "eps": EPS},
    "adagrad": {"eps": 1e-10},  # torch's choice: the paper leaves it open
    "rprop": {},
    "schedule-free-adamw": ADAM,  # Defazio et al., arXiv:2405.15682, and their program
}
ENDS_APART = frozenset({"muon"})  # those that treat the first and the last layer in another way than the hidden ones


class Constants(NamedTuple):
    """An optimizer's constants, every one filled in; those that it does not have are not used."""

    betas: tuple[float, float]
    eps: float
    momentum: float
    nesterov: bool
    alpha: float


def constants_of(spec: OptimizerSpec) -> Constants:
    """What the recipe says, and what it leaves open as published."""
    values: dict[str, Any] = {"betas": BETAS, "eps": EPS, "momentum": 0.0, "nesterov": False, "alpha": 0.9}
    values |= PUBLISHED.get(spec.name, {})
    values |= {name: getattr(spec, name) for name in values if getattr(spec, name) is not None}
    return Constants(**values)


def published_constants(spec: OptimizerSpec) -> dict[str, Any]:
    """Values for those of the spec's constants that are None, other than lr: what the named optimizer's authors used."""
    return {name: value for name, value in PUBLISHED.get(spec.name, {}).items() if getattr(spec, name) is None}


def names_momentum(spec: OptimizerSpec) -> bool:
    """Whether the recipe itself says the momentum, or the betas, that the named optimizer moves with."""
    used = PUBLISHED.get(spec.name, {"betas": None, "momentum": None})  # of one's own: either may be
    return any(name in used and getattr(spec, name) is not None for name in ("betas", "momentum"))


def refuse_batch(spec: OptimizerSpec, *, batch_size: int, train_images: int) -> None:
    """Raise RecipeError where the optimizer's steps are not valid for batches of that many of the train images.

    Rprop goes by the signs of the gradient of the whole error, and by whether they have changed since the step before
    (Riedmiller and Braun 1993). Of two batches of other images they change without a minimum between them.
    """
    if spec.name == "rprop" and batch_size < train_images:
        raise RecipeError(
            f"rprop's steps are valid only where each is taken on all {train_images:,} train images, and a batch has "
            f"{batch_size:,}.",
            where="optimizer.name",
            cure=f"Set batch_size={train_images} (accumulate works through it in parts, where memory is short), or take "
            "another optimizer.",
        )


def refuse_average(spec: OptimizerSpec, *, ema_decay: float | None) -> None:
    """Raise RecipeError where the weights of an optimizer that averages them itself would be averaged once more."""
    if spec.name == "schedule-free-adamw" and ema_decay is not None:
        raise RecipeError(
            "schedule-free-adamw evaluates an average of its own, which another one would only blur.",
            where="ema_decay",
            cure="Set it to null, or take another optimizer.",
        )


def refuse_nothing_hidden(
    spec: OptimizerSpec, parameters: Iterable[nn.Parameter], *, ends: Collection[nn.Parameter]
) -> None:
    """Raise RecipeError for an optimizer of hidden layers where none of them learns: it would be another one by its name.

    parameters: of the whole network. ends: as `build_optimizer` takes them.
    """
    at_an_end = {id(parameter) for parameter in ends}
    learning = [p for p in parameters if p.requires_grad and id(p) not in at_an_end]
    if spec.name in ENDS_APART and not any(is_matrix(parameter) for parameter in learning):
        raise RecipeError(
            f"{spec.name} is for hidden layers, and none learns here: all that does is moved by the AdamW beside it.",
            where="optimizer.name",
            cure="Set optimizer.name=adamw, or let more of the network learn (network.trainable).",
        )


def is_matrix(parameter: torch.Tensor) -> bool:
    """Whether it maps several inputs to several outputs; a depthwise convolution is a row for each channel of its own."""
    return parameter.ndim > 1 and min(parameter.shape[:2]) > 1


def build_optimizer(
    parameters: Iterable[tuple[nn.Parameter, float]],
    spec: OptimizerSpec,
    device: torch.device,
    *,
    ends: Collection[nn.Parameter] = (),
    undecayed: Collection[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """The optimizer that `spec` names over (parameter, lr factor) pairs; parameters that do not learn are left out.

    device: picks the implementation: fused where the whole update is one kernel. ends: those of the parameters that
    belong to the first layer, the head and embeddings, for optimizers of hidden layers. undecayed: those that weight decay
    leaves alone, beside biases and norms. Raises UnknownNameError.
    """
    build = optimizers.get(spec.name)
    apart = ends if spec.name in ENDS_APART else ()
    groups = parameter_groups(
        parameters, lr=spec.peak_lr, weight_decay=spec.weight_decay, ends=apart, undecayed=undecayed
    )
    optimizer = build(groups, spec)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]  # the schedule scales this; it is saved with the optimizer's state
        group.pop("decayed", None)
        if "fused" in group and device.type in ("cpu", "cuda"):
            group["fused"], group["foreach"] = True, False
            _count_where_it_works(optimizer, group["params"])
    return optimizer


def _count_where_it_works(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter]) -> None:
    """Move the count of steps to the device of each parameter, where a fused kernel reads it.

    Adagrad makes it as it is built, on the CPU, since it is not fused yet.
    """
    for parameter in parameters:
        count = optimizer.state.get(parameter, {}).get("step")
        if isinstance(count, torch.Tensor):
            optimizer.state[parameter]["step"] = count.to(parameter.device)


def parameter_groups(
    parameters: Iterable[tuple[nn.Parameter, float]],
    *,
    lr: float,
    weight_decay: float,
    ends: Collection[nn.Parameter] = (),
    undecayed: Collection[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Parameters that learn, grouped by (lr factor, decayed or not, of the ends or not), in the order of their first
    appearance. Each says whether it is `decayed`, also where weight decay is 0; groups of `ends` have `ends` set."""
    of_ends, spared = ({id(parameter) for parameter in some} for some in (ends, undecayed))
    groups: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for parameter, factor in parameters:
        if parameter.requires_grad:
            decayed = parameter.ndim > 1 and id(parameter) not in spared
            groups.setdefault((factor, decayed, id(parameter) in of_ends), []).append(parameter)
    return [
        {
            "params": members,
            "lr": lr * factor,
            "weight_decay": weight_decay if decayed else 0.0,
            "decayed": decayed,
            **({"ends": True} if at_an_end else {}),
        }
        for (factor, decayed, at_an_end), members in groups.items()
    ]
