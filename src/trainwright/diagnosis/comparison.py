"""Two recipes on the same images: the gain with its doubt over images and seeds, and which arms of a round are adopted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from trainwright.diagnosis.noise import noise_floor, tallies_of
from trainwright.diagnosis.stats import Z_95, Score, bootstrap_measures, mcnemar_exact, paired_difference
from trainwright.records import Interval

# What is known of the variance of a score between seeds before it is measured, as a multiple of the noise floor's, and how many
# degrees of freedom that is worth: fitted by maximum likelihood to 200 pairs of trainings that differ only in seed, at
# learning rates from 1e-5 to 10, on digits, cats-dogs and flowers12. Near the best rate they vary little more than the noise
# floor (1.5 times, at half a decade around it), short or unstable ones ten times and more
# (docs/statistics.md, "Seed noise").
PRIOR_VARIANCE, PRIOR_FREEDOM = 1.4, 3.0
LEVEL = 0.05  # of one round, over all of its arms
# Of an arm that is not adopted at first sight: the two-sided p, of that arm alone, below which a second look may settle it, and
# the level that it is held to then, with all of its trainings: at 0.05, 7 of 100 rounds without any effect adopted something
# where seeds differ most, at 0.01 5 (docs/log.md).
PROMISING, SETTLED = 0.1, 0.01
# Of an arm that may be adopted without a second look, over its round: 2 of 100 rounds without any effect do where seeds differ
# most, 0.1 and none elsewhere, nearly all of which a second look would adopt too (benchmarks/aa.py, docs/log.md).
SURE = 0.005


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What an arm gains over its control.

    gain: score of the arm − score of the control, higher is better, each the mean over its seeds. p: two-sided, of a gain
    this far from zero if there were none. images: how many both answered. seeds: trainings of the arm and of the control.
    """

    gain: Interval
    p: float
    images: int
    seeds: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What becomes of an arm. p: adjusted for the other arms of its round. reason: one sentence with the figures."""

    decision: Literal["adopt", "no-evidence", "worse"]
    p: float
    reason: str


def compare(
    arm: Sequence[np.ndarray],
    control: Sequence[np.ndarray],
    *,
    score: Score | None = None,
    groups: np.ndarray | None = None,
    noise: float | None = None,
    seed: int = 0,
) -> Comparison:
    """The gain of an arm over its control on the same images; each is one training, or several that differ in seed.

    arm, control: answers of each training, in the same order of images: tallies [N, Q], of which without `score` column 0 is
    right or wrong (or [N], that alone). groups: [N], images that are not independent share a value. noise: `noise_floor` of
    one training's score. seed: of the resamples.

    Doubt over images. Right or wrong with one training each: exact McNemar test and adjusted Wald interval. Several trainings:
    the same interval of the mean differences. Groups and other scores: bootstrap of images or groups, the same ones for
    every training. This already holds what chance does to single images between seeds, which is the noise floor:
    between two trainings of one recipe, the variance of the difference is d/n = 2·noise² either way.

    Doubt over seeds, where `noise` is given or a side has two trainings; without, the claim is about these two
    trainings alone. Added is only the variance between seeds that moves many images at once. It is estimated from
    the scores of each side's trainings, their variance moderated by what is known from elsewhere, as a ratio to the noise
    floor (Smyth 2004, Statistical Applications in Genetics and Molecular Biology 3:3); Satterthwaite's degrees of
    freedom make it a t interval (1946, Biometrics Bulletin 2:110). With one training each that costs much: give as controls
    all trainings of the unchanged recipe. Resampling seeds and images both would count chance on
    single images up to three times (Owen 2007, Annals of Applied Statistics 1:386) and the rest of the seeds' variance, of k
    seeds, only (k − 1)/k times. p is read off the interval's arm towards zero, as Altman and Bland do (2011, BMJ 343:d2304).
    Raises ValueError on answers to other images.
    """
    if not len(arm) or not len(control):
        raise ValueError(f"compare: expected a training on both sides, got {len(arm)} and {len(control)}")
    tallies, measured = tallies_of([*arm, *control], score)
    counts = len(arm), len(control)
    if groups is not None and len(groups) != len(tallies[0]):
        raise ValueError(f"compare: expected a group for each of the {len(tallies[0])} images, got {len(groups)}")
    if groups is not None and len(np.unique(groups)) == len(tallies[0]):
        groups = None
    exact = None
    if score is None and groups is None:
        gain, exact = _of_answers(tallies, counts)
    else:
        gain = _of_scores(tallies, counts, measured, groups, seed)
    if not math.isfinite(gain.high - gain.low):
        return Comparison(gain=gain, p=1.0, images=len(tallies[0]), seeds=counts)
    over_images = ((gain.high - gain.low) / (2 * Z_95)) ** 2
    on_top, freedom = _over_seeds(tallies, counts, measured, groups, noise, over_images)
    if math.isfinite(freedom) or on_top:
        gain = _widened(gain, on_top, freedom)
        p = max(_p_of(gain, freedom), exact or 0.0)
    else:
        p = _p_of(gain, freedom) if exact is None else exact
    return Comparison(gain=gain, p=p, images=len(tallies[0]), seeds=counts)


def holm(ps: Sequence[float]) -> list[float]:
    """The p-values of one family, adjusted so that calling those below a level makes any false call only that often.

    In the order given. Source: Holm 1979, Scandinavian Journal of Statistics 6:65; it needs no independence, and arms that
    share a control are not independent.
    """
    adjusted, largest = [1.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def adopted(comparisons: Mapping[str, Comparison], *, noise: float, level: float = LEVEL) -> dict[str, Verdict]:
    """Which arms of one round are better than the control beyond chance, by name.

    comparisons: every arm of the round. noise: `noise_floor` of one training's score. An arm is adopted if its p, adjusted
    for all arms, is below `level`, its gain's interval lies above zero, and its gain exceeds the noise of a difference,
    sqrt(2)·noise with one seed each. Mirrored, it is worse. Anything else is no evidence, and the simpler recipe stays.
    """
    names = list(comparisons)
    ps = holm([comparisons[name].p for name in names])
    return {name: _verdict(comparisons[name], p, noise, level) for name, p in zip(names, ps, strict=True)}


def worth_a_second_look(comparisons: Mapping[str, Comparison], *, noise: float) -> dict[str, float]:
    """Arms of a round that another training may decide on, the largest gain first, each with the level it is then held to.

    Those that `adopted` would take already, at its own level. Where there is none, those whose gain is beyond the noise of a
    difference with a p, of that arm alone, below 0.1: they have to be surer. How often both together are wrong is measured
    (benchmarks/aa.py).
    """
    verdicts = adopted(comparisons, noise=noise)
    levels = {name: LEVEL for name, verdict in verdicts.items() if verdict.decision == "adopt"}
    if not levels:
        promising = (name for name, one in comparisons.items() if one.p < PROMISING)
        levels = {
            name: SETTLED for name in promising if comparisons[name].gain.value > _spread(comparisons[name], noise)
        }
    return dict(sorted(levels.items(), key=lambda item: -comparisons[item[0]].gain.value))


def _spread(found: Comparison, noise: float) -> float:
    """The noise of a difference of so many trainings on each side."""
    return noise * math.sqrt(sum(1 / count for count in found.seeds))


def _verdict(found: Comparison, p: float, noise: float, level: float) -> Verdict:
    gain = found.gain
    of_difference = _spread(found, noise)
    figures = f"{_points(gain.value)} ({_points(gain.low)} to {_points(gain.high)}), p = {p:.3f} over the round"
    if not math.isfinite(gain.value):
        return Verdict(decision="no-evidence", p=p, reason="No evidence: the score of one of the two is not defined.")
    if p < level and gain.low > 0 and gain.value > of_difference:
        return Verdict(decision="adopt", p=p, reason=f"Better beyond chance: {figures}.")
    if p < level and gain.high < 0 and -gain.value > of_difference:
        return Verdict(decision="worse", p=p, reason=f"Worse beyond chance: {figures}.")
    if gain.low <= 0 <= gain.high:
        why = "the interval holds zero"
    elif p >= level:
        why = "not beyond what the best of so many arms shows by chance"
    else:
        why = f"less than the noise of a difference, {100 * of_difference:.1f} points"
    return Verdict(decision="no-evidence", p=p, reason=f"No evidence: {figures}; {why}.")


def _points(share: float) -> str:
    return f"{100 * share:+.1f}" if math.isfinite(share) else "unknown"


def _of_answers(tallies: Sequence[np.ndarray], counts: tuple[int, int]) -> tuple[Interval, float | None]:
    """The gain in right answers over independent images, and McNemar's p where each side is one training."""
    right_SN = np.stack([tally_N2[:, 0] for tally_N2 in tallies])
    arm_SN, control_SN = right_SN[: counts[0]], right_SN[counts[0] :]
    if counts == (1, 1):
        return paired_difference(arm_SN[0], control_SN[0]), mcnemar_exact(arm_SN[0], control_SN[0])
    return _adjusted_wald(arm_SN.mean(axis=0) - control_SN.mean(axis=0), counts), None


