"""Numbers with their doubt: intervals for proportions, means, other scores and differences, and the exact test of two
classifiers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from scipy import special, stats

from trainwright.records import Interval
from trainwright.seeding import stream

Z_95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal
DRAWS = 2000  # bootstrap resamples: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", §14.3
ONE_SIDED = 0.02  # share of resamples on the far side of the value below which BCa's limits are too near
CHUNK = 2_000_000  # resampled indices, or tallies, held at once: 16 MB

Score = Callable[[np.ndarray], np.ndarray]  # tallies [B, Q] of B sets of images to the score of each, [B]
Measures = Callable[[np.ndarray], Mapping[str, np.ndarray]]  # the same for several figures by name: `Task.measures`


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion; it stays inside 0–1 and has a width at 0 % and 100 % too.

    successes: 0 to n; a fraction is allowed, since a 0–1 score varies at most as much as right and wrong of the same mean.
    n: independent images, or the effective number of them. Without any the value is nan and the interval 0–1.
    Source: Wilson 1927, JASA 22:209; recommended by Brown, Cai and DasGupta 2001, Statistical Science 16:101, §4.
    """
    if n < 0 or not (0 <= successes <= n):
        raise ValueError(f"wilson: expected 0 <= successes <= n, got {successes} of {n}")
    if n == 0:
        return Interval(value=math.nan, low=0.0, high=1.0)
    z = _z(confidence)
    p = successes / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return Interval(value=p, low=min(p, max(0.0, middle - half)), high=max(p, min(1.0, middle + half)))


def difference(a: Interval, b: Interval) -> Interval:
    """The interval of a − b for independent a and b, from the distances to their own limits.

    With score intervals this is Newcombe's method 10; for any others it is the square-and-add rule (MOVER) of
    Zou and Donner 2008, Statistics in Medicine 27:1693, §2.
    """
    value = a.value - b.value
    return Interval(
        value=value,
        low=value - math.hypot(a.value - a.low, b.high - b.value),
        high=value + math.hypot(a.high - a.value, b.value - b.low),
    )


def newcombe_difference(
    successes_a: float, n_a: float, successes_b: float, n_b: float, confidence: float = 0.95
) -> Interval:
    """The interval of the difference of two independent proportions, a − b.

    Source: Newcombe 1998, Statistics in Medicine 17:873, method 10 (hybrid score without continuity correction).
    """
    return difference(wilson(successes_a, n_a, confidence), wilson(successes_b, n_b, confidence))


def images_for_half_width(rate: float, half_width: float, confidence: float = 0.95) -> int:
    """How many images make the score interval of `rate` reach `half_width` to either side of its middle (0 < it < 0.5).

    Wilson's half-width solved for n: with u = z²/n, (h² − ¼)u² + (2h² − p(1−p))u + h² = 0 has one positive root.
    """
    if not (0 <= rate <= 1 and 0 < half_width < 0.5):
        raise ValueError(f"images_for_half_width: expected rate 0–1 and half_width 0–0.5, got {rate} and {half_width}")
    square = half_width**2
    a, b = 0.25 - square, rate * (1 - rate) - 2 * square
    u = (math.sqrt(b**2 + 4 * a * square) - b) / (2 * a)
    return math.ceil(_z(confidence) ** 2 / u - 1e-9)


