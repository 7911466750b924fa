"""The registry of mirrors, and what every mirror shows of a run: scalars, parameters, tags."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainwright.errors import MissingPackageError
from trainwright.plugins import Mirror, Registry
from trainwright.tracking.run_folder import RECIPE, RunFolder

mirrors: Registry[Callable[[], Mirror]] = Registry(
    name="mirrors", what="mirror", where="mirrors", room="trainwright.tracking"
)

FINAL = "trainwright.final/1"  # schema of what an opening of the test part leaves in a run folder
NOT_SCALARS = frozenset({"kind", "time", "epoch", "step"})
MOST_CLASSES = 100  # whose scores go to the stores one by one; the run folder has those of more
STEP_CURVES = ("loss", "lr", "momentum")  # of a steps record: lists, a value a step
ALL_STEPS = 256  # a power of two: below it `step_scalars` has every one
RENAMED = {"seconds": "epoch_seconds"}  # `seconds` is the whole run's


@dataclass(frozen=True, kw_only=True, slots=True)
class Scalar:
    """A number of a run. step: the epoch, for all but `train_step/…`. time: epoch seconds when it was recorded."""

    name: str
    step: int
    value: float
    time: float


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def need(package: str) -> None:
    """Raises MissingPackageError where the optional package of a mirror is not installed."""
    if not installed(package):
        raise MissingPackageError(
            f"the package {package!r} is not installed.", cure=f"Install it: pip install 'trainwright[{package}]'."
        )


def epoch_scalars(record: Mapping[str, Any]) -> list[Scalar]:
    """An epoch record's finite numbers: train/loss, val/score, train_running/loss, lr, images_per_second, …"""
    return [
        Scalar(name=RENAMED.get(name, name), step=record["epoch"], value=value, time=record["time"])
        for name, value in _numbers(record)
        if name not in NOT_SCALARS
    ]


def step_scalars(record: Mapping[str, Any]) -> list[Scalar]:
    """A steps record's finite numbers: train_step/loss, train_step/lr, thinned for a store that is no place for millions.

    Every step below 256, every second one below 512, every fourth below 1024, …: by the step alone, so that whoever is asked
    chooses the same.
    """
    return [
        Scalar(name=f"train_step/{name}", step=step, value=value, time=record["time"])
        for name in STEP_CURVES
        for step, value in enumerate(record.get(name) or (), start=record["first_step"])
        if value is not None and step % max(1, 2 ** step.bit_length() // ALL_STEPS) == 0
    ]


def range_scalars(record: Mapping[str, Any]) -> list[Scalar]:
    """A learning-rate range test's finite numbers: lr_range/loss and lr_range/lr along the sweep, its points as steps, and at
    step 0 lr_range/low, high and suggested where it could tell."""
    low, high = record.get("interval") or (None, None)
    curves = {"lr": record["lrs"], "loss": record["smooth"]}
    answer = {"low": [low], "high": [high], "suggested": [record.get("suggestion")]}
    return [
        Scalar(name=f"lr_range/{name}", step=step, value=value, time=record["time"])
        for name, values in {**curves, **answer}.items()
        for step, value in enumerate(values)
        if value is not None
    ]


def closing_scalars(run: RunFolder) -> list[Scalar]:
    """What a finished run came to, at its last epoch: gap, gap_low, gap_high, seconds, best_score, the task's further figures
    of the kept weights on unseen images (val/mae, val/class/sky); nothing of a run that has not finished."""
    result = run.result()
    epochs = list(run.records("epoch")) if result else []
    if not result or not epochs:
        return []
    gap = result.get("gap") or {}
    scores = [epoch["val"]["score"] for epoch in epochs if (epoch.get("val") or {}).get("score") is not None]
    values = {
        "gap": gap.get("value"),
        "gap_low": gap.get("low"),
        "gap_high": gap.get("high"),
        "seconds": result.get("seconds"),
        "best_score": max(scores, default=None),
        **{f"val/{name}": entry["value"] for name, entry in (result.get("metrics") or {}).get("val", {}).items()},
    }
    of_classes = result.get("per_class") or {}
    if len(of_classes) <= MOST_CLASSES:
        values |= {f"val/class/{name}": value for name, value in of_classes.items()}
    last = epochs[-1]
    return [
        Scalar(name=_metric_name(name), step=last["epoch"], value=value, time=last["time"])
        for name, value in values.items()
        if value is not None
    ]


def openings_told(run: RunFolder) -> list[Mapping[str, Any]]:
    """What `finalise` found each time that it opened the test part for this run: `trainwright.final/1`, the first one first."""
    found = []
    for file in sorted(run.path.glob("test*.json")):
        with contextlib.suppress(ValueError):  # half of a file, of a folder that was copied
            content = json.loads(file.read_bytes())
            found += [content] if isinstance(content, dict) and content.get("schema") == FINAL else []
    return sorted(found, key=lambda one: float(one.get("time") or 0.0))


def opening_scalars(run: RunFolder) -> list[Scalar]:
    """Of every opening of the test part, as steps from 0: test/score with its limits, and how often it had been opened before."""
    scalars = []
    for step, opening in enumerate(openings_told(run)):
        values = {f"test/{name}": value for name, value in opening["test"].items()}
        values["test/opened_before"] = opening["opened_before"]
        at = float(opening.get("time") or 0.0)
        scalars += [
            Scalar(name=name, step=step, value=value, time=at) for name, value in values.items() if value is not None
        ]
    return scalars


def _metric_name(name: str) -> str:
    """The name in what every store takes: letters, digits and `_-. :/`. 'R² height' → 'R2 height'."""
    plain = unicodedata.normalize("NFKC", name)
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in plain)


def parameters(run: RunFolder) -> dict[str, Any]:
    """The recipe as dotted keys and plain values; lists as JSON text, null as None."""
    from trainwright.yaml_text import load_yaml  # pydantic: only here

    return dict(_leaves(load_yaml(run.path / RECIPE)))


def tags(run: RunFolder) -> dict[str, str]:
    """What a run is searched by besides its parameters."""
    dataset = run.manifest.get("dataset")
    values = {
        "verdict": (run.result() or {}).get("verdict"),
        "code_version": run.manifest.get("code"),
        "dataset_fingerprint": dataset.get("fingerprint") if isinstance(dataset, Mapping) else None,
        "source": _command(run.manifest.get("command")),
        "test_note": next((opening["note"] for opening in reversed(openings_told(run))), None),
    }
    return {name: _text(value) for name, value in values.items() if value is not None}


def figure_tag(record: Mapping[str, Any]) -> tuple[str, int]:
    """A figure record's tag and step: ('figures/confusion-val', 4) for confusion-val-epoch-0004.png.

    Without an epoch in the name it is the record's, else 0.
    """
    whole = Path(record["name"]).stem
    stem, _, number = whole.rpartition("-epoch-")
    if stem and number.isdecimal():
        return f"figures/{stem}", int(number)
    return f"figures/{whole}", int(record.get("epoch") or 0)


def _numbers(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items() if isinstance(tree, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list) else value


def _command(command: Any) -> str | None:
    return " ".join(str(word) for word in command) if isinstance(command, list | tuple) else command


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
