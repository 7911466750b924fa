"""Is the learning rate that the range test suggests as good as the best? Against six rules of other libraries, on the same cells.

A cell is a dataset, a network and an optimizer with a short training (`lr_cells.py`). Its truth is the val score of that training
at 13 lrs from 1e-5 to 10 with two seeds (`lr_truth.py`). A suggestion's score is read off that along straight lines on log lr,
beyond the grid as at its end; a diverged training has the worst score of the cell. It is a hit if it is within noise of the best:
best − score ≤ 2 σ, with σ the noise floor sqrt(d / 2n) between two seeds, or the deviation between seeds at the best lr and
its neighbours where that is larger. No suggestion is a miss.

Ours runs on three fresh seeds; the cell counts by the first of them. The others' rules (`lr_rules.py`) see one sweep of 100
steps in their own range for each seed; the cell counts by the median of their suggestions on log lr, which is more than they
see in use. `published` is no rule but the lr that the optimizer was published with; `lr: null` is ours, and the published
one where ours cannot tell, as a training gets it. Cost: steps that our test takes over those of the training, and seconds of
both, measured in turn in this process. Further cells, beyond one of another task than classification, are told beside the rest;
so are the unseen ones, measured when the rule was finished.

The truth of all cells takes some four hours on one core. It is kept in --results, a file a cell, and not measured again.

    python benchmarks/lr_range.py [--data FOLDER] [--results FOLDER] [--cells NAME …] [--train] [--picture FILE.png]

Exits with 0 if ours hits in at least 90 % of all cells, further and unseen ones too, and in more than every rule does, for less
than 10 % of the training's steps in the median; else with 4.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import numpy as np
import platformdirs
import torch

from lr_cells import CELLS, DRY, Cell, dataset_of, folders
from lr_picture import draw
from lr_rules import RULES
from lr_truth import CPU, TRAINED_SEEDS, Subject, Truth, measure, measured_before, points_of, trained, truth_of
from trainwright.data.dataset import Dataset
from trainwright.diagnosis.stats import wilson
from trainwright.files import write_atomically
from trainwright.optim.published_rates import published_lr
from trainwright.records import StepRecord
from trainwright.seeding import derive
from trainwright.training.loop import FitSettings
from trainwright.training.lr_range import lr_range_test

OURS, PUBLISHED = "ours", "published"
TRAINED = "lr: null"  # what a training gets that leaves its rate to the test: the published one where it cannot tell
SEEDS = (100, 101, 102)  # of our test: other weights and batches than those of the truth and of the sweeps
GOAL, COST_GOAL = 0.90, 0.10
TIMED_STEPS, TIMED_LR = 40, 1e-5  # of a training, before and again after the test; an lr that no training diverges at
WARM_UP_STEPS = 3
DRY_GRID = (1e-4, 1e-2, 1.0)
# How a line names the rules.
SHORT = {
    "fastai valley": "valley",
    "fastai slide": "slide",
    "fastai steep": "steep",
    "fastai minimum": "minimum",
    "torch-lr-finder": "lr-finder",
}


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(1)  # another number gives other bits than those of the truth that is kept
    cells = [DRY] if arguments.dry else [cell for cell in CELLS if not arguments.cells or cell.name in arguments.cells]
    if arguments.dry:
        arguments.results /= "dry"
    rows, truths = [], []
    with folders(arguments.data, cells) as root:
        for cell in cells:
            measured = _measured(cell, root, arguments)
            if measured is None:
                continue
            data, truth = dataset_of(cell.data, root), truth_of(cell, measured)
            row = _row(cell, data, truth, measured, seeds=arguments.seeds)
            if arguments.train:
                row["trained"] = _trained_at(cell, data, row["rules"][OURS]["lr"], truth, arguments.results)
            print(_line(row), file=sys.stderr, flush=True)
            rows.append(row)
            truths.append(truth)
    if not rows:
        raise SystemExit(f"lr_range.py: no cell has its truth in {arguments.results}.")
    everything = _summary(rows)
    told = {
        "without further and unseen cells": [row for row in rows if not row["further"] and not row["unseen"]],
        "unseen cells": [row for row in rows if row["unseen"]],
        "all cells": rows,
    }
    summaries = {heading: _summary(some) for heading, some in told.items() if some}
    for heading, summary in summaries.items():
        print(f"\n{heading}:{_totals(summary)}", file=sys.stderr)
    if arguments.picture:
        draw(rows, truths, arguments.picture)
    print(json.dumps({"benchmark": "lr_range", "summaries": summaries, "cells": rows}))
    return 0 if arguments.dry or reached(everything) else 4


def _measured(cell: Cell, root: Path, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The cell's sweeps and trainings, from the results folder where they are there; None where they are not to be measured."""
    measured = measured_before(cell, arguments.results)
    if measured is None and not arguments.kept:
        print(f"{cell.name}: measuring the truth", file=sys.stderr, flush=True)
        grid = {"grid": DRY_GRID} if cell == DRY else {}
        measured = measure(cell, dataset_of(cell.data, root), arguments.results, **grid)
    return measured


