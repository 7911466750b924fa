"""Average precision of boxes as COCO counts it: which answers are right, and how precision falls as recall rises.

The definition is that of COCO (Lin et al., arXiv:1405.0312, and its pycocotools): an answer, the surest first, takes the free
true box of its class that it overlaps most; precision at a recall is the best at that recall or a higher one, and is averaged
over 101 recalls. D place of an answer, M of a true box, K class, T threshold of overlap.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

# In float32 as torchmetrics has them, so that figures agree to the last digit: a recall that falls on a hundredth may count
# for the next one otherwise.
THRESHOLDS = tuple(torch.linspace(0.5, 0.95, 10).tolist())
RECALLS = np.array(torch.linspace(0.0, 1.0, 101).tolist())
MAX_ANSWERS = 100  # of an image, of all classes together; COCO has as many of each class
BINS = 100  # of scores, in tallies
CHUNK = 2_000_000  # overlaps held at a time: 16 MB


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Which answers are right. Answers lie by falling score within their image, label -1 where there is none.

    scores_ND: float64. labels_ND: int64. right_TND: bool, at each threshold. true_NK: int64, true boxes of each class.
    """

    scores_ND: np.ndarray = field(repr=False)
    labels_ND: np.ndarray = field(repr=False)
    right_TND: np.ndarray = field(repr=False)
    true_NK: np.ndarray = field(repr=False)


def match(
    answers: tuple[np.ndarray, np.ndarray, np.ndarray],
    target_NM5: np.ndarray,
    *,
    classes: int,
    thresholds: tuple[float, ...] = THRESHOLDS,
) -> Matches:
    """Answers held against true boxes, each image for itself; the MAX_ANSWERS surest of an image count.

    answers: (boxes [N, D, 4], scores [N, D], labels [N, D]), label -1 for no answer. target_NM5: (class, left, top, right,
    bottom), class -1 for no box. thresholds: least overlap (intersection over union), rising.
    """
    boxes_ND4, scores_ND, labels_ND = answers
    order_ND = np.argsort(-scores_ND, axis=1, kind="stable")[:, :MAX_ANSWERS]
    scores_ND, labels_ND = (np.take_along_axis(a, order_ND, axis=1) for a in (scores_ND, labels_ND))
    boxes_ND4 = np.take_along_axis(boxes_ND4, order_ND[:, :, None], axis=1).astype(np.float64)
    classes_NM, true_NM4 = target_NM5[:, :, 0].astype(np.int64), target_NM5[:, :, 1:].astype(np.float64)
    n, d, m, overlap = _pairs(boxes_ND4, labels_ND, true_NM4, classes_NM, min(thresholds))
    images, places = labels_ND.shape
    right_TND = np.zeros((len(thresholds), images, places), dtype=bool)
    for t, threshold in enumerate(thresholds):
        enough = overlap >= min(threshold, 1 - 1e-10)  # pycocotools: an overlap of 1 may come out a hair below
        taken = _greedy((n * places + d)[enough], (n * classes_NM.shape[1] + m)[enough])
        right_TND[t].ravel()[taken] = True
    of_class_NMK = classes_NM[:, :, None] == np.arange(classes)
    return Matches(
        scores_ND=scores_ND.astype(np.float64),
        labels_ND=labels_ND.astype(np.int64),
        right_TND=right_TND,
        true_NK=of_class_NMK.sum(axis=1),
    )


def average_precision(matches: Matches) -> np.ndarray:
    """Average precision of each class at each threshold over all images, float64 [K, T]; nan for classes without true boxes."""
    true_K = matches.true_NK.sum(axis=0)
    found_KT = np.full((len(true_K), len(matches.right_TND)), np.nan)
    for k in np.flatnonzero(true_K):
        of_class_ND = matches.labels_ND == k
        order = np.argsort(-matches.scores_ND[of_class_ND], kind="stable")
        right_TD = matches.right_TND[:, of_class_ND][:, order]
        rights_TD = right_TD.cumsum(axis=1).astype(np.float64)
        best_T101, _ = _at_recalls(rights_TD, np.arange(1, len(order) + 1.0), np.full(len(rights_TD), true_K[k]))
        found_KT[k] = best_T101.mean(axis=1)
    return found_KT


