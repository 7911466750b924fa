"""Augmentation and mixtures: train images that are never twice the same.

A change that can make a target wrong is never prescribed blindly. What the loader refuses is left out here too
(`data/augment.py`, `training/mixing.py`), and a flip is left out where it lies (`Circumstances.mirror_lies`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainwright.diagnosis.remedies.case import USUAL, Case, Remedy

FLIP = 0.5
PADDING = 0.125  # He et al., arXiv:1512.03385 §4.2: 4 of 32 pixels
SMALL_SIDE = 64  # pixels: smaller images are shifted, larger ones zoomed into; ours, as the published recipes here do
ZOOM = {
    "classification": (0.35, 1.0),
    "segmentation": (0.35, 1.0),
    "detection": (0.5, 1.0),
}  # as the recipes of those tasks
# Of TrivialAugment's range where a class may depend on how it lies: turns of up to 27 degrees (of 135), which leave a 6 a 6;
# ours. Grey images count as such.
GENTLE = 0.2
COLOUR = 0.4  # ours: between the 0.2 and the 0.5 of usual colour jitter
ERASE = 0.25  # ours: half of what Zhong et al. take, because it comes on top of others
MIXUP = 0.2  # Zhang et al., arXiv:1710.09412 §3.1: 0.1 to 0.4 on ImageNet, where more underfits
CUTMIX = 1.0  # Yun et al., arXiv:1905.04899 §3.1


def _zoom(case: Case) -> dict[str, Any]:
    """A random shift or crop; nothing where there is one, and none for numbers, which may count what is cut off."""
    augment, zoom = case.recipe.augment, ZOOM.get(case.facts.task)
    if augment.crop_padding or augment.crop_scale or zoom is None:
        return {}
    if case.facts.task == "classification" and min(case.facts.image_size) <= SMALL_SIDE:
        return {"augment.crop_padding": PADDING}
    return {"augment.crop_scale": list(zoom)}


def _shift(case: Case) -> Mapping[str, Any] | None:
    return _zoom(case) or None


def _flip(case: Case) -> Mapping[str, Any] | None:
    return None if case.recipe.augment.flip or case.facts.mirror_lies else {"augment.flip": FLIP}


def _flip_and_shift(case: Case) -> Mapping[str, Any] | None:
    flip, shift = _flip(case), _zoom(case)
    return {**flip, **shift} if flip and shift and case.facts.mirror_is_safe else None


def _trivial(case: Case) -> Mapping[str, Any] | None:
    strength = 1.0 if case.facts.mirror_is_safe else GENTLE
    return None if case.recipe.augment.trivial_augment >= strength else {"augment.trivial_augment": strength}


def _colour(case: Case) -> Mapping[str, Any] | None:
    augment = case.recipe.augment
    if augment.colour or augment.trivial_augment or case.facts.grey:  # TrivialAugment changes colours already
        return None
    return {"augment.colour": COLOUR}


def _erase(case: Case) -> Mapping[str, Any] | None:
    return None if case.recipe.augment.erase or case.facts.task == "regression" else {"augment.erase": ERASE}


def _mixup(case: Case) -> Mapping[str, Any] | None:
    mixes = case.facts.task in ("classification", "regression")
    return {"augment.mixup": MIXUP, "augment.mix": 1.0} if mixes and not case.recipe.augment.mixup else None


def _cutmix(case: Case) -> Mapping[str, Any] | None:
    mixes = case.facts.task in ("classification", "segmentation")
    return {"augment.cutmix": CUTMIX, "augment.mix": 1.0} if mixes and not case.recipe.augment.cutmix else None


def _no_mixtures(case: Case) -> Mapping[str, Any] | None:
    augment = case.recipe.augment
    return {"augment.mixup": 0.0, "augment.cutmix": 0.0} if augment.mixup or augment.cutmix else None


def _weaker(case: Case) -> Mapping[str, Any] | None:
    """Colours, TrivialAugment and erasing off; a crop of at least half of the area."""
    augment, changes = case.recipe.augment, {}
    for name in ("trivial_augment", "erase", "colour"):
        if getattr(augment, name):
            changes[f"augment.{name}"] = 0.0
    if augment.crop_scale is not None and augment.crop_scale[0] < 0.5:
        changes["augment.crop_scale"] = [0.5, max(0.5, augment.crop_scale[1])]  # type: ignore[assignment]
    return changes or None


REMEDIES = (
    Remedy(
        name="augmentation",
        family="augmentation",
        answers={"overfits": 0.8, "saturated-early": 0.3, USUAL: 0.2},
        changes=_flip_and_shift,
        reason="Mirrored and shifted images are new ones of the same class, so that fewer details can be learned by heart.",
        effect="flip 0.5 and a random shift (small images) or crop",
        source="He et al., arXiv:1512.03385 §4.2",
        share=0.45,
        origin="DeVries and Taylor, arXiv:1708.04552, Table 1: ResNet-18 without and with it, 10.63 → 4.72 % on CIFAR-10, "
        "36.68 → 22.46 % on CIFAR-100",
    ),
    Remedy(
        name="shift",
        family="augmentation",
        answers={"overfits": 0.75, "saturated-early": 0.3, USUAL: 0.2},
        changes=_shift,
        reason="A thing is the same wherever it lies; shifted images leave less to learn by heart.",
        effect="a random shift (small images) or crop",
        source="He et al., arXiv:1512.03385 §4.2; of larger images Szegedy et al., arXiv:1409.4842 §6",
        share=0.3,
        origin="ours: two thirds of what flip and shift do together",
    ),
    Remedy(
        name="flip",
        family="augmentation",
        answers={"overfits": 0.5, USUAL: 0.15},
        changes=_flip,
        reason="Where a mirrored image is still of its class, there are twice as many; where it is not, the comparison says so.",
        effect="flip 0.5; never where class names say that it lies (characters, left, right)",
        source="Krizhevsky et al., NeurIPS 2012, §4.1",
        share=0.2,
        origin="ours: less than half of what flip and shift do together",
    ),
    Remedy(
        name="trivial-augment",
        family="augmentation",
        answers={"overfits": 0.6, USUAL: 0.3},
        changes=_trivial,
        reason="One of many changes of colour and shape an image, drawn with its strength: strong, with nothing to set.",
        effect="TrivialAugment at its wide range; a fifth of it where a turned image may be another thing",
        source="Müller and Hutter, arXiv:2103.10158 §3",
        share=0.16,
        origin="Cubuk et al., arXiv:1805.09501: 3.1 → 2.6 % on CIFAR-10 beside cutout, with learned policies, which "
        "TrivialAugment is as good as",
        cost=1.1,
    ),
    Remedy(
        name="colour",
        family="augmentation",
        answers={"overfits": 0.4, USUAL: 0.15},
        changes=_colour,
        reason="Light and camera say nothing about the target.",
        effect="brightness, contrast and saturation by a factor of 1 ± 0.4",
        source="Howard, arXiv:1312.5402 §2.2",
        share=0.05,
        origin="ours: a guess to order trials by",
        cost=1.05,
    ),
    Remedy(
        name="erasing",
        family="augmentation",
        answers={"overfits": 0.5, USUAL: 0.2},
        changes=_erase,
        reason="No single part of an image may be the only one that is looked at.",
        effect="a rectangle of noise in a quarter of the images",
        source="Zhong et al., arXiv:1708.04896 §3",
        share=0.1,
        origin="Zhong et al., arXiv:1708.04896: 3.72 → 3.08 % on CIFAR-10, 18.68 → 17.65 % on CIFAR-100 (abstract of version 1)",
        cost=1.02,
    ),
    Remedy(
        name="mixup",
        family="augmentation",
        answers={"overfits": 0.55, "over-confident": 0.4, "noisy-labels": 0.5, USUAL: 0.3},
        changes=_mixup,
        reason="Between two images the answer has to change evenly, which a network that knows images by heart does not do.",
        effect="mixup with α = 0.2",
        source="Zhang et al., arXiv:1710.09412 §3; corrupt labels: §3.4; over-confidence: Thulasidasan et al., arXiv:1905.11001",
        share=0.2,
        origin="Zhang et al., arXiv:1710.09412 §3.2: PreAct ResNet-18, 5.6 → 4.2 % on CIFAR-10, 25.6 → 21.1 % on CIFAR-100",
        cost=1.02,
    ),
    Remedy(
        name="cutmix",
        family="augmentation",
        answers={"overfits": 0.5, USUAL: 0.25},
        changes=_cutmix,
        reason="A piece of another image is to be recognized by itself, so all parts of a thing have to be known.",
        effect="CutMix with α = 1",
        source="Yun et al., arXiv:1905.04899 §3; of maps: French et al., arXiv:1906.01916",
        share=0.11,
        origin="Yun et al., arXiv:1905.04899: 16.45 → 14.47 % on CIFAR-100, 23.68 → 21.40 % on ImageNet",
        cost=1.02,
    ),
    Remedy(
        name="no-mixtures",
        family="less",
        answers={"over-regularized": 0.5, "batch-norm-broken": 0.5, "cannot-fit": 0.2},
        changes=_no_mixtures,
        reason="Mixtures of images keep the train error high, and batch norm takes its statistics from them.",
        effect="mixup and CutMix off",
        source="Zhang et al., arXiv:1710.09412 §3.1: a large α underfits",
        share=0.1,
        origin="ours: a guess to order trials by",
    ),
    Remedy(
        name="weaker-augmentation",
        family="less",
        answers={"over-regularized": 0.5},
        changes=_weaker,
        reason="Images that are changed beyond recognition teach nothing.",
        effect="TrivialAugment, erasing and colour off; crops of at least half of the area",
        source="Steiner et al., arXiv:2106.10270: small models and short trainings lose by more of it",
        share=0.1,
        origin="ours: a guess to order trials by",
        cost=0.95,
    ),
)
