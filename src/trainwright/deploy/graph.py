"""A trained model as one function of pixels: uint8 images in, answers by name out, everything between inside of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from trainwright.deploy.suppression import best_boxes
from trainwright.errors import UsageError
from trainwright.networks.mirrored import with_mirror
from trainwright.plugins import Task
from trainwright.recipe import Size

Named = dict[str, torch.Tensor]
WEIGHTS_ALONE = "Its weights can be exported: --format safetensors."


class ServedModel(nn.Module):
    """uint8 RGB images [N, H, W, 3] of the model's size to answers, named as the columns of `Task.answers` are.

    model: of `scale`, `shift` and `network`, in eval mode. What comes out, float32 unless said otherwise:
    classification `probabilities` [N, K] and `label` int64 [N]; regression `values` float64 [N, T] in the target's unit;
    segmentation `masks` uint8 [N, H, W]; detection `boxes` [N, 100, 4] (left, top, right, bottom in pixels), `scores` [N, 100]
    and `labels` int64 [N, 100], label −1 where there are fewer. temperature: that logits of classes are divided by.
    Raises UsageError for a network or task whose answers no graph can be made of.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, model: nn.Module, task: Task, *, size: Size, temperature: float = 1.0) -> None:
        super().__init__()
        self.network = model.get_submodule("network")
        self.register_buffer("scale", model.get_buffer("scale").clone())
        self.register_buffer("shift", model.get_buffer("shift").clone())
        self._test_time_flip = bool(getattr(model, "test_time_flip", False))
        self._places = getattr(self.network, "places", None) if task.form == "boxes" else None
        self._named = _naming(task, self.network, size=size, temperature=temperature)
        self.eval()

    def forward(self, images_NHWC: torch.Tensor) -> Named:
        images_NCHW = images_NHWC.permute(0, 3, 1, 2)
        normalized_NCHW = images_NCHW.to(self.scale.dtype) * self.scale + self.shift
        if self._test_time_flip:
            return self._named(with_mirror(self.network, normalized_NCHW))
        return self._named((self._places or self.network)(normalized_NCHW))

    def names(self, size: Size) -> tuple[str, ...]:
        """The names of its answers, in order."""
        with torch.no_grad():
            return tuple(self(torch.zeros(1, *size, 3, dtype=torch.uint8)))


def _naming(task: Task, network: nn.Module, *, size: Size, temperature: float) -> Callable[[Any], Named]:
    """What makes answers of the network's outputs. A task of another package may bring its own: a method `served`, from outputs
    to tensors by the names of its columns."""
    if own := getattr(task, "served", None):
        served: Callable[[Any], Named] = own
        return served
    if task.name == "classification":
        return lambda logits_NK: _classes(logits_NK / temperature if temperature != 1 else logits_NK)
    if task.name == "regression":
        return _numbers(task)
    if task.name == "segmentation":
        return lambda logits_NKHW: {"masks": logits_NKHW.argmax(dim=1).to(torch.uint8)}
    if task.name == "detection":
        if not callable(getattr(network, "places", None)):
            raise UsageError(
                "the boxes of this network are chosen image by image, of which no graph can be made.",
                where="network.name",
                cure=f"small-detector can be exported whole. {WEIGHTS_ALONE}",
            )
        return lambda said: dict(zip(("boxes", "scores", "labels"), best_boxes(said[0], said[1], size), strict=True))
    raise UsageError(
        f"nothing says what is to be made of the outputs of a network for {task.name!r}.",
        where="task",
        cure=f"Give the task a method served(outputs): tensors by the names of its answers' columns. {WEIGHTS_ALONE}",
    )


def _classes(logits_NK: torch.Tensor) -> Named:
    probabilities_NK = functional.softmax(logits_NK.float(), dim=1)
    return {"probabilities": probabilities_NK, "label": probabilities_NK.argmax(dim=1)}


def _numbers(task: Task) -> Callable[[torch.Tensor], Named]:
    """In float64, as `Regression.answers` has them: a year in float32 would be off by two hours."""
    info: Mapping[str, Any] = {"mean": task.info.mean, "std": task.info.std}
    mean_T = torch.tensor(info["mean"], dtype=torch.float64)
    std_T = torch.tensor([std or 1.0 for std in info["std"]], dtype=torch.float64)
    return lambda outputs_NT: {"values": outputs_NT.double() * std_T + mean_T}
