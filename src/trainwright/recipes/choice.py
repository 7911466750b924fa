"""Which published recipe to start from: facts in, a name and its reasons out. Nothing is looked up here, or fetched."""

from __future__ import annotations

from dataclasses import dataclass

from trainwright.recipe import Size
from trainwright.recipes.published import DEFAULT, OF_TASK, page

# From here on a set is no longer small: Kolesnikov et al., arXiv:1912.11370 §3.3. Longer trainings and stronger
# augmentation pay above it.
LARGE = 20_000
OUTLINED = 1_000  # images to outline: fewer are few for the 27 M parameters of 'segmentation-deeplab'; a choice of ours
SMALL_SIDE = 64  # pixels, of the shorter side: what residual networks in the manner of CIFAR were made for
LARGE_SIDE = 128  # pixels, of the shorter side: smaller images have nothing to show at the 160 pixels of 'scratch-rsb'
CPU_IMAGES = 10_000  # 15 epochs of as many at 224 pixels are an hour and a half on two cores (docs/recipes.md); ours
FINE_TUNING = {  # what is named where pre-trained weights would help and are not on this machine
    "classification": "finetune-default",
    "regression": "regression-finetune",
    "segmentation": "segmentation-finetune",
    "detection": "detection-faster-rcnn",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the choice depends on.

    task: a task's name. images: usable ones to learn from. image_size: (height, width) in pixels, medians. device: its type,
    `cpu` or another. pretrained_at_hand: the published recipes whose weights are on this machine. own_network: the network, or
    anything of it, was given with the command.
    """

    task: str
    images: int
    image_size: Size
    device: str
    pretrained_at_hand: frozenset[str] = frozenset()
    own_network: bool = False


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The published recipe to start from, and why: whole sentences without their full stop."""

    name: str
    reasons: tuple[str, ...]


def choose(facts: Facts) -> Choice:
    """The published recipe that suits the facts best. Pure: equal facts give equal choices, and nothing is fetched."""
    seen = f"{facts.task}: {facts.images:,} images of {facts.image_size[1]}×{facts.image_size[0]} pixels, on {facts.device}"
    usual = OF_TASK.get(facts.task, DEFAULT)
    if facts.task not in FINE_TUNING:
        return Choice(name=usual, reasons=(seen, "a task of your own starts from the values for classification"))
    if facts.own_network:
        return Choice(name=usual, reasons=(seen, "the network is given: the usual values of the task around it"))
    tuned = _pretrained(facts)
    if tuned is not None:
        return Choice(name=tuned[0], reasons=(seen, "its pre-trained weights are on this machine", tuned[1]))
    name, why = _scratch(facts, usual)
    return Choice(name=name, reasons=(seen, *_about_weights(facts), why))


def _pretrained(facts: Facts) -> tuple[str, str] | None:
    """(the first recipe whose weights are at hand, why), None where none is or training it would take too long."""
    return next((found for found in _fine_tunings(facts) if found[0] in facts.pretrained_at_hand), None)


def _fine_tunings(facts: Facts) -> list[tuple[str, str]]:
    """(recipe, why) of those that fine-tune, the better one first."""
    slow, large = facts.device == "cpu", facts.images >= LARGE
    if facts.task == "classification":
        if slow and facts.images > CPU_IMAGES:
            return [("linear-probe", f"more than {CPU_IMAGES:,} images: on a processor only the head learns")]
        longer = [("finetune-layerwise", f"{LARGE:,} images or more pay for strong regularization")]
        usual = [("finetune-default", "few values to set, and right for most sets")]
        others = [
            (name, "the usual fine-tuning has no weights here") for name in ("finetune-bit", "finetune-vit") if not slow
        ]
        return [*(longer if large and not slow else []), *usual, *others]
    if facts.task == "segmentation":
        wide = [("segmentation-deeplab", f"{OUTLINED:,} images or more feed a large network")]
        return [
            *(wide if facts.images >= OUTLINED and not slow else []),
            ("segmentation-finetune", "a small backbone, quick on any machine"),
        ]
    if facts.task == "detection":
        return [] if slow else [("detection-faster-rcnn", "two stages, the usual choice where time allows")]
    return [("regression-finetune", "few values to set, and right for most sets")]


def _scratch(facts: Facts, usual: str) -> tuple[str, str]:
    """(recipe, why) from random weights."""
    side = min(facts.image_size)
    if facts.task == "classification" and facts.device != "cpu" and facts.images >= LARGE:
        if side <= SMALL_SIDE:
            return (
                "scratch-wide-resnet",
                f"{LARGE:,} images or more of at most {SMALL_SIDE} pixels pay for a wide network",
            )
        if side >= LARGE_SIDE:
            return "scratch-rsb", f"{LARGE:,} images or more of at least {LARGE_SIDE} pixels pay for ResNet-50"
    if facts.task == "classification" and facts.images < LARGE:
        return "scratch-resnet-9", "a small network and one cycle: the most for a minute of training"
    return usual, "a small network from random weights is the first try"


def _about_weights(facts: Facts) -> tuple[str, ...]:
    """Why nothing is fine-tuned, and how it would be."""
    name = FINE_TUNING[facts.task]
    of_task = {known for known in facts.pretrained_at_hand if facts.task in page(known).tasks}
    if of_task and facts.device == "cpu":
        return (f"pre-trained weights are here, but would take long on a processor (--recipe {name})",)
    return (f"no pre-trained weights on this machine (--recipe {name} fetches some and fine-tunes)",)
