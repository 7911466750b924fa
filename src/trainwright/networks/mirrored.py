"""Answers to an image and to its mirror image, averaged."""

from __future__ import annotations

import torch
from torch import nn


def with_mirror(network: nn.Module, images_NCHW: torch.Tensor) -> torch.Tensor:
    """The mean of what a network says of images and of their left-right mirror images; maps [N, K, H, W] are mirrored back.

    As Simonyan and Zisserman do at test time, arXiv:1409.1556 §3.2, of outputs instead of posteriors.
    """
    outputs: torch.Tensor = network(images_NCHW)
    mirrored: torch.Tensor = network(images_NCHW.flip(-1))
    return (outputs + (mirrored.flip(-1) if mirrored.ndim == 4 else mirrored)) / 2
