"""Two sets of images: the same distribution is not told apart, another one is. On handwritten digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from trainwright.diagnosis.shift import (
    Shift,
    counts_of,
    image_statistics,
    label_shift,
    matched,
    two_sample_test,
)
from trainwright.records import Interval

HALVES = 12


@pytest.fixture(scope="module")
def digits():
    """(uint8 [1797, 32, 32, 3], class [1797], figures [1797, F])."""
    source = load_digits()
    grey_NHW = np.rint(source.images * (255 / 16)).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    images_NHWC = np.repeat(grey_NHW[..., None], 3, axis=3)
    return images_NHWC, source.target, image_statistics(images_NHWC)


def split(count, seed, share=0.2):
    order = np.random.Generator(np.random.Philox(seed)).permutation(count)
    return order[round(share * count) :], order[: round(share * count)]


def test_random_splits_are_never_called_shifted_and_nearly_always_cleared(digits):
    _, _, figures = digits

    answers = []
    for seed in range(HALVES):
        train, val = split(len(figures), seed)
        answers.append(
            Shift(auc=two_sample_test(figures[train], figures[val]), images=(len(train), len(val))).of_images
        )

    assert answers.count("yes") == 0
    assert answers.count("no") >= HALVES - 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda images: (images * 0.8).astype(np.uint8), id="darker"),
        pytest.param(lambda images: images // 2 + np.roll(images, 1, axis=2) // 2, id="blurred"),
        pytest.param(lambda images: np.maximum(images, 12), id="another black"),
        pytest.param(lambda images: (images * [1.0, 0.9, 0.8]).astype(np.uint8), id="another colour"),
    ],
)
def test_another_camera_is_found(digits, other):
    images, _, figures = digits
    train, val = split(len(figures), 0)

    auc = two_sample_test(figures[train], image_statistics(other(images[val])))

    assert Shift(auc=auc, images=(len(train), len(val))).of_images == "yes"


def test_a_balance_of_classes_that_differs_is_not_taken_for_other_images(digits):
    _, classes, figures = digits
    train, val = split(len(figures), 0, share=0.5)
    val = val[(classes[val] < 5) | (np.arange(len(val)) % 5 == 0)]  # a fifth of the upper half
    of_train, of_val = classes[train].astype(str).tolist(), classes[val].astype(str).tolist()

    first, second = matched(of_train, of_val)
    auc = two_sample_test(figures[train[first]], figures[val[second]])
    shares = label_shift(counts_of(of_train, list("0123456789")), counts_of(of_val, list("0123456789")))

    assert auc.high < 0.6
    assert shares.low > 0.1  # it is what differs


def test_matched_images_have_equal_shares_of_each_class():
    first, second = matched(["a"] * 90 + ["b"] * 30, ["a"] * 10 + ["b"] * 10 + ["c"] * 10)

    assert (first < 90).sum() == (first >= 90).sum() == 30
    assert (second < 10).sum() == (second >= 10).sum() == 10


def test_sets_without_a_class_in_common_cannot_be_matched():
    first, second = matched(["a"] * 30, ["b"] * 30)

    assert len(first) == len(second) == 0


def test_shares_of_classes_that_differ_by_chance_count_as_none():
    rng = np.random.Generator(np.random.Philox(1))

    found = [label_shift(rng.multinomial(1000, [0.1] * 10), rng.multinomial(200, [0.1] * 10)) for _ in range(20)]

    assert max(interval.low for interval in found) < 0.1
    assert np.mean([interval.low == 0 for interval in found]) >= 0.9


def test_shares_of_classes_that_differ_are_measured():
    found = label_shift(np.array([5000, 5000]), np.array([800, 200]))

    assert found.low < 0.3 < found.high
    assert found.low > 0.25


def test_sets_that_are_told_apart_perfectly_still_have_doubt():
    images = np.zeros((30, 8, 8, 3), np.uint8)
    rng = np.random.Generator(np.random.Philox(0))

    auc = two_sample_test(
        image_statistics(images + rng.integers(0, 9, images.shape).astype(np.uint8)),
        image_statistics(images + rng.integers(100, 200, images.shape).astype(np.uint8)),
    )

    assert auc.value == 1.0
    assert 0.8 < auc.low < 1.0


def test_copies_of_one_image_count_as_one():
    rng = np.random.Generator(np.random.Philox(0))
    first, second = rng.normal(size=(40, 3)), rng.normal(0.8, 1, size=(40, 3))
    groups = np.arange(40), np.arange(40, 80)

    alone = two_sample_test(first, second, groups)
    copied = two_sample_test(
        first.repeat(5, axis=0), second.repeat(5, axis=0), (groups[0].repeat(5), groups[1].repeat(5))
    )

    assert copied.high - copied.low == pytest.approx(alone.high - alone.low, rel=0.25)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="expected 20 images a side, got 19, 50"):
        two_sample_test(np.zeros((19, 2)), np.zeros((50, 2)))


def test_how_many_images_would_tell_falls_with_the_square_of_the_distance():
    near = Shift(auc=Interval(value=0.58, low=0.53, high=0.63), images=(100, 100))
    far = Shift(auc=Interval(value=0.56, low=0.51, high=0.61), images=(100, 100))

    assert near.images_that_would_tell == 625
    assert far.images_that_would_tell == 157  # ⌈100 · (0.05 / 0.04)²⌉, rounding up 156.25
    assert far.of_images == "cannot-tell"
