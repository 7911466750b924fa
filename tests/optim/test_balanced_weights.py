"""Weights of classes from how much of each there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from trainwright.errors import RecipeError
from trainwright.optim.losses import balanced_weights


def test_a_class_with_a_third_of_the_images_of_another_weighs_three_times_as_much():
    assert balanced_weights({"cat": 30, "dog": 10}, ["cat", "dog"]) == (40 / (2 * 30), 40 / (2 * 10))


def test_they_come_in_the_order_of_the_classes():
    assert balanced_weights({"dog": 10, "cat": 30}, ["cat", "dog"]) == (40 / (2 * 30), 40 / (2 * 10))


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=20))
def test_their_mean_over_the_data_is_1_and_every_class_has_the_same_part_of_it(counts):
    names = [str(k) for k in range(len(counts))]

    weights = np.array(balanced_weights(dict(zip(names, counts, strict=True)), names))

    np.testing.assert_allclose(weights * counts / sum(counts), 1 / len(counts))


def test_they_are_scikit_learns():
    target_N = np.array([0] * 7 + [1] * 2 + [2])

    weights = balanced_weights({"a": 7, "b": 2, "c": 1}, ["a", "b", "c"])

    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(3), y=target_N))


def test_classes_that_are_nowhere_are_refused_by_name():
    with pytest.raises(RecipeError) as caught:
        balanced_weights({"cat": 30, "dog": 0, "emu": 0}, ["cat", "dog", "emu"])

    assert str(caught.value) == (
        "loss.class_weights: balanced: nothing in train is dog, emu. "
        "Take what is never seen out of the classes, or give the weights as numbers."
    )
