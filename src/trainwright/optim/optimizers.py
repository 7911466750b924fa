"""Optimizers by name, and the parameter groups they work on. Each is one registered function.

Weight decay never acts on biases and norms: those are the parameters of one dimension or fewer
(Goyal et al., arXiv:1706.02677 §5.3; He et al., arXiv:1812.01187 §3.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from trainwright.errors import RecipeError
from trainwright.plugins import optimizers
from trainwright.recipe import OptimizerSpec

BETAS = (0.9, 0.999)  # Kingma and Ba, arXiv:1412.6980, Algorithm 1


def published_constants(spec: OptimizerSpec) -> dict[str, Any]:
    """Values for those of the spec's constants that are None, other than lr: what the named optimizer's authors used."""
    return {"betas": BETAS} if spec.betas is None else {}


def refuse_batch(spec: OptimizerSpec, *, batch_size: int, train_images: int) -> None:
    """Raise RecipeError where the optimizer's steps are not valid for batches of that many of the train images."""


def build_optimizer(
    parameters: Iterable[tuple[nn.Parameter, float]], spec: OptimizerSpec, device: torch.device
) -> torch.optim.Optimizer:
    """The optimizer that `spec` names over (parameter, lr factor) pairs; parameters that do not learn are left out.

    device: picks the implementation: fused where the whole update is one kernel. Raises UnknownNameError.
    """
    groups = parameter_groups(parameters, lr=spec.peak_lr, weight_decay=spec.weight_decay)
    optimizer = optimizers.get(spec.name)(groups, spec)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]  # the schedule scales this; it is saved with the optimizer's state
        if "fused" in group and device.type in ("cpu", "cuda"):
            group["fused"], group["foreach"] = True, False
    return optimizer


def parameter_groups(
    parameters: Iterable[tuple[nn.Parameter, float]], *, lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Parameters that learn, grouped by (lr factor, decayed or not), in the order of their first appearance."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter, factor in parameters:
        if parameter.requires_grad:
            groups.setdefault((factor, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": members, "lr": lr * factor, "weight_decay": weight_decay if decayed else 0.0}
        for (factor, decayed), members in groups.items()
    ]


@optimizers.register("sgd")
def sgd(groups: list[dict[str, Any]], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum, plain or Nesterov (Sutskever et al., ICML 2013)."""
    if spec.nesterov and spec.momentum == 0:
        raise RecipeError(
            "Nesterov's momentum needs a momentum above 0.",
            where="optimizer.nesterov",
            cure="Set optimizer.momentum=0.9, or optimizer.nesterov=false.",
        )
    return torch.optim.SGD(groups, lr=spec.peak_lr, momentum=spec.momentum, nesterov=spec.nesterov)


@optimizers.register("adam")
def adam(groups: list[dict[str, Any]], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, arXiv:1412.6980); weight decay is added to the gradient."""
    return torch.optim.Adam(groups, lr=spec.peak_lr, betas=spec.betas or BETAS, eps=spec.eps)


@optimizers.register("adamw")
def adamw(groups: list[dict[str, Any]], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101)."""
    return torch.optim.AdamW(groups, lr=spec.peak_lr, betas=spec.betas or BETAS, eps=spec.eps)
