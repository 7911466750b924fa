"""A folder of images beside a folder of masks as a sample table, and the list of its classes. No image is opened here."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from trainwright.data.listing import PARTS, files_below, holds_images, is_image, listed
from trainwright.data.mask_targets import MaskTargets
from trainwright.data.masks import MAX_CLASSES, MaskClasses
from trainwright.data.problems import Problem, Severity, all_messages, counted, few, is_printable, printable
from trainwright.data.table import SampleTable
from trainwright.errors import DataError

IMAGES, MASKS = "images", "masks"
MASK_SUFFIXES = ("_mask", "-mask", "_masks", "_label", "-label", "_labels", "_l", "-l", "_gt", "-gt", "_seg", "-seg")
IGNORED_NAMES = frozenset({"void", "ignore", "ignored", "unlabelled", "unlabeled"})
CLASS_FILES = ("classes.txt", "class_dict.csv")  # the first that is there is read
LISTED = "A line is a name, or 'NAME R G B' with the colour of its pixels, each 0 to 255."
_IGNORED = re.compile(r"\s*\((?:ignore|ignored)\)\s*$", re.IGNORECASE)
_NUMBER = r"[-+]?[\d.]+"
_COLOUR = re.compile(rf"^(.*?)[\s,]+({_NUMBER})[\s,]+({_NUMBER})[\s,]+({_NUMBER})$")


@dataclass(frozen=True, kw_only=True)
class _Folders:
    """Where the images and masks of a part are, relative to the root; None where there are none."""

    images: str | None
    masks: str | None


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """An image and its mask, relative to the root."""

    image: str
    mask: str
    part: str


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One line of the list of classes. colour: three numbers as they were written; None where there are none."""

    line: int
    name: str
    ignored: bool
    colour: tuple[str, ...] | None


@dataclass(kw_only=True)
class _Aside:
    """Files that no row was made of, by why."""

    images: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    unnameable: list[str] = field(default_factory=list)

    def problems(self) -> Iterator[Problem]:
        yield from _left_out("no-mask", "error", self.images, "no mask has the name of these images. Add one.")
        yield from _left_out("no-image", "error", self.masks, "no image has the name of these masks. Add one.")
        message = "they lie in no part, where others are in one. Move them into a part."
        yield from _left_out("no-part", "error", self.loose, message)
        message = "images and masks at the root are used, and these folders hold the same. Move one of both away."
        yield from _left_out("part-ignored", "error", self.ignored, message)
        message = "by their names these are no images. Give an image its usual ending, or remove the file."
        yield from _left_out("not-an-image", "warning", self.strays, message)
        names = [printable(name) for name in self.unnameable]
        yield from _left_out("unreadable", "warning", names, "their names are not valid UTF-8. Rename them.")


def _left_out(kind: str, severity: Severity, files: Sequence[str], message: str) -> Iterator[Problem]:
    if files:
        yield Problem(kind=kind, severity=severity, files=tuple(sorted(files)), message=f"left out: {message}")


def holds_masks(root: Path) -> bool:
    """Whether `root`, or a part folder in it, holds images/ beside masks/. Raises DataError where it cannot be listed."""
    parts = [name for name in listed(root)[0] if name.lower() in PARTS]
    return any(_is_whole(root, place) for place in ("", *parts))


def read_masks(root: Path) -> SampleTable:
    """The sample table of a folder that `holds_masks`: an image and the mask of the same name below masks/, a row each.

    classes.txt (a name a line, in the order of their numbers, with a colour where masks are colour pictures) or
    class_dict.csv (name, r, g, b) names the classes; without them they are numbers. Raises DataError.
    """
    classes = _classes(root)
    aside = _Aside()
    found: list[str] = []
    pairs: list[_Pair] = []
    for part, folders in _parts(root, aside).items():
        images = _by_stem(root, folders.images, aside)
        masks = _by_stem(root, folders.masks, aside)
        pairs += _paired(images, masks, part, aside=aside, found=found)
    if found:
        raise DataError(
            all_messages(found), where=str(root), cure="Which belong together is not clear: leave one of each."
        )
    if not pairs:
        shown = f"{few(aside.images, limit=2) or 'none'} and {few(aside.masks, limit=2) or 'none'}"
        message = f"no image has a mask of its own name: there are {shown}."
        raise DataError(
            message, where=str(root), cure=f"Name masks as their images, or add {MASK_SUFFIXES[0]!r} to it."
        )
    pairs.sort(key=lambda pair: pair.image)
    parts = {pair.part for pair in pairs}
    if parts != {""} and "train" not in parts:
        message = f"there is no train part with images and masks, only {few(sorted(parts))}."
        raise DataError(message, where=str(root), cure="Add one, or drop the parts.")
    names = classes.names if classes is not None else ()
    return SampleTable(
        root=root,
        task="segmentation",
        paths=tuple(pair.image for pair in pairs),
        targets=MaskTargets(paths=tuple(pair.mask for pair in pairs), classes=classes, names=names),
        parts=np.array([pair.part for pair in pairs], dtype="U5"),
        problems=tuple(aside.problems()),
    )


