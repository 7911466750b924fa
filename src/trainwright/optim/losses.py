"""Losses by name. Each is a function of (outputs, target) to the loss of every image, [N]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import functional

from trainwright.errors import RecipeError
from trainwright.plugins import losses
from trainwright.recipe import LossSpec
from trainwright.records import IGNORED

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def balanced_weights(counts: Mapping[str, int], names: Sequence[str]) -> tuple[float, ...]:
    """A weight for each class of `names`: all of the train part over (classes × what is of the class); mean 1 over the data.

    counts: images, or pixels, of each class. Raises RecipeError for a class without any.
    """
    raise NotImplementedError


def build_loss(spec: LossSpec, goes_with: Sequence[str]) -> Loss:
    """The loss that `spec` names, or the first of those that the task takes where it names none.

    goes_with: names of the losses that go with the task (`Task.losses`). Raises UnknownNameError for a name that does not
    exist and RecipeError for one that is another task's.
    """
    name = goes_with[0] if spec.name is None else spec.name
    build = losses.get(name)
    if name not in goes_with:
        raise RecipeError(
            f"{name!r} does not go with this task.", where="loss.name", cure=f"It takes: {', '.join(goes_with)}."
        )
    return build(spec)


@losses.register("cross-entropy")
def cross_entropy(spec: LossSpec) -> Loss:
    """Cross-entropy in nats, with label smoothing (Szegedy et al., arXiv:1512.00567 §7).

    Of logits [N, K] and class indices [N]; or of a map, logits [N, K, H, W] and class indices [N, H, W]: the mean over the
    image's pixels that are not 255, 0 for an image without any.
    """

    def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if logits.dim() == 4:
            return _mean_cross_entropy(_log_softmax(logits), _one_hot(logits, target), target, spec.label_smoothing)
        return functional.cross_entropy(logits.float(), target, reduction="none", label_smoothing=spec.label_smoothing)

    return loss


@losses.register("dice")
def dice(spec: LossSpec) -> Loss:
    """Soft Dice loss of a map: 1 − the mean, over the classes in the image's target, of 2 Σ p g / (Σ p² + Σ g²).

    p: the softmax, g: the target as 0 and 1, summed over the image's pixels that are not 255 (Milletari et al.,
    arXiv:1606.04797 §3). Nothing is added to smooth it: a class that is there has Σ g² >= 1. 0 for an image without any.
    """

    def loss(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        return _dice(_log_softmax(logits_NKHW), _one_hot(logits_NKHW, target_NHW), target_NHW)

    return loss


@losses.register("dice+cross-entropy")
def dice_and_cross_entropy(spec: LossSpec) -> Loss:
    """`dice_weight` of the soft Dice loss and the rest of cross-entropy: small classes count, and every pixel teaches."""

    def loss(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        log_p_NKHW, one_hot_NKHW = _log_softmax(logits_NKHW), _one_hot(logits_NKHW, target_NHW)
        dice_N = _dice(log_p_NKHW, one_hot_NKHW, target_NHW)
        cross_entropy_N = _mean_cross_entropy(log_p_NKHW, one_hot_NKHW, target_NHW, spec.label_smoothing)
        return spec.dice_weight * dice_N + (1 - spec.dice_weight) * cross_entropy_N

    return loss


def _log_softmax(logits_NKHW: torch.Tensor) -> torch.Tensor:
    """Over the classes, in full precision. Class after class in memory: pixel after pixel (channels-last), a CPU takes four
    times as long."""
    return logits_NKHW.float().contiguous().log_softmax(dim=1)


def _one_hot(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    """float32 [N, K, H, W]: 1 where the pixel is of the class; a pixel that is ignored is of none."""
    classes_K = torch.arange(logits_NKHW.shape[1], dtype=target_NHW.dtype, device=target_NHW.device)
    return (target_NHW.unsqueeze(1) == classes_K.view(1, -1, 1, 1)).float()


def _mean_cross_entropy(
    log_p_NKHW: torch.Tensor, one_hot_NKHW: torch.Tensor, target_NHW: torch.Tensor, smoothing: float
) -> torch.Tensor:
    scored_NHW = target_NHW != IGNORED
    sum_N = (log_p_NKHW * one_hot_NKHW).sum(dim=(1, 2, 3))
    if smoothing:
        spread_N = (log_p_NKHW.mean(dim=1) * scored_NHW).sum(dim=(1, 2))
        sum_N = (1 - smoothing) * sum_N + smoothing * spread_N
    return -sum_N / scored_NHW.sum(dim=(1, 2)).clamp(min=1)


def _dice(log_p_NKHW: torch.Tensor, one_hot_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    p_NKHW, scored_N1HW = log_p_NKHW.exp(), (target_NHW != IGNORED).unsqueeze(1)
    both_NK, target_NK = (p_NKHW * one_hot_NKHW).sum(dim=(2, 3)), one_hot_NKHW.sum(dim=(2, 3))
    squares_NK = (p_NKHW.square() * scored_N1HW).sum(dim=(2, 3))
    dice_NK = 2 * both_NK / (squares_NK + target_NK).clamp(min=1)  # below 1: not in the target, and not asked about
    there_NK = target_NK > 0
    return torch.where(there_NK, 1 - dice_NK, 0.0).sum(dim=1) / there_NK.sum(dim=1).clamp(min=1)
