"""What the sweeps of a learning-rate range test show: where their loss falls, and whether their bounds were too tight."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from trainwright.diagnosis.lr_choice import STEP
from trainwright.diagnosis.lr_curve import REAL
from trainwright.records import LrRange

FAR_UP = 1.0  # ours: a sweep that gets here without a rise was long enough; published peak rates lie below
END = 0.05  # ours: of an end of the interval, which is said to two digits; a rate nearer to it lies on it
FURTHER = 10.0  # times a bound that was too tight: the next one to try


def swept_interval(found: LrRange) -> tuple[float, float] | None:
    """The part of the interval where a sweep's loss has really fallen; None where short trainings alone saw it fall.

    From the first rate whose whole band lies below the start, without a gap up to where the curve is lowest.
    """
    if found.interval is None or not np.isfinite(found.smooth_L).any():
        return None
    at = int(np.nanargmin(found.smooth_L))
    fallen_L = found.high_L < found.start - REAL * (found.start - found.smooth_L[at])
    if not fallen_L[at]:
        return None
    first = at
    while first > 0 and fallen_L[first - 1]:
        first -= 1
    low, high = max(found.lrs_L[first], found.interval[0]), min(found.lrs_L[at], found.interval[1])
    return (float(low), float(high)) if low < high else None


def lies(lr: float | None, found: LrRange) -> Literal["below", "inside", "above"] | None:
    """Where a learning rate lies beside the interval at which the loss really falls; None without either."""
    if lr is None or found.interval is None:
        return None
    low, high = found.interval
    return "below" if lr < low * (1 - END) else "above" if lr > high * (1 + END) else "inside"


def still_falling(found: LrRange) -> bool:
    """Whether the loss is lowest at the upper end of the sweep, surely below its start, and was higher half a decade before."""
    if not _reached_the_end(found):
        return False
    smooth_L, end = found.smooth_L, found.smooth_L[-1]
    before = smooth_L[found.lrs_L <= found.lrs_L[-1] / 10**STEP]
    falls = len(before) > 0 and before[-1] - end > REAL * (found.start - end)
    return bool(falls and int(np.nanargmin(smooth_L)) == len(smooth_L) - 1 and found.high_L[-1] < found.start)


def tight_bounds(found: LrRange) -> tuple[str, ...]:
    """A sentence for each end of the sweep beyond which the answer may lie; none for a sweep that was wide enough."""
    if not np.isfinite(found.smooth_L).any():
        return ()
    low, high = (float(found.lrs_L[end]) for end in (0, -1))
    said = []
    if upper := _above(found, high):
        said.append(f"{upper}; raise it (trainwright lr --high {FURTHER * high:.3g})")
    if lower := _below(found, low):
        said.append(f"{lower}; lower it (trainwright lr --low {low / FURTHER:.3g})")
    return tuple(said)


def _above(found: LrRange, high: float) -> str:
    end = f"{high:.3g}, the highest learning rate of the sweep"
    if still_falling(found):
        return f"the loss is still falling at {end}"
    tried = [trial.lr for trial in found.trials]
    if found.suggestion is not None:
        nothing_above = found.suggestion * 10**STEP > high and not any(lr > 1.01 * found.suggestion for lr in tried)
        return f"nothing above the suggestion was tried, which lies close below {end}" if nothing_above else ""
    unmoved = _reached_the_end(found) and high < FAR_UP and found.low_L[-1] <= found.start
    return f"the loss has not risen yet at {end}" if unmoved else ""


def _below(found: LrRange, low: float) -> str:
    end = f"{low:.3g}, the lowest learning rate of the sweep"
    first, fall = found.smooth_L[0], found.start - np.nanmin(found.smooth_L)
    if found.low_L[0] > found.start and first - found.start > REAL * abs(found.start):
        return f"the loss already rises at {end}"
    falls = found.interval is not None and found.high_L[0] < found.start - REAL * fall
    return f"the loss already falls at {end}" if falls else ""


def _reached_the_end(found: LrRange) -> bool:
    """Whether every sweep went through all of its rates: none shot past its start before."""
    return math.isfinite(found.start) and bool(np.isfinite(found.losses_SL[:, -1]).all())
