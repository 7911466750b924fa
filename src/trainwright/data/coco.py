"""COCO: JSON files that list images, categories and boxes; the images lie beside, in images/, or in a folder for each part."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from trainwright.data.box_faults import Annotation, RawBox
from trainwright.data.box_layout import (
    IMAGE_FOLDERS,
    BoxRow,
    files_below,
    is_image,
    make_box_table,
    number,
    part_folders,
    relative,
    subfolders,
    unmatched,
)
from trainwright.data.listing import PARTS
from trainwright.data.problems import Problem, all_messages, counted, few, printable
from trainwright.data.table import SampleTable
from trainwright.errors import DataError

MAX_JSON_BYTES = 2_000_000_000  # all of COCO's train2017 takes 450 MB
LISTS = ("images", "annotations", "categories")
START_BYTES = 65_536  # of a file, in which one of COCO's lists begins
BESIDE_IMAGES = ("_annotations.coco.json", "annotations.coco.json", "annotations.json")


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """One JSON file. part: of all its images, "" where they are still to be split."""

    file: Path
    part: str


@dataclass(kw_only=True)
class _Read:
    """What has been read so far, over all files."""

    root: Path
    rows: list[BoxRow] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    found: list[str] = field(default_factory=list)


def holds_coco(path: Path) -> bool:
    """Whether a file is JSON, or a folder has JSON files in annotations/, or one that begins as COCO beside its images."""
    return bool(_listings(path)) if path.is_dir() else path.suffix.lower() == ".json"


def read_coco(path: Path) -> SampleTable:
    """The table of a COCO JSON file or of a folder with such files. Raises DataError that names everything bad in them.

    Crowd regions are left out: one box around many objects teaches where none of them is. Images in the folders that no
    file lists are left out, too.
    """
    if path.is_dir():
        read, listings = _Read(root=path), _listings(path)
    else:
        above = path.parent.parent if path.parent.name.lower() == "annotations" else path.parent
        read, listings = _Read(root=above), [_Listing(file=path, part="")]
    for part, count in Counter(listing.part for listing in listings).items():
        if count > 1:
            files = [relative(listing.file, read.root) for listing in listings if listing.part == part]
            read.found.append(
                f"more than one file {f'for {part}' if part else 'and no part in its name'}: {few(files)}."
            )
    for listing in [] if read.found else listings:
        try:
            _add(listing, read)
        except DataError as error:
            read.found.append(f"{printable(relative(listing.file, read.root))}: {error.message}")
    _name_unlisted(read, {listing.part for listing in listings})
    if path.is_dir():
        read.problems += _ignored(path, listings)
    return make_box_table(read.root, read.rows, names=read.names, problems=read.problems, found=read.found)


def _listings(root: Path) -> list[_Listing]:
    """JSON files of a folder with the part of each: in annotations/, else one in each part folder, else one at the root."""
    inside = next((folder for folder in subfolders(root) if folder.name.lower() == "annotations"), None)
    if inside is not None and (files := _json_files(inside)):
        instances = [file for file in files if file.name.lower().startswith("instances")]
        return [_Listing(file=file, part=_part_in(file.stem)) for file in instances or files]
    in_parts = [
        _Listing(file=file, part=part)
        for part, folders in part_folders(root).items()
        for folder in folders
        if (file := _beside_images(folder)) is not None
    ]
    if in_parts:
        return in_parts
    file = _beside_images(root)
    return [] if file is None else [_Listing(file=file, part="")]


def _json_files(folder: Path) -> list[Path]:
    try:
        return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".json" and file.name[0] != ".")
    except OSError:
        return []


def _beside_images(folder: Path) -> Path | None:
    files = (folder / name for name in BESIDE_IMAGES)
    return next((file for file in files if file.is_file() and _is_meant_as_coco(file)), None)


def _is_meant_as_coco(file: Path) -> bool:
    """Whether a file of such a name lies beside images/, says COCO, or begins as one: other programs use the name, too."""
    if "coco" in file.name.lower() or any(beside.name.lower() in IMAGE_FOLDERS for beside in subfolders(file.parent)):
        return True
    try:
        with file.open("rb") as content:
            start = content.read(START_BYTES)
    except OSError:
        return True  # whoever reads it says so
    return any(f'"{key}"'.encode() in start for key in LISTS)


def _part_in(stem: str) -> str:
    """The part that a word of a file's name says: train for instances_train2017."""
    return next((PARTS[word] for word in re.findall("[a-z]+", stem.lower()) if word in PARTS), "")


