"""A timm network as the encoder of a detector: maps of several strides, behind a feature pyramid."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from trainwright.errors import RecipeError
from trainwright.networks.timm_regularization import inner_rates
from trainwright.recipe import PRETRAINED, NetworkSpec, Size

STRIDES = (4, 8, 16, 32)


class Encoder(nn.Module):
    """The last maps of the timm network that `spec.backbone` names: float [N, 3, H, W] to a list of [N, C, h, w].

    strides: of the maps, in pixels of the input, a tail of `STRIDES`. channels: of each map. Raises RecipeError for a
    network that does not give them, and what timm raises where published weights cannot be had (OSError, RuntimeError).
    """

    def __init__(self, spec: NetworkSpec, *, strides: tuple[int, ...], size: Size) -> None:
        super().__init__()
        import timm

        published = timm.get_pretrained_cfg(spec.backbone)
        options: dict[str, Any] = {"features_only": True, "out_indices": tuple(range(-len(strides), 0))}
        if published is not None and published.fixed_input_size:
            options["img_size"] = size
        options |= inner_rates(spec, spec.backbone, **options)
        try:
            body: Any = timm.create_model(spec.backbone, pretrained=False, **options)
        except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise _unfit(spec, strides, f"{type(error).__name__}: {str(error)[:200]}") from error
        given = tuple(body.feature_info.reduction())
        if given != strides:
            raise _unfit(spec, strides, f"its maps have the strides {list(given)}")
        self.body = timm.create_model(spec.backbone, pretrained=True, **options) if spec.weights == PRETRAINED else body
        self.channels: list[int] = body.feature_info.channels()
        self._channels_are_last = str(getattr(body, "output_fmt", "")).endswith("NHWC")  # swin and its kin

    def forward(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = self.body(images_NCHW)
        return [each.permute(0, 3, 1, 2) for each in maps] if self._channels_are_last else maps


class Pyramid(nn.Module):
    """Maps that the coarser ones have told what they saw, with still coarser ones on top: Lin et al., arXiv:1612.03144 §3.

    coarser: torchvision's block that makes those on top. A list of maps to float32 maps [N, `out_channels`, h, w] by name,
    the finest first, as torchvision's detectors take them.
    """

    def __init__(self, channels: list[int], out_channels: int, coarser: nn.Module) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork

        self.levels = FeaturePyramidNetwork(channels, out_channels, extra_blocks=coarser)
        self.out_channels = out_channels

    def forward(self, maps: list[torch.Tensor]) -> dict[str, torch.Tensor]:
        # In full precision: the bf16 gradient of a stride-2 convolution on a map of 1 × 1 pixels, as the coarsest ones are
        # of small images, reads memory that nobody wrote (torch 2.15 on a processor with AMX).
        with torch.autocast(maps[0].device.type, enabled=False):
            named: dict[str, torch.Tensor] = self.levels({str(level): each.float() for level, each in enumerate(maps)})
        return named


def _unfit(spec: NetworkSpec, strides: tuple[int, ...], why: str) -> RecipeError:
    return RecipeError(
        f"{spec.backbone!r} cannot be the backbone of {spec.name}, which needs maps of strides {list(strides)} ({why}).",
        where="network.backbone",
        cure="Take one that halves the size in each of its stages, such as resnet18, resnet50 or convnext_tiny.",
    )