def bootstrap_mean(
    values_N: np.ndarray, groups: np.ndarray | None = None, draws: int = DRAWS, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """The mean with its bias-corrected, accelerated bootstrap interval; whole groups are resampled where given.

    values_N: any numbers; paired differences for two models on the same images. groups: [N], images that are not
    independent of each other (twins, one patient) share a value. Raises ValueError below two groups or images.
    Source: Efron 1987, JASA 82:171, §2–4 (BCa); whole groups: Davison and Hinkley 1997, §3.8.
    """
    sums, counts = _group_sums(np.asarray(values_N, dtype=np.float64), groups)
    units = len(sums)
    if units < 2:
        raise ValueError(f"bootstrap_mean: expected at least 2 independent images or groups, got {units}")
    value = float(sums.sum() / counts.sum())
    means = _resampled_means(sums, counts, draws, seed)
    jackknife = (sums.sum() - sums) / (counts.sum() - counts)
    limits = np.quantile(means, _bca_levels(value, means, jackknife, confidence))
    return Interval(value=value, low=min(value, float(limits[0])), high=max(value, float(limits[1])))


def bootstrap_measures(
    tally_NQ: np.ndarray,
    measures: Measures,
    *,
    groups: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Every measure on all images, with its bias-corrected, accelerated bootstrap interval; whole groups are resampled.

    tally_NQ: what each image adds. measures: figures [B] by name of B sets of images from their summed tallies; nan where one
    is undefined, and draws in which it is are left out. groups: [N], images that are not independent share a value.
    Left out of the result are measures that are undefined, or hang on a single image or group: their doubt is unknown.
    One that stands at 0 or 1 whichever image is left out takes the score interval of as many right-or-wrong answers as
    there are images on which it is defined, because the bootstrap would claim to be certain.
    Source: Efron 1987, JASA 82:171, §2–4 (BCa, for any function of sums); whole groups: Davison and Hinkley 1997, §3.8.
    """
    tally_UQ = _group_tallies(tally_NQ, groups)
    if not len(tally_UQ):
        return {}
    total_Q, evaluate = tally_UQ.sum(axis=0), _quiet(measures)
    values = {name: float(value_B[0]) for name, value_B in evaluate(total_Q[None]).items()}
    resampled, left_out = _resampled_measures(tally_UQ, evaluate, draws, seed), _left_out(tally_UQ, total_Q, evaluate)
    found = {}
    for name, value in values.items():
        if not math.isfinite(value):
            continue
        moved = ~np.isclose(left_out[name], value, rtol=1e-9, atol=1e-12)  # nan is moved: without it there is no value
        if moved.sum() >= 2:
            found[name] = _bca_interval(value, resampled[name], left_out[name], confidence)
        elif not moved.any() and value in (0.0, 1.0):
            informative = int(np.isfinite(_by_parts(tally_UQ, evaluate)[name]).sum())
            found[name] = wilson(value * informative, informative, confidence)
    return found


def paired_bootstrap(
    tally_a_NQ: np.ndarray,
    tally_b_NQ: np.ndarray,
    score: Score,
    *,
    groups: np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """The 95 % interval of score a − b of two models on the same images, both resampled alike.

    tally_a_NQ, tally_b_NQ: what each image adds, in the same order. groups: [N], images that are not independent share a
    value. Without width where the two never differ; nan with endless limits where a score is undefined, with endless limits
    where the difference hangs on a single image or group. Raises ValueError on tallies of different images.
    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", §8.3 (pairs); BCa as in `bootstrap_measures`.
    """
    a, b = np.asarray(tally_a_NQ, dtype=np.float64), np.asarray(tally_b_NQ, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 2 or not len(a):
        raise ValueError(
            f"paired_bootstrap: expected tallies of two models on the same images, got shapes {a.shape} and {b.shape}"
        )
    width = a.shape[1]

    def difference_of(tally_BQ: np.ndarray) -> dict[str, np.ndarray]:
        return {"difference": score(tally_BQ[:, :width]) - score(tally_BQ[:, width:])}

    both = np.concatenate([a, b], axis=1)
    value = float(_quiet(difference_of)(both.sum(axis=0)[None])["difference"][0])
    if np.array_equal(a, b) and math.isfinite(value):
        return Interval(value=0.0, low=0.0, high=0.0)
    found = bootstrap_measures(both, difference_of, groups=groups, draws=draws, seed=seed)
    return found.get("difference", Interval(value=value, low=-math.inf, high=math.inf))


def paired_difference(a_right: np.ndarray, b_right: np.ndarray, confidence: float = 0.95) -> Interval:
    """The interval of accuracy a − b of two classifiers on the same images; booleans or 0/1, [N].

    Source: Bonett and Price 2012, J. Educational and Behavioral Statistics 37:479, adjusted Wald (one image is added to
    each of the two kinds of disagreement), which keeps a width where the two never disagree.
    """
    only_a, only_b, n = _disagreements(a_right, b_right)
    gained, lost = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = _z(confidence) * math.sqrt((gained + lost - (gained - lost) ** 2) / (n + 2))
    value = (only_a - only_b) / n
    low, high = max(-1.0, gained - lost - half), min(1.0, gained - lost + half)
    return Interval(value=value, low=min(value, low), high=max(value, high))


def mcnemar_exact(a_right: np.ndarray, b_right: np.ndarray) -> float:
    """The two-sided p-value that two classifiers are equally accurate, on the same images; booleans or 0/1, [N].

    Only images that one has right and the other wrong count; under equality each falls to either with chance one half.
    Source: McNemar 1947, Psychometrika 12:153; exact binomial form, Dietterich 1998, Neural Computation 10:1895, §3.1.
    """
    only_a, only_b, _ = _disagreements(a_right, b_right)
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue)


def contributions(tally_NQ: np.ndarray, score: Score, *, groups: np.ndarray | None = None) -> np.ndarray:
    """[units]: what each image, or group of them, adds to the score; their sum is nearly the score, of a mean exactly.

    Not finite where the score is undefined without one. Source: Tukey's pseudo-values over their number, Efron and Tibshirani
    1993, "An Introduction to the Bootstrap", ch. 11.
    """
    tally_UQ = _group_tallies(tally_NQ, groups)
    units, total_Q = len(tally_UQ), tally_UQ.sum(axis=0)
    evaluate = _quiet(lambda tally_BQ: {"score": score(tally_BQ)})
    whole, left_out_U = evaluate(total_Q[None])["score"][0], _left_out(tally_UQ, total_Q, evaluate)["score"]
    parts_U: np.ndarray = whole - left_out_U * (units - 1) / units
    return parts_U


def effective_count(values_N: np.ndarray, groups: np.ndarray | None = None) -> float:
    """How many independent right-or-wrong answers say as much about the mean as these 0–1 scores do.

    m(1 − m) over the estimated variance of the mean: below N where images of a group fall together (Kish 1965, "Survey
    Sampling", §8.2: the design effect), above N where scores vary less than right and wrong. Where nothing varies it
    cannot be estimated: then it is the number of independent images or groups.
    """
    values = np.asarray(values_N, dtype=np.float64)
    sums, counts = _group_sums(values, groups)
    units, n, mean = len(sums), len(values), float(values.mean())
    spread = float(((sums - mean * counts) ** 2).sum())
    if units < 2 or spread < 1e-12:
        return float(units)
    return mean * (1 - mean) * n**2 * (units - 1) / units / spread


def _z(confidence: float) -> float:
    return Z_95 if confidence == 0.95 else float(special.ndtri((1 + confidence) / 2))


def _group_sums(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each group; without groups every value is its own."""
    if groups is None:
        return values, np.ones(len(values))
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index).astype(np.float64)


def _group_tallies(tally_NQ: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """[units, Q]: the summed tallies of each group; without groups every image is its own."""
    tally = np.asarray(tally_NQ, dtype=np.float64)
    if groups is None:
        return tally
    units, index = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(units), tally.shape[1]))
    np.add.at(sums, index, tally)
    return sums


def _quiet(measures: Measures) -> Measures:
    """`measures` without numpy's warnings: a resample without any image of a class divides by zero, and nan is the answer."""

    def evaluate(tally_BQ: np.ndarray) -> Mapping[str, np.ndarray]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return measures(tally_BQ)

    return evaluate


def _resampled_measures(tally_UQ: np.ndarray, evaluate: Measures, draws: int, seed: int) -> dict[str, np.ndarray]:
    """[draws] by name: every measure of each resample of whole units; the resamples are those of `bootstrap_mean`."""
    units, width = tally_UQ.shape
    rng = stream(seed, "bootstrap", units)
    rows = max(1, CHUNK // max(units, width))
    parts = []
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        picked = rng.integers(units, size=(count, units)) + units * np.arange(count)[:, None]
        weights = np.bincount(picked.ravel(), minlength=count * units).reshape(count, units)
        parts.append(evaluate(weights.astype(np.float64) @ tally_UQ))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _left_out(tally_UQ: np.ndarray, total_Q: np.ndarray, evaluate: Measures) -> dict[str, np.ndarray]:
    """[units] by name: every measure with one unit left out (the jackknife)."""
    return _by_parts(tally_UQ, lambda part_BQ: evaluate(total_Q - part_BQ))


def _by_parts(tally_UQ: np.ndarray, evaluate: Measures) -> dict[str, np.ndarray]:
    """[units] by name: `evaluate` of every row of tallies, a bounded number of them at once."""
    rows = max(1, CHUNK // max(1, tally_UQ.shape[1]))
    parts = [evaluate(tally_UQ[start : start + rows]) for start in range(0, len(tally_UQ), rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _bca_interval(value: float, resampled: np.ndarray, left_out: np.ndarray, confidence: float) -> Interval:
    """BCa; but where nearly all resamples lie on one side of the value, its quantiles run out of resamples: then the normal
    interval, with the resamples' bias to both sides (Davison and Hinkley 1997, §5.2)."""
    known, jackknife = resampled[np.isfinite(resampled)], left_out[np.isfinite(left_out)]
    if not len(known) or not len(jackknife):
        return Interval(value=value, low=-math.inf, high=math.inf)
    below = (np.count_nonzero(known < value) + np.count_nonzero(known <= value)) / (2 * len(known))
    if not ONE_SIDED <= below <= 1 - ONE_SIDED:
        reach = abs(float(known.mean()) - value) + _z(confidence) * float(known.std())
        return Interval(value=value, low=value - reach, high=value + reach)
    limits = np.quantile(known, _bca_levels(value, known, jackknife, confidence))
    return Interval(value=value, low=min(value, float(limits[0])), high=max(value, float(limits[1])))


def _resampled_means(sums: np.ndarray, counts: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[draws]: the mean of each resample of whole units, drawn in chunks to bound memory."""
    rng = stream(seed, "bootstrap", len(sums))
    units = len(sums)
    rows = max(1, CHUNK // units)
    means = []
    for start in range(0, draws, rows):
        picked = rng.integers(units, size=(min(rows, draws - start), units))
        means.append(sums[picked].sum(axis=1) / counts[picked].sum(axis=1))
    return np.concatenate(means)


def _bca_levels(value: float, means: np.ndarray, jackknife: np.ndarray, confidence: float) -> np.ndarray:
    """The two quantiles of the resampled means to read off: Efron 1987, eq. 2.3 and 6.6."""
    below = (np.count_nonzero(means < value) + np.count_nonzero(means <= value)) / (2 * len(means))
    bias = special.ndtri(np.clip(below, 1 / len(means), 1 - 1 / len(means)))
    distances = jackknife.mean() - jackknife
    spread = (distances**2).sum() ** 1.5
    acceleration = (distances**3).sum() / (6 * spread) if spread > 0 else 0.0
    shifted = bias + np.array([-1.0, 1.0]) * _z(confidence)
    levels: np.ndarray = special.ndtr(bias + shifted / (1 - acceleration * shifted))
    return levels


def _disagreements(a_right: np.ndarray, b_right: np.ndarray) -> tuple[int, int, int]:
    """(images only a has right, images only b has right, images)."""
    a, b = np.asarray(a_right).astype(bool), np.asarray(b_right).astype(bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"expected the answers of two models to the same images, got shapes {a.shape} and {b.shape}")
    return int((a & ~b).sum()), int((b & ~a).sum()), len(a)
