"""One or several numbers of each image: what regression learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainwright.data.problems import Problem, counted, few, printable
from trainwright.data.targets import PlainSource, Stored, TargetSource
from trainwright.records import Progress, TargetKind

if TYPE_CHECKING:
    from trainwright.data.memory import Facts
    from trainwright.data.table import SampleTable

MIN_TRAIN_IMAGES = 10  # fewer say nothing of a number's spread, let alone of an error
MAX_BINS = 5  # that a split keeps in proportion
IMAGES_A_BIN = 10  # at least: a smaller bin would give more of its images away than the fraction that was asked for
FAR_DEVIATIONS = (
    10.0  # median absolute deviations from the median; beyond about 7 standard deviations of a normal number
)


@dataclass(frozen=True, kw_only=True)
class NumberTargets:
    """Numbers of each image. values: float64 [S, T], a column for each of names, in its own unit; nan where not known."""

    values: np.ndarray
    names: tuple[str, ...]
    kind: TargetKind = "numbers"
    every_stratum_in_every_part: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def text(self, row: int) -> str:
        return ", ".join(repr(number) for number in (self.values[row] + 0.0).tolist())  # + 0.0: there is no -0.0 then

    def strata(self) -> Sequence[str]:
        """Bins of equally many images, up to five: of the number, or of the mean of several in standard deviations."""
        usable_S = self.usable()
        bins = min(MAX_BINS, int(usable_S.sum()) // IMAGES_A_BIN)
        if bins < 2:
            return ["0"] * len(self)
        values_ST = self.values[usable_S]
        if len(self.names) > 1:
            std_T = values_ST.std(axis=0)
            values_ST = (values_ST - values_ST.mean(axis=0)) / np.where(std_T > 0, std_T, 1.0)
        height_S = values_ST.mean(axis=1)
        edges = np.unique(np.quantile(height_S, np.arange(1, bins) / bins))
        bin_S = np.zeros(len(self), dtype=np.int64)  # rows that cannot be used are in no part anyway
        bin_S[usable_S] = np.searchsorted(edges, height_S, side="right")
        return [str(number) for number in bin_S]

    def looked_at(
        self,
        table: SampleTable,
        facts: Sequence[Facts],
        *,
        workers: int,
        progress: Progress | None,
        cache_dir: Path | None,
    ) -> NumberTargets:
        return self

    def usable(self) -> np.ndarray:
        """bool [S]: rows whose numbers are all known and of a size that float32 holds."""
        known: np.ndarray = (np.abs(self.values) <= np.finfo(np.float32).max).all(axis=1)
        return known

    def problems(self, table: SampleTable, usable: np.ndarray) -> Iterator[Problem]:
        """Rows without numbers, too few of them, columns that never change, numbers far from all others."""
        without = np.flatnonzero(~self.usable())
        if len(without):
            message = "left out: a number is missing or not finite. Fill it in, or remove the row."
            yield Problem(kind="no-target", severity="error", files=_paths(table, without), message=message)
        train = np.flatnonzero(usable & np.isin(table.parts, ("train", "")))
        if len(train) < MIN_TRAIN_IMAGES:
            message = f"only {counted(len(train), 'usable image')} to train on; at least {MIN_TRAIN_IMAGES} are needed."
            yield Problem(kind="too-few-images", severity="error", files=(), message=f"{message} Add images.")
        elif constant := [name for name, column in self._columns(train) if column.min() == column.max()]:
            message = f"always the same number in train: {few(constant)}. There is nothing to learn: leave it out."
            yield Problem(kind="constant-target", severity="error", files=(), message=message)
        yield from self._outliers(table, np.flatnonzero(usable))

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        """Images that have the number."""
        return dict.fromkeys(self.names, len(rows))

    def array(self, rows: np.ndarray) -> np.ndarray:
        values_NT: np.ndarray = self.values[rows]
        return values_NT

    def source(self, stored: Stored) -> TargetSource:
        with np.errstate(over="ignore"):  # of rows that are left out
            # Of a sheared or shifted image a part is gone, and with it perhaps what was counted or measured.
            return PlainSource(self.values.astype(np.float32), warpable=False)

    def ranges(self, rows: np.ndarray) -> dict[str, dict[str, float]]:
        """`min`, `median` and `max` of each column over these rows; nothing where there are none."""
        return {
            name: {"min": float(column.min()), "median": float(np.median(column)), "max": float(column.max())}
            for name, column in self._columns(rows)
            if len(column)
        }

    def _columns(self, rows: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        return zip(self.names, self.values[rows].T, strict=True)

    def _outliers(self, table: SampleTable, rows: np.ndarray) -> Iterator[Problem]:
        for name, column in self._columns(rows):
            if not len(column):
                continue
            median = float(np.median(column))
            deviations = np.abs(column - median)
            spread = float(np.median(deviations))
            far = np.flatnonzero((spread > 0) & (deviations > FAR_DEVIATIONS * spread))  # 0: most are equal
            if len(far):
                shown = few(f"{number:g}" for number in column[far])
                message = (
                    f"{printable(name)} is far from all others: {shown}, where half of the images lie within {spread:g} "
                    f"of {median:g}. Correct it if it is a slip; if it is right, a huber loss bears it better."
                )
                yield Problem(kind="outlier", severity="warning", files=_paths(table, rows[far]), message=message)


def _paths(table: SampleTable, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(table.paths[row] for row in rows)
