"""How a run is carried out, as against what it is: `RunOptions`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from trainwright.errors import UsageError
from trainwright.workflows.reporting import Reporter, Silent
from trainwright.workflows.training import CHECKPOINT_SECONDS

MIRRORS = ("mlflow", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run is carried out, as against what it is: none of this changes its result, but for `processes`.

    runs: folder of run folders. device: auto, cpu, cuda, cuda:N. workers: loader threads. offline: fetch nothing.
    mirrors: of mlflow and tensorboard, those to copy the record to; None: those installed. threads: of torch on the CPU;
    None leaves them. slots: trainings of a study at a time; None: as many as pay. executor: of a study, `local` in processes of
    this machine, `ray` on a cluster, `auto` as it began, at first local; address: of the cluster, as `execution/ray.py` has it;
    alone it means ray. processes: of one training, which share each of its steps (`workflows/crew.py`); None: one, or as it
    began; batch norm then sees fewer images at a time. stop_asked: polled between steps; the run then saves and ends.
    checkpoint_seconds: the most work that a kill costs. report: whether a run that has finished writes its
    page, `report.html`.
    """

    runs: Path = Path("runs")
    device: str = "auto"
    workers: int = 2
    offline: bool = False
    mirrors: Sequence[str] | None = None
    threads: int | None = None
    slots: int | None = None
    executor: str = "auto"
    address: str | None = None
    processes: int | None = None
    reporter: Reporter = field(default_factory=Silent)
    stop_asked: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = CHECKPOINT_SECONDS
    report: bool = True


def options_from(options: RunOptions | None, more: Mapping[str, Any]) -> RunOptions:
    """`options` with fields replaced by keywords of the same names. Raises TypeError for an unknown one."""
    known = {f.name for f in fields(RunOptions)}
    unknown = set(more) - known
    if unknown:
        raise TypeError(f"unexpected argument {sorted(unknown)[0]!r}; known options: {', '.join(sorted(known))}")
    changes: dict[str, Any] = {key: Path(value) if key == "runs" else value for key, value in more.items()}
    if isinstance(changes.get("mirrors"), str):
        changes["mirrors"] = parse_mirrors(changes["mirrors"])
    elif changes.get("mirrors"):
        changes["mirrors"] = parse_mirrors(",".join(changes["mirrors"]))
    return replace(options or RunOptions(), **changes)


def installed_mirrors() -> tuple[str, ...]:
    """Those of mlflow and tensorboard that are installed, or what TRAINWRIGHT_MIRRORS says (`none`, or names)."""
    asked = os.environ.get("TRAINWRIGHT_MIRRORS")
    if asked is not None:
        return parse_mirrors(asked)
    return tuple(name for name in MIRRORS if importlib.util.find_spec(name) is not None)


def parse_mirrors(text: str) -> tuple[str, ...]:
    """`mlflow,tensorboard` or `none` as names. Raises UsageError for another name."""
    names = tuple(name.strip() for name in text.split(",") if name.strip() not in ("", "none"))
    unknown = [name for name in names if name not in MIRRORS]
    if unknown:
        raise UsageError(f"no such mirror {unknown[0]!r}.", where="mirrors", cure=f"Known: {', '.join(MIRRORS)}, none.")
    return names
