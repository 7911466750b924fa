"""Is the first finding the fault that was planted? Ten conditions × three datasets × five seeds, and the rules that others use.

A cell (`diagnosis_cells.py`) is a training with one fault planted in its data or its recipe; healthy has none. Its run is judged,
the probes that would tell are run, and it is judged again: all as `trainwright diagnose RUN --probe auto` does it. The first
finding that holds and asks for something counts; of healthy runs any such finding is an alarm. It is false unless it is true of
this dataset's healthy runs on average (`diagnosis_effect.true_of`: their mean gap, what the probes gain); both are told.

Classes have ten more healthy runs of each dataset, so that the share of false alarms can be told.

Beside it two rules of thumb on the same runs: (val loss − train loss) / train loss > 0.1 at the end, and an unseen loss that
ended above its lowest. Each says overfits or nothing, and is right where that is what was planted.

Coverage: how often the gap's 95 % interval, on DRAWN unseen images drawn from the pool, covers the gap measured on the rest
of the pool and on all train images, in healthy and tiny-train runs of cats-dogs.

What the trainings of a cell showed is kept in --results, one JSON file each, so that it can be stopped and gone on with, and the
rules can be changed without training again: --kept judges what is there.

    python benchmarks/diagnosis.py [--data FOLDER] [--results FOLDER] [--cells DATA.CONDITION.SEED …] [--seeds 0 1 …] [--kept]

Maps (camvid) and counts (red cells in quarters of bccd's photographs) are a table of their own. A condition counts there where it
applies: where what was planted changes the unseen score beyond its interval (`diagnosis_effect.py`), whatever the rules say
of it. Probes that cannot change their first finding any more are not run.

Exits with 0 if the first finding is right in 90 % of the planted cells (80 % of maps and counts), at most 5 % of the healthy ones
are false alarms and 93–97 % of the intervals cover; else with 4.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line sets it

import numpy as np
import platformdirs
import torch

from diagnosis_cells import (
    CONDITIONS,
    HEALTHY,
    OTHERS,
    SETTINGS,
    Condition,
    Setting,
    data_of,
    recipe_of,
    right_of,
)
from diagnosis_effect import effect_of, matters, mean_effect, of_healthy, tally_of, true_of
from diagnosis_networks import register_networks
from lr_cells import Cell, folders
from trainwright.data.dataset import Dataset
from trainwright.diagnosis.evidence import Evidence, ProbeResult
from trainwright.diagnosis.gap import gap
from trainwright.diagnosis.recorded import as_json, from_json
from trainwright.diagnosis.rules import first_fault, judge
from trainwright.diagnosis.wording import points_within
from trainwright.errors import NonFiniteLossError
from trainwright.files import write_atomically
from trainwright.seeding import stream
from trainwright.training.repeatable import repeatable
from trainwright.workflows import judge as judging
from trainwright.workflows.diagnose import diagnose, evidence_of
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import prepare
from trainwright.workflows.run import Run, train
from trainwright.workflows.run import recipe_of as recipe_of_run
from trainwright.workflows.training import Training

SEEDS, HEALTHY_SEEDS = (0, 1, 2, 3, 4), tuple(range(15))  # a share of 5 % cannot be seen in three times five runs
RIGHT, FALSE_ALARMS, COVERED = 0.90, 0.05, (0.93, 0.97)
RIGHT_OF_OTHERS = 0.80  # of maps and counts
RATIO = 0.1  # of the rule of thumb
DRAWN, DRAWS, LEAST_CASES = 100, 40, 200  # unseen images of an interval, intervals a run, and how many make a coverage
COVERED_CONDITIONS = (HEALTHY, "tiny-train")
NONE = "none"
BEFORE_PROBES = (
    "diverged",
    "unstable",
    "twins",
    "validation-shifted",
)  # rules before all others, that no probe changes


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(1)  # another number gives other bits than those that are kept
    register_networks()
    judging._draw = lambda *_: None  # pictures take longer than these trainings
    wanted = [
        (setting, condition, seed)
        for seed in arguments.seeds or HEALTHY_SEEDS
        for setting in (SETTINGS | OTHERS).values()
        for condition in CONDITIONS.values()
        if (arguments.seeds or seed in SEEDS or (condition.name == HEALTHY and setting.name in SETTINGS))
        and (not arguments.cells or f"{setting.name}.{condition.name}.{seed}" in arguments.cells)
    ]
    rows = []
    needed = [] if arguments.kept else [Cell(name, "", "", 0) for name in {setting.name for setting, _, _ in wanted}]
    with folders(arguments.data, needed) as root:
        for setting, condition, seed in wanted:
            kept = _kept(setting, condition, seed, root, arguments)
            if kept is not None:
                rows.append(_row(setting, condition, seed, kept))
                print(_line(rows[-1]), file=sys.stderr, flush=True)
    rows = with_truth([{**row, "applies": applies(row, rows)} for row in rows])
    if not rows:
        raise SystemExit(f"diagnosis.py: nothing has been measured in {arguments.results}.")
    tables = {}
    for name, settings in (("classes", SETTINGS), ("others", OTHERS)):
        of_these = [row for row in rows if row["data"] in settings]
        if of_these:
            tables[name] = _summary(of_these)
            print(f"\n{', '.join(settings)}{_totals(of_these, tables[name])}", file=sys.stderr)
    print(json.dumps({"benchmark": "diagnosis", "tables": tables, "cells": rows}))
    return 0 if reached(tables) else 4


def _kept(
    setting: Setting, condition: Condition, seed: int, root: Path, arguments: argparse.Namespace
) -> dict[str, Any] | None:
    """What the trainings of a cell showed; measured where it is not there yet, None where it is not to be."""
    file = arguments.results / f"{setting.name}.{condition.name.replace('/', '÷')}.{seed}.json"
    if file.is_file():
        found: dict[str, Any] = json.loads(file.read_text())
        return found
    if arguments.kept:
        return None
    beside = arguments.results / f"{setting.name}.{HEALTHY}.{seed}.json"
    healthy = json.loads(beside.read_text()) if setting.name in OTHERS and beside.is_file() else None
    measured = measure(setting, condition, seed, root, healthy)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(measured).encode())
    return measured


def measure(
    setting: Setting, condition: Condition, seed: int, root: Path, healthy: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Train the cell, probe it, and give all that the rules look at, with what its coverage and its effect need.

    healthy: what was measured of the healthy cell of maps or counts.
    """
    started, worked = time.perf_counter(), time.process_time()
    data, pool = data_of(setting, condition, seed, root)
    recipe = recipe_of(setting, condition, seed)
    with tempfile.TemporaryDirectory() as place:
        options = RunOptions(runs=Path(place), mirrors=(), workers=0)
        try:
            run = train(data, recipe, options=options)
        except NonFiniteLossError as error:
            evidence = Evidence(
                train_loss=(), val_loss=(), train_score=(), val_score=(), val_count=0, train_count=0, chance_score=0.0,
                diverged=True,
            )  # fmt: skip
            return {"evidence": as_json(evidence), "note": error.message, **_spent(started, worked)}
        settled = setting.name in OTHERS and first_fault(judge(evidence_of(run._folder))[1]) in BEFORE_PROBES
        diagnose(run, probes=() if settled else "auto", data=data, options=options)
        measured: dict[str, Any] = {"evidence": as_json(evidence_of(run._folder))}
        if setting.name in OTHERS:
            measured |= {"tally": tally_of(run), "effect": effect_of(run, data, healthy, options)}
        if pool is not None and condition.name in COVERED_CONDITIONS:
            measured["right"] = _right(run, data, pool, options)
    return {**measured, **_spent(started, worked)}


