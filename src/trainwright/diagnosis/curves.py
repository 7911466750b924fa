"""Curves over epochs as numbers: how much a curve changed over a window, with its doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from trainwright.diagnosis.evidence import StepLosses
from trainwright.records import Interval

LEAST_EPOCHS = 4  # a line through fewer points has no usable doubt: t is 12.7 with one degree of freedom, 4.3 with two
LEAST_GAIN = 0.005  # half a point: a smaller change of the score over a stretch of epochs counts as none

LEAST_STEPS = 20  # fewer losses of single batches say nothing of the training
SMOOTHED = 5  # steps, at least
BEYOND_NOISE = 8.0  # deviations of the smoothed loss
SPIKE_SHARE = 0.5  # of what had been gained, lost again


def change(values: Sequence[float]) -> Interval | None:
    """The change from the first to the last of `values` along their least-squares line, with its 95 % interval.

    values: one an epoch; those that are not finite are left out. None where fewer than LEAST_EPOCHS are left.
    Epochs count as independent around the line: Draper and Smith 1998, "Applied Regression Analysis", §1.4.
    """
    y = np.asarray(values, dtype=np.float64)
    known = np.isfinite(y)
    if known.sum() < LEAST_EPOCHS:
        return None
    x = np.arange(len(y), dtype=np.float64)[known]
    y = y[known]
    x -= x.mean()
    slope = float(x @ y / (x @ x))
    residuals = y - y.mean() - slope * x
    freedom = len(y) - 2
    error = float(np.sqrt(residuals @ residuals / freedom / (x @ x)))
    half = float(stats.t.ppf(0.975, freedom)) * error
    span = len(known) - 1
    return Interval(value=slope * span, low=(slope - half) * span, high=(slope + half) * span)


def last_third(values: Sequence[float]) -> Sequence[float]:
    """The last third of the epochs, at least LEAST_EPOCHS of them."""
    return values[-max(LEAST_EPOCHS, -(-len(values) // 3)) :]


def step_losses(losses: Sequence[float]) -> StepLosses | None:
    """What the losses of the single steps tell; None of fewer than LEAST_STEPS. Those that are not finite are left out.

    Smoothed over a fiftieth of the steps, at least SMOOTHED of them, because single batches differ by themselves. Gained is
    what the smoothed loss fell from where it began to its lowest so far; a rise that ends before half of that is lost again
    is no spike. With less than a tenth of the starting loss gained, nothing counts, nor does a rise within eight deviations of
    the smoothed loss's own noise, as far as the highest and the lowest of some hundred lie apart by chance. The shares are ours.
    """
    values = np.asarray(losses, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) < LEAST_STEPS:
        return None
    width = max(SMOOTHED, len(values) // 50)
    smooth = np.convolve(values, np.full(width, 1 / width), mode="valid")
    start = float(smooth[0])
    lowest = np.minimum.accumulate(smooth)
    gained = start - lowest
    noise = float(np.median(np.abs(np.diff(values)))) / np.sqrt(
        width
    )  # batches beside each other differ by their noise
    lost = smooth - lowest
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where((gained > 0.1 * abs(start)) & (lost > BEYOND_NOISE * noise), lost / gained, 0.0)
    above = share > SPIKE_SHARE
    starts = above & ~np.concatenate([[False], above[:-1]])
    return StepLosses(
        steps=len(values),
        start=start,
        end=float(values[-max(1, len(values) // 10) :].mean()),
        spikes=int(starts.sum()),
        largest=float(share.max()) if above.any() else 0.0,
    )
