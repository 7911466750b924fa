"""Progress on stderr: bars on a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from trainwright.records import EpochRecord
from trainwright.workflows.reporting import Reporter, Silent

LINE_SECONDS = 10.0  # between two plain lines about the same long piece of work


def choose_reporter(*, quiet: bool) -> Reporter:
    """Bars where stderr is a terminal, lines otherwise, silence when quiet."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() else Lines()


_live: list[Bars] = []


def end_bars() -> None:
    """Take down every bar that is up, before an error or a result is printed."""
    for bars in _live:
        bars.end()


class Lines:
    """A line for every epoch and note, and one now and then for long pieces of work."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def progress(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said > LINE_SECONDS and done < total:
            self._say(f"{what}: {done:,} of {total:,}")

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self._say(epoch_line(record, epochs))

    def note(self, text: str) -> None:
        self._say(text)

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        print(text, file=sys.stderr, flush=True)


class Bars:
    """One live bar for the piece of work under way; epochs and notes stay above it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        _live.append(self)
        self._task: Any = None
        self._what = ""

    def progress(self, what: str, done: int, total: int) -> None:
        if self._task is None:
            self._bar.start()
            self._task = self._bar.add_task(what, total=total)
        elif what != self._what:
            self._bar.reset(self._task, total=total, description=what)
        self._what = what
        self._bar.update(self._task, completed=done, total=total)
        if done >= total:
            self._stop()

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        self._console.print(epoch_line(record, epochs), highlight=False)

    def note(self, text: str) -> None:
        self._console.print(text, style="dim", highlight=False, markup=False)

    def _stop(self) -> None:
        self._bar.stop()
        self._bar.remove_task(self._task)
        self._task = None

    def end(self) -> None:
        """Give the terminal back: without it the cursor stays hidden."""
        self._bar.stop()


def epoch_line(record: EpochRecord, epochs: int) -> str:
    """An epoch in one line."""
    width = len(str(epochs))
    train, val = (
        f"{name} {means.score:.3f}" if math.isfinite(means.score) else f"{name} –"
        for name, means in (("train", record.train), ("val", record.val))
    )
    return (
        f"epoch {record.epoch + 1:>{width}}/{epochs}  "
        f"loss {record.train_running.loss:.4f}  score {train}  {val}  "
        f"lr {record.lr:.2e}  {record.images_per_second:,.0f} images/s"
    )
