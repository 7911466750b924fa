"""How much more data would help: a learning curve over the number of train images, carried on to at most four times as many.

The runs differ in their train images and seeds alone and answer the same validation images (docs/statistics.md, "How much
would more data help"; Mahmood et al., arXiv:2207.01725). Several families of curves are fitted to resampled points, and each
counts for as much as it fits. The prediction of the last point from those before it, the back-test, is published with the answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainwright.diagnosis.curve_families import FAMILIES, Fits, fit
from trainwright.diagnosis.curve_points import Noise, TrainedOn, drawn, noise_of, resampled
from trainwright.diagnosis.making import figures_of, finding
from trainwright.diagnosis.stats import Z_95, Score
from trainwright.diagnosis.wording import percent, points
from trainwright.errors import UsageError
from trainwright.records import Answer, Finding, Interval, to_json
from trainwright.seeding import stream

MOST_TIMES = 4.0  # statistics: a few points say little about what lies far beyond them
FACTORS = (2.0, 4.0)
LEAST_SIZES = 3  # numbers of images: two points fit every family
LEAST_SEEDS = 2  # runs of each size: without a second one the noise between runs is not known
NOTICED, NOT_NOTICED = (
    0.005,
    0.01,
)  # gain of the score for twice the images: above the one surely: yes; below the other: no
SURE = 0.95  # share of the draws that an answer needs
MISFIT = 0.01  # chance of a misfit as large as that of the best family, below which none of them is believed
CURVE_POINTS = 60  # of the curve that is drawn


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Runs on one number of images. errors: one a seed. error: their mean, with the doubt of images and seeds."""

    images: int
    errors: tuple[float, ...]
    error: Interval
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Expected score with `factor` times the images, and what is gained over those at hand."""

    factor: float
    images: int
    score: Interval
    gain: Interval


@dataclass(frozen=True, kw_only=True)
class BackTest:
    """The last point predicted from those before it. miss: measured − predicted error. inside: within the interval of the
    prediction, the noise of the measurement added."""

    images: int
    predicted: Interval
    measured: float
    miss: float
    inside: bool


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What a picture shows: the error over images_L with its band, and the best fit of each family."""

    images_L: np.ndarray = field(repr=False)
    error_L: np.ndarray = field(repr=False)
    low_L: np.ndarray = field(repr=False)
    high_L: np.ndarray = field(repr=False)
    fits: Mapping[str, np.ndarray] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class MoreData:
    """The answer. weights: how much each family counts. widened: by how much the back-test's miss has widened the intervals."""

    verdict: Answer
    reason: str
    points: tuple[CurvePoint, ...]
    predictions: tuple[Prediction, ...]
    back_test: BackTest | None
    weights: Mapping[str, float]
    widened: float
    curve: Curve | None = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """Everything, as what JSON knows."""
        content: dict[str, Any] = to_json(self)
        return content

    def finding(self) -> Finding:
        """The finding `more-data`: do more images help?"""
        advice = {
            "yes": "Collect more images of the same kind; then train the same recipe on all of them.",
            "no": "Look at the recipe, the labels and the images that fail rather than for more images of the same kind.",
            "cannot-tell": "More validation images or more seeds make the curve less noisy.",
        }
        figures: dict[str, float] = {}
        for told in self.predictions:
            figures |= figures_of(f"gain_{told.factor:g}x", told.gain)
        if self.back_test is not None:
            figures["back_test_miss"] = self.back_test.miss
        return finding("more-data", self.verdict, self.reason, advice[self.verdict], figures)


def more_data(
    runs: Sequence[TrainedOn],
    score: Score,
    *,
    groups: np.ndarray | None = None,
    chance_error: float = math.inf,
    factors: Sequence[float] = FACTORS,
    seed: int = 0,
) -> MoreData:
    """Carry the learning curve of these runs on, and say whether more images would help.

    score: [B] of summed tallies [B, Q]. groups: [N], validation images that depend on each other share a number. chance_error: of
    the best answer that does not look at the image. Raises UsageError for a factor beyond four, ValueError for runs that did not
    answer the same images, or not with the same number of seeds for each size.
    """
    for factor in factors:
        _refuse_far(factor)
    sizes = sorted({run.images for run in runs})
    by_size = [[run for run in runs if run.images == size] for size in sizes]
    if len({len(of) for of in by_size}) > 1 or len({len(run.tally_NQ) for run in runs}) > 1:
        raise ValueError(
            "more_data: expected the same seeds for each size, and the same validation images for each run"
        )
    seeds = len(by_size[0]) if by_size else 0
    if len(sizes) < LEAST_SIZES or seeds < LEAST_SEEDS:
        reason = f"{len(sizes)} sizes with {seeds} seeds each are too few; it takes {LEAST_SIZES} with {LEAST_SEEDS}."
        return _no_answer(_plain_points(by_size), reason)
    errors_BSK = resampled([run for of in by_size for run in of], score, groups, seed).reshape(-1, len(sizes), seeds)
    measured_SK = np.array([[run.error for run in of] for of in by_size])
    noise = noise_of(measured_SK, errors_BSK)
    drawn_BS = drawn(errors_BSK, noise, seed)
    shown = _points(by_size, measured_SK, drawn_BS)
    now = _Extrapolated.of(sizes, drawn_BS, noise, seed)
    test, widened = _back_test(sizes, measured_SK, drawn_BS, noise, seed)
    told = tuple(_prediction(now, factor, sizes[-1], widened) for factor in factors)
    verdict, reason = _verdict(now, shown, (test, widened), measured_SK, drawn_BS, chance_error)
    return MoreData(
        verdict=verdict,
        reason=reason,
        points=shown,
        predictions=told,
        back_test=test,
        weights=now.weights(),
        widened=widened,
        curve=_curve(now, sizes, widened, max(factors, default=1.0)),
    )


