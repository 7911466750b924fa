"""A CSV file as a sample table: a path and a label or number column, a part and a group column where there are such."""

from __future__ import annotations

import csv
import io
import math
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainwright.data.listing import PARTS
from trainwright.data.number_targets import NumberTargets
from trainwright.data.problems import Problem, all_messages, counted, few
from trainwright.data.table import Row, SampleTable, make_table
from trainwright.data.targets import USUAL_TASKS, kind_for
from trainwright.errors import DataError, UsageError, did_you_mean
from trainwright.records import TargetKind

MAX_CSV_BYTES = 1_000_000_000
# Column names that are looked for, in order of preference, without regard to case.
PATH_COLUMNS = (
    "path", "image_path", "file_path", "filepath", "image", "file", "filename", "file_name", "image_file", "image_name",
    "img", "img_path",
)  # fmt: skip
CLASS_COLUMNS = ("label", "class", "category", "class_name", "label_name")
LABEL_COLUMNS = (*CLASS_COLUMNS, "target", "y")
PART_COLUMNS = ("split", "part", "subset", "set")
GROUP_COLUMNS = ("group", "group_id", "groups", "patient", "patient_id", "subject_id")
MAX_CLASS_NUMBERS = 20  # so many different whole numbers, with …
MIN_IMAGES_A_NUMBER = 5  # … at least this many images each, are taken for class numbers, not for measurements
MOSTLY_NUMBERS = 0.9  # of the filled cells: the others are then slips in a column of numbers, not names of classes
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")  # float() takes 1_2, nan and infinity as well


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Names of the columns that are used."""

    path: str
    targets: tuple[str, ...]
    part: str | None
    group: str | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A file that was read: the cells of each row by column name, and the line numbers. folder: of its part, or ""."""

    file: Path
    header: tuple[str, ...]
    records: tuple[dict[str, str], ...]
    lines: tuple[int, ...]
    folder: str = ""


def read_csv(file: Path, *, target: str | None, task: str | None) -> SampleTable:
    """The sample table of a CSV file with a header line; paths are relative to its folder.

    target: a column, or several with commas between them; None looks for one with a usual name. task: what the numbers or
    labels are for; None tells it from them. Comma, semicolon and tab are told apart by the header; the text is UTF-8 or
    UTF-16 with a mark. Raises DataError, UsageError where the task cannot be learned from a table.
    """
    table = parse_table(file)
    return sample_table(file.parent, [table], find_columns(file, table.header, target), where=file, task=task)


def sample_table(
    root: Path, tables: Sequence[Table], columns: _Columns, *, where: Path, task: str | None
) -> SampleTable:
    """One table of the rows of all files. Raises DataError with everything that is wrong in them, UsageError."""
    kind = _kind(tables, columns, task)
    said, task = task is not None, USUAL_TASKS[kind] if task is None else task
    found: list[str] = []
    rows: list[Row] = []
    for table in tables:
        wrong: list[str] = []
        rows += _rows(table, columns, kind, wrong)
        found += [f"{table.folder}/{table.file.name}: {text}" for text in wrong] if table.folder else wrong
    _check_files(root, rows, found)
    rows, problems = _without_repeats(sorted(rows, key=lambda row: row.path), found)
    if found:
        beside = "the folder of their table" if tables[0].folder else str(root)
        raise DataError(all_messages(found), where=str(where), cure=f"Paths are relative to {beside}.")
    grouped = columns.group is not None
    if kind == "class":
        problems += [] if said else _whole_numbers(columns.targets[0], {row.label for row in rows})
        return make_table(root, rows, where=str(where), grouped=grouped, problems=problems, task=task)
    if not {"", "train"} & {row.part for row in rows}:
        there = few(sorted({row.part for row in rows}))
        cure = "Add one, or drop the parts."
        raise DataError(f"there is no train part, only {there}.", where=str(where), cure=cure)
    values = [[float(text) for text in row.label.split(" ")] for row in rows]
    return SampleTable(
        root=root,
        task=task,
        paths=tuple(row.path for row in rows),
        targets=NumberTargets(values=np.array(values, dtype=np.float64), names=columns.targets),
        parts=np.array([row.part for row in rows], dtype="U5"),
        groups=tuple(row.group for row in rows) if grouped else None,
        problems=tuple(problems),
    )


def _kind(tables: Sequence[Table], columns: _Columns, task: str | None) -> TargetKind:
    """What the target columns hold. Raises UsageError where a task is given that learns from neither class nor numbers."""
    if task is None:
        texts = [record[columns.targets[0]].strip() for table in tables for record in table.records]
        measured = len(columns.targets) > 1 or _are_measurements(columns.targets[0], [text for text in texts if text])
        return "numbers" if measured else "class"
    kind = kind_for(task)
    if kind not in ("class", "numbers"):
        cure = "Give a folder with images/ beside masks/ or annotations/, or leave the task out."
        raise UsageError(f"{task} learns from {kind}, which a table does not hold.", where="task", cure=cure)
    if kind == "class" and len(columns.targets) > 1:
        cure = "Name one of them, or another task."
        raise UsageError(f"{task} learns from one column, got {few(columns.targets)}.", where="target", cure=cure)
    return kind


