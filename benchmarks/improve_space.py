"""The space that `improve.py` lets its rivals search: the recipe fields that our own prescriptions may change on that job.

Left out is what is not theirs to choose: the length of a trial, which the budget gives; the batch, which is `story`'s; early
stopping, which pruning does. So are networks of more than two and a half times the work of `story`'s, whose trials would have
so few epochs that they only cost the rivals their time. Ranges are the usual ones around published values (docs/recipes.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from trainwright.recipe import Recipe

MIXTURES = ("none", "mixup", "cutmix")
# By network, since their widths are not of the same kind.
WIDTHS = {"small-resnet": (16, 24, 32, 48), "small-resnet-9": (16, 24, 32)}
DEEP_WIDTH = 32  # beyond it one block a stage is all that there is time for
# By optimizer, since a rate of one is not a rate of another: (lowest, highest) lr and weight decay, both searched on a log scale.
# AdamW's decay is decoupled, that of the others is added to the gradient.
LRS = {"adam": (1e-4, 1e-2), "adamw": (1e-4, 1e-2), "sgd": (1e-2, 0.5)}
DECAYS = {"adam": (1e-6, 1e-3), "adamw": (1e-3, 0.5), "sgd": (1e-5, 5e-3)}


class Draws(Protocol):
    """What a trial is asked for: the two methods of Optuna's `Trial` that the space needs."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...


def drawn(draws: Draws, base: Recipe) -> Recipe:
    """`base` with every field of the space as `draws` has it; all else, length and batch with it, stays."""
    return base.changed({**_augmentation(draws), **_network(draws), **_training(draws)})


def _augmentation(draws: Draws) -> dict[str, Any]:
    mixture = draws.suggest_categorical("augment.mixture", MIXTURES)
    mixup = draws.suggest_float("augment.mixup", 0.1, 1.0) if mixture == "mixup" else 0.0
    return {
        "augment.flip": draws.suggest_categorical("augment.flip", (0.0, 0.5)),
        "augment.crop_padding": draws.suggest_categorical("augment.crop_padding", (0.0, 0.125)),
        "augment.trivial_augment": draws.suggest_float("augment.trivial_augment", 0.0, 1.0),
        "augment.colour": draws.suggest_float("augment.colour", 0.0, 0.4),
        "augment.erase": draws.suggest_float("augment.erase", 0.0, 0.5),
        "augment.mixup": mixup,
        "augment.cutmix": 1.0 if mixture == "cutmix" else 0.0,
        "augment.mix": 1.0,
    }


def _network(draws: Draws) -> dict[str, Any]:
    name = draws.suggest_categorical("network.name", tuple(WIDTHS))
    width = draws.suggest_categorical(f"network.width of {name}", WIDTHS[name])
    return {
        "network.name": name,
        "network.width": width,
        "network.blocks": draws.suggest_categorical("network.blocks", (1, 2)) if width <= DEEP_WIDTH else 1,
        "network.dropout": draws.suggest_float("network.dropout", 0.0, 0.5),
        "network.block_dropout": draws.suggest_float("network.block_dropout", 0.0, 0.3),
        "network.drop_path": draws.suggest_float("network.drop_path", 0.0, 0.2),
    }


def _training(draws: Draws) -> dict[str, Any]:
    optimizer = draws.suggest_categorical("optimizer.name", tuple(LRS))
    schedule = draws.suggest_categorical("schedule.name", ("constant", "cosine", "one-cycle"))
    averaged = draws.suggest_categorical("ema", (False, True))
    window = draws.suggest_float("ema.steps", 10.0, 1000.0, log=True) if averaged else None
    return {
        "optimizer.name": optimizer,
        "optimizer.lr": draws.suggest_float(f"optimizer.lr of {optimizer}", *LRS[optimizer], log=True),
        "optimizer.weight_decay": draws.suggest_float(
            f"optimizer.weight_decay of {optimizer}", *DECAYS[optimizer], log=True
        ),
        "optimizer.nesterov": True if optimizer == "sgd" else None,
        "schedule.name": schedule,
        # One cycle has its own way up.
        "schedule.warmup": 0.0 if schedule == "one-cycle" else draws.suggest_float("schedule.warmup", 0.0, 0.1),
        "loss.label_smoothing": draws.suggest_float("loss.label_smoothing", 0.0, 0.2),
        "ema_decay": None if window is None else 1 - 1 / window,
        "test_time_flip": draws.suggest_categorical("test_time_flip", (False, True)),
        "clip_norm": draws.suggest_categorical("clip_norm", (None, 1.0)),
        "keep": draws.suggest_categorical("keep", ("last", "best")),
    }
