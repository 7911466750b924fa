"""The next larger network of the same family: what `wider` trains, and what too little capacity asks for."""

from __future__ import annotations

from typing import Any

from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec
from trainwright.training.names import CUSTOM

WIDER = 2  # times the channels, which is about four times the work of a step
THIN, MUCH_WIDER = (
    16,
    4,
)  # where there are at most so many channels a step costs little: four times as many tell more clearly
MOST_WIDTH = 256  # that a recipe may ask for
ON_A_BACKBONE = ("unet", "fpn", "deeplabv3plus", "faster-rcnn", "retinanet", "fcos")
# Families of timm from small to large, each name without the tag of its weights.
FAMILIES = (
    ("resnet10t", "resnet14t", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    ("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_base_patch16_224", "vit_large_patch16_224"),
    ("deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224"),
    (
        "convnext_atto",
        "convnext_femto",
        "convnext_pico",
        "convnext_nano",
        "convnext_tiny",
        "convnext_small",
        "convnext_base",
        "convnext_large",
    ),
    ("efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3", "efficientnet_b4"),
    ("mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100", "mobilenetv3_large_100"),
    ("regnety_002", "regnety_004", "regnety_006", "regnety_008", "regnety_016", "regnety_032"),
)


def larger_network(spec: NetworkSpec) -> tuple[dict[str, Any], str]:
    """(changes of a recipe for the next larger network, why there are none). Weights from a file stay with their network."""
    if spec.name == CUSTOM:
        return {}, "A larger one of your own network is yours to give."
    if spec.weights not in ("random", "pretrained"):
        return {}, "Its weights are from a file, and no larger network has them."
    if spec.name in ON_A_BACKBONE:
        key, name = "network.backbone", spec.backbone
    elif spec.name in networks.names():
        return _wider(spec)
    else:
        key, name = "network.name", spec.name
    found = _next(name.partition(".")[0])
    return ({key: found}, "") if found else ({}, f"No larger network of the family of {name} is known.")


def _wider(spec: NetworkSpec) -> tuple[dict[str, Any], str]:
    width = min(MOST_WIDTH, spec.width * (MUCH_WIDER if spec.width <= THIN else WIDER))
    if width == spec.width:
        return {}, f"The network is as wide as a recipe may ask for: {width}."
    return {"network.width": width}, ""


def _next(name: str) -> str | None:
    for family in FAMILIES:
        if name in family[:-1]:
            return family[family.index(name) + 1]
    return None