def _row(cell: Cell, data: Dataset, truth: Truth, measured: dict[str, Any], *, seeds: int) -> dict[str, Any]:
    """All that is known of a cell: the good lrs, every rule's suggestions and whether it is a hit, our cost."""
    ours = [_ours(cell, data, seed) for seed in SEEDS[:seeds]]
    suggested: dict[str, list[float | None]] = {OURS: [one["lr"] for one in ours]}
    for name, rule in RULES.items():
        with np.errstate(all="ignore"):  # of losses that are not finite
            sweeps = measured["lightning" if name == "lightning" else "sweeps"]
            suggested[name] = [rule(*points_of(sweep)) for sweep in sweeps]
    suggested[PUBLISHED] = [ours[0]["published"]]
    suggested[TRAINED] = [ours[0]["published"] if one["lr"] is None else one["lr"] for one in ours]
    rules = {}
    for name, lrs in suggested.items():
        lr = lrs[0] if name in (OURS, TRAINED) else _middle(lrs)
        score = None if lr is None else truth.score(lr)
        share = mean(truth.good(one) for one in lrs)
        rules[name] = {"lr": lr, "score": score, "hit": truth.good(lr), "lrs": lrs, "share": share}
    return {
        "cell": cell.name,
        "further": cell.further,
        "unseen": cell.unseen,
        "window": truth.window(),
        "best_lr": truth.best_lr,
        "best": truth.best,
        "noise": truth.noise,
        "rules": rules,
        "reasons": [one["reason"] for one in ours],
        "cost": median(one["cost"] for one in ours),
        "cost_seconds": median(one["cost_seconds"] for one in ours),
    }


