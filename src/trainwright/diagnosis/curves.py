"""Curves over epochs as numbers: how much a curve changed over a window, with its doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from trainwright.records import Interval

LEAST_EPOCHS = 4  # a line through fewer points has no usable doubt: t is 12.7 with one degree of freedom, 4.3 with two
LEAST_GAIN = 0.005  # half a point: a smaller change of the score over a stretch of epochs counts as none


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
