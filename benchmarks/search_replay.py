"""Which strategy finds the best recipe for the same epochs? Trainings of our own, recorded and replayed.

A cell is a strategy on a dataset (digits, cats-dogs, flowers12) with a seed and a budget of 20 full trainings of 27 epochs, paid
by the epoch, as in `search_lcbench.py`. Space: the product's own (`replay_space.py`); trainings: those of `replay_record.py`. A
recipe between the recorded ones has the curve that a forest expects, and the noise of a training (--lookup forest); or it is the
nearest recorded one that was not taken yet (--lookup nearest). Regret is (best known − what is handed out) / (best known − median
by chance). With the forest a checkpoint is handed out for its score with noise, and judged by that without.

    python benchmarks/search_replay.py [--tables FOLDER] [--results FOLDER] [--arms NAME …] [--data NAME …] [--seeds 0 1 …]
        [--lookup forest|nearest] [--processes N] [--kept]

Cells are kept in --results, one JSON file each, as long as the tables stay as they are. Paired by dataset and seed: Wilcoxon's
signed-rank test.

Exits with 0 if `freeze-thaw` has the lowest mean regret at every number of full trainings from 2 to 20, and reaches what the best
other has at 20 in half of the epochs that this one needs; else with 4.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices, and one process a core

import numpy as np
import platformdirs

from replay_curves import Forest, Nearest, Recorded, as_json, recorded_reference
from replay_space import EPOCHS, PUBLISHED, SPACE
from replay_table import TABLES, Table
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
    regrets,
    shown,
    table,
)
from search_rivals import rivals, there
from trainwright.files import write_atomically
from trainwright.seeding import derive

NAMES = ("digits", "cats-dogs", "flowers12")
SEEDS = tuple(range(10))
FIRST_FROM = 2  # full trainings
SHARE = 0.5  # of the epochs of the best other
LOOKUPS = ("forest", "nearest")
BUDGET = TRAININGS[-1] * EPOCHS
PROBLEM = Problem(space=SPACE, published=(PUBLISHED,), epochs=EPOCHS)
ARMS: dict[str, Search] = own_arms(PROBLEM) | rivals(PROBLEM)


def main() -> int:
    arguments = _arguments()
    arguments.arms = list(arguments.arms or ARMS) if arguments.kept else there("search_replay.py", ARMS, arguments.arms)
    place = partial(_file, arguments.tables, arguments.results, arguments.lookup)
    cells = [(arm, data, seed) for seed in arguments.seeds for data in arguments.data for arm in arguments.arms]
    if not arguments.kept:
        keep = partial(_keep, arguments.tables, arguments.results, arguments.lookup)
        measure_all(cells, keep, file_of=place, processes=arguments.processes)
    rows = [json.loads(file.read_text()) for cell in cells if (file := place(cell)).is_file()]
    if not rows:
        raise SystemExit(f"search_replay.py: nothing has been measured of these tables in {arguments.results}.")
    references = {row["task"]: Reference(**row["reference"]) for row in rows}
    title = {rule: f"{said} ({arguments.lookup})" for rule, said in RULES.items()}
    tables = {rule: table(rows, references, rule, pair=by_seed) for rule in RULES}
    for rule, found in tables.items():
        print(shown(found, title[rule], pairs="dataset and seed ours wins"), file=sys.stderr)
    for data in arguments.data if len(arguments.data) > 1 else ():
        found = table([row for row in rows if row["task"] == data], references, "seen", pair=by_seed)
        print(shown(found, f"{data} alone", pairs="seeds ours wins"), file=sys.stderr)
    claims = claims_of(rows, references)
    print(f"\n{json.dumps(claims)}", file=sys.stderr)
    replayed = {name: as_json(*_loaded(arguments.tables, name)) for name in arguments.data}
    found = {"benchmark": "search_replay", "lookup": arguments.lookup, "replayed": replayed, "claims": claims}
    print(json.dumps({**found, "tables": tables, "cells": len(rows)}))
    return 0 if claims["first"] and claims["half"] else 4


def by_seed(row: Mapping[str, Any]) -> Hashable:
    return row["task"], row["seed"]


def _keep(tables: Path, results: Path, lookup: str, cell: Cell) -> float:
    """Measure a cell and write it down; CPU seconds."""
    found = measure(*cell, tables, lookup)
    file = _file(tables, results, lookup, cell)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(found).encode())
    return float(found["cpu_seconds"])


def _file(tables: Path, results: Path, lookup: str, cell: Cell) -> Path:
    return file_of(results / f"{lookup}-{_digest(tables / f'{cell[1]}.jsonl')}", cell)


@cache
def _digest(table: Path) -> str:
    """Of a table: another table is another benchmark."""
    if not table.is_file():
        raise SystemExit(f"search_replay.py: no {table.name} in {table.parent}. Record it with replay_record.py.")
    return hashlib.sha256(table.read_bytes()).hexdigest()[:8]


def measure(arm: str, data: str, seed: int, tables: Path, lookup: str) -> dict[str, Any]:
    """What a strategy found: after 1, 2, … full trainings, and after each epoch (`trace`, of the best checkpoint)."""
    forest, recorded = _loaded(tables, data)
    if lookup == "forest":
        reference, trainings = forest.reference, forest.trainings(seed)
        objective = Objective(trainings, data, budget=BUDGET, worth=trainings.worth)
    else:
        reference = recorded_reference(recorded)
        objective = Objective(Nearest(recorded), data, budget=BUDGET)
    worked = time.process_time()
    with contextlib.suppress(Spent):
        ARMS[arm](objective, derive(seed, "replay", data))
    return {
        "arm": arm,
        "task": data,
        "seed": seed,
        "reference": asdict(reference),
        "seen": at_trainings(objective.seen, EPOCHS),
        "last": at_trainings(objective.last, EPOCHS),
        "trace": [round(score, 5) for score in objective.seen],
        "cpu_seconds": round(time.process_time() - worked, 2),
    }


@cache
def _loaded(tables: Path, data: str) -> tuple[Forest, Recorded]:
    recorded = Recorded(Table.read(tables / f"{data}.jsonl"))
    return Forest(recorded), recorded


def claims_of(rows: Sequence[Mapping[str, Any]], references: Mapping[str, Reference]) -> dict[str, Any]:
    """first: whether ours has the lowest mean regret from 2 trainings on; behind: where not, and whom. half: whether it needs at
    most half the epochs of the best other for what that one has at the end; epochs: both numbers, ours None where never."""
    arms = dict.fromkeys(row["arm"] for row in rows)
    if OURS not in arms or len(arms) < 2:
        return {"first": False, "half": False, "behind": {}, "best_other": None, "epochs": None}
    means = {
        arm: np.mean(list(regrets(rows, references, "seen", arm=arm, pair=by_seed).values()), axis=0) for arm in arms
    }
    traces = {arm: _mean_trace([row for row in rows if row["arm"] == arm], references) for arm in arms}
    others = [arm for arm in arms if arm != OURS]
    behind = {
        count: ahead
        for count in range(FIRST_FROM, TRAININGS[-1] + 1)
        if (ahead := [arm for arm in others if means[arm][count - 1] <= means[OURS][count - 1]])
    }
    best = min(others, key=lambda arm: float(traces[arm][-1]))
    needed = [_reached(traces[arm], level=float(traces[best][-1])) for arm in (OURS, best)]
    half = needed[0] is not None and needed[1] is not None and needed[0] <= SHARE * needed[1]
    return {"first": not behind, "behind": behind, "half": half, "best_other": best, "epochs": needed}


def _mean_trace(rows: Sequence[Mapping[str, Any]], references: Mapping[str, Reference]) -> np.ndarray:
    """Regret after each epoch [BUDGET], the mean over cells."""
    found = []
    for row in rows:
        scores = [*row["trace"], *[row["trace"][-1]] * (BUDGET - len(row["trace"]))]
        found.append([references[row["task"]].regret(score) for score in scores])
    return np.asarray(np.mean(found, axis=0))


def _reached(trace_B: np.ndarray, *, level: float) -> int | None:
    """Epochs after which the regret is that low for the first time."""
    low = np.flatnonzero(trace_B <= level + 1e-12)
    return int(low[0]) + 1 if len(low) else None


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=Path, default=TABLES, help="the recorded ones (default: %(default)s)")
    kept = platformdirs.user_cache_path("trainwright") / "search_replay"
    parser.add_argument("--results", type=Path, default=kept, help="where cells are kept (default: %(default)s)")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), metavar="NAME")
    parser.add_argument("--data", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), metavar="N")
    parser.add_argument("--lookup", choices=LOOKUPS, default=LOOKUPS[0])
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    parser.add_argument("--kept", action="store_true", help="only cells that have been measured")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
