"""Images that a short training is measured on and does not see, and whether it has learned anything from images at all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.plugins import Task

SHIFTS = 2  # other targets that an image's loss is compared with


class Listening:
    """A task that notes, with every loss, how much more it would be if each image had another one's target.

    listens: whether it does so now. Networks that make their loss of the target themselves are never heard.
    """

    def __init__(self, task: Task, model: nn.Module) -> None:
        self._task = task
        self._deaf = bool(getattr(model, "takes_target", False))
        self._gains: list[torch.Tensor] = []
        self.listens = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def loss(self, outputs: Any, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        loss_N, tally_NQ = self._task.loss(outputs, target)
        if self.listens and not self._deaf and len(target) > 1:
            with torch.no_grad():
                shifts = range(1, len(target), -(-len(target) // SHIFTS))
                others_RN = torch.stack([self._task.loss(outputs, target.roll(s, dims=0))[0] for s in shifts])
                self._gains.append((others_RN.mean(dim=0) - loss_N).detach().double().cpu())
        return loss_N, tally_NQ

    def gains(self) -> np.ndarray | None:
        """Of every image so far, [P]; None where nothing was heard."""
        return torch.cat(self._gains).numpy() if self._gains else None


def hold_out(batches: Iterator[Batch], count: int) -> tuple[list[Batch], Iterator[Batch]]:
    """(the first `count` batches, all after them); fewer where that would be more than half of the images.

    All images have come by once one of them comes again: then it is a quarter of them, at least one batch; of a single batch
    that holds them all, its first quarter.
    """
    drawn: list[Batch] = []
    seen: set[int] = set()
    for batch in batches:
        rows = set(batch.rows_N.tolist())
        if drawn and not seen.isdisjoint(rows):
            rest = itertools.chain([batch], batches)
            if len(drawn) == 1:
                first_N = np.arange(len(drawn[0])) < max(1, len(drawn[0]) // 4)
                return [_some(drawn[0], first_N)], itertools.chain(drawn, rest)
            kept = max(1, min(count, len(drawn) // 4))
            return drawn[:kept], itertools.chain(drawn[kept:], rest)
        drawn.append(batch)
        seen |= rows
        if len(drawn) == 2 * count:
            break
    return drawn[:count], itertools.chain(drawn[count:], batches)


def others(batches: Iterator[Batch], probe: list[Batch], listening: Listening) -> Iterator[Batch]:
    """The batches without the images of the probe; `listening` listens where none of a batch has been trained on before."""
    held_P = np.concatenate([batch.rows_N for batch in probe])
    seen: set[int] = set()
    for batch in batches:
        kept_N = ~np.isin(batch.rows_N, held_P)
        if kept_N.sum() < min(2, len(batch)):  # batch norm has no statistics of one image
            continue
        part = batch if kept_N.all() else _some(batch, kept_N)
        rows = set(part.rows_N.tolist())
        listening.listens = seen.isdisjoint(rows)
        seen |= rows
        yield part


def pieces(batch: Batch, parts: int) -> list[Batch]:
    """The batch in as many parts as a training step works it through in."""
    return batch.split(math.ceil(len(batch) / parts))


def _some(batch: Batch, kept_N: np.ndarray) -> Batch:
    index_N = torch.from_numpy(np.flatnonzero(kept_N))
    images_NCHW = batch.images_NCHW
    layout = (
        torch.channels_last if images_NCHW.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    )
    return replace(
        batch,
        images_NCHW=images_NCHW[index_N].contiguous(memory_format=layout),
        target=batch.target[index_N],
        rows_N=batch.rows_N[kept_N],
    )