def _refuse_far(factor: float) -> None:
    if not 1 < factor <= MOST_TIMES:
        raise UsageError(
            f"a curve of these points is carried on to at most {MOST_TIMES:g} times the images at hand, not {factor:g} times.",
            where="factors",
            cure="Collect twice as many, train on them, and ask again (Mahmood et al., arXiv:2207.01725).",
        )


@dataclass(frozen=True, kw_only=True)
class _Extrapolated:
    """One fit for each draw. picked_B: which shape of which family, drawn by how well it fits; slopes_B, offsets_B: its a and c.

    central: all fits of the means over draws. misfit: χ² of the best of these.
    """

    picked_B: np.ndarray
    slopes_B: np.ndarray
    offsets_B: np.ndarray
    central: tuple[Fits, ...]
    misfit: float

    @classmethod
    def of(cls, sizes: Sequence[int], drawn_BS: np.ndarray, noise: Noise, seed: int) -> _Extrapolated:
        x_S = np.array(sizes) / sizes[-1]
        deviation_S = noise.deviation_S()[: len(sizes)]
        fits = tuple(fit(family, x_S, drawn_BS, deviation_S) for family in FAMILIES)
        chi_BK = np.concatenate([fitted.chi_BK for fitted in fits], axis=1)
        weights_BK = np.exp(-(chi_BK - chi_BK.min(axis=1, keepdims=True)) / 2)
        weights_BK = np.cumsum(weights_BK / weights_BK.sum(axis=1, keepdims=True), axis=1)
        draws_B1 = stream(seed, "more-data-fits", len(sizes)).random((len(drawn_BS), 1))
        picked_B = np.minimum((weights_BK <= draws_B1).sum(axis=1), chi_BK.shape[1] - 1)
        central = tuple(fit(family, x_S, drawn_BS.mean(axis=0)[None], deviation_S) for family in FAMILIES)
        misfit = min(float(fitted.chi_BK.min()) for fitted in central)
        picked = np.arange(len(drawn_BS)), picked_B
        slopes_BK = np.concatenate([fitted.slopes_BK for fitted in fits], axis=1)
        offsets_BK = np.concatenate([fitted.offsets_BK for fitted in fits], axis=1)
        return cls(
            picked_B=picked_B, slopes_B=slopes_BK[picked], offsets_B=offsets_BK[picked], central=central, misfit=misfit
        )

    def errors(self, x: float) -> np.ndarray:
        """[B]: the error with x times the images of the last point."""
        shapes_K = np.concatenate([fitted.family.at(x) for fitted in self.central])
        return np.asarray(np.maximum(0.0, self.slopes_B * shapes_K[self.picked_B] + self.offsets_B))

    def weights(self) -> dict[str, float]:
        """The share of the draws that each family stands for."""
        ends = np.cumsum([len(fitted.family.shapes) for fitted in self.central])
        family_B = np.searchsorted(ends, self.picked_B, side="right")
        return {fitted.family.name: float((family_B == index).mean()) for index, fitted in enumerate(self.central)}


def _interval(
    values_B: np.ndarray, widened: float = 1.0, *, least: float = -math.inf, most: float = math.inf
) -> Interval:
    """Median and 95 % of the draws; both sides `widened` times as far away."""
    low, value, high = (float(limit) for limit in np.quantile(values_B, (0.025, 0.5, 0.975)))
    low, high = value - widened * (value - low), value + widened * (high - value)
    return Interval(value=value, low=min(value, max(least, low)), high=max(value, min(most, high)))


def _prediction(now: _Extrapolated, factor: float, images: int, widened: float) -> Prediction:
    errors_B, gains_B = now.errors(factor), now.errors(1.0) - now.errors(factor)
    score = _interval(1 - errors_B, widened, most=1.0)
    gain = _interval(gains_B, widened, least=0.0)
    return Prediction(factor=factor, images=round(factor * images), score=score, gain=gain)


