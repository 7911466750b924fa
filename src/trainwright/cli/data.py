"""`trainwright inspect`: what is in a dataset and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from trainwright.cli import options
from trainwright.data.problems import counted, few
from trainwright.errors import DataError

if TYPE_CHECKING:
    from trainwright.records import TargetKind

SHOWN_FILES = 10
SHOWN_CLASSES = 12
SAID_APART = frozenset(
    {
        "schema", "task", "target", "classes", "images", "counts", "numbers", "problems", "fingerprint", "targets_fingerprint"
    }
)  # fmt: skip


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="What is in a dataset, and what is wrong with it.",
        epilog="Examples:\n\n  trainwright inspect photos/\n\n  trainwright inspect labels.csv --target species --json",
    )(inspect)


def inspect(
    data: options.Data,
    target: options.Target = None,
    task: options.TaskName = None,
    workers: options.Workers = 0,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> int:
    """Say what is in DATA and what is wrong with it; exit code 3 if it cannot be trained on."""
    from trainwright.cli.reporters import choose_reporter
    from trainwright.data.dataset import open_dataset

    reporter = choose_reporter(quiet=quiet)
    dataset = open_dataset(data, target=target, task=task, workers=workers, progress=reporter.progress)
    content = {"schema": "trainwright.data/1", **dataset.describe()}
    if as_json:
        print(json.dumps(content))
    else:
        _show(content)
    return DataError.exit_code if dataset.refusals() else 0


def _show(content: Mapping[str, Any]) -> None:
    print(f"task         {_headline(content)}")
    for part, counts in content["counts"].items():
        print(f"{part:<12} {counted(content['images'][part], 'image')}{_amounts(content['target'], counts)}")
    for name, spread in content.get("numbers", {}).items():
        print(f"{name:<12} {spread['min']:g} to {spread['max']:g}, median {spread['median']:g}")
    for key, value in content.items():
        if key not in SAID_APART:
            print(f"{key.replace('_', ' '):<12} {_plain(value)}")
    print(f"fingerprint  {content['fingerprint'][:16]}")
    if not content["problems"]:
        print("problems     none found")
    single: dict[str, list[Mapping[str, Any]]] = {}  # of one file each, by kind: there may be thousands
    several = [problem for problem in content["problems"] if len(problem["files"]) != 1]
    for problem in content["problems"]:
        if len(problem["files"]) == 1:
            single.setdefault(problem["kind"], []).append(problem)
    for first, *more in single.values():
        if more:
            files = [f"{problem['files'][0]}: {problem['message']}" for problem in (first, *more)]
            _show_problem(first, counted(len(files), "file"), files)
        else:
            _show_problem(first, first["message"], first["files"])
    for problem in several:
        _show_problem(problem, problem["message"], problem["files"])


def _headline(content: Mapping[str, Any]) -> str:
    """'detection, 3 classes', 'regression, 1 number column: red_cells'."""
    names = content["classes"]
    if content["target"] == "numbers":
        return f"{content['task']}, {counted(len(names), 'number column')}: {few(names, limit=SHOWN_CLASSES)}"
    return f"{content['task']}, {len(names)} class{'' if len(names) == 1 else 'es'}"


def _amounts(target: TargetKind, counts: Mapping[str, int]) -> str:
    """How much of each class there is: of images and boxes their number, of pixels their share."""
    if target == "numbers":
        return ""
    total = sum(counts.values())
    if target == "mask":
        shown = [f"{name} {100 * count / max(total, 1):.2g} %" for name, count in counts.items()]
    else:
        shown = [f"{name} {count:,}" for name, count in counts.items()]
    unit = {"mask": ", pixels", "boxes": f", {total:,} boxes"}.get(target, "")
    return f"{unit}: {', '.join(shown[:SHOWN_CLASSES])}{', …' if len(shown) > SHOWN_CLASSES else ''}"


def _show_problem(problem: Mapping[str, Any], message: str, files: Sequence[str]) -> None:
    print(f"{problem['severity']:<12} {problem['kind']}: {message}")
    for file in files[:SHOWN_FILES]:
        print(f"{'':<13}{file}")
    if len(files) > SHOWN_FILES:
        print(f"{'':<13}and {len(files) - SHOWN_FILES:,} more (--json names all)")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " × ".join(_plain(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
