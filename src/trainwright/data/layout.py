"""What a dataset's folder or file says: which images there are, for which task, of which part. No image is opened here."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainwright.data.listing import PARTS, files_below, holds_images, is_image, listed
from trainwright.data.problems import Problem, all_messages, counted, few, is_printable, printable
from trainwright.data.table import Row, SampleTable, make_table
from trainwright.data.targets import kind_for
from trainwright.errors import DataError, UsageError
from trainwright.plugins import tasks

IMAGE_FOLDERS = frozenset({"images", "jpegimages"})
ANNOTATION_FOLDERS = frozenset({"annotations", "labels"})
LAYOUTS = (
    "Understood are a folder with one sub-folder of images for each class; images/ beside masks/, beside Pascal VOC's "
    "annotations/ or beside YOLO's labels/; each of these also under train/, val/ and test/; COCO's JSON; and a CSV file with "
    "a path column and a column of labels or numbers."
)


def read_layout(path: Path, *, target: str | None = None, task: str | None = None) -> SampleTable:
    """The sample table of a folder, a CSV file, a COCO JSON file or a YOLO data.yaml; the task follows from what is there.

    target: the CSV's label or number column, or several, separated by commas. task: overrules what the layout suggests.
    Raises DataError with everything that keeps it from being trained on, UnknownNameError for a task that is not known,
    UsageError for one that these targets are not for.
    """
    if task is not None:
        tasks.check(task)
    if not os.path.exists(path):  # noqa: PTH110 (Path.exists raises where it is not allowed to look)
        raise DataError("no such folder or file.", where=str(path), cure="Check the path.")
    table = _read(path.absolute(), target, task)
    return table if task in (None, table.task) else _for_task(table, task, path)


def _read(path: Path, target: str | None, task: str | None) -> SampleTable:
    """The table of a path that exists, for the task that it suggests. A readers' room is imported where it is needed."""
    from trainwright.data.box_layout import holds_boxes, read_boxes
    from trainwright.data.csv_layout import read_csv
    from trainwright.data.csv_parts import read_beside, read_parts_csv
    from trainwright.data.mask_layout import holds_masks, read_masks

    if path.is_dir():
        if target is not None:
            table = read_parts_csv(path, target=target, task=task)
            if table is not None:
                return table
            raise DataError(
                f"target {target!r} was given, but a folder has no columns.",
                where=str(path),
                cure=_csv_hint(path) or "Leave the target out, or give a CSV file.",
            )
        kind = None if task is None else kind_for(task)
        if kind == "boxes" and holds_boxes(path):
            return read_boxes(path)
        if kind == "class" and (table := _as_classes(path)) is not None:
            return table
        if holds_masks(path):
            return read_masks(path)
        return read_boxes(path) if holds_boxes(path) else _read_folder(path, said=kind == "class")
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return read_beside(path, target=target, task=task) or read_csv(path, target=target, task=task)
    if holds_boxes(path):
        return read_boxes(path)
    raise DataError("neither a folder nor a CSV file.", where=str(path), cure=f"Unpack an archive first. {LAYOUTS}")


def _as_classes(root: Path) -> SampleTable | None:
    """The table of class folders whatever they are called; None where there are none."""
    try:
        return _read_folder(root, said=True)
    except DataError:
        return None


def _for_task(table: SampleTable, task: str, path: Path) -> SampleTable:
    """The same table for another task that learns from targets of the same kind. Raises UsageError for any other."""
    kind = tasks.get(task).target
    if kind != table.targets.kind:
        raise UsageError(
            f"{task} learns from {kind}, the data holds {table.targets.kind} (for {table.task}).",
            where="task",
            cure="Leave --task out, or give other data.",
        )
    return replace(table, task=task)


