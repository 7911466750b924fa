"""A small detector that learns from random weights on a processor: 1.5 M parameters at width 32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from trainwright.batch import Detections
from trainwright.networks.detector_assignment import assign
from trainwright.networks.detector_boxes import Grid, decode, grid_of, overlap_and_generalized
from trainwright.networks.detector_decoding import CANDIDATES, TRAIN_CANDIDATES, best_boxes, true_boxes
from trainwright.networks.norms import norm_layer
from trainwright.networks.residual_blocks import drop_path_rates, residual_stage
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec, Size
from trainwright.records import OutputForm

STRIDES = (8, 16, 32)
HEAD_DEPTH = 2  # convolutions of a tower: arXiv:2107.08430 §2.1
PRIOR = 0.01  # score of every place at the start: Lin et al., arXiv:1708.02002 §4.1
START_SIZE = 4.0  # strides, of every box at the start: the anchors of Lin et al., arXiv:1708.02002 §4
BOX_WEIGHT = 2.0  # of the box loss beside the class loss: Li et al., arXiv:2006.04388 (GFL), as published with it


@networks.register("small-detector")
class SmallDetectorNetwork:
    """Anchor-free, three maps, places assigned by what they say; for boxes of 10 pixels and more."""

    form: OutputForm = "boxes"
    multiple = 8

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        return SmallDetector(outputs, spec)


class SmallDetector(nn.Module):
    """Residual body (He et al., arXiv:1512.03385 §4.2), feature pyramid (Lin et al., arXiv:1612.03144 §3), shared heads.

    Input float [N, 3, H, W] and, where there is one, the target [N, M, 5]; output `Detections`, with the loss of each image
    where there is a target. The loss is the quality focal loss of classes (arXiv:2006.04388 §3.1: a place's score is to be
    the overlap of its box) and the generalized IoU loss of boxes, both per place that answers for a box.
    """

    takes_target = True

    def __init__(self, outputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        width, norm, rates = spec.width, spec.norm, drop_path_rates(spec, stages=4)
        self.stem = _convolution(3, width, norm, stride=2)
        self.stage1 = residual_stage(width, width, spec, rates[0], stride=2)
        self.stage2 = residual_stage(width, 2 * width, spec, rates[1], stride=2)
        self.stage3 = residual_stage(2 * width, 4 * width, spec, rates[2], stride=2)
        self.stage4 = residual_stage(4 * width, 8 * width, spec, rates[3], stride=2)
        self.neck = Pyramid((2 * width, 4 * width, 8 * width), 2 * width, norm)
        self.head = Heads(2 * width, outputs, norm, spec.dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.head.start()

    def forward(self, images_NCHW: torch.Tensor, target_NM5: torch.Tensor | None = None) -> Detections:
        logits_NLK, raw_NL4, shapes = self._everywhere(images_NCHW)
        with torch.autocast(images_NCHW.device.type, enabled=False):
            grid = grid_of(shapes, STRIDES, images_NCHW.device)
            boxes_NL4 = decode(raw_NL4, grid)
            loss_N = None if target_NM5 is None else detection_loss(boxes_NL4, logits_NLK, grid, target_NM5)
            size = (images_NCHW.shape[2], images_NCHW.shape[3])
            candidates = TRAIN_CANDIDATES if self.training else CANDIDATES
            return best_boxes(boxes_NL4, logits_NLK, size, candidates=candidates, loss_N=loss_N)

    def places(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(boxes [N, L, 4] in pixels, logits [N, L, K]) of every place, before any is chosen: what a graph can be made of."""
        logits_NLK, raw_NL4, shapes = self._everywhere(images_NCHW)
        return decode(raw_NL4, grid_of(shapes, STRIDES, images_NCHW.device)), logits_NLK

    def _everywhere(self, images_NCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
        """(logits [N, L, K], raw boxes [N, L, 4], height and width of each map)."""
        stride4_NCHW = self.stage1(self.stem(images_NCHW))
        stride8_NCHW = self.stage2(stride4_NCHW)
        stride16_NCHW = self.stage3(stride8_NCHW)
        maps = self.neck([stride8_NCHW, stride16_NCHW, self.stage4(stride16_NCHW)])
        logits_NLK, raw_NL4 = self.head(maps)
        return logits_NLK, raw_NL4, [(m.shape[2], m.shape[3]) for m in maps]


class Pyramid(nn.Module):
    """Maps of three strides, each told what the coarser ones saw, all with the same number of channels."""

    def __init__(self, channels: Sequence[int], wide: int, norm: str) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(own, wide, 1) for own in channels)
        self.smooth = nn.ModuleList(_convolution(wide, wide, norm) for _ in channels)

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        laterals = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for finer in range(len(laterals) - 2, -1, -1):
            coarse = functional.interpolate(laterals[finer + 1], size=laterals[finer].shape[2:], mode="nearest")
            laterals[finer] = laterals[finer] + coarse
        return [smooth(m) for smooth, m in zip(self.smooth, laterals, strict=True)]


