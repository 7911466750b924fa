"""A network of nine layers for small images: much accuracy for few minutes of training. 0.4 M parameters at width 16."""

from __future__ import annotations

import torch
from torch import nn

from trainwright.errors import UsageError
from trainwright.networks.norms import norm_layer
from trainwright.networks.residual_blocks import stochastic_depth
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec, Size
from trainwright.records import OutputForm

LEAST_SIDE = 8  # pixels: it halves the image three times


@networks.register("small-resnet-9")
class ResNet9s:
    """A network of nine layers for small images: `width` channels in the first, eight times as many in the last."""

    form: OutputForm = "vector"
    multiple = 1

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        if min(size) < LEAST_SIDE:
            raise UsageError(
                f"small-resnet-9 halves images three times, so it needs {LEAST_SIDE} pixels a side; these have {min(size)}.",
                where="network.name",
                cure="Set data.image_size to 8 or more, or take small-resnet.",
            )
        return ResNet9(outputs, spec)


class ResNet9(nn.Module):
    """Three convolutions that widen, each before a max pool, and residual pairs after the first and the last of them.

    Little is computed at full size. The shape is that of Page, "How to Train Your ResNet" (Myrtle.ai, 2018), there with 64
    channels first; the largest of what is left of each channel goes to the head. `blocks`: residual pairs at each of the two
    places; `drop_path` of the last, rising from 0. Weights drawn as in He et al., arXiv:1502.01852 §2.2.
    Input float [N, 3, H, W] of 8 pixels a side or more, output [N, outputs].
    """

    def __init__(self, outputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        width, last = spec.width, 2 * spec.blocks - 1
        rates = [spec.drop_path * place / last for place in range(last + 1)]
        self.stem = _layer(3, width, spec)
        self.stage1 = _layer(width, 2 * width, spec, halve=True)
        self.pairs1 = nn.Sequential(*(Pair(2 * width, spec, rate) for rate in rates[: spec.blocks]))
        self.stage2 = _layer(2 * width, 4 * width, spec, halve=True)
        self.stage3 = _layer(4 * width, 8 * width, spec, halve=True)
        self.pairs3 = nn.Sequential(*(Pair(8 * width, spec, rate) for rate in rates[spec.blocks :]))
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(8 * width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features_NCHW = self.pairs1(self.stage1(self.stem(images_NCHW)))
        features_NCHW = self.pairs3(self.stage3(self.stage2(features_NCHW)))
        logits: torch.Tensor = self.head(self.dropout(features_NCHW.amax(dim=(2, 3))))
        return logits


class Pair(nn.Module):
    """Two layers of as many channels, added to what came in. drop_path: how often an image skips them in training."""

    def __init__(self, channels: int, spec: NetworkSpec, drop_path: float) -> None:
        super().__init__()
        self.first = _layer(channels, channels, spec)
        self.dropout = nn.Dropout(spec.block_dropout)
        self.second = _layer(channels, channels, spec)
        self.drop_path = stochastic_depth(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.drop_path(self.second(self.dropout(self.first(x))))
        return x + added


def _layer(channels: int, wider: int, spec: NetworkSpec, *, halve: bool = False) -> nn.Sequential:
    """Convolution, norm and ReLU. halve: the max pool is before the norm, which then has a quarter to do (as in part 8 of
    Page's series, 2019): where a channel's scale is above 0, the largest stays the largest."""
    pool = [nn.MaxPool2d(2)] if halve else []
    convolution = nn.Conv2d(channels, wider, 3, padding=1, bias=False)
    return nn.Sequential(convolution, *pool, norm_layer(spec.norm, wider), nn.ReLU(inplace=True))
