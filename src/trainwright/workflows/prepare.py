"""From a recipe and a dataset to everything a training needs: values filled in, split, pixels, network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from trainwright.batch import Detections
from trainwright.data.augment import refuse_what_lies, stored_size
from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.dataset import Dataset
from trainwright.data.pixels import PixelSource
from trainwright.data.split import Split
from trainwright.data.targets import TargetSource
from trainwright.errors import DataError, RecipeError, UsageError
from trainwright.optim.losses import balanced_weights, build_loss
from trainwright.optim.optimizers import names_momentum, refuse_average, refuse_batch, refuse_nothing_hidden
from trainwright.optim.optimizers import published_constants as optimizer_constants
from trainwright.optim.schedules import published_constants as schedule_constants
from trainwright.plugins import Task, networks, tasks
from trainwright.recipe import PRETRAINED, RANDOM, NetworkSpec, Recipe, Size
from trainwright.records import TargetInfo
from trainwright.seeding import stream
from trainwright.training.device import Precision, choose_precision, prefers_channels_last
from trainwright.training.mixing import mixing
from trainwright.training.model import ImageNetwork, build_network, parameter_stages, published_input, settled_norms
from trainwright.training.names import CUSTOM
from trainwright.training.weights import saved_normalization
from trainwright.workflows.reporting import Reporter

SMALL_SIDE = 64  # pixels: what small-resnet was made for, and where a network from scratch is still quick on a CPU
USUAL_SIDE = 224  # pixels: Krizhevsky et al., NeurIPS 2012, and most published weights since
# Pixels of an image where data.image_size is not given: what a CPU works through at some tens of images a second. What is
# counted or measured may be small, what is found or outlined even more so.
NUMBERS_PIXELS, MAP_PIXELS, BOX_PIXELS = 96 * 128, 256 * 256, 256 * 320
NUMBERS_MULTIPLE = 8  # so that halving three times leaves no odd row
STATISTICS_IMAGES = 5_000  # images that mean and deviation are taken from: their error is then far below 1 %
SMALLEST_STD = 1e-3  # of pixels scaled to 0–1: images of one single colour


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A training ready to start. recipe: every value filled in; asked: as it was before. probe_rows: train images scored
    beside val, about as many."""

    recipe: Recipe
    asked: Recipe
    dataset: Dataset
    split: Split
    probe_rows: np.ndarray
    pixels: PixelSource = field(repr=False)
    targets: TargetSource = field(repr=False)
    task: Task
    model: ImageNetwork = field(repr=False)
    device: torch.device
    precision: Precision

    def name_rows(self, rows: Sequence[int]) -> list[str]:
        """The paths of these rows of the sample table."""
        return [self.dataset.table.paths[row] for row in rows]

    @property
    def counted(self) -> str:
        """The images of each part, and of how many of those of train its score is."""
        scored, train = len(self.probe_rows), len(self.split.train)
        return f"{self.split}" + (f"; the train score is of {scored:,} of the {train:,}" if scored < train else "")


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
    asked, recipe = recipe, _filled_in(dataset, recipe, custom)
    split = dataset.split(recipe.data)
    recipe = _weights_filled_in(dataset, recipe, split)
    if recipe.batch_size != "auto":
        refuse_batch(recipe.optimizer, batch_size=recipe.step_images, train_images=len(split.train))
    rows = np.union1d(split.train, split.val)
    task = build_task(recipe, dataset.info(split.train))
    stored = stored_for(task, recipe)
    pixels = _pixels(dataset, recipe.data.fit, rows, stored, workers=workers, reporter=reporter)
    targets = dataset.stored_targets(rows, stored, recipe.data.fit, workers=workers, progress=reporter.progress)
    start = recipe.network.model_copy(update={"weights": RANDOM}) if weights_follow else recipe.network
    network = build_network(
        recipe.network,
        form=task.form,
        outputs=task.outputs,
        size=recipe.data.size,
        seed=recipe.seed,
        custom=custom,
        weights_follow=weights_follow,
    )
    mean, std = _normalization(start, pixels, split)
    _refuse_mirrored_boxes(recipe, task)
    model = ImageNetwork(network, mean=mean, std=std, test_time_flip=recipe.test_time_flip)
    if custom is not None:
        refuse_other_outputs(model, task, recipe.data.size)
    if not weights_follow:
        _refuse_more_stages(network, recipe.network.trainable)
    model.freeze(recipe.network.trainable, settled=settled_norms(network, recipe.network))
    _refuse_nothing_to_learn(model)
    refuse_nothing_hidden(recipe.optimizer, model.parameters(), ends=model.ends())
    precision = choose_precision(recipe.precision, model, device)
    channels_last = prefers_channels_last(model) if recipe.channels_last is None else recipe.channels_last
    model.to(device, memory_format=torch.channels_last if channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    return Prepared(
        recipe=recipe.changed({"precision": precision.name, "channels_last": channels_last}),
        asked=asked,
        dataset=dataset,
        split=split,
        probe_rows=probe_rows(split.train, dataset.targets.strata(), len(split.val), recipe.data.split_seed),
        pixels=pixels,
        targets=targets,
        task=task,
        model=model,
        device=device,
        precision=precision,
    )


def build_task(recipe: Recipe, info: TargetInfo) -> Task:
    """The recipe's task with its loss. Raises RecipeError for a loss that does not go with it."""
    assert recipe.task is not None  # filled in from the data
    task = tasks.get(recipe.task)
    return task(info, build_loss(recipe.loss, task.losses))  # type: ignore[call-arg]


def refuse_unusable(dataset: Dataset) -> None:
    """Raise DataError with every reason why the dataset cannot be trained on."""
    refusals = dataset.refusals()
    if refusals:
        raise DataError(
            " ".join(problem.message for problem in refusals),
            where=str(dataset.table.root),
            cure="See 'trainwright inspect'.",
        )


def probe_rows(train: np.ndarray, strata: Sequence[str], count: int, seed: int) -> np.ndarray:
    """About `count` training rows, drawn within each stratum in proportion, sorted; all of them where there are fewer.

    strata: of every row of the dataset.
    """
    if count >= len(train):
        return train
    of_train = np.array([strata[row] for row in train])
    chosen = [
        stream(seed, "train-probe", index).permutation(train[of_train == name])
        for index, name in enumerate(np.unique(of_train))
    ]
    return np.sort(np.concatenate([rows[: max(1, round(count * len(rows) / len(train)))] for rows in chosen]))


def _filled_in(dataset: Dataset, recipe: Recipe, custom: nn.Module | None) -> Recipe:
    if recipe.task not in (None, dataset.task):
        raise UsageError(
            f"the recipe is for {recipe.task}, the data for {dataset.task}.", where="task", cure="Set task to null."
        )
    task = tasks.get(dataset.task)
    if task.target == "boxes" and recipe.augment.crop_padding:
        raise RecipeError(
            "the reflection beyond the edge would show objects without boxes.",
            where="augment.crop_padding",
            cure="Set it to 0 and use augment.crop_scale, for example [0.5, 1].",
        )
    refuse_what_lies(recipe.augment, task.target)
    mixing(recipe.augment, kind=task.target, seed=recipe.seed)  # refuses what cannot be mixed
    refuse_average(recipe.optimizer, ema_decay=recipe.ema_decay)
    changes: dict[str, Any] = {"task": dataset.task}
    changes |= {f"optimizer.{key}": value for key, value in optimizer_constants(recipe.optimizer).items()}
    schedule = schedule_constants(recipe.schedule, momentum_is_given=names_momentum(recipe.optimizer))
    changes |= {f"schedule.{key}": value for key, value in schedule.items()}
    if recipe.loss.name is None:
        changes["loss.name"] = task.losses[0]
    if recipe.network.weights not in (RANDOM, PRETRAINED):
        changes["network.weights"] = str(Path(recipe.network.weights).expanduser().absolute())
    if custom is not None:
        changes["network.name"] = CUSTOM
    if recipe.data.image_size is None:
        height, width = _image_size(dataset, recipe, task, custom)
        changes["data.image_size"] = height if height == width else [height, width]
    return recipe.changed(changes)


def _weights_filled_in(dataset: Dataset, recipe: Recipe, split: Split) -> Recipe:
    """The recipe with the class weights of its train part in numbers. Raises RecipeError where they do not fit the task."""
    weights, names = recipe.loss.class_weights, dataset.targets.names
    if weights is None:
        return recipe
    if tasks.get(dataset.task).target not in ("class", "mask"):
        raise RecipeError(
            f"{dataset.task} has no classes to weigh.", where="loss.class_weights", cure="Set it to null."
        )
    if weights == "balanced":
        balanced = balanced_weights(dataset.targets.counts(split.train), names)
        return recipe.changed({"loss.class_weights": list(balanced)})
    if len(weights) != len(names):
        raise RecipeError(
            f"{len(weights)} weights for {len(names)} classes.",
            where="loss.class_weights",
            cure=f"One for each, in this order: {', '.join(names[:10])}{' …' if len(names) > 10 else ''}; or balanced.",
        )
    return recipe


def _image_size(dataset: Dataset, recipe: Recipe, task: type[Task], custom: nn.Module | None) -> Size:
    """(height, width): what the network's weights were made for, otherwise the images' own size up to a limit."""
    found, name = dataset.fingerprint, recipe.network.name
    heights, widths = found.heights[found.usable], found.widths[found.usable]
    ours = custom is None and name in networks.names()
    middle = float(np.median(heights)), float(np.median(widths))
    if task.form != "vector":
        multiple = networks.get(name).multiple if ours else 32
        return _own_shape(*middle, MAP_PIXELS if task.form == "map" else BOX_PIXELS, multiple)
    if ours and task.target == "numbers":
        return _own_shape(*middle, NUMBERS_PIXELS, NUMBERS_MULTIPLE)
    own = max(8, int(np.median(np.minimum(heights, widths))))
    if ours:
        side = min(own, SMALL_SIDE)
    elif custom is not None:
        side = min(own, USUAL_SIDE)
    else:
        published = published_input(recipe.network)
        size = int(published["size"])
        side = size if _was_published(recipe.network) or published["fixed"] else min(own, size)
    return side, side


def _own_shape(height: float, width: float, limit: int, multiple: int) -> Size:
    """The shape of the images at their own size, or smaller to hold at most about `limit` pixels, in whole multiples."""
    scale = min(1.0, math.sqrt(limit / (height * width)))
    sides = (max(1, math.floor(scale * side / multiple + 0.5)) * multiple for side in (height, width))
    return next(sides), next(sides)


def _was_published(spec: NetworkSpec) -> bool:
    """Whether the weights are those of a timm network, from the hub or from a file of them."""
    return spec.weights != RANDOM and spec.name != CUSTOM and not spec.name.startswith("small-")


def stored_for(task: Task, recipe: Recipe) -> Size:
    """(height, width) at which images are stored for a task."""
    return stored_size(recipe.data.size, recipe.augment, whole=task.target != "class")


def _pixels(
    dataset: Dataset, fit: str, rows: np.ndarray, stored: Size, *, workers: int, reporter: Reporter
) -> PixelSource:
    """Decoded train and val images; the test part stays untouched."""
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


def refuse_other_outputs(model: ImageNetwork, task: Task, size: Size) -> None:
    """Raise UsageError where the user's own module does not say what the task needs of two grey images."""
    model.eval()
    images_NCHW = torch.full((2, 3, *size), 128, dtype=torch.uint8)
    if task.form == "boxes":
        _refuse_other_detections(model, images_NCHW, task.outputs)
        return
    with torch.no_grad():
        outputs = model(images_NCHW)
    expected = (2, task.outputs) if task.form == "vector" else (2, task.outputs, *size)
    shape = tuple(getattr(outputs, "shape", ()))
    if shape == expected:
        return
    names = ", ".join(task.info.names[:5]) + (" …" if len(task.info.names) > 5 else "")
    layer = "channels" if task.form == "map" else "outputs"
    cure = f"Give it a last layer with {task.outputs} {layer}: {names}."
    if task.form == "map" and shape[:2] == expected[:2]:
        cure = "Its outputs must be as high and wide as its input: resize them with torch.nn.functional.interpolate."
    given = f"outputs of shape {shape}" if shape else type(outputs).__name__
    raise UsageError(f"the network gives {given} for 2 images, expected shape {expected}.", where="model", cure=cure)


def _refuse_more_stages(network: nn.Module, trainable: str) -> None:
    """Raise RecipeError for `last-k` of a network that has fewer stages than k before its head."""
    if not trainable.startswith("last-"):
        return
    before = max(parameter_stages(network).values(), default=0)
    if int(trainable.removeprefix("last-")) > before:
        raise RecipeError(
            f"{trainable}: the network has {before} stage{'' if before == 1 else 's'} before its head.",
            where="network.trainable",
            cure="Set all, for everything to learn, or fewer stages." if before else "Set all.",
        )


def _refuse_mirrored_boxes(recipe: Recipe, task: Task) -> None:
    if recipe.test_time_flip and task.form == "boxes":
        raise RecipeError(
            "boxes cannot be averaged with those of a mirror image.", where="test_time_flip", cure="Set it to false."
        )


def _refuse_nothing_to_learn(model: ImageNetwork) -> None:
    """Raise UsageError for a module of the user's none of whose parameters learns."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(
            "none of the network's parameters learns: all are frozen, or it has none.",
            where="model",
            cure="Call requires_grad_(True) on what is to learn; network.trainable freezes more of it, and thaws nothing.",
        )


def _refuse_other_detections(model: ImageNetwork, images_NCHW: torch.Tensor, classes: int) -> None:
    """Raise UsageError where the user's own detector does not keep what `plugins.Network` asks of one."""
    cure = "See the Protocol Network in trainwright.plugins: (images, target) to trainwright.batch.Detections."
    if not model.takes_target:
        raise UsageError(
            "a detector is called with its target.", where="model", cure=f"Set takes_target = True. {cure}"
        )
    height, width = images_NCHW.shape[2:]
    target_NM5 = torch.tensor([[[0.0, width / 4, height / 4, width / 2, height / 2]]]).expand(2, 1, 5)
    with torch.no_grad():
        alone, taught = model(images_NCHW, None), model(images_NCHW, target_NM5)
    for found in (alone, taught):
        if not isinstance(found, Detections):
            raise UsageError(
                f"the network gives {type(found).__name__}, expected Detections.", where="model", cure=cure
            )
    count = alone.scores_NM.shape[-1]
    shapes = {
        "boxes_NM4": (tuple(alone.boxes_NM4.shape), (2, count, 4)),
        "scores_NM": (tuple(alone.scores_NM.shape), (2, count)),
        "labels_NM": (tuple(alone.labels_NM.shape), (2, count)),
        "loss_N with a target, in eval mode too": (tuple(getattr(taught.loss_N, "shape", ("none",))), (2,)),
    }
    wrong = [
        f"{name} has shape {given}, expected {wanted}" for name, (given, wanted) in shapes.items() if given != wanted
    ]
    if count and not (int(alone.labels_NM.min()) >= -1 and int(alone.labels_NM.max()) < classes):
        wrong.append(
            f"labels go from {int(alone.labels_NM.min())} to {int(alone.labels_NM.max())}, expected -1 to {classes - 1}"
        )
    if wrong:
        raise UsageError(f"the network's answers do not fit: {'; '.join(wrong)}.", where="model", cure=cure)


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
