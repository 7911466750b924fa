"""The loss that a network computes itself, as detectors do: theirs hangs on anchors and proposals that nobody else sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trainwright.batch import Detections
from trainwright.errors import UsageError
from trainwright.optim.losses import refuse_class_weights, refuse_label_smoothing
from trainwright.plugins import losses
from trainwright.recipe import LossSpec

INSIDE = "it is computed inside the network"


@losses.register("own")
def own(spec: LossSpec) -> Callable[[Any, torch.Tensor], torch.Tensor]:
    """`loss_N` of what the network gave. Raises UsageError where it gave none."""
    refuse_class_weights(spec, INSIDE)
    refuse_label_smoothing(spec, INSIDE)

    def loss(outputs: Any, target: torch.Tensor) -> torch.Tensor:
        loss_N = outputs.loss_N if isinstance(outputs, Detections) else None
        if loss_N is None:
            raise UsageError(
                f"the loss 'own' is the network's, and this one gave {type(outputs).__name__} without a loss.",
                where="loss.name",
                cure="A network of yours for detection has takes_target = True and returns Detections with loss_N.",
            )
        return loss_N

    return loss
