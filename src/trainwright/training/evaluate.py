"""Evaluation: what a network says of every image, in eval mode or, to explain a gap, in train mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np
import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.plugins import Task
from trainwright.records import Answers
from trainwright.training.device import autocast
from trainwright.training.loop import outputs_of
from trainwright.training.randomness import randomness_of


def evaluate(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    mode: Literal["eval", "train"] = "eval",
    seed: int = 0,
    after_batch: Callable[[int], None] | None = None,
) -> Answers:
    """The answers for every image of `batches`, with targets. Weights, buffers, modes and random streams stay as they were.

    dtype: of mixed precision, as in training. mode: `train` keeps dropout on and takes batch norm's statistics from each
    batch (train error B of the four). after_batch: called with the number of images done, for progress.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()] if mode == "train" else []
    parts, done = [], 0
    model.train(mode == "train")
    try:
        with torch.no_grad(), randomness_of(seed, "evaluate", device=device):
            for batch in batches:
                moved = batch.to(device)
                with autocast(dtype, device):
                    outputs = outputs_of(model, moved)
                parts.append(task.answers(outputs, moved.target, batch.rows_N))
                done += len(batch)
                if after_batch is not None:
                    after_batch(done)
    finally:
        for module, was_training in modes:
            module.training = was_training
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    return concatenate(parts)


def concatenate(parts: list[Answers]) -> Answers:
    """The answers of several batches as one."""
    return Answers(
        rows=np.concatenate([part.rows for part in parts]),
        columns={name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
    )
