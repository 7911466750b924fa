"""Networks for maps of classes on any backbone of timm, by segmentation_models_pytorch (MIT licence)."""

from __future__ import annotations

from typing import Any

from torch import nn

from trainwright.errors import RecipeError
from trainwright.networks.timm_regularization import inner_rates
from trainwright.plugins import networks
from trainwright.recipe import PRETRAINED, NetworkSpec, Size
from trainwright.records import OutputForm

ENCODER_DEPTH = 5  # stages of the backbone that are used, to a thirty-second: the package's own default


@networks.register("unet")
class UNets:
    """U-Net (Ronneberger et al., arXiv:1505.04597) whose way down is the `backbone`."""

    form: OutputForm = "map"
    multiple = 32

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        network: Any = _build("Unet", spec, size, classes=outputs)
        network.segmentation_head.insert(0, nn.Dropout2d(spec.dropout))  # the package's U-Net has none
        return _module(network)


@networks.register("fpn")
class FPNs:
    """Feature pyramid network (Kirillov et al., arXiv:1901.02446) on the `backbone`."""

    form: OutputForm = "map"
    multiple = 32

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        return _build("FPN", spec, size, classes=outputs, decoder_dropout=spec.dropout)


@networks.register("deeplabv3plus")
class DeepLabV3Pluses:
    """DeepLabv3+ (Chen et al., arXiv:1802.02611) on the `backbone`, dilated so that it ends at a sixteenth."""

    form: OutputForm = "map"
    multiple = 16

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        stride, dropout = self.multiple, spec.dropout
        return _build(
            "DeepLabV3Plus", spec, size, classes=outputs, encoder_output_stride=stride, decoder_aspp_dropout=dropout
        )


def _build(kind: str, spec: NetworkSpec, size: Size, **options: Any) -> nn.Module:
    """Raises RecipeError for a backbone that does not give features at halved sizes, and what timm raises where published
    weights cannot be had (OSError or RuntimeError)."""
    import segmentation_models_pytorch as package
    import timm

    published = timm.get_pretrained_cfg(spec.backbone)
    of_encoder: dict[str, Any] = {"img_size": size} if published is not None and published.fixed_input_size else {}
    of_encoder |= inner_rates(spec, spec.backbone, features_only=True)
    try:
        network: Any = getattr(package, kind)(
            f"tu-{spec.backbone}", encoder_weights=None, encoder_depth=ENCODER_DEPTH, **options, **of_encoder
        )
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{spec.backbone!r} cannot be the backbone of {spec.name} ({type(error).__name__}: {str(error)[:200]}).",
            where="network.backbone",
            cure="Take one that halves the size in each of its stages, such as resnet18, resnet50 or convnext_tiny.",
        ) from error
    if spec.weights == PRETRAINED:
        encoder = network.encoder
        network.encoder = type(encoder)(
            spec.backbone, pretrained=True, depth=ENCODER_DEPTH, output_stride=encoder.output_stride, **of_encoder
        )
    return _module(network)


def _module(network: Any) -> nn.Module:
    assert isinstance(network, nn.Module)
    return network
