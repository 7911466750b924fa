"""Which place of a detector answers for which true box: decided anew in every step, by what the places say already."""

from __future__ import annotations

import torch
from torch.nn import functional

from trainwright.networks.detector_boxes import Grid, overlaps

MOST_PLACES = 13  # places that a box may get at most: Lyu et al., arXiv:2212.07784 §3.2 (RTMDet), as published with it
OVERLAP_WEIGHT = 3.0  # of the cost of a poor overlap: Ge et al., arXiv:2107.08430 §2.1
CENTRE_BASE, CENTRE_FREE = 10.0, 3.0  # of the cost of being far from the centre, in strides: RTMDet eq. 4
MAX_DISTANCE = 12.0  # strides; a greater distance costs no more (10^9 is past all that could outweigh it)
FAR_OVERLAP = 1e-7  # IoU that a pair without any overlap counts as: cost 48


@torch.no_grad()
def assign(
    boxes_L4: torch.Tensor, logits_LK: torch.Tensor, grid: Grid, true_M4: torch.Tensor, labels_M: torch.Tensor
) -> torch.Tensor:
    """For each place of one image the index of the true box that it answers for, −1 for none: int64 [L].

    boxes_L4, logits_LK: what the network says now. A box gets as many places as the overlaps of its best ones add up to, at
    least one (unless a nearer box takes it): dynamic k of Ge et al., arXiv:2103.14259 §3.3; those places that cost least,
    by class, overlap and distance from the box's centre, as in arXiv:2212.07784 §3.2. No place is shut out, so that a box
    smaller than a cell finds one too.
    """
    places, boxes = len(boxes_L4), len(true_M4)
    if boxes == 0:
        return torch.full((places,), -1, dtype=torch.int64, device=boxes_L4.device)
    iou_LM = overlaps(boxes_L4, true_M4)
    cost_LM = _costs(iou_LM, logits_LK[:, labels_M], _distances(grid, true_M4))
    candidates = min(MOST_PLACES, places)
    wanted_M = iou_LM.topk(candidates, dim=0).values.sum(dim=0).long().clamp(min=1)
    cheapest_CM = cost_LM.topk(candidates, dim=0, largest=False).indices
    taken_CM = torch.arange(candidates, device=boxes_L4.device)[:, None] < wanted_M
    chosen_LM = torch.zeros_like(cost_LM, dtype=torch.bool).scatter_(0, cheapest_CM, taken_CM)
    owner_L = cost_LM.masked_fill(~chosen_LM, torch.inf).argmin(dim=1)
    return torch.where(chosen_LM.any(dim=1), owner_L, -1)


def _costs(iou_LM: torch.Tensor, logits_LM: torch.Tensor, distance_LM: torch.Tensor) -> torch.Tensor:
    surprise_LM = functional.binary_cross_entropy_with_logits(logits_LM, iou_LM, reduction="none")
    class_LM = surprise_LM * (iou_LM - logits_LM.sigmoid()).square()
    overlap_LM = -OVERLAP_WEIGHT * (iou_LM + FAR_OVERLAP).log()
    return class_LM + overlap_LM + CENTRE_BASE ** (distance_LM.clamp(max=MAX_DISTANCE) - CENTRE_FREE)


def _distances(grid: Grid, true_M4: torch.Tensor) -> torch.Tensor:
    """From each place to the centre of each box, in strides of the place, [L, M]."""
    centre_M2 = (true_M4[:, :2] + true_M4[:, 2:]) / 2
    return (grid.points_L2[:, None] - centre_M2).square().sum(dim=-1).sqrt() / grid.strides_L[:, None]
