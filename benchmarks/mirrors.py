"""What mirrors cost: wall-clock of the same training with and without MLflow and TensorBoard, side by side in one run.

Cases: no mirrors; both mirrors on a store that exists; MLflow's store locked by somebody else from start to end; a store
that cannot be written. Every case trains the same recipe to the same weights. Reported are the time of the training itself
and that of the whole command, the last wait for the mirrors included, each as a ratio to the case without mirrors.

    python benchmarks/mirrors.py [--turns 3] [--epochs 40]
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.digits import write_digits
from trainwright.recipe import Recipe
from trainwright.recipes import published
from trainwright.workflows.run import MIRRORS, train

GOAL = 1.05
CASES = ("none", "healthy", "locked", "unwritable")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--cases", nargs="+", choices=CASES[1:], default=CASES[1:])
    arguments = parser.parse_args()
    recipe = published.get("scratch-default").changed({"epochs": arguments.epochs, "augment.flip": 0.0})
    with tempfile.TemporaryDirectory() as place:
        data = open_dataset(write_digits(Path(place) / "digits"))
        train(data, recipe.changed({"epochs": 1}), runs=Path(place) / "healthy", mirrors=MIRRORS)  # makes the store
        turns = [
            {case: _timed(data, recipe, Path(place), case) for case in ("none", *arguments.cases)}
            for _ in range(arguments.turns)
        ]
    results = []
    for case in arguments.cases:
        training = median(turn[case][0] / turn["none"][0] for turn in turns)
        command = median(turn[case][1] / turn["none"][1] for turn in turns)
        results.append({"case": case, "training_ratio": training, "command_ratio": command, "goal": GOAL})
        print(f"{case:<11} training × {training:.3f}   whole command × {command:.3f}   (goal {GOAL})", file=sys.stderr)
    seconds = median(turn["none"][1] for turn in turns)
    print(json.dumps({"benchmark": "mirrors", "seconds_without": seconds, "results": results}))
    return 0 if all(result["command_ratio"] <= GOAL for result in results) else 4


def _timed(data: Dataset, recipe: Recipe, place: Path, case: str) -> tuple[float, float]:
    """(seconds of the training, seconds of the whole command)."""
    with _store(place / case, case):
        started = time.perf_counter()
        run = train(data, recipe, runs=place / case, mirrors=() if case == "none" else MIRRORS)
        return float(run.result["seconds"]), time.perf_counter() - started


@contextmanager
def _store(runs: Path, case: str) -> Iterator[None]:
    """The state of MLflow's store during a run."""
    runs.mkdir(exist_ok=True)
    if case == "unwritable":
        (runs / "mlflow.db").mkdir(exist_ok=True)
        yield
    elif case == "locked":
        with closing(sqlite3.connect(runs / "mlflow.db", isolation_level=None)) as store:
            store.execute("BEGIN EXCLUSIVE")
            yield
    else:
        yield


if __name__ == "__main__":
    sys.exit(main())
