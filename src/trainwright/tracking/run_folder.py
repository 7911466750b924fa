"""`RunFolder`: the truth about one run, on disk. What is written here survives a kill at any moment.

Writing is atomic (`files.write_atomically`) or appending (records.jsonl); mirrors and commands read it while it is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import re
import secrets
import shutil
import time
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from trainwright.errors import RunError, did_you_mean
from trainwright.files import explain_full_disk, sync_folder, write_atomically
from trainwright.tracking import journal
from trainwright.tracking.lock import FileLock
from trainwright.tracking.process import this_process

State = Literal["running", "finished", "failed", "interrupted", "paused"]  # paused: by the study that owns it
MANIFEST, RECIPE, RECORDS, STATUS, RESULT = (
    "manifest.json",
    "recipe.yaml",
    "records.jsonl",
    "status.json",
    "result.json",
)
OPENINGS = "test-openings.jsonl"  # beside the runs: a test part belongs to a dataset, not to a run
HALF_MADE = ".new-"  # prefix of a run folder that is being built
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
CLAIM_SECONDS = 0.5  # a sweep holds the lock for some milliseconds


class RunFolder:
    """One run: what was asked (recipe.yaml, manifest.json), what happened (records.jsonl), what came out (result.json).

    Whoever appends, cuts or creates is its one writer, until `close` or its death. Reading needs no leave.
    """

    def __init__(self, path: Path, manifest: Mapping[str, Any]) -> None:
        self.path = path
        self.manifest = dict(manifest)
        self.run_id = str(self.manifest.get("run_id") or path.name)
        self._lock = FileLock(path / "run.lock")
        self._records: int | None = None  # descriptor, while this is the writer

    @classmethod
    def create(
        cls, runs: Path, *, recipe_yaml: str, manifest: Mapping[str, Any], run_id: str | None = None
    ) -> RunFolder:
        """A new run, in state running, written by this process. A kill leaves a whole run or nothing that lists as one.

        manifest: anything JSON; its `name` is a hint for the id. Raises RunError where `run_id` exists or is no name.
        """
        if run_id is not None and not NAME.fullmatch(run_id):
            raise RunError(f"{run_id!r} is no name for a run.", cure="Use letters, digits, '-', '_' and '.'.")
        with _disk(runs):
            runs.mkdir(parents=True, exist_ok=True)
            while True:
                name = run_id or new_id(str(manifest.get("name", "")))
                with contextlib.suppress(FileExistsError):
                    return cls._build(runs.absolute(), name, recipe_yaml, manifest)
                if run_id is not None:
                    raise RunError(
                        f"there is a run {run_id!r} already.",
                        where=str(runs),
                        cure="Choose another name, or resume it.",
                    )

    @classmethod
    def _build(cls, runs: Path, name: str, recipe_yaml: str, manifest: Mapping[str, Any]) -> RunFolder:
        temporary = runs / f"{HALF_MADE}{name}-{secrets.token_hex(4)}"
        temporary.mkdir()
        run = cls(temporary, {**_plain(manifest), "run_id": name, "created": time.time()})
        try:
            run._lock.acquire()
            for file, data in (
                (RECIPE, recipe_yaml.encode()),
                (MANIFEST, _json(run.manifest)),
                (RECORDS, b""),
                (STATUS, _json(_status("running", this_process()))),
            ):
                _write_new(temporary / file, data)
            sync_folder(temporary)
            _rename_new(temporary, runs / name)
        except BaseException:
            run.close()
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(runs)
        run.path = runs / name
        run._lock.path = run.path / "run.lock"
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """The run in a folder, for reading; the first write makes this process its writer. Raises RunError for no run."""
        path = Path(path).absolute()
        manifest = _read_json(path / MANIFEST) if (path / RECIPE).is_file() else None
        if not isinstance(manifest, Mapping):
            raise _no_run(path)
        return cls(path, manifest)

    @property
    def recipe_yaml(self) -> str:
        return (self.path / RECIPE).read_text(encoding="utf-8")

    # Writing. One writer at a time.

    def claim(self) -> None:
        """Become the writer, which cuts off a torn last line. Raises RunError where another process is it."""
        if self._records is not None:
            return
        with _disk(self.path):
            if not self._lock.acquire(wait_seconds=CLAIM_SECONDS):
                raise RunError(
                    f"process {self._lock.holder} is writing this run.",
                    where=str(self.path),
                    cure="Wait until it ends, or end it, then resume.",
                )
            path = self.path / RECORDS
            self._records = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o644)
            os.truncate(self._records, journal.whole_bytes(path))

    def close(self) -> None:
        """Stop being the writer. The object can still read."""
        if self._records is not None:
            os.close(self._records)
            self._records = None
        self._lock.release()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, kind: str, record: Any) -> None:
        """Append one record, a mapping or a dataclass, as a line with its kind and `time` (epoch seconds).

        Numbers that are not finite become null. Raises OutOfResourcesError on a full disk, and the file is as before.
        """
        self.claim()
        assert self._records is not None
        data = journal.encode(kind, {**_plain(record), "time": round(time.time(), 3)})
        with _disk(self.path):
            before = os.fstat(self._records).st_size
            try:
                _write_all(self._records, data)
            except OSError:
                os.truncate(self._records, before)
                raise

    def position(self) -> int:
        """Bytes of records.jsonl now. For the writer they are safely on disk, so a checkpoint can refer to them."""
        if self._records is None:
            return (self.path / RECORDS).stat().st_size
        os.fsync(self._records)
        return os.fstat(self._records).st_size

    def opening(self) -> int:
        """Bytes of records.jsonl before the first step's: what was found out before the training, as its learning rate."""
        return journal.bytes_before(self.path / RECORDS, "steps")

    def cut(self, position: int) -> None:
        """Go back to an earlier `position`: what was appended since is forgotten. Raises RunError where it was none."""
        self.claim()
        assert self._records is not None
        size = os.fstat(self._records).st_size
        if not 0 <= position <= size or (position and os.pread(self._records, 1, position - 1) != b"\n"):
            raise RunError(
                f"no record ends at byte {position} of {size}.",
                where=str(self.path / RECORDS),
                cure="The checkpoint belongs to another run, or records were lost: train anew.",
            )
        os.truncate(self._records, position)
        os.fsync(self._records)

    def set_status(self, state: State, **extra: Any) -> None:
        """Write status.json: the state, this process, the time, and `extra` (message=…). Who says running is the writer."""
        if state == "running":
            self.claim()
        self.write_json(STATUS, _status(state, this_process(), **extra))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run atomically. Numbers that are not finite become null."""
        with _disk(self.path):
            write_atomically(self.path / name, _json(_plain(value)))

    # Reading.

    def records(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """The records so far, or those of one kind; see `journal.read_records`."""
        return journal.read_records(self.path / RECORDS, kind)

    def read_json(self, name: str) -> Any:
        """A JSON file of the run; None where there is none. Raises RunError where it is damaged."""
        return _read_json(self.path / name)

    def status(self) -> dict[str, Any]:
        """state, pid, process_started, host, time, message. A run without status.json is interrupted."""
        return {**_status("interrupted", {}, time=None), **(self.read_json(STATUS) or {})}

    def result(self) -> dict[str, Any] | None:
        """result.json, as interface.md describes `train --json`; None before the run has finished."""
        result: dict[str, Any] | None = self.read_json(RESULT)
        return result

    @property
    def figures(self) -> Path:
        return self._folder("figures")

    @property
    def answers(self) -> Path:
        return self._folder("answers")

    @property
    def checkpoints(self) -> Path:
        return self._folder("checkpoints")

    @property
    def tensorboard(self) -> Path:
        return self._folder("tensorboard")

    def _folder(self, name: str) -> Path:
        with _disk(self.path):
            (self.path / name).mkdir(exist_ok=True)
        return self.path / name

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o644)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    """One write; more only where the system took a part, as it does just before a disk is full."""
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, data[written:])


def _rename_new(source: Path, target: Path) -> None:
    """Rename a folder to a name that must be free. Raises FileExistsError where it is not."""
    if target.exists():
        raise FileExistsError(target)
    try:
        source.rename(target)
    except OSError as error:  # taken since: a folder with content is never replaced
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise FileExistsError(target) from None
        raise


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        explained = explain_full_disk(error, folder / RECORDS)
        if explained is error:
            raise
        raise explained from error


def _status(state: str, process: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
    return {"state": state, "message": "", "time": time.time(), **process, **extra}


def _plain(value: Any) -> Any:
    from trainwright.records import to_json  # numpy: only who writes needs it

    if not isinstance(value, Mapping) and not (dataclasses.is_dataclass(value) and not isinstance(value, type)):
        raise TypeError(f"expected a mapping or a dataclass, got {type(value).__name__}")
    return to_json(value)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=1).encode() + b"\n"


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise RunError("damaged: not JSON.", where=str(path), cure="Restore it from a copy, or train anew.") from None


def new_id(hint: str) -> str:
    """Sortable by time (UTC), readable, unique: 20261122-011750-cats-dogs-7f3a."""
    plain = unicodedata.normalize("NFKD", hint).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:32].strip("-") or "run"
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{words}-{secrets.token_hex(2)}"


def _no_run(path: Path) -> RunError:
    siblings = []
    with contextlib.suppress(OSError):
        siblings = [entry.name for entry in os.scandir(path.parent) if (Path(entry.path) / MANIFEST).is_file()]
    lacking = "holds no run: recipe.yaml or manifest.json is missing." if path.is_dir() else "there is no such run."
    return RunError(
        lacking, where=str(path), cure=f"{did_you_mean(path.name, siblings)}'trainwright runs list' shows all runs."
    )
