"""Losses of numbers: functions of standardized outputs and target [N, T] to the mean over the columns, [N]."""

from __future__ import annotations

import torch
from torch.nn import functional

from trainwright.optim.losses import Loss, full_precision, refuse_class_weights, refuse_label_smoothing
from trainwright.plugins import losses
from trainwright.recipe import LossSpec

NO_CLASSES = "numbers have no classes"


@losses.register("huber")
def huber(spec: LossSpec) -> Loss:
    """Half the squared error up to `delta` deviations of the target, a line beyond, so that no wild number rules the others.

    Huber 1964, "Robust Estimation of a Location Parameter".
    """
    refuse_class_weights(spec, NO_CLASSES)
    refuse_label_smoothing(spec, NO_CLASSES)

    def loss(outputs_NT: torch.Tensor, target_NT: torch.Tensor) -> torch.Tensor:
        outputs_NT = full_precision(outputs_NT)
        each_NT = functional.huber_loss(outputs_NT, target_NT.to(outputs_NT), reduction="none", delta=spec.delta)
        return each_NT.mean(dim=1)

    return loss


@losses.register("mse")
def mse(spec: LossSpec) -> Loss:
    """The squared error; minimized by the mean of what the target can be."""
    refuse_class_weights(spec, NO_CLASSES)
    refuse_label_smoothing(spec, NO_CLASSES)

    def loss(outputs_NT: torch.Tensor, target_NT: torch.Tensor) -> torch.Tensor:
        return (full_precision(outputs_NT) - full_precision(target_NT)).square().mean(dim=1)

    return loss


@losses.register("mae")
def mae(spec: LossSpec) -> Loss:
    """The absolute error; minimized by the median of what the target can be."""
    refuse_class_weights(spec, NO_CLASSES)
    refuse_label_smoothing(spec, NO_CLASSES)

    def loss(outputs_NT: torch.Tensor, target_NT: torch.Tensor) -> torch.Tensor:
        return (full_precision(outputs_NT) - full_precision(target_NT)).abs().mean(dim=1)

    return loss