def _parts(root: Path, aside: _Aside) -> dict[str, _Folders]:
    """The folders of each part, of part "" where there are no parts. What lies beside them is added to `aside`.

    Raises DataError where a part is there twice.
    """
    whole = _inside(root, "")
    if whole.images is None or whole.masks is None:  # images/ and masks/ are inside of the parts
        return {part: _inside(root, name) for part, name in _part_folders(root, "").items()}
    aside.ignored += [name for name in listed(root)[0] if name.lower() in PARTS and _is_whole(root, name)]
    image_parts, mask_parts = _part_folders(root, whole.images), _part_folders(root, whole.masks)
    if not image_parts or not mask_parts:
        return {"": whole}
    for folder in (whole.images, whole.masks):
        aside.loose += [f"{folder}/{name}" for name in listed(root / folder)[1] if is_image(name)]
    return {
        part: _Folders(images=image_parts.get(part), masks=mask_parts.get(part)) for part in image_parts | mask_parts
    }


def _inside(root: Path, place: str) -> _Folders:
    by_lower = {name.lower(): _below(place, name) for name in listed(root / place)[0]}
    return _Folders(images=by_lower.get(IMAGES), masks=by_lower.get(MASKS))


def _part_folders(root: Path, place: str) -> dict[str, str]:
    """Part to its folder in `place`. Raises DataError where two folders are of one part, or others are of none."""
    folders = listed(root / place)[0]
    named = {name: PARTS[name.lower()] for name in folders if name.lower() in PARTS}
    if not named:
        return {}
    found = []
    for part, count in Counter(named.values()).items():
        if count > 1:
            same = [_below(place, name) for name in named if named[name] == part]
            found.append(f"more than one folder for {part}: {few(same)}.")
    others = [_below(place, name) for name in folders if name not in named]
    others = [other for other in others if (holds_images(root / other, root=root) if place else _is_whole(root, other))]
    if others:
        found.append(f"images beside {few(named)}, in no part: {few(others)}.")
    if found:
        raise DataError(all_messages(found), where=str(root), cure="Move them into a part, or away.")
    return {part: _below(place, name) for name, part in named.items()}


def _is_whole(root: Path, place: str) -> bool:
    inside = _inside(root, place)
    return inside.images is not None and inside.masks is not None


def _below(place: str, name: str) -> str:
    return f"{place}/{name}" if place else name


def _by_stem(root: Path, folder: str | None, aside: _Aside) -> dict[str, list[str]]:
    """The image files below `folder`, relative to root, by their path in it without ending."""
    stems: dict[str, list[str]] = {}
    for path in sorted(files_below(root / folder, root=root)) if folder else ():
        relative = f"{folder}/{path}"
        if not is_printable(relative):
            aside.unnameable.append(relative)
        elif not is_image(path):
            aside.strays.append(relative)
        else:
            stems.setdefault(str(PurePosixPath(path).with_suffix("")), []).append(relative)
    return stems


def _paired(
    images: dict[str, list[str]], masks: dict[str, list[str]], part: str, *, aside: _Aside, found: list[str]
) -> Iterator[_Pair]:
    """A pair for each image that has a mask. What is not clear is added to `found`, what is left out to `aside`."""
    suffixed: dict[str, list[str]] = {}
    for stem, paths in masks.items():
        for suffix in MASK_SUFFIXES:
            if stem not in images and stem.lower().endswith(suffix):
                suffixed.setdefault(stem[: -len(suffix)], []).extend(paths)
    used = set()
    for stem, paths in images.items():
        own = masks.get(stem) or suffixed.get(stem, [])
        if len(paths) > 1:
            found.append(f"images of one name: {few(paths)}.")
        if len(own) > 1:
            found.append(f"more than one mask of {few(paths)}: {few(own)}.")
        used.update(own)
        if own:
            yield _Pair(image=paths[0], mask=own[0], part=part)
        else:
            aside.images += paths
    aside.masks += [path for paths in masks.values() for path in paths if path not in used]


