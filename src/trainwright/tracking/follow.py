"""The follower: a process beside the training that keeps mirrors up to date with the run folder.

The training only appends to its run folder; whatever a mirror does (hang, fail, vanish) happens here, at low priority.
`Follower` is the training's end of it. `python -m trainwright.tracking.follow RUN_FOLDER --parent PID MIRROR…` is the
process: it reads `stop` or the end of its standard input, and writes the name of each mirror that is up to date at last.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from trainwright.errors import TrainwrightError
from trainwright.plugins import Mirror
from trainwright.tracking.lock import FileLock
from trainwright.tracking.mirrors import installed, mirrors
from trainwright.tracking.process import is_gone
from trainwright.tracking.run_folder import RECORDS, RESULT, STATUS, RunFolder
from trainwright.tracking.runs import mark_interrupted
from trainwright.tracking.sync import MIRRORS, MIRRORS_LOCK

NICENESS = 15
PAUSE_SECONDS = {"tensorboard": 2.0}  # between looks at the run folder, while it is live
OTHER_PAUSE_SECONDS = 5.0  # mlflow: a write costs it some 30 ms
LONGEST_PAUSE_SECONDS = 60.0  # after several failures
LAST_SECONDS = 120.0  # after the parent's death; when it asks to stop, its own timeout is shorter
DYING_SECONDS = 10.0  # from the end of the pipe to the end of the process that held it
LOG = "mirrors.log"
log = logging.getLogger(__name__)


class Follower:
    """The training's end: starts the follower, and asks it to finish. Neither raises for anything a mirror does."""

    def __init__(self, names: Iterable[str], process: subprocess.Popen[bytes] | None) -> None:
        self._names = list(names)
        self._process = process

    @classmethod
    def start(cls, run_path: Path, mirrors: Iterable[str] = MIRRORS) -> Follower:
        """Follow a run folder. Mirrors whose package is not installed are left out, with a line in mirrors.log."""
        path, names = Path(run_path).absolute(), list(mirrors)
        present = [name for name in names if name not in MIRRORS or installed(name)]
        for name in sorted(set(names) - set(present)):
            _note(path, f"{name}: not installed. Install it: pip install 'trainwright[{name}]'.")
        if not present:
            return cls([], None)
        command = [sys.executable, "-P", "-W", "ignore", "-m", "trainwright.tracking.follow", str(path)]
        try:
            process = subprocess.Popen(
                [*command, "--parent", str(os.getpid()), *present],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the training, which then asks its follower to finish
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        except OSError as error:
            log.warning("no follower could be started (%s): MLflow and TensorBoard stay behind", error)
            return cls(present, None)
        return cls(present, process)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def stop(self, *, timeout_seconds: float = 30.0) -> list[str]:
        """Ask for a last update and wait for it, at most `timeout_seconds`; returns the mirrors that are still behind.

        Call it after the run's final `set_status`. A follower that is not done in time is killed, which harms no store.
        """
        process, self._process = self._process, None
        if process is None:
            return self._names
        try:
            done, _ = process.communicate(b"stop\n", timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            done, _ = process.communicate()
        if process.stdin is not None:
            with contextlib.suppress(OSError):  # `communicate` leaves it open when its time was up
                process.stdin.close()
        self._names = [name for name in self._names if name not in done.decode().split()]
        return self._names


class _Copier(threading.Thread):
    """Keeps one mirror up to date until `finish`. Its failures are its own: noted once, and tried again later."""

    def __init__(self, run: Path, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._run = run
        self._finishing = threading.Event()
        self._failures = 0
        self._reason = ""
        self._seen: tuple[float, ...] = ()
        self._mirror: Mirror | None = None
        self.done = False

    def finish(self) -> None:
        self._finishing.set()

    def run(self) -> None:
        while not self._finishing.wait(self._pause()):
            seen = self._look()
            if seen != self._seen and self._attempt(closing=False):
                self._seen = seen
        self.done = self._attempt(closing=True)

    def _pause(self) -> float:
        usual = PAUSE_SECONDS.get(self.name, OTHER_PAUSE_SECONDS)
        return min(usual * 2.0 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS)

    def _look(self) -> tuple[float, ...]:
        """What changes when there is something new."""
        seen = []
        for name in (RECORDS, RESULT, STATUS):
            with contextlib.suppress(OSError):
                status = (self._run / name).stat()
                seen += [status.st_size, status.st_mtime]
        return tuple(seen)

    def _attempt(self, *, closing: bool) -> bool:
        try:
            self._mirror_once(closing=closing)
        except Exception as error:  # a plug-in may raise anything, and the next attempt may work
            self._failures += 1
            reason = str(error) if isinstance(error, TrainwrightError) else f"{type(error).__name__}: {error}"
            if reason != self._reason:
                _note(self._run, f"{self.name}: {reason}")
            self._reason = reason
            return False
        if self._failures:
            _note(self._run, f"{self.name}: works again.")
        self._failures, self._reason = 0, ""
        return True

    def _mirror_once(self, *, closing: bool) -> None:
        mirror = self._mirror = self._mirror or mirrors.get(self.name)()
        mirror.update(self._run)
        state = RunFolder.open(self._run).status()["state"]
        if closing and state != "running":
            mirror.close(self._run, state)


class _Parent:
    """Notices when the parent asks to stop, or is no more: by the end of the pipe, or by having been adopted.

    The second is needed because forked workers of the parent keep the pipe open for as long as they live.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._said = threading.Event()
        self.asked = False
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        self.asked = os.read(0, 16).startswith(b"stop")
        self._said.set()

    def wait(self) -> None:
        while not self._said.wait(PAUSE_SECONDS["tensorboard"]):
            if os.getppid() != self._pid:
                return


def main(arguments: list[str] | None = None) -> int:
    """The follower process; see above."""
    parser = argparse.ArgumentParser(prog="python -m trainwright.tracking.follow", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("mirrors", nargs="+")
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    _step_back()
    output = _take_output()
    parent = _Parent(given.parent)
    lock = FileLock(given.run / MIRRORS_LOCK)
    try:
        if not lock.acquire(wait_seconds=LAST_SECONDS):  # a follower of before the resume may be finishing
            _note(given.run, f"process {lock.holder} is at work on this run's mirrors; nothing was mirrored.")
            return 1
        _follow(given.run, given.mirrors, parent, output)
    except Exception as error:  # there is nobody to tell but the log
        _note(given.run, f"the follower failed. {type(error).__name__}: {error}")
        return 1
    finally:
        lock.release()
    return 0


def _follow(run: Path, names: list[str], parent: _Parent, output: int) -> None:
    mirrors.all()  # loaded here: two threads that load the registry get in each other's way
    copiers = [_Copier(run, name) for name in names]
    for copier in copiers:
        copier.start()
    parent.wait()
    if not parent.asked:
        _outlive(run)
    for copier in copiers:
        copier.finish()
    deadline = time.monotonic() + LAST_SECONDS
    waiting = list(copiers)
    while waiting and time.monotonic() < deadline:
        waiting[0].join(0.05)
        for copier in [copier for copier in waiting if not copier.is_alive()]:
            waiting.remove(copier)
            if copier.done:
                with contextlib.suppress(OSError):  # the parent is gone
                    os.write(output, f"{copier.name}\n".encode())


def _outlive(run: Path) -> None:
    """The parent died: when it is gone for sure, its run is interrupted, unless it ended properly or was resumed."""
    deadline = time.monotonic() + DYING_SECONDS
    while time.monotonic() < deadline:
        status = RunFolder.open(run).status()
        if status["state"] != "running" or (is_gone(status) and mark_interrupted(run)):
            return
        time.sleep(0.1)


def _step_back() -> None:
    """Take only time that nobody else wants: at a mere low priority, a busy mirror still cost a training on all cores 5 %."""
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    if hasattr(os, "sched_setscheduler"):  # Linux
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _take_output() -> int:
    """Standard output for ourselves: what other packages print goes nowhere."""
    output = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return output


def _note(run: Path, line: str) -> None:
    """A line in the run folder's mirrors.log. A full disk has been reported by the training itself."""
    with contextlib.suppress(OSError), (run / LOG).open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {line}\n")


if __name__ == "__main__":
    sys.exit(main())
