"""Record the tables that `search_replay.py` replays: 256 recipes × 27 epochs on digits, cats-dogs and flowers12.

Recipes, space and images: `replay_space.py`. A table is a file of JSON lines: a head, then a training each, with the unseen
score and loss and the training loss of every epoch, and the seconds of a processor that the epoch and its evaluation took.
Digits come with scikit-learn; the others are folders of these names.

    python benchmarks/replay_record.py [--data FOLDER] [--tables FOLDER] [--only NAME …] [--recipes N]

Can be killed at any time and started again: what is recorded is not trained again. The sets take turns, recipe by recipe.
One thread, about 70 minutes of a core; one process a table (--only) may run beside the others.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # steps this small are slower with two

import torch

from replay_space import DATA, EPOCHS, RECIPES, dataset_of, jobs, recipe_of, recipes
from replay_table import TABLES, Table, Training
from trainwright.data.dataset import Dataset
from trainwright.data.loader import EvalBatches
from trainwright.errors import NonFiniteLossError
from trainwright.optim.schedules import build_schedule, momentum_of
from trainwright.recipe import Recipe
from trainwright.records import Scores
from trainwright.training.ema import WeightAverage
from trainwright.training.evaluate import evaluate
from trainwright.training.loop import fit
from trainwright.training.repeatable import repeatable
from trainwright.workflows.ingredients import batches_of, optimizer_of, settings_of
from trainwright.workflows.prepare import Prepared, prepare
from trainwright.workflows.reporting import Silent

CPU = torch.device("cpu")
AT_ONCE = 500  # images of an evaluation batch


def main() -> int:
    arguments = _arguments()
    wanted = list(jobs(arguments.recipes))
    open_names = [name for name in arguments.only if not _is_recorded(arguments.tables / f"{name}.jsonl", wanted)]
    data = {name: dataset_of(name, arguments.data) for name in open_names}
    tables = {name: Table.open(arguments.tables / f"{name}.jsonl", head=head_of(name, data[name])) for name in data}
    with repeatable(CPU, 1):
        for number, seed in wanted:
            for name, table in tables.items():
                if (number, seed) not in table.recorded:
                    _record(table, name, data[name], number=number, seed=seed)
    return 0


def _is_recorded(file: Path, wanted: Iterable[tuple[int, int]]) -> bool:
    return file.is_file() and b"\n" in file.read_bytes() and set(wanted) <= Table.read(file).recorded


def _record(table: Table, name: str, data: Dataset, *, number: int, seed: int) -> None:
    began, values = time.perf_counter(), recipes()[number]
    found = trained(data, recipe_of(name, values, seed=seed), number=number, values=values)
    table.append(found)
    seconds = f"{sum(found.seconds):.1f} s of a processor, {time.perf_counter() - began:.1f} s"
    print(
        f"{name} {number} seed {seed}: {max(found.score, default=math.nan):.3f}, {seconds}", file=sys.stderr, flush=True
    )


def head_of(name: str, data: Dataset) -> dict[str, Any]:
    """What a table is of. A file with another head is not gone on with."""
    images = DATA[name]
    return {
        "data": name,
        "fingerprint": data.digest,
        "train": images.train,
        "val": images.val,
        "classes": len(data.classes),
        "epochs": EPOCHS,
        "recipe": recipe_of(name, {}).model_dump(mode="json"),
    }


def trained(data: Dataset, recipe: Recipe, *, number: int, values: dict[str, Any]) -> Training:
    """Train it for all of its epochs, evaluated after each. A training that diverges ends where it does."""
    prepared = prepare(data, recipe, device=CPU, workers=1, reporter=Silent())
    average = None if recipe.ema_decay is None else WeightAverage(prepared.model, recipe.ema_decay)
    judged = prepared.model if average is None else average.model
    batches = batches_of(prepared, seed=recipe.seed, workers=1)
    per_epoch = batches.steps_per_epoch
    settings = replace(settings_of(prepared), average=average, momentum=momentum_of(prepared.recipe.schedule))
    steps = fit(
        prepared.model,
        prepared.task,
        batches.iterate(),
        optimizer_of(prepared),
        build_schedule(prepared.recipe.schedule),
        steps=recipe.epochs * per_epoch,
        device=CPU,
        settings=settings,
    )
    found = Training(recipe=number, seed=recipe.seed, values=values)
    began, losses = time.process_time(), list[float]()
    try:
        for record in steps:
            losses.append(float(record.loss))
            if len(losses) == per_epoch:
                val = _unseen(judged, prepared)
                now = time.process_time()
                found = found.with_epoch(val, train_loss=sum(losses) / per_epoch, seconds=now - began)
                began, losses = now, []
    except NonFiniteLossError:
        return replace(found, diverged=True)
    return found


def _unseen(model: torch.nn.Module, prepared: Prepared) -> Scores:
    batches = EvalBatches(
        prepared.pixels,
        prepared.targets,
        prepared.split.val,
        batch_size=AT_ONCE,
        image_size=prepared.recipe.data.size,
        augment=None,
        seed=prepared.recipe.seed,
        workers=1,
    )
    answers = evaluate(
        model,
        prepared.task,
        batches,
        device=CPU,
        dtype=prepared.precision.autocast,
        seed=prepared.recipe.seed,
    )
    return prepared.task.scores(answers)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=Path(), help="where the folders cats-dogs and flowers12 are (default: here)"
    )
    parser.add_argument("--tables", type=Path, default=TABLES, help="where tables are kept (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=list(DATA), default=list(DATA), metavar="NAME")
    parser.add_argument("--recipes", type=int, default=RECIPES, metavar="N", help="the first N of them alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
