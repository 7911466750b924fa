"""A small residual network for small images: 0.3 M parameters at width 32, 2.8 M at width 64 with two blocks a stage."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec, Size
from trainwright.records import OutputForm

GROUP_CHANNELS = 8  # channels a group of group norm: 16 in Wu and He, arXiv:1803.08494 §4.1; halved for narrow stages


@networks.register("small-resnet")
class SmallResNets:
    """A small residual network for small images: `width` channels in the first of three stages of `blocks`."""

    form: OutputForm = "vector"
    multiple = 1

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        return SmallResNet(outputs, width=spec.width, blocks=spec.blocks, norm=spec.norm, dropout=spec.dropout)


class SmallResNet(nn.Module):
    """Stem, three stages of basic blocks (width, 2 width, 4 width; halved in size between), mean over pixels, head.

    The block is that of He et al., arXiv:1512.03385 §4.2, its weights drawn as in arXiv:1502.01852 §2.2. The last norm of a
    block starts at 1: starting at 0 (arXiv:1706.02677 §5.1) made three blocks learn slower (docs/log.md).
    Input float [N, 3, H, W], output [N, outputs].
    """

    def __init__(
        self, outputs: int, *, width: int = 32, blocks: int = 1, norm: str = "batch", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), norm_layer(norm, width), nn.ReLU(inplace=True)
        )
        self.stage1 = residual_stage(width, width, blocks, norm, stride=1)
        self.stage2 = residual_stage(width, 2 * width, blocks, norm, stride=2)
        self.stage3 = residual_stage(2 * width, 4 * width, blocks, norm, stride=2)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(4 * width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features_NCHW = self.stage3(self.stage2(self.stage1(self.stem(images_NCHW))))
        logits: torch.Tensor = self.head(self.dropout(features_NCHW.mean(dim=(2, 3))))
        return logits


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    def __init__(self, channels: int, wider: int, norm: str, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wider, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm_layer(norm, wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, wider)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != wider:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, wider, 1, stride=stride, bias=False), norm_layer(norm, wider)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


def residual_stage(channels: int, wider: int, blocks: int, norm: str, *, stride: int) -> nn.Sequential:
    first = Block(channels, wider, norm, stride)
    return nn.Sequential(first, *(Block(wider, wider, norm, 1) for _ in range(blocks - 1)))


def norm_layer(kind: str, channels: int) -> nn.Module:
    return nn.GroupNorm(channels // GROUP_CHANNELS, channels) if kind == "group" else nn.BatchNorm2d(channels)
