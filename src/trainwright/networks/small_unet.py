"""A small U-Net for maps of classes, made to learn from a few hundred images on a CPU within minutes."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainwright.networks.norms import norm_layer
from trainwright.networks.residual_blocks import drop_path_rates, residual_stage
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec, Size
from trainwright.records import OutputForm


@networks.register("small-unet")
class SmallUNets:
    """A small U-Net: `width` channels at half size, then three stages of `blocks` residual blocks down to a sixteenth."""

    form: OutputForm = "map"
    multiple = 1

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        return SmallUNet(outputs, spec)


class SmallUNet(nn.Module):
    """Stem at half size; stages of 2, 4 and 8 width at a quarter, an eighth and a sixteenth; context; back up to half size.

    The U of Ronneberger et al., arXiv:1505.04597 §2, with the residual blocks of `SmallResNet`. Full size is left to one
    bilinear step at the end: there a convolution costs four times as much as at half size. On CamVid, at equal computing
    time, a further stage at a thirty-second gained nothing, and leaving half size out too lost the thin and small things.
    Input float [N, 3, H, W] of any size, output [N, outputs, H, W].
    """

    def __init__(self, outputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = (factor * spec.width for factor in (1, 2, 4, 8))
        norm, rates = spec.norm, drop_path_rates(spec, stages=3)
        stem = nn.Sequential(
            nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False), norm_layer(norm, half), nn.ReLU(inplace=True)
        )
        self.encoder = nn.ModuleList(
            [
                stem,
                residual_stage(half, quarter, spec, rates[0], stride=2),
                residual_stage(quarter, eighth, spec, rates[1], stride=2),
                residual_stage(eighth, sixteenth, spec, rates[2], stride=2),
            ]
        )
        self.context = Context(sixteenth)
        self.decoder = nn.ModuleList(
            [Up(sixteenth, eighth, norm), Up(eighth, quarter, norm), Up(quarter, half, norm)]  # from deep to fine
        )
        self.dropout = nn.Dropout2d(spec.dropout)
        self.head = nn.Conv2d(half, outputs, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features, fine = images_NCHW, []
        for stage in self.encoder:
            features = stage(features)
            fine.append(features)
        features = self.context(fine.pop())
        for up in self.decoder:
            features = up(features, fine.pop())
        return _resized(self.head(self.dropout(features)).float(), images_NCHW)


class Context(nn.Module):
    """What the whole image is like, added to every place: its mean, through a convolution (Liu et al., arXiv:1506.04579 §3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)  # without a norm: a batch of one image has no statistics here

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + functional.relu(self.conv(x.mean(dim=(2, 3), keepdim=True)))


class Up(nn.Module):
    """Deep features at twice their size and fine ones, brought to the same channels, added, and convolved."""

    def __init__(self, deep: int, fine: int, norm: str) -> None:
        super().__init__()
        self.deep = nn.Conv2d(deep, fine, 1, bias=False)
        self.fine = nn.Conv2d(fine, fine, 1, bias=False)
        self.norm1 = norm_layer(norm, fine)
        self.conv = nn.Conv2d(fine, fine, 3, padding=1, bias=False)
        self.norm2 = norm_layer(norm, fine)

    def forward(self, deep: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm1(_resized(self.deep(deep), fine) + self.fine(fine)), inplace=True)
        return functional.relu(self.norm2(self.conv(x)), inplace=True)


def _resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
