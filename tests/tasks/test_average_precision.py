"""Average precision is COCO's, to the last digit; from bins of scores it is nearly so."""

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from trainwright.seeding import stream
from trainwright.tasks.average_precision import (
    BINS,
    average_precision,
    binned_average_precision,
    bins,
    histogram,
    match,
    mean_of_known,
)

SIDE = 60.0


def drawn(seed, *, images, places, boxes, classes, whole=False, ties=False):
    """Random true boxes, and answers most of which lie near one: (boxes, scores, labels), target.

    whole: corners on whole pixels, so that overlaps are equal and hit thresholds. ties: only six different scores.
    """
    random = stream(seed, "boxes")
    target_NM5 = np.full((images, boxes, 5), -1.0, dtype=np.float32)
    left_top = random.uniform(0, SIDE, (images, boxes, 2))
    target_NM5[..., 1:] = np.concatenate([left_top, left_top + random.uniform(5, 40, (images, boxes, 2))], axis=2)
    there_NM = np.arange(boxes) < random.integers(0, boxes + 1, (images, 1))
    target_NM5[..., 0] = np.where(there_NM, random.integers(0, classes, (images, boxes)), -1)
    near_ND = random.integers(0, boxes, (images, places))
    near_ND5 = np.take_along_axis(target_NM5, near_ND[:, :, None], axis=1)
    spread_ND1 = 6 * random.random((images, places, 1))
    boxes_ND4 = (near_ND5[..., 1:] + random.normal(0, 1, (images, places, 4)) * spread_ND1).astype(np.float32)
    boxes_ND4[..., 2:] = np.maximum(boxes_ND4[..., 2:], boxes_ND4[..., :2] + 1)
    other_ND = random.integers(0, classes, (images, places))
    labels_ND = np.where((random.random((images, places)) < 0.8) & (near_ND5[..., 0] >= 0), near_ND5[..., 0], other_ND)
    labels_ND = np.where(np.arange(places) < random.integers(0, places + 1, (images, 1)), labels_ND, -1).astype(int)
    scores_ND = random.random((images, places)).astype(np.float32)
    if whole:
        target_NM5[..., 1:], boxes_ND4 = target_NM5[..., 1:].round(), boxes_ND4.round()
    if ties:
        scores_ND = (scores_ND * 5).round() / 5
    return (boxes_ND4, scores_ND, labels_ND), target_NM5


def torchmetrics_of(answers, target_NM5):
    metric = MeanAveragePrecision(backend="faster_coco_eval", class_metrics=True)
    metric.warn_on_many_detections = False
    boxes, scores, labels = (torch.from_numpy(column) for column in answers)
    target = torch.from_numpy(target_NM5)
    metric.update(
        [
            {"boxes": b[k >= 0], "scores": s[k >= 0], "labels": k[k >= 0]}
            for b, s, k in zip(boxes, scores, labels, strict=True)
        ],
        [{"boxes": t[t[:, 0] >= 0, 1:], "labels": t[t[:, 0] >= 0, 0].long()} for t in target],
    )
    return metric.compute()


def one_class(overlaps, scores, true=1):
    """An image of one class whose answers overlap true boxes 10 pixels wide by so much, a true box each; 0 hits none."""
    target_NM5 = np.array([[[0, 100 * m, 0, 100 * m + 10, 10] for m in range(true)]], dtype=np.float32)
    boxes_ND4 = np.array([[[100 * d, 0, 100 * d + 10 * share, 10] for d, share in enumerate(overlaps)]])
    labels_ND = np.zeros((1, len(overlaps)), dtype=int)
    return (boxes_ND4, np.array([scores]), labels_ND), target_NM5


# By reasoning


def test_an_answer_is_right_up_to_the_overlap_it_has():
    found_KT = average_precision(match(*one_class([0.72], [0.9]), classes=1))

    assert found_KT[0].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]  # 0.50, 0.55, … 0.70 are reached


def test_half_of_the_true_boxes_found_is_half_of_the_recalls():
    """51 of the 101 recalls lie at 0.5 or below."""
    found_KT = average_precision(match(*one_class([1.0], [0.9], true=2), classes=1))

    assert found_KT[0] == pytest.approx(51 / 101)


def test_a_wrong_answer_counts_only_where_it_is_surer():
    answers, target = one_class([1.0, 0.0], [0.9, 0.8])
    before = average_precision(match(answers, target, classes=1))[0, 0]
    answers[1][0, 1] = 0.95

    after = average_precision(match(answers, target, classes=1))[0, 0]

    assert (before, after) == (1.0, 0.5)


def test_a_true_box_is_found_once_by_the_surest_answer():
    target_NM5 = np.array([[[0, 0, 0, 10, 10]]], dtype=np.float32)
    boxes_ND4 = np.array([[[0, 0, 9, 10], [0, 0, 10, 10]]])

    matches = match((boxes_ND4, np.array([[0.8, 0.7]]), np.zeros((1, 2), dtype=int)), target_NM5, classes=1)

    assert matches.right_TND[:, 0, 0].tolist() == [True] * 9 + [False]  # overlap 0.9
    assert matches.right_TND[:, 0, 1].tolist() == [False] * 9 + [True]


def test_an_answer_of_another_class_finds_nothing():
    answers, target = one_class([1.0], [0.9])

    matches = match((answers[0], answers[1], answers[2] + 1), target, classes=2)

    assert not matches.right_TND.any()


def test_a_class_without_true_boxes_has_no_average_precision():
    found_KT = average_precision(match(*one_class([1.0], [0.9]), classes=3))

    assert np.isnan(found_KT).all(axis=1).tolist() == [False, True, True]
    assert mean_of_known(found_KT[:, 0]) == 1.0


