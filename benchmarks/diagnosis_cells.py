"""The cells of `diagnosis.py`: a dataset with one fault planted in it, or in the recipe, and a training of some seconds.

What is planted, and which first findings name it (set before any rule was looked at):

| condition | what is changed | a right first finding |
|---|---|---|
| healthy | nothing | none that asks for something, but for what is true of these runs on average |
| tiny-train | 16 to 80 train images, as many steps as otherwise | overfits |
| thin | the network has width 8: an eighth to a third of its channels | too-small |
| dropout | dropout of 0.8, also within the network | over-regularized |
| lr/100, lr×30 | the learning rate | learning-rate; of the higher one also unstable, diverged |
| flipped | a fifth of the labels: another class; maps, counts: another image's | noisy-labels; maps, counts: label-ceiling too |
| twins | a tenth of the unseen images are seen ones, half of them a little brighter | twins |
| shifted | unseen images are darker, flatter and bluer | validation-shifted |
| few-epochs | an eighth of the epochs | under-trained |
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lr_cells import SOURCES
from lr_cells import _classes as every_image
from trainwright.data.dataset import Dataset
from trainwright.diagnosis.twins import mirrored, signatures
from trainwright.recipe import Recipe

HEALTHY = "healthy"
TWIN = 0.9  # correlation of two pictures in small: of flowers12 67 exceed it, and what lies below it is another picture


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is planted. right: rules that name it, any of which as the first finding is right; none for healthy.

    changes: of the recipe, by its value. plant: of the images: (images, labels, parts, seed) → the same three. right_of_others:
    further ones that name it in maps and counts.
    """

    name: str
    right: tuple[str, ...]
    right_of_others: tuple[str, ...] = ()
    changes: Callable[[Recipe], Mapping[str, Any]] = lambda recipe: {}
    plant: Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A dataset of the benchmark with the recipe that is healthy on it. val, pool: shares of the images that are scored, and that
    nobody but the coverage of the intervals sees. few: images of the tiny train part. twins: it has some, to be left out. pieces:
    so many images, one after the other, are of one photograph, and in one part."""

    name: str
    recipe: Mapping[str, Any]
    few: int
    val: float = 0.35
    pool: float = 0.0
    twins: bool = False
    pieces: int = 1


BASE = {
    "network.name": "patch-net",
    "network.width": 128,
    "optimizer.name": "adamw",
    "optimizer.weight_decay": 0.01,
    "schedule.name": "cosine",
    "schedule.warmup": 0.05,
    "batch_size": 64,
    "keep": "last",
    "precision": "fp32",
}
SETTINGS = {  # images with one class each
    setting.name: setting
    for setting in (
        Setting(
            name="digits",
            few=40,
            recipe={
                "optimizer.name": "sgd",
                "optimizer.lr": 0.1,
                "optimizer.weight_decay": 5e-4,
                "schedule.name": "constant",
                "epochs": 6,
            },
        ),
        Setting(
            name="flowers12",
            few=48,
            val=0.25,
            twins=True,
            recipe={
                "optimizer.lr": 0.01,
                "schedule.name": "constant",
                "epochs": 30,
                "network.width": 96,
                "augment.flip": 0.5,
                "augment.crop_padding": 0.125,
                "augment.colour": 0.2,
            },
        ),
        Setting(
            name="cats-dogs",
            few=80,
            val=0.1325,
            pool=0.63,
            recipe={
                "optimizer.lr": 0.01,
                "epochs": 40,
                "network.width": 64,
                "augment.flip": 0.5,
                "augment.crop_padding": 0.125,
            },
        ),
    )
}
OTHERS = {  # maps of classes, and counts
    setting.name: setting
    for setting in (
        Setting(
            name="camvid",
            few=16,
            val=0.25,
            recipe={
                "network.name": "patch-map",
                "network.width": 64,
                "data.image_size": [24, 32],
                "optimizer.lr": 0.03,
                "epochs": 32,
                "batch_size": 32,
                "augment.flip": 0.5,
                "loss.name": "dice+cross-entropy",
            },
        ),
        Setting(
            name="red-quarters",
            few=32,
            val=0.4,
            pieces=4,
            recipe={
                "network.width": 64,
                "optimizer.lr": 0.01,
                "epochs": 40,
                "batch_size": 32,
                "augment.flip": 0.5,
                "augment.vertical_flip": 0.5,
            },
        ),
    )
}


def _tiny(images: np.ndarray, labels: np.ndarray, parts: np.ndarray, *, few: int, **_: Any) -> Any:
    """The train part is cut down to `few` images, the same number of each class; the rest is seen by nobody."""
    train = np.flatnonzero(parts == "train")
    names = labels if labels.dtype.kind == "U" else np.zeros(len(labels))  # maps and counts have no class of their own
    classes = np.unique(names)
    each = max(1, few // len(classes))
    kept = np.concatenate(
        [train[names[train] == name][:: max(1, int((names[train] == name).sum()) // each)][:each] for name in classes]
    )
    stays = np.sort(np.concatenate([kept, np.flatnonzero(parts != "train")]))
    return images[stays], labels[stays], parts[stays]


def _flipped(images: np.ndarray, labels: np.ndarray, parts: np.ndarray, *, seed: int, **_: Any) -> Any:
    """A fifth of all labels, seen and unseen, become another class, any one of them alike; maps and counts that of another
    image."""
    draws = np.random.default_rng([seed, 20])
    if labels.dtype.kind != "U":
        places = draws.permutation(len(labels))[: len(labels) // 5]
        labels = labels.copy()
        labels[places] = labels[np.roll(places, 1)]
        return images, labels, parts
    classes = np.unique(labels)
    index = np.searchsorted(classes, labels)
    wrong = draws.random(len(labels)) < 0.2
    index[wrong] = (index[wrong] + draws.integers(1, len(classes), int(wrong.sum()))) % len(classes)
    return images, classes[index], parts


def _twins(images: np.ndarray, labels: np.ndarray, parts: np.ndarray, *, seed: int, **_: Any) -> Any:
    """A tenth of the unseen images are seen ones: one half as they are, the other a little brighter."""
    draws = np.random.default_rng([seed, 10])
    val, train = np.flatnonzero(parts == "val"), np.flatnonzero(parts == "train")
    places = draws.permutation(val)[: len(val) // 10]
    copied = draws.permutation(train)[: len(places)]
    images, labels = images.copy(), labels.copy()
    images[places], labels[places] = images[copied], labels[copied]
    brighter = places[::2]
    images[brighter] = np.clip(images[brighter].astype(np.int64) + 4, 0, 255).astype(np.uint8)
    return images, labels, parts


def _shifted(images: np.ndarray, labels: np.ndarray, parts: np.ndarray, **_: Any) -> Any:
    """Unseen images are from another camera: darker, of less contrast, with a cast of blue."""
    images = images.copy()
    val = parts == "val"
    tint = np.array([0.35, 0.45, 0.7])
    images[val] = np.clip(images[val] * tint + 20, 0, 255).astype(np.uint8)
    return images, labels, parts


def _epochs(times: float) -> Callable[[Recipe], Mapping[str, Any]]:
    return lambda recipe: {"epochs": max(1, round(recipe.epochs * times))}


def _lr(times: float) -> Callable[[Recipe], Mapping[str, Any]]:
    return lambda recipe: {"optimizer.lr": recipe.optimizer.peak_lr * times}


CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition(name=HEALTHY, right=()),
        Condition(name="tiny-train", right=("overfits",), plant=_tiny),
        Condition(name="thin", right=("too-small",), changes=lambda recipe: {"network.width": 8}),
        Condition(
            name="dropout",
            right=("over-regularized",),
            changes=lambda recipe: {"network.dropout": 0.8, "network.block_dropout": 0.8},
        ),
        Condition(name="lr/100", right=("learning-rate",), changes=_lr(0.01)),
        Condition(name="lr×30", right=("learning-rate", "unstable", "diverged"), changes=_lr(30.0)),
        Condition(name="flipped", right=("noisy-labels",), right_of_others=("label-ceiling",), plant=_flipped),
        Condition(name="twins", right=("twins",), plant=_twins),
        Condition(name="shifted", right=("validation-shifted",), plant=_shifted),
        Condition(name="few-epochs", right=("under-trained",), changes=_epochs(0.125)),
    )
}


def right_of(setting: str, condition: Condition) -> tuple[str, ...]:
    """The first findings that name the condition in this setting; none of healthy."""
    return condition.right + (condition.right_of_others if setting in OTHERS else ())


def recipe_of(setting: Setting, condition: Condition, seed: int) -> Recipe:
    """The setting's recipe with what the condition changes of it."""
    recipe = Recipe().changed(
        {**BASE, "data.image_size": list(SOURCES[setting.name].size), **setting.recipe, "seed": seed}
    )
    changes = dict(condition.changes(recipe))
    if condition.plant is _tiny:  # as many steps as the others
        changes["epochs"] = recipe.epochs * 10
        changes["batch_size"] = 32
    return recipe.changed(changes)


