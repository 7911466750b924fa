"""From a `NetworkSpec` to a network that takes uint8 images: built, its head replaced, its parts frozen as asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainwright.errors import UsageError
from trainwright.recipe import PRETRAINED, RANDOM, NetworkSpec
from trainwright.seeding import derive
from trainwright.training.names import CUSTOM, SMALL_RESNET, check_network_name
from trainwright.training.small_resnet import SmallResNet
from trainwright.training.weights import load_weight_file, pretrained_missing

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageNetwork(nn.Module):
    """A network behind its normalization: takes uint8 (or float) images 0–255 and normalizes them on the device.

    mean, std: per channel, for pixels scaled to 0–1; they are buffers, so weights and exports carry them.
    Parts whose parameters are all frozen stay in eval mode, so that their batch-norm statistics stay as they came.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        std_C = torch.tensor(std) * 255
        self.register_buffer("scale", (1 / std_C).view(1, -1, 1, 1))
        self.register_buffer("shift", (-torch.tensor(mean) * 255 / std_C).view(1, -1, 1, 1))
        self._frozen: list[nn.Module] = []

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        layout = torch.channels_last if images_NCHW.is_contiguous(memory_format=torch.channels_last) else None
        scale_1CHW, shift_1CHW = (self._everywhere(values, images_NCHW, layout) for values in (self.scale, self.shift))
        outputs: torch.Tensor = self.network(
            images_NCHW.to(self.scale.dtype, copy=True).mul_(scale_1CHW).add_(shift_1CHW)
        )
        return outputs

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
        return self

    def freeze(self, trainable: str) -> None:
        """Let only the head (`head`), the head and the last k stages (`last-k`) or everything (`all`) learn."""
        stages = parameter_stages(self.network)
        last = max(stages.values(), default=0)
        first = {"all": 0, "head": last}.get(trainable)
        if first is None:
            first = last - int(trainable.removeprefix("last-"))
        for name, parameter in self.network.named_parameters():
            if stages[name] < first:  # what the network's maker has frozen stays frozen
                parameter.requires_grad_(False)
        self._frozen = [module for module in self.network.modules() if _is_frozen(module)]
        self.train(self.training)  # frozen parts leave train mode at once, not at the next change of mode

    def learning_rates(self, decay: float) -> list[tuple[nn.Parameter, float]]:
        """Every parameter with its factor of the peak lr: 1 for the head, `decay` less per stage towards the input
        (discriminative fine-tuning: Howard and Ruder, arXiv:1801.06146 §3.2)."""
        stages = parameter_stages(self.network)
        last = max(stages.values(), default=0)
        return [(parameter, decay ** (last - stages[name])) for name, parameter in self.network.named_parameters()]


def build_network(
    spec: NetworkSpec, *, outputs: int, image_size: int, seed: int, custom: nn.Module | None = None
) -> nn.Module:
    """The network that `spec` names, with a fresh head of `outputs`, on the CPU; its random weights depend only on `seed`.

    custom: your own module, taken as it is. Raises UnknownNameError for a name that is neither ours nor timm's and
    WeightsError for weights that cannot be had.
    """
    if custom is not None:
        if spec.weights == PRETRAINED:
            raise UsageError(
                "there are no published weights for a network of your own.",
                where="network.weights",
                cure="Load them into your module before, or name a file of weights.",
            )
        if spec.weights != RANDOM:
            load_weight_file(custom, Path(spec.weights))
        return custom
    if spec.name == CUSTOM:
        raise UsageError(
            "this recipe trains a network of your own, which only Python code can give.",
            where="network.name",
            cure="Call tw.train(data, recipe, model=model), or tw.resume(run, model=model).",
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive(seed, "weights"))
        if spec.name == SMALL_RESNET:
            network: nn.Module = SmallResNet(
                outputs, width=spec.width, blocks=spec.blocks, norm=spec.norm, dropout=spec.dropout
            )
            if spec.weights == PRETRAINED:
                raise UsageError(
                    f"{SMALL_RESNET!r} has no published weights.",
                    where="network.weights",
                    cure="Use --set network.weights=random, or a timm network such as resnet18.",
                )
        else:
            network = _from_timm(spec, outputs=outputs, image_size=image_size)
    if spec.weights not in (RANDOM, PRETRAINED):
        load_weight_file(network, Path(spec.weights))
    return network


def published_input(spec: NetworkSpec) -> dict[str, Any]:
    """What a timm network was made for: `size` (pixels), `mean`, `std`, and `fixed` where it takes no other size."""
    timm = _timm()
    check_network_name(spec.name)
    config = timm.get_pretrained_cfg(spec.name)
    if config is None:
        return {"size": 224, "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "fixed": False}
    return {"size": config.input_size[-1], "mean": config.mean, "std": config.std, "fixed": config.fixed_input_size}


def parameter_stages(network: nn.Module) -> dict[str, int]:
    """Parameter name → stage, counted from the input (0) to the head (the highest).

    timm networks tell their stages; for others each child (with a single child, each of its children) that has parameters
    is a stage, in order, and the last one is the head.
    """
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


def _from_timm(spec: NetworkSpec, *, outputs: int, image_size: int) -> nn.Module:
    timm = _timm()
    wanted = published_input(spec)
    options: dict[str, Any] = {"num_classes": outputs, "drop_rate": spec.dropout}
    if wanted["fixed"] and image_size != wanted["size"]:
        options["img_size"] = image_size
    try:
        network: nn.Module = timm.create_model(spec.name, pretrained=spec.weights == PRETRAINED, **options)
    except (OSError, RuntimeError) as error:
        if spec.weights != PRETRAINED:
            raise
        if "No pretrained weights exist" in str(error):
            raise UsageError(
                f"{spec.name!r} has no published weights.",
                where="network.weights",
                cure="Use --set network.weights=random, or another network: timm.list_models(pretrained=True).",
            ) from error
        raise pretrained_missing(spec.name, offline=bool(os.environ.get("HF_HUB_OFFLINE"))) from error
    return network


def _timm() -> Any:
    """timm, imported only for those who use it: it takes seconds."""
    import timm

    return timm


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