def _add(listing: _Listing, read: _Read) -> None:
    """The images of one file. Raises DataError with everything that is not as in COCO."""
    content = _loaded(listing.file)
    images, categories, annotations = (content[key] for key in ("images", "categories", "annotations"))
    _check_ids(images, categories)
    names = {item["id"]: unicodedata.normalize("NFC", str(item["name"]).strip()) for item in categories}
    boxes, crowds, strange = _boxes(annotations, {item["id"] for item in images}, names)
    file = relative(listing.file, read.root)
    if crowds:
        message = f"{counted(crowds, 'crowd region')} (iscrowd) left out: one box around many objects."
        read.problems.append(Problem(kind="crowd-boxes", severity="warning", files=(file,), message=message))
    if strange:
        message = f"left out: annotations of images that are not listed: {few(map(str, strange))}. Add the images."
        read.problems.append(Problem(kind="no-image", severity="warning", files=(file,), message=message))
    folders, missing = _image_folders(listing, read.root), []
    for item in images:
        path = _found(str(item["file_name"]), folders, read.root)
        if path is None:
            missing.append(str(item["file_name"]))
            continue
        annotation = Annotation(
            file="",
            boxes=tuple(boxes.get(item["id"], ())),
            width=_pixels(item, "width"),
            height=_pixels(item, "height"),
        )
        read.rows.append(BoxRow(path=path, annotation=annotation, part=listing.part))
    read.names |= set(names.values())
    message = f"left out: {file} lists them and they are not there. Add the images, or remove their entries."
    read.problems += unmatched("no-image", missing, message)


def _boxes(
    annotations: Sequence[Mapping[str, Any]], images: set[Any], names: Mapping[Any, str]
) -> tuple[dict[Any, list[RawBox]], int, list[Any]]:
    """(boxes by id of their image, how many crowd regions there are, ids of annotations of images that are not listed)."""
    boxes: dict[Any, list[RawBox]] = {}
    crowds, strange = 0, []
    for place, item in enumerate(annotations, 1):
        if item.get("iscrowd"):
            crowds += 1
        elif _key(item.get("image_id")) not in images:
            strange.append(item.get("id", place))
        else:
            boxes.setdefault(item["image_id"], []).append(_box(item, place, names))
    return boxes, crowds, strange


def _box(item: Mapping[str, Any], place: int, names: Mapping[Any, str]) -> RawBox:
    given = item.get("bbox")
    values = [number(value) for value in given] if isinstance(given, list) else []
    left, top, width, height = values if len(values) == 4 else [float("nan")] * 4
    label = names.get(_key(item.get("category_id")))
    where = f"annotation {item.get('id', f'number {place}')}"
    if label is None:
        where = f"{where} of category {item.get('category_id')}"
    return RawBox(label, left, top, left + width, top + height, where)


def _image_folders(listing: _Listing, root: Path) -> list[Path]:
    """Where the images of a file may lie, the likeliest first: folders named like its part or the last word of its name."""
    here = listing.file.parent
    last = re.split("[_-]", listing.file.stem.lower())[-1]
    bases = [folder for folder in subfolders(root) if folder.name.lower() in IMAGE_FOLDERS] + [root]
    named = [
        folder
        for base in bases
        for folder in subfolders(base)
        if folder.name.lower() == last or (listing.part and PARTS.get(folder.name.lower()) == listing.part)
    ]
    below = [folder for base in [*named, here] for folder in subfolders(base) if folder.name.lower() in IMAGE_FOLDERS]
    near = [here] if here.parent == root and listing.part else []  # a part folder with its own file
    return list(dict.fromkeys([*near, *below, *named, *bases, here]))


