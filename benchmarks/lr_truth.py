"""What is true of a cell of `lr_range.py`: the val score of whole trainings at every lr of a grid, and how far noise reaches.

One JSON file a cell: `sweeps` and `lightning` (loss of each step's batch before the step, of a sweep in their ranges), `truth`.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lr_cells import SOURCES, Cell, network_of, recipe_of
from trainwright.data.dataset import Dataset
from trainwright.data.loader import EvalBatches, TrainBatches
from trainwright.errors import TrainwrightError
from trainwright.files import write_atomically
from trainwright.optim.optimizers import build_optimizer
from trainwright.optim.schedules import build_schedule
from trainwright.records import StepRecord
from trainwright.training.evaluate import evaluate
from trainwright.training.loop import FitSettings, fit
from trainwright.training.randomness import randomness_of
from trainwright.workflows.prepare import Prepared, prepare
from trainwright.workflows.reporting import Silent

CPU = torch.device("cpu")
GRID = tuple(10 ** (-5 + 0.5 * step) for step in range(13))
TRAINED_SEEDS, SWEPT_SEEDS = (0, 1), (0, 1, 2)
SWEEP_STEPS = 100  # the default of all the libraries
SWEEP, LIGHTNING_SWEEP = (
    (1e-7, 10.0),
    (1e-8, 1.0),
)  # the defaults of fastai, and of torch-lr-finder at its end; of Lightning
NOISE = 2.0  # noise floors that a score may lie below the best
WINDOW_POINTS = 100  # a decade, where the limits of the window are looked for


@dataclass(frozen=True)
class Truth:
    """lrs_G: the grid, ascending. scores_GS: val score by lr and seed; diverged: the worst of all. noise: the noise floor.

    The noise floor is `sqrt(d / 2n)`, d the mean squared difference of an image's score between two seeds, n the images (for
    right and wrong, d is the share of images on which they differ; Jordan, arXiv:2304.01910), or the deviation between
    seeds, sqrt(mean((s0 − s1)²) / 2), where that is larger; both pooled over the best lr and its neighbours. For regression
    the latter alone: its scores of images are no part of R².
    """

    lrs_G: np.ndarray = field(repr=False)
    scores_GS: np.ndarray = field(repr=False)
    noise: float

    @classmethod
    def of(cls, trainings: Sequence[dict[str, Any]], *, over_images: bool) -> Truth:
        """trainings: as `trained` gives them. over_images: the score is about the mean of `per_image`."""
        lrs, seeds = sorted({one["lr"] for one in trainings}), sorted({one["seed"] for one in trainings})
        scores_GS = np.full((len(lrs), len(seeds)), np.nan)
        images: dict[tuple[int, int], np.ndarray] = {}
        for one in trainings:
            place = lrs.index(one["lr"]), seeds.index(one["seed"])
            if not one["diverged"] and one["score"] is not None and math.isfinite(one["score"]):
                scores_GS[place] = one["score"]
                images[place] = np.array(one["per_image"])
        filled_GS = np.where(np.isnan(scores_GS), np.nanmin(scores_GS), scores_GS)
        best = int(filled_GS.mean(axis=1).argmax())
        around = [
            row for row in (best - 1, best, best + 1) if 0 <= row < len(lrs) and np.isfinite(scores_GS[row]).all()
        ]
        noise = math.sqrt(np.mean([(scores_GS[row, 0] - scores_GS[row, 1]) ** 2 for row in around] or [0.0]) / 2)
        if over_images and around:
            differ = np.mean([np.mean((images[row, 0] - images[row, 1]) ** 2) for row in around])
            noise = max(noise, math.sqrt(differ / (2 * len(images[around[0], 0]))))
        return cls(np.array(lrs), filled_GS, noise)

    @property
    def best(self) -> float:
        return float(self.scores_GS.mean(axis=1).max())

    @property
    def worst(self) -> float:
        return float(self.scores_GS.min())

    @property
    def best_lr(self) -> float:
        return float(self.lrs_G[self.scores_GS.mean(axis=1).argmax()])

    def score(self, lr: float) -> float:
        """At any lr: along straight lines on log lr; beyond the grid as at its end."""
        return float(np.interp(math.log10(lr), np.log10(self.lrs_G), self.scores_GS.mean(axis=1)))

    def within_noise(self, score: float) -> bool:
        return score >= self.best - NOISE * self.noise

    def good(self, lr: float | None) -> bool:
        """Whether it is within noise of the best lr; no lr is not."""
        return lr is not None and self.within_noise(self.score(lr))

    def window(self) -> tuple[float, float]:
        """The limits of the good lr around the best one."""
        points = round(WINDOW_POINTS * math.log10(self.lrs_G[-1] / self.lrs_G[0])) + 1
        fine = np.geomspace(self.lrs_G[0], self.lrs_G[-1], points)
        good = np.array([self.good(float(lr)) for lr in fine])
        low = high = int(np.abs(np.log(fine / self.best_lr)).argmin())
        while low > 0 and good[low - 1]:
            low -= 1
        while high < len(fine) - 1 and good[high + 1]:
            high += 1
        return float(fine[low]), float(fine[high])


def truth_of(cell: Cell, measured: dict[str, Any]) -> Truth:
    return Truth.of(measured["truth"], over_images=SOURCES[cell.data].task != "regression")


def measured_before(cell: Cell, results: Path) -> dict[str, Any] | None:
    """What the results folder has of the cell; None without. Raises SystemExit where it is of another training."""
    file = results / f"{cell.name}.json"
    if not file.is_file():
        return None
    measured: dict[str, Any] = json.loads(file.read_text())
    if measured["steps"] != cell.steps:
        raise SystemExit(f"lr_range.py: {file} has {measured['steps']} steps, {cell.name} {cell.steps}. Move it away.")
    return measured


def measure(cell: Cell, data: Dataset, results: Path, *, grid: Sequence[float] = GRID) -> dict[str, Any]:
    """All sweeps and trainings of the cell, kept in the results folder; minutes."""
    measured = {
        "cell": cell.name,
        "steps": cell.steps,
        "sweeps": [swept(cell, data, seed=seed, low=SWEEP[0], high=SWEEP[1]) for seed in SWEPT_SEEDS],
        "lightning": [
            swept(cell, data, seed=seed, low=LIGHTNING_SWEEP[0], high=LIGHTNING_SWEEP[1]) for seed in SWEPT_SEEDS
        ],
        "truth": [trained(cell, data, lr=lr, seed=seed) for lr in grid for seed in TRAINED_SEEDS],
    }
    results.mkdir(parents=True, exist_ok=True)
    write_atomically(results / f"{cell.name}.json", json.dumps(measured).encode())
    return measured


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A cell's training, ready to start."""

    cell: Cell
    prepared: Prepared
    optimizer: torch.optim.Optimizer

    @classmethod
    def of(cls, cell: Cell, data: Dataset, *, lr: float, seed: int) -> Subject:
        custom = network_of(cell, outputs=SOURCES[cell.data].outputs, seed=seed)
        recipe = recipe_of(cell, lr=lr, seed=seed)
        prepared = prepare(data, recipe, device=CPU, workers=0, reporter=Silent(), custom=custom)
        optimizer = build_optimizer(prepared.model.learning_rates(1.0), prepared.recipe.optimizer, CPU)
        return cls(cell=cell, prepared=prepared, optimizer=optimizer)

    def batches(self, seed: int) -> TrainBatches:
        recipe, prepared = self.prepared.recipe, self.prepared
        return TrainBatches(
            prepared.pixels,
            prepared.targets,
            prepared.split.train,
            batch_size=recipe.step_images,
            image_size=recipe.data.size,
            augment=recipe.augment,
            seed=seed,
            workers=0,
        )

    def steps(self) -> Iterator[StepRecord]:
        """The whole training, step by step."""
        recipe, steps = self.prepared.recipe, self.cell.steps
        return fit(
            self.prepared.model,
            self.prepared.task,
            self.batches(recipe.seed).iterate(0, steps),
            self.optimizer,
            build_schedule(recipe.schedule),
            steps=steps,
            device=CPU,
            settings=FitSettings(seed=recipe.seed),
        )

    def scored(self) -> tuple[float, list[float]]:
        """Val score, and that of each image."""
        prepared = self.prepared
        size, rows = prepared.recipe.data.size, prepared.split.val
        batches = EvalBatches(prepared.pixels, prepared.targets, rows, batch_size=256, image_size=size, workers=0)
        prepared.model.eval()
        answers = evaluate(
            prepared.model,
            prepared.task,
            batches,
            device=CPU,
            dtype=None,
            mode="eval",
            seed=0,
            after_batch=lambda done: None,
        )
        scores = prepared.task.scores(answers)
        return scores.score, scores.per_image.tolist()