def _are_measurements(column: str, texts: Sequence[str]) -> bool:
    """Whether the cells of a column are numbers that measure something rather than names of classes."""
    numbers = [float(text) for text in texts if NUMBER.fullmatch(text)]
    if not numbers or len(numbers) < MOSTLY_NUMBERS * len(texts):
        return False
    counts = Counter(numbers)
    if column.lower() in CLASS_COLUMNS and all(number.is_integer() for number in numbers):
        return False
    few_numbers = len(counts) <= MAX_CLASS_NUMBERS and min(counts.values()) >= MIN_IMAGES_A_NUMBER
    return not (few_numbers and all(number.is_integer() for number in numbers))


def _whole_numbers(column: str, labels: set[str]) -> list[Problem]:
    """The problem of classes that are whole numbers and may be a count. Two are taken for yes and no."""
    if column.lower() in CLASS_COLUMNS or len(labels) < 3 or not all(NUMBER.fullmatch(label) for label in labels):
        return []
    message = (
        f"the whole numbers of {column} are taken as {len(labels)} classes; if they measure or count something: "
        "--task regression. If they are classes, say --task classification."
    )
    return [Problem(kind="whole-numbers", severity="warning", files=(), message=message)]


def parse_table(file: Path) -> Table:
    """The file without its blank lines. Raises DataError."""
    text = _text(file)
    try:
        first = next(line for line in text.splitlines() if line.strip())
        delimiter = max(",;\t", key=lambda sign: len(next(csv.reader([first], delimiter=sign))))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except StopIteration:
        raise DataError("the file is empty.", where=str(file), cure="It needs a header line.") from None
    except csv.Error as error:
        raise DataError(f"not a CSV file: {error}.", where=str(file), cure="Save it as CSV (UTF-8).") from None
    header = [name.strip() for name in lines[0][1]]
    if twice := [name for name, count in Counter(header).items() if count > 1]:
        raise DataError(f"columns named twice: {few(twice)}.", where=str(file), cure="Rename one of them.")
    ragged = [number for number, cells in lines[1:] if len(cells) != len(header)]
    if ragged:
        message = f"{counted(len(ragged), 'line')} without {len(header)} cells: line {few(map(str, ragged))}."
        raise DataError(message, where=str(file), cure="Quote cells that hold a delimiter.")
    if len(lines) == 1:
        raise DataError("there is a header line and no row.", where=str(file), cure="Add a row for each image.")
    return Table(
        file=file,
        header=tuple(header),
        records=tuple(dict(zip(header, cells, strict=True)) for _, cells in lines[1:]),
        lines=tuple(number for number, _ in lines[1:]),
    )


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_CSV_BYTES:
            raise DataError(f"larger than {MAX_CSV_BYTES:,} bytes.", where=str(file), cure="Is it a table of images?")
        data = file.read_bytes()
        return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror}).", where=str(file), cure="Check the path.") from None
    except UnicodeDecodeError:
        raise DataError("the text is not UTF-8.", where=str(file), cure="Save it as CSV UTF-8.") from None


def find_columns(file: Path, header: Sequence[str], target: str | None) -> _Columns:
    """Which column is which. Raises DataError that names those there are."""
    by_lower = {name.lower(): name for name in header}

    def first(names: Sequence[str]) -> str | None:
        return next((by_lower[name] for name in names if name in by_lower), None)

    path, part, group = first(PATH_COLUMNS), first(PART_COLUMNS), first(GROUP_COLUMNS)
    there = f"Its columns are: {', '.join(header)}."
    if path is None:
        near = "".join(did_you_mean(name, PATH_COLUMNS) for name in header[:1])
        message = f"no path column (named {', '.join(PATH_COLUMNS[:7])} …)."
        raise DataError(message, where=str(file), cure=f"{near}{there} Rename the one that holds the image paths.")
    targets: tuple[str, ...]
    if target is not None:
        targets = column_named(header, target) or ()
        missing = [name for name in _apart(target) if name.lower() not in by_lower]
    else:
        rest = [name for name in header if name not in (path, part, group)]
        label = first(LABEL_COLUMNS) or (rest[0] if len(rest) == 1 else None)
        targets, missing = (label,) if label else (), []
    if not targets:
        given = (
            f"no column {', '.join(map(repr, missing)) or repr(target)}." if target is not None else "no label column."
        )
        near = "".join(did_you_mean(name, header) for name in missing)
        cure = f"{near}{there} Name the one that holds the labels or numbers (--target)."
        raise DataError(given, where=str(file), cure=cure)
    part, group = (None if name in targets else name for name in (part, group))
    if path in targets:
        raise DataError(f"column {path!r} holds the paths.", where=str(file), cure=f"{there} Choose another target.")
    return _Columns(path=path, targets=targets, part=part, group=group)


