"""`StudyFolder`: the truth about one study, on disk: what was asked, every ask and tell, the story, what came out."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from trainwright.errors import RunError, did_you_mean
from trainwright.files import explain_full_disk, write_atomically
from trainwright.records import to_json
from trainwright.tracking import journal
from trainwright.tracking.lock import FileLock
from trainwright.tracking.process import is_gone, this_process
from trainwright.tracking.run_folder import NAME, RunFolder, new_id
from trainwright.tracking.runs import ASKED, folder_of_studies, list_runs, newest_run

JOURNAL, STATUS, RESULT = "journal.jsonl", "status.json", "result.json"
CLAIM_SECONDS = 0.5
LAST = "last"  # the newest run, or what it belongs to


class StudyFolder:
    """One study. Its runs lie in the folder of runs, named after it: `NAME-000` and on.

    journal.jsonl holds `ask`, `tell` and `entry` records in the order in which they happened; a kill tears at most its last
    line. Whoever appends is its one writer, until `close` or its death.
    """

    def __init__(self, path: Path, asked: Mapping[str, Any]) -> None:
        self.path, self.asked = path, dict(asked)
        self.name = path.name
        self._lock = FileLock(path / "study.lock")
        self._claimed = False

    @classmethod
    def create(cls, studies: Path, *, asked: Mapping[str, Any], name: str | None = None, hint: str = "") -> StudyFolder:
        """A new study, written by this process. asked: anything JSON. Raises RunError where `name` exists or is no name."""
        if name is not None and not NAME.fullmatch(name):
            raise RunError(f"{name!r} is no name for a study.", cure="Use letters, digits, '-', '_' and '.'.")
        studies = studies.absolute()
        try:
            studies.mkdir(parents=True, exist_ok=True)
            while True:
                path = studies / (name or new_id(hint))
                with contextlib.suppress(FileExistsError):
                    path.mkdir()
                    break
                if name is not None:
                    raise RunError(
                        f"there is a study {name!r} already.",
                        where=str(studies),
                        cure="Choose another name, or resume it.",
                    )
            study = cls(path, to_json({**asked, "study": path.name, "created": time.time()}))
            study.claim()
            (path / JOURNAL).touch()
            study.set_status("running")
            study.write_json(ASKED, study.asked)  # last: a folder with it is a whole study
        except OSError as error:
            raise explain_full_disk(error, studies / JOURNAL) from error
        return study

    @classmethod
    def open(cls, path: Path) -> StudyFolder:
        """The study in a folder, for reading. Raises RunError for none."""
        path = Path(path).absolute()
        asked = _read(path / ASKED)
        if asked is None:
            siblings = [folder.name for folder in path.parent.glob("*") if (folder / ASKED).is_file()]
            raise RunError(
                "there is no such study.",
                where=str(path),
                cure=did_you_mean(path.name, siblings) or "Look into its folder.",
            )
        return cls(path, asked)

    # Writing

    def claim(self) -> None:
        """Become the writer, which cuts off a torn last line. Raises RunError where another process is it."""
        if self._claimed:
            return
        if not self._lock.acquire(wait_seconds=CLAIM_SECONDS):
            raise RunError(
                f"process {self._lock.holder} is writing this study.",
                where=str(self.path),
                cure="Wait until it ends, or end it, then resume.",
            )
        self._claimed = True
        file = self.path / JOURNAL
        if file.is_file():
            os.truncate(file, journal.whole_bytes(file))

    def append(self, kind: str, record: Any) -> None:
        """Append one record to the journal, safely on disk when this returns: what follows may depend on it."""
        self.claim()
        data = journal.encode(kind, {**to_json(record), "time": round(time.time(), 3)})
        file = self.path / JOURNAL
        try:
            with file.open("ab") as opened:
                before = opened.tell()
                try:
                    opened.write(data)
                    opened.flush()
                    os.fsync(opened.fileno())
                except OSError:
                    os.truncate(file, before)
                    raise
        except OSError as error:
            raise explain_full_disk(error, file) from error

    def set_status(self, state: str, **extra: Any) -> None:
        """running, finished, interrupted or failed, with this process and the time."""
        self.write_json(STATUS, {"state": state, "message": "", "time": time.time(), **this_process(), **extra})

    def write_json(self, name: str, value: Any) -> None:
        self.write_text(name, json.dumps(to_json(value), ensure_ascii=False, indent=1) + "\n")

    def write_text(self, name: str, text: str) -> None:
        write_atomically(self.path / name, text.encode())

    def close(self) -> None:
        self._lock.release()
        self._claimed = False

    def __enter__(self) -> StudyFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Reading

    def records(self, kind: str | None = None) -> Iterator[dict[str, Any]]:
        """Of the journal so far."""
        return journal.read_records(self.path / JOURNAL, kind)

    def numbered(self, kind: str) -> Mapping[int, dict[str, Any]]:
        """Of the journal so far, the records of a kind by their number."""
        return journal.Numbered(self.path / JOURNAL, kind)

    def status(self) -> dict[str, Any]:
        """state, process, time, message; finished where there is a result, interrupted where its process is gone."""
        status = {"state": "interrupted", "message": "", **(_read(self.path / STATUS) or {})}
        if self.result() is not None:
            status |= {"state": "finished", "message": ""}
        elif status["state"] == "running" and is_gone(status):
            status["state"] = "interrupted"
        return status

    def result(self) -> dict[str, Any] | None:
        """The `trainwright.study/1` object; None before the study has ended."""
        return _read(self.path / RESULT)

    def run_id(self, number: int) -> str:
        return f"{self.name}-{number:03d}"

    @property
    def created(self) -> float:
        """When, in epoch seconds."""
        return float(self.asked["created"])

    def owns(self, run_id: str) -> bool:
        """Whether that is the name of one of its runs."""
        name, _, number = run_id.rpartition("-")
        return name == self.name and number.isdecimal()


def find_study(runs: Path, name: str) -> StudyFolder | None:
    """The study of that name, unique beginning of a name or path; None where there is none, and for `last`, which is a run."""
    if (Path(name) / ASKED).is_file():
        return StudyFolder.open(Path(name))
    if not name or name == LAST:
        return None
    studies = folder_of_studies(runs)
    if (studies / name / ASKED).is_file():
        return StudyFolder.open(studies / name)
    found = [file.parent for file in sorted(studies.glob(f"*/{ASKED}")) if file.parent.name.startswith(name)]
    return StudyFolder.open(found[0]) if len(found) == 1 else None


def last_study(runs: Path) -> StudyFolder | None:
    """The study to go on with by `last`: one that has not ended, whose run is the newest, or that began after the newest run."""
    unfinished = []
    for file in folder_of_studies(runs).glob(f"*/{ASKED}"):
        with contextlib.suppress(RunError):  # a damaged one is not to keep others from going on
            study = StudyFolder.open(file.parent)
            unfinished += [study] if study.result() is None else []
    newest = newest_run(runs, stopped=True)
    if newest is not None:
        unfinished = [study for study in unfinished if study.owns(newest.run_id) or study.created > newest.started]
    return max(unfinished, key=lambda study: study.created, default=None)


def study_of_newest_run(runs: Path) -> StudyFolder | None:
    """The study whose run, finished or not, is the newest of all but repetitions; None where that run belongs to none."""
    newest = next((run for run in reversed(list_runs(runs)) if run.repeats is None), None)
    if newest is None:
        return None
    for file in folder_of_studies(runs).glob(f"*/{ASKED}"):
        with contextlib.suppress(RunError):
            study = StudyFolder.open(file.parent)
            if study.owns(newest.run_id):
                return study
    return None


def studies_in(runs: Path) -> list[StudyFolder]:
    """Every study whose runs lie there, the oldest first; damaged ones are left out."""
    found = []
    for file in sorted(folder_of_studies(runs).glob(f"*/{ASKED}")):
        with contextlib.suppress(RunError):
            found.append(StudyFolder.open(file.parent))
    return sorted(found, key=lambda study: (study.created, study.name))


def owner_of(run: RunFolder) -> StudyFolder | None:
    """The study that made a run, where it lies beside it."""
    name, _, number = run.run_id.rpartition("-")
    path = folder_of_studies(run.path.parent) / name
    if not number.isdecimal() or not (path / ASKED).is_file():
        return None
    return StudyFolder.open(path)


def owners_of(runs: Path, ids: Iterable[str]) -> dict[str, str]:
    """By run, the name of the study that made it; those that no study made are left out."""
    names = {file.parent.name for file in folder_of_studies(runs).glob(f"*/{ASKED}")}
    parts = {run_id: run_id.rpartition("-") for run_id in ids}
    return {run_id: name for run_id, (name, _, number) in parts.items() if name in names and number.isdecimal()}


def refuse_owned(run: RunFolder) -> None:
    """Raise RunError for a training that a study which has not ended has paused, and goes on with by itself."""
    study = owner_of(run)
    if study is not None and study.result() is None and run.status()["state"] == "paused":
        raise RunError(
            f"is paused by the study {study.name}, which decides whether it goes on.",
            where=run.run_id,
            cure=f"Go on with the study: 'trainwright resume {study.name}'.",
        )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise RunError("damaged: not JSON.", where=str(path), cure="Restore it from a copy.") from None
    return content
