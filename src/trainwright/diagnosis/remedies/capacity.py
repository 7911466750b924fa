"""Smaller and larger networks, more and fewer parts that learn, larger images; and what another network costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainwright.diagnosis.remedies.case import BACKBONED, OURS, USUAL, Case, Remedy
from trainwright.recipe import NetworkSpec, Recipe, Size

WIDEST, NARROWEST, DEEPEST = 256, 8, 8  # what a recipe takes
LARGER_BODY = {"resnet18": "resnet34", "resnet34": "resnet50", "deit_tiny_patch16_224": "deit_small_patch16_224"}
SMALLER_BODY = {larger: smaller for smaller, larger in LARGER_BODY.items()}
RESOLUTION, MULTIPLE = 1.5, 32  # times the side; a multiple that every network takes. Ours
MOST_PIXELS = 512**2  # ours: beyond it an epoch costs more than anything else that could be tried
# Multiply-adds an image of 224×224 pixels, in milliards: He et al., arXiv:1512.03385, Table 1 (3.6 for 34 layers); Touvron et
# al., arXiv:2012.12877; timm's own tables for the others.
GIGA = {
    "resnet18": 1.8,
    "resnet34": 3.6,
    "resnet50": 4.1,
    "resnetv2_50x1": 4.1,
    "deit_tiny": 1.3,
    "deit_small": 4.6,
    "vit_small": 4.6,
}
GIGA_PIXELS = 224**2
SMALL_SIDE, USUAL_SIDE = 64, 224  # pixels a side where the recipe does not say: as `workflows/prepare.py` fills them in


def _wider(case: Case) -> Mapping[str, Any] | None:
    width = 2 * case.recipe.network.width
    return {"network.width": width} if case.is_ours and width <= WIDEST else None


def _narrower(case: Case) -> Mapping[str, Any] | None:
    width = case.recipe.network.width // 2
    return {"network.width": width} if case.is_ours and width >= NARROWEST and width % 8 == 0 else None


def _deeper(case: Case) -> Mapping[str, Any] | None:
    blocks = case.recipe.network.blocks + 1
    return {"network.blocks": blocks} if case.is_ours and blocks <= DEEPEST else None


def _body(case: Case, others: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Another backbone or network: not for published weights, since nobody knows whether the other's are here."""
    other = others.get(case.body)
    if other is None or case.is_pretrained:
        return None
    return {"network.backbone" if case.recipe.network.name in BACKBONED else "network.name": other}


def _larger_body(case: Case) -> Mapping[str, Any] | None:
    return _body(case, LARGER_BODY)


def _smaller_body(case: Case) -> Mapping[str, Any] | None:
    return _body(case, SMALLER_BODY)


def _unfreeze(case: Case) -> Mapping[str, Any] | None:
    return {"network.trainable": "all"} if case.recipe.network.trainable != "all" else None


def _freeze(case: Case) -> Mapping[str, Any] | None:
    """The last stage and the head. Of detectors and maps the head is most of what has to be learned, so nothing is gained."""
    network = case.recipe.network
    usual = case.published_weights and network.trainable == "all" and network.name not in BACKBONED
    return {"network.trainable": "last-1"} if usual else None


def _larger_images(case: Case) -> Mapping[str, Any] | None:
    """Where images are larger than what the network is shown of them, and it takes any size."""
    if case.body.startswith(("vit_", "deit_")):
        return None
    sides = input_size(case.recipe, case.facts.image_size)
    if sides is None or math.prod(sides) * RESOLUTION**2 > MOST_PIXELS:
        return None
    larger = [MULTIPLE * round(side * RESOLUTION / MULTIPLE) for side in sides]
    if any(new > own or new <= old for new, own, old in zip(larger, case.facts.image_size, sides, strict=True)):
        return None
    return {"data.image_size": larger[0] if larger[0] == larger[1] else larger}


def input_size(recipe: Recipe, own: Size) -> Size | None:
    """(height, width) that the network is shown; None where that is not known before the data is prepared.

    own: of the images.
    """
    if recipe.data.image_size is not None:
        return recipe.data.size
    if recipe.task not in (None, "classification"):
        return None
    side = min(*own, SMALL_SIDE) if recipe.network.name in OURS else USUAL_SIDE
    return side, side


