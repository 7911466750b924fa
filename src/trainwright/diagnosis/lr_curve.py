"""What the sweeps of a learning-rate range test draw: one curve of loss against lr, with its band.

Everything is done on the logarithm of lr: smoothing with a two-sided kernel, slopes, distances. One-sided smoothing, as of an
exponential average along the sweep, moves the answer about fourfold, and slopes against lr itself are steepest where lr is
smallest, under the slightest noise (statistics.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

BANDWIDTH = 0.2  # decades: standard deviation of the smoothing kernel
Z = 1.96  # of a 95 % band
REAL = 0.05  # of the deepest fall: less is not where the loss falls, however surely
NEARLY = 0.9  # of the deepest fall
UNMOVED = 1e-6  # of the start's loss: what rounding can do
SHOT_PAST = 0.05  # of the start's loss, or as much as it had fallen: above the start by more, a sweep ends


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A sweep's loss against lr: mean over seeds, smoothed on log lr, with its 95 % band; ends where every seed diverged.

    lowest: lr where it is lowest; where it does not rise half of the way back, the first one with nearly all of the fall: a
    sweep that has learned everything stays down at any rate. edge: lr at which a sweep shoots above its start, geometric mean
    over seeds; None where one does not. interval: from the first lr with a loss that has really fallen up
    to where it is lowest; None where it never really falls. fall_in_errors: the deepest fall in its standard errors. moves:
    whether it changes at all.
    """

    lrs_L: np.ndarray
    smooth_L: np.ndarray
    low_L: np.ndarray
    high_L: np.ndarray
    start: float
    lowest: float
    interval: tuple[float, float] | None
    fall_in_errors: float
    moves: bool
    edge: float | None


def curve_of(lrs_L: np.ndarray, losses_SL: np.ndarray, errors_SL: np.ndarray, start: float) -> Curve:
    """losses_SL: of each seed's images after the step at each lr, shifted to the common `start`; nan where not measured.

    errors_SL: standard errors of their differences from the start. Losses above twice the start's height over the lowest count
    as that: a diverged loss must not drown its neighbours.
    """
    known_SL = np.isfinite(losses_SL)
    lowest_seen = min(start, float(np.nanmin(losses_SL))) if known_SL.any() else start
    cap = start + max(2 * (start - lowest_seen), 1e-9)
    capped_SL = np.where(known_SL, np.minimum(np.nan_to_num(losses_SL, nan=cap), cap), np.nan)
    capped_SL = _bridged(np.log10(lrs_L), capped_SL, cap)
    x_L = np.log10(lrs_L)
    weights_LL = np.exp(-0.5 * ((x_L[:, None] - x_L[None]) / BANDWIDTH) ** 2)
    weights_LL /= weights_LL.sum(axis=1, keepdims=True)
    smooth_L = weights_LL @ capped_SL.mean(axis=0)
    seeds = len(losses_SL)
    between_L = capped_SL.std(axis=0, ddof=1) if seeds > 1 else np.zeros(len(lrs_L))
    within_L = np.sqrt(_bridged(x_L, errors_SL**2, 0.0).mean(axis=0))
    error_L = weights_LL @ np.maximum(between_L, within_L) / math.sqrt(seeds)
    at = int(np.argmin(smooth_L))
    rises = smooth_L[at:].max() > (smooth_L[at] + start) / 2
    high_L, low_L = smooth_L + Z * error_L, smooth_L - Z * error_L
    fallen_L = high_L < start - REAL * (start - smooth_L[at])
    interval = None
    if fallen_L[at]:
        first = at
        while first > 0 and fallen_L[first - 1]:
            first -= 1
        interval = (float(lrs_L[first]), float(lrs_L[at]))
    return Curve(
        lrs_L=lrs_L,
        smooth_L=smooth_L,
        low_L=low_L,
        high_L=high_L,
        start=start,
        lowest=_between(x_L, smooth_L, at) if rises else _nearly(lrs_L, smooth_L, start),
        interval=interval,
        fall_in_errors=float((start - smooth_L[at]) / max(error_L[at], 1e-12)),
        edge=_edge(lrs_L, losses_SL, start),
        moves=bool((np.abs(losses_SL[known_SL] - start) > UNMOVED * abs(start)).any()),
    )


def _edge(lrs_L: np.ndarray, losses_SL: np.ndarray, start: float) -> float | None:
    """The first lr of each seed whose loss is above its start by SHOT_PAST or lost; a sweep ends there."""
    edges = []
    for losses_L in losses_SL:
        last = int(np.flatnonzero(np.isfinite(losses_L))[-1]) if np.isfinite(losses_L).any() else 0
        at = last if losses_L[last] - start > SHOT_PAST * abs(start) else last + 1
        if at >= len(lrs_L):
            return None
        edges.append(math.log10(lrs_L[at]))
    return float(10 ** np.mean(edges))


def _bridged(x_L: np.ndarray, values_SL: np.ndarray, cap: float) -> np.ndarray:
    """Gaps between measured points filled along straight lines; after a seed's last one: `cap`."""
    out_SL = np.empty_like(values_SL)
    for values_L, out_L in zip(values_SL, out_SL, strict=True):
        known_L = np.isfinite(values_L)
        if not known_L.any():
            out_L[:] = cap
            continue
        out_L[:] = np.interp(x_L, x_L[known_L], values_L[known_L])
        out_L[x_L > x_L[known_L][-1]] = cap
    return out_SL


def _between(x_L: np.ndarray, values_L: np.ndarray, at: int) -> float:
    """lr at the lowest point of the parabola through the lowest value and its neighbours, on log lr."""
    if not 0 < at < len(values_L) - 1:
        return float(10 ** x_L[at])
    below, above = values_L[at - 1] - values_L[at], values_L[at + 1] - values_L[at]
    slope = max(below, values_L[max(0, at - 2)] - values_L[at - 1])
    above = min(above, 3 * slope) if slope > 0 else above  # a cliff of divergence must not push it down
    shift = 0.0 if below + above <= 0 else 0.5 * (below - above) / (below + above)
    return float(10 ** (x_L[at] + shift * (x_L[at + 1] - x_L[at])))


def _nearly(lrs_L: np.ndarray, smooth_L: np.ndarray, start: float) -> float:
    """The first lr with nearly all of the deepest fall."""
    return float(lrs_L[int(np.argmax(smooth_L <= start - NEARLY * (start - smooth_L.min())))])
