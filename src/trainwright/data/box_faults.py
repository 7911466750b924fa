"""Boxes as they are written, and what is wrong with them: held against their images, repaired or left out, each fault named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from trainwright.data.decode import AS_IT_STANDS
from trainwright.data.orientation import size_before, turned_boxes
from trainwright.data.problems import Problem, printable

if TYPE_CHECKING:
    from trainwright.data.memory import Facts
    from trainwright.data.table import SampleTable

PER_PIXEL = 100  # steps that edges are rounded to, so that YOLO's six decimals give the pixels of VOC's whole numbers
MAX_OVERHANG = 1  # pixels outside of the image that are cut off silently: counting from 1 or from 0, edges or middles


class RawBox(NamedTuple):
    """One box as it is written: edges in pixels, or fractions of the image; NaN where there is no number.

    label: its class, None where that is not listed. place: where in the file, as `object 3`.
    """

    label: str | None
    left: float
    top: float
    right: float
    bottom: float
    place: str


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """What is written of one image.

    file: relative to the dataset's root, "" where the image itself is to be named in problems. width, height: of the image
    as the annotation states it, 0 where it does not. fractions: the boxes are in fractions of the image, not in pixels.
    """

    file: str
    boxes: tuple[RawBox, ...]
    width: int = 0
    height: int = 0
    fractions: bool = False


@dataclass(frozen=True, kw_only=True)
class Flat:
    """All boxes of a dataset. boxes_B4: float64, whole steps of 1/PER_PIXEL pixel, NaN where there is no number. labels_B: -1
    where the class is not listed. sizes_B2: (width, height) of the image, 0 where it cannot be used. orientations_B: how the
    boxes are to be turned, in EXIF's numbers. numbers_B: place in the annotation."""

    rows_B: np.ndarray
    numbers_B: np.ndarray
    labels_B: np.ndarray
    boxes_B4: np.ndarray
    sizes_B2: np.ndarray
    orientations_B: np.ndarray


class Judge:
    """Holds boxes against their images: repairs them in `boxes_B4`, and remembers what was wrong with which."""

    def __init__(self, flat: Flat) -> None:
        self._flat = flat
        self.boxes_B4 = turned_boxes(flat.boxes_B4, flat.orientations_B, flat.sizes_B2 * PER_PIXEL)
        self._kept_B: np.ndarray = np.all(flat.sizes_B2 > 0, axis=1)  # an image that cannot be used is named already
        self._faults: list[tuple[int, str, str]] = []  # (box, kind, what was done)

    def judge(self) -> None:
        """The order matters: what is repaired first is judged as repaired."""
        self._drop(~np.isfinite(self.boxes_B4).all(axis=1), "box-not-a-number", "an edge is missing or no number")
        self._drop(self._flat.labels_B < 0, "class-unknown", "its class is not listed")
        self._turn()
        self._drop(_thinner_than_a_pixel(self.boxes_B4), "box-without-area", "it is thinner than a pixel")
        self._cut()
        self._drop(self._repeated(), "box-repeated", "the image has the same box before")

    def kept_in_order(self) -> np.ndarray:
        """Indices of the boxes that are kept, by row, class and edges."""
        left, top, right, bottom = self.boxes_B4.T
        order = np.lexsort((bottom, right, top, left, self._flat.labels_B, self._flat.rows_B))
        kept: np.ndarray = order[self._kept_B[order]]
        return kept

    def problems(self, table: SampleTable, annotations: Sequence[Annotation]) -> Iterator[Problem]:
        """A problem for each fault, in the order of rows and of boxes in their files."""
        for index, kind, done in sorted(self._faults, key=lambda fault: fault[0]):  # stable: faults of a box as found
            row = int(self._flat.rows_B[index])
            annotation = annotations[row]
            box = annotation.boxes[int(self._flat.numbers_B[index])]
            edges = ", ".join(f"{edge / PER_PIXEL:.8g}" for edge in self._flat.boxes_B4[index].tolist())
            name = "" if box.label is None else f"{printable(box.label)}: "
            files = (annotation.file or table.paths[row],)
            message = f"{printable(box.place)} ({name}{edges}): {done}"
            yield Problem(kind=kind, severity="warning", files=files, message=message)

    def _fault(self, where_B: np.ndarray, kind: str, done: str) -> None:
        self._faults += [(index, kind, done) for index in np.flatnonzero(where_B & self._kept_B).tolist()]

    def _drop(self, where_B: np.ndarray, kind: str, why: str) -> None:
        self._fault(where_B, kind, f"{why}; left out. Draw it anew, or remove it.")
        self._kept_B &= ~where_B

    def _turn(self) -> None:
        """Left and right, or top and bottom, where they are the other way round."""
        left, top, right, bottom = self.boxes_B4.T
        self._fault(
            (left > right) | (top > bottom), "box-inverted", "its edges are the wrong way round; swapped. Check it."
        )
        self.boxes_B4 = np.stack(
            [np.minimum(left, right), np.minimum(top, bottom), np.maximum(left, right), np.maximum(top, bottom)], axis=1
        )

    def _cut(self) -> None:
        """What lies outside of the image."""
        frame_B4 = np.tile(self._flat.sizes_B2 * PER_PIXEL, 2)
        cut_B4 = np.clip(self.boxes_B4, 0, frame_B4)
        over_B = np.abs(self.boxes_B4 - cut_B4).max(axis=1, initial=0) > MAX_OVERHANG * PER_PIXEL
        thin_B = _thinner_than_a_pixel(cut_B4)
        gone_B = thin_B & (over_B | (cut_B4[:, :2] == cut_B4[:, 2:]).any(axis=1))
        self._drop(gone_B, "box-outside", "less than a pixel of it lies inside of the image")
        self._drop(thin_B, "box-without-area", "inside of the image it is thinner than a pixel")
        self._fault(over_B, "box-outside", "it reaches outside of the image; cut at its edge. Check it.")
        self.boxes_B4 = cut_B4

    def _repeated(self) -> np.ndarray:
        """bool [B]: an earlier box of the image that is kept has the same class and edges."""
        order = self.kept_in_order()
        keys = np.column_stack([self._flat.rows_B, self._flat.labels_B, self.boxes_B4])[order]
        repeated_B = np.zeros(len(self._kept_B), dtype=bool)
        repeated_B[order[1:]] = (keys[1:] == keys[:-1]).all(axis=1)
        return repeated_B


