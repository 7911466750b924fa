"""The gap between unseen and train error at one checkpoint, with its doubt and a three-way answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trainwright.diagnosis.stats import (
    Z_95,
    Score,
    bootstrap_mean,
    bootstrap_measures,
    difference,
    effective_count,
    wilson,
)
from trainwright.records import Answer, Interval
from trainwright.seeding import stream

LEAST_MARGIN = 0.02  # gaps below two points are not worth acting on
RELATIVE_MARGIN = 0.2  # nor those below a fifth of the unseen error
SPLITS = 40  # random halvings: with other ones the gap moves by 4 % of its half-width (10: 8 %, 80: 3 %)
FOLDS = 10  # of answers without the choice of an epoch
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
    train: np.ndarray,
    val: np.ndarray,
    *,
    score: Score | None = None,
    groups_val: np.ndarray | None = None,
    train_total: int | None = None,
) -> Gap:
    """The gap at a checkpoint that was not chosen on these validation images.

    train, val: without `score` per-image scores [N], 1 for right and 0 for wrong, or any 0–1 score whose mean counts. With it
    tallies [N, Q], and `score` gives the score [B] of summed tallies [B, Q]: error is 1 − score, never below 0, above 1 for a
    score below 0 (R²: the share of the variance left unexplained). groups_val: [N], images that are not independent of each
    other share a value. train_total: how many train images there are, where only a sample of them was scored; without it
    they count as a sample of endlessly many, which is on the safe side.
    Right-or-wrong scores take score intervals (Newcombe's method 10), others the bootstrap.
    Raises ValueError on scores that are missing or outside 0–1, and on tallies that are not finite.
    """
    if score is not None:
        train_NQ, val_NQ = _tallies(train, "train"), _tallies(val, "val")
        train_error = _of_all(_tally_error(train_NQ, score), len(train_NQ), train_total)
        return _judge(train_error, _tally_error(val_NQ, score, groups_val), (len(train_NQ), len(val_NQ)), shares=False)
    train_N, val_N = _scores(train, "train_per_image"), _scores(val, "val_per_image")
    train_error = _of_all(_error(train_N), len(train_N), train_total)
    return _judge(train_error, _error(val_N, groups_val), (len(train_N), len(val_N)))


def cross_fitted_gap(
    train_E: np.ndarray | Sequence[np.ndarray],
    val_E: np.ndarray | Sequence[np.ndarray],
    *,
    score: Score | None = None,
    strata_N: np.ndarray | None = None,
    groups_N: np.ndarray | None = None,
    train_total: int | None = None,
    kept: int | None = None,
) -> Gap:
    """The gap at the checkpoint that was kept for its val score, out of E epochs, on these very validation images.

    train_E, val_E: of every epoch what `gap` takes of one: scores [E, N], or with `score` tallies [E, N, Q]. strata_N,
    groups_N: of the validation images: halves get equal shares of each stratum, and a group is never divided. kept: the epoch
    that was kept, where tallies give the score only nearly; None: the first of the best score.

    Choose the epoch on half A, measure it on half B, swap, average (statistics.md, "The gap"); repeated over random halvings.
    Why repeated: with one halving each image is measured once, but the two halves are not independent, because each
    also chose the other's epoch; that adds up to m²/(E−1) of the variance (m: expected maximum of E normals), and the
    epochs that half the images choose are not the kept one. On simulated runs one halving covered the kept checkpoint's
    gap in 88–93 % of cases instead of 95 %. The mean over halvings removes the noise of the halves; the width is that of
    one epoch measured on all images, with the spread of the chosen epochs added in squares. The train side is the kept
    epoch's, which train images had no part in choosing. Coverage: tests/diagnosis/test_gap_coverage.py.
    """
    if len(val_E) != len(train_E):
        raise ValueError(
            f"cross_fitted_gap: expected the same epochs on both sides, got {len(train_E)} and {len(val_E)}"
        )
    if score is not None:
        halves_SN = _all_halves(len(val_E[0]), strata_N, groups_N)
        kept, unseen, spread = _cross_fitted_tallies(val_E, score, halves_SN, kept)
        own = _tally_error(_tallies(val_E[kept], "val"), score, groups_N)
        val_error = _widened(_moved(own, 1 - unseen), Z_95 * spread, most=math.inf)
        train_error = _tally_error(_tallies(train_E[kept], "train"), score)
    else:
        val, train = _scores(val_E, "val_EN", axes=2), _scores(train_E, "train_EN", axes=2)
        kept, unseen, spread = _cross_fitted_scores(val, _all_halves(val.shape[1], strata_N, groups_N))
        val_error = _widened(_recentred(val[kept], 1 - unseen, groups_N), Z_95 * spread, most=1.0)
        train_error = _error(train[kept])
    counts = len(train_E[kept]), len(val_E[kept])
    train_error = _of_all(train_error, counts[0], train_total)
    return _judge(train_error, val_error, counts, cross_fitted=True, shares=score is None)


def cross_fitted_answers(
    val_E: Sequence[np.ndarray],
    *,
    score: Score | None = None,
    strata_N: np.ndarray | None = None,
    groups_N: np.ndarray | None = None,
) -> np.ndarray:
    """[N, Q]: each validation image's tally at the epoch that nine tenths of the images chose, it not among them, of E epochs.

    For comparisons with trainings whose epoch was chosen in another way, or not at all: those of the kept epoch are the best of E
    on these very images, and would make up a gain out of nothing. Tenths and not halves, since half of the images choose worse
    epochs than all do. val_E: of every epoch tallies [N, Q]. score: of summed tallies [B, Q]; without it the mean of their first
    figure. strata_N, groups_N: of the images: folds get equal shares of each stratum, and a group is never divided.
    """
    fold_N = _folds(len(val_E[0]), FOLDS, stream(0, "cross-fit folds"), strata_N, groups_N)
    folds = np.unique(fold_N)
    others_KN = (fold_N != folds[:, None]).astype(np.float64)
    answers_NQ, best_K = np.array(val_E[0], dtype=np.float64), np.full(len(folds), -np.inf)
    for recorded in val_E:
        tally_NQ = _tallies(recorded, "val")
        with np.errstate(divide="ignore", invalid="ignore"):
            sums_KQ = others_KN @ tally_NQ
            reached_K = np.round(sums_KQ[:, 0] / others_KN.sum(axis=1) if score is None else score(sums_KQ), 9)
        better_K = reached_K > best_K  # not where it is not defined
        best_K[better_K] = reached_K[better_K]
        taken_N = np.isin(fold_N, folds[better_K])
        answers_NQ[taken_N] = tally_NQ[taken_N]
    return answers_NQ


def margin_of(val_error: float) -> float:
    """The largest gap that is let pass: two points, or a fifth of the unseen error where that is more."""
    return max(LEAST_MARGIN, RELATIVE_MARGIN * val_error)


def _judge(
    train_error: Interval,
    val_error: Interval,
    counts: tuple[int, int],
    *,
    cross_fitted: bool = False,
    shares: bool = True,
) -> Gap:
    """counts: images scored on the train and on the validation side. shares: errors are means over images, 0–1."""
    interval, margin = difference(val_error, train_error), margin_of(val_error.value)
    overfits = _answer(interval, margin)
    would_tell = None
    if overfits == "cannot-tell":
        would_tell = _images_that_would_tell(train_error, val_error, counts, _with_more if shares else _narrowed)
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


def _images_that_would_tell(
    train_error: Interval,
    val_error: Interval,
    counts: tuple[int, int],
    with_more: Callable[[Interval, int, float], Interval],
) -> int | None:
    """The least number of validation images with which the same rates would settle it, by bisection."""
    margin = margin_of(val_error.value)

    def settles(images: int) -> bool:
        times = images / counts[1]
        sides = with_more(val_error, counts[1], times), with_more(train_error, counts[0], times)
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


def _narrowed(error: Interval, count: int, times: float) -> Interval:
    """The interval of any other score with `times` as many images: its arms shrink with the root of their number."""
    return _scaled(error, 1 / math.sqrt(times))


def _scaled(error: Interval, factor: float) -> Interval:
    return Interval(
        value=error.value,
        low=error.value - factor * (error.value - error.low),
        high=error.value + factor * (error.high - error.value),
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


def _tally_error(tally_NQ: np.ndarray, score: Score, groups: np.ndarray | None = None) -> Interval:
    """1 − score with its bootstrap interval, not below 0; nan from 0 to 1 where the score is undefined.

    Where resampling knows no doubt (nothing varies, or all hangs on one image) it is that of as many right-or-wrong answers.
    """
    found = bootstrap_measures(tally_NQ, lambda tally_BQ: {"score": score(tally_BQ)}, groups=groups).get("score")
    if found is not None and math.isfinite(found.low) and math.isfinite(found.high):
        error = 1 - found.value
        return Interval(value=error, low=min(error, max(0.0, 1 - found.high)), high=max(error, 1 - found.low))
    units = len(tally_NQ) if groups is None else len(np.unique(groups))
    error = 1 - _score_of(tally_NQ, score)
    if not math.isfinite(error):
        return Interval(value=math.nan, low=0.0, high=1.0)
    rough = wilson(min(1.0, max(0.0, error)) * units, units)
    return Interval(value=error, low=min(error, rough.low), high=max(error, rough.high))


def _of_all(error: Interval, scored: int, total: int | None) -> Interval:
    """The error on all train images from that on those that were scored: without doubt where all were.

    Source of the finite-population factor: Cochran 1977, "Sampling Techniques", §2.6.
    """
    return error if total is None else _scaled(error, math.sqrt(max(0.0, 1 - scored / max(total, 1))))


def _moved(error: Interval, value: float) -> Interval:
    """The same arms around another value, which is not below 0; as it was where that value is not known."""
    if not (math.isfinite(value) and math.isfinite(error.value)):
        return error
    centre = max(0.0, value)
    low, high = centre - (error.value - error.low), centre + (error.high - error.value)
    return Interval(value=centre, low=max(0.0, low), high=high)


def _widened(error: Interval, by: float, *, most: float) -> Interval:
    """Both arms lengthened by an independent doubt, in squares; from 0 to `most`."""
    low = error.value - math.hypot(error.value - error.low, by)
    high = error.value + math.hypot(error.high - error.value, by)
    return Interval(value=error.value, low=min(error.value, max(0.0, low)), high=max(error.value, min(most, high)))


def _cross_fitted_scores(val_EN: np.ndarray, halves_SN: np.ndarray) -> tuple[int, float, float]:
    """(kept epoch, its cross-fitted score, spread of the scores of the chosen epochs) where the score is a mean."""
    chosen_first, chosen_second = _best_epochs(val_EN, halves_SN), _best_epochs(val_EN, ~halves_SN)
    unseen_N = np.where(halves_SN, val_EN[chosen_second], val_EN[chosen_first]).mean(axis=0)
    kept = int(val_EN.mean(axis=1).argmax())
    spread = float(val_EN.mean(axis=1)[np.concatenate([chosen_first, chosen_second])].std())
    return kept, float(unseen_N.mean()), spread


def _cross_fitted_tallies(
    val_E: np.ndarray | Sequence[np.ndarray], score: Score, halves_SN: np.ndarray, kept: int | None
) -> tuple[int, float, float]:
    """The same for any score of summed tallies.

    Mean IoU, mAP and R² of half of the images are not on average that of all images, because they are no means. The kept
    epoch's own difference between all images and its halves is added; for a mean it is zero.
    """
    splits, weights_S2 = (
        np.arange(len(halves_SN)),
        np.stack([halves_SN.mean(axis=1), 1 - halves_SN.mean(axis=1)], axis=1),
    )
    parts = np.concatenate([halves_SN, ~halves_SN]).astype(np.float64)
    scores_E, scores_ES2 = [], []
    for epoch in range(len(val_E)):
        tally_NQ = _tallies(val_E[epoch], "val")
        scores_E.append(_score_of(tally_NQ, score))
        with np.errstate(divide="ignore", invalid="ignore"):
            scores_ES2.append(score(parts @ tally_NQ).reshape(2, -1).T)
    all_E, half_ES2 = np.array(scores_E), np.stack(scores_ES2)
    ranked_ES2 = np.round(np.where(np.isnan(half_ES2), -np.inf, half_ES2), 9)
    chosen_S2 = ranked_ES2.argmax(axis=0)
    kept = int(np.where(np.isnan(all_E), -np.inf, all_E).argmax()) if kept is None else kept
    measured_S2 = np.stack([half_ES2[chosen_S2[:, 1], splits, 0], half_ES2[chosen_S2[:, 0], splits, 1]], axis=1)
    unseen = _mean_of_known(measured_S2, weights_S2)
    correction = all_E[kept] - _mean_of_known(half_ES2[kept], weights_S2)
    of_chosen = all_E[chosen_S2.ravel()]
    known = of_chosen[np.isfinite(of_chosen)]
    return kept, float(unseen + correction), float(known.std()) if len(known) else 0.0


def _mean_of_known(values_S2: np.ndarray, weights_S2: np.ndarray) -> float:
    """The mean over halvings, each half weighted by its share of the images; nan where no half has a score."""
    known = np.isfinite(values_S2) & (weights_S2 > 0)
    return float((values_S2[known] * weights_S2[known]).sum() / weights_S2[known].sum()) if known.any() else math.nan


def _score_of(tally_NQ: np.ndarray, score: Score) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(score(tally_NQ.sum(axis=0)[None])[0])


def _best_epochs(val_EN: np.ndarray, halves_SN: np.ndarray) -> np.ndarray:
    """[S]: the first epoch with the best score on the images that are true in each halving."""
    best: np.ndarray = np.round(halves_SN.astype(np.float64) @ val_EN.T, 9).argmax(axis=1)
    return best


def _all_halves(count: int, strata: np.ndarray | None, groups: np.ndarray | None) -> np.ndarray:
    """[SPLITS, count] booleans: which images are the first half of each halving."""
    return np.stack([_halves(count, split, strata, groups) for split in range(SPLITS)])


def _halves(count: int, split: int, strata: np.ndarray | None, groups: np.ndarray | None) -> np.ndarray:
    """[count] booleans, half of them true."""
    rng = stream(0, "cross-fit halves", split)
    half: np.ndarray = _folds(count, 2, rng, strata, groups) == 0
    return half


def _folds(
    count: int, folds: int, rng: np.random.Generator, strata: np.ndarray | None, groups: np.ndarray | None
) -> np.ndarray:
    """[count]: the fold of each image: groups in random order within their stratum take turns."""
    group_of_image = np.arange(count) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    units, first_image = np.unique(group_of_image, return_index=True)
    labels = np.zeros(count) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    order = np.lexsort((rng.random(len(units)), labels[first_image]))
    fold = np.empty(len(units), dtype=np.int64)
    fold[order] = (np.arange(len(units)) + int(rng.integers(folds))) % folds
    picked: np.ndarray = fold[group_of_image]
    return picked


def _tallies(values: np.ndarray, name: str) -> np.ndarray:
    tally = np.asarray(values, dtype=np.float64)
    if tally.ndim != 2 or not tally.size or not np.isfinite(tally).all():
        raise ValueError(
            f"{name}: expected finite tallies, [images, figures], of at least one image, got shape {tally.shape}"
        )
    return tally


def _scores(values: np.ndarray | Sequence[np.ndarray], name: str, axes: int = 1) -> np.ndarray:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != axes or not scores.size or not np.all((scores >= 0) & (scores <= 1)):
        raise ValueError(
            f"{name}: expected {axes} axes of scores from 0 to 1 and at least one image, got shape {scores.shape}"
        )
    return scores
