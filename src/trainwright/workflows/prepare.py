"""From a recipe and a dataset to everything a training needs: values filled in, split, pixels, network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainwright.data.augment import clean, stored_size
from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.dataset import Dataset
from trainwright.data.pixels import PixelSource
from trainwright.data.split import Split
from trainwright.errors import DataError, UsageError
from trainwright.optim.losses import build_loss
from trainwright.plugins import Task, tasks
from trainwright.recipe import PRETRAINED, RANDOM, NetworkSpec, Recipe
from trainwright.seeding import stream
from trainwright.training.device import Precision, choose_precision, prefers_channels_last
from trainwright.training.model import ImageNetwork, build_network, published_input
from trainwright.training.names import CUSTOM, SMALL_RESNET
from trainwright.training.weights import saved_normalization
from trainwright.workflows.reporting import Reporter

SMALL_SIDE = 64  # pixels: what small-resnet was made for, and where a network from scratch is still quick on a CPU
USUAL_SIDE = 224  # pixels: Krizhevsky et al., NeurIPS 2012, and most published weights since
STATISTICS_IMAGES = 5_000  # images that mean and deviation are taken from: their error is then far below 1 %
SMALLEST_STD = 1e-3  # of pixels scaled to 0–1: images of one single colour


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A training ready to start. recipe: every value filled in. probe_rows: train images scored beside val, about as many."""

    recipe: Recipe
    dataset: Dataset
    split: Split
    probe_rows: np.ndarray
    pixels: PixelSource = field(repr=False)
    task: Task
    model: ImageNetwork = field(repr=False)
    device: torch.device
    precision: Precision

    def name_rows(self, rows: Sequence[int]) -> list[str]:
        """The paths of these rows of the sample table."""
        return [self.dataset.table.paths[row] for row in rows]


def prepare(
    dataset: Dataset,
    recipe: Recipe,
    *,
    device: torch.device,
    workers: int,
    reporter: Reporter,
    custom: nn.Module | None = None,
    weights_follow: bool = False,
) -> Prepared:
    """Fill in what the recipe leaves open, split, decode and build the network on `device`.

    custom: your own module. weights_follow: a checkpoint will replace all weights and the normalization, so those that the
    recipe starts from are not looked for. Raises DataError where the data cannot be trained on, RecipeError or UsageError
    where the recipe or your module does not fit it.
    """
    refuse_unusable(dataset)
    recipe = _filled_in(dataset, recipe, custom)
    split = dataset.split(recipe.data)
    pixels = _pixels(dataset, recipe, split, workers=workers, reporter=reporter)
    task = tasks.get(recipe.task or dataset.task)(dataset.classes, build_loss(recipe.loss))
    start = recipe.network.model_copy(update={"weights": RANDOM}) if weights_follow else recipe.network
    network = build_network(
        start, outputs=len(dataset.classes), image_size=_size(recipe), seed=recipe.seed, custom=custom
    )
    mean, std = _normalization(start, pixels, split)
    model = ImageNetwork(network, mean=mean, std=std)
    if custom is not None:
        _refuse_other_outputs(model, clean(pixels.take(split.train[:2]), _size(recipe)), len(dataset.classes))
    model.freeze(recipe.network.trainable)
    precision = choose_precision(recipe.precision, model, device)
    channels_last = prefers_channels_last(model) if recipe.channels_last is None else recipe.channels_last
    model.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    return Prepared(
        recipe=recipe.changed({"precision": precision.name, "channels_last": channels_last}),
        dataset=dataset,
        split=split,
        probe_rows=probe_rows(split.train, dataset.targets, len(split.val), recipe.data.split_seed),
        pixels=pixels,
        task=task,
        model=model,
        device=device,
        precision=precision,
    )


def refuse_unusable(dataset: Dataset) -> None:
    """Raise DataError with every reason why the dataset cannot be trained on."""
    refusals = dataset.refusals()
    if refusals:
        raise DataError(
            " ".join(problem.message for problem in refusals),
            where=str(dataset.table.root),
            cure="See 'trainwright inspect'.",
        )


