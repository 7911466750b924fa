"""The gap between unseen and train error at one checkpoint, with its doubt and a three-way answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainwright.diagnosis.stats import Z_95, bootstrap_mean, difference, effective_count, wilson
from trainwright.records import Answer, Interval
from trainwright.seeding import stream

LEAST_MARGIN = 0.02  # gaps below two points are not worth acting on
RELATIVE_MARGIN = 0.2  # nor those below a fifth of the unseen error
SPLITS = 40  # random halvings: with other ones the gap moves by 4 % of its half-width (10: 8 %, 80: 3 %)
MOST_TIMES_MORE = 100  # beyond this many times the images at hand, "more images" is no advice


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Unseen minus train error at one checkpoint, and whether it is too large.

    interval: error_val − error_train, both in eval mode on the clean transform. margin: the largest gap that is let pass.
    overfits: yes where the whole interval lies above the margin, no where it lies below, cannot-tell otherwise.
    images_that_would_tell: validation images that would settle it if the rates stay as they are, the train side scored on
    as many; None where it is settled, and where the gap sits so near the margin that no reasonable number would.
    cross_fitted: the checkpoint was chosen on the same validation images and that was allowed for.
    """

    interval: Interval
    margin: float
    overfits: Answer
    images_that_would_tell: int | None
    cross_fitted: bool
    val_error: Interval
    train_error: Interval
    val_count: int


def gap(
    train_per_image: np.ndarray,
    val_per_image: np.ndarray,
    *,
    groups_val: np.ndarray | None = None,
    train_total: int | None = None,
) -> Gap:
    """The gap at a checkpoint that was not chosen on these validation images.

    train_per_image, val_per_image: [N], 1 for right and 0 for wrong, or any 0–1 score. groups_val: [N], images that are
    not independent of each other share a value. train_total: how many train images there are, where only a sample of
    them was scored; without it they count as a sample of endlessly many, which is on the safe side.
    Right-or-wrong scores take score intervals (Newcombe's method 10), others the bootstrap.
    Raises ValueError on scores that are missing or outside 0–1.
    """
    train, val = _scores(train_per_image, "train_per_image"), _scores(val_per_image, "val_per_image")
    return _judge(_train_error(train, train_total), _error(val, groups_val), (len(train), len(val)), cross_fitted=False)


def cross_fitted_gap(
    train_EN: np.ndarray,
    val_EN: np.ndarray,
    *,
    strata_N: np.ndarray | None = None,
    groups_N: np.ndarray | None = None,
    train_total: int | None = None,
) -> Gap:
    """The gap at the checkpoint that was kept for its val score, out of E epochs, on these very validation images.

    train_EN, val_EN: per-image 0–1 scores of every epoch; the kept epoch is the first of the best mean. strata_N, groups_N:
    of the validation images: halves get equal shares of each stratum, and a group is never divided.

    Choose the epoch on half A, measure it on half B, swap, average (statistics.md, "The gap"); repeated over random halvings.
    Why repeated: with one halving each image is measured once, but the two halves are not independent, because each
    also chose the other's epoch; that adds up to m²/(E−1) of the variance (m: expected maximum of E normals), and the
    epochs that half the images choose are not the kept one. On simulated runs one halving covered the kept checkpoint's
    gap in 88–93 % of cases instead of 95 %. The mean over halvings removes the noise of the halves; the width is that of
    one epoch measured on all images, with the spread of the chosen epochs added in squares. The train side is the kept
    epoch's, which train images had no part in choosing. Coverage: tests/diagnosis/test_gap_coverage.py.
    """
    val, train = _scores(val_EN, "val_EN", axes=2), _scores(train_EN, "train_EN", axes=2)
    if len(val) != len(train):
        raise ValueError(f"cross_fitted_gap: expected the same epochs on both sides, got {len(train)} and {len(val)}")
    halves_SN = np.stack([_halves(val.shape[1], split, strata_N, groups_N) for split in range(SPLITS)])
    chosen_first, chosen_second = _best_epochs(val, halves_SN), _best_epochs(val, ~halves_SN)
    unseen_N = np.where(halves_SN, val[chosen_second], val[chosen_first]).mean(axis=0)
    kept = int(val.mean(axis=1).argmax())
    spread = float(val.mean(axis=1)[np.concatenate([chosen_first, chosen_second])].std())
    val_error = _widened(_recentred(val[kept], 1 - float(unseen_N.mean()), groups_N), Z_95 * spread)
    counts = train.shape[1], val.shape[1]
    return _judge(_train_error(train[kept], train_total), val_error, counts, cross_fitted=True)


def margin_of(val_error: float) -> float:
    """The largest gap that is let pass: two points, or a fifth of the unseen error where that is more."""
    return max(LEAST_MARGIN, RELATIVE_MARGIN * val_error)


