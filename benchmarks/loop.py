"""Steps per second of `train` over those of a hand-written PyTorch loop on in-memory tensors, side by side in one run.

The same network, batch size, precision, memory format and optimizer on both sides. Ours reads its batches from the pixel
cache through the loader, normalizes inside the model, guards the loss, records every step and steps its schedule; theirs
slices a float tensor that is normalized and shuffled already. They take turns, and the ratio is the median over turns.

    python benchmarks/loop.py [--data FOLDER] [--turns 15] [--seconds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import numpy as np
import torch

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.recipe import Recipe
from trainwright.recipes import published
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.device import choose_device
from trainwright.training.repeatable import repeatable
from trainwright.workflows.prepare import Prepared, prepare
from trainwright.workflows.reporting import Silent
from trainwright.workflows.training import Training

CASES = {
    "small-resnet, 32 px, batch 50": ({"network.name": "small-resnet", "batch_size": 50, "data.image_size": 32}, 0.90),
    "resnet18, 128 px, batch 16": ({"network.name": "resnet18", "batch_size": 16, "data.image_size": 128}, 0.95),
}
WARM_UP_STEPS = 3


def main() -> int:
    arguments = _arguments()
    data = open_dataset(arguments.data) if arguments.data else _synthetic()
    results = []
    for name, (changes, goal) in CASES.items():
        ratios, ours, theirs = _compare(data, published.get("story").changed(changes), arguments)
        results.append(
            {"case": name, "ours": median(ours), "plain": median(theirs), "ratio": median(ratios), "goal": goal}
        )
        line = f"{name:<32} ours {median(ours):7.2f} steps/s   plain {median(theirs):7.2f} steps/s"
        spread = f"{min(ratios):.3f}–{max(ratios):.3f}"
        print(f"{line}   ratio {median(ratios):.3f} ({spread}, goal {goal})", file=sys.stderr)
    print(json.dumps({"benchmark": "loop", "threads": torch.get_num_threads(), "results": results}))
    return 0 if all(result["ratio"] >= result["goal"] for result in results) else 4


def _compare(
    data: Dataset, recipe: Recipe, arguments: argparse.Namespace
) -> tuple[list[float], list[float], list[float]]:
    """(ratio, our steps/s, their steps/s) of every turn."""
    device = choose_device("auto")
    recipe = recipe.changed({"epochs": 1000})
    with tempfile.TemporaryDirectory() as folder, repeatable(device, None):
        prepared = prepare(data, recipe, device=device, workers=arguments.workers, reporter=Silent())
        with RunFolder.create(Path(folder), recipe_yaml=prepared.recipe.to_yaml(), manifest={"name": "loop"}) as run:
            training = Training(run, prepared, workers=arguments.workers, reporter=Silent())
            ours = _our_steps(training)
            theirs = _plain_steps(prepare(data, recipe, device=device, workers=arguments.workers, reporter=Silent()))
            rates: list[tuple[float, float]] = []
            for turn in range(arguments.turns + 1):
                pair = (ours, theirs) if turn % 2 else (theirs, ours)  # neither always runs first
                timed = {id(steps): _rate(steps, arguments.seconds) for steps in pair}
                rates.append((timed[id(ours)], timed[id(theirs)]))
    kept = rates[1:]  # the first turn warms up
    return [a / b for a, b in kept], [a for a, _ in kept], [b for _, b in kept]


def _our_steps(training: Training) -> Iterator[bool]:
    """Our training, a step at a time, its evaluations left out: the plain loop has none."""
    training._end_epoch = lambda last, clock: None  # type: ignore[method-assign]
    return training.steps_left()


def _plain_steps(prepared: Prepared) -> Iterator[None]:
    """What anyone would write: tensors in memory, no loader, no guard, no record."""
    recipe, network, device = prepared.recipe, prepared.model.network, prepared.device
    rows = prepared.split.train
    pixels = torch.from_numpy(prepared.pixels.take(rows)).permute(0, 3, 1, 2).float()
    images = ((pixels - pixels.mean((0, 2, 3), keepdim=True)) / pixels.std((0, 2, 3), keepdim=True)).to(device)
    images = images.contiguous(memory_format=torch.channels_last if recipe.channels_last else torch.contiguous_format)
    labels = torch.from_numpy(prepared.dataset.targets.array(rows)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.optimizer.lr, fused=True)
    batches, dtype = len(rows) // recipe.batch_size, prepared.precision.autocast
    network.train()
    for step in count():
        start = step % batches * recipe.batch_size
        part = slice(start, start + recipe.batch_size)
        with torch.autocast(device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            loss = torch.nn.functional.cross_entropy(network(images[part]).float(), labels[part])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def _rate(steps: Iterator[Any], seconds: float) -> float:
    for _ in range(WARM_UP_STEPS):
        next(steps)
    _wait_for_device()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        next(steps)
        done += 1
    _wait_for_device()
    return done / (time.perf_counter() - started)


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _synthetic() -> Dataset:
    """Noise in two classes: what is in an image does not change how long a step takes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1200, 128, 128, 3), dtype=np.uint8)
    return Dataset.from_arrays(images, [f"class {k % 2}" for k in range(len(images))])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a dataset; default: noise made on the spot")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each side in each turn")
    parser.add_argument("--workers", type=int, default=2, help="our loader's threads")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