def histogram(matches: Matches) -> np.ndarray:
    """What each image adds to average precision at the first threshold: float32 [N, K × (2 BINS + 1)], additive.

    For each class: right answers by bin of their score, wrong ones by bin, and true boxes. Whole numbers, which float32
    holds exactly, in half the memory: with 80 classes an image has 16,080 of them.
    """
    images, classes = matches.true_NK.shape
    tally_NKQ = np.zeros((images, classes, 2 * BINS + 1), dtype=np.float32)
    n, d = np.nonzero(matches.labels_ND >= 0)
    figure = bins(matches.scores_ND[n, d]) + np.where(matches.right_TND[0, n, d], 0, BINS)
    np.add.at(tally_NKQ, (n, matches.labels_ND[n, d], figure), 1)
    tally_NKQ[:, :, -1] = matches.true_NK
    return tally_NKQ.reshape(images, -1)


def bins(scores: np.ndarray) -> np.ndarray:
    """The bin of each score, 0 to BINS − 1: equal steps of the arcsine of its root, so fine near 0 and 1, where scores crowd.

    Equal steps of the score lose up to 0.17 of average precision where all scores lie near 0.01, as they do when a detector
    begins to learn, and 0.09 where they crowd near 1; these 0.03 and 0.02,
    and on most answers less than 0.01.
    """
    known = np.nan_to_num(
        scores.astype(np.float64)
    )  # not a number: the loss is not one either, and that error comes next
    place = np.arcsin(np.sqrt(np.clip(known, 0, 1))) * (2 / np.pi) * BINS
    found: np.ndarray = np.minimum(place + 1e-9, BINS - 1).astype(np.int64)  # a score of 0.5 begins the upper half
    return found


def binned_average_precision(tally_BQ: np.ndarray, classes: int) -> np.ndarray:
    """Average precision of each class from sums of `histogram`, float64 [B, K]; nan for classes without true boxes.

    Right and wrong answers are taken to lie evenly mixed within their bin: only the order within a bin is lost.
    """
    tally_BKQ = tally_BQ.astype(np.float64).reshape(len(tally_BQ), classes, 2 * BINS + 1)
    true_BK = tally_BKQ[:, :, -1]
    known_BK = true_BK > 0
    rights_RD = tally_BKQ[known_BK][:, BINS - 1 :: -1].cumsum(axis=1)
    wrongs_RD = tally_BKQ[known_BK][:, 2 * BINS - 1 : BINS - 1 : -1].cumsum(axis=1)
    found_BK = np.full(true_BK.shape, np.nan)
    true_R = true_BK[known_BK]
    best_R101, bin_R101 = _at_recalls(rights_RD, rights_RD + wrongs_RD, true_R)
    # Within a bin precision goes one way, from that at its upper edge to that at its lower, which `best` has already.
    rights_R101 = RECALLS * true_R[:, None]
    wrongs_R101 = _within(rights_RD, wrongs_RD, bin_R101, rights_R101)
    answers_R101 = rights_R101 + wrongs_R101
    here_R101 = np.divide(rights_R101, answers_R101, out=np.zeros_like(answers_R101), where=answers_R101 > 0)
    found_BK[known_BK] = np.where(bin_R101 < BINS, np.maximum(here_R101, best_R101), 0.0).mean(axis=1)
    return found_BK


def _within(rights_RD: np.ndarray, wrongs_RD: np.ndarray, bin_RX: np.ndarray, rights_RX: np.ndarray) -> np.ndarray:
    """How many wrong answers come before so many right ones, evenly mixed within the bin where those are reached."""
    inside_RX = np.minimum(bin_RX, rights_RD.shape[1] - 1)
    rights, wrongs = (np.pad(a, ((0, 0), (1, 0))) for a in (rights_RD, wrongs_RD))
    rights_before, wrongs_before = (np.take_along_axis(a, inside_RX, axis=1) for a in (rights, wrongs))
    more_rights = np.take_along_axis(rights, inside_RX + 1, axis=1) - rights_before
    more_wrongs = np.take_along_axis(wrongs, inside_RX + 1, axis=1) - wrongs_before
    part = np.divide(rights_RX - rights_before, more_rights, out=np.zeros(bin_RX.shape), where=more_rights > 0)
    found: np.ndarray = wrongs_before + np.clip(part, 0, 1) * more_wrongs
    return found