def _adjusted_wald(differences_N: np.ndarray, counts: tuple[int, int]) -> Interval:
    """`stats.paired_difference` for differences that are means over seeds.

    Bonett and Price add an image that differs by +1 and one by −1; chance on single images shrinks with the root of the
    number of trainings, and so do the two.
    """
    added = math.sqrt(sum(1 / count for count in counts) / 2)
    padded = np.concatenate([differences_N, [added, -added]])
    value, middle = float(differences_N.mean()), float(padded.mean())
    half = Z_95 * float(padded.std()) / math.sqrt(len(padded))
    return Interval(value=value, low=min(value, max(-1.0, middle - half)), high=max(value, min(1.0, middle + half)))


def _of_scores(
    tallies: Sequence[np.ndarray], counts: tuple[int, int], score: Score, groups: np.ndarray | None, seed: int
) -> Interval:
    """`stats.paired_bootstrap` for several trainings on a side, all resampled alike."""
    width = tallies[0].shape[1]

    def gain_of(tally_BQ: np.ndarray) -> dict[str, np.ndarray]:
        scores_SB = [score(tally_BQ[:, start : start + width]) for start in range(0, tally_BQ.shape[1], width)]
        return {"gain": np.mean(scores_SB[: counts[0]], axis=0) - np.mean(scores_SB[counts[0] :], axis=0)}

    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(gain_of(np.concatenate([tally_NQ.sum(axis=0) for tally_NQ in tallies])[None])["gain"][0])
    if math.isfinite(value) and all(np.array_equal(tally_NQ, tallies[0]) for tally_NQ in tallies):
        return Interval(value=0.0, low=0.0, high=0.0)
    found = bootstrap_measures(np.concatenate(tallies, axis=1), gain_of, groups=groups, seed=seed)
    return found.get("gain", Interval(value=value, low=-math.inf, high=math.inf))


