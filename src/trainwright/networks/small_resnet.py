"""A small residual network for small images: 0.3 M parameters at width 32, 2.8 M at width 64 with two blocks a stage."""

from __future__ import annotations

import torch
from torch import nn

from trainwright.networks.norms import norm_layer
from trainwright.networks.residual_blocks import drop_path_rates, residual_stage
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec, Size
from trainwright.records import OutputForm


@networks.register("small-resnet")
class SmallResNets:
    """A small residual network for small images: `width` channels in the first of three stages of `blocks`."""

    form: OutputForm = "vector"
    multiple = 1

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        return SmallResNet(outputs, spec)


class SmallResNet(nn.Module):
    """Stem, three stages of basic blocks (width, 2 width, 4 width; halved in size between), mean over pixels, head.

    The block is that of He et al., arXiv:1512.03385 §4.2, its weights drawn as in arXiv:1502.01852 §2.2. The last norm of a
    block starts at 1: starting at 0 (arXiv:1706.02677 §5.1) made three blocks learn slower (docs/log.md).
    Input float [N, 3, H, W], output [N, outputs].
    """

    def __init__(self, outputs: int, spec: NetworkSpec) -> None:
        super().__init__()
        width, rates = spec.width, drop_path_rates(spec, stages=3)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), norm_layer(spec.norm, width), nn.ReLU(inplace=True)
        )
        self.stage1 = residual_stage(width, width, spec, rates[0], stride=1)
        self.stage2 = residual_stage(width, 2 * width, spec, rates[1], stride=2)
        self.stage3 = residual_stage(2 * width, 4 * width, spec, rates[2], stride=2)
        self.dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(4 * width, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features_NCHW = self.stage3(self.stage2(self.stage1(self.stem(images_NCHW))))
        logits: torch.Tensor = self.head(self.dropout(features_NCHW.mean(dim=(2, 3))))
        return logits
