"""`Dataset`: images with their targets, from files, arrays or torch, with everything that is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.data.arrays import checked_arrays, facts_of_array, rows_of_arrays
from trainwright.data.decode import DecodeError, decode, fit_to
from trainwright.data.fingerprint import Fingerprint, from_facts, read_facts
from trainwright.data.layout import read_layout
from trainwright.data.number_targets import NumberTargets
from trainwright.data.problems import DATASET_WIDE, Problem
from trainwright.data.split import Split, split, unsplittable
from trainwright.data.table import SampleTable
from trainwright.data.targets import Stored, Targets, TargetSource
from trainwright.errors import DataError
from trainwright.recipe import DataSpec, Size
from trainwright.records import Progress, TargetInfo, to_json


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
        task: str | None = None,
        classes: Sequence[str] | None = None,
        parts: Sequence[str] | None = None,
        names: Sequence[str] | None = None,
    ) -> Dataset:
        """A dataset of arrays in memory.

        images: uint8 [N, H, W, 3], or [N, H, W] for grey, or a list of such images of different sizes. labels, by task:
        classification: class names, or numbers, which are indices into `classes` where that is given; regression: numbers
        [N] or [N, T], `classes` their names; segmentation: whole numbers [H, W] of each image, 255 not scored; detection:
        [M, 5] of each image (class, left, top, right, bottom in pixels). task: None tells it from the labels; single whole
        numbers are classes. parts: `train`, `val`, `test` or "" (to be split) for each. names: unique; rows are sorted by
        them, so without names row i is image i. Raises DataError, UnknownNameError.
        """
        pixels = checked_arrays(images)
        sizes = [(image.shape[0], image.shape[1]) for image in pixels]
        table, order = rows_of_arrays(sizes, labels, task=task, classes=classes, parts=parts, names=names)
        arrays = [pixels[index] for index in order]
        facts = [facts_of_array(array) for array in arrays]
        targets = table.targets.looked_at(table, facts, workers=1, progress=None, cache_dir=None)
        table = replace(table, targets=targets)
        return cls(table, from_facts(table, facts), arrays=arrays)

    @classmethod
    def from_torch(
        cls,
        train: Any,
        val: Any = None,
        test: Any = None,
        *,
        task: str | None = None,
        classes: Sequence[str] | None = None,
        progress: Progress | None = None,
    ) -> Dataset:
        """A dataset of torch's map-style datasets with items (image, target), each read once, without augmentation.

        image: PIL, uint8 [H, W, 3] or [H, W], or a tensor [3, H, W] or [1, H, W] of uint8 or of floats in 0–1. target: a class
        (index into `classes`, or into the dataset's own), a float or several, a mask [H, W], or `boxes` [M, 4] (left, top,
        right, bottom) with `labels` [M]. task: None tells it from the targets. Without val (test), a part is split off.
        Raises DataError naming the item that cannot be used, UnknownNameError.
        """
        from trainwright.data.torch_dataset import read_items

        given = {part: items for part, items in (("train", train), ("val", val), ("test", test)) if items is not None}
        read = read_items(given, classes=classes, progress=progress)
        return cls.from_arrays(
            read.images, read.labels, task=task, classes=read.classes, parts=read.parts, names=read.names
        )

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        what = "number columns" if self.targets.kind == "numbers" else "classes"
        return f"Dataset({str(self.table.root)!r}, {self.task}, {len(self):,} images, {len(self.classes)} {what})"

    @property
    def task(self) -> str:
        return self.table.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.table.classes

    @property
    def targets(self) -> Targets:
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
        """What is usable of each class (images, boxes, pixels) in each part; part `all` where it is still to be split."""
        present = set(self.table.parts.tolist())
        return {
            part or "all": self.targets.counts(np.flatnonzero(self.fingerprint.usable & (self.table.parts == part)))
            for part in ("train", "val", "test", "")
            if part in present
        }

    @property
    def images(self) -> dict[str, int]:
        """Usable images in each part; part `all` where it is still to be split."""
        present = set(self.table.parts.tolist())
        return {
            part or "all": int((self.fingerprint.usable & (self.table.parts == part)).sum())
            for part in ("train", "val", "test", "")
            if part in present
        }

    def info(self, train_rows: np.ndarray) -> TargetInfo:
        """What a task has to know of the targets; statistics of number columns are those of `train_rows`."""
        if self.targets.kind != "numbers":
            return TargetInfo(names=self.classes)
        values_NT = self.targets.array(train_rows)
        std_T = values_NT.std(axis=0)
        return TargetInfo(
            names=self.classes,
            mean=tuple(values_NT.mean(axis=0).tolist()),
            std=tuple(np.where(std_T > 0, std_T, 1.0).tolist()),
        )

    def stored_targets(
        self,
        rows: np.ndarray,
        size: Size,
        fit: str,
        *,
        workers: int = 0,
        progress: Progress | None = None,
        cache_dir: Path | None = None,
    ) -> TargetSource:
        """The targets of `rows` beside images that are stored at `size` with `fit`."""
        stored = Stored(
            root=self.table.root,
            rows=rows,
            size=size,
            fit=fit,
            widths=self.fingerprint.widths,
            heights=self.fingerprint.heights,
            workers=workers,
            progress=progress,
            cache_dir=cache_dir,
        )
        return self.targets.source(stored)

    def refusals(self) -> tuple[Problem, ...]:
        """The errors for which it cannot be trained on as it is; empty where it can."""
        return tuple(problem for problem in self.problems if problem.kind in DATASET_WIDE)

    def split(self, spec: DataSpec) -> Split:
        """Rows by part, the given parts completed. Raises DataError where a class is too small for it."""
        return split(self.table, self.fingerprint, spec)

    def read(self, row: int, size: Size, fit: str) -> np.ndarray:
        """The image of a row made to fit, uint8 RGB [height, width, 3]. Raises DataError where it can no longer be read."""
        if self._arrays is not None:
            from PIL import Image

            return np.array(fit_to(Image.fromarray(self._arrays[row]), size, fit))
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
        numbers = (
            {"numbers": self.targets.ranges(np.flatnonzero(usable))} if isinstance(self.targets, NumberTargets) else {}
        )
        return {
            "task": self.task,
            "target": self.targets.kind,
            "classes": list(self.classes),
            "images": self.images,
            "counts": self.counts,
            **numbers,
            "problems": to_json(self.problems),
            "fingerprint": self.digest,
            "targets_fingerprint": self.fingerprint.targets_digest,
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
    """The dataset in a folder or a CSV file, with every image looked at once.

    target: label or number column of a CSV, or several with commas between them. task: overrules what the layout
    suggests. workers: threads, 0 for one each CPU. cache_dir: where what was found is remembered. Raises DataError where the
    layout cannot be understood, UnknownNameError.
    """
    table = read_layout(Path(path).expanduser(), target=target, task=task)
    facts = read_facts(table, workers=workers, progress=progress, cache_dir=cache_dir)
    targets = table.targets.looked_at(table, facts, workers=workers, progress=progress, cache_dir=cache_dir)
    table = replace(table, targets=targets)
    source = {"path": str(Path(path).expanduser().absolute()), "target": target, "task": task}
    return Dataset(table, from_facts(table, facts), source=source)


def _spread(pixels: np.ndarray) -> dict[str, float] | None:
    if not len(pixels):
        return None
    return {"min": int(pixels.min()), "median": float(np.median(pixels)), "max": int(pixels.max())}
