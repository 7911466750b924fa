"""The runs that `aa.py` draws its rounds from: short trainings of one recipe that differ in nothing but the seed.

Data: digits from scikit-learn at 16 pixels, flowers12 and cats-dogs from folders of these names at 32 and 16. Network: the
package's small-resnet, width 8. What is kept of a pool is one file: which validation images each run got right.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lr_cells import dataset_of
from trainwright.data.dataset import Dataset
from trainwright.files import write_atomically
from trainwright.recipe import Recipe
from trainwright.recipes import published
from trainwright.workflows.run import train


@dataclass(frozen=True)
class Pool:
    """`runs` trainings of `epochs` epochs; all else as in the published recipe `scratch-default`."""

    data: str
    size: int  # pixels a side
    epochs: int
    flip: float
    runs: int = 40


POOLS = (
    Pool("digits", 16, 10, 0.0),
    Pool("flowers12", 32, 8, 0.5),
    Pool("cats-dogs", 16, 5, 0.5),
)
DRY = Pool("digits", 16, 1, 0.0, runs=9)  # shows that everything runs, and nothing else


def recipe_of(pool: Pool) -> Recipe:
    return published.get("scratch-default").changed(
        {
            "epochs": pool.epochs,
            "network.name": "small-resnet",
            "network.width": 8,
            "data.image_size": [pool.size, pool.size],
            "augment.flip": pool.flip,
        }
    )


def answers_of(pool: Pool, folder: Path, root: Path | None) -> np.ndarray | None:
    """[runs, N] booleans: which validation images each run got right, from the file where it is there, else measured.

    folder: where pools are kept. root: where the datasets' folders are; None: nothing is to be measured, and the answer is None
    where there are fewer runs than the pool has. A pool that was interrupted goes on with the next seed.
    """
    file = folder / f"{pool.data}-{pool.size}-{pool.epochs}.npy"
    kept = list(np.load(file)) if file.is_file() else []
    if len(kept) >= pool.runs or root is None:
        return np.stack(kept[: pool.runs]) if len(kept) >= pool.runs else None
    data = dataset_of(pool.data, root)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(len(kept), pool.runs):
        kept.append(_right(data, recipe_of(pool), seed))
        _write(file, np.stack(kept))
        print(f"{pool.data}: seed {seed}, accuracy {kept[-1].mean():.3f}", file=sys.stderr, flush=True)
    return np.stack(kept)


def _right(data: Dataset, recipe: Recipe, seed: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as place:
        run = train(data, recipe, seed=seed, runs=Path(place), device="cpu", mirrors=(), workers=1, threads=1)
        with np.load(run.folder / "answers" / "val.npz", allow_pickle=False) as saved:
            right_N: np.ndarray = saved["tally"][np.argsort(saved["rows"]), 0] == 1
    return right_N


def _write(file: Path, right_RN: np.ndarray) -> None:
    with tempfile.TemporaryFile() as stage:
        np.save(stage, right_RN)
        stage.seek(0)
        write_atomically(file, stage.read())
