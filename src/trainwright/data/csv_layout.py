"""A CSV file as a sample table: a path and a label column, and a part and a group column where there are such."""

from __future__ import annotations

import csv
import io
import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainwright.data.layout import PARTS, Row, SampleTable, make_table
from trainwright.data.problems import Problem, all_messages, counted, few
from trainwright.errors import DataError, did_you_mean

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


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Names of the columns that are used."""

    path: str
    label: str
    part: str | None
    group: str | None


def read_csv(file: Path, *, target: str | None, task: str | None) -> SampleTable:
    """The sample table of a CSV file with a header line; paths are relative to its folder.

    Comma, semicolon and tab are told apart by the header; the text is UTF-8 or UTF-16 with a mark. Raises DataError.
    """
    header, lines = _parsed(file)
    columns = _columns(file, header, target)
    records = [dict(zip(header, cells, strict=True)) for _, cells in lines]
    labels = [record[columns.label].strip() for record in records]
    if task is None:
        _refuse_measurements(file, columns.label, [label for label in labels if label])
    found: list[str] = []
    rows = _rows(file, records, columns, [number for number, _ in lines], found)
    _check_files(file.parent, rows, found)
    rows, problems = _without_repeats(rows, found)
    if found:
        raise DataError(all_messages(found), where=str(file), cure=f"Paths are relative to {file.parent}.")
    return make_table(file.parent, rows, where=str(file), grouped=columns.group is not None, problems=problems)


def _parsed(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """(column names, (line number, cells) of each row that is not blank). Raises DataError."""
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
    return header, lines[1:]


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


def _columns(file: Path, header: Sequence[str], target: str | None) -> _Columns:
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
    rest = [name for name in header if name not in (path, part, group)]
    label = by_lower.get(target.lower()) if target is not None else first(LABEL_COLUMNS)
    if label is None and target is None and len(rest) == 1:
        label = rest[0]
    if label is None:
        given = f"no column {target!r}." if target is not None else "no label column."
        near = did_you_mean(target, header) if target is not None else ""
        raise DataError(given, where=str(file), cure=f"{near}{there} Name the one that holds the labels (--target).")
    part, group = (None if name == label else name for name in (part, group))
    if label == path:
        raise DataError(f"column {path!r} holds the paths.", where=str(file), cure=f"{there} Choose another target.")
    return _Columns(path=path, label=label, part=part, group=group)


def _refuse_measurements(file: Path, column: str, labels: Sequence[str]) -> None:
    """Raise DataError where the labels are numbers that measure something rather than name classes."""
    try:
        numbers = [float(label) for label in labels]
    except ValueError:
        return
    if not numbers:
        return
    counts = Counter(numbers)
    whole = all(number.is_integer() for number in numbers)
    named = column.lower() in CLASS_COLUMNS
    if whole and (named or (len(counts) <= MAX_CLASS_NUMBERS and min(counts.values()) >= MIN_IMAGES_A_NUMBER)):
        return
    raise DataError(
        f"column {column!r} holds {len(counts):,} different numbers, which look like measurements (task regression); "
        "regression cannot be trained yet.",
        where=str(file),
        cure="If each number is the name of a class, say so with --task classification.",
    )


def _rows(
    file: Path, records: Sequence[dict[str, str]], columns: _Columns, numbers: Sequence[int], found: list[str]
) -> list[Row]:
    """A Row for each record. What is wrong is added to `found`."""
    rows, unlabelled, outside, unknown = [], [], [], Counter[str]()
    for number, record in zip(numbers, records, strict=True):
        given = record[columns.path].strip()
        path, label = _relative(given, file.parent), unicodedata.normalize("NFC", record[columns.label].strip())
        part = record[columns.part].strip() if columns.part else ""
        group = record[columns.group].strip() if columns.group else ""
        if not label:
            unlabelled.append(str(number))
        if path is None:
            outside.append(given or f"(line {number})")
        if part and part.lower() not in PARTS:
            unknown[part] += 1
        rows.append(Row(path=path or given, label=label, part=PARTS.get(part.lower(), ""), group=group))
    if unlabelled:
        found.append(f"{counted(len(unlabelled), 'row')} without a label: line {few(unlabelled)}.")
    if outside:
        found.append(f"{counted(len(outside), 'path')} outside of the CSV's folder: {few(outside)}.")
    if unknown:
        found.append(f"unknown parts in column {columns.part!r}: {few(unknown)}. Known: train, val, test.")
    without = sum(not row.part for row in rows)
    if not unknown and 0 < without < len(rows):
        found.append(f"{counted(without, 'row')} without a part in column {columns.part!r}, where others have one.")
    return rows


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