class Heads(nn.Module):
    """Class and box of every place. The maps share the convolutions, not the norms: arXiv:2212.07784 §3.1 (RTMDet)."""

    def __init__(self, channels: int, outputs: int, norm: str, dropout: float) -> None:
        super().__init__()
        self.class_tower = Tower(channels, norm)
        self.box_tower = Tower(channels, norm)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Conv2d(channels, outputs, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)

    def start(self) -> None:
        """Every place says no class, and a box of `START_SIZE` around itself."""
        for layer in (self.classes, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
        assert self.classes.bias is not None
        assert self.boxes.bias is not None
        nn.init.constant_(self.classes.bias, -math.log((1 - PRIOR) / PRIOR))
        nn.init.zeros_(self.boxes.bias[:2])
        nn.init.constant_(self.boxes.bias[2:], math.log(START_SIZE))

    def forward(self, maps: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits [N, L, K], raw boxes [N, L, 4]), float32: 8 bits of bf16 are too few for a box's pixels."""
        towers = [(self.class_tower(m, level), self.box_tower(m, level)) for level, m in enumerate(maps)]
        with torch.autocast(maps[0].device.type, enabled=False):
            logits = [_in_a_row(self.classes(self.dropout(tower).float())) for tower, _ in towers]
            raw = [_in_a_row(self.boxes(self.dropout(tower).float())) for _, tower in towers]
        return torch.cat(logits, dim=1), torch.cat(raw, dim=1)


class Tower(nn.Module):
    """Convolutions that all maps share, each with norms of its own."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(HEAD_DEPTH)
        )
        self.norms = nn.ModuleList(norm_layer(norm, channels) for _ in range(HEAD_DEPTH * len(STRIDES)))

    def forward(self, x: torch.Tensor, level: int) -> torch.Tensor:
        own_norms = list(self.norms)[level * HEAD_DEPTH : (level + 1) * HEAD_DEPTH]
        for convolution, norm in zip(self.convolutions, own_norms, strict=True):
            x = functional.relu(norm(convolution(x)), inplace=True)
        return x


def detection_loss(
    boxes_NL4: torch.Tensor, logits_NLK: torch.Tensor, grid: Grid, target_NM5: torch.Tensor
) -> torch.Tensor:
    """The loss of each image [N]: classes of all places and boxes of those that answer for one, per such place.

    Everything float32. An image without boxes has the class loss of its places alone.
    """
    owners, boxes, labels = [], [], []
    for boxes_L4, logits_LK, target_M5 in zip(boxes_NL4.detach(), logits_NLK.detach(), target_NM5, strict=True):
        true_M4, labels_M = true_boxes(target_M5)
        owner_L = assign(boxes_L4, logits_LK, grid, true_M4, labels_M)
        if len(true_M4) == 0:
            true_M4, labels_M = boxes_L4[:1], owner_L.new_zeros(1)  # something to look up; nothing answers for it
        owners.append(owner_L)
        boxes.append(true_M4[owner_L.clamp(min=0)])
        labels.append(labels_M[owner_L.clamp(min=0)])
    answers_NL = torch.stack(owners) >= 0
    count_N = answers_NL.sum(dim=1).clamp(min=1)
    iou_NL, generalized_NL = overlap_and_generalized(boxes_NL4, torch.stack(boxes))
    quality_NL = torch.where(answers_NL, iou_NL.detach(), 0)
    class_N = _quality_focal(logits_NLK, quality_NL, torch.stack(labels)) / count_N
    box_N = torch.where(answers_NL, 1 - generalized_NL, 0).sum(dim=1) / count_N
    return class_N + BOX_WEIGHT * box_N


def _quality_focal(logits_NLK: torch.Tensor, quality_NL: torch.Tensor, labels_NL: torch.Tensor) -> torch.Tensor:
    """The loss of each image's scores, which are to be the quality at the label and 0 elsewhere: arXiv:2006.04388 eq. 5."""
    wanted_NLK = torch.zeros_like(logits_NLK).scatter_(2, labels_NL[..., None], quality_NL[..., None])
    surprise_NLK = functional.binary_cross_entropy_with_logits(logits_NLK, wanted_NLK, reduction="none")
    return (surprise_NLK * (wanted_NLK - logits_NLK.sigmoid()).square()).sum(dim=(1, 2))


def _in_a_row(map_NCHW: torch.Tensor) -> torch.Tensor:
    """[N, C, H, W] as [N, H × W, C]."""
    return map_NCHW.flatten(start_dim=2).transpose(1, 2)


def _convolution(channels: int, wider: int, norm: str, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, wider, 3, stride=stride, padding=1, bias=False),
        norm_layer(norm, wider),
        nn.ReLU(inplace=True),
    )
