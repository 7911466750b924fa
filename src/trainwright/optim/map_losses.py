"""Losses of maps that compare the regions of each class as a whole: Dice and what is made of it, in each image on its own."""

from __future__ import annotations

import torch

from trainwright.errors import RecipeError
from trainwright.optim.class_losses import log_softmax, mean_cross_entropy, one_hot
from trainwright.optim.losses import Loss, class_weights, refuse_class_weights, refuse_label_smoothing
from trainwright.plugins import losses
from trainwright.recipe import LossSpec
from trainwright.records import IGNORED

ALIKE = "every class in an image counts alike, however small it is"
WHOLE = "it compares regions, and a pixel is in one or is not"


@losses.register("dice")
def dice(spec: LossSpec) -> Loss:
    """Soft Dice loss of a map: 1 − the mean, over the classes in the image's target, of 2 Σ p g / (Σ p² + Σ g²).

    p: the softmax, g: the target as 0 and 1, summed over the image's pixels that are not 255 (Milletari et al.,
    arXiv:1606.04797 §3). Nothing is added to smooth it: a class that is there has Σ g² >= 1. 0 for an image without any.
    """
    refuse_class_weights(spec, ALIKE)
    refuse_label_smoothing(spec, WHOLE)

    def loss(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        return _dice(log_softmax(logits_NKHW), one_hot(logits_NKHW, target_NHW), target_NHW)

    return loss


@losses.register("dice+cross-entropy")
def dice_and_cross_entropy(spec: LossSpec) -> Loss:
    """`dice_weight` of the soft Dice loss and the rest of cross-entropy: small classes count, and every pixel teaches.

    Label smoothing and class weights are those of the cross-entropy. Raises RecipeError for either where it has no share.
    """
    weights_K = class_weights(spec)
    if spec.dice_weight == 1:
        refuse_class_weights(spec, f"dice_weight is 1, and in Dice {ALIKE}")
        refuse_label_smoothing(spec, "dice_weight is 1, and Dice compares regions")

    def loss(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        log_p_NKHW, one_hot_NKHW = log_softmax(logits_NKHW), one_hot(logits_NKHW, target_NHW)
        dice_N = _dice(log_p_NKHW, one_hot_NKHW, target_NHW)
        cross_entropy_N = mean_cross_entropy(log_p_NKHW, one_hot_NKHW, target_NHW, weights_K, spec.label_smoothing)
        return spec.dice_weight * dice_N + (1 - spec.dice_weight) * cross_entropy_N

    return loss


@losses.register("tversky")
def tversky(spec: LossSpec) -> Loss:
    """1 − the mean, over the classes in the image's target, of Tversky's index TP / (TP + a FP + b FN): (a, b) = `tversky`.

    TP: Σ p g, FP: Σ p (1 − g), FN: Σ (1 − p) g, over the image's pixels that are not 255 (Salehi et al., arXiv:1706.05721 §2).
    (½, ½) is Dice without squares, (1, 1) the Jaccard index. 0 for an image without any. Raises RecipeError for b = 0.

    A class that the image has not is left out: its index is 0 as long as anything is said of it, the same for little and for
    much, and teaches nothing. What is said of it falsely is missing where it belongs, and counts there as FN. So b must not
    be 0, where one sure pixel of a class would be a perfect answer.
    """
    refuse_class_weights(spec, ALIKE)
    refuse_label_smoothing(spec, WHOLE)
    of_false_positives, of_false_negatives = spec.tversky
    if not of_false_negatives:
        raise RecipeError(
            "without a weight of false negatives, nothing asks for a pixel to be found.",
            where="loss.tversky",
            cure="Give [false positives, false negatives] with the second above 0, for example [0.3, 0.7].",
        )

    def loss(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        p_NKHW, one_hot_NKHW = log_softmax(logits_NKHW).exp(), one_hot(logits_NKHW, target_NHW)
        scored_N1HW = (target_NHW != IGNORED).unsqueeze(1)
        both_NK, target_NK = (p_NKHW * one_hot_NKHW).sum(dim=(2, 3)), one_hot_NKHW.sum(dim=(2, 3))
        said_NK = (p_NKHW * scored_N1HW).sum(dim=(2, 3))
        all_NK = both_NK + of_false_positives * (said_NK - both_NK) + of_false_negatives * (target_NK - both_NK)
        return mean_of_those_there(1 - both_NK / torch.where(target_NK > 0, all_NK, 1.0), target_NK > 0)

    return loss


def mean_of_those_there(loss_NK: torch.Tensor, there_NK: torch.Tensor) -> torch.Tensor:
    """[N]: the mean over the classes that are in the image's target, 0 for an image without any."""
    return torch.where(there_NK, loss_NK, 0.0).sum(dim=1) / there_NK.sum(dim=1).clamp(min=1)


def _dice(log_p_NKHW: torch.Tensor, one_hot_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    p_NKHW, scored_N1HW = log_p_NKHW.exp(), (target_NHW != IGNORED).unsqueeze(1)
    both_NK, target_NK = (p_NKHW * one_hot_NKHW).sum(dim=(2, 3)), one_hot_NKHW.sum(dim=(2, 3))
    squares_NK = (p_NKHW.square() * scored_N1HW).sum(dim=(2, 3))
    dice_NK = 2 * both_NK / (squares_NK + target_NK).clamp(min=1)  # below 1: not in the target, and not asked about
    return mean_of_those_there(1 - dice_NK, target_NK > 0)
