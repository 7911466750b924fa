"""`Dataset`: images with their labels, from files or from arrays, with everything that is known of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.data.arrays import checked_arrays, facts_of_array, rows_of_arrays
from trainwright.data.decode import DecodeError, decode, fit_square
from trainwright.data.fingerprint import Fingerprint, fingerprint, from_facts
from trainwright.data.layout import SampleTable, read_layout
from trainwright.data.problems import DATASET_WIDE, Problem
from trainwright.data.split import Split, split, unsplittable
from trainwright.errors import DataError
from trainwright.recipe import DataSpec
from trainwright.records import Progress, to_json


class Dataset:
    """A labelled dataset: its sample table, and what its images hold. Row numbers are those of the sample table."""

    def __init__(
        self,
        table: SampleTable,
        fingerprint: Fingerprint,
        *,
        arrays: Sequence[np.ndarray] | None = None,
        source: Mapping[str, Any] | None = None,
    ) -> None:
        self.table = table
        self.fingerprint = fingerprint
        self.source = source  # the arguments with which `open_dataset` opens it again; None where only code can make it
        self._arrays = arrays  # uint8 [H, W, 3], by row, where the images are no files

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray | Sequence[np.ndarray],
        labels: Sequence[Any] | np.ndarray,
        *,
        classes: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
    ) -> Dataset:
        """A dataset of arrays in memory.

        images: uint8 [N, H, W, 3], or [N, H, W] for grey, or a list of such images of different sizes. labels: class names,
        or numbers, which are indices into `classes` where that is given. parts: `train`, `val`, `test` or "" (to be split)
        for each. names: unique; rows are sorted by them, so without names row i is image i. Raises DataError.
        """
        pixels = checked_arrays(images)
        table, order = rows_of_arrays(len(pixels), labels, classes=classes, parts=parts, names=names)
        arrays = [pixels[index] for index in order]
        return cls(table, from_facts(table, [facts_of_array(array) for array in arrays]), arrays=arrays)

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"Dataset({str(self.table.root)!r}, {self.task}, {len(self):,} images, {len(self.classes)} classes)"

    @property
    def task(self) -> str:
        return self.table.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.table.classes

    @property
    def targets(self) -> np.ndarray:
        return self.table.targets

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that is wrong with it: bad and odd files, twins, classes."""
        return (*self.fingerprint.problems, *unsplittable(self.table, self.fingerprint))

    @property
    def digest(self) -> str:
        return self.fingerprint.digest

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Usable images of each class in each part; part `all` where it is still to be split."""
        usable = self.fingerprint.usable
        counted = Counter(zip(self.table.parts[usable].tolist(), self.targets[usable].tolist(), strict=True))
        present = set(self.table.parts.tolist())
        return {
            part or "all": {name: counted[part, index] for index, name in enumerate(self.classes)}
            for part in ("train", "val", "test", "")
            if part in present
        }

    def refusals(self) -> tuple[Problem, ...]:
        """The errors for which it cannot be trained on as it is; empty where it can."""
        return tuple(problem for problem in self.problems if problem.kind in DATASET_WIDE)

    def split(self, spec: DataSpec) -> Split:
        """Rows by part, the given parts completed. Raises DataError where a class is too small for it."""
        return split(self.table, self.fingerprint, spec)

    def read(self, row: int, size: int, fit: str) -> np.ndarray:
        """The image of a row as a square, uint8 RGB [size, size, 3]. Raises DataError where it can no longer be read."""
        if self._arrays is not None:
            from PIL import Image

            return np.array(fit_square(Image.fromarray(self._arrays[row]), size, fit))
        path = self.table.root / self.table.paths[row]
        try:
            return decode(path, size=size, fit=fit)
        except DecodeError as error:
            raise DataError(
                error.message, where=str(path), cure="'trainwright inspect' names every such file."
            ) from error

    def describe(self) -> dict[str, Any]:
        """What `trainwright inspect` says of it, as JSON's types, without the `schema`."""
        usable = self.fingerprint.usable
        return {
            "task": self.task,
            "classes": list(self.classes),
            "counts": self.counts,
            "problems": to_json(self.problems),
            "fingerprint": self.digest,
            "image_sizes": {
                "width": _spread(self.fingerprint.widths[usable]),
                "height": _spread(self.fingerprint.heights[usable]),
            },
            "bytes": self.fingerprint.bytes,
        }


def open_dataset(
    path: Path | str,
    *,
    target: str | None = None,
    task: str | None = None,
    workers: int = 0,
    progress: Progress | None = None,
    cache_dir: Path | None = None,
) -> Dataset:
    """The dataset in a folder of class folders or a CSV file, with every image looked at once.

    target: label column of a CSV. task: overrules what the layout suggests. workers: threads, 0 for one each CPU.
    cache_dir: where what was found is remembered. Raises DataError where the layout cannot be understood.
    """
    table = read_layout(Path(path).expanduser(), target=target, task=task)
    found = fingerprint(table, workers=workers, progress=progress, cache_dir=cache_dir)
    source = {"path": str(Path(path).expanduser().absolute()), "target": target, "task": task}
    return Dataset(table, found, source=source)


def _spread(pixels: np.ndarray) -> dict[str, float] | None:
    if not len(pixels):
        return None
    return {"min": int(pixels.min()), "median": float(np.median(pixels)), "max": int(pixels.max())}
