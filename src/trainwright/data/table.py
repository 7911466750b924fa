"""`SampleTable`: which images there are, and what is known of each. What every layout reader makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainwright.data.problems import Problem, all_messages, few, printable
from trainwright.data.targets import ClassTargets, Targets
from trainwright.errors import DataError


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """Which images there are and what is known of them: one row an image.

    root: folder that paths are relative to. task: what its targets are for. paths: POSIX, sorted. targets: by row. parts:
    unicode [S], `train`, `val`, `test`, or "" where it is still to be split. groups: rows of one group stay in one part; ""
    is a row on its own. problems: what was left aside while reading.
    """

    root: Path
    task: str
    paths: tuple[str, ...]
    targets: Targets
    parts: np.ndarray
    groups: tuple[str, ...] | None = None
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the scored classes, or of the number columns."""
        return self.targets.names


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image as a layout names it."""

    path: str
    label: str
    part: str = ""
    group: str = ""


def make_table(
    root: Path,
    rows: Sequence[Row],
    *,
    where: str,
    classes: tuple[str, ...] | None = None,
    grouped: bool = False,
    problems: Sequence[Problem] = (),
    task: str = "classification",
) -> SampleTable:
    """The table of `rows` with one class each, sorted by path, with classes indexed once: in the given order, or sorted.

    Raises DataError where the classes of the parts differ, or there is only one.
    """
    rows = sorted(rows, key=lambda row: row.path)
    found = _checked_classes(rows, where=where)
    classes = found if classes is None else classes
    index = {name: number for number, name in enumerate(classes)}
    return SampleTable(
        root=root,
        task=task,
        paths=tuple(row.path for row in rows),
        targets=ClassTargets(indices=np.array([index[row.label] for row in rows], dtype=np.int64), names=classes),
        parts=np.array([row.part for row in rows], dtype="U5"),
        groups=tuple(row.group for row in rows) if grouped else None,
        problems=tuple(problems),
    )


def _checked_classes(rows: Sequence[Row], *, where: str) -> tuple[str, ...]:
    """Sorted class names of train, or of the whole without parts. Raises DataError where another part's differ."""
    by_part: dict[str, set[str]] = {}
    for row in rows:
        by_part.setdefault(row.part, set()).add(row.label)
    known = by_part.get("") or by_part.get("train")
    if known is None:
        raise DataError(
            f"there is no train part, only {few(sorted(by_part))}.", where=where, cure="Add one, or drop the parts."
        )
    found = []
    for part in ("val", "test"):
        if part in by_part:
            if unknown := sorted(by_part[part] - known):
                found.append(f"in {part} but not in train: {few(unknown, limit=20)}.")
            if missing := sorted(known - by_part[part]):
                found.append(f"in train but not in {part}: {few(missing, limit=20)}.")
    if found:
        cure = "Every part needs the same classes: rename, add or remove them."
        raise DataError(f"classes differ between parts: {all_messages(found)}", where=where, cure=cure)
    if len(known) == 1:
        raise DataError(
            f"there is only one class, {printable(min(known))!r}.",
            where=where,
            cure="A classifier needs at least two: add images of what it is not.",
        )
    return tuple(sorted(known))
