"""How long work tells how far it is: whoever starts it passes a `Reporter`."""

from __future__ import annotations

from typing import Protocol

from trainwright.records import EpochRecord


class Reporter(Protocol):
    """Told what happens while a run is under way. Called from the thread that trains: be quick."""

    def progress(self, what: str, done: int, total: int) -> None:
        """`done` of `total` pieces of `what` are done."""
        ...

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        """An epoch of `epochs` has ended."""
        ...

    def note(self, text: str) -> None:
        """Something that a person should know: a choice with its reason, a warning."""
        ...


class Silent:
    """Says nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        return

    def epoch(self, record: EpochRecord, epochs: int) -> None:
        return

    def note(self, text: str) -> None:
        return
