"""A network of one's own on a torch dataset of one's own: python examples/own_network_and_data.py"""

import torch
from sklearn.datasets import load_digits
from torch import nn

import trainwright as tw


class Digits(torch.utils.data.Dataset):
    """Handwritten digits, grey, 8×8, floats in 0–1."""

    classes = tuple("0123456789")

    def __init__(self, start, stop):
        digits = load_digits()
        self.images, self.labels = digits.images[start:stop] / 16, digits.target[start:stop]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return torch.from_numpy(self.images[index])[None], int(self.labels[index])


def main(epochs=10, **options):
    """options: how the run is carried out, fields of `tw.RunOptions`."""
    body = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten())
    data = tw.Dataset.from_torch(Digits(0, 1200), val=Digits(1200, 1797))
    recipe = {"epochs": epochs, "augment.flip": 0.0}
    run = tw.train(data, model=nn.Sequential(body, nn.Linear(32 * 4 * 4, 10)), changes=recipe, **options)
    print(f"{run.id}: accuracy train {run.score['train']:.3f}, val {run.score['val']:.3f}")
    print(f"gap {run.gap.value:.3f} ({run.gap.low:.3f} to {run.gap.high:.3f}): {run.verdict}")


if __name__ == "__main__":
    main()
