"""Which strategy finds the best training for the same epochs? LCBench's surrogate, trainings paused and gone on with.

A cell is a strategy on a task with a seed and a budget of 20 full trainings of 52 epochs. Asked one at a time; the budget may
end in the middle of a training. Regret is (best known − best accuracy seen) / (best known − median by chance): the best
checkpoint is handed out. `last` hands out the same training's last epoch instead, whether it was trained so far or not.
With `+default` published values come first: both of them where every training goes to its end, one where trainings are compared
early, as in `freeze-thaw`. `default` trains nothing else. The arms of Optuna, NePS, DEHB and Syne Tune are those of
`search_rivals.py`; without being named they are left out where their library is not installed:

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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices, and one process a core

import numpy as np
import platformdirs
from scipy.stats import wilcoxon

from lcbench_surrogate import DEFAULTS, EPOCHS, SPACE, Objective, Reference, Spent, Surrogate, reference
from search_rivals import INSTALL, Problem, missing, rivals
from trainwright.files import write_atomically
from trainwright.search.history import Told
from trainwright.search.searching import start
from trainwright.seeding import derive

TASKS = (
    "3945", "126025", "146212", "167152", "167181", "167190",
    "168329", "168335", "168910", "189865", "189905", "189909",
)  # fmt: skip
SEEDS = tuple(range(10))
OURS = "freeze-thaw"
TRAININGS = (1, 2, 5, 10, 20)
FIRST_AT, SURE_AT = (5, 10, 20), (10, 20)
GOAL, SURE = 0.09, 0.01
LEAST_EPOCHS = (
    2  # of the races: after one epoch these networks are untrained (rank correlation with the last epoch 0.0)
)

Search = Callable[[Objective, int], None]  # objective, seed; until it raises Spent, or nothing is left to try


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One of our strategies. first: how many of the published values it trains before anything else."""

    strategy: str
    first: int = 0
    least_epochs: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, objective: Objective, seed: int) -> None:
        search = start(
            self.strategy,
            SPACE,
            seed=seed,
            first=DEFAULTS[: self.first],
            epochs=EPOCHS,
            least_epochs=self.least_epochs,
            options=self.options,
        )
        paid = 0
        while (ask := search.ask()) is not None:
            scores = objective.train(ask.values, ask.epochs or EPOCHS)
            seconds = float(len(objective.seen) - paid)  # an epoch counts as a second, whatever the values
            paid = len(objective.seen)
            search.tell(Told(number=ask.number, state="finished", score=max(scores), scores=scores, seconds=seconds))


RACES = {name: Arm(strategy=name, least_epochs=LEAST_EPOCHS) for name in ("hyperband", "asha", "bohb")}
ARMS: dict[str, Search] = {
    OURS: Arm(strategy=OURS, first=1),
    "tpe+default": Arm(strategy="tpe", first=2),
    "random+default": Arm(strategy="random", first=2),
    "default": Arm(strategy="list", first=2),
    "tpe": Arm(strategy="tpe"),
    "random": Arm(strategy="random"),
    **RACES,
    **{f"{name}+default": Arm(strategy=name, first=1, least_epochs=LEAST_EPOCHS) for name in RACES},
    **rivals(Problem(space=SPACE, published=DEFAULTS, epochs=EPOCHS)),
}


def main() -> int:
    arguments = _arguments()
    if not arguments.kept:
        arguments.arms = _there(arguments.arms)
    cells = [(arm, task, seed) for seed in arguments.seeds for task in arguments.tasks for arm in arguments.arms]
    if not arguments.kept:
        if not (arguments.data / "model.onnx").is_file():
            raise SystemExit(f"search_lcbench.py: no model.onnx in {arguments.data}. Name its folder: --data FOLDER.")
        _measure_all(cells, arguments)
    rows = [json.loads(file.read_text()) for cell in cells if (file := _file(arguments.results, *cell)).is_file()]
    if not rows:
        raise SystemExit(f"search_lcbench.py: nothing has been measured in {arguments.results}.")
    references = {row["task"]: Reference(**row["reference"]) for row in rows}
    tables = {rule: table(rows, references, rule) for rule in ("seen", "last")}
    for rule, found in tables.items():
        print(_shown(found, rule), file=sys.stderr)
    print(json.dumps({"benchmark": "search_lcbench", "tables": tables, "cells": len(rows)}))
    return 0 if reached(tables["seen"]) else 4


def _there(named: Sequence[str] | None) -> list[str]:
    """The arms that can run here: all that were named, or of all arms those whose library is installed."""
    absent = missing(ARMS, named or ARMS)
    if absent and named:
        raise SystemExit(
            f"search_lcbench.py: {', '.join(absent)}: {' and '.join(sorted(set(absent.values())))} not installed here. "
            f"Install what the arms compare with: {INSTALL}."
        )
    if absent:
        print(f"left out, not installed here: {', '.join(absent)}. All of them: {INSTALL}", file=sys.stderr)
    return [arm for arm in named or ARMS if arm not in absent]


