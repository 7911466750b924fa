"""What `replay_record.py` records: 256 recipes in the product's default space, and three sets of images small enough for a core.

Everything a table depends on is written down here; change none of it without recording anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from trainwright.data.dataset import Dataset
from trainwright.recipe import Recipe
from trainwright.recipes import published
from trainwright.search.domains import Choice, FloatRange, Prior
from trainwright.search.space import Dimension, Space
from trainwright.seeding import derive, stream

EPOCHS = 27
RECIPES = 256
REPEATS = 8  # further seeds of recipe 0: what chance alone does
AROUND = 2  # every second recipe lies as the priors say, around the published values, where a search looks; the others lie evenly
WIDTH = 8  # channels of the first stage
ADAMW, SGD = {"optimizer.name": "adamw"}, {"optimizer.name": "sgd"}


def _range(low: float, high: float, centre: float, width: float, *, log: bool = False) -> FloatRange:
    return FloatRange(low=low, high=high, log=log, prior=Prior(centre=centre, width=width))


# `default_space` of scratch-resnet-9 for 60 full trainings and more, as it was in 2026-11, with two changes: SGD's decay lies
# around 0.0005 (scratch-trivial-augment), and dropout is there as well.
SPACE = Space(
    dimensions=(
        Dimension(key="optimizer.name", domain=Choice(values=("adamw", "sgd"), prior=Prior(centre="adamw", width=0.3))),
        Dimension(key="optimizer.lr", domain=_range(1.3e-4, 0.12, 0.004, 0.5, log=True), when=ADAMW),
        Dimension(key="optimizer.weight_decay", domain=_range(5e-4, 0.5, 0.05, 1.0, log=True), when=ADAMW),
        Dimension(key="optimizer.lr", domain=_range(8e-4, 0.75, 0.025, 0.5, log=True), when=SGD),
        Dimension(key="optimizer.weight_decay", domain=_range(5e-6, 5e-3, 5e-4, 1.0, log=True), when=SGD),
        Dimension(key="optimizer.momentum", domain=_range(0.8, 0.99, 0.9, 0.05), when=SGD),
        Dimension(key="augment.trivial_augment", domain=_range(0.0, 1.0, 0.0, 0.25)),
        Dimension(key="loss.label_smoothing", domain=_range(0.0, 0.2, 0.1, 0.05)),
        Dimension(key="schedule.warmup", domain=_range(0.0, 0.2, 0.0, 0.05)),
        Dimension(key="augment.mixup", domain=_range(0.0, 0.4, 0.0, 0.1)),
        Dimension(key="augment.erase", domain=_range(0.0, 0.5, 0.0, 0.125)),
        Dimension(key="network.drop_path", domain=_range(0.0, 0.3, 0.0, 0.075)),
        Dimension(key="network.dropout", domain=_range(0.0, 0.5, 0.0, 0.125)),
    ),
)
PUBLISHED = SPACE.completed({})  # the centres of the priors are what scratch-resnet-9 has


@dataclass(frozen=True, kw_only=True)
class Images:
    """make: all images [N, H, W, 3] and their labels, from the dataset's folder. train, val: how many are drawn of them."""

    make: Callable[[Path], tuple[np.ndarray, np.ndarray]]
    size: int  # pixels a side
    train: int
    val: int
    flip: float = 0.5  # digits are no longer themselves in a mirror
    folder: str | None = None


@cache
def recipes() -> tuple[dict[str, Any], ...]:
    """Recipe 0 is the published one, the others are points of a scrambled Sobol sequence; the same for every dataset."""
    from scipy.stats.qmc import Sobol

    random = np.random.default_rng(derive(0, "replay"))
    points = Sobol(len(SPACE.dimensions), scramble=True, rng=random).random_base2(RECIPES.bit_length() - 1)
    drawn = [SPACE.from_cube(point, prior=row % AROUND == AROUND - 1) for row, point in enumerate(points)]
    return (PUBLISHED, *drawn[1:])


def recipe_of(data: str, values: dict[str, Any], *, seed: int = 0) -> Recipe:
    """`scratch-resnet-9`, narrower, shorter, and answering an image alone instead of it and its mirror image."""
    images = DATA[data]
    changes = {
        "data.image_size": images.size,
        "augment.flip": images.flip,
        "network.width": WIDTH,
        "epochs": EPOCHS,
        "test_time_flip": False,
        "seed": seed,
    }
    return published.get("scratch-resnet-9").changed({**changes, **values})


def jobs(first: int = RECIPES) -> Iterator[tuple[int, int]]:
    """(recipe, seed) in the order of recording, of so many recipes; the further seeds of recipe 0 lie between the others."""
    for number in range(first):
        yield number, 0
        if number % (RECIPES // REPEATS) == RECIPES // REPEATS - 1:
            yield 0, number // (RECIPES // REPEATS) + 1


def dataset_of(name: str, root: Path) -> Dataset:
    """The images drawn of a dataset, train and val, in memory. root: where the datasets' folders are."""
    images = DATA[name]
    pixels_NHWC, labels_N = images.make(root / (images.folder or ""))
    chosen = stream(0, "replay", name).permutation(len(pixels_NHWC))[: images.train + images.val]
    parts = ["train"] * images.train + ["val"] * images.val
    return Dataset.from_arrays(pixels_NHWC[chosen], labels_N[chosen], parts=parts)


def _digits(_: Path) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    loaded = load_digits()
    grey_NHW = (loaded.images * 255 / 16).round().astype(np.uint8)
    return np.stack([grey_NHW] * 3, axis=-1), loaded.target.astype(str)


def _classes(size: int) -> Callable[[Path], tuple[np.ndarray, np.ndarray]]:
    def make(folder: Path) -> tuple[np.ndarray, np.ndarray]:
        files = sorted(folder.rglob("*.jpg"))
        if not files:
            raise SystemExit(f"replay_record.py: no images in {folder}. Name the folder that it is in: --data FOLDER.")
        return np.stack([_image(file, size) for file in files]), np.array([file.parent.name for file in files])

    return make


def _image(file: Path, size: int) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC))


DATA = {
    "digits": Images(make=_digits, size=8, train=500, val=1000, flip=0.0),
    "cats-dogs": Images(make=_classes(16), size=16, train=800, val=1000, folder="cats-dogs/train"),
    "flowers12": Images(make=_classes(20), size=20, train=560, val=400, folder="flowers12"),
}
