"""Mixtures of training images: mixup and CutMix, drawn from a random stream of their own.

Both take the batch itself in another order as the images to mix in, and one share for the whole batch, as their authors'
code does. They run where the batch is, after the loader and before the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from trainwright.batch import Batch
from trainwright.errors import RecipeError
from trainwright.recipe import AugmentSpec, Size
from trainwright.records import TargetKind
from trainwright.seeding import stream

Mix = Callable[[Batch, int], Batch]


def mixing(spec: AugmentSpec, *, kind: TargetKind, seed: int) -> Mix | None:
    """(batch, step) → the batch mixed as `spec` says, a pure function of (seed, step); None where nothing is to be mixed.

    kind: of the targets. Raises RecipeError where such targets cannot be mixed so.
    """
    _refuse_what_lies(spec, kind)
    if not (spec.mixup or spec.cutmix) or not spec.mix:
        return None

    def mix(batch: Batch, step: int) -> Batch:
        draws = stream(seed, "mix", step)
        mixed, first = draws.random(2)
        partner_N = draws.permutation(len(batch))
        if mixed >= spec.mix:
            return batch
        if spec.mixup and (not spec.cutmix or first < 0.5):
            return mixup(batch, partner_N, share=float(draws.beta(spec.mixup, spec.mixup)))
        height, width = batch.images_NCHW.shape[2:]
        window = cutmix_window((height, width), float(draws.beta(spec.cutmix, spec.cutmix)), draws.random(2))
        return cutmix(batch, partner_N, window, masks=kind == "mask")

    return mix


def mixup(batch: Batch, partner_N: np.ndarray, *, share: float) -> Batch:
    """Every image as `share` of itself and the rest of its partner (Zhang et al., arXiv:1710.09412 §2), float 0–255.

    partner_N: int64, which image of the batch is mixed into each.
    """
    order_N = _on_device(partner_N, batch)
    images_NCHW = batch.images_NCHW
    if not images_NCHW.is_floating_point():
        images_NCHW = images_NCHW.float()
    mixed_NCHW = _reordered(images_NCHW, order_N).mul_(1 - share).add_(images_NCHW, alpha=share)
    return replace(batch, images_NCHW=mixed_NCHW, partner=batch.target[order_N], share_N=_shares(batch, share))


def cutmix(batch: Batch, partner_N: np.ndarray, window: tuple[int, int, int, int], *, masks: bool = False) -> Batch:
    """Every image with the pixels of its partner in one window (Yun et al., arXiv:1905.04899 §3.1).

    partner_N: int64, which image of the batch is pasted into each. window: (left, top, right, bottom) in pixels. masks: the
    target is pasted like the image, and nothing is left to weigh. Otherwise the share of an image is its area outside of the
    window.
    """
    left, top, right, bottom = window
    height, width = batch.images_NCHW.shape[2:]
    order_N = _on_device(partner_N, batch)
    images_NCHW = batch.images_NCHW.clone()  # keeps the order of memory
    images_NCHW[:, :, top:bottom, left:right] = batch.images_NCHW[:, :, top:bottom, left:right][order_N]
    if masks:
        target_NHW = batch.target.clone()
        target_NHW[:, top:bottom, left:right] = batch.target[:, top:bottom, left:right][order_N]
        return replace(batch, images_NCHW=images_NCHW, target=target_NHW)
    share = 1 - (right - left) * (bottom - top) / (height * width)
    return replace(batch, images_NCHW=images_NCHW, partner=batch.target[order_N], share_N=_shares(batch, share))


def cutmix_window(size: Size, share: float, centre: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of a window with 1 - `share` of the area of an image of `size`, cut off at its edges.

    Its shape is that of the image: arXiv:1905.04899 §3.1, equation 2. centre: (y, x) as uniform numbers in [0, 1).
    """
    ends = []
    for side, at in zip(size, centre.tolist(), strict=True):
        length = int(side * (1 - share) ** 0.5)
        start = int(side * at) - length // 2
        ends.append((max(0, start), min(side, start + length)))
    (top, bottom), (left, right) = ends
    return left, top, right, bottom


def _refuse_what_lies(spec: AugmentSpec, kind: TargetKind) -> None:
    """Raise RecipeError where a mixture of images has no target of this kind."""
    if kind == "boxes" and (spec.mixup or spec.cutmix):
        raise RecipeError(
            "images of which each has boxes of its own are not mixed: the loss of a detector has no share of an image.",
            where="augment.mixup" if spec.mixup else "augment.cutmix",
            cure="Set it to 0; augment.crop_scale and augment.colour are for images with boxes.",
        )
    if kind == "numbers" and spec.cutmix:
        raise RecipeError(
            "a number of a whole image cannot be told from a piece of it.",
            where="augment.cutmix",
            cure="Set it to 0; augment.mixup weighs the losses of both images.",
        )


def _on_device(partner_N: np.ndarray, batch: Batch) -> torch.Tensor:
    return torch.from_numpy(partner_N).to(batch.images_NCHW.device, non_blocking=True)


def _reordered(images_NCHW: torch.Tensor, order_N: torch.Tensor) -> torch.Tensor:
    """A copy in another order of images, in the same order of memory."""
    if images_NCHW.is_contiguous(memory_format=torch.channels_last):
        return images_NCHW.permute(0, 2, 3, 1)[order_N].permute(0, 3, 1, 2)
    return images_NCHW[order_N]


def _shares(batch: Batch, share: float) -> torch.Tensor:
    return torch.full((len(batch),), share, dtype=torch.float32, device=batch.images_NCHW.device)