def _spent(started: float, worked: float) -> dict[str, float]:
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - worked, 2),
    }


def _right(run: Run, data: Dataset, pool: Dataset, options: RunOptions) -> dict[str, str]:
    """Whether the run's model is right about each train image and each image of the pool, as 0 and 1."""
    recipe = recipe_of_run(run._folder)
    answers = {}
    for part, dataset in (("train", data), ("pool", pool)):
        prepared = prepare(dataset, recipe, device=torch.device("cpu"), workers=0, reporter=options.reporter)
        with repeatable(prepared.device, None), run._folder:
            training = Training(run._folder, prepared, workers=0, reporter=options.reporter)
            rows = prepared.split.train if part == "train" else prepared.split.val
            scores = prepared.task.scores(training.evaluate(rows))
        answers[part] = "".join(str(int(right)) for right in scores.per_image)
    return answers


def _row(setting: Setting, condition: Condition, seed: int, kept: dict[str, Any]) -> dict[str, Any]:
    evidence = from_json(Evidence, kept["evidence"])
    verdict, findings = judge(evidence)
    alone, before = judge(replace(evidence, probes={}))
    first = first_fault(findings) or NONE
    row = {
        "data": setting.name,
        "condition": condition.name,
        "seed": seed,
        "first": first,
        "right": first in right_of(setting.name, condition) if condition.right else first == NONE,
        "effect": kept.get("effect"),
        "verdict": verdict,
        "found": [found.rule for found in findings if found.verdict == "yes"],
        "without_probes": {"verdict": alone, "first": first_fault(before) or NONE},
        "train_error": None if evidence.gap is None else evidence.gap.train_error.value,
        "val_error": None if evidence.gap is None else evidence.gap.val_error.value,
        "probes": {name: _drops(probe) for name, probe in evidence.probes.items()},
        "thumb": _rules_of_thumb(evidence),
        "covered": _coverage(kept["right"], seed) if "right" in kept else [],
        "seconds": kept["seconds"],
        "cpu_seconds": kept["cpu_seconds"],
    }  # fmt: skip
    row["thumb_right"] = {name: says == ("overfits" in condition.right) for name, says in row["thumb"].items()}
    return row


