"""When two sets of answers agree."""

import numpy as np
import pytest

from trainwright.deploy.agreement import agreement
from trainwright.optim.losses import build_loss
from trainwright.plugins import tasks
from trainwright.recipe import LossSpec
from trainwright.records import TargetInfo

BOX = [10.0, 10.0, 30.0, 30.0]


def task_named(name, names=("a", "b"), **info):
    kind = tasks.get(name)
    return kind(TargetInfo(names=names, **info), build_loss(LossSpec(), kind.losses))


def boxes(*said, places=3):
    """Of one image: (box, score, label) of each place, the others empty."""
    filled = [*said, *[([0.0] * 4, 0.0, -1)] * (places - len(said))]
    columns = zip(*filled, strict=True)
    return {key: np.array([value]) for key, value in zip(("boxes", "scores", "labels"), columns, strict=True)}


def test_images_with_the_same_class_agree():
    ours = {"probabilities": np.array([[0.9, 0.1], [0.6, 0.4]])}
    theirs = {"probabilities": np.array([[0.8, 0.2], [0.4, 0.6]])}

    found = agreement(task_named("classification"), ours, theirs)

    assert (found.share, found.by_image.tolist(), found.of) == (0.5, [1, 0], "images with the same class")
    assert found.largest == pytest.approx(0.2)
    assert (found.largest_of, found.allowed) == ("probability", 0.001)


def test_what_is_not_a_number_agrees_with_nothing():
    ours, theirs = (
        {"probabilities": np.array([[0.9, 0.1]])},
        {"probabilities": np.array([[np.nan, np.nan]])},
    )

    found = agreement(task_named("classification"), ours, theirs)

    assert (found.share, found.largest) == (0, np.inf)


def test_pixels_are_counted_one_by_one():
    ours = {"masks": np.zeros((2, 4, 5), np.uint8)}
    theirs = {"masks": ours["masks"].copy()}
    theirs["masks"][1, 0, 0] = 1

    found = agreement(task_named("segmentation"), ours, theirs)

    assert found.share == pytest.approx(39 / 40)
    assert found.by_image.tolist() == [1, 0.95]
    assert found.largest == pytest.approx(0.05)


def test_numbers_agree_within_a_thousandth_of_their_deviation():
    task = task_named("regression", names=("year",), mean=(2000.0,), std=(50.0,))
    ours = {"values": np.array([[1990.0], [2010.0]])}
    theirs = {"values": np.array([[1990.04], [2010.06]])}

    found = agreement(task, ours, theirs)

    assert found.by_image.tolist() == [1, 0]
    assert found.largest == pytest.approx(0.06 / 50)


def test_a_box_of_the_same_class_place_and_score_is_the_same():
    moved = [10.2, 10.0, 30.0, 30.0]

    found = agreement(task_named("detection"), boxes((BOX, 0.8, 0)), boxes((moved, 0.805, 0)))

    assert (found.share, found.largest) == (1, pytest.approx(0.2))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param((BOX, 0.8, 1), id="another class"),
        pytest.param((BOX, 0.7, 0), id="another score"),
        pytest.param(([14.0, 10.0, 34.0, 30.0], 0.8, 0), id="another place"),
    ],
)
def test_another_box_is_none_of_the_same(other):
    found = agreement(task_named("detection"), boxes((BOX, 0.8, 0)), boxes(other))

    assert found.share == 0


def test_a_box_too_many_is_a_disagreement_and_one_that_nobody_says_is_none():
    ours = boxes((BOX, 0.8, 0))
    other = [40.0, 40.0, 60.0, 60.0]

    too_many = agreement(task_named("detection"), ours, boxes((BOX, 0.8, 0), (other, 0.3, 0)))
    unsaid = agreement(task_named("detection"), ours, boxes((BOX, 0.8, 0), (other, 0.04, 0)))

    assert too_many.share == pytest.approx(2 / 3)
    assert unsaid.share == 1


def test_a_box_whose_score_crosses_what_is_said_is_still_the_same():
    found = agreement(task_named("detection"), boxes((BOX, 0.0501, 0)), boxes((BOX, 0.0499, 0)))

    assert found.share == 1


def test_images_without_any_box_agree():
    found = agreement(task_named("detection"), boxes(), boxes())

    assert (found.share, found.by_image.tolist()) == (1, [1])