def _classes(root: Path) -> MaskClasses | None:
    """What the list of classes says, None where there is no list. Raises DataError with everything that is wrong with it."""
    by_lower = {name.lower(): name for name in listed(root)[1]}
    name = next((by_lower[name] for name in CLASS_FILES if name in by_lower), None)
    if name is None:
        return None
    file = root / name
    lines = list(enumerate(_text(file).splitlines(), 1))
    found: list[str] = []
    entries = list(_table_entries(lines, found) if name.lower().endswith(".csv") else map(_entry, _filled(lines)))
    colours = _colours(entries, found)
    _check_names(entries, found)
    if found:
        raise DataError(all_messages(found), where=str(file), cure=LISTED)
    return MaskClasses(
        listed=tuple(entry.name for entry in entries),
        ignored=frozenset(number for number, entry in enumerate(entries) if entry.ignored),
        colours=colours,
    )


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).", where=str(file), cure="Check its permissions.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"line {line} is not UTF-8.", where=str(file), cure="Save it as UTF-8.") from None


def _filled(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """The lines that say something, without comments."""
    for number, line in lines:
        text = re.sub(r"(^|\s)#.*", "", line).strip()
        if text:
            yield number, text


def _entry(line: tuple[int, str]) -> _Entry:
    number, text = line
    without = _IGNORED.sub("", text)
    coloured = _COLOUR.match(without)
    name = coloured[1] if coloured else without
    return _made(number, name, coloured.groups()[1:] if coloured else None, ignored=without != text)


def _made(number: int, name: str, colour: tuple[str, ...] | None, *, ignored: bool = False) -> _Entry:
    plain = unicodedata.normalize("NFC", _IGNORED.sub("", name).strip())
    ignored = ignored or _IGNORED.search(name) is not None or plain.lower() in IGNORED_NAMES
    return _Entry(line=number, name=plain, ignored=ignored, colour=colour)


def _table_entries(lines: Sequence[tuple[int, str]], found: list[str]) -> Iterator[_Entry]:
    """The entries of a table with the columns name, r, g and b; `found` gets what keeps it from being read."""
    filled = [(number, line) for number, line in lines if line.strip()]
    rows = csv.reader(line for _, line in filled)
    header = [cell.strip().lower() for cell in next(rows, [])]
    if missing := [column for column in ("name", "r", "g", "b") if column not in header]:
        found.append(f"line 1: no column {few(missing)}; expected name, r, g, b.")
        return
    for (number, _), row in zip(filled[1:], rows, strict=True):
        if len(row) != len(header):
            found.append(f"line {number}: {counted(len(row), 'cell')} instead of {len(header)}.")
            continue
        cells = {column: cell.strip() for column, cell in zip(header, row, strict=True)}
        yield _made(number, cells["name"], (cells["r"], cells["g"], cells["b"]))


def _colours(entries: Sequence[_Entry], found: list[str]) -> np.ndarray | None:
    """uint8 [C, 3], None where no line has a colour. What is wrong is added to `found`."""
    coloured = [entry for entry in entries if entry.colour is not None]
    if without := [str(entry.line) for entry in entries if coloured and entry.colour is None]:
        found.append(f"line {few(without)}: no colour, where others have one.")
    lines: dict[tuple[int, ...], int] = {}
    for entry in coloured:
        given = entry.colour or ()
        colour = tuple(int(part) for part in given if part.isascii() and part.isdigit() and int(part) <= 255)
        if len(colour) < 3:
            found.append(f"line {entry.line}: no colour: {few(given)}; expected three whole numbers of 0 to 255.")
        elif colour in lines:
            found.append(f"line {entry.line}: the colour {few(given)} is that of line {lines[colour]} too.")
        else:
            lines[colour] = entry.line
    return np.array(list(lines), dtype=np.uint8).reshape(-1, 3) if coloured else None


def _check_names(entries: Sequence[_Entry], found: list[str]) -> None:
    """Add to `found` what is wrong with the names."""
    lines: dict[str, int] = {}
    for entry in entries:
        if not entry.name:
            found.append(f"line {entry.line}: no name.")
        elif entry.name in lines:
            found.append(f"line {entry.line}: the name {entry.name!r} is that of line {lines[entry.name]} too.")
        lines.setdefault(entry.name, entry.line)
    scored = [entry for entry in entries if not entry.ignored]
    if not entries and not found:
        found.append("line 1: it names no class.")
    elif len(entries) > MAX_CLASSES:
        found.append(
            f"line {entries[MAX_CLASSES].line}: the {MAX_CLASSES + 1}th class; at most {MAX_CLASSES} are known."
        )
    elif entries and len(scored) < 2:
        only = f"only one class is scored, {scored[0].name!r}" if scored else "no class is scored"
        found.append(f"line {(scored or entries)[0].line}: {only}. At least two are needed, as object and background.")