def _found(name: str, folders: Sequence[Path], root: Path) -> str | None:
    """The path of an image relative to the root, None where it is in none of the folders, or outside of the root."""
    name = name.replace("\\", "/")
    if "\0" in name:
        return None
    for folder in folders:
        path = os.path.normpath(folder / name)
        if path.startswith(f"{root}{os.sep}") and os.path.isfile(path):  # noqa: PTH113 (a name may be too long for Path)
            return relative(Path(path), root)
    return None


def _ignored(root: Path, listings: Sequence[_Listing]) -> Iterator[Problem]:
    """The problem of part folders with a file of their own, where those in annotations/ are read."""
    folders = [folder for folders in part_folders(root).values() for folder in folders]
    files = [file for folder in folders if (file := _beside_images(folder)) is not None]
    unread = [relative(file, root) for file in files if file not in {listing.file for listing in listings}]
    message = "left out: the files in annotations/ are read, and these list images, too. Move one of both away."
    yield from unmatched("part-ignored", unread, message)


def _unlisted_parts(root: Path, parts: set[str]) -> Iterator[str]:
    """Images in part folders, at the root or in a folder of images, of parts that no file is for."""
    bases = [root, *(folder for folder in subfolders(root) if folder.name.lower() in IMAGE_FOLDERS)]
    for base in bases if "train" in parts else ():
        for part, folders in part_folders(base).items():
            for folder in folders if part not in parts else ():
                yield from (relative(folder / name, root) for name in files_below(folder) if is_image(name))


def _name_unlisted(read: _Read, parts: set[str]) -> None:
    """A problem of images that lie among the listed ones, or in folders of other parts than `parts`, and are not listed."""
    listed = {row.path for row in read.rows}
    unlisted = {path for path in _unlisted_parts(read.root, parts) if path not in listed}
    for folder in sorted({PurePosixPath(path).parent for path in listed}):
        names = [name for name in os.listdir(read.root / folder) if is_image(name) and not name.startswith(".")]  # noqa: PTH208
        unlisted |= {(folder / name).as_posix() for name in names} - listed
    message = "left out: no file lists them. List them, without annotations where there is nothing to find."
    read.problems += unmatched("no-annotation", unlisted, message)


def _loaded(file: Path) -> dict[str, list[dict[str, Any]]]:
    """What a JSON file says, with the lists that COCO has. Raises DataError."""
    try:
        size = file.stat().st_size
        content = json.loads(file.read_bytes()) if size <= MAX_JSON_BYTES else None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).") from None
    except json.JSONDecodeError as error:
        raise DataError(f"line {error.lineno}, column {error.colno}: not JSON ({error.msg}).") from None
    except (UnicodeDecodeError, RecursionError, ValueError):
        raise DataError("not JSON in UTF-8.") from None
    if size > MAX_JSON_BYTES:
        raise DataError(f"larger than {MAX_JSON_BYTES:,} bytes.")
    if not isinstance(content, dict):
        raise DataError("not COCO: no object with images, annotations and categories.")
    found = []
    for key in LISTS:
        if not isinstance(content.get(key), list):
            found.append(f"no list {key!r}.")
        elif wrong := [str(place) for place, item in enumerate(content[key], 1) if not isinstance(item, dict)]:
            found.append(f"{key}: no objects: entry {few(wrong)}.")
    if found:
        raise DataError(f"not COCO: {all_messages(found)}")
    return content


def _check_ids(images: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]]) -> None:
    """Raise DataError where an image or a category has no id or no name, or shares its id with another."""
    found = []
    for what, items, name in (("images", images, "file_name"), ("categories", categories, "name")):
        without = [
            str(place) for place, item in enumerate(items, 1) if not item.get(name) or _key(item.get("id")) is None
        ]
        counts = Counter(_key(item.get("id")) for item in items)
        twice = [str(key) for key, count in counts.items() if count > 1 and key is not None]
        if without:
            found.append(f"{what} without id or {name}: entry {few(without)}.")
        if twice:
            found.append(f"{what} with the same id: {few(twice)}.")
    if found:
        raise DataError(all_messages(found))


def _key(given: object) -> int | str | None:
    """An id, None where it is none."""
    return given if isinstance(given, int | str) and not isinstance(given, bool) else None


def _pixels(item: Mapping[str, Any], key: str) -> int:
    value = number(item.get(key))
    return int(value) if value > 0 else 0