def _read_folder(root: Path, *, said: bool) -> SampleTable:
    """The table of a folder. said: that its folders are classes, whatever they are called. Raises DataError."""
    folders, files = listed(root)
    if not folders and not files:
        raise DataError("the folder is empty.", where=str(root), cure=LAYOUTS)
    parts = _part_folders(root, folders)
    if not parts and not folders:
        raise _no_class_folders(root, files)
    rows: list[Row] = []
    aside = _Aside()
    found: list[str] = []
    for part, folder in parts.items() or {"": root}.items():
        if not said:
            _refuse_annotations(folder)
        rows += _class_rows(folder, part, root, aside, found)
    if found:
        raise DataError(all_messages(found), where=str(root), cure=LAYOUTS)
    if not parts and len({row.label for row in rows}) == 1 and len(listed(root / folders[0])[0]) > 1:
        raise DataError(
            f"there is only the folder {folders[0]!r} in it, with folders of its own.",
            where=str(root),
            cure=f"Did you mean {root / folders[0]}?",
        )
    return make_table(root, rows, where=str(root), problems=tuple(aside.problems()))


def _refuse_annotations(folder: Path) -> None:
    """Raise DataError where images/ lies beside a folder of annotations that no reader knows: these are no classes."""
    names = listed(folder)[0]
    images = [name for name in names if name.lower() in IMAGE_FOLDERS]
    beside = [name for name in names if name.lower() in ANNOTATION_FOLDERS]
    if images and beside:
        raise DataError(
            f"{few(images)} beside {few(beside)}, without annotations of a format that is known in it.",
            where=str(folder),
            cure=f"Call a folder of masks 'masks'; if {few([*images, *beside])} are classes, say --task classification; if "
            f"the classes are folders in {images[0]}, give that. {LAYOUTS}",
        )


def _part_folders(root: Path, folders: Sequence[str]) -> dict[str, Path]:
    """Part name to folder, where the folders are parts; nothing where they are classes. Raises DataError."""
    named = [name for name in folders if name.lower() in PARTS]
    if not any(listed(root / name)[0] for name in named):
        if named and len(named) == len(folders) and len({PARTS[name.lower()] for name in named}) > 1:
            raise DataError(
                f"{few(named)} hold no class folders.", where=str(root), cure=f"Sort the images by class. {LAYOUTS}"
            )
        return {}  # a class may well be called train
    twice = [part for part, count in Counter(PARTS[name.lower()] for name in named).items() if count > 1]
    others = [name for name in folders if name not in named and holds_images(root / name, root=root)]
    if twice or others:
        same = {part: [name for name in named if PARTS[name.lower()] == part] for part in twice}
        found = [f"more than one folder for {part}: {few(names)}." for part, names in same.items()]
        found += [f"images beside {few(named)}, in no part: {few(others)}."] if others else []
        raise DataError(all_messages(found), where=str(root), cure="Move them into a part, or away.")
    return {PARTS[name.lower()]: root / name for name in named}


def _class_rows(folder: Path, part: str, root: Path, aside: _Aside, found: list[str]) -> Iterator[Row]:
    """The images of each class folder in `folder`. What is wrong is added to `found`, what is left out to `aside`."""
    names, files = listed(folder)
    place = folder.relative_to(root).as_posix()
    prefix = "" if place == "." else f"{place}/"
    aside.loose += [prefix + name for name in files if is_image(name)]
    empty = []
    for name in names:
        images = 0
        for path in files_below(folder / name, root=root):
            relative = f"{prefix}{name}/{path}"
            if not is_printable(relative):
                aside.unnameable.append(relative)
            elif not is_image(path):
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


def _no_class_folders(root: Path, files: Sequence[str]) -> DataError:
    images = sum(is_image(name) for name in files)
    what = f"{counted(images, 'image')} but no class folders." if images else "no images and no class folders."
    return DataError(what, where=str(root), cure=" ".join(filter(None, [_csv_hint(root), LAYOUTS])))


def _csv_hint(folder: Path) -> str:
    tables = [name for name in listed(folder)[1] if name.lower().endswith((".csv", ".tsv"))]
    return f"Did you mean the table {folder / tables[0]}?" if tables else ""
