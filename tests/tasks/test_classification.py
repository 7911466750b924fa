"""Classification scores what it says: accuracy and cross-entropy, as scikit-learn counts them."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from trainwright.optim.losses import build_loss
from trainwright.plugins import tasks
from trainwright.recipe import LossSpec
from trainwright.records import Answers, TargetInfo
from trainwright.tasks.classification import Classification

CLASSES = ("ant", "bee", "cat", "dog")
LOGITS_NK = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
TARGET_N = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(1))
ROWS_N = np.arange(100, 150)


@pytest.fixture
def task():
    return tasks.get("classification")(
        TargetInfo(names=CLASSES), build_loss(LossSpec(label_smoothing=0.1), Classification.losses)
    )


def answers_of(probabilities, target):
    return Answers(
        rows=np.arange(len(target)),
        columns={"probabilities": np.array(probabilities, dtype=np.float32), "target": np.array(target)},
    )


def test_a_class_has_an_output(task):
    assert task.outputs == 4
    assert task.metric == "accuracy"


def test_loss_and_score_are_those_of_each_image(task):
    """The loss is what the recipe asks for, smoothed; the score is 1 for right and 0 for wrong."""
    outputs = torch.tensor([[9.0, 0, 0, 0], [0, 9.0, 0, 0], [0, 0, 0, 9.0]])
    target = torch.tensor([0, 0, 3])

    loss_N, tally_NQ = task.loss(outputs, target)

    torch.testing.assert_close(
        loss_N, build_loss(LossSpec(label_smoothing=0.1), Classification.losses)(outputs, target)
    )
    assert tally_NQ.tolist() == [[1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]


def test_the_score_passes_no_gradient_on(task):
    outputs = torch.zeros(2, 4, requires_grad=True)

    loss_N, tally_NQ = task.loss(outputs, torch.tensor([0, 1]))

    assert loss_N.requires_grad
    assert not tally_NQ.requires_grad


def test_answers_are_probabilities_with_target_and_rows(task):
    answers = task.answers(LOGITS_NK, TARGET_N, ROWS_N)

    assert answers.rows is ROWS_N
    assert answers.columns["probabilities"].dtype == np.float32
    np.testing.assert_allclose(answers.columns["probabilities"].sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(answers.columns["target"], TARGET_N.numpy())


def test_answers_without_a_target_have_none(task):
    assert list(task.answers(LOGITS_NK, None, ROWS_N).columns) == ["probabilities"]


def test_answers_of_half_precision_outputs_are_taken_in_full_precision(task):
    answers = task.answers(LOGITS_NK.bfloat16(), TARGET_N, ROWS_N)

    np.testing.assert_allclose(answers.columns["probabilities"].sum(axis=1), 1.0, rtol=1e-6)


def test_accuracy_and_loss_are_scikit_learns(task):
    answers = task.answers(LOGITS_NK, TARGET_N, ROWS_N)
    probabilities_NK = answers.columns["probabilities"].astype(np.float64)

    scores = task.scores(answers)

    assert scores.score == accuracy_score(TARGET_N, LOGITS_NK.argmax(dim=1))
    normalized_NK = probabilities_NK / probabilities_NK.sum(axis=1, keepdims=True)
    assert scores.loss == pytest.approx(log_loss(TARGET_N, normalized_NK, labels=range(4)), rel=1e-6)


def test_the_loss_of_an_evaluation_is_not_smoothed(task):
    """So that recipes with and without label smoothing can be compared."""
    scores = task.scores(answers_of([[0.5, 0.5, 0, 0], [0.25, 0.75, 0, 0]], [0, 0]))

    assert scores.loss == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_per_image_scores_average_to_the_score(task):
    scores = task.scores(task.answers(LOGITS_NK, TARGET_N, ROWS_N))

    assert set(scores.per_image.tolist()) == {0.0, 1.0}
    assert scores.per_image.mean() == scores.score


def test_each_class_has_its_share_of_its_own_images():
    task = Classification(TargetInfo(names=CLASSES), build_loss(LossSpec(), Classification.losses))
    one_hot = np.eye(4)[[0, 1, 0, 1, 1, 1, 2]]

    scores = task.scores(answers_of(one_hot, [0, 0, 0, 1, 1, 2, 2]))

    assert scores.per_class == {"ant": pytest.approx(2 / 3), "bee": 1.0, "cat": 0.5}
    assert scores.score == pytest.approx(5 / 7)


def test_certainty_of_the_wrong_class_costs_much_and_not_infinity(task):
    scores = task.scores(answers_of([[1.0, 0.0, 0.0, 0.0]], [1]))

    assert math.isfinite(scores.loss)
    assert scores.loss > 80


# Tallies


def test_the_score_of_any_set_of_images_follows_from_its_summed_tallies(task):
    """Of the tallies of training, right and counted, and of those of an evaluation, which know the classes."""
    scores = task.scores(task.answers(LOGITS_NK, TARGET_N, ROWS_N))
    _, tally_NQ = task.loss(LOGITS_NK, TARGET_N)
    sums_BQ = np.stack([scores.tally.sum(axis=0), scores.tally[:9].sum(axis=0)])

    found = task.measures(sums_BQ)

    np.testing.assert_allclose(found["score"], [scores.score, scores.per_image[:9].mean()])
    assert {name: found[f"class.{name}"][0] for name in CLASSES} == pytest.approx(scores.per_class)
    assert task.measures(tally_NQ.sum(dim=0, keepdim=True).numpy())["score"] == pytest.approx(scores.score)


def test_a_class_without_an_image_has_no_accuracy(task):
    scores = task.scores(answers_of([[1.0, 0, 0, 0]], [0]))

    found = task.measures(scores.tally)

    assert found["class.ant"] == 1.0
    assert np.isnan(found["class.bee"])


# What is said and shown


def test_it_says_the_label_and_the_probability_of_each_class(task):
    (said,) = task.say(answers_of([[0.25, 0.75, 0, 0]], [1]))

    assert said == {
        "label": "bee",
        "probability": 0.75,
        "probabilities": {"ant": 0.25, "bee": 0.75, "cat": 0.0, "dog": 0.0},
    }


def test_a_tile_says_what_was_taken_for_what(task):
    images_NHWC = np.zeros((2, 4, 4, 3), dtype=np.uint8)

    right, wrong = task.tiles(answers_of([[0.25, 0.75, 0, 0], [1.0, 0, 0, 0]], [1, 3]), images_NHWC)

    assert (right.title, right.good) == ("bee 75 %", True)
    assert (wrong.title, wrong.good) == ("ant 100 %\nis dog", False)


def test_the_chart_is_the_confusion_matrix(task):
    (chart,) = task.charts(answers_of(np.eye(4)[[0, 1, 1, 3]], [0, 0, 1, 3]))

    assert chart.classes == CLASSES
    np.testing.assert_array_equal(chart.matrix, [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
