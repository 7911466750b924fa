"""From what a detector says at every place to the best 100 boxes of each image."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from trainwright.batch import Detections
from trainwright.recipe import Size

KEPT = 100  # boxes an image: what COCO's evaluation looks at (Lin et al., arXiv:1405.0312)
CANDIDATES = 1000  # (place, class) pairs an image before suppression: Tian et al., arXiv:1904.01355 §4
TRAIN_CANDIDATES = 300  # the same in train mode, where the score is only watched
LEAST_SCORE = 0.01  # a box less sure is not worth a place: arXiv:2107.08430
SAME_THING = 0.5  # IoU above which two boxes of a class are taken for one thing: arXiv:1708.02002 §4.1

Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # boxes [M, 4], scores [M], labels [M] of one image


@torch.no_grad()
def best_boxes(
    boxes_NL4: torch.Tensor, logits_NLK: torch.Tensor, size: Size, *, candidates: int, loss_N: torch.Tensor | None
) -> Detections:
    """The `KEPT` surest boxes of each image, clipped to `size`, after suppressing what says the same thing twice.

    candidates: (place, class) pairs an image that are looked at. loss_N: handed on.
    """
    classes = logits_NLK.shape[-1]
    scores_NP = logits_NLK.float().sigmoid().flatten(start_dim=1)
    best_NP, pair_NP = scores_NP.topk(min(candidates, scores_NP.shape[1]), dim=1)
    clipped_NL4 = clip(boxes_NL4.float(), size)
    found = []
    for boxes_L4, scores_P, pair_P in zip(clipped_NL4, best_NP, pair_NP, strict=True):
        sure_P = scores_P >= LEAST_SCORE
        place_P, label_P = pair_P[sure_P] // classes, pair_P[sure_P] % classes
        found.append(suppressed((boxes_L4[place_P], scores_P[sure_P], label_P)))
    return packed(found, loss_N=loss_N)


def suppressed(found: Found) -> Found:
    """The boxes without those that overlap a surer one of their class by more than `SAME_THING`, surest first."""
    from torchvision.ops import batched_nms

    kept = batched_nms(*found, SAME_THING)
    return found[0][kept], found[1][kept], found[2][kept]


def packed(found: Sequence[Found], *, loss_N: torch.Tensor | None) -> Detections:
    """Each image's first `KEPT` boxes as tensors of one shape; what is empty has label −1, score 0 and box 0."""
    device = found[0][0].device
    boxes_NM4 = torch.zeros(len(found), KEPT, 4, device=device)
    scores_NM = torch.zeros(len(found), KEPT, device=device)
    labels_NM = torch.full((len(found), KEPT), -1, dtype=torch.int64, device=device)
    for image, (boxes, scores, labels) in enumerate(found):
        count = min(len(boxes), KEPT)
        boxes_NM4[image, :count] = boxes[:count]
        scores_NM[image, :count] = scores[:count]
        labels_NM[image, :count] = labels[:count]
    return Detections(boxes_NM4=boxes_NM4, scores_NM=scores_NM, labels_NM=labels_NM, loss_N=loss_N)


def clip(boxes: torch.Tensor, size: Size) -> torch.Tensor:
    """Boxes [..., 4] without what lies outside of an image of `size`."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor((width, height, width, height)))


def true_boxes(target_M5: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(boxes [M, 4] float32, labels [M] int64) of one image, without fill and without boxes that have no area."""
    boxes_M4 = target_M5[:, 1:].float()
    real_M = (target_M5[:, 0] >= 0) & (boxes_M4[:, 2:] > boxes_M4[:, :2]).all(dim=1)
    return boxes_M4[real_M], target_M5[real_M, 0].long()
