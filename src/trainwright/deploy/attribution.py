"""Why a model says what it says of an image: which pixels speak for it. The only module that imports captum."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from trainwright.errors import MissingPackageError

STEPS = 32  # of the path from the plain image: with so many most sums come within a few percent of what they have to be
AT_ONCE = 64  # images of the path that the network sees at a time
SMOOTHED = 16  # of the longer side: what one pixel says is noise, what a patch of them says is not
OVERLAY = 0.6  # of the colour, at most
BRIGHTEST = 0.99  # the quantile of what the patches say that is shown in full colour


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What speaks for an output and against it.

    heat_HW: of each pixel, smoothed; their sum is nearly output less plain. output: what the model says. plain: what it says of
    an image of one colour, the mean of this one. unexplained: share of the difference between the two that the sum misses.
    """

    heat_HW: np.ndarray = field(repr=False)
    output: float
    plain: float
    unexplained: float


def check_installed() -> None:
    """Raises MissingPackageError without captum."""
    if importlib.util.find_spec("captum") is None:
        raise MissingPackageError(
            "the package 'captum' is not installed.", cure="Install it: pip install 'trainwright[explain]'."
        )


def attribute(model: nn.Module, image_HWC: np.ndarray, output: Callable[[torch.Tensor], torch.Tensor]) -> Attribution:
    """Integrated gradients of an output of the model from a plain image to this one.

    model: takes float images 0–255 [N, 3, H, W], in eval mode. image_HWC: uint8. output: what the model returns of N images to
    the figure [N] that is explained. Source: Sundararajan et al., arXiv:1703.01365 §3; their sum is the difference of the two
    outputs (completeness), and how far it misses that is told.
    """
    check_installed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # inside captum's own imports
        from captum.attr import IntegratedGradients

    image_1CHW = torch.from_numpy(np.ascontiguousarray(image_HWC)).permute(2, 0, 1)[None].float()
    plain_1CHW = image_1CHW.mean(dim=(2, 3), keepdim=True).expand_as(image_1CHW).contiguous()
    model.eval()
    method = IntegratedGradients(lambda images_NCHW: output(model(images_NCHW)), multiply_by_inputs=True)
    said_1CHW = method.attribute(
        image_1CHW, baselines=plain_1CHW, n_steps=STEPS, method="gausslegendre", internal_batch_size=AT_ONCE
    )
    with torch.no_grad():
        ends = output(model(torch.cat([image_1CHW, plain_1CHW]))).double()
    difference = float(ends[0] - ends[1])
    total = float(said_1CHW.double().sum())
    return Attribution(
        heat_HW=_smoothed(said_1CHW.sum(dim=1, keepdim=True))[0, 0].detach().numpy(),
        output=float(ends[0]),
        plain=float(ends[1]),
        unexplained=abs(total - difference) / max(abs(difference), 1e-12),
    )


def overlaid(image_HWC: np.ndarray, heat_HW: np.ndarray) -> np.ndarray:
    """The image in grey with what speaks for the output in red and what speaks against it in blue, uint8 [H, W, 3]."""
    grey_HW1 = (image_HWC.astype(np.float64) @ np.array([0.299, 0.587, 0.114]))[..., None]
    most = max(float(np.quantile(np.abs(heat_HW), BRIGHTEST)), 1e-12)
    strength_HW1 = np.clip(np.abs(heat_HW) / most, 0, 1)[..., None] * OVERLAY
    colour_HWC = np.where(heat_HW[..., None] > 0, np.array([215.0, 48.0, 39.0]), np.array([33.0, 102.0, 172.0]))
    mixed: np.ndarray = (grey_HW1 * (1 - strength_HW1) + colour_HWC * strength_HW1).round().astype(np.uint8)
    return mixed


def _smoothed(said_N1HW: torch.Tensor) -> torch.Tensor:
    """Averaged over a square window; the sum stays what it was, but for the border."""
    side = max(1, max(said_N1HW.shape[2:]) // SMOOTHED) // 2 * 2 + 1
    return functional.avg_pool2d(said_N1HW, side, stride=1, padding=side // 2, count_include_pad=False)
