"""From a `NetworkSpec` to a network that takes uint8 images: built, its head replaced, its parts frozen as asked."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import ceil, floor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainwright.errors import RecipeError, TrainwrightError, UsageError
from trainwright.networks.mirrored import with_mirror
from trainwright.networks.norms import norms_with_statistics, put_group_norms, refuse_fresh_statistics
from trainwright.networks.timm_regularization import inner_rates, refuse_idle_dropout
from trainwright.plugins import networks
from trainwright.recipe import PRETRAINED, RANDOM, NetworkSpec, Size
from trainwright.records import OutputForm
from trainwright.seeding import derive
from trainwright.training.names import CUSTOM, check_network, has_backbone, published_name
from trainwright.training.weights import load_weight_file, pretrained_missing, unpublished

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DROPPING = ("dropout", "block_dropout", "drop_path")  # parts of a NetworkSpec that act in train mode alone
USUAL_SIZE = 224  # pixels a side, where a network does not say what it was made for
FORMS: dict[OutputForm, str] = {
    "vector": "figures for each image",
    "map": "figures for each pixel",
    "boxes": "boxes with their classes",
}


class ImageNetwork(nn.Module):
    """A network behind its normalization: takes uint8 (or float) images 0–255 and normalizes them on the device.

    mean, std: per channel, for pixels scaled to 0–1; they are buffers, so weights and exports carry them.
    Parts whose parameters are all frozen stay in eval mode, so that their batch-norm statistics stay as they came.
    test_time_flip: whether an answer, in eval mode, is the mean of those to the image and to its mirror image.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...], test_time_flip: bool = False
    ) -> None:
        super().__init__()
        self.network = network
        self.test_time_flip = test_time_flip
        std_C = torch.tensor(std) * 255
        self.register_buffer("scale", (1 / std_C).view(1, -1, 1, 1))
        self.register_buffer("shift", (-torch.tensor(mean) * 255 / std_C).view(1, -1, 1, 1))
        self._frozen: list[nn.Module] = []
        self._settled: list[nn.Module] = []

    @property
    def takes_target(self) -> bool:
        """Whether the network is called with (images, target), as detectors are."""
        return bool(getattr(self.network, "takes_target", False))

    def forward(self, images_NCHW: torch.Tensor, target: torch.Tensor | None = None) -> Any:
        layout = torch.channels_last if images_NCHW.is_contiguous(memory_format=torch.channels_last) else None
        scale_1CHW, shift_1CHW = (self._everywhere(values, images_NCHW, layout) for values in (self.scale, self.shift))
        normalized_NCHW = images_NCHW.to(self.scale.dtype, copy=True).mul_(scale_1CHW).add_(shift_1CHW)
        if self.takes_target:
            return self.network(normalized_NCHW, target)
        if self.test_time_flip and not self.training:
            return with_mirror(self.network, normalized_NCHW)
        return self.network(normalized_NCHW)

    @staticmethod
    def _everywhere(
        values: torch.Tensor, images_NCHW: torch.Tensor, layout: torch.memory_format | None
    ) -> torch.Tensor:
        """Per-channel values written out for one image: on channels-last pixels a broadcast over C = 3 is 3 to 5 times slower."""
        spread = values.expand(1, -1, *images_NCHW.shape[2:])
        return spread.contiguous(memory_format=layout or torch.contiguous_format)

    def train(self, mode: bool = True) -> ImageNetwork:
        super().train(mode)
        for module in self._frozen:
            module.eval()
        for norm in self._settled:
            norm.training = False  # not eval(): timm's have dropout inside of them
        return self

    def freeze(self, trainable: str, *, settled: Iterable[nn.Module] = ()) -> None:
        """Let only the head (`head`), the head and the last k stages (`last-k`) or everything (`all`) learn.

        settled: batch norms that use the statistics they have in train mode too; their scale and shift still learn.
        """
        stages = parameter_stages(self.network)
        last = max(stages.values(), default=0)
        first = {"all": 0, "head": last}.get(trainable)
        if first is None:
            first = last - int(trainable.removeprefix("last-"))
        for name, parameter in self.network.named_parameters():
            if stages[name] < first:  # what the network's maker has frozen stays frozen
                parameter.requires_grad_(False)
        self._frozen = [module for module in self.network.modules() if _is_frozen(module)]
        self._settled = list(settled)
        self.train(self.training)  # frozen parts leave train mode at once, not at the next change of mode

    def learning_rates(self, decay: float) -> list[tuple[nn.Parameter, float]]:
        """Every parameter with its factor of the peak lr: 1 for the head, `decay` less per stage towards the input
        (discriminative fine-tuning: Howard and Ruder, arXiv:1801.06146 §3.2)."""
        stages = parameter_stages(self.network)
        last = max(stages.values(), default=0)
        return [(parameter, decay ** (last - stages[name])) for name, parameter in self.network.named_parameters()]

    def ends(self) -> list[nn.Parameter]:
        """The parameters of the first layer and of the head, and embeddings: what an optimizer of hidden layers leaves out.

        The head is the last stage; behind an encoder, whose decoder is hidden too, it is the last layer. Embeddings are
        `nn.Embedding`s, and what is `undecayed`.
        """
        layers = [module for module in self.network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        named = dict(self.network.named_parameters())
        if isinstance(getattr(self.network, "encoder", None), nn.Module):
            head = [parameter for layer in layers[-1:] for parameter in layer.parameters()]
        else:
            stages = parameter_stages(self.network)
            last = max(stages.values(), default=0)
            head = [parameter for name, parameter in named.items() if stages[name] == last]
        tables = [module for module in self.network.modules() if isinstance(module, nn.Embedding)]
        first = [parameter for module in (*layers[:1], *tables) for parameter in module.parameters()]
        return [*first, *head, *self.undecayed()]

    def undecayed(self) -> list[nn.Parameter]:
        """The parameters that the network, or a part of it, names by `no_weight_decay()`: positions, class tokens, tables.

        timm's networks do; as in its own parameter groups, a name may be a pattern.
        """
        named = dict(self.network.named_parameters())
        patterns = [
            f"{prefix}.{name}" if prefix else name
            for prefix, part in self.network.named_modules()
            if callable(naming := getattr(part, "no_weight_decay", None))
            for name in naming()
        ]
        return [parameter for name, parameter in named.items() if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def build_network(
    spec: NetworkSpec,
    *,
    form: OutputForm,
    outputs: int,
    size: Size,
    seed: int,
    custom: nn.Module | None = None,
    weights_follow: bool = False,
) -> nn.Module:
    """The network that `spec` names, with a fresh head of `outputs`, on the CPU; its random weights depend only on `seed`.

    form: what the task needs of it. size: of its input. custom: your own module, taken as it is but for group norm, which is
    put in the place of its batch norms. weights_follow: a checkpoint will replace all weights and statistics, so those that
    `spec` starts from are neither looked for nor judged. Raises UnknownNameError for a name that is neither ours nor timm's,
    RecipeError for a network of another form, an input that it does not take, or regularization that it has no place for, and
    WeightsError for weights that cannot be had.
    """
    start = spec.model_copy(update={"weights": RANDOM}) if weights_follow else spec
    if custom is not None:
        network, of = _own(start, custom), CUSTOM
    else:
        network, of = _named(start, form=form, outputs=outputs, size=size, seed=seed), spec.name
    if spec.norm == "group":
        put_group_norms(network, of=of, learned=not weights_follow)
    if start.weights not in (RANDOM, PRETRAINED):
        load_weight_file(network, Path(start.weights))
    if spec.norm == "frozen" and not weights_follow:
        refuse_fresh_statistics(_settled(network, spec), of=of)
    return network


def settled_norms(network: nn.Module, spec: NetworkSpec) -> list[nn.Module]:
    """The batch norms of a network that `build_network` made whose statistics are to stay as they came: none, if not `frozen`.

    Where only the backbone's weights are published, those of the backbone: the others have no statistics to keep.
    """
    return [norm for _, norm in _settled(network, spec)] if spec.norm == "frozen" else []


def _settled(network: nn.Module, spec: NetworkSpec) -> list[tuple[str, nn.Module]]:
    encoder = getattr(network, "encoder", None)
    if spec.weights == PRETRAINED and has_backbone(spec.name) and isinstance(encoder, nn.Module):
        return norms_with_statistics(encoder)
    return norms_with_statistics(network)


def _named(spec: NetworkSpec, *, form: OutputForm, outputs: int, size: Size, seed: int) -> nn.Module:
    if spec.name == CUSTOM:
        raise UsageError(
            "this recipe trains a network of your own, which only Python code can give.",
            where="network.name",
            cure="Call tw.train(data, recipe, model=model), or tw.resume(run, model=model).",
        )
    check_network(spec)
    kind = networks.all().get(spec.name)
    _refuse_other_form(spec.name, "vector" if kind is None else kind().form, form)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        with _published_weights(spec):
            if kind is None:
                return _from_timm(spec, outputs=outputs, size=size)
            _refuse_other_multiples(spec.name, kind().multiple, size)
            return kind().build(spec, outputs=outputs, size=size)


def published_input(spec: NetworkSpec) -> dict[str, Any]:
    """What a timm network, or the backbone of a network of ours, was made for: `size` (pixels), `mean`, `std`, and `fixed`
    where it takes no other size."""
    timm = _timm()
    check_network(spec)
    ours = has_backbone(spec.name)
    config = timm.get_pretrained_cfg(spec.backbone if ours else spec.name)
    if config is None:
        return {"size": USUAL_SIZE, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "fixed": False}
    fixed = config.fixed_input_size and not ours
    return {"size": config.input_size[-1], "mean": config.mean, "std": config.std, "fixed": fixed}


def parameter_stages(network: nn.Module) -> dict[str, int]:
    """Parameter name → stage, counted from the input (0) to the head (the highest).

    timm networks tell their stages. Of a network with an `encoder`, those of the encoder come first and all that follows it
    is the head. For others each child (with a single child, each of its children) that has parameters is a stage, in order,
    and the last one is the head.
    """
    encoder = getattr(network, "encoder", None)
    if isinstance(encoder, nn.Module):
        return _stages_after(encoder, network)
    if hasattr(network, "group_matcher") and hasattr(network, "get_classifier"):
        return _timm_stages(network)
    prefix, children = "", list(network.named_children())
    while len(children) == 1 and list(children[0][1].named_children()):
        prefix += f"{children[0][0]}."
        children = list(children[0][1].named_children())
    with_parameters = [f"{prefix}{name}" for name, child in children if next(child.parameters(), None) is not None]
    stages = {}
    for name, _ in network.named_parameters():
        owner = next((i for i, child in enumerate(with_parameters) if name.startswith(f"{child}.")), 0)
        stages[name] = owner
    return stages


def _stages_after(encoder: nn.Module, network: nn.Module) -> dict[str, int]:
    parts = _encoder_parts(encoder)
    stages = {id(parameter): 0 for parameter in encoder.parameters()}
    stages |= {id(parameter): number for number, part in enumerate(parts) for parameter in part.parameters()}
    return {name: stages.get(id(parameter), len(parts)) for name, parameter in network.named_parameters()}


def _encoder_parts(encoder: nn.Module) -> list[nn.Module]:
    """Its children that have parameters; a row of rows, as the blocks of an EfficientNet, counts as its rows."""
    parts = [child for child in encoder.children() if next(child.parameters(), None) is not None]
    if len(parts) == 1 and list(parts[0].children()):
        return _encoder_parts(parts[0])
    rows_of_rows = [
        isinstance(part, nn.Sequential) and all(isinstance(row, nn.Sequential) for row in part) for part in parts
    ]
    return [
        row for part, deep in zip(parts, rows_of_rows, strict=True) for row in (part.children() if deep else [part])
    ]


def _timm_stages(network: Any) -> dict[str, int]:
    from timm.models import group_parameters

    groups = group_parameters(network, network.group_matcher(coarse=True))  # group number → parameter names
    stages = {name: position for position, number in enumerate(sorted(groups)) for name in groups[number]}
    classifier = network.get_classifier()
    heads = classifier if isinstance(classifier, tuple) else (classifier,)  # distilled networks have two
    head = {id(parameter) for part in heads for parameter in part.parameters()}
    last_body = max((stages[name] for name, p in network.named_parameters() if id(p) not in head), default=-1)
    return {
        name: last_body + 1 if id(parameter) in head else stages[name] for name, parameter in network.named_parameters()
    }


def _own(spec: NetworkSpec, custom: nn.Module) -> nn.Module:
    if spec.weights == PRETRAINED:
        raise UsageError(
            "there are no published weights for a network of your own.",
            where="network.weights",
            cure="Load them into your module before, or name a file of weights.",
        )
    idle = [field for field in DROPPING if getattr(spec, field)]
    if idle:
        raise RecipeError(
            f"nothing can be put inside of a network of your own, and {' and '.join(idle)} would be without effect.",
            where=f"network.{idle[0]}",
            cure="Set it to 0, and put layers such as torch.nn.Dropout into your module.",
        )
    return custom


def _refuse_other_form(name: str, given: OutputForm, needed: OutputForm) -> None:
    if given == needed:
        return
    fitting = sorted(name for name, kind in networks.all().items() if kind().form == needed)
    timms = " and every network of timm" if needed == "vector" else ""
    raise RecipeError(
        f"{name!r} gives {FORMS[given]}, and the task needs {FORMS[needed]}.",
        where="network.name",
        cure=f"Networks that give it: {', '.join(fitting)}{timms}.",
    )


def _refuse_other_multiples(name: str, multiple: int, size: Size) -> None:
    if all(side % multiple == 0 for side in size):
        return
    smaller, larger = ([max(1, rounded(side / multiple)) * multiple for side in size] for rounded in (floor, ceil))
    fitting = " or ".join(f"[{height}, {width}]" for height, width in sorted({tuple(smaller), tuple(larger)}))
    raise RecipeError(
        f"{name!r} takes images whose sides are multiples of {multiple} pixels, got [{size[0]}, {size[1]}].",
        where="data.image_size",
        cure=f"Set it to {fitting}.",
    )


@contextmanager
def _published_weights(spec: NetworkSpec) -> Iterator[None]:
    """Published weights that are not to be had are told in our words: timm raises OSError or RuntimeError."""
    name = published_name(spec)
    if spec.weights == PRETRAINED and name is None:
        raise unpublished(spec.name)
    try:
        yield
    except (OSError, RuntimeError) as error:
        if spec.weights != PRETRAINED or name is None or isinstance(error, TrainwrightError):
            raise
        if "No pretrained weights exist" in str(error):
            raise UsageError(
                f"{name!r} has no published weights.",
                where="network.weights",
                cure="Use --set network.weights=random, or another network: timm.list_models(pretrained=True).",
            ) from error
        raise pretrained_missing(name, offline=bool(os.environ.get("HF_HUB_OFFLINE"))) from error


def _from_timm(spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
    timm = _timm()
    wanted = published_input(spec)
    options: dict[str, Any] = {"num_classes": outputs, "drop_rate": spec.dropout}
    if wanted["fixed"]:
        if size[0] != size[1]:
            raise RecipeError(
                f"{spec.name!r} takes square images, got [{size[0]}, {size[1]}].",
                where="data.image_size",
                cure=f"Set it to {wanted['size']}, or take a network that is made of convolutions.",
            )
        if size[0] != wanted["size"]:
            options["img_size"] = size[0]
    options |= inner_rates(spec, spec.name)
    network: nn.Module = timm.create_model(spec.name, pretrained=spec.weights == PRETRAINED, **options)
    refuse_idle_dropout(spec, network)
    return network


def _timm() -> Any:
    """timm, imported only for those who use it: it takes seconds."""
    import timm

    return timm


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
