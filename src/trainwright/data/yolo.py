"""YOLO: a folder of images beside one of text files, one an image, a line a box: class, then fractions of the image."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from trainwright.data.box_faults import Annotation, RawBox
from trainwright.data.box_layout import (
    IMAGE_FOLDERS,
    BoxRow,
    Pair,
    files_below,
    ignored_parts,
    images_by_stem,
    make_box_table,
    number,
    pairs,
    part_of,
    read_small,
    relative,
    subfolders,
    unmatched,
    unpaired,
    without_suffix,
)
from trainwright.data.problems import Problem, few, printable
from trainwright.data.table import SampleTable
from trainwright.errors import DataError, RecipeError
from trainwright.yaml_text import load_yaml

LABEL_FOLDERS = frozenset({"labels"})
NAME_FILES = ("classes.txt", "obj.names")
DESCRIPTIONS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
BOX_NUMBERS = 5  # class, middle x, middle y, width, height; an outline has class and at least three points


def holds_yolo(path: Path) -> bool:
    """Whether a file is a YAML description, or a folder has images beside text files, or a description and images beside
    labels/ or in a folder that it names: other programs call theirs so, too."""
    if not path.is_dir():
        return path.suffix.lower() in (".yaml", ".yml")
    found = pairs(path, LABEL_FOLDERS)
    if any(name.lower().endswith(".txt") for pair in found for name in files_below(pair.annotations)):
        return True
    description = _description(path)
    return description is not None and (bool(found) or _names_folders(path, description))


def read_yolo(path: Path) -> SampleTable:
    """The table of a YOLO folder, or of the folder of a data.yaml. Raises DataError that names every bad file and line.

    An image without a text file is a background image; outlines become the boxes around them.
    """
    description = path if path.is_file() else _description(path)
    root = path.parent if path.is_file() else path
    content = {} if description is None else _loaded(description)
    names = _names(root, description, content)
    rows: list[BoxRow] = []
    problems: list[Problem] = []
    found: list[str] = []
    described = _described(root, content, problems)
    if not described:
        problems += [*unpaired(root, LABEL_FOLDERS), *ignored_parts(root, LABEL_FOLDERS)]
    for pair in described or pairs(root, LABEL_FOLDERS):
        rows += _rows(pair, root, names, problems, found)
    rows = list(_with_labelled_parts(rows, problems, found))
    return make_box_table(root, rows, names=[name for name in names if name], problems=problems, found=found)


def read_annotation(file: Path, name: str, names: Sequence[str]) -> Annotation:
    """The annotation in a text file, which is called `name` in problems. Raises DataError that names its bad lines."""
    try:
        lines = read_small(file).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError("the text is not UTF-8.", where=name) from None
    boxes: list[RawBox] = []
    wrong: list[str] = []
    for place, line in enumerate(lines, 1):
        cells = line.split()
        if not cells:
            continue
        if problem := _unlike_yolo(cells):
            wrong.append(f"line {place} {problem}")
        else:
            boxes.append(_box(cells, place, names))
    if wrong:
        raise DataError(f"{few(wrong)}.", where=name)
    return Annotation(file=name, boxes=tuple(boxes), fractions=True)


def _rows(pair: Pair, root: Path, names: Sequence[str], problems: list[Problem], found: list[str]) -> Iterator[BoxRow]:
    """The images of one pair of folders. What is left out is added to `problems`."""
    images = images_by_stem(pair.images, found)
    files = {
        without_suffix(name): pair.annotations / name
        for name in files_below(pair.annotations)
        if name.lower().endswith(".txt") and PurePosixPath(name).name.lower() not in NAME_FILES
    }
    message = "left out: there is no image of the same name. Add it, or remove the labels."
    no_image = [relative(files[stem], root) for stem in files.keys() - images.keys()]
    problems += unmatched("no-image", no_image, message)
    for stem in sorted(images):
        name = relative(files[stem], root) if stem in files else ""
        try:
            annotation = read_annotation(files[stem], name, names) if stem in files else Annotation(file="", boxes=())
        except DataError as error:
            found.append(f"{printable(name)}: {error.message}")
            continue
        path = relative(pair.images / images[stem], root)
        yield BoxRow(path=path, annotation=annotation, part=pair.part or part_of(images[stem]))


def _with_labelled_parts(rows: Sequence[BoxRow], problems: list[Problem], found: list[str]) -> Iterator[BoxRow]:
    """`rows` without parts in which no image has a text file, where others do: these are no backgrounds but unlabelled.

    What is left out is added to `problems`, a train part without any to `found`.
    """
    labelled = {row.part for row in rows if row.annotation.file}
    unlabelled = {row.part for row in rows} - labelled if labelled else set()
    for part in sorted(unlabelled):
        files = [row.path for row in rows if row.part == part]
        message = f"no image of {part} has a text file of labels, where others have one."
        if part == "train":
            found.append(message)
        else:
            problems += unmatched(
                "no-annotation", files, f"left out: {message} Add labels, empty ones for backgrounds."
            )
    yield from (row for row in rows if row.part not in unlabelled or row.part == "train")


def _unlike_yolo(cells: Sequence[str]) -> str:
    """What is wrong with the form of a line, "" where nothing is."""
    if len(cells) == BOX_NUMBERS + 1:
        return "has 6 numbers: a confidence belongs to predictions, not to labels"
    if len(cells) < BOX_NUMBERS or len(cells) % 2 == 0:
        return f"has {len(cells)} numbers, where 5 are expected, or a class and points"
    return ""


def _box(cells: Sequence[str], place: int, names: Sequence[str]) -> RawBox:
    index, values = number(cells[0]), [number(cell) for cell in cells[1:]]
    known = index in range(len(names)) and bool(names[int(index)])
    label = names[int(index)] if known else None
    where = f"line {place}" if known else f"line {place} of class {cells[0]}"
    if len(cells) == BOX_NUMBERS:
        x, y, width, height = values
        return RawBox(label, x - width / 2, y - height / 2, x + width / 2, y + height / 2, where)
    if any(value != value for value in values):  # min and max would pass over one that is no number
        return RawBox(label, math.nan, math.nan, math.nan, math.nan, where)
    return RawBox(label, min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2]), where)


def _description(root: Path) -> Path | None:
    return next((root / name for name in DESCRIPTIONS if (root / name).is_file()), None)


def _names_folders(root: Path, description: Path) -> bool:
    """Whether a part of the description is a folder inside of the root."""
    try:
        content = _loaded(description)
    except DataError:
        return False
    return any(
        _inside(root, content.get("path"), entry) for part in ("train", "val") for entry in _entries(content, part)
    )


def _loaded(file: Path) -> dict[str, Any]:
    """What a YAML description says. Raises DataError."""
    try:
        content = load_yaml(file)
    except RecipeError as error:
        raise DataError(error.message, where=str(file), cure="Save it as YAML (UTF-8).") from None
    if not isinstance(content, dict):
        raise DataError("no keys in it.", where=str(file), cure="It needs names: with the class names.")
    return content


def _names(root: Path, description: Path | None, content: dict[str, Any]) -> list[str]:
    """Class names in the order of their index, "" where an index has none. Raises DataError."""
    given = content.get("names")
    where = description or root
    if given is None:
        folders = [root, *subfolders(root), *(pair.annotations for pair in pairs(root, LABEL_FOLDERS))]
        files = [folder / name for folder in folders for name in NAME_FILES if (folder / name).is_file()]
        if not files:
            raise DataError(
                "the names of the classes are missing.", where=str(where), cure="Add classes.txt, one name a line."
            )
        where = files[0]
        try:
            given = read_small(where).decode("utf-8-sig").strip().splitlines()
        except UnicodeDecodeError:
            raise DataError("the text is not UTF-8.", where=str(where), cure="Save it as UTF-8.") from None
    names = _as_list(given)
    if not names or not any(names):
        message = f"names is {few([str(given)])}, where a list of class names is expected."
        raise DataError(message, where=str(where), cure="For example names: [cat, dog].")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"names given to two classes: {few(twice)}.", where=str(where), cure="Rename one of them.")
    return names


def _as_list(given: Any) -> list[str]:
    if isinstance(given, dict):
        indices = [index for index in given if isinstance(index, int) and 0 <= index < 100_000]
        if len(indices) < len(given) or not indices:
            return []
        given = [given.get(index, "") for index in range(max(indices) + 1)]
    if not isinstance(given, list):
        return []
    return [unicodedata.normalize("NFC", str(name).strip()) for name in given]


def _described(root: Path, content: dict[str, Any], problems: list[Problem]) -> list[Pair]:
    """The folders that a description names for its parts; none where train is not among those inside of the root."""
    found: list[Pair] = []
    for part in ("train", "val", "test"):
        for entry in _entries(content, part):
            folder = _inside(root, content.get("path"), entry)
            if folder is None:
                continue
            if same := next((pair for pair in found if pair.images == folder), None):
                message = (
                    f"{part} names the folder of {same.part}: what is seen in training would be judged on. Used for "
                    f"{same.part} alone. Give {part} a folder of its own, or leave it out."
                )
                files = (relative(folder, root),)
                problems.append(Problem(kind="part-repeated", severity="warning", files=files, message=message))
                continue
            found.append(Pair(images=folder, annotations=_labels_of(folder, root), part=part))
    return found if any(pair.part == "train" for pair in found) else []


def _entries(content: dict[str, Any], part: str) -> list[Any]:
    entries = content.get(part)
    return entries if isinstance(entries, list) else [entries]


def _inside(root: Path, base: object, entry: object) -> Path | None:
    """The folder of images that an entry names, where it lies inside of the root."""
    if not isinstance(entry, str) or not entry.strip():
        return None
    bases = [root / base, root] if isinstance(base, str) else [root]
    # Roboflow writes ../train/images though the description lies beside train/; base and entry may be another machine's.
    entries = [entry, "/".join(name for name in entry.split("/") if name not in ("..", "."))]
    for start in bases:
        for name in entries:
            try:
                folder = (start / name).resolve()
                there = folder.is_dir()
            except (OSError, ValueError):  # too long, or with a zero byte
                continue
            if there and folder != root.resolve() and folder.is_relative_to(root.resolve()):
                folder = root / folder.relative_to(root.resolve())
                pair = pairs(folder, LABEL_FOLDERS)
                return pair[0].images if len(pair) == 1 and not pair[0].part else folder
    return None


def _labels_of(images: Path, root: Path) -> Path:
    """Where the labels of a folder of images lie: below labels/ where it is below images/, else beside the images."""
    names = list(images.relative_to(root).parts)
    for place in reversed(range(len(names))):
        if names[place].lower() in IMAGE_FOLDERS:
            beside = root.joinpath(*names[:place])
            labels = next((folder for folder in subfolders(beside) if folder.name.lower() in LABEL_FOLDERS), None)
            return (labels or beside / "labels").joinpath(*names[place + 1 :])
    return images
