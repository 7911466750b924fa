"""Values that were not asked for before, by chance or by a rule that may have to draw again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trainwright.search.history import History
from trainwright.search.searching import Setting
from trainwright.seeding import stream

REDRAWS = 20  # of a rule, before chance takes over
BY_CHANCE = 200  # draws, before all that is left is looked through
MOST_LEFT = 100_000  # proposals that are looked through


class Chance:
    """Values by chance. prior: share of the draws that lie as the space's priors say, 0–1; the others lie evenly."""

    def __init__(self, setting: Setting, *, prior: float = 0.0) -> None:
        self._setting, self._prior = setting, prior

    def __call__(self, history: History) -> Mapping[str, Any] | None:
        return unseen(self._setting, history, self.draw)

    def draw(self, number: int, turn: int) -> Mapping[str, Any]:
        """Depends on the number of the ask and on the turn alone."""
        random = stream(self._setting.seed, "chance", number, turn)
        return self._setting.space.sample(random, prior=bool(random.random() < self._prior))


def unseen(
    setting: Setting, history: History, draw: Callable[[int, int], Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The first of draw(number, 0), draw(number, 1), … that is allowed and was not asked for; None where nothing is left, or no
    more trials may be begun.

    A rule that keeps coming back to what was asked for gives way to chance, so that no training is paid for twice.
    """
    space, number = setting.space, len(history.asks)
    if setting.trials is not None and len(history.trials) >= setting.trials:
        return None
    for turn in range(REDRAWS):
        values = draw(number, turn)
        if not history.seen(values) and space.reason_against(values) is None:
            return values
    random = stream(setting.seed, "unseen", number)
    for _ in range(BY_CHANCE):
        values = space.sample(random)
        if not history.seen(values):
            return values
    if space.size > MOST_LEFT:
        return values
    left = [values for values in space.grid(None) if not history.seen(values)]
    return left[int(random.integers(len(left)))] if left else None
