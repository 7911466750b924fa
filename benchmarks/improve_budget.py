"""What a run of `improve.py` is given, and how a search among its methods spends it: trials, then the best on all images."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

from trainwright.diagnosis.remedies.capacity import work
from trainwright.recipe import Recipe
from trainwright.workflows.options import RunOptions

# Of the budget, kept to train the best recipe on train and val together: as much as `search/coach.py` keeps for its own end.
FINAL_SHARE = 0.35
TRIALS = 5  # that fit into the rest, at least
ROOM = 0.95  # of the time that is left which a plan may fill: estimates are estimates
SIZE = (32, 32)  # pixels of the images, at which the work of two networks is compared


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a method. data: the folder of the images. work: where it may write. seconds: its wall time."""

    data: Path
    work: Path
    seed: int
    seconds: float
    threads: int

    @property
    def options(self) -> RunOptions:
        """Of every training of ours. No mirrors: they would take time from the trainings of some methods and not of others."""
        workers = min(2, self.threads)
        return RunOptions(runs=self.work / "runs", device="cpu", mirrors=(), workers=workers, threads=self.threads)


@dataclass
class Wall:
    """The wall time of a run, from when this is made."""

    budget: float
    started: float = field(default_factory=time.perf_counter)

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.started

    @property
    def left(self) -> float:
        return self.budget - self.spent

    @property
    def for_trials(self) -> float:
        """Seconds that are left for trials; below 0 where they have taken from the last training."""
        return self.left - FINAL_SHARE * self.budget


def trial_epochs(epochs: int, *, epoch_seconds: float, run_seconds: float, seconds: float) -> int:
    """Epochs of a trial: the recipe's own, or as many as fit into `seconds`, and one at least.

    epoch_seconds: of its network on this machine. run_seconds: what a run costs beside its epochs.
    """
    return max(1, min(epochs, math.floor((seconds - run_seconds) / epoch_seconds)))


def final_epochs(*, epoch_seconds: float, run_seconds: float, seconds: float) -> int:
    """Epochs of the last training, which has all the time that is left; 0 where there is none."""
    return max(0, math.floor((ROOM * seconds - run_seconds) / epoch_seconds))


Shape = tuple[str, int, int]  # of a network: its name, width and blocks


@dataclass
class Paces:
    """Seconds of an epoch by network: measured of those that have been trained, of others in proportion to their work."""

    known: dict[Shape, float] = field(default_factory=dict)

    def learn(self, recipe: Recipe, epoch_seconds: float) -> None:
        self.known[_shape(recipe)] = epoch_seconds

    def of(self, recipe: Recipe) -> float:
        """From the network that is nearest in work. Raises ValueError before anything is known."""
        wanted = _work(recipe, _shape(recipe))
        nearest = min(self.known, key=lambda known: abs(math.log(_work(recipe, known) / wanted)))
        return self.known[nearest] * wanted / _work(recipe, nearest)


def _shape(recipe: Recipe) -> Shape:
    return recipe.network.name, recipe.network.width, recipe.network.blocks


def _work(recipe: Recipe, shape: Shape) -> float:
    changes = dict(zip(("network.name", "network.width", "network.blocks"), shape, strict=True))
    found = work(recipe.changed(changes).network, SIZE)
    assert found is not None  # of the package's own networks it is known
    return found
