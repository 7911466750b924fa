"""A class for every pixel of an image: what segmentation learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainwright.data.cache import open_pixels, pixels_key
from trainwright.data.decode import DecodeError, fit_mask
from trainwright.data.fingerprint import CHUNK, PASSING, hash_pixels
from trainwright.data.masks import MASK_VERSION, MAX_CLASSES, MaskClasses, numbered, read_mask, unknown_values
from trainwright.data.memory import Facts, is_settled, recall, remember, stamp_of
from trainwright.data.pixels import MASK, usable_cores
from trainwright.data.problems import Problem, few
from trainwright.data.targets import Stored, TargetSource
from trainwright.errors import DataError
from trainwright.records import IGNORED, Progress, TargetKind

if TYPE_CHECKING:
    from trainwright.data.augment import Moves
    from trainwright.data.pixels import PixelSource
    from trainwright.data.table import SampleTable

WHERE = "from_arrays"


@dataclass(frozen=True, kw_only=True)
class MaskTargets:
    """A mask of each image, from `paths` relative to the dataset's root, or from `arrays` uint8 [H, W]; by row.

    classes: what pixels mean; None until `looked_at` where nobody listed them. names: of the scored ones. masks: what each
    mask holds, as `_facts_of` says it; none until `looked_at`. good_S: bool [S], rows whose mask can be used. found: what
    is wrong with the masks one by one.
    """

    paths: tuple[str, ...] = ()
    arrays: tuple[np.ndarray, ...] = field(default=(), repr=False)
    classes: MaskClasses | None = None
    names: tuple[str, ...] = ()
    masks: tuple[Facts, ...] = field(default=(), repr=False)
    good_S: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool), repr=False)
    found: tuple[Problem, ...] = field(default=(), repr=False)
    kind: TargetKind = "mask"
    every_stratum_in_every_part: bool = False

    @classmethod
    def from_arrays(cls, masks: Sequence[np.ndarray], names: Sequence[str]) -> MaskTargets:
        """Masks in memory: whole numbers [H, W], indices into `names`, 255 where nothing is scored. Raises DataError."""
        if not 2 <= len(set(names)) == len(names) <= MAX_CLASSES:
            message = f"expected 2 to {MAX_CLASSES} different names of classes, got {few(names) or 'none'}."
            raise DataError(message, where=WHERE, cure="Name every class that the masks hold.")
        arrays = tuple(_checked(np.asarray(mask), index, len(names)) for index, mask in enumerate(masks))
        classes = MaskClasses(listed=tuple(names))
        seen = tuple(_facts_of(mask_HW, classes) for mask_HW in arrays)
        usable = np.ones(len(arrays), dtype=bool)
        return cls(arrays=arrays, classes=classes, names=classes.names, masks=seen, good_S=usable)

    def __len__(self) -> int:
        return len(self.paths) or len(self.arrays)

    def text(self, row: int) -> str:
        """A hash of the scored mask: the same for masks of numbers and of colours; "" for one that cannot be read."""
        return self.masks[row].pixel_hash

    def strata(self) -> Sequence[str]:
        """Of each image the class that has the fewest pixels in the dataset, so that rare ones come into every part."""
        pixels_SK = self._pixels_SK
        totals_K = pixels_SK[self.good_S].sum(axis=0)
        rarest_S = np.where(pixels_SK > 0, totals_K, np.inf).argmin(axis=1) if self.names else np.zeros(len(self), int)
        scored_S: list[bool] = (pixels_SK.max(axis=1, initial=0) > 0).tolist()
        return [self.names[index] if scored else "" for index, scored in zip(rarest_S, scored_S, strict=True)]

    def looked_at(
        self,
        table: SampleTable,
        facts: Sequence[Facts],
        *,
        workers: int,
        progress: Progress | None,
        cache_dir: Path | None,
    ) -> MaskTargets:
        """The same with every mask read once, in parallel, or remembered, and held against its image."""
        known = self.classes or numbered(MAX_CLASSES)  # nobody named them: first see which numbers there are
        masks = self.masks
        if not self.arrays:
            masks = tuple(_looked(table.root, self.paths, known, workers, progress, cache_dir))
        classes = self.classes
        if classes is None:
            learned = np.isin(table.parts, ("train", ""))
            classes = numbered(_highest([mask for mask, own in zip(masks, learned, strict=True) if own]) + 1)
        found = [
            _wrong(table.paths[row], name, facts[row], masks[row], classes)
            for row, name in enumerate(self.paths or table.paths)
        ]
        return replace(
            self,
            classes=classes,
            names=classes.names,
            masks=masks,
            good_S=np.array([problem is None for problem in found], dtype=bool),
            found=tuple(_joined([problem for problem in found if problem is not None])),
        )

    def usable(self) -> np.ndarray:
        return self.good_S

    def problems(self, table: SampleTable, usable: np.ndarray) -> Iterator[Problem]:
        """Masks that cannot be used, masks without a scored pixel, and classes that a part has nothing of."""
        yield from self.found
        pixels_SK = self._pixels_SK
        blank = np.flatnonzero(usable & ~pixels_SK.any(axis=1))
        if len(blank):
            message = (
                "used all the same: every pixel of the mask is ignored, so nothing is learned. Label it or remove it."
            )
            files = tuple((self.paths or table.paths)[row] for row in blank)
            yield Problem(kind="nothing-scored", severity="warning", files=files, message=message)
        parts = sorted(set(table.parts.tolist()))
        seen = {part: pixels_SK[usable & (table.parts == part)].any(axis=0) for part in parts}
        learned_K = seen.get("train", seen.get("", np.zeros(len(self.names), dtype=bool)))
        if learned_K.sum() < 2:
            yield self._too_few_classes(learned_K)
            return
        for part, seen_K in seen.items():
            if not seen_K.any():
                message = f"no usable mask in {part} has a scored pixel: nothing can be judged there. Label it, or leave it out."
                yield Problem(kind="nothing-to-judge", severity="error", files=(), message=message)
                continue
            absent = [name for name, there in zip(self.names, seen_K, strict=True) if not there]
            if absent:
                what = "cannot be learned" if part in ("train", "") else "is not judged"
                message = (
                    f"no pixel {f'in {part} ' if part else ''}of {few(absent, limit=20)}: what is not there {what}."
                )
                cure = "Add images of it, or take it out of the classes."
                yield Problem(kind="class-absent", severity="warning", files=(), message=f"{message} {cure}")

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        """Pixels of each class."""
        return dict(zip(self.names, self._pixels_SK[rows].sum(axis=0).tolist(), strict=True))

    def array(self, rows: np.ndarray) -> np.ndarray:
        raise AssertionError("masks of different sizes are no array: ask for their source")

    def source(self, stored: Stored) -> TargetSource:
        """The masks, made to fit as their images are and kept in the pixel cache."""

        def read(row: int) -> np.ndarray:
            return fit_mask(self._mask(row, stored.root), stored.size, stored.fit)

        key = pixels_key([self.text(row) for row in np.unique(stored.rows).tolist()], fit=stored.fit)
        pixels = open_pixels(
            read,
            rows=stored.rows,
            size=stored.size,
            key=f"masks {MASK_VERSION} {key}",
            channels=MASK,
            cache_dir=stored.cache_dir,
            workers=stored.workers,
            progress=stored.progress,
        )
        return MaskSource(pixels)

    def _mask(self, row: int, root: Path) -> np.ndarray:
        """The scored mask of a row, uint8 [H, W]. Raises DataError where it can no longer be read."""
        assert self.classes is not None, "looked_at comes first"
        if self.arrays:
            return self.arrays[row]
        path = root / self.paths[row]
        try:
            return self.classes.scored(read_mask(path, self.classes.colours))
        except DecodeError as error:
            cure = "'trainwright inspect' names every such file."
            raise DataError(error.message, where=str(path), cure=cure) from error

    @cached_property
    def _pixels_SK(self) -> np.ndarray:
        """Pixels of each scored class, int64."""
        assert self.classes is not None, "looked_at comes first"
        index_of = self.classes.scored(np.arange(256)).tolist()
        pixels_SK = np.zeros((len(self.masks), len(self.names)), dtype=np.int64)
        for row, mask in enumerate(self.masks):
            for value, count in _values(mask).items():
                if index_of[value] != IGNORED:
                    pixels_SK[row, index_of[value]] = count
        return pixels_SK

    def _too_few_classes(self, learned_K: np.ndarray) -> Problem:
        there = [name for name, seen in zip(self.names, learned_K, strict=True) if seen]
        only = f"only {there[0]!r} has pixels" if there else "no class has pixels"
        message = f"{only} in the usable masks that are learned from. At least two classes are needed."
        if any(IGNORED in _values(mask) for mask in self.masks) and self.classes and self.classes.colours is None:
            cure = f"Pixels of {IGNORED} are ignored; if they are a class, write 'background 0 0 0' and 'object 255 255 255'"
            message = f"{message} {cure} into classes.txt."
        return Problem(kind="too-few-classes", severity="error", files=(), message=message)


class MaskSource:
    """Masks beside stored images, from the pixel cache."""

    warpable = True

    def __init__(self, pixels: PixelSource) -> None:
        self._pixels = pixels

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        """uint8 [N, H, W], of the stored size."""
        return self._pixels.take(rows_N)

    def moved(self, taken: np.ndarray, moves: Moves) -> np.ndarray:
        from trainwright.data.augment import move_masks  # brings torch, which looking at a dataset does without

        return move_masks(taken, moves)


def _looked(
    root: Path,
    paths: Sequence[str],
    classes: MaskClasses,
    workers: int,
    progress: Progress | None,
    cache_dir: Path | None,
) -> list[Facts]:
    """What each mask holds. It is remembered by path and by what pixels mean, beside what is remembered of the images."""
    keys = {path: f"{path} as a mask {classes.digest}" for path in paths}
    remembered = recall(root, cache_dir)
    facts: dict[str, Facts] = {}
    fresh: dict[str, Facts] = {}

    def look(chunk: Sequence[str]) -> list[tuple[str, Facts, bool]]:
        return [(path, *_look(root / path, remembered.get(keys[path]), classes)) for path in chunk]

    pool = ThreadPoolExecutor(max_workers=workers or usable_cores(), thread_name_prefix="masks")
    try:
        chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
        for future in as_completed([pool.submit(look, chunk) for chunk in chunks]):
            for path, found, is_new in future.result():
                facts[path] = found
                if is_new:
                    fresh[keys[path]] = found
            if progress is not None:
                progress("reading masks", len(facts), len(paths))
    finally:  # an interrupted pass goes on where it stopped
        pool.shutdown(cancel_futures=True)
        if fresh:
            remember(root, fresh, cache_dir)
    return [facts[path] for path in paths]


def _look(path: Path, remembered: Facts | None, classes: MaskClasses) -> tuple[Facts, bool]:
    """(what the mask file holds, whether that is new and may be remembered)."""
    try:
        stamp = stamp_of(path)
    except (OSError, ValueError):
        stamp = (0, 0, 0)
    if remembered is not None and remembered.stamp == stamp:
        return remembered, False
    settled = is_settled(stamp)
    try:
        found = replace(_facts_of(read_mask(path, classes.colours), classes), stamp=stamp)
    except DecodeError as error:
        found = Facts(stamp=stamp, kind=error.kind, message=error.message)
    return found, settled and found.kind not in PASSING


def _facts_of(mask_HW: np.ndarray, classes: MaskClasses) -> Facts:
    """What a mask of class numbers holds. pixel_hash: of the scored mask. format: pixels of each number, '0:57 11:3'."""
    counts = np.bincount(mask_HW.ravel(), minlength=256).tolist()
    height, width = mask_HW.shape
    return Facts(
        stamp=(mask_HW.nbytes, 0, 0),
        pixel_hash=hash_pixels(classes.scored(mask_HW)),
        width=width,
        height=height,
        format=" ".join(f"{value}:{count}" for value, count in enumerate(counts) if count),
    )


def _values(mask: Facts) -> dict[int, int]:
    """Pixels of each value that is in a mask, nothing for one that cannot be read."""
    pairs = (entry.split(":") for entry in mask.format.split())
    return {int(value): int(count) for value, count in pairs}


def _highest(masks: Sequence[Facts]) -> int:
    """The highest number that stands for a class in `masks`, -1 where there is none."""
    return max((value for mask in masks for value in _values(mask) if value != IGNORED), default=-1)


def _wrong(image: str, name: str, facts: Facts, mask: Facts, classes: MaskClasses) -> Problem | None:
    """Why the mask `name` of `image` cannot be used; None where it can."""
    if mask.kind:
        kind = mask.kind if mask.kind == "unknown-class" else f"mask-{mask.kind}"
        return Problem(kind=kind, severity="error", files=(name,), message=mask.message)
    strange = {value: count for value, count in _values(mask).items() if not classes.known[value]}
    if strange:
        most = sorted(strange, key=lambda value: -strange[value])
        message = unknown_values("value", [str(value) for value in most], [strange[value] for value in most])
        return Problem(kind="unknown-class", severity="error", files=(name,), message=message)
    if facts.width and (facts.width, facts.height) != (mask.width, mask.height):
        message = (
            f"left out: the mask is {mask.width} x {mask.height} pixels, its image {facts.width} x {facts.height}. "
            "Make them the same size."
        )
        if (facts.width, facts.height) == (mask.height, mask.width):
            message += " Cameras note how a picture is to be turned (EXIF): turn the mask too."
        return Problem(kind="mask-size-differs", severity="error", files=(image, name), message=message)
    return None


def _joined(found: Sequence[Problem]) -> Iterator[Problem]:
    """Problems of the very same words as one, with all their files."""
    files: dict[tuple[str, str], list[str]] = {}
    for problem in found:
        files.setdefault((problem.kind, problem.message), []).extend(problem.files)
    for (kind, message), names in files.items():
        yield Problem(kind=kind, severity="error", files=tuple(names), message=message)


def _checked(mask: np.ndarray, index: int, classes: int) -> np.ndarray:
    """A mask in memory as uint8 [H, W], a copy. Raises DataError for other types, shapes and values."""
    where = f"{WHERE}: mask {index}"
    if mask.ndim != 2 or not mask.size:
        cure = "Give one class number for each pixel."
        raise DataError(f"expected [H, W], got {list(mask.shape)}.", where=where, cure=cure)
    if not (np.issubdtype(mask.dtype, np.integer) or mask.dtype == np.bool_):
        raise DataError(f"expected whole numbers, got {mask.dtype}.", where=where, cure="Convert it to uint8.")
    strange = np.unique(mask[(mask < 0) | ((mask >= classes) & (mask != IGNORED))])
    if len(strange):
        cure = f"Numbers count from 0 to {classes - 1}; {IGNORED} is ignored."
        raise DataError(f"values {few(map(str, strange.tolist()))} are no class.", where=where, cure=cure)
    return mask.astype(np.uint8)
