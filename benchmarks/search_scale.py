"""Ten thousand trials of one study: is a decision still as quick, is a killed study soon back, how much memory does that take?

A synthetic objective (a bowl over five dimensions and a choice, learning curves of 27 epochs) in the place of trainings; all else
is as in `trainwright tune`: its tuner asks, and every ask and tell goes to the study's journal on disk, with as much in it as a
real one has. For each strategy, in a process of its own:

    ask      from one ask to the next, what the tuner computes: the median of the first thousand and of the last thousand
    resume   a new process takes over all asks and tells of the journal, and asks for the next one
    memory   the most that the process took, and of that what it took before the first ask: imports, of which torch is most

Times are those of the processor, not of the clock: the disk's sync after every line is not measured, nor who else computes here.
Without --strategies, those that are meant for thousands of trials. `gp` is not: it is asked for --gp recipes, and its model is
shown no more than it decides upon in time (`bayesian.py`).

    python benchmarks/search_scale.py [--trials 10000] [--strategies NAME …] [--gp 320] [--folder FOLDER]

Exits with 0 if the last thousand asks take at most twice as long as the first, none is back after more than 5 s, none takes more
than 500 MB beside its imports, and what makes a model decides within 0.3 s at 300 recipes; else with 4.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices, one process

STRATEGIES = ("random", "sobol", "asha", "hyperband", "cmaes", "tpe", "bohb")
DECIDING = ("tpe", "gp", "freeze-thaw", "bohb", "cmaes")  # those that make a model
EPOCHS = 27
THOUSAND = 1000
FLAT, RESUME_SECONDS, MEMORY_MB, DECISION_SECONDS, DECIDED_AT = 2.0, 5.0, 500.0, 0.3, 300
SPACE = {
    "optimizer.name": {"choices": ["adamw", "sgd", "lion"]},
    "optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "optimizer.weight_decay": {"low": 1e-5, "high": 1.0, "log": True},
    "augment.mixup": {"low": 0.0, "high": 1.0},
    "loss.label_smoothing": {"low": 0.0, "high": 0.4},
    "schedule.warmup": {"low": 0.0, "high": 0.3},
}


def main() -> int:
    asked = arguments()
    if asked.measure:
        print(json.dumps(measured(asked.measure, asked.trials, Path(asked.folder))))
        return 0
    if asked.resume:
        print(json.dumps(resumed(asked.resume, asked.trials, Path(asked.folder))))
        return 0
    wanted = [(name, asked.trials) for name in asked.strategies] + ([("gp", asked.gp)] if asked.gp else [])
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, trials in wanted:
            folder = Path(asked.folder or scratch) / name
            row = child("--measure", name, trials, folder)
            rows.append(row | child("--resume", name, trials, folder))
            print(line(rows[-1]), flush=True)
    wrong = [f"{row['strategy']}: {said}" for row in rows for said in complaints(row)]
    print("\n".join(wrong) or "all within the goals")
    return 4 if wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--strategies", nargs="*", default=list(STRATEGIES))
    parser.add_argument("--gp", type=int, default=DECIDED_AT + 20)
    parser.add_argument("--folder", default="")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--resume", help=argparse.SUPPRESS)
    return parser.parse_args()


def child(what: str, name: str, trials: int, folder: Path) -> dict[str, Any]:
    """What a process of its own found out."""
    command = [sys.executable, __file__, what, name, "--trials", str(trials), "--folder", str(folder)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return found


def complaints(row: Mapping[str, Any]) -> list[str]:
    """What misses its goal. Few trials have no first and last thousand that could be compared."""
    said = []
    if row["asks"] >= 3 * THOUSAND and row["last_ms"] > FLAT * row["first_ms"]:
        said.append(f"asks take {row['last_ms'] / row['first_ms']:.1f} times as long at the end as at the beginning")
    if row["resume_seconds"] > RESUME_SECONDS:
        said.append(f"back after {row['resume_seconds']:.1f} s")
    taken = max(row["memory_mb"], row["resumed_mb"]) - row["imports_mb"]
    if taken > MEMORY_MB:
        said.append(f"takes {taken:.0f} MB beside its imports")
    if row["strategy"] in DECIDING and row["at_300_ms"] > 1000 * DECISION_SECONDS:
        said.append(f"decides in {row['at_300_ms']:.0f} ms at {DECIDED_AT} recipes")
    return said


def line(row: Mapping[str, Any]) -> str:
    return (
        f"{row['strategy']:<12} {row['asks']:>6,} asks  first {row['first_ms']:7.2f} ms  last {row['last_ms']:7.2f} ms  "
        f"longest {row['longest_ms']:7.0f} ms  at 300: {row['at_300_ms']:6.1f} ms  resume {row['resume_seconds']:5.2f} s  "
        f"memory {row['memory_mb']:4.0f} MB (imports {row['imports_mb']:.0f}), resumed {row['resumed_mb']:4.0f} MB  "
        f"journal {row['journal_mb']:.0f} MB"
    )


# In a process of its own


def measured(name: str, trials: int, folder: Path) -> dict[str, Any]:
    """A study of so many asks, timed."""
    study, tuner = begun(name, folder)
    imports = peak_mb()
    waits: list[float] = []
    hands = Objective(trials)
    conduct(study, timed(tuner, waits), hands)
    ordered = waits[1:]
    first, last = ordered[:THOUSAND], ordered[-THOUSAND:]
    at = ordered[DECIDED_AT - 20 : DECIDED_AT + 20] or ordered
    study.close()
    return {
        "strategy": name,
        "asks": len(waits),
        "first_ms": 1000 * median(first),
        "last_ms": 1000 * median(last),
        "longest_ms": 1000 * max(ordered),
        "at_300_ms": 1000 * median(at),
        "memory_mb": peak_mb(),
        "imports_mb": imports,
        "journal_mb": (study.path / "journal.jsonl").stat().st_size / 1e6,
    }


def resumed(name: str, trials: int, folder: Path) -> dict[str, Any]:
    """The same study, from its journal alone, until it asks for more."""
    from trainwright.tracking.study_folder import StudyFolder

    study = StudyFolder.open(folder / "studies" / "scale")
    tuner = tuner_of()(study, None)
    hands = Objective(1)  # the next one is asked for and answered
    began = time.process_time()
    conduct(study, tuner, hands)
    return {"resume_seconds": time.process_time() - began, "resumed_mb": peak_mb()}


def begun(name: str, folder: Path) -> tuple[Any, Any]:
    """(folder of the study, its tuner), as `trainwright tune` begins it."""
    from trainwright.recipe import Recipe
    from trainwright.tracking.study_folder import StudyFolder

    recipe = Recipe().changed({"epochs": EPOCHS, "optimizer.lr": 1e-3})
    asked = {
        "kind": "tune",
        "strategy": name,
        "strategy_options": {},
        "space": SPACE,
        "recipe": recipe.model_dump(mode="json"),
        "first": [],
        "least_epochs": 1,
        "lag": 4,
        "confirm": True,
        "on_all": None,
        "trials": None,
        "full_trainings": None,
        "budget_seconds": None,
        "spent_seconds": 0.0,
        "pace": {"epoch_seconds": 1.0, "run_seconds": 1.0},
        "options": {"slots": 1},
    }
    study = StudyFolder.create(folder / "studies", asked=asked, name="scale")
    return study, tuner_of()(study, None)


def tuner_of() -> Callable[..., Any]:
    from trainwright.workflows.tune import TUNE

    return TUNE.strategy_of


def conduct(study: Any, tuner: Any, hands: Objective) -> None:
    from trainwright.workflows.study import Conductor

    conductor = Conductor(study=study, strategy=tuner, hands=hands, runs=study.path.parent.parent / "runs")
    conductor.stop_asked = lambda: hands.done
    conductor.carry_out()


def timed(tuner: Any, waits: list[float]) -> Any:
    """The tuner, with the time that it takes for each ask and the tell before it."""

    class Timed:
        entries = tuner.entries
        spent = 0.0

        @property
        def done(self) -> bool:
            return bool(self._took(lambda: tuner.done))

        def ask(self) -> Any:
            proposal = self._took(tuner.ask)
            if proposal is not None:
                waits.append(self.spent)
                self.spent = 0.0
            return proposal

        def tell(self, outcome: Any) -> None:
            self._took(lambda: tuner.tell(outcome))

        def _took(self, work: Callable[[], Any]) -> Any:
            began = time.process_time()
            found = work()
            self.spent += time.process_time() - began
            return found

    return Timed()


class Objective:
    """Hands that answer at once with what a training would have come to. most: asks, after which somebody asks to stop."""

    slots = 1

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0
        self._next: list[Any] = []

    @property
    def done(self) -> bool:
        return self._count >= self._most

    def submit(self, proposal: Any, path: Path) -> None:
        self._next.append(proposal)

    def wait(self) -> list[Any]:
        from trainwright.workflows.hands import Done

        proposal = self._next.pop(0)
        if self.done:
            return [Done(number=proposal.number, record=None, seconds=0.0)]
        self._count += 1
        return [Done(number=proposal.number, record=record_of(proposal), seconds=1.0)]

    def stop(self) -> None:
        return

    def __enter__(self) -> Objective:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


def record_of(proposal: Any) -> dict[str, Any]:
    """A `tell` record with everything that a real one has, and its curve."""
    recipe = proposal.recipe
    end = proposal.epochs_now or EPOCHS
    away = (math.log10(recipe.optimizer.lr or 1e-3) + 2.5) ** 2 / 4
    away += (math.log10(recipe.optimizer.weight_decay or 1e-5) + 2) ** 2 / 10
    away += (recipe.augment.mixup - 0.3) ** 2 + (recipe.optimizer.name != "adamw") * 0.1
    best = 0.95 * math.exp(-away)
    ripple = (proposal.number * 0.6180339887) % 1 / 500
    curve = [best * (1 - 0.7 * math.exp(-epoch / 6)) + ripple for epoch in range(1, end + 1)]
    finding = {
        "verdict": "no",
        "evidence": "x" * 90,
        "advice": "y" * 60,
        "figures": {"value": 0.1, "low": 0.0, "high": 0.2},
    }
    findings = [{"rule": f"rule-{number}", **finding} for number in range(12)]
    result = {
        "metric": "accuracy",
        "score": {"train": min(1.0, curve[-1] + 0.05), "val": curve[-1]},
        "gap": {"value": 0.05, "low": 0.03, "high": 0.07},
        "verdict": "generalizes",
        "findings": findings,
        "epochs": end,
        "kept_epoch": end - 1,
        "seconds": float(end),
        "recipe": recipe.model_dump(mode="json"),
        "val_scores": curve,
        "message": "",
        "probed_seconds": 0.0,
        "step_seconds": float(end),
    }
    began = proposal.number if proposal.continues is None else proposal.continues
    state = "finished" if proposal.epochs_now is None else "paused"
    seconds = 1.0 + end - proposal.epochs_before
    return {
        "number": proposal.number,
        "run": f"scale-{began:03d}",
        "state": state,
        "score": curve[-1],
        "seconds": seconds,
        "result": result,
    }


def median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2] if values else math.nan


def peak_mb() -> float:
    """The most that this process ever took, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1e6 if sys.platform == "darwin" else most * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
