"""Whether two sets of images are drawn alike: what a simple classifier can tell apart, and how far class shares differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from trainwright.diagnosis.stats import Z_95, wilson
from trainwright.records import Answer, Interval
from trainwright.seeding import stream

# Separability (AUC) that is let pass: two normal distributions whose means lie 0.36 standard deviations apart have it.
# Ours: smaller shifts are told with enough images, and hardly move a score.
AUC_MARGIN = 0.6
LABEL_MARGIN = 0.1  # ours: a tenth of the images would have to be of another class for the shares to agree
MOST_IMAGES = 1000  # of each side: AUC is then known to ±0.025, and all of it takes a fraction of a second
LEAST_IMAGES = 20  # of each side: below it the figures outnumber the images far too much
FOLDS = 5
SIDE = 64  # pixels of each side that are looked at: every so many for colours, the middle for texture
CELLS, LEVELS = 4, 8  # the picture in small has 4 × 4 cells; the histogram of brightness 8 levels
DRAWS = 400


@dataclass(frozen=True, kw_only=True)
class Shift:
    """How differently two sets of images are drawn.

    auc: with which chance the classifier finds an unseen image of the second set more like the second than an unseen one of
    the first; 0.5 where nothing tells them apart, 1 where everything does. images: of each side that were looked at.
    labels: total variation distance between their shares of classes, beyond what chance gives; None without classes.
    """

    auc: Interval
    images: tuple[int, int]
    labels: Interval | None = None

    @property
    def of_images(self) -> Answer:
        return _against(self.auc, AUC_MARGIN)

    @property
    def of_labels(self) -> Answer:
        return "no" if self.labels is None else _against(self.labels, LABEL_MARGIN)

    @property
    def images_that_would_tell(self) -> int:
        """Images of the smaller side that would settle it if the separability stays as it is."""
        reach = (self.auc.high - self.auc.low) / 2
        return math.ceil(min(self.images) * (reach / max(abs(self.auc.value - AUC_MARGIN), 0.01)) ** 2)


def two_sample_test(
    first_NF: np.ndarray, second_MF: np.ndarray, groups: tuple[np.ndarray, np.ndarray] | None = None
) -> Interval:
    """The AUC of a linear classifier that tells the two sets apart, on images that it was not fitted on.

    first_NF, second_MF: figures of each image, as `image_statistics` gives them. groups: [N] and [M], images that are not
    independent of each other share a value, over both sets; a group is never in the fit and in the judgement at once.
    Raises ValueError where a side has fewer than LEAST_IMAGES.

    Fisher's discriminant by ridge regression on standardized figures, cross-validated. Source: Lopez-Paz and Oquab,
    arXiv:1610.06545 (classifier two-sample test); Rabanser et al., arXiv:1810.11953 (against other detectors of shift).
    The interval is DeLong's (1988, Biometrics 44:837) over groups, as a score interval, which has a width at 1 too.
    """
    if min(len(first_NF), len(second_MF)) < LEAST_IMAGES:
        raise ValueError(
            f"two_sample_test: expected {LEAST_IMAGES} images a side, got {len(first_NF)}, {len(second_MF)}"
        )
    figures = np.concatenate([first_NF, second_MF]).astype(np.float64)
    side = np.repeat([0.0, 1.0], [len(first_NF), len(second_MF)])
    group = np.arange(len(side)) if groups is None else np.unique(np.concatenate(groups), return_inverse=True)[1]
    fold = _folds(side, group)
    score = np.empty(len(side))
    for held_out in range(FOLDS):
        judged = fold == held_out
        score[judged] = _discriminant(figures[~judged], side[~judged], figures[judged])
    return _auc(score, side == 1, group)


def label_shift(first_K: np.ndarray, second_K: np.ndarray) -> Interval:
    """Total variation distance between the shares of classes of two sets, beyond what chance gives; 0–1.

    first_K, second_K: images of each class. By chance alone it is above 0, the more the more classes there are: what
    two draws from the shares of both together give on average is taken off. The interval is a parametric bootstrap's.
    """
    first, second = np.asarray(first_K, dtype=np.float64), np.asarray(second_K, dtype=np.float64)
    together = (first + second) / (first + second).sum()
    rng = stream(0, "label-shift")

    def drawn(first_shares: np.ndarray, second_shares: np.ndarray) -> np.ndarray:
        a = rng.multinomial(int(first.sum()), first_shares, DRAWS) / first.sum()
        b = rng.multinomial(int(second.sum()), second_shares, DRAWS) / second.sum()
        distances: np.ndarray = np.abs(a - b).sum(axis=1) / 2
        return distances

    found = float(np.abs(first / first.sum() - second / second.sum()).sum() / 2)
    value = max(0.0, found - float(drawn(together, together).mean()))
    reach = Z_95 * float(drawn(first / first.sum(), second / second.sum()).std())
    return Interval(value=value, low=max(0.0, value - reach), high=min(1.0, value + reach))


def matched(first: Sequence[str], second: Sequence[str], *, most: int = MOST_IMAGES) -> tuple[np.ndarray, np.ndarray]:
    """Positions in each of two sets, with equal shares of every stratum, so that the balance of classes is not what is found.

    first, second: the stratum of each image. At most about `most` of each, drawn at random. A stratum that only one has is
    left out, and of one that a side has fewer of, the other gives as many.
    """
    own = [_by_stratum(names, side) for side, names in enumerate((first, second))]
    shared = sorted(set(own[0]) & set(own[1]))
    if not shared:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    pairs = {name: min(len(own[0][name]), len(own[1][name])) for name in shared}
    total = sum(pairs.values())
    # The smaller side limits the doubt: the larger gives as many times more as it has of every stratum.
    times = [max(1, min(min(len(side[name]) // pairs[name] for name in shared), most // total)) for side in own]
    keep = min(1.0, most / total)
    chosen = [
        np.concatenate([side[name][: max(1, round(keep * pairs[name])) * more] for name in shared])
        for side, more in zip(own, times, strict=True)
    ]
    return np.sort(chosen[0]), np.sort(chosen[1])


def image_statistics(images_NHWC: np.ndarray) -> np.ndarray:
    """Figures of each image that no model takes part in, float64 [N, F].

    images_NHWC: uint8 RGB. Mean and deviation of each channel, the picture in small, saturation, the histogram of
    brightness, and the energy of gradients at two scales, on the logarithm, which tells blur, noise and compression.
    """
    sparse_NHWC = _sparse(images_NHWC)
    colour_NCP = np.ascontiguousarray(sparse_NHWC.reshape(len(images_NHWC), -1, 3).transpose(0, 2, 1), dtype=np.float32)
    colour_NCP /= 255
    red, green, blue = (colour_NCP[:, channel] for channel in range(3))
    saturation_NP = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    grey_NHW = _middle(images_NHWC)
    columns = [
        *_moments(colour_NCP),
        *_moments(saturation_NP[:, None]),
        (colour_NCP @ _cells(*sparse_NHWC.shape[1:3])).reshape(len(images_NHWC), -1),
        _histogram((red + green + blue) / 3),
        _energies(grey_NHW),
        _energies(_halved(grey_NHW)),
    ]
    return np.concatenate([column.astype(np.float64) for column in columns], axis=1)


def counts_of(strata: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """How many of `strata` each of `names` is: int64 [K]."""
    place: Mapping[str, int] = {name: k for k, name in enumerate(names)}
    return np.bincount([place[name] for name in strata], minlength=len(names))


def _against(interval: Interval, margin: float) -> Answer:
    return "yes" if interval.low > margin else "no" if interval.high < margin else "cannot-tell"


def _by_stratum(names: Sequence[str], side: int) -> dict[str, np.ndarray]:
    order = stream(0, "matched", side).permutation(len(names))
    strata = np.asarray(names)[order]
    return {str(name): order[strata == name] for name in np.unique(strata)}


def _folds(side: np.ndarray, group: np.ndarray) -> np.ndarray:
    """[N]: which fold judges each image; groups whole, and of each side about as many in every fold."""
    first_of_group = np.unique(group, return_index=True)[1]
    rng = stream(0, "two-sample-folds")
    fold_of_group = np.empty(len(first_of_group), dtype=np.int64)
    for which in (0, 1):
        own = np.flatnonzero(side[first_of_group] == which)
        fold_of_group[rng.permutation(own)] = np.arange(len(own)) % FOLDS
    fold: np.ndarray = fold_of_group[group]
    return fold


def _discriminant(figures: np.ndarray, side: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Fisher's discriminant of `judged`; it is least squares on the sides (Bishop 2006, §4.1.5), here with a ridge."""
    mean, std = figures.mean(axis=0), figures.std(axis=0)
    known = std > 1e-9
    fitted = (figures[:, known] - mean[known]) / std[known]
    ridge = fitted.shape[1] * np.eye(fitted.shape[1])  # as much as one image a figure: nothing beside many images
    weights = np.linalg.solve(fitted.T @ fitted + ridge, fitted.T @ (side - side.mean()))
    scores: np.ndarray = (judged[:, known] - mean[known]) / std[known] @ weights
    return scores


