"""Losses of numbers: functions of standardized outputs and target [N, T] to the mean over the columns, [N]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from trainwright.plugins import losses
from trainwright.recipe import LossSpec

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@losses.register("huber")
def huber(spec: LossSpec) -> Loss:
    """Half the squared error up to `delta` deviations of the target, a line beyond, so that no wild number rules the others.

    Huber 1964, "Robust Estimation of a Location Parameter".
    """

    def loss(outputs_NT: torch.Tensor, target_NT: torch.Tensor) -> torch.Tensor:
        each_NT = functional.huber_loss(outputs_NT.float(), target_NT.float(), reduction="none", delta=spec.delta)
        return each_NT.mean(dim=1)

    return loss


@losses.register("mse")
def mse(spec: LossSpec) -> Loss:
    """The squared error; minimized by the mean of what the target can be."""

    def loss(outputs_NT: torch.Tensor, target_NT: torch.Tensor) -> torch.Tensor:
        return (outputs_NT.float() - target_NT.float()).square().mean(dim=1)

    return loss


@losses.register("mae")
def mae(spec: LossSpec) -> Loss:
    """The absolute error; minimized by the median of what the target can be."""

    def loss(outputs_NT: torch.Tensor, target_NT: torch.Tensor) -> torch.Tensor:
        return (outputs_NT.float() - target_NT.float()).abs().mean(dim=1)

    return loss
