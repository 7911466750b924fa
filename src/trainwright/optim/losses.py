"""Losses by name. Each is a function of (outputs, target) to the loss of every image, [N]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from trainwright.plugins import losses
from trainwright.recipe import LossSpec

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(spec: LossSpec) -> Loss:
    """The loss that `spec` names. Raises UnknownNameError."""
    return losses.get(spec.name)(spec)


@losses.register("cross-entropy")
def cross_entropy(spec: LossSpec) -> Loss:
    """Cross-entropy of logits [N, K] and class indices [N], with label smoothing (Szegedy et al., arXiv:1512.00567 §7)."""

    def loss(logits_NK: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(
            logits_NK.float(), target_N, reduction="none", label_smoothing=spec.label_smoothing
        )

    return loss
