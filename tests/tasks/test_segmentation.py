"""Segmentation scores what it says: mean IoU over the pixels of all images, as torchmetrics and scikit-learn count it."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from trainwright.optim.losses import build_loss
from trainwright.plugins import tasks
from trainwright.recipe import LossSpec
from trainwright.records import Answers, TargetInfo
from trainwright.tasks.segmentation import Segmentation, palette

CLASSES = ("sky", "road", "car", "tram")  # no tram anywhere
IMAGES, SIZE = 40, (6, 9)
GENERATOR = torch.Generator().manual_seed(0)
OUTPUTS_NKHW = torch.randn(IMAGES, 4, *SIZE, generator=GENERATOR) - torch.tensor([0, 0, 0, 99.0]).view(1, 4, 1, 1)
TARGET_NHW = torch.randint(0, 3, (IMAGES, *SIZE), generator=GENERATOR).to(torch.uint8)
TARGET_NHW[torch.rand(IMAGES, *SIZE, generator=GENERATOR) < 0.2] = 255
TARGET_NHW[0, TARGET_NHW[0] == 2] = 1
ROWS_N = np.arange(100, 100 + IMAGES)


@pytest.fixture
def task():
    return tasks.get("segmentation")(TargetInfo(names=CLASSES), build_loss(LossSpec(), Segmentation.losses))


@pytest.fixture
def answers(task):
    return task.answers(OUTPUTS_NKHW, TARGET_NHW, ROWS_N)


def answers_of(masks, target):
    """Answers of given masks, loss 0."""
    columns = {"masks": np.array(masks, dtype=np.uint8), "target": np.array(target, dtype=np.uint8)}
    return Answers(rows=np.arange(len(target)), columns=columns | {"loss": np.zeros(len(target), dtype=np.float32)})


def scored(answers):
    """(truth, answer) of all pixels that count."""
    truth, answer = answers.columns["target"].ravel(), answers.columns["masks"].ravel()
    return truth[truth != 255], answer[truth != 255]


def test_a_class_has_an_output(task):
    assert task.outputs == 4
    assert (task.metric, task.target, task.form) == ("mean IoU", "mask", "map")


# The score


def test_mean_iou_by_hand(task):
    """Of two images: sky 2 of 4 pixels, road 3 of 5, car 0 of 1, tram nowhere. The pixel of 255 does not count."""
    masks = [[[0, 0, 0, 1]], [[0, 1, 1, 1]]]
    target = [[[0, 0, 1, 255]], [[2, 1, 1, 1]]]

    scores = task.scores(answers_of(masks, target))

    assert scores.per_class == {"sky": pytest.approx(2 / 4), "road": pytest.approx(3 / 4), "car": 0.0}
    assert scores.score == pytest.approx((2 / 4 + 3 / 4 + 0) / 3)
    assert scores.metrics == {"pixel accuracy": pytest.approx(5 / 7)}
    np.testing.assert_allclose(scores.per_image, [(2 / 3 + 0) / 2, (0 + 1 + 0) / 3])


def test_mean_iou_is_that_of_torchmetrics(task, answers):
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(num_classes=4, average="macro", ignore_index=255)

    expected = metric(torch.from_numpy(answers.columns["masks"]).long(), TARGET_NHW.long())

    assert task.scores(answers).score == pytest.approx(float(expected), abs=1e-6)


def test_every_figure_is_that_of_scikit_learn(task, answers):
    truth, answer = scored(answers)
    of_class = jaccard_score(truth, answer, average=None, labels=[0, 1, 2])

    scores = task.scores(answers)

    assert scores.score == pytest.approx(jaccard_score(truth, answer, average="macro"), abs=1e-6)
    assert scores.metrics["pixel accuracy"] == pytest.approx(accuracy_score(truth, answer), abs=1e-6)
    assert list(scores.per_class) == ["sky", "road", "car"]
    np.testing.assert_allclose(list(scores.per_class.values()), of_class, atol=1e-6)


def test_each_image_has_the_mean_iou_of_its_own_pixels(task, answers):
    per_image = task.scores(answers).per_image

    for n in range(IMAGES):
        one = Answers(rows=ROWS_N[:1], columns={name: column[n : n + 1] for name, column in answers.columns.items()})
        assert per_image[n] == pytest.approx(jaccard_score(*scored(one), average="macro"), abs=1e-6)


@pytest.mark.parametrize("axis", [1, 2], ids=["upside down", "left to right"])
def test_the_score_does_not_change_when_answer_and_target_are_flipped(task, answers, axis):
    flipped = {
        name: np.flip(column, axis).copy() if column.ndim > 1 else column for name, column in answers.columns.items()
    }

    scores = task.scores(Answers(rows=ROWS_N, columns=flipped))

    np.testing.assert_array_equal(scores.tally, task.scores(answers).tally)


def test_a_perfect_answer_scores_1(task):
    target = np.where(TARGET_NHW.numpy() == 255, 255, TARGET_NHW.numpy())
    scores = task.scores(answers_of(np.minimum(target, 2), target))

    assert scores.score == 1.0
    np.testing.assert_array_equal(scores.per_image, 1.0)


def test_an_image_without_a_scored_pixel_adds_nothing(task, answers):
    columns = {name: column.copy() for name, column in answers.columns.items()}
    columns["target"][3] = 255

    scores = task.scores(Answers(rows=ROWS_N, columns=columns))

    assert not scores.tally[3].any()
    assert scores.per_image[3] == 1.0


def test_a_set_without_a_scored_pixel_has_no_score(task):
    scores = task.scores(answers_of([[[0, 1]]], [[[255, 255]]]))

    assert np.isnan(scores.score)
    assert scores.per_class == {}


# Tallies


def test_the_tallies_of_training_are_those_of_the_evaluation(task, answers):
    _, tally_NQ = task.loss(OUTPUTS_NKHW, TARGET_NHW)

    np.testing.assert_array_equal(tally_NQ.numpy(), task.scores(answers).tally)


def test_the_score_of_any_set_of_images_follows_from_its_summed_tallies(task, answers):
    scores, half = task.scores(answers), np.arange(0, IMAGES, 2)
    of_half = Answers(rows=ROWS_N[half], columns={name: column[half] for name, column in answers.columns.items()})

    found = task.measures(np.stack([scores.tally.sum(axis=0), scores.tally[half].sum(axis=0)]))

    np.testing.assert_allclose(found["score"], [scores.score, task.scores(of_half).score])
    np.testing.assert_allclose(found["class.road"], [scores.per_class["road"], task.scores(of_half).per_class["road"]])
    assert np.isnan(found["class.tram"]).all()
    assert set(found) == {"score", "pixel accuracy", *(f"class.{name}" for name in CLASSES)}


def test_many_images_are_counted_as_few_at_a_time(task, answers):
    """More than are counted at once; each image's tally is its own."""
    one = Answers(rows=ROWS_N[35:36], columns={name: column[35:36] for name, column in answers.columns.items()})

    np.testing.assert_array_equal(task.scores(answers).tally[35], task.scores(one).tally[0])


