"""Images with boxes: which of the formats a path holds, and what reading Pascal VOC, COCO and YOLO has in common."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from trainwright.data.box_faults import Annotation
from trainwright.data.box_targets import BoxTargets
from trainwright.data.listing import IMAGE_SUFFIXES, LITTER, PARTS
from trainwright.data.problems import Problem, all_messages, counted, few, is_printable, printable
from trainwright.data.table import SampleTable
from trainwright.errors import DataError

IMAGE_FOLDERS = frozenset({"images", "jpegimages"})
MAX_FILE_BYTES = 10_000_000  # of the annotation of one image
MAX_NUMBER = 1e9  # no image has so many pixels a side


@dataclass(frozen=True, kw_only=True)
class BoxRow:
    """One image as a format names it. path: relative to the dataset's root, POSIX."""

    path: str
    annotation: Annotation
    part: str = ""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A folder of images and the folder of their annotations. part: "" where sub-folders may say it, or nothing does."""

    images: Path
    annotations: Path
    part: str = ""


def holds_boxes(path: Path) -> bool:
    """Whether a folder or file looks like Pascal VOC, COCO or YOLO. Only names are looked at."""
    return _reader(path) is not None


def read_boxes(path: Path) -> SampleTable:
    """The sample table of Pascal VOC, COCO or YOLO. Raises DataError with everything that keeps it from being read.

    Boxes are continuous edges in pixels (left, top, right, bottom) from the upper left corner of the upright image. VOC's
    numbers are taken as they stand, as torchvision does: the box from xmin to xmax is xmax - xmin wide.
    """
    path = path.absolute()
    name = _reader(path)
    if name == "voc":
        from trainwright.data.voc import read_voc

        return read_voc(path)
    if name == "coco":
        from trainwright.data.coco import read_coco

        return read_coco(path)
    if name == "yolo":
        from trainwright.data.yolo import read_yolo

        return read_yolo(path)
    raise DataError("no boxes in a format that is known.", where=str(path), cure="Known are Pascal VOC, COCO and YOLO.")


def _reader(path: Path) -> str | None:
    """The format of what lies there, None where it is none of them."""
    from trainwright.data.coco import holds_coco
    from trainwright.data.voc import holds_voc
    from trainwright.data.yolo import holds_yolo

    for name, holds in (("voc", holds_voc), ("coco", holds_coco), ("yolo", holds_yolo)):
        if holds(path):
            return name
    return None


def make_box_table(
    root: Path, rows: Iterable[BoxRow], *, names: Iterable[str], problems: Sequence[Problem], found: Sequence[str]
) -> SampleTable:
    """The table of `rows`, sorted by path; classes sorted, so that copies in several formats are equal.

    found: what is already known to be wrong. Raises DataError with that, and where an image is given twice, has no part
    though others have one, or all are in parts but none in train.
    """
    rows = sorted(rows, key=lambda row: row.path)
    wrong = [*found, *_wrong_rows(rows)]
    if not rows and not wrong:
        wrong = ["no image has an annotation."]
    if wrong:
        raise DataError(all_messages(wrong), where=printable(str(root)), cure="Correct or remove what is named.")
    targets = BoxTargets.from_annotations([row.annotation for row in rows], sorted(set(names)), only_used=True)
    return SampleTable(
        root=root,
        task="detection",
        paths=tuple(row.path for row in rows),
        targets=targets,
        parts=np.array([row.part for row in rows], dtype="U5"),
        problems=tuple(problems),
    )


def part_folders(root: Path) -> dict[str, list[Path]]:
    """Folders of `root` that are named like a part, by part."""
    found: dict[str, list[Path]] = {}
    for folder in subfolders(root):
        if folder.name.lower() in PARTS:
            found.setdefault(PARTS[folder.name.lower()], []).append(folder)
    return found


def pairs(root: Path, names: frozenset[str]) -> list[Pair]:
    """Folders of images beside one of annotations (called one of `names`, in small letters): at the root, or in each part."""
    if pair := _pair(root, names, ""):
        return [pair]
    found = [_pair(folder, names, part) for part, folders in part_folders(root).items() for folder in folders]
    return [pair for pair in found if pair is not None]


def unpaired(root: Path, names: frozenset[str]) -> Iterator[Problem]:
    """The problem of images in part folders without a folder of annotations, where another part has one."""
    found: list[str] = []
    for folder in (folder for folders in part_folders(root).values() for folder in folders):
        if _pair(folder, names, "") is None:
            found += [relative(folder / name, root) for name in files_below(folder) if is_image(name)]
    message = f"left out: there is no folder {few(sorted(names))} beside them, as in other parts. Add it."
    if not _pair(root, names, ""):
        yield from unmatched("no-annotation", found, message)


def ignored_parts(root: Path, names: frozenset[str]) -> Iterator[Problem]:
    """The problem of whole parts (images beside annotations) that are left out, as the root itself holds the same."""
    if _pair(root, names, ""):
        folders = [folder for folders in part_folders(root).values() for folder in folders]
        ignored = [relative(folder, root) for folder in folders if _pair(folder, names, "")]
        message = "left out: images and annotations at the root are used, and these folders hold the same. Move one of both away."
        yield from unmatched("part-ignored", ignored, message)


def _pair(folder: Path, names: frozenset[str], part: str) -> Pair | None:
    inside = {entry.name.lower(): entry for entry in subfolders(folder)}
    images = next((inside[name] for name in sorted(IMAGE_FOLDERS) if name in inside), None)
    annotations = next((inside[name] for name in sorted(names) if name in inside), None)
    if images is None or annotations is None:
        return None
    return Pair(images=images, annotations=annotations, part=part)


def subfolders(folder: Path) -> list[Path]:
    """Sub-folders, sorted, without hidden ones and litter; none where it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and not _is_litter(entry.name)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]