def trained(cell: Cell, data: Dataset, *, lr: float, seed: int) -> dict[str, Any]:
    """A whole training at `lr`, as the results folder keeps it. score: None where the network can no longer be scored."""
    subject, diverged = Subject.of(cell, data, lr=lr, seed=seed), False
    started = time.perf_counter()
    try:
        for _ in subject.steps():
            pass
    except TrainwrightError:
        diverged = True
    seconds = time.perf_counter() - started
    try:
        score, per_image = subject.scored()
    except TrainwrightError:
        score, per_image, diverged = None, None, True
    return {
        "lr": lr,
        "seed": seed,
        "diverged": diverged,
        "score": score,
        "per_image": per_image,
        "seconds": seconds,
        "n_val": len(subject.prepared.split.val),
    }


def swept(cell: Cell, data: Dataset, *, seed: int, low: float, high: float) -> dict[str, Any]:
    """Raw losses of one sweep as other libraries make it: each of a fresh batch, before its step, up to the first that is not
    finite."""
    subject = Subject.of(cell, data, lr=low, seed=seed)
    model, task, before = subject.prepared.model, subject.prepared.task, []
    batches = subject.batches(seed).iterate(0, SWEEP_STEPS)
    for index, (lr, batch) in enumerate(zip(np.geomspace(low, high, SWEEP_STEPS), batches, strict=True)):
        model.train()
        with randomness_of(seed, "sweep", index, device=CPU):
            loss = task.loss(model(batch.images_NCHW), batch.target)[0].mean()
        before.append(float(loss.detach()))
        if not math.isfinite(before[-1]):
            break
        for group in subject.optimizer.param_groups:
            group["lr"] = float(lr)
        subject.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        subject.optimizer.step()
    return {"seed": seed, "lo": low, "hi": high, "n": SWEEP_STEPS, "before": before}


def points_of(sweep: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """(lrs, losses) [L] of a kept sweep; after its divergence nan, which a library that goes on would see."""
    losses_L = np.full(sweep["n"], np.nan)
    losses_L[: len(sweep["before"])] = sweep["before"]
    return np.geomspace(sweep["lo"], sweep["hi"], sweep["n"]), losses_L
