"""A copy of a model and its optimizer that can be trained without touching either."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from trainwright.errors import OutOfResourcesError, UsageError


def twin_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, *, where: str, cure: str
) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Copies of both, made together: the copied optimizer steps the copied weights.

    Everything an optimizer has is copied: torch's own copying keeps only what checkpoints keep, and one with attributes of
    its own would lose them. where, cure: of the error. Raises UsageError for a network or optimizer that cannot be copied,
    OutOfResourcesError where there is no memory for it.
    """
    memo: dict[int, Any] = {}
    try:
        other = copy.deepcopy(model, memo)
        stepping = optimizer.__class__.__new__(optimizer.__class__)
        stepping.__dict__.update(copy.deepcopy(optimizer.__dict__, memo))
    except (TypeError, RuntimeError, NotImplementedError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise OutOfResourcesError("the weights do not fit into memory twice.", where=where, cure=cure) from error
        raise UsageError(
            f"the network or its optimizer cannot be copied ({error}), and what is measured works on a copy.",
            where=where,
            cure=cure,
        ) from error
    return other, stepping
