"""`grid`: every combination."""

from __future__ import annotations

from itertools import islice

from trainwright.errors import UsageError
from trainwright.plugins import strategies
from trainwright.search.history import History, Move
from trainwright.search.searching import Setting

MOST = 10_000  # combinations; nobody trains more


@strategies.register("grid")
class Grid:
    """Train every combination once, in order. points: of each range that does not say its own; choices are all taken.

    For a figure over one or two dimensions. With more of them random points say more for the same trainings (Bergstra and Bengio,
    "Random search for hyper-parameter optimization", 2012).
    """

    learns = False

    def __init__(self, setting: Setting, *, points: int = 5) -> None:
        if points < 1:
            raise UsageError(f"points: expected 1 or more, got {points}.", where="strategy")
        self._every = list(islice(setting.space.grid(points), MOST + 1)) if setting.space.dimensions else []
        if len(self._every) > MOST:
            raise UsageError(
                f"a grid of {points} points has more than {MOST:,} combinations.",
                where="strategy",
                cure="Take fewer points or dimensions, or sobol.",
            )
        self._next = 0

    def propose(self, history: History) -> Move | None:
        while self._next < len(self._every) and history.seen(self._every[self._next]):
            self._next += 1
        return Move(values=self._every[self._next]) if self._next < len(self._every) else None
