"""What is wrong with a dataset's images, judged from what their files hold: bad files, twins, groups torn apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from trainwright.data.listing import ENDINGS
from trainwright.data.memory import Facts
from trainwright.data.problems import Problem, counted, few
from trainwright.data.table import SampleTable

MIN_SIDE = 8  # pixels; handwritten digits of 8 × 8 are the smallest images in common use


def examine(table: SampleTable, facts: Sequence[Facts]) -> Iterator[Problem]:
    """Every problem that `facts` (one a row) show: bad files first, then odd ones, twins and groups."""
    for path, found in zip(table.paths, facts, strict=True):
        yield from _of_file(path, found)
    yield from _of_twins(table, facts)
    yield from _of_groups(table)


def _of_file(path: str, found: Facts) -> Iterator[Problem]:
    if found.kind:
        yield Problem(kind=found.kind, severity="error", files=(path,), message=found.message)
        return
    ending = PurePosixPath(path).suffix.lower()
    if found.format in ENDINGS and ending not in ENDINGS[found.format]:
        message = f"a {found.format} image named {ending or 'without ending'}; used all the same. Rename it."
        yield Problem(kind="wrong-extension", severity="warning", files=(path,), message=message)
    if min(found.width, found.height) < MIN_SIDE:
        message = f"only {found.width} x {found.height} pixels; used all the same. Is it a placeholder? Then remove it."
        yield Problem(kind="too-small", severity="warning", files=(path,), message=message)


def _of_twins(table: SampleTable, facts: Sequence[Facts]) -> Iterator[Problem]:
    """A problem for each set of images with the very same pixels and each thing that is odd about it."""
    usable = table.targets.usable()
    twins: dict[str, list[int]] = {}
    for row, found in enumerate(facts):
        if found.pixel_hash:
            twins.setdefault(found.pixel_hash, []).append(row)
    for rows in twins.values():
        if len(rows) > 1:
            yield from _of_twin_set(table, rows, {table.targets.text(row) for row in rows if usable[row]})


def _of_twin_set(table: SampleTable, rows: Sequence[int], texts: set[str]) -> Iterator[Problem]:
    """texts: the targets of those rows that have one."""
    files = tuple(table.paths[row] for row in rows)
    parts = dict.fromkeys(("train", "val", "test", ""), 0) | Counter(str(table.parts[row]) for row in rows)
    present = [part for part, count in parts.items() if count]
    labels = sorted(texts)
    same = f"{counted(len(rows), 'image')} with the very same pixels"
    if len(labels) > 1:
        shown = f": {few(labels)}" if table.targets.kind in ("class", "numbers") else ""
        message = f"{same} have different labels{shown}. At most one can be right: correct or remove the others."
        yield Problem(kind="twins-with-different-labels", severity="warning", files=files, message=message)
    if len(present) > 1:
        message = f"{same} in {' and '.join(present)}: what is seen in training is judged on. Remove it from one part."
        yield Problem(kind="twins-across-parts", severity="warning", files=files, message=message)
    elif len(labels) <= 1:
        where = f"in {present[0]}" if present[0] else "will stay in one part"
        message = f"{same} {where}: they count as often as they are there. Remove all but one."
        yield Problem(kind="duplicate-in-part", severity="warning", files=files, message=message)


def _of_groups(table: SampleTable) -> Iterator[Problem]:
    """The problem of groups that the given parts tear apart."""
    parts: dict[str, set[str]] = {}
    for group, part in zip(table.groups or (), table.parts.tolist(), strict=False):
        parts.setdefault(group, set()).add(part)
    torn = sorted(group for group, found in parts.items() if group and len(found) > 1)
    if torn:
        message = (
            f"groups in more than one part: {few(torn)}: what is judged on is not new. Keep each group in one part."
        )
        yield Problem(kind="groups-across-parts", severity="warning", files=(), message=message)