def flatten(
    annotations: Sequence[Annotation], sizes_S2: np.ndarray, orientations_S: np.ndarray, names: Sequence[str]
) -> Flat:
    index = {name: number for number, name in enumerate(names)}
    boxes = [box for annotation in annotations for box in annotation.boxes]
    lengths_S = np.array([len(annotation.boxes) for annotation in annotations], dtype=np.int64)
    rows_B = np.repeat(np.arange(len(annotations)), lengths_S)
    sizes_B2 = sizes_S2[rows_B]
    fractions_B = np.array([annotation.fractions for annotation in annotations], dtype=bool)[rows_B]
    labels = [-1 if box.label is None else index[box.label] for box in boxes]
    edges_B4 = np.array([box[1:5] for box in boxes], dtype=np.float64).reshape(-1, 4)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is named
        pixels_B4 = np.where(fractions_B[:, None], edges_B4 * np.tile(sizes_B2, 2), edges_B4) * PER_PIXEL
    return Flat(
        rows_B=rows_B,
        numbers_B=np.arange(len(boxes)) - np.repeat(np.cumsum(lengths_S) - lengths_S, lengths_S),
        labels_B=np.array(labels, dtype=np.int64),
        boxes_B4=np.rint(pixels_B4) + 0.0,  # + 0.0: no negative zero
        sizes_B2=sizes_B2,
        orientations_B=orientations_S[rows_B],
    )


@dataclass(frozen=True, kw_only=True)
class _Frame:
    """What the size that an annotation states says of its boxes: whether it can be that of the image as it lies in its
    file, and of the upright one. Both for a square, a half turn or a mirrored image; neither where it is of another image."""

    lying: bool
    upright: bool


def orientations(
    table: SampleTable, annotations: Sequence[Annotation], facts: Sequence[Facts]
) -> tuple[np.ndarray, tuple[Problem, ...]]:
    """(int64 [S], how the boxes of each row are to be turned as EXIF counts it, what the owner should know of that).

    Boxes are turned with their image where the annotation states the size of the image as it lies in its file. A size that
    could be either follows the sizes that could not; where there are none, as torchvision reads it: not turned yet.
    """
    frames = {
        row: _frame(annotations[row], image) for row, image in enumerate(facts) if image.orientation != AS_IT_STANDS
    }
    drawn = {row: frame for row, frame in frames.items() if frame is not None and annotations[row].boxes}
    seen_upright = any(frame.upright and not frame.lying for frame in drawn.values())
    seen_lying = any(frame.lying and not frame.upright for frame in drawn.values())
    turn_either = seen_lying or not seen_upright
    turned_S = np.full(len(facts), AS_IT_STANDS, dtype=np.int64)
    for row, frame in drawn.items():
        if frame.lying and (turn_either or not frame.upright):
            turned_S[row] = facts[row].orientation
    unstated = [row for row, frame in frames.items() if frame is None and annotations[row].boxes]
    message = (
        "the files say that the images are to be turned (EXIF), and nothing says what their boxes were drawn on: taken as "
        "drawn on the upright images. Look at one; if they lie wrong, save the images upright."
    )
    problems = [_turned(table, unstated, message)]
    message = (
        "the files say that the images are to be turned (EXIF), and the sizes that their annotations state are those before "
        "that: their boxes are turned with them. Look at one; if they lie wrong, save the images upright."
    )
    problems.append(_turned(table, np.flatnonzero(turned_S != AS_IT_STANDS).tolist(), message))
    return turned_S, tuple(problem for problem in problems if problem.files)


def other_sizes(table: SampleTable, annotations: Sequence[Annotation], facts: Sequence[Facts]) -> Iterator[Problem]:
    """Annotations that speak of an image of another size."""
    for path, annotation, image in zip(table.paths, annotations, facts, strict=True):
        frame = _frame(annotation, image)
        if frame is not None and not (frame.lying or frame.upright):
            message = (
                f"states {annotation.width} x {annotation.height} pixels, the image has {image.width} x {image.height}; its "
                "boxes are taken as they stand. Was the image resized or turned? Then its boxes must be, too."
            )
            yield Problem(kind="size-differs", severity="warning", files=(annotation.file or path,), message=message)


def _frame(annotation: Annotation, image: Facts) -> _Frame | None:
    """None where no size is stated, or the image cannot be used."""
    stated, upright = (annotation.width, annotation.height), (image.width, image.height)
    if min(*stated, *upright) <= 0:
        return None
    return _Frame(lying=stated == size_before(upright, image.orientation), upright=stated == upright)


def _turned(table: SampleTable, rows: Sequence[int], message: str) -> Problem:
    files = tuple(table.paths[row] for row in rows)
    return Problem(kind="turned-images", severity="warning", files=files, message=message)


def _thinner_than_a_pixel(boxes_B4: np.ndarray) -> np.ndarray:
    thin: np.ndarray = ((boxes_B4[:, 2:] - boxes_B4[:, :2]) < PER_PIXEL).any(axis=1)
    return thin
