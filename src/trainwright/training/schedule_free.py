"""The weights that a schedule-free training evaluates and keeps: its optimizer's average, with batch norm's statistics of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainwright.batch import Batch
from trainwright.optim.schedule_free import ScheduleFreeAdamW
from trainwright.training.device import autocast
from trainwright.training.loop import outputs_of
from trainwright.training.randomness import randomness_of

# The mean over so many batches is as sure as what batch norm keeps in training, a moving average with momentum 0.1 of
# torch's default: both have the variance of one batch divided by (2 − 0.1) / 0.1.
STATISTICS_BATCHES = 19


class ScheduleFreeAverage:
    """A copy of the model at x of its optimizer (`optim/schedule_free.py`), brought up to date when it is asked for.

    Batch norm has seen the activations of y alone, so its statistics are taken anew at x, as the mean over some train
    batches; norms that keep theirs in training keep them here. The copy is a function of the optimizer's state, the
    model's buffers and those batches, so a checkpoint need not hold it.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: ScheduleFreeAdamW,
        batches: Callable[[], Iterable[Batch]],
        *,
        device: torch.device,
        dtype: torch.dtype | None,
        seed: int,
    ) -> None:
        """batches: gives the same ones at every call. dtype: of mixed precision, as in training. seed: of random streams."""
        self._trained, self._optimizer, self._batches = model, optimizer, batches
        self._device, self._dtype, self._seed = device, dtype, seed
        self._copied_at: int | None = None
        self._copy = copy.deepcopy(model)
        self._copy.requires_grad_(False)
        was_training = model.training
        model.train()
        self._norms = [
            own
            for own, given in zip(self._copy.modules(), model.modules(), strict=True)
            if isinstance(own, _BatchNorm) and own.track_running_stats and given.training
        ]
        model.train(was_training)
        self._copy.eval()

    @property
    def model(self) -> nn.Module:
        """The model to evaluate after the steps taken so far. What is loaded into it stays until the next step."""
        if self._copied_at != self._optimizer.steps:
            self._copy_average()
            if self._norms:
                self._take_statistics()
            self._copied_at = self._optimizer.steps
        return self._copy

    @torch.no_grad()
    def _copy_average(self) -> None:
        for weight, trained in zip(self._copy.parameters(), self._trained.parameters(), strict=True):
            weight.copy_(self._optimizer.average_of(trained))
        for buffer, latest in zip(self._copy.buffers(), self._trained.buffers(), strict=True):
            buffer.copy_(latest)

    @torch.no_grad()
    def _take_statistics(self) -> None:
        momenta = [norm.momentum for norm in self._norms]
        for norm in self._norms:
            norm.reset_running_stats()
            norm.momentum = None  # every batch counts the same
            norm.train()
        try:
            with randomness_of(self._seed, "batch-norm", device=self._device):
                for batch in self._batches():
                    moved = batch.to(self._device)
                    with autocast(self._dtype, self._device):
                        outputs_of(self._copy, moved)
        finally:
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum = momentum
            self._copy.eval()
