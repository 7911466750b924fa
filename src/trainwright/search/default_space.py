"""The space that is searched where none is given: around a recipe, as wide as the budget can look through.

Which dimensions come first, and how wide they are, is a choice of ours where no paper is named: learning rate and regularization
are what every training depends on, and a dimension more needs trainings more before it pays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainwright.optim.published_decay import DECOUPLED, KINDS, PUBLISHED_DECAY, decay_for
from trainwright.optim.published_rates import published_lr
from trainwright.recipe import Recipe
from trainwright.recipes.published import rate_for
from trainwright.search.domains import Choice, Domain, FloatRange, Prior
from trainwright.search.recipe_space import recipe_space
from trainwright.search.space import Dimension, Role, Space

MOST = ((4, 1), (10, 3), (25, 5), (60, 7))  # (full trainings below, dimensions at most); above the last one all of them
FEW = 25  # full trainings: below them lr is looked for nearer to where it was published
LR_FACTORS = (10.0, 30.0)  # below FEW and above: how far from the published lr, both ways
LEAST_ABOVE = 2.0  # times the rate, whatever the range test says
LR_WIDTH = 0.5  # decades, of the prior: three times as high or low
DECAY_FACTORS = (100.0, 10.0)  # below and above the published weight decay
DECAY_WIDTH = 1.0  # decades
OPTIMIZERS_FROM = (
    60  # full trainings: from here on another optimizer is tried as well, with an lr and a decay of its own
)
MOMENTUM = (0.8, 0.99)  # around 0.9, the published one nearly everywhere
DETECTION_ZOOM = ((0.3, 1.0), (0.5, 1.0), (0.7, 1.0))  # boxes that are cut off are lost
ZOOM = ((0.2, 1.0), (0.35, 1.0), (0.6, 1.0))
WITH_DROP_PATH = (
    "small-resnet",
    "resnet",
    "convnext",
)  # what the names of networks begin with that have a place for it


def default_space(recipe: Recipe, task: str, *, trainings: float, lr_falls: tuple[float, float] | None = None) -> Space:
    """The dimensions that a budget of that many full trainings can look through, each around the recipe's value.

    task: its name; one of your own is searched in lr, weight decay and warm-up. lr_falls: the rates between which the range test
    saw the loss fall: above them no step helps, so no training is spent there.
    """
    most = next((dimensions for below, dimensions in MOST if trainings < below), None)
    rate = _optimizer(recipe, task, trainings=trainings, most=math.inf if lr_falls is None else lr_falls[1])
    further = _further(recipe, task)
    return recipe_space([*rate, *further][:most], recipe)


def _optimizer(recipe: Recipe, task: str, *, trainings: float, most: float) -> list[Dimension]:
    """lr and weight decay, of two optimizers where the budget is large. An optimizer that has no lr to be found has neither.

    most: the highest rate of the recipe's own optimizer at which a step helps.
    """
    name = recipe.optimizer.name
    if name == "rprop":  # it finds its own steps, and a decay would turn their signs
        return []
    wide = LR_FACTORS[trainings >= FEW]
    own = [_lr(recipe, task, factor=wide, most=most), _decay(recipe)]
    other = "adamw" if KINDS.get(name) == "added" else "sgd"
    if trainings < OPTIMIZERS_FROM or name not in KINDS:
        return own
    decay, _ = decay_for(other, before=recipe.optimizer)
    changed = recipe.changed({"optimizer.name": other, "optimizer.lr": None, "optimizer.weight_decay": decay})
    pairs = [(name, one) for one in own]
    pairs += [(other, one) for one in (_lr(changed, task, factor=wide), _decay(changed))]
    found = [Dimension(key="optimizer.name", domain=Choice(values=(name, other), prior=Prior(centre=name, width=0.3)))]
    found += [
        Dimension(key=one.key, domain=one.domain, role=one.role, when={"optimizer.name": whose}) for whose, one in pairs
    ]
    if "sgd" not in (name, other):
        return found
    momentum = recipe.optimizer.momentum
    domain = FloatRange(low=MOMENTUM[0], high=MOMENTUM[1], prior=_prior(momentum or 0.9, MOMENTUM, width=0.05))
    return [*found, Dimension(key="optimizer.momentum", domain=domain, role="nuisance", when={"optimizer.name": "sgd"})]


def _lr(recipe: Recipe, task: str, *, factor: float, most: float = math.inf) -> Dimension:
    lr = recipe.optimizer.lr
    if lr is None:
        images = recipe.batch_size if isinstance(recipe.batch_size, int) else 64
        found = rate_for(recipe, task)
        lr = found[0] if found is not None else published_lr(recipe.optimizer, batch_size=images)[0]
    high = max(LEAST_ABOVE * lr, min(lr * factor, most))
    domain = FloatRange(low=_short(lr / factor), high=_short(high), log=True, prior=Prior(centre=lr, width=LR_WIDTH))
    return Dimension(key="optimizer.lr", domain=domain, role="nuisance")


def _decay(recipe: Recipe) -> Dimension:
    """On a log scale, whose lowest end is as good as none; without a prior where the recipe decays nothing."""
    given = recipe.optimizer.weight_decay
    usual = PUBLISHED_DECAY.get(KINDS.get(recipe.optimizer.name, "decoupled"), DECOUPLED)[0]
    low, high = _short((given or usual) / DECAY_FACTORS[0]), _short((given or usual) * DECAY_FACTORS[1])
    prior = Prior(centre=given, width=DECAY_WIDTH) if given else None
    return Dimension(
        key="optimizer.weight_decay", domain=FloatRange(low=low, high=high, log=True, prior=prior), role="nuisance"
    )


def _further(recipe: Recipe, task: str) -> list[Dimension]:
    """What is searched beside the optimizer, the most rewarding first."""
    augment = recipe.augment
    loss = recipe.loss.name
    colour = _range("augment.colour", 0.0, 0.5, augment.colour)
    warmup = _range("schedule.warmup", 0.0, 0.2, recipe.schedule.warmup, role="nuisance")
    mixup = _range("augment.mixup", 0.0, 0.4, augment.mixup)  # Zhang et al., arXiv:1710.09412 §3.1: 0.1 to 0.4
    drop_path = _range("network.drop_path", 0.0, 0.3, recipe.network.drop_path)
    deep = recipe.network.name.startswith(WITH_DROP_PATH) and recipe.network.trainable != "head"
    of_task: Mapping[str, list[Dimension]] = {
        "classification": [
            _range("augment.trivial_augment", 0.0, 1.0, augment.trivial_augment),
            *([_range("loss.label_smoothing", 0.0, 0.2, recipe.loss.label_smoothing)] if loss in _SMOOTHED else []),
            warmup,
            mixup,
            _range("augment.erase", 0.0, 0.5, augment.erase),
            *([drop_path] if deep else []),
        ],
        "regression": [colour, warmup, mixup],
        "segmentation": [
            colour,
            warmup,
            *_zoom(recipe, ZOOM),
            *([_range("loss.dice_weight", 0.2, 0.8, recipe.loss.dice_weight)] if loss in _WEIGHTED else []),
            _range("augment.cutmix", 0.0, 1.0, augment.cutmix),
        ],
        "detection": [colour, warmup, *_zoom(recipe, DETECTION_ZOOM)],
    }
    return of_task.get(task, [warmup])


_SMOOTHED = (None, "cross-entropy")
_WEIGHTED = ("dice+cross-entropy",)


def _range(key: str, low: float, high: float, value: float, *, role: Role = "scientific") -> Dimension:
    """A linear range that takes in the recipe's value, with a prior of a quarter of it around that."""
    low, high = min(low, value), max(high, value)
    return Dimension(key=key, domain=FloatRange(low=low, high=high, prior=_prior(value, (low, high))), role=role)


def _prior(value: float, ends: tuple[float, float], *, width: float | None = None) -> Prior:
    return Prior(centre=min(max(value, ends[0]), ends[1]), width=width or (ends[1] - ends[0]) / 4)


def _zoom(recipe: Recipe, scales: tuple[Any, ...]) -> list[Dimension]:
    if recipe.augment.crop_padding:
        return []
    own = recipe.augment.crop_scale
    values = list(dict.fromkeys([*([own] if own is not None else [None]), *scales]))
    domain: Domain = Choice(values=tuple(values), prior=Prior(centre=own, width=0.5))
    return [Dimension(key="augment.crop_scale", domain=domain)]


def _short(value: float) -> float:
    return float(f"{value:.2g}")
