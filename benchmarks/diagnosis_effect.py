"""What is true of the cells, whatever the rules say of them.

Of a planted condition: whether it matters on this data, by how much the unseen score differs from that of the healthy training.
It applies where the mean over its seeds of (healthy − planted) surely is not zero, on the unseen images that each run was judged
by. Where the training broke down, it applies.

Of runs in which nothing was planted: whether something is wrong all the same. A few hundred images of twelve classes are few
without anybody cutting them down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.gap import margin_of
from trainwright.diagnosis.stats import paired_bootstrap
from trainwright.records import Interval
from trainwright.workflows.chosen_epoch import score_of
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import prepare
from trainwright.workflows.run import Run, recipe_of

ANSWERED_BY = {
    "longer": "under-trained",
    "wider": "too-small",
    "learning-rate": "learning-rate",
    "no-regularization": "over-regularized",
}  # the rule that names the cause, by the probe that removes it
GAINED = 0.02  # of the unseen error


def tally_of(run: Run) -> list[list[float]]:
    """What each unseen image adds to the score, in the order of their rows."""
    with np.load(run.folder / "answers" / "val.npz", allow_pickle=False) as saved:
        tallies: list[list[float]] = saved["tally"].tolist()
    return tallies


def effect_of(
    run: Run, data: Dataset, healthy: Mapping[str, Any] | None, options: RunOptions
) -> dict[str, float] | None:
    """Score of the healthy training − that of `run` on the same unseen images with its 95 % interval; None without the former."""
    if healthy is None or "tally" not in healthy:
        return None
    prepared = prepare(data, recipe_of(run._folder), device=torch.device("cpu"), workers=0, reporter=options.reporter)
    found = paired_bootstrap(np.array(healthy["tally"]), np.array(tally_of(run)), score_of(prepared.task))
    return {"value": found.value, "low": found.low, "high": found.high}


def mean_effect(effects: Sequence[Mapping[str, float]]) -> Interval:
    """Their mean, with the square root of the sum of the squares of their arms as in `difference` (`diagnosis/stats.py`)."""
    value = float(np.mean([one["value"] for one in effects]))
    down = math.hypot(*(one["value"] - one["low"] for one in effects)) / len(effects)
    up = math.hypot(*(one["high"] - one["value"] for one in effects)) / len(effects)
    return Interval(value=value, low=value - down, high=value + up)


def of_healthy(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Interval]]:
    """What is true of the healthy trainings of each dataset: the mean gap over their seeds, and by how much each probe lowers the
    unseen error, with 95 % intervals of the mean. Where the gap exceeds the margin, or a probe surely gains two points, they are
    not healthy, though nothing was planted."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        if row["val_error"] is None:  # it broke down
            continue
        values = {"gap": row["val_error"] - row["train_error"]}
        values |= {name: drops[1] for name, drops in row["probes"].items() if drops is not None}
        for name, value in values.items():
            found.setdefault(row["data"], {}).setdefault(name, []).append(value)
    return {
        data: {name: _mean(values) for name, values in measured.items() if len(values) > 2}
        for data, measured in found.items()
    }


def _mean(values: Sequence[float]) -> Interval:
    value, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    reach = float(student.ppf(0.975, len(values) - 1)) * error
    return Interval(value=value, low=value - reach, high=value + reach)


def true_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Rules that are true of the healthy trainings of each dataset on average, so that naming one is no false alarm: the mean gap
    surely exceeds the margin of their mean unseen error, or what a probe changes surely gains GAINED."""
    found = {}
    for data, means in of_healthy(rows).items():
        errors = [row["val_error"] for row in rows if row["data"] == data and row["val_error"] is not None]
        rules = ["overfits"] if "gap" in means and means["gap"].low > margin_of(float(np.mean(errors))) else []
        rules += [rule for probe, rule in ANSWERED_BY.items() if probe in means and means[probe].low > GAINED]
        found[data] = tuple(rules)
    return found


def matters(effects: Sequence[Mapping[str, float] | None]) -> bool:
    """Whether the condition applies; None stands for a training that broke down."""
    known = [one for one in effects if one is not None]
    if len(known) < len(effects) or not known:
        return True
    mean = mean_effect(known)
    return mean.low > 0 or mean.high < 0