def column_named(header: Sequence[str], target: str) -> tuple[str, ...] | None:
    """The columns that `target` names: one, or several with commas between them; None where one of them is not there."""
    by_lower = {name.lower(): name for name in header}
    if target.lower() in by_lower:  # first: a column's own name may hold a comma
        return (by_lower[target.lower()],)
    names = _apart(target)
    return (
        tuple(dict.fromkeys(by_lower[n.lower()] for n in names)) if all(n.lower() in by_lower for n in names) else None
    )


def _apart(target: str) -> list[str]:
    return [name.strip() for name in target.split(",")]


def _rows(table: Table, columns: _Columns, kind: TargetKind, found: list[str]) -> list[Row]:
    """A Row for each record; the label of numbers is their text, one after the other. What is wrong is added to `found`."""
    rows, unlabelled, outside, unknown, strange = [], [], [], Counter[str](), []
    for number, record in zip(table.lines, table.records, strict=True):
        given = record[columns.path].strip()
        path = _relative(given, table.file.parent)
        cells = [unicodedata.normalize("NFC", record[name].strip()) for name in columns.targets]
        part = table.folder or (record[columns.part].strip() if columns.part else "")
        group = record[columns.group].strip() if columns.group else ""
        if kind == "class" and not cells[0]:
            unlabelled.append(str(number))
        if kind == "numbers" and (wrong := [cell for cell in cells if cell and not _is_finite(cell)]):
            strange += [f"line {number} has {cell!r}" for cell in wrong]
            cells = ["" for _ in cells]
        if path is None:
            outside.append(given or f"(line {number})")
        if part and part.lower() not in PARTS:
            unknown[part] += 1
        label = cells[0] if kind == "class" else " ".join(repr(float(cell or "nan") + 0.0) for cell in cells)
        place = f"{table.folder}/" if table.folder else ""
        rows.append(Row(path=place + (path or given), label=label, part=PARTS.get(part.lower(), ""), group=group))
    if unlabelled:
        found.append(f"{counted(len(unlabelled), 'row')} without a label: line {few(unlabelled)}.")
    if strange:
        meant = " If they are classes, say so with --task classification." if len(columns.targets) == 1 else ""
        message = f"{counted(len(strange), 'cell')} without a number in {few(columns.targets)}: {few(strange)}."
        found.append(f"{message} A number is written as 1234.5; leave a cell empty where nothing is known.{meant}")
    if outside:
        found.append(f"{counted(len(outside), 'path')} outside of the CSV's folder: {few(outside)}.")
    if unknown:
        found.append(f"unknown parts in column {columns.part!r}: {few(unknown)}. Known: train, val, test.")
    without = sum(not row.part for row in rows)
    if not unknown and 0 < without < len(rows):
        found.append(f"{counted(without, 'row')} without a part in column {columns.part!r}, where others have one.")
    return rows


def _is_finite(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def _relative(given: str, root: Path) -> str | None:
    """`given` as a POSIX path below `root`, None where it is not below it."""
    if "\\" in given and not _exists(root / given):
        given = given.replace("\\", "/")
    path = os.path.relpath(os.path.normpath(root / given), root).replace(os.sep, "/")
    return None if not given or path in (".", "..") or path.startswith("../") else path


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises where a name is too long)


def _check_files(root: Path, rows: Sequence[Row], found: list[str]) -> None:
    outside = {row.path for row in rows if _relative(row.path, root) is None}
    missing = [row.path for row in rows if row.path not in outside and not _exists(root / row.path)]
    if missing:
        found.append(f"{counted(len(missing), 'image')} of {len(rows):,} do not exist: {few(missing)}.")


def _without_repeats(rows: Sequence[Row], found: list[str]) -> tuple[list[Row], list[Problem]]:
    """Each path once. Rows that contradict each other are added to `found`, plain repeats are a warning."""
    kept: dict[str, Row] = {}
    repeated, contradicting = [], {}
    for row in rows:
        if row.path not in kept:
            kept[row.path] = row
        elif row == kept[row.path]:
            repeated.append(row.path)
        else:
            contradicting[row.path] = f"{row.path} ({kept[row.path].label or '?'} and {row.label or '?'})"
    if contradicting:
        found.append(
            f"{counted(len(contradicting), 'path')} given twice with different labels, parts or groups: "
            f"{few(contradicting.values())}."
        )
    message = "given more than once; each is used once. Remove the repeated rows."
    files = tuple(sorted(set(repeated)))
    problems = [Problem(kind="repeated-row", severity="warning", files=files, message=message)] if files else []
    return list(kept.values()), problems
