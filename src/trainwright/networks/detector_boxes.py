"""Boxes of an anchor-free detector: where it looks, how its outputs become boxes, and how much two boxes have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

MAX_LOG_SIZE = math.log(512)  # of a box, in strides of its map: 4096 pixels, the largest image, at stride 8
TINY = 1e-7  # keeps a quotient of two empty areas a number


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The places at which a detector says something, all maps in one row. L: place.

    points_L2: x and y in pixels of the input, middle of the place's cell. strides_L: its cell's side in pixels.
    """

    points_L2: torch.Tensor
    strides_L: torch.Tensor


def grid_of(shapes: Sequence[tuple[int, int]], strides: Sequence[int], device: torch.device) -> Grid:
    """The grid of maps with these (height, width) and strides, row by row."""
    points, sides = [], []
    for (height, width), stride in zip(shapes, strides, strict=True):
        rows, columns = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        points.append((torch.stack((columns, rows), dim=-1).reshape(-1, 2) + 0.5) * stride)
        sides.append(torch.full((height * width,), float(stride), device=device))
    return Grid(points_L2=torch.cat(points), strides_L=torch.cat(sides))


def decode(raw_NL4: torch.Tensor, grid: Grid) -> torch.Tensor:
    """Boxes [N, L, 4] in pixels from (shift of the centre, logarithm of the size), both in strides.

    Centre and size, not distances to four sides: so a place beside a tiny box can still say it. Ge et al.,
    arXiv:2107.08430 §2.1 (YOLOX).
    """
    strides_L1 = grid.strides_L[:, None]
    centre_NL2 = grid.points_L2 + raw_NL4[..., :2] * strides_L1
    half_NL2 = raw_NL4[..., 2:].clamp(max=MAX_LOG_SIZE).exp() * strides_L1 / 2
    return torch.cat((centre_NL2 - half_NL2, centre_NL2 + half_NL2), dim=-1)


def encode(boxes_NL4: torch.Tensor, grid: Grid) -> torch.Tensor:
    """The outputs [N, L, 4] that `decode` turns into these boxes, whose sides must be longer than 0."""
    strides_L1 = grid.strides_L[:, None]
    centre_NL2 = (boxes_NL4[..., :2] + boxes_NL4[..., 2:]) / 2
    size_NL2 = boxes_NL4[..., 2:] - boxes_NL4[..., :2]
    return torch.cat(((centre_NL2 - grid.points_L2) / strides_L1, (size_NL2 / strides_L1).log()), dim=-1)


def overlaps(boxes_L4: torch.Tensor, others_M4: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every box with every other, [L, M], 0–1."""
    return _iou_and_union(boxes_L4[:, None], others_M4[None])[0]


def overlap_and_generalized(boxes_NL4: torch.Tensor, others_NL4: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(IoU 0–1, generalized IoU −1–1) of each box with the other at its place, [N, L] each.

    The generalized one falls with the distance of boxes that have nothing in common, so that they have a gradient:
    Rezatofighi et al., arXiv:1902.09630 §3.
    """
    iou_NL, union_NL = _iou_and_union(boxes_NL4, others_NL4)
    hull_NL2 = torch.maximum(boxes_NL4[..., 2:], others_NL4[..., 2:]) - torch.minimum(
        boxes_NL4[..., :2], others_NL4[..., :2]
    )
    hull_NL = hull_NL2.prod(dim=-1)
    return iou_NL, iou_NL - (hull_NL - union_NL) / (hull_NL + TINY)


def _iou_and_union(boxes: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    common = torch.minimum(boxes[..., 2:], others[..., 2:]) - torch.maximum(boxes[..., :2], others[..., :2])
    common_area = common.clamp(min=0).prod(dim=-1)
    union = area(boxes) + area(others) - common_area
    return common_area / (union + TINY), union


def area(boxes: torch.Tensor) -> torch.Tensor:
    """Square pixels of boxes [..., 4]; 0 for one whose sides are turned round."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)