def _measure_all(cells: Iterable[tuple[str, str, int]], arguments: argparse.Namespace) -> None:
    left = [cell for cell in cells if not _file(arguments.results, *cell).is_file()]
    arguments.results.mkdir(parents=True, exist_ok=True)
    kept = partial(_keep, arguments.data, arguments.results)
    with ProcessPoolExecutor(arguments.processes) as pool:
        waiting = {pool.submit(kept, *cell): cell for cell in left}
        for count, done in enumerate(as_completed(waiting), 1):
            arm, task, seed = waiting[done]
            print(f"{count}/{len(left)}  {arm} {task} {seed}  {done.result():.1f} s", file=sys.stderr, flush=True)


def _keep(data: Path, results: Path, arm: str, task: str, seed: int) -> float:
    """Measure a cell and write it down; CPU seconds."""
    found = measure(arm, task, seed, data, results)
    write_atomically(_file(results, arm, task, seed), json.dumps(found).encode())
    return float(found["cpu_seconds"])


def _file(results: Path, arm: str, task: str, seed: int) -> Path:
    return results / f"{arm}.{task}.{seed}.json"


def measure(arm: str, task: str, seed: int, data: Path, results: Path) -> dict[str, Any]:
    """What a strategy found: accuracies after 1, 2, … full trainings."""
    surrogate = _surrogate(data)
    measured_by = _reference(surrogate, task, results)
    objective = Objective(surrogate, task, budget=TRAININGS[-1] * EPOCHS)
    worked = time.process_time()
    with contextlib.suppress(Spent):
        ARMS[arm](objective, derive(seed, "lcbench", task))
    ends = [min(count * EPOCHS, len(objective.seen)) - 1 for count in range(1, TRAININGS[-1] + 1)]
    return {
        "arm": arm,
        "task": task,
        "seed": seed,
        "reference": asdict(measured_by),
        "seen": [objective.seen[end] for end in ends],
        "last": [objective.last[end] for end in ends],
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


def table(
    rows: Sequence[Mapping[str, Any]], references: Mapping[str, Reference], rule: str
) -> dict[str, dict[str, Any]]:
    """By arm: mean regret after each number of trainings, cells, and how ours compares: p, and tasks better, worse."""
    found = {}
    ours = _by_task(rows, references, rule, OURS)
    for arm in dict.fromkeys(row["arm"] for row in rows):
        by_task = _by_task(rows, references, rule, arm)
        both = [task for task in by_task if task in ours]
        means = np.mean(list(by_task.values()), axis=0)
        line: dict[str, Any] = {
            "regret": {count: round(float(means[count - 1]), 4) for count in TRAININGS},
            "cells": sum(row["arm"] == arm for row in rows),
            "tasks": len(by_task),
        }
        if arm != OURS and both:
            gains = np.array([by_task[task] - ours[task] for task in both])
            line["against"] = {count: _compared(gains[:, count - 1]) for count in TRAININGS}
        found[arm] = line
    return found


def _by_task(
    rows: Sequence[Mapping[str, Any]], references: Mapping[str, Reference], rule: str, arm: str
) -> dict[str, np.ndarray]:
    """Regret after 1, 2, … trainings [20] by task, mean over seeds."""
    found: dict[str, list[list[float]]] = {}
    for row in rows:
        if row["arm"] == arm:
            regrets = [references[row["task"]].regret(score) for score in row[rule]]
            found.setdefault(row["task"], []).append(regrets)
    return {task: np.mean(every, axis=0) for task, every in found.items()}


def _compared(gains: np.ndarray) -> dict[str, Any]:
    """gains: another arm's regret minus ours, by task. p: two-sided, Wilcoxon's signed-rank test; 1 where all are equal."""
    p = float(wilcoxon(gains).pvalue) if np.any(gains) else 1.0
    return {"p": p, "better": int((gains > 0).sum()), "worse": int((gains < 0).sum())}


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


def _shown(found: Mapping[str, Mapping[str, Any]], rule: str) -> str:
    head = "the best checkpoint is handed out" if rule == "seen" else "its training's last epoch is handed out"
    lines = [
        "",
        f"{head:<34}" + "".join(f"{count:>8}" for count in TRAININGS) + "   cells  p at 10, 20 (tasks ours wins)",
    ]
    for arm, line in sorted(found.items(), key=lambda item: item[1]["regret"][TRAININGS[-1]]):
        regrets = "".join(f"{line['regret'][count]:8.3f}" for count in TRAININGS)
        against = [
            f"{line['against'][count]['p']:.4f} ({line['against'][count]['better']} of {line['tasks']})"
            for count in SURE_AT
            if "against" in line
        ]
        lines.append(f"{arm:<34}{regrets}{line['cells']:>8}  {', '.join(against)}")
    return "\n".join(lines)


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
    arguments = parser.parse_args()
    if arguments.kept and arguments.arms is None:
        arguments.arms = list(ARMS)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
