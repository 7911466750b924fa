"""Tables of parts: CSV files of one name in train/, val/ and test/, each with paths relative to its own folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from trainwright.data.csv_layout import column_named, find_columns, parse_table, sample_table
from trainwright.data.listing import PARTS, listed
from trainwright.data.problems import Problem, all_messages, few
from trainwright.data.table import SampleTable
from trainwright.errors import DataError, did_you_mean


def read_beside(file: Path, *, target: str | None, task: str | None) -> SampleTable | None:
    """The table of a CSV in train/ together with those of the same name in val/ and test/ beside it; None where there are
    none, or where the file has a part column of its own. target, task: as for `read_csv`. Raises DataError.
    """
    root = file.parent.parent
    if PARTS.get(file.parent.name.lower()) != "train":
        return None
    holding = [name for name in listed(root)[0] if name.lower() in PARTS and (root / name / file.name).is_file()]
    own = find_columns(file, parse_table(file).header, target)
    if len({PARTS[name.lower()] for name in holding}) < 2 or own.part is not None:
        return None
    table = _joined(root, holding, file.name, target=target, task=task)
    others = tuple(f"{name}/{file.name}" for name in holding if name != file.parent.name)
    message = f"read together with {file.parent.name}/{file.name}, beside which they lie: their images are judged on."
    together = Problem(kind="read-together", severity="warning", files=others, message=message)
    return replace(table, problems=(*table.problems, together))


def read_parts_csv(root: Path, *, target: str | None, task: str | None) -> SampleTable | None:
    """The sample table of a folder whose part folders (train, val …) each hold a CSV of the same name, with paths that are
    relative to their own folder; None where no part folder holds any. target, task: as for `read_csv`.

    Of several such CSVs it is the one with the target columns. Raises DataError where that is none, or more than one, and
    where a part has no such table or two folders.
    """
    folders = [name for name in listed(root)[0] if name.lower() in PARTS]
    named = {folder: {name for name in listed(root / folder)[1] if _is_csv(name)} for folder in folders}
    if not any(named.values()):
        return None
    shared = _shared_tables(root, named)
    name = shared[0] if len(shared) == 1 else _with_target(root, folders, shared, target)
    return _joined(root, folders, name, target=target, task=task)


def _joined(root: Path, folders: Sequence[str], name: str, *, target: str | None, task: str | None) -> SampleTable:
    """The tables of that name in these part folders as one. Raises DataError."""
    tables = [replace(parse_table(root / folder / name), folder=folder) for folder in folders]
    columns = [find_columns(table.file, table.header, target) for table in tables]
    if len(set(columns)) > 1:
        found = [f"{table.folder}/{name}: {', '.join(table.header)}." for table in tables]
        cure = "Give the tables of all parts the same columns."
        raise DataError(f"the columns differ between parts: {all_messages(found)}", where=str(root), cure=cure)
    return sample_table(root, tables, replace(columns[0], part=None), where=root, task=task)


def _shared_tables(root: Path, named: Mapping[str, set[str]]) -> list[str]:
    """Names of the tables that every part folder holds, at least one. named: the tables of each. Raises DataError."""
    counts = Counter(PARTS[folder.lower()] for folder in named)
    if twice := [part for part, count in counts.items() if count > 1]:
        same = {part: [folder for folder in named if PARTS[folder.lower()] == part] for part in twice}
        found = [f"more than one folder for {part}: {few(folders)}." for part, folders in same.items()]
        raise DataError(all_messages(found), where=str(root), cure="Move them into one, or away.")
    shared = sorted(set.intersection(*named.values()))
    if not shared:
        there = "; ".join(f"{folder}: {few(sorted(names)) or 'no table'}" for folder, names in named.items())
        cure = "Give each part a table of the same name, with the same columns, or move the part away."
        raise DataError(f"no table that every part has: {there}.", where=str(root), cure=cure)
    return shared


def _is_csv(name: str) -> bool:
    return name.lower().endswith((".csv", ".tsv"))


def _with_target(root: Path, folders: Sequence[str], names: Sequence[str], target: str | None) -> str:
    """The one name whose files have the target columns in every part. Raises DataError."""
    headers = {name: [parse_table(root / folder / name).header for folder in folders] for name in names}
    fitting = [
        name
        for name in names
        if target is None or all(column_named(header, target) is not None for header in headers[name])
    ]
    if len(fitting) == 1:
        return fitting[0]
    there = all_messages([f"{name}: {', '.join(found[0])}." for name, found in headers.items()])
    if fitting:
        message = f"more than one table that every part has could be meant: {few(fitting)}."
        cure = f"Their columns are {there} Name a column that only one of them has (--target), or move the others away."
    else:
        message = f"no table that every part has holds column {target!r}."
        columns = sorted({name for found in headers.values() for header in found for name in header})
        cure = f"{did_you_mean(target or '', columns)}There are {there}"
    raise DataError(message, where=str(root), cure=cure)