def _back_test(
    sizes: Sequence[int], measured_SK: np.ndarray, drawn_BS: np.ndarray, noise: Noise, seed: int
) -> tuple[BackTest | None, float]:
    """(the last point predicted from the others, how many times wider intervals must be to hold it); None with two others."""
    if len(sizes) <= LEAST_SIZES:
        return None, 1.0
    before = _Extrapolated.of(sizes[:-1], drawn_BS[:, :-1], noise, seed)
    predicted = _interval(before.errors(sizes[-1] / sizes[-2]), least=0.0)
    measured = float(measured_SK[-1].mean())
    miss = measured - predicted.value
    side = predicted.high - predicted.value if miss > 0 else predicted.value - predicted.low
    reach = math.hypot(side, Z_95 * float(noise.deviation_S()[-1]))
    inside = abs(miss) <= reach
    test = BackTest(images=sizes[-1], predicted=predicted, measured=measured, miss=miss, inside=inside)
    return test, 1.0 if inside else abs(miss) / reach


def _verdict(
    now: _Extrapolated,
    shown: Sequence[CurvePoint],
    tested: tuple[BackTest | None, float],
    measured_SK: np.ndarray,
    drawn_BS: np.ndarray,
    chance_error: float,
) -> tuple[Answer, str]:
    """Whether twice the images help, with the reason in plain words."""
    test, widened = tested
    gain_B, double = now.errors(1.0) - now.errors(2.0), _prediction(now, 2.0, shown[-1].images, widened)
    middle = double.gain.value
    gain_B = np.maximum(0.0, middle + widened * (gain_B - middle))
    gains = f"{100 * middle:+.1f} points ({100 * double.gain.low:+.1f} to {100 * double.gain.high:+.1f})"
    if math.isfinite(chance_error) and shown[-1].error.high >= chance_error:
        said = f"{percent(shown[-1].error.value)} error with all images is no better than a guess ({percent(chance_error)})"
        return "cannot-tell", f"Cannot tell: the recipe has not learned: {said}. Cure that first."
    if _unlikely(now.misfit, len(shown)):
        falls = measured_SK.mean(axis=1)
        what = (
            "rises with more images"
            if falls[-1] > falls[0]
            else "does not go with the number of images as any curve does"
        )
        return "cannot-tell", f"Cannot tell: the error {what}, beyond the noise between seeds. Look at the single runs."
    if float((gain_B > NOTICED).mean()) >= SURE:
        return "yes", f"More images would help: {gains} for twice as many."
    if float((gain_B < NOT_NOTICED).mean()) >= SURE:
        return "no", f"More images would not help noticeably: {gains} for twice as many."
    why = f"the curve is too noisy: for twice as many images it says {gains}"
    if test is not None and not test.inside:
        why = f"the back-test missed by {points(abs(test.miss))}, more than its interval: for twice as many images {gains}"
    return "cannot-tell", f"Cannot tell: {why}."


def _unlikely(misfit: float, sizes: int) -> bool:
    """Whether a misfit is beyond the noise; freedom as if only slope and offset were fitted, which is on the quiet side."""
    from scipy import stats

    return float(stats.chi2.sf(misfit, max(1, sizes - 2))) < MISFIT


def _points(
    by_size: Sequence[Sequence[TrainedOn]], measured_SK: np.ndarray, drawn_BS: np.ndarray
) -> tuple[CurvePoint, ...]:
    found = []
    for index, runs in enumerate(by_size):
        value = float(measured_SK[index].mean())
        low, high = (float(limit) for limit in np.quantile(drawn_BS[:, index], (0.025, 0.975)))
        error = Interval(value=value, low=min(value, low), high=max(value, high))
        names = tuple(run.run for run in runs)
        found.append(
            CurvePoint(images=runs[0].images, errors=tuple(measured_SK[index].tolist()), error=error, runs=names)
        )
    return tuple(found)


def _plain_points(by_size: Sequence[Sequence[TrainedOn]]) -> tuple[CurvePoint, ...]:
    """Points of which nothing is known but what was measured."""
    found = []
    for runs in by_size:
        errors = tuple(run.error for run in runs)
        error = Interval(value=sum(errors) / len(errors), low=-math.inf, high=math.inf)
        found.append(CurvePoint(images=runs[0].images, errors=errors, error=error, runs=tuple(run.run for run in runs)))
    return tuple(found)


def _no_answer(shown: tuple[CurvePoint, ...], reason: str) -> MoreData:
    return MoreData(
        verdict="cannot-tell",
        reason=f"Cannot tell: {reason}",
        points=shown,
        predictions=(),
        back_test=None,
        weights={},
        widened=1.0,
        curve=None,
    )


def _curve(now: _Extrapolated, sizes: Sequence[int], widened: float, farthest: float) -> Curve:
    x_L = np.geomspace(sizes[0] / sizes[-1], farthest, CURVE_POINTS)
    bands = [_interval(now.errors(float(x)), widened if x > 1 else 1.0, least=0.0) for x in x_L]
    best = {
        fitted.family.name: np.array([fitted.errors(float(x))[0, int(fitted.chi_BK[0].argmin())] for x in x_L])
        for fitted in now.central
    }
    return Curve(
        images_L=x_L * sizes[-1],
        error_L=np.array([band.value for band in bands]),
        low_L=np.array([band.low for band in bands]),
        high_L=np.array([band.high for band in bands]),
        fits=best,
    )
