"""The training loop: a generator that takes one optimizer step and yields what happened.

Whoever iterates logs, evaluates, saves or stops; there are no callbacks. Step s draws its randomness from (seed, s) and
nothing else, so a training that is stopped after any step and resumed from its saved state goes on bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.errors import NonFiniteLossError, OutOfResourcesError, RecipeError
from trainwright.plugins import Task
from trainwright.records import StepRecord
from trainwright.training.device import autocast, out_of_memory
from trainwright.training.ema import WeightAverage
from trainwright.training.guard import non_finite_loss
from trainwright.training.randomness import randomness_of
from trainwright.training.ranks import Order, Ranks


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """What a step does beyond forward, backward and update.

    parts: how many pieces a batch is worked through in; the update is that of the whole batch. clip_norm: largest norm of
    the gradient. autocast: type of mixed precision, None for none. scaler: for fp16. average: weights averaged after
    every step. seed: of the random streams (dropout). name_rows: turns rows of the sample table into what a person
    recognizes, for errors. mix: (batch on the device, step) → a batch of mixtures (`training/mixing.py`). momentum: progress
    (0–1) → the momentum of every parameter group, beta1 where it has betas. ranks: processes that share each step
    (`training/ranks.py`); a batch is then this one's equal part of the step's images, and `parts` are those of that part.
    """

    parts: int = 1
    clip_norm: float | None = None
    autocast: torch.dtype | None = None
    scaler: torch.amp.GradScaler | None = None
    average: WeightAverage | None = None
    seed: int = 0
    name_rows: Callable[[Any], list[str]] | None = None
    mix: Callable[[Batch, int], Batch] | None = None
    momentum: Callable[[float], float] | None = None
    ranks: Ranks | None = None


def fit(
    model: nn.Module,
    task: Task,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[float], float],
    *,
    steps: int,
    device: torch.device,
    first_step: int = 0,
    settings: FitSettings | None = None,
) -> Iterator[StepRecord]:
    """Train from `first_step` to `steps`, yielding after each step. To stop early, stop iterating.

    batches: from the batch of `first_step` on. schedule: progress (0–1) → factor of each parameter group's `peak_lr` (its
    lr at the first call). Raises NonFiniteLossError naming step, layer and images before the faulty loss reaches the
    weights. Where memory runs out the batch is worked through in twice as many parts, with the same update; raises
    OutOfResourcesError where one image is too many.
    """
    settings = settings or FitSettings()
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", group["lr"])
    buffers = _Buffers(model)
    parts = settings.parts
    for step, batch in zip(range(first_step, steps), batches, strict=False):
        momentum = _set_rates(optimizer, schedule(step / steps), settings.momentum and settings.momentum(step / steps))
        if not model.training:
            model.train()  # the caller may have evaluated since the last yield
        buffers.remember()
        while True:
            try:
                loss, tally_sum = _gradients(model, task, batch.to(device), parts, step, settings)
                break
            except (RuntimeError, NonFiniteLossError) as error:
                buffers.restore()
                optimizer.zero_grad(set_to_none=True)
                if not out_of_memory(error):
                    raise
            except ValueError as error:
                refuse_single_image(error)
                raise
            # Not in the handler: as long as the error lives, its traceback holds what the step had allocated.
            parts = _more_parts(parts, len(batch), device)
        _update(model, optimizer, settings, device, step)
        yield StepRecord(
            step=step,
            loss=loss,
            tally_sum=tally_sum,
            images=len(batch) * (settings.ranks.count if settings.ranks else 1),
            lr=max(group["lr"] for group in optimizer.param_groups),
            progress=(step + 1) / steps,
            parts=parts,
            momentum=momentum,
        )


def refuse_single_image(error: ValueError) -> None:
    """Raise RecipeError in place of `error` where batch norm was given a single value a channel."""
    if "more than 1 value per channel" in str(error):
        raise RecipeError(
            "batch norm has no statistics of a single image.",
            where="batch_size",
            cure="At least 2 images a part: raise batch_size, lower accumulate, or set network.norm=group.",
        ) from error


def _gradients(
    model: nn.Module, task: Task, batch: Batch, parts: int, step: int, settings: FitSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean loss, summed tallies [Q]) of the step, whose gradient is then in the parameters, whoever worked through it."""
    order = Order(step=step, parts=parts)
    if settings.ranks is None:
        return gradients_of(model, task, batch, order, settings)
    if settings.scaler is not None:
        order = replace(order, scale=settings.scaler.get_scale())
    return settings.ranks.lead(order, lambda: gradients_of(model, task, batch, order, settings))


