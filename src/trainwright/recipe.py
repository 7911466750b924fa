"""`Recipe`: everything that defines a training, as frozen data that is written to and read from YAML.

A recipe names what to do; which dataset, device or number of workers is not part of it. Values left at None are filled
in from the dataset and the network before training (`workflows/prepare.py`), and the run folder keeps the filled-in one.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from trainwright.errors import RecipeError, did_you_mean
from trainwright.yaml_text import load_yaml, yaml_12

Size = tuple[int, int]  # (height, width) in pixels

Side = Annotated[int, Field(ge=4, le=4096)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
PRETRAINED = "pretrained"
RANDOM = "random"


class Spec(BaseModel):
    """What a part of a recipe is made of: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataSpec(Spec):
    """How images become arrays and which of them are unseen."""

    image_size: Side | tuple[Side, Side] | None = (
        None  # pixels a side, or [height, width]; None: from the network or the images
    )
    fit: Literal["crop", "squash", "pad"] = "crop"  # how an image of another shape is made to fit
    val_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.2  # of what is not test; used where no val part is given
    test_fraction: Annotated[float, Field(gt=0, lt=0.9)] = 0.15  # used where no test part and no val part is given
    split_seed: int = 0
    train_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the train part that is learned from
    train_seed: int = 0  # which images these are; a smaller train_fraction takes some of them
    train_on: Literal["train", "train+val"] = (
        "train"  # train+val: the val images too, once nothing is left to choose by them
    )

    @property
    def size(self) -> Size:
        """(height, width) in pixels. To be asked once `image_size` is filled in."""
        assert self.image_size is not None
        return (self.image_size, self.image_size) if isinstance(self.image_size, int) else self.image_size


class AugmentSpec(Spec):
    """Random changes of training images. Evaluation never sees any of them."""

    flip: Probability = 0.0  # left-right, of each image
    vertical_flip: Probability = 0.0  # top-bottom, of each image
    crop_padding: Fraction = (
        0.0  # of the image side, reflected on each side and cropped back: He et al., arXiv:1512.03385 §4.2
    )
    crop_scale: tuple[Probability, Probability] | None = (
        None  # area of a random resized crop: Szegedy et al., arXiv:1409.4842 §6
    )
    colour: Fraction = 0.0  # brightness, contrast and saturation each by a factor of 1 ± this: arXiv:1312.5402 §2.2
    trivial_augment: Probability = 0.0  # strength: 0 none, 1 the wide range of Müller and Hutter, arXiv:2103.10158 §4
    erase: Probability = 0.0  # a rectangle of noise in each image: Zhong et al., arXiv:1708.04896 §3.2
    mixup: NonNegativeFloat = 0.0  # α of the Beta(α, α) of shares; 0: off: Zhang et al., arXiv:1710.09412 §2
    cutmix: NonNegativeFloat = 0.0  # α of the Beta(α, α) of areas; 0: off: Yun et al., arXiv:1905.04899 §3
    mix: Probability = 1.0  # share of the batches that are mixed, where mixup or cutmix is on

    @model_validator(mode="after")
    def _one_kind_of_crop(self) -> AugmentSpec:
        if self.crop_scale is not None:
            low, high = self.crop_scale
            if not 0 < low <= high:
                raise ValueError("crop_scale: expected two fractions of the area with 0 < low <= high <= 1")
            if self.crop_padding:
                raise ValueError(
                    "crop_scale and crop_padding are two kinds of random crop: set one of them to null or 0"
                )
        return self


class NetworkSpec(Spec):
    """Which network, where its weights come from, and which of its parts learn."""

    name: str = (
        "small-resnet"  # one of ours (small-resnet, small-unet, unet, …), any timm name, or custom (your own nn.Module)
    )
    backbone: str = "resnet18"  # any timm name: of unet, fpn, deeplabv3plus, faster-rcnn, retinanet, fcos
    weights: str = RANDOM  # random, pretrained (of the network or its backbone: hub cache or download), or a file
    width: Annotated[int, Field(ge=8, le=256, multiple_of=8)] = 32  # small-…: channels of the first stage
    blocks: Annotated[int, Field(ge=1, le=8)] = 1  # small-…: residual blocks a stage
    norm: Literal["batch", "group", "frozen"] = (
        "batch"  # group: in place of batch norm, arXiv:1803.08494; frozen: batch norm with the statistics it came with
    )
    dropout: Fraction = (
        0.0  # before the head: small-…, timm, and unet, fpn, deeplabv3plus where they have a place for it
    )
    block_dropout: Fraction = (
        0.0  # inside of blocks: small-… (arXiv:1605.07146 §2.4), transformers (projections), ResNets (DropBlock)
    )
    drop_path: Fraction = (
        0.0  # stochastic depth of the last block, rising from 0: arXiv:1603.09382 §3; at 0 a timm network keeps its own
    )
    trainable: Annotated[str, Field(pattern=r"^(all|head|last-[1-9]\d*)$")] = (
        "all"  # last-2: the head and the last 2 stages
    )
    stage_lr_decay: Annotated[float, Field(gt=0, le=1)] = (
        1.0  # lr factor per stage from the head down: arXiv:1801.06146 §3.2
    )


