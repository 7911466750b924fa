"""The residual block that our small networks share, and rows of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from trainwright.networks.norms import norm_layer
from trainwright.recipe import NetworkSpec


class Block(nn.Module):
    """Two 3×3 convolutions and a shortcut: He et al., arXiv:1512.03385 §4.2.

    spec: its norm, and `block_dropout` between the convolutions, after the ReLU: Zagoruyko and Komodakis, arXiv:1605.07146
    §2.4. drop_path: probability with which an image skips the convolutions in train mode: Huang et al., arXiv:1603.09382 §3.
    """

    def __init__(self, channels: int, wider: int, spec: NetworkSpec, *, stride: int, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wider, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm_layer(spec.norm, wider)
        self.dropout = nn.Dropout(spec.block_dropout)
        self.conv2 = nn.Conv2d(wider, wider, 3, padding=1, bias=False)
        self.norm2 = norm_layer(spec.norm, wider)
        self.drop_path = stochastic_depth(drop_path)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != wider:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, wider, 1, stride=stride, bias=False), norm_layer(spec.norm, wider)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(functional.relu(self.norm1(self.conv1(x)), inplace=True))
        return functional.relu(self.drop_path(self.norm2(self.conv2(y))) + self.shortcut(x), inplace=True)


def residual_stage(
    channels: int, wider: int, spec: NetworkSpec, drop_paths: Sequence[float], *, stride: int
) -> nn.Sequential:
    """A block for each rate of `drop_paths`; the first one changes size and channels."""
    first = Block(channels, wider, spec, stride=stride, drop_path=drop_paths[0])
    return nn.Sequential(first, *(Block(wider, wider, spec, stride=1, drop_path=rate) for rate in drop_paths[1:]))


def drop_path_rates(spec: NetworkSpec, *, stages: int) -> list[list[float]]:
    """The rate of every block of every stage, rising linearly from 0 at the first to `spec.drop_path` at the last.

    As in timm. The linear rule of arXiv:1603.09382 §3 has its 0 one block earlier, at the input: with three blocks it would
    drop the first one too, on which all others stand.
    """
    last = stages * spec.blocks - 1
    return [
        [spec.drop_path * (stage * spec.blocks + block) / last for block in range(spec.blocks)]
        for stage in range(stages)
    ]


def stochastic_depth(rate: float) -> nn.Module:
    """What is kept is made larger by the share that is kept, so that nothing is left to do in eval mode."""
    if rate == 0:
        return nn.Identity()
    from torchvision.ops import StochasticDepth

    layer: nn.Module = StochasticDepth(rate, "row")
    return layer
