"""Small things to train: batches of noise with a little signal, networks of a few hundred parameters, a task of three classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import build_optimizer
from trainwright.recipe import LossSpec, OptimizerSpec
from trainwright.records import TargetInfo
from trainwright.tasks.classification import Classification
from trainwright.training.model import ImageNetwork

CLASSES = ("ant", "bee", "cat")
CPU = torch.device("cpu")


@pytest.fixture
def task() -> Classification:
    """Three classes, plain cross-entropy."""
    return Classification(TargetInfo(names=CLASSES), build_loss(LossSpec(), Classification.losses))


@pytest.fixture
def make_batches() -> Callable[..., list[Batch]]:
    """(count, size=…, side=…, seed=…) → batches of uint8 images, class k brighter in colour k."""

    def make(count: int, *, size: int = 8, side: int = 8, seed: int = 0) -> list[Batch]:
        draws = np.random.Generator(np.random.Philox(seed))
        batches = []
        for index in range(count):
            target_N = draws.integers(0, len(CLASSES), size)
            images_NCHW = draws.integers(0, 200, (size, 3, side, side))
            images_NCHW[np.arange(size), target_N] += 55
            batches.append(
                Batch(
                    images_NCHW=torch.from_numpy(images_NCHW.astype(np.uint8)),
                    target=torch.from_numpy(target_N),
                    rows_N=np.arange(index * size, (index + 1) * size),
                )
            )
        return batches

    return make


@pytest.fixture
def make_model() -> Callable[..., ImageNetwork]:
    """(norm=…, dropout=…, seed=…) → a fresh network behind its normalization: two convolutions, norm, dropout, head."""

    def make(*, norm: str = "batch", dropout: float = 0.0, seed: int = 0, channels: int = 8) -> ImageNetwork:
        norms = {"batch": nn.BatchNorm2d, "group": lambda c: nn.GroupNorm(2, c), "none": lambda c: nn.Identity()}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            network = nn.Sequential(
                nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), norms[norm](channels), nn.ReLU()),
                nn.Sequential(nn.Conv2d(channels, channels, 3, stride=2), norms[norm](channels), nn.ReLU()),
                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout)),
                nn.Linear(channels, len(CLASSES)),
            )
        return ImageNetwork(network, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    return make


@pytest.fixture
def make_optimizer() -> Callable[..., torch.optim.Optimizer]:
    """(model, name=…, lr=…, …) → the registered optimizer over the model's parameters."""

    def make(model: ImageNetwork, name: str = "sgd", *, lr: float = 0.05, **more: object) -> torch.optim.Optimizer:
        return build_optimizer(model.learning_rates(1.0), OptimizerSpec(name=name, lr=lr, **more), CPU)

    return make


@pytest.fixture
def tensors_of() -> Callable[[nn.Module], dict[str, torch.Tensor]]:
    """(model) → a copy of its weights and buffers."""
    return lambda model: {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def assert_same() -> Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], None]:
    """Fails unless both have the same names and, bit for bit, the same tensors."""

    def check(given: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
        assert given.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(given[name], expected[name])] == []

    return check