def data_of(setting: Setting, condition: Condition, seed: int, root: Path) -> tuple[Dataset, Dataset | None]:
    """The planted dataset, and the pool of the setting as val of another one beside the same train part, None without a pool."""
    images, labels = _images(setting.name, root)
    task, classes = SOURCES[setting.name].task, [str(k) for k in range(SOURCES[setting.name].outputs)]
    more: dict[str, Any] = {"task": task, "classes": classes if task == "segmentation" else None}
    draws = np.random.default_rng([seed, 1])
    photographs = len(images) // setting.pieces
    where = np.repeat(draws.permutation(photographs) / photographs, setting.pieces)
    parts = np.where(where < setting.val, "val", np.where(where < setting.val + setting.pool, "pool", "train"))
    seen = parts != "pool"
    given = images[seen], labels[seen], parts[seen]
    if condition.plant is not None:
        given = condition.plant(*given, seed=seed, few=setting.few)
    given = (given[0], list(given[1]) if task == "segmentation" else given[1], given[2])
    data = Dataset.from_arrays(given[0], given[1], parts=given[2].tolist(), **more)
    if not setting.pool:
        return data, None
    rest = np.where(parts == "pool", "val", parts)
    held = parts != "val"
    return data, Dataset.from_arrays(images[held], labels[held], parts=rest[held].tolist(), **more)