def _over_seeds(
    tallies: Sequence[np.ndarray],
    counts: tuple[int, int],
    score: Score,
    groups: np.ndarray | None,
    noise: float | None,
    over_images: float,
) -> tuple[float, float]:
    """(variance of the gain that comes on top of that over images, degrees of freedom of both together).

    over_images: variance of the gain over images. Nothing on top where seeds say nothing: one training each and no `noise`.
    """
    sides = [side for side in (tallies[: counts[0]], tallies[counts[0] :]) if len(side) > 1]
    measured = sum(len(side) - 1 for side in sides)
    if measured:
        floors = [(len(side) - 1) * noise_floor(*side, score=score, groups=groups) ** 2 for side in sides]
        floor, spread = sum(floors) / measured, sum((len(side) - 1) * _variance(side, score) for side in sides)
    elif noise is not None:
        floor, spread = noise**2, 0.0
    else:
        return 0.0, math.inf
    freedom, trainings = PRIOR_FREEDOM + measured, sum(1 / count for count in counts)
    between = max(floor, (PRIOR_FREEDOM * PRIOR_VARIANCE * floor + spread) / freedom)
    if between == 0 or not math.isfinite(between):
        return between, math.inf
    on_top = trainings * (between - floor) + max(0.0, trainings * floor - over_images)
    return on_top, freedom * ((over_images + on_top) / (trainings * between)) ** 2


def _variance(side: Sequence[np.ndarray], score: Score) -> float:
    """Of the scores of several trainings, between seeds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.var(score(np.stack([tally_NQ.sum(axis=0) for tally_NQ in side])), ddof=1))


def _widened(gain: Interval, by: float, freedom: float) -> Interval:
    """Both arms lengthened by an independent variance, in squares, and to the t distribution's length."""
    quantile = float(stats.t.ppf(0.975, freedom)) if math.isfinite(freedom) else Z_95
    arms = [quantile * math.sqrt((arm / Z_95) ** 2 + by) for arm in (gain.value - gain.low, gain.high - gain.value)]
    return Interval(value=gain.value, low=gain.value - arms[0], high=gain.value + arms[1])


def _p_of(gain: Interval, freedom: float) -> float:
    """Two-sided, from how many times the interval's arm towards zero fits between the value and zero."""
    arm = gain.value - gain.low if gain.value > 0 else gain.high - gain.value
    if not math.isfinite(gain.value) or not math.isfinite(arm) or gain.value == 0:
        return 1.0
    if arm == 0:
        return 0.0
    if not math.isfinite(freedom):
        return 2 * float(stats.norm.sf(Z_95 * abs(gain.value) / arm))
    return 2 * float(stats.t.sf(stats.t.ppf(0.975, freedom) * abs(gain.value) / arm, freedom))
