"""The best boxes of each image as one fixed computation on tensors: what `networks/detector_decoding.py` does image by image."""

from __future__ import annotations

import torch
from torch.nn import functional

from trainwright.networks.detector_boxes import TINY
from trainwright.networks.detector_decoding import CANDIDATES, KEPT, LEAST_SCORE, SAME_THING, clip
from trainwright.recipe import Size

# A box is kept where no kept surer one hides it. Asked of all boxes at once, the first answer is right for the surest one, the
# second for those that hang on it, and so on: chains of more boxes than this, each hiding the next, were never seen.
ROUNDS = 24


def best_boxes(
    boxes_NL4: torch.Tensor, logits_NLK: torch.Tensor, size: Size
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(boxes [N, 100, 4], scores [N, 100], labels int64 [N, 100]): the surest of each image, clipped to `size`, after
    suppressing what says the same thing twice. What is empty has label −1, score 0 and box 0.

    No loop over images and no tensor whose shape depends on values, so that it exports with any number of images.
    """
    classes = logits_NLK.shape[-1]
    scores_NP = logits_NLK.float().sigmoid().flatten(start_dim=1)
    scores_NP, pair_NP = scores_NP.topk(min(CANDIDATES, scores_NP.shape[1]), dim=1)
    labels_NP = pair_NP % classes
    boxes_NP4 = clip(boxes_NL4.float(), size).gather(1, (pair_NP // classes)[:, :, None].expand(-1, -1, 4))
    kept_NP = _kept(boxes_NP4, labels_NP) & (scores_NP >= LEAST_SCORE)
    found_NM, place_NM = torch.where(kept_NP, scores_NP, 0.0).topk(min(KEPT, scores_NP.shape[1]), dim=1)
    real_NM = found_NM > 0
    labels_NM = torch.where(real_NM, labels_NP.gather(1, place_NM), -1)
    boxes_NM4 = boxes_NP4.gather(1, place_NM[:, :, None].expand(-1, -1, 4)) * real_NM[:, :, None]
    missing = KEPT - found_NM.shape[1]
    if not missing:
        return boxes_NM4, found_NM, labels_NM
    return (
        functional.pad(boxes_NM4, (0, 0, 0, missing)),
        functional.pad(found_NM, (0, missing)),
        functional.pad(labels_NM, (0, missing), value=-1),
    )


def _kept(boxes_NP4: torch.Tensor, labels_NP: torch.Tensor) -> torch.Tensor:
    """Which boxes, the surest first, are hidden by no kept surer one of their class: bool [N, P]."""
    places = boxes_NP4.shape[1]
    surer_PP = torch.ones(places, places, dtype=torch.bool).tril(-1)  # [i, j]: j comes before i
    same_NPP = labels_NP[:, :, None] == labels_NP[:, None, :]
    hides_NPP = ((_overlaps(boxes_NP4) > SAME_THING) & same_NPP & surer_PP).float()
    kept_NP1 = torch.ones_like(boxes_NP4[:, :, :1])
    for _ in range(ROUNDS):
        kept_NP1 = (torch.matmul(hides_NPP, kept_NP1) < 0.5).float()
    return kept_NP1[:, :, 0] > 0.5


def _overlaps(boxes_NP4: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every box of an image with every other, [N, P, P]."""
    left, top, right, bottom = boxes_NP4.unbind(dim=2)
    width_NPP = torch.minimum(right[:, :, None], right[:, None]) - torch.maximum(left[:, :, None], left[:, None])
    height_NPP = torch.minimum(bottom[:, :, None], bottom[:, None]) - torch.maximum(top[:, :, None], top[:, None])
    common_NPP = width_NPP.clamp(min=0) * height_NPP.clamp(min=0)
    area_NP = (right - left) * (bottom - top)
    return common_NPP / (area_NP[:, :, None] + area_NP[:, None] - common_NPP + TINY)
