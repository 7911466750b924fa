"""Boxes with a class, any number an image: made equal however they were written, and laid beside the stored pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainwright.data.box_faults import PER_PIXEL, Annotation, Judge, RawBox, flatten, orientations, other_sizes
from trainwright.data.placement import place
from trainwright.data.problems import Problem, few, printable
from trainwright.data.targets import Stored, TargetSource
from trainwright.errors import DataError
from trainwright.records import Progress, TargetKind

if TYPE_CHECKING:
    from trainwright.data.augment import Moves
    from trainwright.data.memory import Facts
    from trainwright.data.table import SampleTable

MIN_BOXES = 5  # of a class: fewer cannot be both learned from and judged on


@dataclass(frozen=True, kw_only=True)
class BoxTargets:
    """Boxes of each image; none has any until `looked_at` has held the annotations against the images. B box of the dataset.

    annotations: one a row. starts: int64 [S + 1], the boxes of row s are starts[s] to starts[s + 1]. labels_B: int64, into
    names. boxes_B4: float64 (left, top, right, bottom), pixels from the upper left corner of the upright image, rounded to
    0.01; those of a row are sorted. only_used: names without any box are dropped.
    """

    annotations: tuple[Annotation, ...]
    names: tuple[str, ...]
    starts: np.ndarray
    labels_B: np.ndarray
    boxes_B4: np.ndarray
    found: tuple[Problem, ...] = ()
    only_used: bool = False
    kind: TargetKind = "boxes"
    every_stratum_in_every_part: bool = False

    @classmethod
    def from_annotations(
        cls, annotations: Sequence[Annotation], names: Sequence[str], *, only_used: bool = False
    ) -> BoxTargets:
        """Targets that are still to be looked at."""
        return cls(
            annotations=tuple(annotations),
            names=tuple(names),
            starts=np.zeros(len(annotations) + 1, dtype=np.int64),
            labels_B=np.zeros(0, dtype=np.int64),
            boxes_B4=np.zeros((0, 4)),
            only_used=only_used,
        )

    @classmethod
    def from_arrays(cls, boxes: Sequence[np.ndarray], names: Sequence[str]) -> BoxTargets:
        """Targets in memory, still to be looked at. boxes: for each row [M, 5] (class, left, top, right, bottom), M may be 0.

        Classes are indices into `names`, edges pixels of the image. Raises DataError for another shape.
        """
        annotations = []
        for row, array in enumerate(boxes):
            array_M5 = np.asarray(array, dtype=np.float64)
            if not array_M5.size:
                array_M5 = array_M5.reshape(0, 5)
            if array_M5.ndim != 2 or array_M5.shape[1] != 5:
                raise DataError(
                    f"expected boxes [M, 5], got {list(array_M5.shape)}.",
                    where=f"from_arrays: image {row}",
                    cure="Give (class, left, top, right, bottom) for each box, and an empty list where there is none.",
                )
            annotations.append(Annotation(file="", boxes=tuple(_boxes_of_array(array_M5, names))))
        return cls.from_annotations(annotations, names)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def text(self, row: int) -> str:
        """JSON of its boxes, each with the name of its class, sorted."""
        mine = slice(self.starts[row], self.starts[row + 1])
        pairs = zip(self.labels_B[mine].tolist(), self.boxes_B4[mine].tolist(), strict=True)
        return json.dumps(sorted([self.names[label], *edges] for label, edges in pairs), separators=(",", ":"))

    def strata(self) -> Sequence[str]:
        """Of each image its rarest class, by the number of images that show it; "" where it has no box."""
        keys = np.unique(self._rows_B * len(self.names) + self.labels_B)
        rows, labels = np.divmod(keys, max(1, len(self.names)))  # each class of a row once
        images_K = np.bincount(labels, minlength=len(self.names))
        strata = [""] * len(self)
        commonest_first = np.lexsort((-labels, -images_K[labels]))
        for row, label in zip(rows[commonest_first].tolist(), labels[commonest_first].tolist(), strict=True):
            strata[row] = self.names[label]
        return strata

    def looked_at(
        self,
        table: SampleTable,
        facts: Sequence[Facts],
        *,
        workers: int,
        progress: Progress | None,
        cache_dir: Path | None,
    ) -> BoxTargets:
        """The same with every box held against its image, cut to it or left out; what was done is told by `problems`."""
        sizes_S2 = np.array([(entry.width, entry.height) for entry in facts], dtype=np.float64).reshape(-1, 2)
        orientations_S, turned = orientations(table, self.annotations, facts)
        flat = flatten(self.annotations, sizes_S2, orientations_S, self.names)
        judge = Judge(flat)
        judge.judge()
        kept = judge.kept_in_order()
        labels_B, names = flat.labels_B[kept], self.names
        found = [*other_sizes(table, self.annotations, facts), *turned, *judge.problems(table, self.annotations)]
        used = np.bincount(labels_B, minlength=len(names)) > 0
        if self.only_used and not used.all():
            unused = [name for name, seen in zip(names, used.tolist(), strict=True) if not seen]
            message = (
                f"no image has a box of {few(unused, limit=20)}: left out of the classes. Draw some, or strike it off."
            )
            found.append(Problem(kind="class-unused", severity="warning", files=(), message=message))
            names = tuple(name for name in names if name not in set(unused))
            labels_B = (np.cumsum(used) - 1)[labels_B]
        return replace(
            self,
            names=names,
            starts=_starts(flat.rows_B[kept], len(self)),
            labels_B=labels_B,
            boxes_B4=judge.boxes_B4[kept] / PER_PIXEL,
            found=tuple(found),
        )

    def usable(self) -> np.ndarray:
        return np.ones(len(self), dtype=bool)

    def problems(self, table: SampleTable, usable: np.ndarray) -> Iterator[Problem]:
        """What was found by `looked_at`, then classes without a box in some part, with too few, or none at all."""
        yield from self.found
        parts = sorted(set(table.parts.tolist()))
        counts = {part: self.counts(np.flatnonzero(usable & (table.parts == part))) for part in parts}
        learned = counts.get("train", counts.get("", dict.fromkeys(self.names, 0)))
        if not any(learned.values()):
            message = "no class has a box to be learned from. Add images with boxes."
            yield Problem(kind="too-few-classes", severity="error", files=(), message=message)
        for part in ("val", "test"):
            yield from _of_part(part, learned, counts.get(part, learned))
        for name in self.names:
            boxes = sum(counts[part][name] for part in parts)
            if 0 < boxes < MIN_BOXES:
                message = (
                    f"class {printable(name)!r} has only {boxes} box{'' if boxes == 1 else 'es'}. Add images of it."
                )
                yield Problem(kind="few-boxes", severity="warning", files=(), message=message)

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        """Boxes of each class."""
        mine = np.isin(self._rows_B, rows)
        found = np.bincount(self.labels_B[mine], minlength=len(self.names)).tolist()
        return dict(zip(self.names, found, strict=True))

    def array(self, rows: np.ndarray) -> np.ndarray:
        """Boxes in pixels of the image files, float64 [N, M, 5] (class, left, top, right, bottom); class -1 fills up."""
        return _padded(self.starts, np.concatenate([self.labels_B[:, None], self.boxes_B4], axis=1), rows, self._most)

    def source(self, stored: Stored) -> TargetSource:
        """Boxes in pixels of the stored images; one that lost more than three quarters of its area is left out."""
        from trainwright.data.augment import MIN_VISIBLE  # brings torch, which looking at a dataset does not need

        boxes_B4 = self.boxes_B4.copy()
        frame = np.array([stored.size[1], stored.size[0]] * 2, dtype=np.float64)
        kept = np.isin(self._rows_B, stored.rows)
        for (width, height), same in _by_size(stored, self._rows_B, np.flatnonzero(kept)):
            boxes_B4[same] = place(width, height, stored.size, stored.fit).forth(boxes_B4[same])
        visible_B4 = np.clip(boxes_B4, 0, frame)
        kept &= _areas(visible_B4) >= MIN_VISIBLE * _areas(boxes_B4)
        boxes_B5 = np.concatenate([self.labels_B[:, None], visible_B4], axis=1)[kept].astype(np.float32)
        return BoxSource(_starts(self._rows_B[kept], len(self)), boxes_B5, self._most)

    @property
    def _rows_B(self) -> np.ndarray:
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    @property
    def _most(self) -> int:
        """Boxes of the image with the most, at least 1: M of every batch."""
        return max(1, int(np.diff(self.starts).max(initial=0)))


class BoxSource:
    """Boxes beside stored images: those of row s are `boxes_B5` from starts[s] to starts[s + 1], `most` a row at most."""

    warpable = False  # the frame of a turned box is larger than what is in it

    def __init__(self, starts: np.ndarray, boxes_B5: np.ndarray, most: int) -> None:
        self._starts = starts
        self._boxes_B5 = boxes_B5
        self._most = most

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        """float32 [N, M, 5] (class, left, top, right, bottom) in pixels of the stored image; class -1 fills up."""
        return _padded(self._starts, self._boxes_B5, rows_N, self._most)

    def moved(self, taken: np.ndarray, moves: Moves) -> np.ndarray:
        from trainwright.data.augment import move_boxes

        return move_boxes(taken, moves)


def _boxes_of_array(array_M5: np.ndarray, names: Sequence[str]) -> Iterator[RawBox]:
    for number, (index, left, top, right, bottom) in enumerate(array_M5.tolist()):
        label = names[int(index)] if index in range(len(names)) else None
        where = f"box {number}" if label is not None else f"box {number} of class {index:g}"
        yield RawBox(label, left, top, right, bottom, where)


def _of_part(part: str, learned: dict[str, int], counts: dict[str, int]) -> Iterator[Problem]:
    """No box at all in `part` though train has some, or classes that have boxes in only one of them."""
    if any(learned.values()) and not any(counts.values()):
        message = f"no usable image in {part} has a box: nothing can be judged there. Annotate it, or leave {part} out."
        yield Problem(kind="nothing-to-judge", severity="error", files=(), message=message)
        return
    if unlearned := [name for name, boxes in counts.items() if boxes and not learned[name]]:
        message = f"{part} has boxes of {few(unlearned, limit=20)}, train has none. Add some, or rename the class."
        yield Problem(kind="class-missing", severity="error", files=(), message=message)
    if unjudged := [name for name, boxes in counts.items() if learned[name] and not boxes]:
        message = f"no box of {few(unjudged, limit=20)} in {part}: how well it is found cannot be told. Add some."
        yield Problem(kind="class-not-judged", severity="warning", files=(), message=message)


def _by_size(stored: Stored, rows_B: np.ndarray, boxes: np.ndarray) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """Each (width, height) among the images of these boxes (indices into B) with those whose image has it."""
    widths, heights = stored.widths[rows_B[boxes]], stored.heights[rows_B[boxes]]
    order = np.lexsort((heights, widths))
    changes = np.flatnonzero((np.diff(widths[order]) != 0) | (np.diff(heights[order]) != 0)) + 1
    for same in np.split(order, changes) if len(order) else []:
        yield (int(widths[same[0]]), int(heights[same[0]])), boxes[same]


def _starts(rows_B: np.ndarray, rows: int) -> np.ndarray:
    """int64 [rows + 1], where the boxes of each row start, for `rows_B` in ascending order."""
    starts: np.ndarray = np.searchsorted(rows_B, np.arange(rows + 1))
    return starts


def _padded(starts: np.ndarray, boxes_B5: np.ndarray, rows_N: np.ndarray, most: int) -> np.ndarray:
    """[N, most, 5], filled up with class -1 and zeros."""
    padded_NM5 = np.zeros((len(rows_N), most, 5), dtype=boxes_B5.dtype)
    padded_NM5[:, :, 0] = -1
    places_NM = starts[rows_N][:, None] + np.arange(most)
    filled_NM = places_NM < starts[np.asarray(rows_N) + 1][:, None]
    padded_NM5[filled_NM] = boxes_B5[places_NM[filled_NM]]
    return padded_NM5


def _areas(boxes_B4: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes_B4[:, 2] - boxes_B4[:, 0]) * (boxes_B4[:, 3] - boxes_B4[:, 1])
    return areas
