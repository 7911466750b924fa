"""What a dataset's folder or CSV says: which images there are, of which class and part. No image is opened here."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainwright.data.problems import Problem, all_messages, counted, few, is_printable, printable
from trainwright.errors import DataError, unknown_name

TASKS = ("classification",)
PARTS = {  # names of part folders and of values in a CSV's part column
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
ENDINGS = {  # of file names, by what Pillow calls the format
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".j2c", ".jpc"),
    "ICO": (".ico",),
    "HEIF": (".heic", ".heif", ".hif"),  # not decoded, but named
}
IMAGE_SUFFIXES = frozenset(ending for endings in ENDINGS.values() for ending in endings)
LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r", "lost+found"})
LAYOUTS = (
    "Understood are a folder with one sub-folder of images for each class, the same under train/, val/ and test/, and a "
    "CSV file with a path and a label column."
)


@dataclass(frozen=True, kw_only=True)
class SampleTable:
    """Which images there are and what they are called: one row an image.

    root: folder that paths are relative to. paths: POSIX, sorted. targets: int64 [S], index into classes. classes:
    sorted, from train, or from the whole when there are no parts. parts: unicode [S], `train`, `val`, `test`, or "" where
    it is still to be split. groups: rows of one group stay in one part; "" is a row on its own. problems: what was left
    aside while reading.
    """

    root: Path
    task: str
    paths: tuple[str, ...]
    targets: np.ndarray
    classes: tuple[str, ...]
    parts: np.ndarray
    groups: tuple[str, ...] | None
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One image as the layout names it."""

    path: str
    label: str
    part: str = ""
    group: str = ""


def read_layout(path: Path, *, target: str | None = None, task: str | None = None) -> SampleTable:
    """The sample table of a folder of class folders (optionally under train/ val/ test/) or of a CSV file.

    target: the CSV's label column. task: overrules what the layout suggests. Raises DataError with everything that keeps
    it from being trained on, UnknownNameError for a task that is not known.
    """
    if task is not None and task not in TASKS:
        raise unknown_name(task, TASKS, where="task", what="task")
    if not os.path.exists(path):  # noqa: PTH110 (Path.exists raises where it is not allowed to look)
        raise DataError("no such folder or file.", where=str(path), cure="Check the path.")
    if path.is_dir():
        if target is not None:
            raise DataError(
                f"target {target!r} was given, but a folder has no columns.",
                where=str(path),
                cure=_csv_hint(path) or "Leave the target out, or give a CSV file.",
            )
        return _read_folder(path.absolute())
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        from trainwright.data.csv_layout import read_csv

        return read_csv(path.absolute(), target=target, task=task)
    raise DataError("neither a folder nor a CSV file.", where=str(path), cure=f"Unpack an archive first. {LAYOUTS}")


