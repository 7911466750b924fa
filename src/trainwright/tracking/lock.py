"""`FileLock`: only one process at a time writes a run folder, fills a mirror or creates a store."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import weakref
from pathlib import Path
from types import TracebackType

if sys.platform != "win32":
    import fcntl

RETRY_SECONDS = 0.05
_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An exclusive lock on a file, which the system drops when its holder dies, however it dies.

    The file stays (removing it would let two processes lock two files of one name) and holds the holder's process id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._close: weakref.finalize[..., FileLock] | None = None

    def acquire(self, *, wait_seconds: float = 0.0) -> bool:
        """Take the lock; False where another process, or another `FileLock` in this one, keeps it for `wait_seconds`.

        Raises OSError where the file cannot be opened.
        """
        if self.held:
            return True
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        if not _lock(descriptor, time.monotonic() + wait_seconds):
            os.close(descriptor)
            return False
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the name of its holder
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        self._close = weakref.finalize(self, os.close, descriptor)
        _held.add(self)
        return True

    @property
    def held(self) -> bool:
        return self._close is not None and self._close.alive

    @property
    def holder(self) -> str:
        """The process id that the holder wrote down; 'unknown' where there is none."""
        with contextlib.suppress(OSError):
            return self.path.read_text(encoding="ascii", errors="replace").strip() or "unknown"
        return "unknown"

    def release(self) -> None:
        if self._close is not None:
            self._close()

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _lock(descriptor: int, deadline: float) -> bool:
    if sys.platform == "win32":  # no such lock there: a second writer is not refused
        return True
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(RETRY_SECONDS)


def _let_go_in_child() -> None:
    """A forked worker inherits the lock's descriptor and would keep it locked after its parent was killed."""
    for lock in list(_held):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)
