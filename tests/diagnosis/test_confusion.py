from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.diagnosis.confusion import class_scores, confusion_matrix, most_confused
from trainwright.diagnosis.stats import wilson

CLASSES = ("cat", "dog", "owl")
MATRIX = np.array([[8, 2, 0], [1, 9, 0], [4, 0, 0]])


def test_rows_are_the_truth_and_columns_the_prediction() -> None:
    matrix = confusion_matrix(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]), 3)

    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=40))
def test_every_image_is_counted_once(pairs: list[tuple[int, int]]) -> None:
    target, predicted = np.array(pairs, dtype=np.int64).reshape(-1, 2).T

    matrix = confusion_matrix(target, predicted, 4)

    assert matrix.sum(axis=1).tolist() == np.bincount(target, minlength=4).tolist()
    assert matrix.sum(axis=0).tolist() == np.bincount(predicted, minlength=4).tolist()


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^confusion_matrix: expected classes 0 to 1, got -1 to 1$"):
        confusion_matrix(np.array([0, 1]), np.array([-1, 1]), 2)


def test_targets_without_a_prediction_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^confusion_matrix: expected one prediction a target, got shapes \(2,\), \(1,\)$"
    ):
        confusion_matrix(np.array([0, 1]), np.array([1]), 2)


def test_recall_is_of_the_truths_and_precision_of_the_answers() -> None:
    cat, _, _ = class_scores(MATRIX, CLASSES)

    assert (cat.name, cat.count, cat.recall) == ("cat", 10, wilson(8, 10))
    assert (cat.precision, cat.f1) == pytest.approx((8 / 13, 16 / 23))


def test_a_class_that_is_never_answered_has_no_precision_and_f1_zero() -> None:
    owl = class_scores(MATRIX, CLASSES)[2]

    assert math.isnan(owl.precision)
    assert (owl.recall.value, owl.f1) == (0.0, 0.0)


def test_a_class_without_images_has_an_unknown_recall() -> None:
    absent = class_scores(np.zeros((1, 1), dtype=np.int64), ("cat",))[0]

    assert math.isnan(absent.recall.value)


def test_the_most_confused_pairs_come_first_and_pairs_that_never_occur_not_at_all() -> None:
    pairs = most_confused(MATRIX, CLASSES)

    assert [(pair.truth, pair.prediction, pair.count, pair.share) for pair in pairs] == [
        ("owl", "cat", 4, 1.0),
        ("cat", "dog", 2, 0.2),
        ("dog", "cat", 1, 0.1),
    ]
