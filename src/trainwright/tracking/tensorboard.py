"""The TensorBoard mirror: event files in the run folder's tensorboard/, every value exactly once.

Live, what is new is appended. Where the files and the records disagree (a resume went back behind what was written, a
kill tore the last value, somebody copied files about), they are written anew as one file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainwright.errors import TrainwrightError
from trainwright.tracking import events
from trainwright.tracking.journal import Tail
from trainwright.tracking.mirrors import (
    STEP_CURVES,
    closing_scalars,
    epoch_scalars,
    figure_tag,
    mirrors,
    need,
    opening_scalars,
    parameters,
    range_scalars,
)
from trainwright.tracking.run_folder import RECORDS, RunFolder

EVENT_FILES = "events.out.tfevents.*"
RECIPE_TAG, RANGE_TAG = "recipe/text_summary", "lr_range/text_summary"
PARAMETERS_TAGS = ("_hparams_/experiment", "_hparams_/session_start_info")
Key = tuple[str, int]  # tag, step
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """One value to be written. `value` is a number, text, a path of a PNG, or a mapping of parameters."""

    tag: str
    step: int
    time: float
    value: Any

    def encode(self) -> bytes:
        match self.value:
            case str():
                return events.text_event(self.tag, self.step, self.time, self.value)
            case Path():
                return events.image_event(self.tag, self.step, self.time, self.value.read_bytes())
            case dict():
                return events.parameters_event(self.value, self.time)
        return events.scalar_event(self.tag, self.step, self.time, self.value)


@dataclass(kw_only=True)
class _Live:
    """What this process knows of a run's event files: the one it appends to, and how far it has read the records."""

    file: Path
    tail: Tail
    size: int = 0  # of the file; where it differs, somebody else was there
    figures: set[Key] = field(default_factory=set)
    closed: bool = False


@mirrors.register("tensorboard")
class TensorboardMirror:
    """Scalars of steps and epochs, figures, the recipe as text and for the hparams page, in TensorBoard's files."""

    def __init__(self) -> None:
        self._live: dict[Path, _Live] = {}

    def update(self, run: Path) -> int:
        """Write what the files lack; returns how many values that were.

        Raises TrainwrightError where the files cannot be written, MissingPackageError without tensorboard.
        """
        need("tensorboard")
        folder = RunFolder.open(run)
        try:
            added = self._append(folder)
            return self._reconcile(folder) if added is None else added
        except OSError as error:
            self._live.pop(folder.path, None)
            raise TrainwrightError(
                f"TensorBoard's files cannot be written ({error.strerror or error}).",
                where=str(folder.path / "tensorboard"),
                cure="Make room, or make it writable. Then: trainwright sync RUN.",
            ) from error

    def close(self, run: Path, state: str) -> None:
        """TensorBoard has no status of a run; the next update looks at the files anew."""
        self._live.pop(Path(run).absolute(), None)

    def _append(self, folder: RunFolder) -> int | None:
        """Add the records since the last call to the file in use; None where the files have to be looked at first."""
        live = self._live.get(folder.path)
        if live is None or _size(live.file) != live.size:
            return None
        records = live.tail.read()
        if records is None:
            return None
        rows = [row for row in _rows(folder, records) if (row.tag, row.step) not in live.figures]
        if not live.closed and (closing := _closing(folder)):
            rows += closing
            live.closed = True
        return self._write(live, _unique(rows).values())

    def _reconcile(self, folder: RunFolder) -> int:
        """Make the files hold exactly what the records say."""
        tail = Tail(folder.path / RECORDS)
        records = tail.read() or []
        closing = _closing(folder)
        wanted = _unique([*_opening(folder), *_rows(folder, records), *closing])
        present, sound = _present(folder)
        live = _Live(file=_new_file(folder), tail=tail, closed=bool(closing))
        known = set(present)
        if sound and len(known) == len(present) and known <= _keys(wanted):
            live.figures = {key for key in known if key[0].startswith("figures/")}
            added = self._write(live, [row for key, row in wanted.items() if key not in known])
        else:
            added = self._rewrite(folder, live, wanted.values())
        self._live[folder.path] = live
        return added

    def _rewrite(self, folder: RunFolder, live: _Live, rows: Iterable[_Row]) -> int:
        """Write everything into one new file, beside the old ones until it is whole."""
        old = sorted(folder.tensorboard.glob(EVENT_FILES))
        final, live.file = live.file, live.file.with_name(f".{secrets.token_hex(4)}.tmp")
        try:
            added = self._write(live, rows)
            live.file.replace(final)
        finally:
            live.file.unlink(missing_ok=True)
        live.file = final
        for path in old:  # a kill in between leaves values twice, which the next update sees
            path.unlink(missing_ok=True)
        return added

    def _write(self, live: _Live, rows: Iterable[_Row]) -> int:
        """Append to the file in one write; returns how many rows. A figure that cannot be read (any more) is left out."""
        pieces = []
        for row in rows:
            with contextlib.suppress(FileNotFoundError, ValueError):
                pieces.append(row.encode())
                if isinstance(row.value, Path):
                    live.figures.add((row.tag, row.step))
        if not pieces:
            return 0
        head = b"" if live.size else events.first_event(time.time())
        with live.file.open("ab") as file:
            file.write(b"".join([head, *pieces]))
        live.size = _size(live.file)
        return len(pieces)


