"""Images per second from the warm pixel cache over torchvision's ImageFolder + DataLoader, on the same transform.

    python benchmarks/input.py --data cats-dogs/train --size 32
    python benchmarks/input.py --data flowers12/train --size 224 --crop resized
    python benchmarks/input.py                                        # JPEG files made on the spot

Both sides end at normalized float32 batches on the CPU. Each first tries its numbers of workers and keeps the best one;
then they take turns, so that whatever else the machine does hits both. Starting the workers is not counted. The last line
is JSON; `ratio` is the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "passive"
)  # read when torch is imported: spinning threads would slow both sides

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms  # type: ignore[import-untyped]
from torchvision.datasets import ImageFolder  # type: ignore[import-untyped]

from trainwright.data.augment import stored_size
from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.decode import decode
from trainwright.data.loader import TrainBatches
from trainwright.data.targets import PlainSource
from trainwright.recipe import AugmentSpec
from trainwright.training.model import IMAGENET_MEAN, IMAGENET_STD, ImageNetwork

PADDING = 1 / 8  # 4 pixels at 32
SCALE = (0.35, 1.0)
OUR_WORKERS, THEIR_WORKERS = (0, 1, 2), (0, 1, 2, 4)
Batches = Callable[[int], Iterator[torch.Tensor]]  # number of workers → endless normalized batches


def main() -> None:
    options = parse()
    logging.basicConfig(level=logging.WARNING)
    warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores are tried too
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data or synthetic_folder(Path(scratch) / "images", options.size)
        ours, stated = our_batches(folder, Path(scratch) / "cache", options)
        theirs = their_batches(folder, options)
        our_workers = best_workers(ours, OUR_WORKERS, options.seconds / 2)
        their_workers = best_workers(theirs, THEIR_WORKERS, options.seconds / 2)
        turns = [
            (
                images_per_second(ours, our_workers, options.seconds),
                images_per_second(theirs, their_workers, options.seconds),
            )
            for _ in range(options.turns)
        ]
    report(options, turns, our_workers, their_workers, stated)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of class folders (default: made on the spot)")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn of each side")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--crop", choices=("padding", "resized"), default="padding")
    return parser.parse_args()


def synthetic_folder(folder: Path, size: int, images: int = 600) -> Path:
    """Two class folders of smooth random JPEG files, which compress about as photographs do."""
    rng = np.random.default_rng(0)
    for index in range(images):
        path = folder / "ab"[index % 2] / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (max(4, size // 6), max(4, size // 6), 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(path, quality=90)
    return folder


def our_batches(folder: Path, cache_dir: Path, options: argparse.Namespace) -> tuple[Batches, str]:
    """Our side, its cache built and warm, and a sentence about that."""
    resized = options.crop == "resized"
    spec = AugmentSpec(flip=0.5, crop_scale=SCALE) if resized else AugmentSpec(flip=0.5, crop_padding=PADDING)
    files = [Path(path) for path, _ in ImageFolder(folder).samples]
    size = (options.size, options.size)
    stored = stored_size(size, spec)
    began = time.perf_counter()
    rows = np.arange(len(files))
    pixels = open_pixels(
        lambda row: decode(files[row], size=stored, fit="crop"),
        rows=rows,
        size=stored,
        key=pixels_key(map(str, files), fit="crop"),
        cache_dir=cache_dir,
    )
    stated = f"{pixels.stated} Built in {time.perf_counter() - began:.1f} s."
    targets = PlainSource(np.zeros(len(files), np.int64))
    normalize = ImageNetwork(nn.Identity(), mean=IMAGENET_MEAN, std=IMAGENET_STD).eval()

    def batches(workers: int) -> Iterator[torch.Tensor]:
        made = TrainBatches(
            pixels,
            targets,
            rows,
            batch_size=options.batch_size,
            image_size=size,
            augment=spec,
            seed=0,
            workers=workers,
        )
        for batch in made.iterate():
            yield normalize(batch.images_NCHW)

    return batches, stated


def their_batches(folder: Path, options: argparse.Namespace) -> Batches:
    """torchvision's side, written as its documentation does."""
    size = options.size
    crop: list[object] = [transforms.RandomResizedCrop(size, scale=SCALE)]
    if options.crop == "padding":
        crop = [transforms.RandomCrop(size, padding=round(size * PADDING), padding_mode="reflect")]
        if ImageFolder(folder)[0][0].size != (size, size):
            crop = [transforms.Resize(size), transforms.CenterCrop(size), *crop]
    end = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    dataset = ImageFolder(folder, transforms.Compose([*crop, transforms.RandomHorizontalFlip(), *end]))

    def batches(workers: int) -> Iterator[torch.Tensor]:
        loader = DataLoader(
            dataset,
            batch_size=min(options.batch_size, len(dataset)),
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        while True:
            for images_NCHW, _ in loader:
                yield images_NCHW

    return batches


def best_workers(batches: Batches, numbers: tuple[int, ...], seconds: float) -> int:
    """The number of workers with the most images per second, each tried for `seconds`."""
    return max(numbers, key=lambda workers: images_per_second(batches, workers, seconds))


@torch.no_grad()
def images_per_second(batches: Batches, workers: int, seconds: float) -> float:
    """Measured once the workers run and what they made while starting is used up."""
    iterator = batches(workers)
    for _ in islice(iterator, 1 + 2 * workers):
        pass
    began, images = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        images += len(next(iterator))
    iterator.close()  # type: ignore[attr-defined]  # ends the workers
    return images / elapsed


def report(
    options: argparse.Namespace, turns: list[tuple[float, float]], our_workers: int, their_workers: int, stated: str
) -> None:
    ours, theirs = (statistics.median(side) for side in zip(*turns, strict=True))
    ratios = [our / their for our, their in turns]
    print(stated, file=sys.stderr)
    print(f"{options.size} px, crop {options.crop}, batches of {options.batch_size}", file=sys.stderr)
    print(f"  {'':24}{'images/s':>10}  workers", file=sys.stderr)
    print(f"  {'trainwright, cached':24}{ours:>10,.0f}  {our_workers}", file=sys.stderr)
    print(f"  {'torchvision ImageFolder':24}{theirs:>10,.0f}  {their_workers}", file=sys.stderr)
    print(f"  ratio {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})", file=sys.stderr)
    result = {
        "schema": "trainwright.benchmark.input/1",
        "size": options.size,
        "crop": options.crop,
        "images_per_second": round(ours),
        "reference_images_per_second": round(theirs),
        "workers": our_workers,
        "reference_workers": their_workers,
        "ratio": round(statistics.median(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