def _auc(score: np.ndarray, second: np.ndarray, group: np.ndarray) -> Interval:
    """The AUC with its interval, from the placements of each image among those of the other side."""
    a, b = score[~second], score[second]
    ranks = stats.rankdata(np.concatenate([a, b]))
    placed_a = 1 - (ranks[: len(a)] - stats.rankdata(a)) / len(b)
    placed_b = (ranks[len(a) :] - stats.rankdata(b)) / len(a)
    auc = float(placed_b.mean())
    variance, units = 0.0, []
    for placed, of in ((placed_a, group[~second]), (placed_b, group[second])):
        sums = np.bincount(of, weights=placed - auc)
        count = len(np.unique(of))
        variance += float(sums @ sums) / len(placed) ** 2 * count / max(1, count - 1)
        units.append(count)
    most = float(sum(units))
    effective = min(most, auc * (1 - auc) / variance) if variance > 0 else most
    return wilson(auc * effective, effective)


def _sparse(images_NHWC: np.ndarray) -> np.ndarray:
    """Every so many pixels, at most SIDE a side: enough for colours."""
    height, width = images_NHWC.shape[1:3]
    sparse: np.ndarray = images_NHWC[:, :: -(-height // SIDE), :: -(-width // SIDE)]
    return sparse


def _middle(images_NHWC: np.ndarray) -> np.ndarray:
    """The middle in grey, float32 0–1, at most SIDE a side, every pixel of it: texture is lost between the lines."""
    height, width = images_NHWC.shape[1:3]
    top, left = max(0, height - SIDE) // 2, max(0, width - SIDE) // 2
    middle = images_NHWC[:, top : top + SIDE, left : left + SIDE]
    summed = middle[..., 0].astype(np.float32) + middle[..., 1] + middle[..., 2]
    grey: np.ndarray = summed / (3 * 255)
    return grey


def _moments(values_NCP: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([N, C], [N, C]): mean and deviation over the last axis."""
    mean = values_NCP.mean(axis=2)
    square = np.einsum("ncp,ncp->nc", values_NCP, values_NCP) / values_NCP.shape[2]
    return mean, np.sqrt(np.maximum(0, square - mean**2))


def _cells(height: int, width: int) -> np.ndarray:
    """[P, cells]: what each pixel adds to the mean of each cell of the picture in small."""
    row, column = np.arange(height) * CELLS // height, np.arange(width) * CELLS // width
    cell_P = (row[:, None] * CELLS + column).ravel()
    member = (cell_P[:, None] == np.unique(cell_P)).astype(np.float32)
    weights: np.ndarray = member / member.sum(axis=0)
    return weights


def _histogram(brightness_NP: np.ndarray) -> np.ndarray:
    """[N, LEVELS]: share of pixels of each level of brightness 0–1."""
    count, pixels = brightness_NP.shape
    level_NP = np.minimum((brightness_NP * LEVELS).astype(np.int64), LEVELS - 1) + LEVELS * np.arange(count)[:, None]
    shares: np.ndarray = np.bincount(level_NP.ravel(), minlength=count * LEVELS).reshape(count, LEVELS) / pixels
    return shares


def _halved(grey_NHW: np.ndarray) -> np.ndarray:
    even = grey_NHW[:, : grey_NHW.shape[1] // 2 * 2, : grey_NHW.shape[2] // 2 * 2]
    halved: np.ndarray = (even[:, ::2, ::2] + even[:, 1::2, ::2] + even[:, ::2, 1::2] + even[:, 1::2, 1::2]) / 4
    return halved


def _energies(grey_NHW: np.ndarray) -> np.ndarray:
    """[N, 3]: logarithm of the mean change to the right, downwards, and of the mean curvature."""
    right, down = np.diff(grey_NHW, axis=2), np.diff(grey_NHW, axis=1)
    parts = [np.abs(part).reshape(len(part), -1) for part in (right, down, np.diff(right, axis=2))]
    means = np.column_stack([part.mean(axis=1) if part.size else np.zeros(len(part)) for part in parts])
    energies: np.ndarray = np.log(means + 1e-3)  # a step of 1/255 is 0.004
    return energies
