"""The floor that wrong labels put under the error, on real classifiers of handwritten digits."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from trainwright.diagnosis.labels import label_noise, suspects

TRAIN = 900


def answers(flipped: float, seed: int):
    """(out-of-sample probabilities [897, 10], given labels, right ones) where this share of all labels is wrong."""
    source = load_digits()
    rng = np.random.Generator(np.random.Philox(seed))
    order = rng.permutation(len(source.target))
    images, right = source.data[order] / 16, source.target[order]
    wrong = rng.random(len(right)) < flipped
    given = np.where(wrong, (right + rng.integers(1, 10, len(right))) % 10, right)
    model = LogisticRegression(C=0.1, max_iter=300).fit(images[:TRAIN], given[:TRAIN])
    return model.predict_proba(images[TRAIN:]), given[TRAIN:], right[TRAIN:]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clean_digits_are_cleared(seed):
    probabilities, given, _ = answers(0.0, seed)

    found = label_noise(probabilities, given)

    assert found.noisy == "no"
    assert found.rate.high < 0.03


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_fifth_of_wrong_labels_is_found_and_measured(seed):
    probabilities, given, right = answers(0.2, seed)

    found = label_noise(probabilities, given)

    assert found.noisy == "yes"
    assert found.rate.low <= (given != right).mean() + 0.02
    assert found.rate.high >= (given != right).mean() - 0.02


def test_a_network_that_hardly_knows_its_task_accuses_nobody():
    rng = np.random.Generator(np.random.Philox(0))
    given = rng.integers(0, 2, 1000)
    said = np.where(rng.random(1000) < 0.62, given, 1 - given)  # right on 62 %, and as sure of what it has wrong
    sure = rng.uniform(0.5, 1.0, 1000)
    probabilities = np.where(np.arange(2) == said[:, None], sure[:, None], 1 - sure[:, None])

    found = label_noise(probabilities, given)

    assert found.rate.low > 0.05
    assert found.skill < 0.5
    assert found.noisy == "cannot-tell"


def test_saying_the_most_frequent_class_is_no_skill():
    given = np.repeat([0, 1], [160, 40])
    probabilities = np.tile([0.8, 0.2], (200, 1))

    found = label_noise(probabilities, given)

    assert found.skill == pytest.approx(0.0)
    assert found.noisy == "cannot-tell"


def test_images_that_depend_on_each_other_widen_the_interval():
    probabilities, given, _ = answers(0.2, 0)

    alone, in_threes = label_noise(probabilities, given), label_noise(probabilities, given, units=len(given) // 3)

    assert in_threes.rate.high - in_threes.rate.low > alone.rate.high - alone.rate.low


def test_a_handful_of_images_tells_nothing():
    assert label_noise(np.full((59, 2), 0.5), np.zeros(59, dtype=int)) is None


def test_most_suspects_are_wrong_labels_and_most_wrong_labels_are_suspects():
    probabilities, given, right = answers(0.2, 0)

    found = suspects(probabilities, given)

    wrong = given != right
    assert wrong[found.order].mean() > 0.8
    assert wrong[found.order].sum() / wrong.sum() > 0.7
    assert (found.seems[:50] == right[found.order[:50]]).all()


def test_suspects_follow_the_confident_joint():
    # The mean probability of class 0 among images labelled 0 is 0.6, of class 1 among those labelled 1 is 0.5.
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.8, 0.2]])
    given = np.array([0, 0, 0, 1, 1])

    found = suspects(probabilities, given)

    assert found.order.tolist() == [2, 4]  # both confidently of the other class; the larger margin first
    assert found.seems.tolist() == [1, 0]
    assert found.margins == pytest.approx([0.8, 0.6])


def test_an_image_that_no_class_claims_is_no_suspect():
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.05, 0.95], [0.05, 0.95], [0.5, 0.5]])

    found = suspects(probabilities, np.array([0, 0, 1, 1, 0]))

    assert found.order.tolist() == []


def test_suspects_are_those_of_cleanlab():
    filtering = pytest.importorskip("cleanlab.filter")
    probabilities, given, _ = answers(0.2, 1)

    found = suspects(probabilities, given)
    theirs = filtering.find_label_issues(
        given, probabilities, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
    )

    assert found.order.tolist() == theirs.tolist()
