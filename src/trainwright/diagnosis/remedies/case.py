"""What a remedy is, and what it may look at: the recipe, the circumstances of the training, the figures of the finding."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trainwright.diagnosis.wording import GENERALIZES
from trainwright.recipe import PRETRAINED, RANDOM, Recipe, Size

Family = Literal[
    "augmentation",
    "decay",
    "noise",
    "labels",
    "averaging",
    "capacity",
    "optimization",
    "length",
    "less",
    "package",
    "data",
]
USUAL = GENERALIZES  # stands for a finding where nothing is wrong: what usually still helps
CUSTOM = "custom"  # `training.names.CUSTOM`: a network of one's own, inside of which nothing can be changed
OURS = ("small-resnet", "small-resnet-9", "small-unet", "small-detector")
BACKBONED = ("unet", "fpn", "deeplabv3plus", "faster-rcnn", "retinanet", "fcos")
# Networks of timm, by how their names begin, that have dropout before the head, stochastic depth and dropout inside
REGULARIZED = ("resnet", "vit_", "deit_")
FIRST_LOSS = {  # of each task, taken where the recipe names none; tests keep it equal to `Task.losses`
    "classification": "cross-entropy",
    "regression": "huber",
    "segmentation": "dice+cross-entropy",
    "detection": "own",
}
SMOOTHED = ("cross-entropy", "binary-cross-entropy", "dice+cross-entropy")
WEIGHED = (*SMOOTHED, "focal")
SIDED = frozenset({"left", "right"})  # words in the name of a class that a mirror makes wrong


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """Where a training stands.

    classes: their names; empty where the task has none. image_size: (height, width) of the images in pixels, medians. device:
    its type. pretrained: the published recipes whose weights are on this machine, as `recipes.Facts` has them. score: of the
    unseen images now. gap: unseen error less train error, None where not known. train_error: clean, nan where not known.
    seconds_per_epoch: of the recipe as it is. budget_epochs: how many of those epochs the budget still has. mirrored: whether a
    mirrored image is still of its class; None where nobody has said. grey: the images have no colours.
    """

    task: str
    train_count: int
    score: float
    image_size: Size
    classes: tuple[str, ...] = ()
    device: str = "cpu"
    pretrained: frozenset[str] = frozenset()
    gap: float | None = None
    train_error: float = math.nan
    seconds_per_epoch: float = 1.0
    budget_epochs: float = math.inf
    mirrored: bool | None = None
    grey: bool = False

    @property
    def error(self) -> float:
        """The unseen error as a share: an R² below 0 counts as 0."""
        return min(1.0, max(0.0, 1 - self.score))

    @property
    def mirror_lies(self) -> bool:
        """Whether mirroring is known, or by the names of the classes all but known, to make another thing of an image."""
        return self.mirrored is False or (self.mirrored is None and names_lie_mirrored(self.classes))

    @property
    def mirror_is_safe(self) -> bool:
        """Whether a flip may come in company: not where it lies, nor of grey images (figures, signs, scans), of which nobody has
        said that it does not. There it is tried alone, beside the control, so that nothing else fails with it."""
        return not self.mirror_lies and (self.mirrored is True or not self.grey)


def names_lie_mirrored(names: tuple[str, ...]) -> bool:
    """Whether classes are written characters, or have a side: three or more names of one character each, or `left` or `right`.

    Two classes called 0 and 1 may be anything, so two are not enough.
    """
    words = {word for name in names for word in re.split(r"[^a-z]+", name.lower())}
    return bool(words & SIDED) or (len(names) > 2 and all(len(name) == 1 for name in names))


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a remedy decides its changes by. figures: of the finding."""

    recipe: Recipe
    facts: Circumstances
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def loss(self) -> str:
        """The name of the loss; the first of the task's where the recipe names none, empty for a task of one's own."""
        return self.recipe.loss.name or FIRST_LOSS.get(self.facts.task, "")

    @property
    def lone_dice(self) -> bool:
        """Whether Dice has the whole weight, which knows no labels to smooth and no classes to weigh."""
        return self.loss == "dice+cross-entropy" and self.recipe.loss.dice_weight == 1

    @property
    def is_ours(self) -> bool:
        return self.recipe.network.name in OURS

    @property
    def is_pretrained(self) -> bool:
        """Whether the weights have learned before: published ones, or a file's."""
        return self.recipe.network.weights != RANDOM

    @property
    def published_weights(self) -> bool:
        return self.recipe.network.weights == PRETRAINED

    @property
    def body(self) -> str:
        """The name of the network whose blocks are regularized: the backbone, where there is one."""
        network = self.recipe.network
        return network.backbone if network.name in BACKBONED else network.name

    @property
    def regular(self) -> bool:
        """Whether the network is known to have a place for dropout in its blocks and for stochastic depth."""
        return self.is_ours or self.body.startswith(REGULARIZED)

    @property
    def steps(self) -> int:
        """Optimizer steps of the training."""
        batch = self.recipe.batch_size if isinstance(self.recipe.batch_size, int) else 64
        return self.recipe.epochs * max(1, math.ceil(self.facts.train_count / batch))


Changes = Callable[[Case], Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """Something known to help, as a change of recipe.

    changes: what is changed in a case; None where it does not apply, empty for advice that no recipe can express. answers: the
    rule, to the chance that it helps where that one says yes. share: of the unseen error that it takes away where it helps.
    origin: where that share is from. cost: time of an epoch over that of the unchanged recipe, before what a larger network
    adds. retune: whether the learning rate has to be found anew.
    """

    name: str
    family: Family
    answers: Mapping[str, float]
    changes: Changes
    reason: str
    effect: str
    source: str
    share: float
    origin: str
    cost: float = 1.0
    retune: bool = False


def advice(case: Case) -> dict[str, Any]:
    """The changes of what can only be told."""
    return {}
