"""Which learning rate: from the losses of a range test to an interval, a peak, or "cannot tell" with the reason.

Everything is done on the logarithm of lr. Losses are those of images that stay the same along a sweep and among short
trainings, so that differences between learning rates are not differences between batches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trainwright.diagnosis.lr_curve import Curve, Z
from trainwright.records import LrRange, LrTrial

STEP = 0.5  # decades between the short trainings
# From the lr where a sweep's loss is lowest to the peak of a training, in decades (from the trainings of
# benchmarks/lr_range.py, docs/log.md). What is stable for a few steps is not for thousands, so the peak lies below; and lower
# still where a sweep removes much of the loss in its few steps: such a training has time to spare.
BELOW, BELOW_A_SHARE, BELOW_AT_MOST = 0.35, 2.0, 1.05
# The part of that which is left in a network with layer norms, from random weights: the best rates of twelve such cells lie 0.43
# decades above what the whole of it gives (mean; docs/log.md).
LAYERED_PART = 0.2
# Where a normalization undoes the scale of the weights, too large a step makes them grow and with it the next ones smaller, so
# that a training survives what a sweep shoots past at once (Arora et al., arXiv:1812.03981 §1): plain gradient steps more so
# than adaptive ones, which do not shrink with the gradient.
NORMALIZED_A_SHARE, NORMALIZED_AT_MOST, NORMALIZED_AND_PLAIN = 1.0, 0.35, 0.6
# Adaptive steps from random weights, where no recipe's rate is known: so far above that the suggestions for twenty such cells lie
# in the middle of the rates that are good (docs/log.md).
NORMALIZED_ABOVE = 0.4
# Standard errors of the fall: of the lowest of several points noise alone gives about one. Below the first the published rate
# counts alone, above the second the sweep; between them their mean on log lr, weighted.
NOISE, SURE_FALL = 0.5, 3.0
# Weight of what was measured where it is sure, beside the published rate: an empirical Bayes estimate. Over the cells of
# benchmarks/lr_range.py the best rates lie 0.79 decades (root mean square) around the optimizer's published one, and 0.35 around
# the answer of the sweep and the short trainings: 0.79² / (0.79² + 0.35²) = 0.83, less a little because the rule was fitted
# there. A recipe's own rate was chosen for the very task and network: half. And no more decades than these: a network that is
# unlike all others may lie anywhere.
MOST, PULL = 0.8, 0.3
MOST_BESIDE_TUNED, PULL_TO_TUNED = 0.5, 0.6
# Decades from an optimizer's published rate to the middle of the good ones for normalized networks from random weights, for the
# reason above (means over the same cells): plain gradient steps, adaptive ones.
NORMALIZED_AND_PLAIN_PRIOR, NORMALIZED_PRIOR = 0.7, 1.3
# Convolutions without any norm learn nothing that can be seen in their first hundred steps: what comes out hardly hangs on the
# image. Their sweep then shows one thing, where it breaks down. The best rates lie a decade and a half below; that counts seven
# tenths, the published rate the rest (from eight such cells, docs/log.md).
BELOW_EDGE, EDGE_PART = 1.5, 0.7
SURE = 0.05  # probability below which it counts as refuted that only the targets' mean was learned


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A short training. start_P, loss_P: loss before and after, of each of the same images, none of them trained on.

    gains_P: how much more the loss would be with other images' targets, of images not trained on yet; None where that cannot
    be known: networks that make their loss of the target.
    """

    start_P: np.ndarray
    loss_P: np.ndarray
    gains_P: np.ndarray | None

    @property
    def loss(self) -> float:
        return float(self.loss_P.mean())

    @property
    def start(self) -> float:
        return float(self.start_P.mean())


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What is known beside the sweep. normalized: there is batch or group norm. layered: there is none, but layer norm.
    plain: gradient steps, not adaptive ones.

    published: the lr that the optimizer's authors or users start from; None where there is none. tuned: it was chosen for this
    task and network, as in a published recipe. fresh: the network starts from random weights.
    """

    normalized: bool = False
    layered: bool = False
    plain: bool = False
    published: float | None = None
    tuned: bool = False
    fresh: bool = True

    @property
    def expected(self) -> float | None:
        """The lr to expect before anything is measured."""
        further = (NORMALIZED_AND_PLAIN_PRIOR if self.plain else NORMALIZED_PRIOR) if self.bears_more else 0.0
        return None if self.published is None else self.published * 10**further

    @property
    def bears_more(self) -> bool:
        """Whether it takes higher rates than what is known of it says."""
        return self.normalized and self.fresh and not self.tuned

    def pulled(self, measured: float) -> float:
        """log10 of a measured lr, moved towards the expected one. measured: log10 too."""
        if self.expected is None:
            return measured
        most, pull = (MOST_BESIDE_TUNED, PULL_TO_TUNED) if self.tuned else (MOST, PULL)
        return measured + max(-pull, min(pull, (1 - most) * (math.log10(self.expected) - measured)))

    def unswept(self, curve: Curve) -> float | None:
        """The lr for a training of which the sweep shows nothing but where it breaks down; None where nothing is known."""
        bare = self.fresh and not (self.normalized or self.layered or self.tuned)
        if self.expected is None or curve.edge is None or not bare:
            return self.expected
        below = math.log10(curve.edge) - BELOW_EDGE
        return float(10 ** (EDGE_PART * below + (1 - EDGE_PART) * math.log10(self.expected)))


NOTHING_KNOWN = Circumstances()


def peak_of(curve: Curve, around: Circumstances) -> float:
    """The peak lr for a training, within the bounds of the sweep.

    From where the sweep is lowest as far as its fall is sure, from the published lr (and, without any norm, from where the sweep
    breaks down) as far as it is not, and always a little.
    """
    removed = max(0.0, (curve.start - float(curve.smooth_L.min())) / abs(curve.start)) if curve.start else 0.0
    if not around.normalized:
        part = LAYERED_PART if around.layered and around.fresh else 1.0
        shift = -part * min(BELOW + BELOW_A_SHARE * removed, BELOW_AT_MOST)
    elif around.plain:
        shift = NORMALIZED_AND_PLAIN
    else:
        shift = NORMALIZED_ABOVE * around.bears_more - min(NORMALIZED_A_SHARE * removed, NORMALIZED_AT_MOST)
    peak = math.log10(curve.lowest) + shift
    unswept = around.unswept(curve)
    if unswept is not None:
        weight = min(1.0, max(0.0, (curve.fall_in_errors - NOISE) / (SURE_FALL - NOISE)))
        peak = weight * around.pulled(peak) + (1 - weight) * math.log10(unswept)
    return float(np.clip(10**peak, curve.lrs_L[0], curve.lrs_L[-1]))


def conclude(
    curve: Curve, peak: float, trials: Mapping[float, Sequence[Measured]], around: Circumstances = NOTHING_KNOWN
) -> LrRange:
    """The answer. trials: the short trainings by lr, ascending, each with one Measured a seed."""
    interval, suggestion, reason = None, None, _cannot_tell(curve, trials)
    if not reason:
        suggestion = confirmed(peak, trials, around)
        fell = [lr for lr, measured in trials.items() if _really_fell(measured)]
        ends = [*(curve.interval or ()), *fell, suggestion]
        interval = (min(ends), max(ends))
        reason = _reason(curve, suggestion, trials)
    told = suggestion is not None or not curve.moves or around.unswept(curve) == around.expected
    return LrRange(
        lrs_L=curve.lrs_L,
        losses_SL=np.empty((0, len(curve.lrs_L))),
        smooth_L=curve.smooth_L,
        low_L=curve.low_L,
        high_L=curve.high_L,
        start=curve.start,
        interval=interval,
        suggestion=suggestion,
        reason=reason,
        likeliest=None if told else peak,
        trials=tuple(LrTrial(lr=lr, losses=tuple(m.loss for m in measured)) for lr, measured in trials.items()),
    )


def _reason(curve: Curve, suggestion: float, trials: Mapping[float, Sequence[Measured]]) -> str:
    """Why this one."""
    nearest = min(trials, key=lambda lr: abs(math.log(lr / suggestion)))
    before = np.mean([m.start for m in trials[nearest]])
    after = np.mean([m.loss for m in trials[nearest]])
    tried = f"a short training at {nearest:.1e} brings it from {before:.2f} to {after:.2f}"
    if curve.interval is None:
        return f"no sweep brings the loss down beyond its noise, but {tried}"
    return f"sweeps bring the loss down from {curve.interval[0]:.1e} on, furthest at {curve.lowest:.1e}; {tried}"


def confirmed(peak: float, trials: Mapping[float, Sequence[Measured]], around: Circumstances = NOTHING_KNOWN) -> float:
    """`peak`, or a neighbour that short trainings prove better.

    The lower one where it is better beyond chance, or the loss really falls there and ends above its start at `peak`. The
    higher one only where it really falls and at `peak` not, because short trainings lean to high rates; with a normalization
    they do not: there it is taken as far as the loss ends lower, less what the published rate weighs. Where nothing else helps,
    the lowest rate that was tried.
    """
    middle = min(trials, key=lambda lr: abs(math.log(lr / peak)))
    lower, higher = [lr for lr in trials if lr < middle], [lr for lr in trials if lr > middle]
    fell = {lr: _really_fell(measured) for lr, measured in trials.items()}
    failed = not _ended_below(trials[middle])
    if lower and (_better(trials[lower[-1]], trials[middle]) or (fell[lower[-1]] and failed)):
        return lower[-1]
    if higher and fell[higher[0]] and not fell[middle]:
        return higher[0]
    if around.normalized and (risen := as_far_up(middle, trials)) != middle:
        if around.expected is None or around.expected > risen:
            return risen
        return float(max(peak, 10 ** around.pulled(math.log10(risen))))
    return min(trials) if failed else peak


def as_far_up(start: float, trials: Mapping[float, Sequence[Measured]]) -> float:
    """From `start` up through the rates that were tried, as far as the loss ends lower at each than at the one before."""
    reached = start
    for lr in sorted(lr for lr in trials if lr > start):
        if not _mean_change(trials[lr]) < _mean_change(trials[reached]):  # not: a diverged one is nan
            break
        reached = lr
    return reached


def _cannot_tell(curve: Curve, trials: Mapping[float, Sequence[Measured]]) -> str:
    """Why there is no answer; empty where there is one."""
    low, high = curve.lrs_L[0], curve.lrs_L[-1]
    if not curve.moves:
        return "the loss stays the same at every learning rate: nothing that learns has any influence on it"
    if not any(math.isfinite(m.loss) for measured in trials.values() for m in measured):
        return f"every short training diverges, down to {min(trials):.1e}"
    chance = learned([m for measured in trials.values() for m in measured])
    really = curve.interval is not None or any(_really_fell(measured) for measured in trials.values())
    lowest = trials[min(trials)]
    if not any(map(_ended_below, trials.values())) and (
        chance > SURE or not all(math.isfinite(m.loss) for m in lowest)
    ):
        return f"the loss does not fall at any learning rate between {low:.0e} and {high:.0e} beyond its noise"
    if math.isnan(chance):
        return (
            ""
            if really
            else f"the loss does not fall at any learning rate between {low:.0e} and {high:.0e} beyond its noise"
        )
    if chance > SURE:
        return (
            f"what falls is what any images would give: the network does no better with an image's own target than with "
            f"another one's (p = {chance:.2f})"
        )
    return ""


def _better(one: Sequence[Measured], other: Sequence[Measured]) -> bool:
    """Whether the loss ends lower in every seed of at least two, and beyond chance; a diverged training is worse than any other.

    The loss of many images of a single seed is no proof: the next seed's training takes another way.
    """
    if not all(math.isfinite(m.loss) for m in one):
        return False
    if not all(math.isfinite(m.loss) for m in other):
        return True
    pairs = list(zip(one, other, strict=True))
    lower = len(pairs) > 1 and all(a.loss - a.start < b.loss - b.start for a, b in pairs)
    return lower and _below_zero(np.concatenate([a.loss_P - b.loss_P for a, b in pairs]))


def _ended_below(measured: Sequence[Measured]) -> bool:
    """Whether the loss ends below its start, chance or not."""
    return _mean_change(measured) < 0


def _mean_change(measured: Sequence[Measured]) -> float:
    return float(np.mean([m.loss - m.start for m in measured]))


def _really_fell(measured: Sequence[Measured]) -> bool:
    return _below_zero(np.concatenate([m.loss_P - m.start_P for m in measured]))


def _below_zero(changes_P: np.ndarray) -> bool:
    if not np.isfinite(changes_P).all():
        return False
    return bool(changes_P.mean() + Z * changes_P.std(ddof=1) / math.sqrt(len(changes_P)) < 0)


def learned(measured: Sequence[Measured]) -> float:
    """The probability that the loss would fall as it did if the images said nothing of their targets: one-sided.

    Compares each image's loss with what it would be for other images' targets: a network that has only learned which targets
    are frequent does as well on those. nan where it cannot be known.
    """
    gains_P = np.concatenate([m.gains_P for m in measured if m.gains_P is not None] or [np.empty(0)])
    gains_P = gains_P[np.isfinite(gains_P)]
    if len(gains_P) < 2:
        return math.nan
    deviation = float(gains_P.std(ddof=1))
    if deviation == 0:
        return 1.0 if gains_P[0] <= 0 else 0.0
    return float(stats.norm.sf(gains_P.mean() / deviation * math.sqrt(len(gains_P))))