class OptimizerSpec(Spec):
    """Which optimizer with which constants. Constants that the named optimizer does not have are not used.

    Values at None, other than lr, are the named optimizer's published ones; they are filled in before training.
    """

    name: str = "adamw"
    lr: PositiveFloat | None = 1e-3  # peak learning rate; None: from the learning-rate range test
    weight_decay: NonNegativeFloat = 0.0  # not on biases and norms
    momentum: Fraction | None = None  # sgd, rmsprop, muon
    nesterov: bool | None = None  # sgd, muon
    betas: tuple[Fraction, Fraction] | None = None  # of adam and those after it
    eps: PositiveFloat | None = None  # beside the root of the mean of squares
    alpha: Fraction | None = None  # rmsprop: how slowly the mean of squares follows

    @property
    def peak_lr(self) -> float:
        """The peak learning rate. To be asked once `lr` is filled in."""
        assert self.lr is not None
        return self.lr


class ScheduleSpec(Spec):
    """Learning rate as a function of progress through the training. Constants that the named one does not have are not used.

    Values at None are the named schedule's published ones; they are filled in before training.
    """

    name: str = "constant"
    warmup: Fraction = (
        0.0  # part of the training in which lr rises linearly to where the schedule begins, before any of them
    )
    final: Probability | None = (
        None  # lr at the end, as a part of the peak: cosine, polynomial, …; exponential-range: both bounds, of themselves
    )
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.1  # step, reduce-on-plateau: factor each time
    milestones: tuple[Fraction, ...] = (0.5, 0.75)  # step: progress at each factor: He et al., arXiv:1512.03385 §4.2
    power: PositiveFloat = 0.9  # polynomial: Chen et al., arXiv:1606.00915 §4.1
    low: Fraction | None = None  # lower bound of a cycle as a part of the peak: triangular, …; where one-cycle starts
    cycles: PositiveInt | None = None  # how many: triangular, triangular2, exponential-range, cosine-restarts
    growth: Annotated[float, Field(ge=1)] = 2.0  # cosine-restarts: a cycle over the one before: arXiv:1608.03983 §4.2
    rise: Annotated[float, Field(gt=0, lt=1)] = 0.3  # one-cycle: part of the training before the peak
    momentum: tuple[Fraction, Fraction] | None = (
        None  # one-cycle: (at the peak, at the ends): arXiv:1803.09820 §4.3; not moved where optimizer.betas or momentum is given
    )
    cooldown: Annotated[float, Field(gt=0, le=1)] = 0.2  # warmup-stable-decay: last part: arXiv:2405.18392 §3
    patience: PositiveInt = 5  # reduce-on-plateau: epochs without a better val score


class LossSpec(Spec):
    """Which loss with which constants. Constants that the named loss does not have are not used."""

    name: str | None = None  # None: the first one that goes with the task
    label_smoothing: Fraction = 0.0  # cross-entropy, binary-cross-entropy, dice+cross-entropy
    class_weights: Literal["balanced"] | tuple[PositiveFloat, ...] | None = (
        None  # in the order of the classes; balanced: images, or pixels, over (classes × those of the class), from train
    )
    gamma: NonNegativeFloat = 2.0  # focal: how little easy ones count: Lin et al., arXiv:1708.02002 §3.2
    delta: PositiveFloat = 1.0  # huber: where it turns from square to line, in deviations of the target
    dice_weight: Probability = 0.5  # dice+cross-entropy: share of the Dice loss
    tversky: tuple[Probability, Probability] = (0.3, 0.7)  # of false positives, false negatives: arXiv:1706.05721 §2