def _judge(train_error: Interval, val_error: Interval, counts: tuple[int, int], *, cross_fitted: bool) -> Gap:
    """counts: images scored on the train and on the validation side."""
    interval, margin = difference(val_error, train_error), margin_of(val_error.value)
    overfits = _answer(interval, margin)
    would_tell = _images_that_would_tell(train_error, val_error, counts) if overfits == "cannot-tell" else None
    return Gap(
        interval=interval,
        margin=margin,
        overfits=overfits,
        images_that_would_tell=would_tell,
        cross_fitted=cross_fitted,
        val_error=val_error,
        train_error=train_error,
        val_count=counts[1],
    )


def _answer(interval: Interval, margin: float) -> Answer:
    return "yes" if interval.low > margin else "no" if interval.high < margin else "cannot-tell"


def _images_that_would_tell(train_error: Interval, val_error: Interval, counts: tuple[int, int]) -> int | None:
    """The least number of validation images with which the same rates would settle it, by bisection."""
    margin = margin_of(val_error.value)

    def settles(images: int) -> bool:
        times = images / counts[1]
        sides = _with_more(val_error, counts[1], times), _with_more(train_error, counts[0], times)
        return _answer(difference(*sides), margin) != "cannot-tell"

    too_few, enough = counts[1], MOST_TIMES_MORE * counts[1]
    if not settles(enough):
        return None
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if settles(middle) else (middle, enough)
    return enough


def _with_more(error: Interval, count: int, times: float) -> Interval:
    """The interval with `times` as many images: its arms shrink as those of the score interval do."""
    rate = min(1.0, max(0.0, error.value))
    now, then = wilson(rate * count, count), wilson(rate * count * times, count * times)
    down = (then.value - then.low) / (now.value - now.low) if now.value > now.low else 0.0
    up = (then.high - then.value) / (now.high - now.value) if now.high > now.value else 0.0
    return Interval(
        value=error.value,
        low=error.value - down * (error.value - error.low),
        high=error.value + up * (error.high - error.value),
    )


def _error(scores: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    return _recentred(scores, 1 - float(scores.mean()), groups)


def _recentred(scores: np.ndarray, error: float, groups: np.ndarray | None) -> Interval:
    """The interval around `error` as wide as these scores make it; 0–1."""
    units = len(scores) if groups is None else len(np.unique(groups))
    if units < 2 or scores.min() == scores.max() or not np.any((scores > 0) & (scores < 1)):
        count = float(len(scores)) if groups is None else effective_count(scores, groups)
        return wilson(min(1.0, max(0.0, error)) * count, count)
    own = bootstrap_mean(1 - scores, groups)
    low, high = error - (own.value - own.low), error + (own.high - own.value)
    return Interval(value=error, low=min(error, max(0.0, low)), high=max(error, min(1.0, high)))


def _train_error(scores: np.ndarray, total: int | None) -> Interval:
    """The error on all train images from those that were scored: without doubt where all were.

    Source of the finite-population factor: Cochran 1977, "Sampling Techniques", §2.6.
    """
    error = _error(scores)
    if total is None:
        return error
    factor = math.sqrt(max(0.0, 1 - len(scores) / max(total, 1)))
    return Interval(
        value=error.value,
        low=error.value - factor * (error.value - error.low),
        high=error.value + factor * (error.high - error.value),
    )


def _widened(error: Interval, by: float) -> Interval:
    """Both arms lengthened by an independent doubt, in squares; 0–1."""
    low = error.value - math.hypot(error.value - error.low, by)
    high = error.value + math.hypot(error.high - error.value, by)
    return Interval(value=error.value, low=min(error.value, max(0.0, low)), high=max(error.value, min(1.0, high)))


def _best_epochs(val_EN: np.ndarray, halves_SN: np.ndarray) -> np.ndarray:
    """[S]: the first epoch with the best score on the images that are true in each halving."""
    best: np.ndarray = np.round(halves_SN.astype(np.float64) @ val_EN.T, 9).argmax(axis=1)
    return best


def _halves(count: int, split: int, strata: np.ndarray | None, groups: np.ndarray | None) -> np.ndarray:
    """[count] booleans, half of them true: groups in random order within their stratum take turns."""
    group_of_image = np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units, first_image = np.unique(group_of_image, return_index=True)
    labels = np.zeros(count) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    rng = stream(0, "cross-fit halves", split)
    order = np.lexsort((rng.random(len(units)), labels[first_image]))
    half = np.empty(len(units), dtype=bool)
    half[order] = (np.arange(len(units)) + int(rng.integers(2))) % 2 == 0
    picked: np.ndarray = half[group_of_image]
    return picked


def _scores(values: np.ndarray, name: str, axes: int = 1) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != axes or not scores.size or not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError(
            f"{name}: expected {axes} axes of scores from 0 to 1 and at least one image, got shape {scores.shape}"
        )
    return scores