def applies(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> bool:
    """Whether what was planted changes the unseen score, of maps and counts over all seeds; of classes all conditions count."""
    if row["data"] in SETTINGS or row["condition"] == HEALTHY:
        return True
    same = [one for one in rows if (one["data"], one["condition"]) == (row["data"], row["condition"])]
    return matters([one["effect"] for one in same])


def with_truth(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, those of healthy runs with whether they raise an alarm; a true one is right, and so is a rule of thumb's."""
    true = true_of([row for row in rows if row["condition"] == HEALTHY])
    judged = []
    for row in rows:
        if row["condition"] == HEALTHY:
            rules = true.get(row["data"], ())
            thumb = {name: right or "overfits" in rules for name, right in row["thumb_right"].items()}
            row = {
                **row,
                "alarm": row["first"] != NONE,
                "right": row["first"] in (NONE, *rules),
                "true": rules,
                "thumb_right": thumb,
            }
        judged.append(row)
    return judged


def _drops(probe: ProbeResult) -> list[float] | None:
    """By how much less the train and the unseen error are; None where nothing was trained."""
    if probe.train_drop is None or probe.val_drop is None:
        return None
    return [probe.train_drop.value, probe.val_drop.value]


def _rules_of_thumb(evidence: Evidence) -> dict[str, bool]:
    """Does each say that it overfits? A run without a finite loss says nothing."""
    train, val = evidence.train_loss, [loss for loss in evidence.val_loss if np.isfinite(loss)]
    if not val or not train or not np.isfinite(train[-1]):
        return {"loss ratio": False, "loss rose": False}
    return {"loss ratio": (val[-1] - train[-1]) / train[-1] > RATIO, "loss rose": val[-1] > min(val)}


def _coverage(right: dict[str, str], seed: int) -> list[bool]:
    """Whether the interval on each draw of unseen images covers the gap on the rest of the pool."""
    train, pool = (np.array(list(right[part]), dtype=np.float64) for part in ("train", "pool"))
    covered = []
    for draw in range(DRAWS):
        order = stream(seed, "coverage", draw).permutation(len(pool))
        scored = stream(seed, "scored", draw).permutation(len(train))[:DRAWN]
        found = gap(train[scored], pool[order[:DRAWN]], train_total=len(train)).interval
        truth = float(train.mean() - pool[order[DRAWN:]].mean())
        covered.append(bool(found.low <= truth <= found.high))
    return covered


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    every = [row for row in rows if row["condition"] != HEALTHY]
    planted = [row for row in every if row["applies"]]
    healthy = [row for row in rows if row["condition"] == HEALTHY]
    covered = [one for row in rows for one in row["covered"]]
    return {
        "right": _share([row["right"] for row in planted]),
        "right_of_all": _share([row["right"] for row in every]),
        "effects": _effects(every),
        "alarms": _share([row["alarm"] for row in healthy]),
        "false_alarms": _share([not row["right"] for row in healthy]),
        "thumb": {name: _share([row["thumb_right"][name] for row in rows]) for name in ("loss ratio", "loss rose")},
        "thumb_planted": {
            name: _share([row["thumb_right"][name] for row in planted]) for name in ("loss ratio", "loss rose")
        },
        "all": _share([row["right"] for row in rows]),
        "coverage": _share(covered),
        "cells": len(rows),
        "cpu_seconds": sum(row["cpu_seconds"] for row in rows),
        "goal": {"right": RIGHT, "false_alarms": FALSE_ALARMS, "coverage": list(COVERED)},
    }


def _effects(planted: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """By how much what was planted lowers the unseen score, with its limits: the mean over seeds, by data and condition."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in planted:
        if row["effect"] is not None:
            found.setdefault(f"{row['data']}.{row['condition']}", []).append(row["effect"])
    means = {name: mean_effect(effects) for name, effects in found.items()}
    return {name: [round(limit, 4) for limit in (mean.value, mean.low, mean.high)] for name, mean in means.items()}


def _share(answers: Sequence[bool]) -> dict[str, Any]:
    return {"count": int(sum(answers)), "of": len(answers), "share": sum(answers) / len(answers) if answers else None}


def reached(tables: dict[str, Any]) -> bool:
    """Whether the goals are reached; those of maps and counts only where these were measured."""
    if "classes" not in tables:
        return False
    right, alarms, coverage = (tables["classes"][name] for name in ("right", "false_alarms", "coverage"))
    if not (right["of"] and alarms["of"] and coverage["of"] >= LEAST_CASES):
        return False
    low, high = COVERED
    found = right["share"] >= RIGHT and alarms["share"] <= FALSE_ALARMS and low <= coverage["share"] <= high
    others = tables.get("others")
    return bool(found and (others is None or others["right"]["share"] >= RIGHT_OF_OTHERS))


def _line(row: dict[str, Any]) -> str:
    def said(value: float | None) -> str:
        return "  –  " if value is None else f"{value:.3f}"

    probes = ", ".join(
        f"{name} {'–' if drops is None else f'{drops[0]:+.2f} {drops[1]:+.2f}'}"
        for name, drops in row["probes"].items()
    )
    return (
        f"{'+' if row['right'] else '-'} {row['data']:<10} {row['condition']:<11} {row['seed']}  "
        f"train {said(row['train_error'])} val {said(row['val_error'])}  {row['verdict']:<12} {row['first']:<18} "
        f"{row['cpu_seconds']:5.1f} s  [{', '.join(row['found'])}]  {probes}"
    )


def _totals(rows: Sequence[dict[str, Any]], summary: dict[str, Any]) -> str:
    """The confusion matrix of first findings, and the shares."""
    firsts = sorted({row["first"] for row in rows})
    counts = Counter((row["condition"], row["first"]) for row in rows)
    lines = ["", f"{'planted':<12}" + "".join(f"{first:>19}" for first in firsts)]
    lines += [
        f"{name:<12}" + "".join(f"{counts[name, first] or '·':>19}" for first in firsts)
        for name in CONDITIONS
        if any(row["condition"] == name for row in rows)
    ]
    lines.append("")
    for name, share in (
        ("first finding right", summary["right"]),
        ("alarms on healthy", summary["alarms"]),
        ("false ones of them", summary["false_alarms"]),
        ("interval covers", summary["coverage"]),
        ("all cells right", summary["all"]),
        *((f"all cells, {name}", found) for name, found in summary["thumb"].items()),
    ):
        shown = "–" if share["share"] is None else f"{share['share']:.1%}"
        lines.append(f"{name:<24} {share['count']:>4} of {share['of']:<4} {shown}")
    lines.append("")
    healthy = [row for row in rows if row["condition"] == HEALTHY]
    true = {row["data"]: row["true"] for row in healthy}
    for data, measured in of_healthy(healthy).items():
        said = "; ".join(f"{name} {points_within(mean)}" for name, mean in measured.items())
        lines.append(f"healthy {data}, mean of its seeds: {said}; true of them: {', '.join(true[data]) or 'nothing'}")
    if summary["effects"]:
        shown = summary["right_of_all"]
        lines += [f"{'with those of no effect':<24} {shown['count']:>4} of {shown['of']:<4} {shown['share']:.1%}", ""]
        lines += [
            f"{name:<24} lowers the unseen score by {value:+.3f} ({low:+.3f} to {high:+.3f})"
            for name, (value, low, high) in summary["effects"].items()
        ]
    lines.append(f"{summary['cells']} cells, {summary['cpu_seconds'] / 60:.1f} CPU minutes")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder of cats-dogs and flowers12; default: TRAINWRIGHT_DATA's archives"
    )
    kept = platformdirs.user_cache_path("trainwright") / "diagnosis"
    parser.add_argument("--results", type=Path, default=kept, help="where cells are kept (default: %(default)s)")
    parser.add_argument("--cells", nargs="+", metavar="NAME", help="only these, as digits.healthy.0")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="only these, of every condition")
    parser.add_argument("--kept", action="store_true", help="only cells that have been measured")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
