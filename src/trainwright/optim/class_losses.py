"""Losses of one class an image, or a pixel of a map; and of several yes-or-no labels an image.

A class weight multiplies what an image or pixel of that class adds, and the mean is over images or pixels. torch's
`CrossEntropyLoss(weight=…)` divides by the sum of the weights in the batch instead, and so makes an image's loss depend on
which others are drawn with it; of a picture full of one class it would take the weight away again.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from trainwright.errors import RecipeError
from trainwright.optim.losses import WEIGHTS, Loss, class_weights, full_precision, refuse_label_smoothing
from trainwright.plugins import losses
from trainwright.recipe import LossSpec
from trainwright.records import IGNORED


@losses.register("cross-entropy")
def cross_entropy(spec: LossSpec) -> Loss:
    """Cross-entropy in nats, with label smoothing (Szegedy et al., arXiv:1512.00567 §7) and class weights.

    Of logits [N, K] and class indices [N]; or of a map, logits [N, K, H, W] and class indices [N, H, W]: the mean over the
    image's pixels that are not 255, 0 for an image without any. With both, the weight of a class multiplies its own part of
    the smoothed target, as in torch.
    """
    weights_K = class_weights(spec)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if logits.dim() == 4:
            log_p_NKHW, one_hot_NKHW = log_softmax(logits), one_hot(logits, target)
            return mean_cross_entropy(log_p_NKHW, one_hot_NKHW, target, weights_K, spec.label_smoothing)
        logits_NK = full_precision(logits)
        weight = None if weights_K is None else weights_K.to(logits_NK)
        return functional.cross_entropy(
            logits_NK, target, weight=weight, reduction="none", label_smoothing=spec.label_smoothing
        )

    return loss


@losses.register("focal")
def focal(spec: LossSpec) -> Loss:
    """Focal loss −α (1 − p)^γ log p: Lin et al., arXiv:1708.02002 §3.2; p: what is said of the true class; γ: `gamma`.

    Of one class an image or a pixel, shaped and averaged as cross-entropy, with the softmax; α: the class weights. Of several
    labels an image (float 0 or 1, [N, L]) with the sigmoid as in the paper, the mean over the labels, without α. Raises
    RecipeError for label smoothing.
    """
    refuse_label_smoothing(spec, "it is defined for targets of 0 and 1")
    weights_K = class_weights(spec)

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.is_floating_point():
            return _focused(-_binary(logits, target, weights_K), spec.gamma).mean(dim=1)
        if logits.dim() == 2:
            log_p_N = -functional.cross_entropy(full_precision(logits), target, reduction="none")
            return _focused(log_p_N, spec.gamma) * _weights_of(target, weights_K, log_p_N)
        one_hot_NKHW = one_hot(logits, target)
        log_p_NHW = (log_softmax(logits) * one_hot_NKHW).sum(dim=1)  # 0 where the pixel is ignored: so is its loss
        focused_NHW = _focused(log_p_NHW, spec.gamma)
        if weights_K is not None:
            focused_NHW = focused_NHW * (one_hot_NKHW * weights_K.to(log_p_NHW).view(-1, 1, 1)).sum(dim=1)
        return focused_NHW.sum(dim=(1, 2)) / (target != IGNORED).sum(dim=(1, 2)).clamp(min=1)

    return loss


@losses.register("binary-cross-entropy")
def binary_cross_entropy(spec: LossSpec) -> Loss:
    """Cross-entropy in nats of K yes-or-no questions an image, the mean over them: is it of this class, against all others?

    Wightman et al., arXiv:2110.00476; the mean and the smoothed target as timm's BinaryCrossEntropy. Of logits [N, K] and
    class indices [N]: label smoothing s makes a target of 1 − s + s/K of the 1, s/K of the 0; an image weighs what its class
    does. Or of several labels an image, float 0–1 [N, L]: the smoothed target is (1 − s) target + s/2; there are no weights.
    """
    weights_K, smoothing = class_weights(spec), spec.label_smoothing

    def loss(logits_NK: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.is_floating_point():
            return _binary(logits_NK, (1 - smoothing) * target + smoothing / 2, weights_K).mean(dim=1)
        classes = logits_NK.shape[1]
        soft_NK = (1 - smoothing) * functional.one_hot(target, classes) + smoothing / classes
        loss_N = _binary(logits_NK, soft_NK, None).mean(dim=1)
        return loss_N * _weights_of(target, weights_K, loss_N)

    return loss


def log_softmax(logits_NKHW: torch.Tensor) -> torch.Tensor:
    """Over the classes, in full precision. Class after class in memory: pixel after pixel (channels-last), a CPU takes four
    times as long."""
    return full_precision(logits_NKHW).contiguous().log_softmax(dim=1)


def one_hot(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    """float32 [N, K, H, W]: 1 where the pixel is of the class; a pixel that is ignored is of none."""
    classes_K = torch.arange(logits_NKHW.shape[1], dtype=target_NHW.dtype, device=target_NHW.device)
    return (target_NHW.unsqueeze(1) == classes_K.view(1, -1, 1, 1)).float()


def mean_cross_entropy(
    log_p_NKHW: torch.Tensor,
    one_hot_NKHW: torch.Tensor,
    target_NHW: torch.Tensor,
    weights_K: torch.Tensor | None,
    smoothing: float,
) -> torch.Tensor:
    """[N]: the mean over the pixels that are not ignored."""
    scored_NHW = target_NHW != IGNORED
    if weights_K is not None:
        log_p_NKHW = log_p_NKHW * weights_K.to(log_p_NKHW).view(-1, 1, 1)
    sum_N = (log_p_NKHW * one_hot_NKHW).sum(dim=(1, 2, 3))
    if smoothing:
        spread_N = (log_p_NKHW.mean(dim=1) * scored_NHW).sum(dim=(1, 2))
        sum_N = (1 - smoothing) * sum_N + smoothing * spread_N
    return -sum_N / scored_NHW.sum(dim=(1, 2)).clamp(min=1)


def _focused(log_p: torch.Tensor, gamma: float) -> torch.Tensor:
    """−(1 − p)^γ log p. At p = 1 the slope of (1 − p)^γ is infinite where γ is between 0 and 1: hence the smallest 1 − p."""
    missing = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).eps)
    return -missing.pow(gamma) * log_p


def _binary(logits_NK: torch.Tensor, target_NK: torch.Tensor, weights_K: torch.Tensor | None) -> torch.Tensor:
    """[N, K]: the binary cross-entropy of each question. Raises RecipeError for weights: several labels share an image."""
    if weights_K is not None:
        raise RecipeError("an image with several labels is of no one class.", where=WEIGHTS, cure="Set it to null.")
    logits_NK = full_precision(logits_NK)
    return functional.binary_cross_entropy_with_logits(logits_NK, target_NK.to(logits_NK), reduction="none")


def _weights_of(target_N: torch.Tensor, weights_K: torch.Tensor | None, like_N: torch.Tensor) -> torch.Tensor | float:
    """The weight of each image's class."""
    return 1.0 if weights_K is None else weights_K.to(like_N)[target_N]
