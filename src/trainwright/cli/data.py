"""`trainwright inspect`: what is in a dataset and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from trainwright.cli import options
from trainwright.data.problems import counted
from trainwright.errors import DataError

SHOWN_FILES = 10


def add_to(app: typer.Typer) -> None:
    app.command(
        epilog="Examples:\n\n  trainwright inspect photos/\n\n  trainwright inspect labels.csv --target species --json"
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
    print(f"task         {content['task']}, {len(content['classes'])} classes")
    for part, counts in content["counts"].items():
        total = sum(counts.values())
        shown = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:12])
        print(f"{part:<12} {total:,} images: {shown}{', …' if len(counts) > 12 else ''}")
    for key, value in content.items():
        if key not in ("schema", "task", "classes", "counts", "problems", "fingerprint"):
            print(f"{key.replace('_', ' '):<12} {_plain(value)}")
    print(f"fingerprint  {content['fingerprint'][:16]}")
    if not content["problems"]:
        print("problems     none found")
    by_kind: dict[str, list[Mapping[str, Any]]] = {}
    for problem in content["problems"]:
        by_kind.setdefault(problem["kind"], []).append(problem)
    for problems in by_kind.values():
        _show_problems(problems)


def _show_problems(problems: Sequence[Mapping[str, Any]]) -> None:
    """All problems of one kind: the message once where it is the same for all, otherwise after each file."""
    first, several = problems[0], len({problem["message"] for problem in problems}) > 1
    lines = [
        f"{file}: {problem['message']}" if several else file for problem in problems for file in problem["files"]
    ]
    print(f"{first['severity']:<12} {first['kind']}: {counted(len(lines), 'file') if several else first['message']}")
    for line in lines[:SHOWN_FILES]:
        print(f"{'':<13}{line}")
    if len(lines) > SHOWN_FILES:
        print(f"{'':<13}and {len(lines) - SHOWN_FILES:,} more (--json names all)")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " × ".join(_plain(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