# Loss and answers


def test_the_loss_is_what_the_recipe_asks_for_and_the_tally_passes_no_gradient_on(task):
    outputs = OUTPUTS_NKHW.clone().requires_grad_()

    loss_N, tally_NQ = task.loss(outputs, TARGET_NHW)

    torch.testing.assert_close(
        loss_N, build_loss(LossSpec(name="dice+cross-entropy"), Segmentation.losses)(outputs, TARGET_NHW)
    )
    assert loss_N.requires_grad
    assert not tally_NQ.requires_grad


def test_answers_are_masks_with_target_loss_and_rows(task, answers):
    assert answers.rows is ROWS_N
    assert {name: (column.dtype.name, column.shape) for name, column in answers.columns.items()} == {
        "masks": ("uint8", (IMAGES, *SIZE)),
        "target": ("uint8", (IMAGES, *SIZE)),
        "loss": ("float32", (IMAGES,)),
    }
    np.testing.assert_array_equal(answers.columns["masks"], OUTPUTS_NKHW.argmax(dim=1).numpy())
    assert task.scores(answers).loss == pytest.approx(float(task.loss(OUTPUTS_NKHW, TARGET_NHW)[0].mean()), rel=1e-6)


def test_answers_without_a_target_are_masks_alone(task):
    assert list(task.answers(OUTPUTS_NKHW, None, ROWS_N).columns) == ["masks"]


# What is said and shown


def test_it_says_the_share_of_each_class_the_largest_first(task):
    said = task.say(Answers(rows=np.arange(1), columns={"masks": np.array([[[1, 1, 1, 0]]], dtype=np.uint8)}))

    assert said == [{"shares": {"road": 0.75, "sky": 0.25, "car": 0.0, "tram": 0.0}}]
    assert list(said[0]["shares"])[:2] == ["road", "sky"]


def test_a_tile_shows_answer_and_truth_beside_each_other(task):
    """White images, 0.6 of a class's colour over 0.4 of white; a pixel of 255 stays white."""
    images = np.full((2, 1, 2, 3), 255, dtype=np.uint8)
    painted = np.rint(0.4 * 255 + 0.6 * palette(2).astype(float))

    good, bad = task.tiles(answers_of([[[0, 1]], [[1, 1]]], [[[0, 255]], [[0, 0]]]), images)

    np.testing.assert_array_equal(good.image_HWC, [[painted[0], painted[1], painted[0], [255, 255, 255]]])
    assert (good.title, good.good) == ("IoU 1.00", True)
    assert (bad.title, bad.good) == ("IoU 0.00", False)


def test_a_tile_without_a_target_names_what_was_found(task):
    answers = Answers(rows=np.arange(1), columns={"masks": np.array([[[1, 1, 1, 0]]], dtype=np.uint8)})

    (tile,) = task.tiles(answers, np.zeros((1, 1, 4, 3), dtype=np.uint8))

    assert (tile.title, tile.good) == ("road 75 %, sky 25 %", None)
    assert tile.image_HWC.shape == (1, 4, 3)


def test_every_class_has_a_colour_of_its_own():
    colours = palette(255)

    assert colours.shape == (255, 3)
    assert len(np.unique(colours, axis=0)) == 255


def test_charts_are_iou_by_class_and_the_confusion_of_pixels(task, answers):
    bars, confusion = task.charts(answers)

    assert bars.values == task.scores(answers).per_class
    assert (bars.label, confusion.unit, confusion.classes) == ("IoU", "pixels", CLASSES)
    np.testing.assert_array_equal(confusion.matrix, confusion_matrix(*scored(answers), labels=range(4)))