def _opening(folder: RunFolder) -> list[_Row]:
    created = float(folder.manifest.get("created") or 0.0)
    recipe = "".join(f"    {line}\n" for line in folder.recipe_yaml.splitlines())  # indented: code in Markdown
    return [
        _Row(tag=RECIPE_TAG, step=0, time=created, value=recipe),
        _Row(tag=PARAMETERS_TAGS[0], step=0, time=created, value=parameters(folder)),
    ]


def _rows(folder: RunFolder, records: list[dict[str, Any]]) -> Iterator[_Row]:
    for record in records:
        match record["kind"]:
            case "steps":
                for name in STEP_CURVES:
                    for step, value in enumerate(record.get(name) or (), start=record["first_step"]):
                        number = float("nan") if value is None else value
                        yield _Row(tag=f"train_step/{name}", step=step, time=record["time"], value=number)
            case "epoch":
                yield from _scalars(epoch_scalars(record))
            case "lr_range":
                yield from _scalars(range_scalars(record))
                yield _Row(tag=RANGE_TAG, step=0, time=record["time"], value=f"{record['verdict']}: {record['reason']}")
            case "figure":
                tag, step = figure_tag(record)
                yield _Row(tag=tag, step=step, time=record["time"], value=folder.path / "figures" / record["name"])


def _closing(folder: RunFolder) -> list[_Row]:
    return [*_scalars(closing_scalars(folder)), *_scalars(opening_scalars(folder))]


def _scalars(scalars: Iterable[Any]) -> Iterator[_Row]:
    for scalar in scalars:
        yield _Row(tag=scalar.name, step=scalar.step, time=scalar.time, value=scalar.value)


def _unique(rows: Iterable[_Row]) -> dict[Key, _Row]:
    return {(row.tag, row.step): row for row in rows}


def _keys(rows: dict[Key, _Row]) -> set[Key]:
    return set(rows) | {(tag, 0) for tag in PARAMETERS_TAGS}


def _present(folder: RunFolder) -> tuple[list[Key], bool]:
    """What the event files hold, and whether each of them is whole."""
    found: list[Key] = []
    sound = True
    for path in folder.tensorboard.glob(EVENT_FILES):
        keys, whole = events.read_events(path)
        found += keys
        sound = sound and whole
    return found, sound


def _new_file(folder: RunFolder) -> Path:
    """A name that sorts after those before: TensorBoard reads a folder's files in that order."""
    name = f"{time.time():.6f}.{platform.node()}.{os.getpid()}.{next(_numbers)}"
    return folder.tensorboard / EVENT_FILES.replace("*", name)


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