def gradients_of(
    model: nn.Module, task: Task, batch: Batch, order: Order, settings: FitSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """(mean loss, summed tallies [Q]) of the batch, whose gradient is then in the parameters; of a rank's part of the step
    what it adds to those of the step."""
    ranks, scaler, step = settings.ranks, settings.scaler, order.step
    images = len(batch) * (ranks.count if ranks else 1)
    stream: tuple[str | int, ...] = ("step", step, "rank", ranks.rank) if ranks and ranks.rank else ("step", step)
    losses, tallies = [], []
    if settings.mix is not None:
        batch = settings.mix(batch, step)
    with randomness_of(settings.seed, *stream, device=batch.images_NCHW.device):
        for part in batch.split(math.ceil(len(batch) / order.parts)):
            with autocast(settings.autocast, part.images_NCHW.device):
                loss_N, tally_NQ = loss_of(task, outputs_of(model, part), part)
            loss = loss_N.sum() / images
            if not math.isfinite(loss.item()):
                with autocast(settings.autocast, part.images_NCHW.device):
                    raise non_finite_loss(model, part, loss_N, step=step, name_rows=settings.name_rows)
            scaled = loss if scaler is None else scaler.scale(loss)
            (scaled if scaler or order.scale == 1 else loss * order.scale).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            tallies.append(tally_NQ.detach().sum(dim=0))
    return torch.stack(losses).sum(), torch.stack(tallies).sum(dim=0)


def _set_rates(optimizer: torch.optim.Optimizer, factor: float, momentum: float | None) -> float | None:
    """Set lr, and momentum where a group has one: where it is 0 it stays so. Returns the momentum that was set."""
    taken = None
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
        if momentum is not None and "betas" in group:
            group["betas"], taken = (momentum, *group["betas"][1:]), momentum
        if momentum is not None and group.get("momentum"):  # Muon has both: one for hidden layers, one for the others
            group["momentum"] = taken = momentum
    return taken


def loss_of(task: Task, outputs: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss [N], tally [N, Q]) of the task; of mixtures those of both targets, each by its share."""
    loss_N, tally_NQ = task.loss(outputs, batch.target)
    if batch.partner is None or batch.share_N is None:
        return loss_N, tally_NQ
    other_N, other_NQ = task.loss(outputs, batch.partner)
    share_N = batch.share_N
    return (
        share_N * loss_N + (1 - share_N) * other_N,
        share_N[:, None] * tally_NQ + (1 - share_N[:, None]) * other_NQ,
    )


def outputs_of(model: nn.Module, batch: Batch) -> Any:
    """What the network says of a batch. Detectors of two stages need the target too: they learn from boxes of their own."""
    if getattr(model, "takes_target", False):
        return model(batch.images_NCHW, batch.target)
    return model(batch.images_NCHW)


def _update(
    model: nn.Module, optimizer: torch.optim.Optimizer, settings: FitSettings, device: torch.device, step: int
) -> None:
    """Move the weights. Out of memory here is final: some groups of parameters may have moved already."""
    try:
        _move(model, optimizer, settings, step)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise OutOfResourcesError(
            f"the optimizer's state does not fit into the memory of {device}.",
            where="optimizer.name",
            cure="Use an optimizer that keeps less (--set optimizer.name=sgd), a smaller network, or another device.",
        ) from error


def _move(model: nn.Module, optimizer: torch.optim.Optimizer, settings: FitSettings, step: int) -> None:
    if settings.clip_norm is not None:
        if settings.scaler is not None:
            settings.scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        if settings.scaler is None and not math.isfinite(norm.item()):
            optimizer.zero_grad(set_to_none=True)
            raise NonFiniteLossError(
                f"the gradient is not finite at step {step}, although the loss is.",
                where="training",
                cure="Lower the learning rate (--set optimizer.lr=…) or train in full precision (--set precision=fp32).",
            )
    if settings.scaler is None:
        optimizer.step()
    else:
        settings.scaler.step(optimizer)
        settings.scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if settings.average is not None:
        settings.average.update(model)


class _Buffers:
    """The model's buffers (batch-norm statistics), to take back what a step changed before it ran out of memory."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = list(model.buffers())
        self._copies = [buffer.clone() for buffer in self._buffers]

    def remember(self) -> None:
        for copy, buffer in zip(self._copies, self._buffers, strict=True):
            copy.copy_(buffer)

    def restore(self) -> None:
        for copy, buffer in zip(self._copies, self._buffers, strict=True):
            buffer.copy_(copy)


def _more_parts(parts: int, images: int, device: torch.device) -> int:
    if parts >= images:
        raise OutOfResourcesError(
            f"not even one image at a time fits into the memory of {device}.",
            where="batch_size",
            cure="Use smaller images (--set data.image_size=…), a smaller network, or another device.",
        )
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return min(parts * 2, images)
