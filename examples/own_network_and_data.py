"""A network of one's own on a torch dataset of one's own: python examples/own_network_and_data.py"""

from __future__ import annotations

import sys
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn

import trainwright as tw


class Digits(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Handwritten digits, grey, 8×8, floats in 0–1."""

    classes = tuple("0123456789")

    def __init__(self, start: int, stop: int) -> None:
        digits = load_digits()
        self.images, self.labels = digits.images[start:stop] / 16, digits.target[start:stop]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.images[index])[None], int(self.labels[index])


def main(epochs: int, **options: Any) -> None:
    """options: how the run is carried out, fields of `tw.RunOptions`."""
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
    )
    network(torch.zeros(1, 3, 8, 8))  # a lazy layer learns its size from the first image
    data = tw.Dataset.from_torch(Digits(0, 1200), val=Digits(1200, 1797))
    run = tw.train(data, model=network, changes={"epochs": epochs, "augment.flip": 0.0}, **options)
    print(f"{run.id}: accuracy train {run.score['train']:.3f}, val {run.score['val']:.3f}")
    print(f"gap {run.gap.value:.3f} [{run.gap.low:.3f}, {run.gap.high:.3f}]: {run.verdict}")


if __name__ == "__main__":
    main(epochs=int(sys.argv[1]) if sys.argv[1:] else 10)