def _ours(cell: Cell, data: Dataset, seed: int) -> dict[str, Any]:
    """Our test as a training would call it, and its cost as parts of that training."""
    subject = Subject.of(cell, data, lr=TIMED_LR, seed=seed)
    recipe = subject.prepared.recipe
    published, _ = published_lr(recipe.optimizer, batch_size=recipe.step_images)
    training = Subject.of(cell, data, lr=TIMED_LR, seed=seed).steps()
    _seconds_a_step(training, min(WARM_UP_STEPS, cell.steps // 8))
    timed = min(TIMED_STEPS, cell.steps // 4)
    before = _seconds_a_step(training, timed)
    found = lr_range_test(
        subject.prepared.model,
        subject.prepared.task,
        lambda draw: subject.batches(derive(seed, "lr-range", draw)).iterate(),
        subject.optimizer,
        steps=cell.steps,
        device=CPU,
        published=published,
        settings=FitSettings(seed=seed),
    )
    seconds_a_step = (before + _seconds_a_step(training, timed)) / 2
    return {
        "lr": found.suggestion,
        "reason": found.reason,
        "published": published,
        "cost": found.steps / cell.steps,
        "cost_seconds": found.seconds / (seconds_a_step * cell.steps),
    }


def _seconds_a_step(training: Iterator[StepRecord], steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        next(training)
    return (time.perf_counter() - started) / max(1, steps)


def _middle(lrs: list[float | None]) -> float | None:
    """The median on log lr of those that there are."""
    known = [math.log(lr) for lr in lrs if lr is not None]
    return math.exp(median(known)) if known else None


def _trained_at(cell: Cell, data: Dataset, lr: float | None, truth: Truth, results: Path) -> dict[str, Any] | None:
    """Whole trainings at our suggestion, scored as the grid was; kept beside its truth."""
    if lr is None:
        return None
    file = results / "trained" / f"{cell.name}.json"
    kept = json.loads(file.read_text()) if file.is_file() else []
    scores = []
    for seed in TRAINED_SEEDS:
        same = [one for one in kept if one["seed"] == seed and math.isclose(one["lr"], lr, rel_tol=1e-9)]
        if not same:
            same = [trained(cell, data, lr=lr, seed=seed)]
            kept += same
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json.dumps(kept).encode())
        lost = same[0]["diverged"] or not math.isfinite(same[0]["score"])
        scores.append(truth.worst if lost else same[0]["score"])
    return {"lr": lr, "score": mean(scores), "hit": truth.within_noise(mean(scores))}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Hits of every rule with the 95 % Wilson interval, the share over all seeds, and our median cost."""
    rules = {}
    for name in rows[0]["rules"]:
        hits = sum(row["rules"][name]["hit"] for row in rows)
        interval = wilson(hits, len(rows))
        rules[name] = {
            "hits": hits,
            "cells": len(rows),
            "share": hits / len(rows),
            "interval": [interval.low, interval.high],
            "share_of_all_seeds": mean(row["rules"][name]["share"] for row in rows),
        }
    summary = {
        "rules": rules,
        "cost": median(row["cost"] for row in rows),
        "cost_seconds": median(row["cost_seconds"] for row in rows),
        "goal": GOAL,
        "cost_goal": COST_GOAL,
    }
    if "trained" in rows[0]:
        summary["trained_hits"] = sum(row["trained"] is not None and row["trained"]["hit"] for row in rows)
    return summary


def reached(summary: dict[str, Any]) -> bool:
    hits = {name: summary["rules"][name]["hits"] for name in (OURS, *RULES)}
    best = all(hits[OURS] > hits[name] for name in RULES)
    return bool(summary["rules"][OURS]["share"] >= GOAL and best and summary["cost"] < COST_GOAL)


def _line(row: dict[str, Any]) -> str:
    low, high = row["window"]
    parts = [f"{row['cell']:<29} {low:7.1e} to {high:7.1e}"]
    for name, found in row["rules"].items():
        lr = "none" if found["lr"] is None else f"{found['lr']:.1e}"
        parts.append(f"{SHORT.get(name, name)} {lr:>7}{'+' if found['hit'] else '-'}")
    parts.append(f"cost {row['cost']:.1%} of the steps, {row['cost_seconds']:.1%} of the time")
    if row.get("trained"):
        parts.append(
            f"trained {row['trained']['score']:.3f}{'+' if row['trained']['hit'] else '-'} of {row['best']:.3f}"
        )
    return "  ".join(parts)


def _totals(summary: dict[str, Any]) -> str:
    lines = ["", f"{'rule':<16} {'hits':>5}  share (95 %)          all seeds"]
    for name, found in summary["rules"].items():
        low, high = found["interval"]
        share = f"{found['share']:6.1%} ({low:.0%} to {high:.0%})"
        lines.append(
            f"{name:<16} {found['hits']:>2}/{found['cells']:<2}  {share:<20}  {found['share_of_all_seeds']:6.1%}"
        )
    if "trained_hits" in summary:
        lines.append(f"trained at our suggestion: {summary['trained_hits']} of {summary['rules'][OURS]['cells']}")
    lines.append(f"cost: {summary['cost']:.1%} of the steps, {summary['cost_seconds']:.1%} of the seconds (median)")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        help="folder of cats-dogs, flowers12, camvid-small and bccd; default: TRAINWRIGHT_DATA's archives",
    )
    kept = platformdirs.user_cache_path("trainwright") / "lr-range"
    parser.add_argument("--results", type=Path, default=kept, help="where the truth is kept (default: %(default)s)")
    parser.add_argument("--cells", nargs="+", choices=[cell.name for cell in CELLS], metavar="NAME", help="only these")
    parser.add_argument("--kept", action="store_true", help="only cells whose truth has been measured")
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=3, help="of our test")
    parser.add_argument("--train", action="store_true", help="whole trainings at our suggestions, too")
    parser.add_argument("--picture", type=Path, help="truth and suggestions of every cell as a PNG file")
    parser.add_argument(
        "--dry", action="store_true", help="one cell of a few steps: whether everything runs; exits with 0"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