@functools.cache
def _images(name: str, root: Path) -> tuple[np.ndarray, np.ndarray]:
    source = SOURCES[name]
    make = every_image(source.size) if name == "cats-dogs" else source.make
    images_NHWC, labels = make(root / (source.folder or ""))
    if name == "camvid":
        images_NHWC, labels = _halved(images_NHWC), np.stack(labels)[:, ::2, ::2]
    alone = without_twins(images_NHWC) if name in SETTINGS and SETTINGS[name].twins else np.arange(len(images_NHWC))
    return images_NHWC[alone], np.asarray(labels)[alone]


def _halved(images_NHWC: np.ndarray) -> np.ndarray:
    """Half as high and wide: means of four pixels."""
    count, height, width, channels = images_NHWC.shape
    fours = images_NHWC.reshape(count, height // 2, 2, width // 2, 2, channels)
    return fours.mean(axis=(2, 4)).round().astype(np.uint8)


def without_twins(images_NHWC: np.ndarray) -> np.ndarray:
    """The images that are not nearly the same as an earlier one, mirrored or not: positions, ascending.

    Oxford Flowers has many pictures of the same flower twice, some 8 % across any split: healthy must be without.
    """
    forms_NP = signatures(images_NHWC)
    known_NP = np.nan_to_num(forms_NP)
    alike_NN = np.maximum(known_NP @ known_NP.T, known_NP @ np.nan_to_num(mirrored(forms_NP)).T)
    kept: list[int] = []
    for image, alike_N in enumerate(alike_NN):
        if not kept or alike_N[kept].max() < TWIN:
            kept.append(image)
    return np.array(kept)