def test_no_answers_at_all_find_nothing():
    _, target = one_class([1.0], [0.9])

    found_KT = average_precision(
        match((np.zeros((1, 0, 4)), np.zeros((1, 0)), np.zeros((1, 0), dtype=int)), target, classes=1)
    )

    assert found_KT.tolist() == [[0.0] * 10]


def test_only_the_hundred_surest_answers_of_an_image_count():
    answers, target = one_class([0.0] * 100 + [1.0], [0.9] * 100 + [0.8], true=101)

    assert average_precision(match(answers, target, classes=1))[0, 0] == 0.0


# Against torchmetrics


@pytest.mark.parametrize("seed", range(60))
def test_it_is_that_of_torchmetrics(seed):
    """With images without boxes or answers, absent classes, equal scores and equal overlaps among them."""
    random = stream(seed, "sizes")
    images, places, boxes, classes = (
        int(random.integers(low, high)) for low, high in ((2, 12), (2, 30), (1, 12), (1, 5))
    )
    answers, target_NM5 = drawn(
        seed, images=images, places=places, boxes=boxes, classes=classes, whole=seed % 2 == 0, ties=seed % 3 == 0
    )
    theirs = torchmetrics_of(answers, target_NM5)

    found_KT = average_precision(match(answers, target_NM5, classes=classes))

    assert mean_of_known(found_KT.mean(axis=1)) == pytest.approx(theirs["map"].item(), abs=1e-6)
    assert mean_of_known(found_KT[:, 0]) == pytest.approx(theirs["map_50"].item(), abs=1e-6)
    by_class = np.nan_to_num(found_KT.mean(axis=1), nan=-1.0)[theirs["classes"].reshape(-1).numpy()]
    np.testing.assert_allclose(by_class, theirs["map_per_class"].reshape(-1).numpy(), atol=1e-6)


# From bins


def sure_of_itself(seed, *, right, wrong):
    """Answers whose scores are drawn for right and for wrong ones: mean and deviation of their logit, as detectors have them."""
    answers, target_NM5 = drawn(seed, images=87, places=60, boxes=20, classes=3)
    found = match(answers, target_NM5, classes=3)
    order_ND = np.argsort(-answers[1], axis=1, kind="stable")
    boxes_ND4, labels_ND = np.take_along_axis(answers[0], order_ND[:, :, None], axis=1), found.labels_ND
    random = stream(seed, "scores")
    shape = labels_ND.shape
    logits_ND = np.where(found.right_TND[0], random.normal(*right, shape), random.normal(*wrong, shape))
    return (boxes_ND4, 1 / (1 + np.exp(-logits_ND)), labels_ND), target_NM5


def difference(answers, target_NM5):
    """Of mAP 50 from bins."""
    matches = match(answers, target_NM5, classes=3)
    binned_BK = binned_average_precision(histogram(matches).sum(axis=0)[None], 3)
    return abs(mean_of_known(binned_BK)[0] - mean_of_known(average_precision(matches)[:, 0]))


@pytest.mark.parametrize("seed", range(5))
def test_bins_lose_less_than_a_hundredth_on_random_scores(seed):
    assert difference(*drawn(seed, images=87, places=60, boxes=20, classes=3)) < 0.01


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("right", "wrong"),
    [((4, 2.5), (-2, 2)), ((0, 1), (-2, 1)), ((-3, 0.8), (-4, 0.5))],
    ids=["sure", "hesitant", "beginning"],
)
def test_bins_lose_less_than_a_hundredth_on_scores_as_detectors_have_them(right, wrong, seed):
    assert difference(*sure_of_itself(seed, right=right, wrong=wrong)) < 0.01


@pytest.mark.parametrize(
    ("right", "wrong"), [((-4, 0.3), (-4.6, 0.3)), ((7, 2), (2, 4))], ids=["first steps", "all sure"]
)
def test_bins_lose_little_where_scores_crowd(right, wrong):
    assert difference(*sure_of_itself(0, right=right, wrong=wrong)) < 0.04


def test_bins_are_exact_where_each_score_has_a_bin_of_its_own():
    answers, target = one_class([1.0, 0.0, 1.0], [0.9, 0.7, 0.5], true=3)
    matches = match(answers, target, classes=1)

    binned_BK = binned_average_precision(histogram(matches).sum(axis=0)[None], 1)

    # Recalls to 1/3: precision 1, 34 of them. To 2/3: precision falls to 1/2 within the wrong answer's bin and rises to 2/3.
    assert binned_BK[0, 0] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert average_precision(matches)[0, 0] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)


def test_a_score_of_a_half_begins_the_upper_half_of_the_bins():
    assert bins(np.array([0.0, 0.4999, 0.5, 1.0])).tolist() == [0, BINS // 2 - 1, BINS // 2, BINS - 1]


def test_a_score_that_is_not_a_number_is_no_error():
    """The loop names the faulty image: the tally must not be first."""
    assert bins(np.array([np.nan])).tolist() == [0]


def test_sets_of_images_are_measured_each_for_itself():
    answers, target_NM5 = drawn(0, images=10, places=20, boxes=8, classes=3)
    tally_NQ = histogram(match(answers, target_NM5, classes=3))

    together = binned_average_precision(np.stack([tally_NQ[:5].sum(axis=0), tally_NQ[5:].sum(axis=0)]), 3)

    np.testing.assert_allclose(together[0], binned_average_precision(tally_NQ[:5].sum(axis=0)[None], 3)[0])
    np.testing.assert_allclose(together[1], binned_average_precision(tally_NQ[5:].sum(axis=0)[None], 3)[0])
