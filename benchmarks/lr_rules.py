"""The rules by which other libraries suggest a learning rate from one sweep, for `lr_range.py` to measure.

Each takes the lrs of a sweep, ascending, and the loss of each step's batch before the step, nan after a divergence, as many as
the library takes steps by default (100); smooths, stops early and leaves out ends as the library does by default; and returns
the suggestion, or None where the library raises or returns none. Written from what the libraries document, and compared with
their own code on recorded sweeps (docs/log.md). In float32 where theirs is: the steepest of nearly equal slopes depends on it.

Lightning 2.6: `lr_find`, lightning.ai/docs/pytorch/stable/advanced/training_tricks.html#learning-rate-finder.
fastai 2.8: `Learner.lr_find` and its four rules, docs.fast.ai/callback.schedule.html#learner.lr_find.
torch-lr-finder 0.2: `LRFinder.range_test` and `plot`, github.com/davidtvs/pytorch-lr-finder.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Rule = Callable[[np.ndarray, np.ndarray], float | None]

LIGHTNING_BETA, LIGHTNING_STOP = 0.98, 4.0
LIGHTNING_SKIPPED = (10, 1)  # points at the begin and end
FASTAI_BETA, FASTAI_STOP = 0.98, 4.0
FASTAI_SKIPPED = (0.1, 5)  # of the steps at the begin, points at the end
SLIDE_WIDTH, SLIDE_THRESHOLD = 15, 0.005
LR_FINDER_SHARE, LR_FINDER_STOP = 0.05, 5.0  # of the newest loss in the smoothed one
LR_FINDER_SKIPPED = (10, 5)


def lightning(lrs_L: np.ndarray, losses_L: np.ndarray) -> float | None:
    """Where the smoothed loss has the steepest fall against lr itself, not its logarithm, non-finite losses left out.

    The average is divided by one factor too many (the step is counted before the division), so it starts at half the loss.
    """
    smooth_L = np.empty(len(losses_L))
    average, best, taken = 0.0, 0.0, 0
    for loss in losses_L:
        average = LIGHTNING_BETA * average + (1 - LIGHTNING_BETA) * float(loss)
        smooth_L[taken] = smooth = average / (1 - LIGHTNING_BETA ** (taken + 2))
        taken += 1
        if taken > 1 and smooth > LIGHTNING_STOP * best:
            break
        if smooth < best or taken == 1:
            best = smooth
    begin, end = LIGHTNING_SKIPPED
    kept_K = np.arange(taken)[begin:-end]
    kept_K = kept_K[np.isfinite(smooth_L[kept_K])]
    if len(kept_K) < 2:
        return None
    slopes_K = np.gradient(smooth_L[kept_K].astype(np.float32), lrs_L[kept_K].astype(np.float32))
    return float(lrs_L[kept_K[int(np.argmin(slopes_K))]])


def valley(lrs_L: np.ndarray, losses_L: np.ndarray) -> float | None:
    """Half-way through the middle third of the longest falling subsequence of the smoothed loss, ended at its end.

    It is counted as if its members were neighbours, which they need not be.
    """
    lrs_K, smooth_K = _fastai(lrs_L, losses_L)
    if not len(smooth_K):
        return None
    lengths_K = np.ones(len(smooth_K), dtype=int)  # of the longest falling subsequence that ends there
    for index, loss in enumerate(smooth_K):
        lengths_K[index] += lengths_K[:index][smooth_K[:index] > loss].max(initial=0)
    end = int(np.argmax(lengths_K))
    length = int(lengths_K[end]) if lengths_K[end] > 1 else 0
    third = length / 3
    return float(lrs_K[end - length + int(third) + int(third / 2)])


def slide(lrs_L: np.ndarray, losses_L: np.ndarray) -> float | None:
    """The left edge of a window that slides down from the end until the slopes at its two edges are nearly equal."""
    lrs_K, smooth_K = _fastai(lrs_L, losses_L)
    if len(smooth_K) <= SLIDE_WIDTH:
        return None
    slopes_K = np.gradient(smooth_K)
    differ_W = np.abs(slopes_K[SLIDE_WIDTH:] - slopes_K[:-SLIDE_WIDTH]) > SLIDE_THRESHOLD  # by the left edge, ascending
    same = np.flatnonzero(~differ_W)
    left = int(same[-1]) + 1 if len(same) else 0  # the last left edge of those that differ, if any does
    return float(lrs_K[min(left, len(differ_W) - 1)])


def minimum(lrs_L: np.ndarray, losses_L: np.ndarray) -> float | None:
    """A tenth of where the smoothed loss is lowest."""
    lrs_K, smooth_K = _fastai(lrs_L, losses_L)
    return float(lrs_K[int(np.argmin(smooth_K))]) / 10 if len(smooth_K) else None


def steep(lrs_L: np.ndarray, losses_L: np.ndarray) -> float | None:
    """Where the smoothed loss falls most from one step to the next, against the logarithm of lr."""
    lrs_K, smooth_K = _fastai(lrs_L, losses_L)
    if len(smooth_K) < 2:
        return None
    return float(lrs_K[int(np.argmin(np.diff(smooth_K) / np.diff(np.log(lrs_K))))])


def lr_finder_steepest(lrs_L: np.ndarray, losses_L: np.ndarray) -> float | None:
    """Where the smoothed loss falls most from step to step; the first that is not a number where there is one."""
    smooth: list[float] = []
    best = float("inf")
    for loss in losses_L:
        smooth.append(LR_FINDER_SHARE * loss + (1 - LR_FINDER_SHARE) * smooth[-1] if smooth else float(loss))
        best = smooth[-1] if len(smooth) == 1 or smooth[-1] < best else best
        if smooth[-1] > LR_FINDER_STOP * best:
            break
    begin, end = LR_FINDER_SKIPPED
    if len(smooth) < begin + end + 2:
        return None
    slopes_K = np.gradient(np.array(smooth[begin:-end]))
    return float(lrs_L[begin + int(np.argmin(slopes_K))])


RULES: dict[str, Rule] = {
    "lightning": lightning,
    "fastai valley": valley,
    "fastai slide": slide,
    "fastai steep": steep,
    "fastai minimum": minimum,
    "torch-lr-finder": lr_finder_steepest,
}


def _fastai(lrs_L: np.ndarray, losses_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lrs, smoothed losses) [K] that its rules get, both float32: until early stop, without ends, up to the first nan."""
    smooth = np.empty(len(losses_L), dtype=np.float32)
    average, best, taken = np.float32(0), np.inf, 0
    for loss in losses_L.astype(np.float32):
        average = average - (average - loss) * (1 - np.float32(FASTAI_BETA))  # rounds as torch.lerp does
        smooth[taken] = average / np.float32(1 - FASTAI_BETA ** (taken + 1))
        taken += 1
        newest = float(smooth[taken - 1])
        best = newest if newest < best else best
        if newest > FASTAI_STOP * best:
            break
    share, end = FASTAI_SKIPPED
    begin = int(share * len(losses_L))
    kept, lost = smooth[:taken][begin:-end], np.flatnonzero(np.isnan(smooth[:taken][begin:-end]))
    count = int(lost[0]) if len(lost) else len(kept)
    return lrs_L[begin : begin + count].astype(np.float32), kept[:count]