def make_table(
    root: Path,
    rows: Sequence[Row],
    *,
    where: str,
    classes: tuple[str, ...] | None = None,
    grouped: bool = False,
    problems: Sequence[Problem] = (),
) -> SampleTable:
    """The table of `rows`, sorted by path, with classes indexed once: in the given order, or sorted.

    Raises DataError where the classes of the parts differ, or there is only one.
    """
    rows = sorted(rows, key=lambda row: row.path)
    found = _checked_classes(rows, where=where)
    classes = found if classes is None else classes
    index = {name: number for number, name in enumerate(classes)}
    return SampleTable(
        root=root,
        task="classification",
        paths=tuple(row.path for row in rows),
        targets=np.array([index[row.label] for row in rows], dtype=np.int64),
        classes=classes,
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


def _read_folder(root: Path) -> SampleTable:
    """The table of a folder. Raises DataError."""
    folders, files = _listed(root)
    if not folders and not files:
        raise DataError("the folder is empty.", where=str(root), cure=LAYOUTS)
    _refuse_other_tasks(root, folders)
    parts = _part_folders(root, folders)
    if not parts and not folders:
        raise _no_class_folders(root, files)
    rows: list[Row] = []
    aside = _Aside()
    found: list[str] = []
    for part, folder in parts.items() or {"": root}.items():
        rows += _class_rows(folder, part, root, aside, found)
    if found:
        raise DataError(all_messages(found), where=str(root), cure=LAYOUTS)
    if not parts and len({row.label for row in rows}) == 1 and len(_listed(root / folders[0])[0]) > 1:
        raise DataError(
            f"there is only the folder {folders[0]!r} in it, with folders of its own.",
            where=str(root),
            cure=f"Did you mean {root / folders[0]}?",
        )
    return make_table(root, rows, where=str(root), problems=tuple(aside.problems()))


def _part_folders(root: Path, folders: Sequence[str]) -> dict[str, Path]:
    """Part name to folder, where the folders are parts; nothing where they are classes. Raises DataError."""
    named = [name for name in folders if name.lower() in PARTS]
    if not any(_listed(root / name)[0] for name in named):
        if named and len(named) == len(folders) and len({PARTS[name.lower()] for name in named}) > 1:
            raise DataError(
                f"{few(named)} hold no class folders.", where=str(root), cure=f"Sort the images by class. {LAYOUTS}"
            )
        return {}  # a class may well be called train
    twice = [part for part, count in Counter(PARTS[name.lower()] for name in named).items() if count > 1]
    others = [name for name in folders if name not in named and _holds_images(root / name, root=root)]
    if twice or others:
        same = {part: [name for name in named if PARTS[name.lower()] == part] for part in twice}
        found = [f"more than one folder for {part}: {few(names)}." for part, names in same.items()]
        found += [f"images beside {few(named)}, in no part: {few(others)}."] if others else []
        raise DataError(all_messages(found), where=str(root), cure="Move them into a part, or away.")
    return {PARTS[name.lower()]: root / name for name in named}


def _class_rows(folder: Path, part: str, root: Path, aside: _Aside, found: list[str]) -> Iterator[Row]:
    """The images of each class folder in `folder`. What is wrong is added to `found`, what is left out to `aside`."""
    names, files = _listed(folder)
    place = folder.relative_to(root).as_posix()
    prefix = "" if place == "." else f"{place}/"
    aside.loose += [prefix + name for name in files if _is_image(name)]
    empty = []
    for name in names:
        images = 0
        for path in _files(folder / name, root=root):
            relative = f"{prefix}{name}/{path}"
            if not is_printable(relative):
                aside.unnameable.append(relative)
            elif not _is_image(path):
                aside.strays.append(relative)
            else:
                images += 1
                yield Row(path=relative, label=unicodedata.normalize("NFC", name), part=part)
        if not images:
            empty.append(prefix + name)
    if not names:
        found.append(f"{place} has no class folders.")
    if empty:
        found.append(f"class folders without any image: {few(empty, limit=20)}. Add images or remove them.")


class _Aside:
    """Files that no row was made of, by why."""

    def __init__(self) -> None:
        self.strays: list[str] = []
        self.loose: list[str] = []
        self.unnameable: list[str] = []

    def problems(self) -> Iterator[Problem]:
        kinds: Mapping[str, tuple[list[str], str]] = {
            "not-an-image": (
                self.strays,
                "left out: by their names these are no images. Give an image its usual ending, or remove the file.",
            ),
            "no-class": (self.loose, "left out: images outside of the class folders. Move them into one."),
            "unreadable": (
                [printable(name) for name in self.unnameable],
                "left out: their names are not valid UTF-8. Rename them.",
            ),
        }
        for kind, (files, message) in kinds.items():
            if files:
                yield Problem(kind=kind, severity="warning", files=tuple(sorted(files)), message=message)


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Names of (folders, everything else) in a folder, sorted, without hidden ones and litter. Raises DataError."""
    folders: list[str] = []
    files: list[str] = []
    for entry in _scan(folder):
        (folders if _is_folder(entry) else files).append(entry.name)
    return sorted(folders), sorted(files)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.lower() not in LITTER]
    except OSError as error:
        raise _cannot_be_listed(folder, error) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _files(folder: Path, *, root: Path) -> Iterator[str]:
    """Everything below `folder` that is no folder, relative to it. Links may loop: each real folder is entered once, and
    the dataset's `root` never.

    An empty folder with the name of an image is given as well, so that someone is told of it.
    """
    waiting, entered = [("", folder)], {_identity(root)}
    while waiting:
        prefix, here = waiting.pop()
        if (identity := _identity(here)) in entered:
            continue
        entered.add(identity)
        for entry in _scan(here):
            if not _is_folder(entry) or (_is_image(entry.name) and not _scan(Path(entry.path))):
                yield prefix + entry.name
            else:
                waiting.append((f"{prefix}{entry.name}/", Path(entry.path)))


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise _cannot_be_listed(folder, error) from None
    return status.st_dev, status.st_ino


def _cannot_be_listed(folder: Path, error: OSError) -> DataError:
    where = printable(str(folder))
    return DataError(f"cannot be listed ({error.strerror}).", where=where, cure="Check its permissions.")


def _holds_images(folder: Path, *, root: Path) -> bool:
    return any(_is_image(path) for path in _files(folder, root=root))


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (ten times faster than Path here)


def _refuse_other_tasks(root: Path, folders: Iterable[str]) -> None:
    """Raise DataError where the folders are those of another task, whose files must not be taken for classes."""
    signs = {"masks": "segmentation", "annotations": "detection", "labels": "detection"}
    named = {name.lower() for name in folders}
    inside = [name for name in folders if name.lower() in PARTS]
    if "images" not in named and inside:
        named = {name.lower() for name in _listed(root / inside[0])[0]}
    for sign, task in signs.items():
        if named == {"images", sign}:
            raise DataError(
                f"images/ beside {sign}/ is a dataset for {task}, which cannot be trained yet.",
                where=str(root),
                cure=LAYOUTS,
            )


def _no_class_folders(root: Path, files: Sequence[str]) -> DataError:
    images = sum(_is_image(name) for name in files)
    what = f"{counted(images, 'image')} but no class folders." if images else "no images and no class folders."
    return DataError(what, where=str(root), cure=" ".join(filter(None, [_csv_hint(root), LAYOUTS])))


def _csv_hint(folder: Path) -> str:
    tables = [name for name in _listed(folder)[1] if name.lower().endswith((".csv", ".tsv"))]
    return f"Did you mean the table {folder / tables[0]}?" if tables else ""
