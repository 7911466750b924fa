"""Labels that do not fit their images, told from answers for images that the network has not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainwright.diagnosis.stats import wilson
from trainwright.records import Answer, Interval

RATE_MARGIN = (
    0.05  # ours: of the labels; fewer wrong ones cost a training little, and networks that err surely look alike
)
LEAST_IMAGES = 60  # below it the surest tenth is a handful
SUREST = 0.1  # the share of the answers that the text speaks of
# Of clean data the odds of an error fall with the rank of confidence x = −log(1 − rank) as exp(−slope · x). The least slope
# that was seen of a model good enough to be asked is 0.9 (docs/statistics.md, "Labels and leaks").
LEAST_SLOPE = 0.5
# A network must be right on half of what guessing leaves over, or it is not asked: linear models that tell 62 % of clean cats
# and dogs err on 23 to 34 % of their surest answers too, which cannot be told from wrong labels.
LEAST_SKILL = 0.5
MOST_SLOPE = 12.0  # half of the images are then right to one in a thousand
RATES = np.concatenate([[0.0], np.geomspace(0.002, 0.02, 9), np.arange(0.03, 0.605, 0.01)])
BINS = 60  # images next to each other in confidence that are counted together
HALF_CHI_SQUARE = (
    1.9207  # half of the 95 % quantile of χ² with one degree of freedom: the width of a profile likelihood
)
SMALLEST = float(np.finfo(np.float32).tiny)  # a float32 softmax can be exactly 0


@dataclass(frozen=True, kw_only=True)
class LabelNoise:
    """How many labels are wrong.

    rate: their share, as far as the network can tell. surest: errors among the surest tenth of the answers. skill: how much
    of what always saying the most frequent class leaves over the network has right; 0 for guessing, 1 for all. most_skill: the
    upper end of its 95 % interval. images: how many were asked. out_of_fold: every image was, each by networks that had not
    seen it; otherwise the validation images alone.
    """

    rate: Interval
    surest: Interval
    skill: float
    images: int
    out_of_fold: bool = False
    most_skill: float = 1.0

    @property
    def noisy(self) -> Answer:
        if self.rate.high < RATE_MARGIN:
            return "no"
        return "yes" if self.rate.low > RATE_MARGIN and self.skill >= LEAST_SKILL else "cannot-tell"

    @property
    def suspected(self) -> bool:
        """Whether answers out of fold are worth their time: wrong labels are likely, not certain, and such networks may know
        their task well enough to be asked."""
        likely = self.noisy == "cannot-tell" and self.rate.value > RATE_MARGIN
        return likely and not self.out_of_fold and self.most_skill >= LEAST_SKILL


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """Images whose label is probably wrong, the surest first. order: their positions. seems: the class that each seems to be,
    margins: by how much the given label is less probable than that class, 0–1."""

    order: np.ndarray
    seems: np.ndarray
    margins: np.ndarray


def label_noise(
    probabilities_NK: np.ndarray, target_N: np.ndarray, *, units: int | None = None, out_of_fold: bool = False
) -> LabelNoise | None:
    """The share of wrong labels; None where there are too few images or classes.

    probabilities_NK: of images that the network was not trained on, or they prove nothing. units: how many of the images are
    independent of each other; None for all.

    Where a network is surest, it hardly errs on images whose labels are right, however hard the data; a wrong label
    contradicts it all the same. So the error has a floor at the rate of wrong labels, to which it falls with confidence:
    P(error) = r + (1 − r − r / (K − 1)) · σ(−a − slope · x), x = −log(1 − rank), fitted by maximum likelihood; the interval
    is that of the profile likelihood. Confidence counts by rank, because networks that overfit are surer than they should
    be, and how much differs. It assumes that wrong labels are as frequent among the images that are told easily as among
    others, and takes a whole class that is labelled as another one for right. The model is ours; that label noise bounds
    the accuracy of sure answers from above is what confident learning rests on too (Northcutt et al., arXiv:1911.00068).
    """
    classes = probabilities_NK.shape[1]
    if len(target_N) < LEAST_IMAGES or classes < 2:
        return None
    wrong_N = probabilities_NK.argmax(axis=1) != target_N
    order = np.argsort(confidence(probabilities_NK), kind="stable")
    wrong_N = wrong_N[order]
    parts = np.array_split(wrong_N, min(BINS, len(wrong_N) // 5))
    independent = 1.0 if units is None else units / len(wrong_N)
    counts, errors = np.array([len(part) for part in parts]), np.array([part.sum() for part in parts])
    surest = wrong_N[-max(1, round(SUREST * len(wrong_N))) :]
    accuracy, asked = 1 - float(wrong_N.mean()), len(wrong_N) * independent
    return LabelNoise(
        rate=_floor(counts, errors, classes, independent),
        surest=wilson(float(surest.mean()) * len(surest) * independent, len(surest) * independent),
        skill=_skill(accuracy, target_N),
        most_skill=_skill(wilson(accuracy * asked, asked).high, target_N),
        images=len(target_N),
        out_of_fold=out_of_fold,
    )


def confidence(probabilities_NK: np.ndarray) -> np.ndarray:
    """[N]: log of the odds of the answer against the next best, which has no ceiling where probabilities round to 1."""
    logs = np.sort(np.log(np.maximum(probabilities_NK, SMALLEST).astype(np.float64)), axis=1)
    odds: np.ndarray = logs[:, -1] - logs[:, -2]
    return odds


def suspects(probabilities_NK: np.ndarray, target_N: np.ndarray) -> Suspects:
    """The images that confident learning takes for mislabelled, the largest margin first.

    probabilities_NK: out of sample. An image counts as of the most probable class among those whose probability is at least
    the mean that it has on images so labelled; where that is not the given one, the label is a suspect.
    Source: Northcutt et al., arXiv:1911.00068 §3.1 (confident joint), §3.2 (ranked by normalized margin). The same images in
    the same order as cleanlab's `find_label_issues` with filter_by="confident_learning" and that ranking.
    """
    probabilities = probabilities_NK.astype(np.float64)
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(target_N)), target_N]
    present = np.bincount(target_N, minlength=classes)
    least = np.where(
        present > 0, np.bincount(target_N, weights=own, minlength=classes) / np.maximum(present, 1), np.inf
    )
    confident = np.where(probabilities >= least - 1e-6, probabilities, -1.0)
    seems = confident.argmax(axis=1)
    found = np.flatnonzero((confident.max(axis=1) >= 0) & (seems != target_N))
    others = probabilities.copy()
    others[np.arange(len(target_N)), target_N] = -1.0
    margins = others.max(axis=1) - own
    order = found[np.argsort(-margins[found], kind="stable")]
    return Suspects(order=order, seems=seems[order], margins=margins[order])


def _skill(accuracy: float, target_N: np.ndarray) -> float:
    majority = float(np.bincount(target_N).max()) / len(target_N)
    return (accuracy - majority) / (1 - majority) if majority < 1 else 0.0


def _floor(counts: np.ndarray, errors: np.ndarray, classes: int, independent: float) -> Interval:
    """The floor under the error with its profile-likelihood interval. counts, errors: of bins of rising confidence."""
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    x = -np.log1p(-middle)
    slopes = np.geomspace(LEAST_SLOPE, MOST_SLOPE, 32)
    starts = np.linspace(-2.5, 4.0, 27)
    clean = 1 / (1 + np.exp(starts[:, None, None] + slopes[:, None] * x))
    likelihood = np.array([_best(clean, counts, errors, rate, classes) for rate in RATES]) * independent
    within = RATES[likelihood >= likelihood.max() - HALF_CHI_SQUARE]
    return Interval(value=float(RATES[likelihood.argmax()]), low=float(within.min()), high=float(within.max()))


def _best(clean: np.ndarray, counts: np.ndarray, errors: np.ndarray, rate: float, classes: int) -> float:
    """The largest log-likelihood at this rate of wrong labels."""
    error = np.clip(rate + (1 - rate - rate / (classes - 1)) * clean, 1e-9, 1 - 1e-9)
    return float((np.log(error) @ errors + np.log1p(-error) @ (counts - errors)).max())
