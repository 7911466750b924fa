"""Which strategy finds the best training for the same epochs? LCBench's surrogate, trainings paused and gone on with.

A cell is a strategy on a task with a seed and a budget of 20 full trainings of 52 epochs. Asked one at a time; the budget may
end in the middle of a training. Regret is (best known − best accuracy seen) / (best known − median by chance): the best
checkpoint is handed out. `last` hands out the same training's last epoch instead, whether it was trained so far or not.
The arms are those of `search_arms.py` and, of Optuna, NePS, DEHB and Syne Tune, those of `search_rivals.py`; without being named
the latter are left out where their library is not installed:

    pip install ".[search-rivals]"

Only the box without the surrogate's artefact (`lcbench_surrogate.py`), and only the development tasks unless others are named.

    python benchmarks/search_lcbench.py [--data FOLDER] [--results FOLDER] [--arms NAME …] [--tasks ID …] [--seeds 0 1 …]
        [--processes N] [--kept]

Cells are kept in --results, one JSON file each, so that it can be stopped and gone on with; --kept judges what is there. The
table compares `freeze-thaw` with every other arm: means over seeds, paired by task, Wilcoxon's signed-rank test.

Exits with 0 if it is not significantly worse than any at 1 and 2 full trainings, first at 5, 10 and 20 with
p < 0.01 at 10 and 20, and its mean regret at 20 is at most 0.09; else with 4.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices, and one process a core

import platformdirs

from lcbench_surrogate import DEFAULTS, EPOCHS, SPACE, Surrogate, reference
from search_arms import (
    OURS,
    RULES,
    TRAININGS,
    Cell,
    Objective,
    Problem,
    Reference,
    Search,
    Spent,
    at_trainings,
    file_of,
    measure_all,
    own_arms,
    shown,
    table,
)
from search_rivals import rivals, there
from trainwright.files import write_atomically
from trainwright.seeding import derive

TASKS = (
    "3945", "126025", "146212", "167152", "167181", "167190",
    "168329", "168335", "168910", "189865", "189905", "189909",
)  # fmt: skip
SEEDS = tuple(range(10))
FIRST_AT, SURE_AT = (5, 10, 20), (10, 20)
GOAL, SURE = 0.09, 0.01
PROBLEM = Problem(space=SPACE, published=DEFAULTS, epochs=EPOCHS)
ARMS: dict[str, Search] = own_arms(PROBLEM) | rivals(PROBLEM)


def main() -> int:
    arguments = _arguments()
    arguments.arms = (
        list(arguments.arms or ARMS) if arguments.kept else there("search_lcbench.py", ARMS, arguments.arms)
    )
    cells = [(arm, task, seed) for seed in arguments.seeds for task in arguments.tasks for arm in arguments.arms]
    if not arguments.kept:
        if not (arguments.data / "model.onnx").is_file():
            raise SystemExit(f"search_lcbench.py: no model.onnx in {arguments.data}. Name its folder: --data FOLDER.")
        arguments.results.mkdir(parents=True, exist_ok=True)
        keep = partial(_keep, arguments.data, arguments.results)
        measure_all(cells, keep, file_of=partial(file_of, arguments.results), processes=arguments.processes)
    rows = [json.loads(file.read_text()) for cell in cells if (file := file_of(arguments.results, cell)).is_file()]
    if not rows:
        raise SystemExit(f"search_lcbench.py: nothing has been measured in {arguments.results}.")
    references = {row["task"]: Reference(**row["reference"]) for row in rows}
    tables = {rule: table(rows, references, rule) for rule in RULES}
    for rule, found in tables.items():
        print(shown(found, RULES[rule], pairs="tasks ours wins"), file=sys.stderr)
    print(json.dumps({"benchmark": "search_lcbench", "tables": tables, "cells": len(rows)}))
    return 0 if reached(tables["seen"]) else 4


def _keep(data: Path, results: Path, cell: Cell) -> float:
    """Measure a cell and write it down; CPU seconds."""
    found = measure(*cell, data, results)
    write_atomically(file_of(results, cell), json.dumps(found).encode())
    return float(found["cpu_seconds"])


def measure(arm: str, task: str, seed: int, data: Path, results: Path) -> dict[str, Any]:
    """What a strategy found: accuracies after 1, 2, … full trainings."""
    surrogate = _surrogate(data)
    measured_by = _reference(surrogate, task, results)
    objective = Objective(surrogate, task, budget=TRAININGS[-1] * EPOCHS)
    worked = time.process_time()
    with contextlib.suppress(Spent):
        ARMS[arm](objective, derive(seed, "lcbench", task))
    return {
        "arm": arm,
        "task": task,
        "seed": seed,
        "reference": asdict(measured_by),
        "seen": at_trainings(objective.seen, EPOCHS),
        "last": at_trainings(objective.last, EPOCHS),
        "cpu_seconds": round(time.process_time() - worked, 2),
    }


@cache
def _surrogate(data: Path) -> Surrogate:
    return Surrogate(data)


def _reference(surrogate: Surrogate, task: str, results: Path) -> Reference:
    """Measured once a task; two processes that measure it at once write the same."""
    file = results / f"reference.{task}.json"
    if not file.is_file():
        write_atomically(file, json.dumps(asdict(reference(surrogate, task))).encode())
    return Reference(**json.loads(file.read_text()))


def reached(found: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether ours keeps what the head of this file says."""
    if OURS not in found or len(found) < 2:
        return False
    ours = found[OURS]["regret"]
    for line in (line for arm, line in found.items() if arm != OURS):
        for count in TRAININGS:
            behind, against = ours[count] - line["regret"][count], line["against"][count]
            if count in FIRST_AT and behind >= 0:
                return False
            if count in SURE_AT and not against["p"] < SURE:
                return False
            if count not in FIRST_AT and behind > 0 and against["p"] < SURE:
                return False
    return bool(ours[TRAININGS[-1]] <= GOAL)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("TRAINWRIGHT_DATA", ".")) / "lcbench"
    parser.add_argument(
        "--data", type=Path, default=data, help="folder of model.onnx (default: TRAINWRIGHT_DATA's lcbench)"
    )
    kept = platformdirs.user_cache_path("trainwright") / "search_lcbench"
    parser.add_argument("--results", type=Path, default=kept, help="where cells are kept (default: %(default)s)")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), metavar="NAME")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), metavar="ID")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="N")
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    parser.add_argument("--kept", action="store_true", help="only cells that have been measured")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