def work(network: NetworkSpec, size: Size) -> float | None:
    """Multiply-adds of one image forward, roughly; None for networks that nobody has counted here.

    Of small-resnet: three stages of 2 convolutions a block, of which each has twice the channels at half the size and so
    the same work; the other small ones count alike, which is enough for what one of them costs beside another. Of
    small-resnet-9: three layers that widen and two places of residual pairs, of the same work each.
    """
    if network.name == "small-resnet-9":
        return math.prod(size) * (18 * (3 + 2 * network.blocks) * network.width**2 + 27 * network.width)
    if network.name in OURS:
        return math.prod(size) * (3 * 2 * 9 * network.blocks * network.width**2 + 27 * network.width)
    body = network.backbone if network.name in BACKBONED else network.name
    counted = next((giga for name, giga in GIGA.items() if body.startswith(name)), None)
    return None if counted is None else counted * 1e9 * math.prod(size) / GIGA_PIXELS


def relative_work(old: Recipe, new: Recipe, own: Size) -> float:
    """What an image costs under `new` over what it costs under `old`; by their pixels alone where the networks were not counted.

    own: (height, width) of the images.
    """
    before, after = input_size(old, own), input_size(new, own)
    if before is None or after is None:
        before = after = own
    was, will = work(old.network, before), work(new.network, after)
    same_kind = (old.network.name in OURS) == (new.network.name in OURS)
    if was is None or will is None or not (same_kind or old.task in (None, "classification")):
        return math.prod(after) / math.prod(before)
    return will / was


REMEDIES = (
    Remedy(
        name="wider-network",
        family="capacity",
        answers={"too-small": 0.8, "cannot-fit": 0.2, "saturated-early": 0.2, USUAL: 0.4},
        changes=_wider,
        reason="More channels hold more features.",
        effect="twice the channels",
        source="Zagoruyko and Komodakis, arXiv:1605.07146 §2.3",
        share=0.15,
        origin="Zagoruyko and Komodakis, arXiv:1605.07146, Table 4: depth 40, width 1 → 2: 6.85 → 5.33 % on CIFAR-10; "
        "2 → 4: 5.33 → 4.97 %",
    ),
    Remedy(
        name="deeper-network",
        family="capacity",
        answers={"too-small": 0.7, USUAL: 0.3},
        changes=_deeper,
        reason="More layers see further and combine more.",
        effect="one more block a stage",
        source="He et al., arXiv:1512.03385 §4.2",
        share=0.12,
        origin="He et al., arXiv:1512.03385, Table 6: 20 → 32 layers, 8.75 → 7.51 % on CIFAR-10",
    ),
    Remedy(
        name="larger-backbone",
        family="capacity",
        answers={"too-small": 0.7, USUAL: 0.25},
        changes=_larger_body,
        reason="More layers see further and combine more.",
        effect="the next larger network of its family",
        source="He et al., arXiv:1512.03385 §4.1",
        share=0.1,
        origin="He et al., arXiv:1512.03385, Table 2: 18 → 34 layers, 27.88 → 25.03 % on ImageNet",
    ),
    Remedy(
        name="larger-images",
        family="capacity",
        answers={"too-small": 0.5, "label-ceiling": 0.3, USUAL: 0.2},
        changes=_larger_images,
        reason="What is thrown away when images are made smaller cannot be learned.",
        effect="images of one and a half times the side, where they have as many pixels",
        source="Tan and Le, arXiv:1905.11946 §3.2",
        share=0.1,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="train-all",
        family="capacity",
        answers={"too-small": 0.7, "saturated-early": 0.5, USUAL: 0.4},
        changes=_unfreeze,
        reason="Features made for other images can be moved to these.",
        effect="every part of the network learns",
        source="Yosinski et al., arXiv:1411.1792; Kornblith et al., arXiv:1805.08974",
        share=0.2,
        origin="ours: a guess to order trials by",
        cost=2.0,
        retune=True,
    ),
    Remedy(
        name="freeze",
        family="capacity",
        answers={"overfits": 0.3},
        changes=_freeze,
        reason="What does not learn cannot learn these images by heart.",
        effect="only the head and the last stage learn",
        source="Yosinski et al., arXiv:1411.1792 §1",
        share=0.05,
        origin="ours: a guess to order trials by",
        cost=0.6,
    ),
    Remedy(
        name="smaller-network",
        family="capacity",
        answers={"overfits": 0.2},
        changes=_narrower,
        reason="Fewer weights vary less with the images that they were learned from; larger ones often generalize better still.",
        effect="half the channels",
        source="Geman et al., Neural Computation 4 (1992) 1; against it: Nakkiran et al., arXiv:1912.02292",
        share=0.05,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="smaller-backbone",
        family="capacity",
        answers={"overfits": 0.2},
        changes=_smaller_body,
        reason="Fewer weights vary less with the images that they were learned from; larger ones often generalize better still.",
        effect="the next smaller network of its family",
        source="Geman et al., Neural Computation 4 (1992) 1; against it: Nakkiran et al., arXiv:1912.02292",
        share=0.05,
        origin="ours: a guess to order trials by",
    ),
)
