"""What every executor has in common: what a job is, how it ends, and the plain form in which its answer travels."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from trainwright import errors
from trainwright.errors import TrainwrightError

MOST_STARTS = 2  # of a job: the second is for a worker that died, as by the system when memory ran out
WAIT_SECONDS = 0.2  # between two looks at whether somebody wants an end
Key = int
Send = Callable[[Mapping[str, Any]], None]
Call = Callable[[Any, Send, Callable[[], bool]], Any]
Heard = Callable[[Key, Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A job that came to an end. value: its answer; error: what it raised. died: how its worker ended, where nothing else is
    known, after so many starts. seconds: wall-clock since it was first given to a worker."""

    key: Key
    value: Any = None
    error: Exception | None = None
    died: str = ""
    starts: int = MOST_STARTS
    seconds: float = 0.0


class Executor(Protocol):
    """Calls one function with job after job, `slots` at a time, somewhere else. A context manager: at its end none is left.

    What a job is called with, sends and answers is plain JSON. A worker that dies costs its own job alone, and that once.
    """

    slots: int

    @property
    def under_way(self) -> list[Key]:
        """Jobs that have not ended, in the order of their keys."""
        ...

    def submit(self, key: Key, argument: Any, *, threads: int = 1, limit_seconds: float | None = None) -> None:
        """Give a job to the next free worker. threads: that it computes with. limit_seconds: wall-clock after which it is
        ended as one whose worker died, and not begun again."""
        ...

    def wait(self) -> list[Ended]:
        """The jobs that have ended since the last call; waits for one for a moment. Their events were heard before."""
        ...

    def stop(self) -> None:
        """Ask every job to save and end; those that wait for a worker are dropped."""
        ...

    def close(self) -> None:
        """End all workers. What a job has saved stays saved."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def answer(call: Call, argument: Any, send: Send, stop_asked: Callable[[], bool]) -> dict[str, Any]:
    """What came of a job, as a message: `done` with its value, or `error`."""
    try:
        return {"kind": "done", "value": call(argument, send, stop_asked)}
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> dict[str, Any]:
    """An error as a message that `error_of` makes an error of again."""
    if isinstance(error, TrainwrightError):
        kind = type(error).__name__
        return {"kind": "error", "type": kind, "message": error.message, "where": error.where, "cure": error.cure}
    notes = getattr(error, "__notes__", [])
    if isinstance(error, RuntimeError) and notes:  # one that `error_of` made
        return {"kind": "error", "type": "", "message": str(error), "trace": "".join(notes)}
    trace = "".join(traceback.format_exception(error))
    return {"kind": "error", "type": "", "message": f"{type(error).__name__}: {error}", "trace": trace}


def error_of(message: Mapping[str, Any]) -> Exception:
    """What the job raised, of the same class where that is one of ours."""
    kind = getattr(errors, message["type"], None) if message["type"] else None
    if isinstance(kind, type) and issubclass(kind, TrainwrightError):
        return kind(message["message"], where=message["where"], cure=message["cure"])
    error = RuntimeError(message["message"])
    error.add_note(message.get("trace", ""))
    return error
