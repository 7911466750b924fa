"""The Lovász-softmax loss: the Jaccard index (IoU) of each class in an image, made continuous and as steep as it is."""

from __future__ import annotations

import torch

from trainwright.optim.class_losses import log_softmax, one_hot
from trainwright.optim.losses import Loss, refuse_class_weights, refuse_label_smoothing
from trainwright.optim.map_losses import ALIKE, WHOLE, mean_of_those_there
from trainwright.plugins import losses
from trainwright.recipe import LossSpec
from trainwright.records import IGNORED


@losses.register("lovasz")
def lovasz(spec: LossSpec) -> Loss:
    """Lovász-softmax of a map: the mean, over the classes in the image's target, of the Lovász extension of 1 − IoU at the

    errors 1 − p where the pixel is of the class and p where it is not, over the image's pixels that are not 255; p: the
    softmax (Berman et al., arXiv:1705.08790 §3, per image and with the classes that are present). 0 for an image without any.
    """
    refuse_class_weights(spec, ALIKE)
    refuse_label_smoothing(spec, WHOLE)

    def loss(logits_NKHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        truth_NKP = one_hot(logits_NKHW, target_NHW).flatten(2)
        errors_NKP = (truth_NKP - log_softmax(logits_NKHW).exp().flatten(2)).abs()
        truth_NKP = truth_NKP.bool()
        there_NK = truth_NKP.any(dim=2)
        with torch.no_grad():  # the extension is linear in the errors as long as their order stays
            ignored_N1P = (target_NHW == IGNORED).flatten(1).unsqueeze(1)
            ranked_RP = errors_NKP.masked_fill(ignored_N1P, -1.0)[there_NK]  # last, where they change nothing
            slope_NKP = torch.zeros_like(errors_NKP)
            slope_NKP[there_NK] = jaccard_slopes(ranked_RP, truth_NKP[there_NK])
            slope_NKP.masked_fill_(ignored_N1P, 0.0)
        return mean_of_those_there((errors_NKP * slope_NKP).sum(dim=2), there_NK)

    return loss


def jaccard_slopes(errors_RP: torch.Tensor, truth_RP: torch.Tensor) -> torch.Tensor:
    """The slopes [R, P] of the Lovász extension of 1 − IoU at `errors_RP`, of R classes with P pixels each: Alg. 1 there.

    truth_RP: bool, whether the pixel is of the class; at least one is. Taken in the order of falling errors, each pixel's
    slope is what 1 − IoU rises by as the pixel becomes wrong too: 1 / U where it is of the class, and otherwise
    I / (U − 1) − I / U, written as I / (U − 1) / U, since a difference of nearly equal float32 has lost most of its digits.
    """
    order_RP = falling_order(errors_RP)
    truth_RP = truth_RP.gather(1, order_RP)
    missed_RP = truth_RP.cumsum(dim=1, dtype=torch.int32)  # integers: on a GPU a sum of floats has no fixed order
    found_RP = (missed_RP[:, -1:] - missed_RP).to(errors_RP.dtype)
    union_RP = found_RP + torch.arange(1, truth_RP.shape[1] + 1, device=truth_RP.device)
    share_RP = found_RP.div_((union_RP - 1).clamp_(min=1))  # a union of 1 is that of a pixel of the class
    slope_RP = share_RP.masked_fill_(truth_RP, 1.0).div_(union_RP)
    return torch.zeros_like(errors_RP).scatter_(1, order_RP, slope_RP)


def falling_order(errors_RP: torch.Tensor) -> torch.Tensor:
    """The places [R, P] of the errors of each row from the largest to the smallest, equal ones as they come.

    On a CPU nearly all of the loss's time goes here, and numpy's sort of whole numbers is about six times as fast as
    torch's of floats (docs/log.md). The bits of a float that is not negative, read as a whole number, have its order, and a
    negative one comes last; below them is room for the place.
    """
    if errors_RP.device.type != "cpu" or errors_RP.dtype != torch.float32:
        return errors_RP.argsort(dim=1, descending=True, stable=True)
    keys_RP = errors_RP.contiguous().view(torch.int32).long()
    keys_RP.mul_(-(2**32)).add_(torch.arange(errors_RP.shape[1]))
    keys_RP.numpy().sort(axis=1)
    return keys_RP.bitwise_and_(2**32 - 1)