def files_below(folder: Path) -> Iterator[str]:
    """Files in `folder` and its sub-folders, relative to it, POSIX. Links may loop: each real folder is entered once."""
    entered: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        entered.add(os.path.realpath(here))
        folders[:] = sorted(
            name
            for name in folders
            if not _is_litter(name) and os.path.realpath(os.path.join(here, name)) not in entered  # noqa: PTH118
        )
        prefix = Path(here).relative_to(folder).as_posix()
        for name in sorted(names):
            if not _is_litter(name):
                yield name if prefix == "." else f"{prefix}/{name}"


def is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def without_suffix(path: str) -> str:
    return os.path.splitext(path)[0]  # noqa: PTH122 (a name may begin with a dot)


def images_by_stem(folder: Path, found: list[str]) -> dict[str, str]:
    """Images below `folder` by their path without ending. Those that share one are added to `found`."""
    images = [path for path in files_below(folder) if is_image(path) and is_printable(path)]
    by_stem = {without_suffix(path): path for path in images}
    if twice := [stem for stem, count in Counter(map(without_suffix, images)).items() if count > 1]:
        found.append(f"{folder.name}: images that differ only in their ending share an annotation: {few(twice)}.")
    return by_stem


def part_of(path: str) -> str:
    """The part that the first folder of a relative path names, "" where it names none."""
    first, slash, _ = path.partition("/")
    return PARTS.get(first.lower(), "") if slash else ""


def relative(path: Path, root: Path) -> str:
    """`path` relative to the root that it lies below, POSIX."""
    return path.relative_to(root).as_posix()


def number(given: object) -> float:
    """A number or its text as float; NaN where it is none, or beyond any image."""
    try:
        value = float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return value if abs(value) <= MAX_NUMBER and not isinstance(given, bool) else math.nan


def read_small(file: Path) -> bytes:
    """What an annotation file holds. Raises DataError where it cannot be read or is larger than MAX_FILE_BYTES."""
    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"larger than {MAX_FILE_BYTES:,} bytes.", where=printable(str(file)))
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).", where=printable(str(file))) from None


def unmatched(kind: str, files: Iterable[str], message: str) -> Iterator[Problem]:
    """The problem of files that are left out; nothing where there are none."""
    if files := tuple(sorted(map(printable, files))):
        yield Problem(kind=kind, severity="error", files=files, message=message)


def _wrong_rows(rows: Sequence[BoxRow]) -> Iterator[str]:
    if twice := [path for path, count in Counter(row.path for row in rows).items() if count > 1]:
        yield f"{counted(len(twice), 'image')} given more than once: {few(twice)}."
    parts = Counter(row.part for row in rows)
    if 0 < parts[""] < len(rows):
        without = [row.path for row in rows if not row.part]
        yield f"{counted(len(without), 'image')} in no part, where others are in one: {few(without)}."
    elif rows and not parts[""] and not parts["train"]:
        yield f"there is no train part, only {few(sorted(parts))}."


def _is_litter(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER
