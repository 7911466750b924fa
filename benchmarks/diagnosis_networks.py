"""The networks of `diagnosis_cells.py`: small and coarse on purpose, so that a training takes seconds.

`width` counts eighths of channels, because the thinnest that a recipe may ask for is no cripple otherwise.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec, Size
from trainwright.records import OutputForm


def register_networks() -> None:
    """Make the networks of this file known by their names. Not on import: tests look at every network that is known."""
    for name, network in (("patch-net", PatchNets), ("patch-map", PatchMaps)):
        if name not in networks.names():
            networks.register(name)(network)


class PatchNets:
    """Three coarse convolutions on patches of four pixels; width / 8 channels in the first."""

    form: OutputForm = "vector"
    multiple = 4

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        return PatchNet(outputs, spec)


class PatchNet(nn.Module):
    """Input float [N, 3, H, W], output [N, outputs]."""

    def __init__(self, outputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        channels = spec.width // 8
        self.body = nn.Sequential(
            nn.Conv2d(3, channels, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout2d(spec.block_dropout),
            nn.Conv2d(2 * channels, 4 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(4 * channels),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(4 * channels, outputs)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features_NCHW = self.body(images_NCHW)
        logits: torch.Tensor = self.head(self.dropout(features_NCHW.mean(dim=(2, 3))))
        return logits


class PatchMaps:
    """Fine features at half size beside coarse ones from an eighth; width / 8 channels in the fine ones."""

    form: OutputForm = "map"
    multiple = 1

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        return PatchMap(outputs, spec)


class PatchMap(nn.Module):
    """Input float [N, 3, H, W], output [N, outputs, H, W]."""

    def __init__(self, outputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        channels = spec.width // 8
        self.fine = _convolved(3, channels, 5, stride=2)
        self.coarse = nn.Sequential(
            _convolved(channels, 2 * channels, 3, stride=2),
            nn.Dropout2d(spec.block_dropout),
            _convolved(2 * channels, 4 * channels, 3, stride=2),
            nn.Dropout2d(spec.block_dropout),
            _convolved(4 * channels, 4 * channels, 3),
        )
        self.dropout = nn.Dropout2d(spec.dropout)
        self.head = nn.Conv2d(5 * channels, outputs, 1)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        fine_NCHW = self.fine(images_NCHW)
        coarse_NCHW = functional.interpolate(self.coarse(fine_NCHW), fine_NCHW.shape[2:], mode="bilinear")
        logits_NKHW = self.head(self.dropout(torch.cat([fine_NCHW, coarse_NCHW], dim=1)))
        return functional.interpolate(logits_NKHW.float(), images_NCHW.shape[2:], mode="bilinear")


def _convolved(channels: int, made: int, size: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, made, size, stride=stride, padding=size // 2, bias=False), nn.BatchNorm2d(made), nn.ReLU()
    )
