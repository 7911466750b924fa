"""Figures as they stand in the text of findings: errors in percent, differences in points."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainwright.records import Interval

UNKNOWN = "not measured"
GENERALIZES = "generalizes"  # the verdict where nothing is wrong
TOLD_APART = 0.005  # of a score: what rounding to three digits, or to tenths of a point, cannot explain
CHOSEN_THERE = "the unseen score is of the epoch that did best on these very images; the gap holds no such choice"
EPOCHS_CHOSEN = (
    "The gain is not the difference of these scores: each is of the epoch that did best on these very images, and what is "
    "compared holds no such choice."
)


def percent(fraction: float) -> str:
    return f"{_rounded(100 * fraction)} %" if math.isfinite(fraction) else UNKNOWN


def percent_within(interval: Interval) -> str:
    """'25.1 % (22.6 to 27.8)'."""
    if not math.isfinite(interval.value):
        return UNKNOWN
    return f"{percent(interval.value)} ({_rounded(100 * interval.low)} to {_rounded(100 * interval.high)})"


def points(fraction: float) -> str:
    return f"{_rounded(100 * fraction)} points" if math.isfinite(fraction) else UNKNOWN


def signed_points(fraction: float) -> str:
    """'+1.2', a part of a sum."""
    return f"{100 * fraction:+.1f}" if math.isfinite(fraction) else UNKNOWN


def points_within(interval: Interval) -> str:
    """'22.8 points (20.4 to 25.3)'."""
    if not math.isfinite(interval.value):
        return UNKNOWN
    return f"{points(interval.value)} ({_rounded(100 * interval.low)} to {_rounded(100 * interval.high)})"


def amount_within(interval: Interval) -> str:
    """'-0.051 (-0.080 to -0.022)', for losses."""
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def below(interval: Interval) -> Interval:
    """The same told from the other side: what is 2 (1 to 3) more for one is -2 (-3 to -1) more for the other."""
    return Interval(value=-interval.value, low=-interval.high, high=-interval.low)


def against(finding: str) -> str:
    """What a remedy is for: a finding, or nothing that was found."""
    return f"against {finding}" if finding not in ("", GENERALIZES) else "what usually still helps"


def epochs(count: int) -> str:
    return f"{count:,} epoch{'' if count == 1 else 's'}"


def images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"


def times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count:,} times")


def changed_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """'epochs 10 → 20, network.width 16 → 32'."""
    return ", ".join(f"{key} {_plain(before.get(key))} → {_plain(value)}" for key, value in after.items())


def _plain(value: Any) -> str:
    return "none" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _rounded(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}"  # + 0.0: no "-0.0"