def _at_recalls(rights_RD: np.ndarray, answers_RD: np.ndarray, true_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(best precision at each of RECALLS or beyond, the place in D where that recall is reached) of R curves, [R, 101].

    rights_RD, answers_RD: how many answers are right, and how many there are, among the surest 1, 2, … D (or bins of them);
    the second may be [D]. true_R: true boxes, at least one. A recall that is not reached has precision 0 and place D.
    """
    curves, steps = rights_RD.shape
    precision_RD = np.divide(rights_RD, answers_RD, out=np.zeros(rights_RD.shape), where=answers_RD > 0)
    best_RD = np.maximum.accumulate(precision_RD[:, ::-1], axis=1)[:, ::-1]
    beyond_RD = np.pad(best_RD, ((0, 0), (0, 1)))
    curve_R1 = np.arange(curves)[:, None]
    lift_R1 = 2.0 * curve_R1  # one rising line of all curves: one search finds all
    recall_RD = rights_RD / true_R[:, None] + lift_R1
    place_R101 = np.searchsorted(recall_RD.ravel(), RECALLS + lift_R1) - steps * curve_R1
    return np.take_along_axis(beyond_RD, place_R101, axis=1), place_R101


def mean_of_known(figures: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what is not nan; nan where nothing is."""
    known = ~np.isnan(figures)
    count = known.sum(axis=-1)
    found: np.ndarray = np.divide(
        np.where(known, figures, 0.0).sum(axis=-1), count, out=np.full(count.shape, np.nan), where=count > 0
    )
    return found


def _pairs(
    boxes_ND4: np.ndarray, labels_ND: np.ndarray, true_NM4: np.ndarray, classes_NM: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(image, answer, true box, overlap) of all pairs of one class that overlap at least so much.

    Ordered by image, then the surest answer, then the largest overlap; of equal overlaps the last true box first, as
    pycocotools takes them.
    """
    images, places, most = *labels_ND.shape, classes_NM.shape[1]
    step = max(1, CHUNK // max(1, places * most))
    parts = []
    for start in range(0, max(1, images), step):
        part = slice(start, start + step)
        same_NDM = (labels_ND[part, :, None] == classes_NM[part, None, :]) & (labels_ND[part, :, None] >= 0)
        overlap_NDM = np.where(same_NDM, _overlaps(boxes_ND4[part], true_NM4[part]), -1.0)
        n, d, m = np.nonzero(overlap_NDM >= min(least, 1 - 1e-10))
        parts.append((n + start, d, m, overlap_NDM[n, d, m]))
    n, d, m, overlap = (np.concatenate([part[i] for part in parts]) for i in range(4))
    order = np.lexsort((-m, -overlap, d, n))
    return n[order], d[order], m[order], overlap[order]


def _overlaps(boxes_ND4: np.ndarray, true_NM4: np.ndarray) -> np.ndarray:
    """Intersection over union of every answer with every true box of its image, [N, D, M]; 0 where both are empty."""
    a, b = boxes_ND4[:, :, None, :], true_NM4[:, None, :, :]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    both = np.maximum(width, 0) * np.maximum(height, 0)
    either = _areas(boxes_ND4)[:, :, None] + _areas(true_NM4)[:, None, :] - both
    found: np.ndarray = np.divide(both, either, out=np.zeros_like(both), where=both > 0)
    return found


def _areas(boxes: np.ndarray) -> np.ndarray:
    areas: np.ndarray = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas


def _greedy(answer: np.ndarray, true: np.ndarray) -> np.ndarray:
    """The answers that get a true box when each, in rising order, takes its first free one. Pairs ordered as by `_pairs`.

    Not one by one: a pair stands as soon as the box is the answer's first choice and no surer answer still wants it. Each
    round settles at least one answer of each image, mostly nearly all.
    """
    got = []
    while len(answer):
        first_choice = np.append(True, answer[1:] != answer[:-1])
        place = np.arange(len(true))
        surest = np.zeros(true.max() + 1, dtype=np.int64)
        surest[true[::-1]] = place[::-1]  # the last one written stays: the first pair of each true box
        stands = first_choice & (surest[true] == place)
        got.append(answer[stands])
        settled, gone = (np.zeros(a.max() + 1, dtype=bool) for a in (answer, true))
        settled[answer[stands]] = gone[true[stands]] = True
        left = ~(settled[answer] | gone[true])
        answer, true = answer[left], true[left]
    return np.concatenate(got) if got else np.zeros(0, dtype=np.int64)
