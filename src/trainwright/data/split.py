"""Which images are learned from and which are kept unseen: by content, stratified, twins and groups together."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trainwright.data.fingerprint import Fingerprint
from trainwright.data.problems import Problem, all_messages, few
from trainwright.data.table import SampleTable
from trainwright.errors import DataError
from trainwright.recipe import DataSpec
from trainwright.seeding import derive

SMALL_CLASS = 8  # units: of fewer, an eighth is none


@dataclass(frozen=True, kw_only=True)
class Split:
    """Rows of the sample table by part: int64, sorted, usable ones only. test is empty where val is given without it.

    With `train_on: train+val` those of val are in train too. digest: of which pixels with which label are in which part,
    whatever the files are called.
    """

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    digest: str

    @property
    def counts(self) -> dict[str, int]:
        """Images in each part; with `train_on: train+val` those of val are counted in train too."""
        return {part: len(getattr(self, part)) for part in ("train", "val", "test")}

    def __str__(self) -> str:
        """'train 576, val 144, test 240 images'."""
        shared = ", which are among those of train" if len(np.intersect1d(self.train, self.val)) else ""
        train, val, test = (f"{part} {count:,}" for part, count in self.counts.items())
        return f"{train}, {val}{shared}, {test} images"


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """Rows that stay together, being twins or of one group. label: the stratum (class) that most of them have."""

    rows: tuple[int, ...]
    label: str
    labels: frozenset[str]
    rank: int


def split(table: SampleTable, fingerprint: Fingerprint, spec: DataSpec) -> Split:
    """Complete the given parts. They stay as they are; what is missing is taken from train, or from the whole.

    Each class is ranked by a hash of pixels and split seed; test takes its images from the lower end of the ranking and
    val from the upper, so a few images more or fewer move few others. Raises DataError naming classes too small for it.
    """
    if refused := unsplittable(table, fingerprint):
        raise DataError(all_messages([problem.message for problem in refused]), where=str(table.root))
    given = set(table.parts.tolist()) - {""}
    parts = {part: _rows(table, fingerprint, part) for part in ("val", "test")}
    units = _units(table, fingerprint, split_seed=spec.split_seed)
    pooled = not table.targets.every_stratum_in_every_part
    if not given & {"val", "test"}:
        taken = _choose(units, spec.test_fraction, spare=2, pooled=pooled)
        units, parts["test"] = _without(units, taken)
    if "val" not in given:
        taken = _choose(units[::-1], spec.val_fraction, spare=1, pooled=pooled)
        units, parts["val"] = _without(units, taken)
        _refuse_one_sided(table, taken, units)
    if spec.train_fraction < 1:
        units = _part_of(units, spec.train_fraction, seed=spec.train_seed, pooled=pooled)
    train = sorted(row for unit in units for row in unit.rows)
    if spec.train_on == "train+val":
        train = sorted({*train, *parts["val"]})
    return Split(
        train=np.array(train, dtype=np.int64),
        val=np.array(parts["val"], dtype=np.int64),
        test=np.array(parts["test"], dtype=np.int64),
        digest=_digest(table, fingerprint, {"train": train, **parts}),
    )


def unsplittable(table: SampleTable, fingerprint: Fingerprint) -> tuple[Problem, ...]:
    """The problem of classes that val cannot be taken from, because their usable images are all twins or of one group.

    Where classes need not be in every part, of a whole dataset that it cannot be taken from.
    """
    if "val" in table.parts:
        return ()
    units = _units(table, fingerprint, split_seed=0)
    if not table.targets.every_stratum_in_every_part:
        return () if len(units) != 1 else (_unsplittable("this dataset", "a dataset"),)
    counts = Counter(label for unit in units for label in unit.labels)
    single = [name for name in table.classes if counts[name] == 1]
    return (_unsplittable(few(single, limit=20), "a class"),) if single else ()


def _unsplittable(what: str, kind: str) -> Problem:
    message = (
        f"no val part can be taken from {what}: all usable images of such {kind} are one image, its twins or one group. "
        "Add different images of it, or give a val part."
    )
    return Problem(kind="class-too-small", severity="error", files=(), message=message)


def _rows(table: SampleTable, fingerprint: Fingerprint, *parts: str) -> list[int]:
    """Usable rows of the given parts."""
    rows: list[int] = np.flatnonzero(np.isin(table.parts, parts) & fingerprint.usable).tolist()
    return rows


def _units(table: SampleTable, fingerprint: Fingerprint, *, split_seed: int) -> list[_Unit]:
    """What train (or the whole, without parts) consists of, ranked."""
    units, strata = [], table.targets.strata()
    for rows in _joined(table, fingerprint, _rows(table, fingerprint, "train", "")):
        labels = Counter(strata[row] for row in rows)
        label = min(labels, key=lambda name: (-labels[name], name))
        content = min(fingerprint.pixel_hashes[row] for row in rows)
        rank = derive(split_seed, "split", content)
        units.append(_Unit(rows=tuple(rows), label=label, labels=frozenset(labels), rank=rank))
    return sorted(units, key=lambda unit: unit.rank)


def _joined(table: SampleTable, fingerprint: Fingerprint, rows: Sequence[int]) -> Iterable[list[int]]:
    """`rows` in sets: two are in one set if a chain of equal pixels and equal groups leads from one to the other."""
    leader = {row: row for row in rows}

    def find(row: int) -> int:
        while leader[row] != row:
            leader[row] = leader[leader[row]]
            row = leader[row]
        return row

    first: dict[tuple[str, str], int] = {}
    for row in rows:
        for key in _bonds(table, fingerprint, row):
            leader[find(row)] = find(first.setdefault(key, row))
    sets: dict[int, list[int]] = {}
    for row in rows:
        sets.setdefault(find(row), []).append(row)
    return sets.values()


def _bonds(table: SampleTable, fingerprint: Fingerprint, row: int) -> Iterator[tuple[str, str]]:
    """What a row shares with those it stays together with."""
    yield "pixels", fingerprint.pixel_hashes[row]
    if table.groups is not None and table.groups[row]:
        yield "group", table.groups[row]


def _choose(ranked: Sequence[_Unit], fraction: float, *, spare: int, pooled: bool) -> set[_Unit]:
    """The first of each class by rank, about `fraction` of its images, at least one unit, so that `spare` are left.

    pooled: classes too small to give `fraction` of themselves are taken together, where none needs to be in every part.
    """
    chosen: set[_Unit] = set()
    by_label: dict[str, list[_Unit]] = {}
    counts = Counter(unit.label for unit in ranked)
    for unit in ranked:
        small = pooled and counts[unit.label] * fraction < 1
        by_label.setdefault("" if small else unit.label, []).append(unit)
    for units in by_label.values():
        chosen.update(units[: _cut([len(unit.rows) for unit in units], fraction, spare=spare)])
    _mend(ranked, chosen, spare=spare)
    return chosen


def _part_of(units: Sequence[_Unit], fraction: float, *, seed: int, pooled: bool) -> list[_Unit]:
    """About `fraction` of the images of each class, at least one unit; what a smaller fraction leaves is part of it.

    pooled: small classes are taken together, where none needs to be in every part.
    """
    counts = Counter(unit.label for unit in units)
    by_label: dict[str, list[_Unit]] = {}
    for unit in sorted(units, key=lambda unit: derive(seed, "train-fraction", unit.rank)):
        by_label.setdefault("" if pooled and counts[unit.label] < SMALL_CLASS else unit.label, []).append(unit)
    parts = [of[: _cut([len(unit.rows) for unit in of], fraction, spare=0)] for of in by_label.values()]
    return [unit for part in parts for unit in part]


def _cut(sizes: Sequence[int], fraction: float, *, spare: int) -> int:
    """How many units bring the images nearest to `fraction` of all: at least one, and `spare` stay if there are so many."""
    sums = np.cumsum([0, *sizes])
    nearest = int(np.argmin(np.abs(sums - fraction * sums[-1])))
    return max(0, min(max(nearest, 1), len(sizes) - spare))


def _mend(ranked: Sequence[_Unit], chosen: set[_Unit], *, spare: int) -> None:
    """Move further units, where that is possible, so that a class that shares all its units with others is on both sides."""
    here = Counter(label for unit in chosen for label in unit.labels)
    left = Counter(label for unit in ranked if unit not in chosen for label in unit.labels)
    for label in sorted(here | left):
        for unit in ranked:
            if label not in unit.labels:
                continue
            if unit not in chosen and not here[label] and all(left[other] > spare for other in unit.labels):
                chosen.add(unit)
                here.update(unit.labels)
                left.subtract(unit.labels)
            elif unit in chosen and not left[label] and all(here[other] > 1 for other in unit.labels):
                chosen.remove(unit)
                left.update(unit.labels)
                here.subtract(unit.labels)


def _without(units: Sequence[_Unit], taken: set[_Unit]) -> tuple[list[_Unit], list[int]]:
    """(the units that were not taken, the rows of those that were)."""
    return [unit for unit in units if unit not in taken], sorted(row for unit in taken for row in unit.rows)


def _refuse_one_sided(table: SampleTable, val: Iterable[_Unit], train: Iterable[_Unit]) -> None:
    """Raise DataError where a class is in one of val and train only."""
    sides = [{label for unit in units for label in unit.labels} for units in (val, train)]
    one_sided = sorted(sides[0] ^ sides[1])
    if one_sided and table.targets.every_stratum_in_every_part:
        raise DataError(
            f"train and val cannot both have images of {few(one_sided, limit=20)} while groups and twins stay together.",
            where=str(table.root),
            cure="Make the groups smaller, or give a val part.",
        )


def _digest(table: SampleTable, fingerprint: Fingerprint, parts: dict[str, list[int]]) -> str:
    images = sorted(
        [part, table.targets.text(row), fingerprint.pixel_hashes[row]] for part, rows in parts.items() for row in rows
    )
    return hashlib.sha256(json.dumps(images, separators=(",", ":")).encode()).hexdigest()
