"""When two sets of answers agree."""

import numpy as np
import pytest

from trainwright.deploy.agreement import ROUNDED, agreement
from trainwright.errors import UsageError
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


def test_boxes_that_nobody_says_decide_nothing():
    found = agreement(task_named("detection"), boxes(), boxes((BOX, 0.04, 0)))

    assert (found.share, found.decided) == (1, 0)


def test_as_many_decisions_are_counted_as_there_are():
    of_classes = {"probabilities": np.array([[0.9, 0.1], [0.6, 0.4]])}
    of_pixels = {"masks": np.zeros((2, 4, 5), np.uint8)}
    of_boxes = boxes((BOX, 0.8, 0))

    assert agreement(task_named("classification"), of_classes, of_classes).decided == 2
    assert agreement(task_named("segmentation"), of_pixels, of_pixels).decided == 40
    assert agreement(task_named("detection"), of_boxes, of_boxes).decided == 2  # each side looks for that of the other


def test_a_model_that_knows_one_answer_is_seen_through():
    always = {"probabilities": np.array([[0.9, 0.1], [0.6, 0.4]])}
    both = {"probabilities": np.array([[0.9, 0.1], [0.4, 0.6]])}
    of_pixels = {"masks": np.ones((2, 4, 5), np.uint8)}

    assert agreement(task_named("classification"), always, always).alone == "a"
    assert agreement(task_named("classification"), both, both).alone is None
    assert agreement(task_named("segmentation"), of_pixels, of_pixels).alone == "b"
    assert agreement(task_named("segmentation", names=("cell",)), of_pixels, of_pixels).alone is None


def test_one_number_that_is_none_is_told_however_many_there_are():
    task = task_named("regression", names=("year",), mean=(2000.0,), std=(50.0,))
    ours = {"values": np.full((5000, 1), 2000.0)}
    theirs = {"values": ours["values"].copy()}
    theirs["values"][7] = np.nan

    found = agreement(task, ours, theirs)

    assert found.share == pytest.approx(0.9998)
    assert not found.finite
    assert agreement(task, ours, ours).finite


def test_where_one_side_was_rounded_probabilities_decide_and_no_near_tie():
    ours = {"probabilities": np.array([[0.51, 0.49], [0.9, 0.1]])}
    theirs = {"probabilities": np.array([[0.48, 0.52], [0.7, 0.3]])}

    found = agreement(task_named("classification"), ours, theirs, ROUNDED)

    assert (found.by_image.tolist(), found.allowed) == ([1, 0], None)
    assert found.of == "images with the same probabilities, within 0.1"


def test_answers_that_nobody_knows_how_to_compare_are_refused_with_what_would_do():
    task = task_named("classification")

    with pytest.raises(
        UsageError, match=r"whose columns are angle\. Let its answers .* boxes, masks, values, probabilities"
    ):
        agreement(task, {"angle": np.zeros(3)}, {"angle": np.zeros(3)})
    with pytest.raises(
        UsageError, match=r"does not say 'probabilities', by which it decides, but p\. .*served\(outputs\)"
    ):
        agreement(task, {"probabilities": np.zeros((3, 2))}, {"p": np.zeros((3, 2))})
