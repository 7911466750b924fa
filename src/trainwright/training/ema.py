"""Weights averaged over the steps of a training (exponential moving average)."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """An exponential moving average of a model's parameters; its buffers are the model's latest.

    The decay grows as (1 + t) / (10 + t) up to `decay`, so that the random start is forgotten quickly (the rule of
    TensorFlow's ExponentialMovingAverage). `model`: the averaged model, for evaluation. updates: steps taken so far.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.model = copy.deepcopy(model)
        self.model.requires_grad_(False)
        self.model.eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averaged: list[torch.Tensor] = list(self.model.parameters())
        latest: list[torch.Tensor] = list(model.parameters())
        torch._foreach_lerp_(averaged, latest, 1 - decay)
        for own, given in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(given)
