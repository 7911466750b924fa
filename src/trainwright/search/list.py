"""`list`: the given values and nothing else."""

from __future__ import annotations

from trainwright.plugins import strategies
from trainwright.search.history import History, Move
from trainwright.search.searching import Setting


@strategies.register("list")
class Listed:
    """Train what was given (`first`), in that order, and end."""

    learns = False

    def __init__(self, setting: Setting) -> None:
        self._setting = setting

    def propose(self, history: History) -> Move | None:
        return None