class Recipe(Spec):
    """Everything that defines a training."""

    title: str = ""
    task: str | None = None  # None: from the layout of the data
    data: DataSpec = DataSpec()
    augment: AugmentSpec = AugmentSpec()
    network: NetworkSpec = NetworkSpec()
    optimizer: OptimizerSpec = OptimizerSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    loss: LossSpec = LossSpec()
    epochs: PositiveInt = 20
    batch_size: PositiveInt | Literal["auto"] = 64  # images an optimizer step sees; auto: measured on this machine
    accumulate: PositiveInt = 1  # parts a batch is worked through in; the step is that of the whole batch
    clip_norm: PositiveFloat | None = None  # largest norm of the gradient
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None  # of the averaged weights that are evaluated and kept
    test_time_flip: bool = (
        False  # answers are the mean of those to the image and its mirror image: arXiv:1409.1556 §3.2
    )
    early_stop: PositiveInt | None = None  # epochs without a better val score after which training ends
    keep: Literal["best", "last"] = "best"  # which epoch's weights are the model
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | None = None  # None: where it pays
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0

    @property
    def step_images(self) -> int:
        """Images that an optimizer step sees. To be asked once `batch_size` is filled in."""
        assert isinstance(self.batch_size, int)
        return self.batch_size

    def changed(self, changes: Mapping[str, Any]) -> Recipe:
        """This recipe with values replaced, `{"optimizer.lr": 1e-3}`; validated as a whole.

        Raises RecipeError that names every unknown key (with the nearest known one) and every wrong value.
        """
        tree = self.model_dump(mode="json")
        unknown = [problem for key in changes if (problem := _unknown_key(key)) is not None]
        if unknown:
            raise RecipeError(" ".join(unknown), cure="")
        for key, value in changes.items():
            *parents, leaf = key.split(".")
            node = tree
            for parent in parents:
                node = node[parent]
            node[leaf] = value
        return parse_recipe(tree, where="recipe")

    def to_yaml(self) -> str:
        """Every value, as YAML that `load_recipe` reads back to an equal recipe."""
        import io

        yaml = yaml_12()
        buffer = io.StringIO()
        yaml.dump(self.model_dump(mode="json"), buffer)
        return buffer.getvalue()


def recipe_keys(spec: type[Spec] = Recipe, prefix: str = "") -> dict[str, type[Spec] | None]:
    """Every dotted key of a recipe; the value is the Spec class of a section, None for a single value."""
    return dict(_keys(spec, prefix))


@functools.cache
def _keys(spec: type[Spec], prefix: str) -> Mapping[str, type[Spec] | None]:
    """Once a process: a search changes recipes by the thousand."""
    keys: dict[str, type[Spec] | None] = {}
    for name, info in spec.model_fields.items():
        section = next(
            (t for t in (info.annotation, *get_args(info.annotation)) if isinstance(t, type) and issubclass(t, Spec)),
            None,
        )
        keys[prefix + name] = section
        if section is not None:
            keys |= _keys(section, f"{prefix}{name}.")
    return keys


def parse_recipe(tree: Any, *, where: str) -> Recipe:
    """A recipe from plain data. Raises RecipeError with every problem in it, each with its key and what was expected."""
    if not isinstance(tree, Mapping):
        raise RecipeError(
            f"expected keys and values, got {type(tree).__name__}.", where=where, cure="Write for example 'epochs: 20'."
        )
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        problems = dict.fromkeys(_explain(problem, tree) for problem in error.errors())  # one for each part of a union
        raise RecipeError(" ".join(problems), where=where) from None


def load_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file. Raises RecipeError where it cannot be read or says something unknown."""
    return parse_recipe(load_yaml(path), where=str(path))


def _unknown_key(key: str) -> str | None:
    known = recipe_keys()
    if key in known:
        return (
            None
            if known[key] is None
            else f"{key} is a section: set one of {', '.join(k for k in known if k.startswith(key + '.'))}."
        )
    leaves = [k for k, section in known.items() if section is None]
    return (
        f"{key}: no such key. {did_you_mean(key, leaves) or _by_last_part(key, leaves)}Known keys: {', '.join(leaves)}."
    )


def _by_last_part(key: str, leaves: list[str]) -> str:
    """'Did you mean' for a key given without its section, as in `lr=…`."""
    last = key.rsplit(".", 1)[-1]
    ends = {leaf.rsplit(".", 1)[-1]: leaf for leaf in leaves}
    near = difflib.get_close_matches(last, list(ends), n=1, cutoff=0.8)
    return f"Did you mean {ends[near[0]]!r}? " if near else ""


# What is expected of values of several kinds, of which pydantic complains kind by kind.
UNIONS = {
    "data.image_size": "a side of 4 to 4096 pixels, or [height, width], or null",
    "loss.class_weights": "balanced, or a number above 0 for each class, or null",
    "batch_size": "a whole number above 0, or auto",
}


def _explain(problem: Any, tree: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    for union, expected in UNIONS.items():
        if key.startswith(f"{union}."):
            given = functools.reduce(lambda node, part: node[part], union.split("."), tree)
            return f"{union}: expected {expected}, got {_brief(given)}."
    if problem["type"] == "extra_forbidden":
        return _unknown_key(key) or f"{key}: no such key."
    given = problem.get("input")
    shown = f", got {_brief(given)}" if key and not isinstance(given, Mapping) else ""
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key}: {message}{shown}." if key else f"{message}."


def _brief(given: Any) -> str:
    """What was given, cut: YAML aliases can make a page of text into gigabytes when written out."""
    import reprlib

    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother = 2, 100, 100
    return brief.repr(given)