def probe_rows(train: np.ndarray, targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """About `count` training rows, drawn within each class in proportion, sorted; all of them where there are fewer."""
    if count >= len(train):
        return train
    strata: list[np.ndarray] = [train]
    if np.issubdtype(targets.dtype, np.integer):
        strata = [train[targets[train] == k] for k in np.unique(targets[train])]
    chosen = [
        stream(seed, "train-probe", index).permutation(rows)[: max(1, round(count * len(rows) / len(train)))]
        for index, rows in enumerate(strata)
    ]
    return np.sort(np.concatenate(chosen))


def _filled_in(dataset: Dataset, recipe: Recipe, custom: nn.Module | None) -> Recipe:
    if recipe.task not in (None, dataset.task):
        raise UsageError(
            f"the recipe is for {recipe.task}, the data for {dataset.task}.", where="task", cure="Set task to null."
        )
    changes: dict[str, Any] = {"task": dataset.task}
    if recipe.network.weights not in (RANDOM, PRETRAINED):
        changes["network.weights"] = str(Path(recipe.network.weights).expanduser().absolute())
    if custom is not None:
        changes["network.name"] = CUSTOM
    if recipe.data.image_size is None:
        changes["data.image_size"] = _image_size(dataset, recipe, custom)
    return recipe.changed(changes)


def _image_size(dataset: Dataset, recipe: Recipe, custom: nn.Module | None) -> int:
    """Pixels a side: what the network's weights were made for, otherwise the images' own size up to a limit."""
    fingerprint = dataset.fingerprint
    shorter = np.minimum(fingerprint.widths, fingerprint.heights)[fingerprint.usable]
    own = max(8, int(np.median(shorter)))
    if recipe.network.name == SMALL_RESNET and custom is None:
        return min(own, SMALL_SIDE)
    if custom is not None:
        return min(own, USUAL_SIDE)
    published = published_input(recipe.network)
    if _was_published(recipe.network) or published["fixed"]:
        return int(published["size"])
    return min(own, int(published["size"]))


def _was_published(spec: NetworkSpec) -> bool:
    """Whether the weights are those of a timm network, from the hub or from a file of them."""
    return spec.weights != RANDOM and spec.name not in (SMALL_RESNET, CUSTOM)


def _size(recipe: Recipe) -> int:
    assert recipe.data.image_size is not None  # filled in above
    return recipe.data.image_size


def _pixels(dataset: Dataset, recipe: Recipe, split: Split, *, workers: int, reporter: Reporter) -> PixelSource:
    """Decoded train and val images; the test part stays untouched."""
    stored, fit = stored_size(_size(recipe), recipe.augment), recipe.data.fit
    rows = np.sort(np.concatenate([split.train, split.val]))
    pixels = open_pixels(
        lambda row: dataset.read(row, stored, fit),
        rows=rows,
        size=stored,
        key=pixels_key((dataset.fingerprint.pixel_hashes[row] for row in rows), fit=fit),
        workers=workers,
        progress=reporter.progress,
    )
    reporter.note(pixels.stated)
    return pixels


def _refuse_other_outputs(model: ImageNetwork, images_NHWC: np.ndarray, outputs: int) -> None:
    """Raise UsageError where the user's own module does not give one logit for each class."""
    model.eval()
    with torch.no_grad():
        shape = tuple(model(torch.from_numpy(images_NHWC).permute(0, 3, 1, 2)).shape)
    expected = (len(images_NHWC), outputs)
    if shape != expected:
        raise UsageError(
            f"the network gives outputs of shape {shape} for {len(images_NHWC)} images, expected {expected}.",
            where="model",
            cure=f"Give it a last layer with {outputs} outputs, one for each class.",
        )


def _normalization(spec: NetworkSpec, pixels: PixelSource, split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel, pixels scaled to 0–1: those the weights were trained with, otherwise those of train."""
    saved = saved_normalization(Path(spec.weights)) if spec.weights not in (RANDOM, PRETRAINED) else None
    if saved is not None:
        return saved
    if _was_published(spec):
        published = published_input(spec)
        return tuple(published["mean"]), tuple(published["std"])
    step = max(1, len(split.train) // STATISTICS_IMAGES)
    rows, total, squares, count = split.train[::step], np.zeros(3), np.zeros(3), 0
    for start in range(0, len(rows), 256):
        values_PC = pixels.take(rows[start : start + 256]).reshape(-1, 3)
        count += len(values_PC)
        histogram = [np.bincount(values_PC[:, c], minlength=256) for c in range(3)]  # exact sums, whatever the order
        levels = np.arange(256, dtype=np.float64)
        total += [float(h @ levels) for h in histogram]
        squares += [float(h @ levels**2) for h in histogram]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0)) / 255
    return tuple((mean / 255).tolist()), tuple(np.maximum(std, SMALLEST_STD).tolist())
