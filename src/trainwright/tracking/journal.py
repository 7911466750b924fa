"""records.jsonl: one JSON object a line, only ever appended to, read by others while it grows."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trainwright.errors import RunError

TAIL_BYTES = 65_536  # what is read to find a torn last line or the last epoch; longer lines are found in more reads


def encode(kind: str, record: Mapping[str, Any]) -> bytes:
    """One line. `kind` comes first, so that a reader can pass over a line without parsing it."""
    line = {"kind": kind, **record}
    line["kind"] = kind
    return json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def read_records(path: Path, kind: str | None = None) -> Iterator[dict[str, Any]]:
    """The records in order, or those of one kind. A last line without its end is being written, or torn: it is left out.

    Raises RunError, with the line's number, where any other line is damaged.
    """
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n") and not _of_other_kind(line, kind):
                record = _decode(line, where=f"{path}, line {number}")
                if kind is None or record["kind"] == kind:
                    yield record


class Numbered(Mapping[int, dict[str, Any]]):
    """The records of one kind by their `number`, the last of equal ones: kept as the lines that they are, a tenth of what they
    take decoded, and decoded when they are looked up."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._lines = path, dict[int, tuple[int, bytes]]()
        number_first = re.compile(rb'\{"kind":"' + kind.encode() + rb'","number":(\d+)[,}]')
        with _open(path) as file:
            for place, line in enumerate(file, start=1):
                if not line.endswith(b"\n") or _of_other_kind(line, kind):
                    continue
                if (short := number_first.match(line)) is not None:
                    self._lines[int(short[1])] = (place, line)
                elif (record := _decode(line, where=f"{path}, line {place}"))["kind"] == kind:
                    self._lines[record["number"]] = (place, line)

    def __getitem__(self, number: int) -> dict[str, Any]:
        place, line = self._lines[number]
        return _decode(line, where=f"{self._path}, line {place}")

    def __contains__(self, number: object) -> bool:
        return number in self._lines

    def __iter__(self) -> Iterator[int]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)


def last_record(path: Path, kind: str) -> dict[str, Any] | None:
    """The last record of a kind within the last 64 KiB, or None: quick, and blind to damage."""
    with _open(path) as file:
        start = max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES)
        file.seek(start)
        lines = file.read().split(b"\n")[1 if start else 0 : -1]
    for line in reversed(lines):
        if not _of_other_kind(line + b"\n", kind):
            with contextlib.suppress(RunError):
                return _decode(line, where=str(path))
    return None


def whole_bytes(path: Path) -> int:
    """How many bytes of the file are whole lines: all of it unless its last line is torn."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - TAIL_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0


def bytes_before(path: Path, kind: str) -> int:
    """How many bytes of whole lines come before the first record of a kind; all of them where there is none."""
    before = 0
    with _open(path) as file:
        for line in file:
            if not line.endswith(b"\n") or not _of_other_kind(line, kind):
                break
            before += len(line)
    return before


class Tail:
    """Reads a growing records.jsonl piece by piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._last = b""  # the line before the offset: where it is not there any more, the file was cut and grew again

    def read(self) -> list[dict[str, Any]] | None:
        """The records since the last call; None where what was read before is not in the file any more: start anew."""
        with _open(self._path) as file:
            file.seek(self._offset - len(self._last))
            if file.read(len(self._last)) != self._last:
                return None
            piece = file.read()
        lines = piece[: piece.rfind(b"\n") + 1].splitlines(keepends=True)
        records = [_decode(line, where=f"{self._path}, after byte {self._offset}") for line in lines]
        self._offset += sum(len(line) for line in lines)
        self._last = lines[-1] if lines else self._last
        return records


def _of_other_kind(line: bytes, kind: str | None) -> bool:
    return (
        kind is not None
        and line.startswith(b'{"kind":"')
        and line.endswith(b"}\n")
        and not line.startswith(f'{{"kind":"{kind}"'.encode())
    )


def _decode(line: bytes, *, where: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        record = json.loads(line)
        if isinstance(record, dict) and isinstance(record.get("kind"), str):
            return record
    raise RunError(
        "damaged: not a JSON object with a kind.", where=where, cure="Restore records.jsonl from a copy, or train anew."
    )


def _open(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise RunError(
            f"cannot be read ({error.strerror}).", where=str(path), cure="The run folder is incomplete: train anew."
        ) from None
