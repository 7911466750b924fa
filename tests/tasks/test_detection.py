"""Detection scores what it says: mAP 50 of the answers, F1 of an image, and pictures with the boxes in them."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from trainwright.batch import Detections
from trainwright.errors import UsageError
from trainwright.plugins import losses, tasks
from trainwright.recipe import LossSpec
from trainwright.records import Answers, TargetInfo

INFO = TargetInfo(names=("red", "white", "platelet"))
BOX, ELSEWHERE = [2.0, 2.0, 22.0, 22.0], [40.0, 40.0, 60.0, 60.0]
NOTHING = [-1.0, 0.0, 0.0, 0.0, 0.0]


@pytest.fixture
def task():
    return tasks.get("detection")(INFO, losses.get("own")(LossSpec(name="own")))


def detections(boxes, scores, labels, loss=None):
    return Detections(
        boxes_NM4=torch.tensor(boxes, dtype=torch.float32),
        scores_NM=torch.tensor(scores, dtype=torch.float32),
        labels_NM=torch.tensor(labels),
        loss_N=None if loss is None else torch.tensor(loss),
    )


def target_of(*images):
    return torch.tensor(images, dtype=torch.float32)


def answers_of(task, outputs, target):
    return task.answers(outputs, target, np.arange(len(outputs.scores_NM)))


def random_outputs(images=20, places=30, boxes=8):
    """Answers around true boxes, some of them off, some of another class; the last image has neither."""
    generator = torch.Generator().manual_seed(0)
    left_top = 60 * torch.rand(images, boxes, 2, generator=generator)
    target = torch.cat([left_top, left_top + 5 + 30 * torch.rand(images, boxes, 2, generator=generator)], dim=2)
    classes = torch.randint(-1, 3, (images, boxes), generator=generator)
    near = torch.randint(0, boxes, (images, places), generator=generator)
    found = target.gather(1, near[:, :, None].expand(-1, -1, 4)) + 2 * torch.randn(
        images, places, 4, generator=generator
    )
    labels = classes.gather(1, near).where(torch.rand(images, places, generator=generator) < 0.8, torch.tensor(1))
    classes[-1], labels[-1] = -1, -1
    scores = torch.rand(images, places, generator=generator) * (labels >= 0)
    outputs = Detections(boxes_NM4=found, scores_NM=scores, labels_NM=labels, loss_N=torch.rand(images))
    return outputs, torch.cat([classes[:, :, None].float(), target], dim=2)


# Loss


def test_the_loss_is_the_networks_own(task):
    loss_N, _ = task.loss(
        detections([[BOX]] * 2, [[0.9]] * 2, [[0]] * 2, [1.5, 2.5]), target_of([[0, *BOX]], [[0, *BOX]])
    )

    assert loss_N.tolist() == [1.5, 2.5]


def test_a_network_without_a_loss_of_its_own_is_told_what_is_missing(task):
    with pytest.raises(UsageError) as caught:
        task.loss(detections([[BOX]], [[0.9]], [[0]]), target_of([[0, *BOX]]))

    assert str(caught.value) == (
        "loss.name: the loss 'own' is the network's, and this one gave Detections without a loss. "
        "A network of yours for detection has takes_target = True and returns Detections with loss_N."
    )


def test_an_answer_that_is_not_a_number_raises_no_warning(task):
    """The loop names the faulty image: the tally must not be first."""
    outputs = detections([[[math.nan] * 4]], [[math.nan]], [[0]], [math.nan])

    loss_N, _ = task.loss(outputs, target_of([[0, *BOX]]))

    assert math.isnan(loss_N.item())


def test_the_tally_of_a_training_is_that_of_an_evaluation(task):
    outputs, target = random_outputs()

    _, tally_NQ = task.loss(outputs, target)

    np.testing.assert_array_equal(tally_NQ.numpy(), task.scores(answers_of(task, outputs, target)).tally)


# Answers


def test_answers_have_a_hundred_places_the_surest_first(task):
    outputs = detections([[ELSEWHERE, BOX]], [[0.2, 0.9]], [[1, 0]])

    columns = answers_of(task, outputs, None).columns

    assert list(columns) == ["boxes", "scores", "labels"]
    assert columns["boxes"].shape == (1, 100, 4)
    assert columns["boxes"][0, :3].tolist() == [BOX, ELSEWHERE, [0.0] * 4]
    assert columns["scores"][0, :3].tolist() == pytest.approx([0.9, 0.2, 0.0])
    assert columns["labels"][0, :3].tolist() == [0, 1, -1]


def test_of_more_answers_the_hundred_surest_are_kept(task):
    scores = np.linspace(0.1, 0.9, 150).tolist()

    columns = answers_of(task, detections([[BOX] * 150], [scores], [[0] * 150]), None).columns

    assert columns["scores"][0, [0, -1]].tolist() == pytest.approx([scores[149], scores[50]])


# Scores


def test_the_score_is_that_of_torchmetrics(task):
    outputs, target = random_outputs()
    metric = MeanAveragePrecision(backend="faster_coco_eval", class_metrics=True)
    columns = zip(outputs.boxes_NM4, outputs.scores_NM, outputs.labels_NM, strict=True)
    metric.update(
        [{"boxes": b[k >= 0], "scores": s[k >= 0], "labels": k[k >= 0]} for b, s, k in columns],
        [{"boxes": t[t[:, 0] >= 0, 1:], "labels": t[t[:, 0] >= 0, 0].long()} for t in target],
    )
    theirs = metric.compute()

    scores = task.scores(answers_of(task, outputs, target))

    assert scores.score == pytest.approx(theirs["map_50"].item(), abs=1e-6)
    assert scores.metrics["mAP 50:95"] == pytest.approx(theirs["map"].item(), abs=1e-6)
    assert 0.1 < scores.score < 0.9
    assert scores.loss == pytest.approx(outputs.loss_N.mean().item(), rel=1e-6)


def test_a_class_without_true_boxes_is_left_out_of_the_mean(task):
    outputs = detections([[BOX, ELSEWHERE]], [[0.9, 0.8]], [[0, 2]], [1.0])

    scores = task.scores(answers_of(task, outputs, target_of([[0, *BOX], [1, *ELSEWHERE]])))

    assert scores.per_class == {"red": 1.0, "white": 0.0}
    assert scores.score == 0.5


def test_the_score_of_images_without_boxes_is_not_known(task):
    outputs = detections([[BOX]], [[0.9]], [[0]], [1.0])

    scores = task.scores(answers_of(task, outputs, target_of([NOTHING])))

    assert math.isnan(scores.score)
    assert math.isnan(task.measures(scores.tally.sum(axis=0)[None])["score"][0])


def test_an_image_has_the_f1_of_its_sure_answers(task):
    """Right and one box missed; right and one wrong; an unsure one that does not count; nothing asked, nothing said."""
    empty, far = [0.0] * 4, [70.0, 0.0, 80.0, 10.0]
    outputs = detections(
        [[BOX, empty], [BOX, far], [BOX, empty], [empty, empty]],
        [[0.9, 0.0], [0.9, 0.6], [0.4, 0.0], [0.0, 0.0]],
        [[0, -1], [0, 0], [0, -1], [-1, -1]],
        [1.0] * 4,
    )
    target = target_of([[0, *BOX], [0, *ELSEWHERE]], [[0, *BOX], NOTHING], [[0, *BOX], NOTHING], [NOTHING, NOTHING])

    scores = task.scores(answers_of(task, outputs, target))

    assert scores.per_image.tolist() == pytest.approx([2 / 3, 2 / 3, 0.0, 1.0])
    assert scores.metrics["precision"] == pytest.approx(2 / 3)
    assert scores.metrics["recall"] == pytest.approx(2 / 4)


def test_without_a_loss_in_the_answers_the_loss_is_not_known(task):
    assert math.isnan(task.scores(answers_of(task, detections([[BOX]], [[0.9]], [[0]]), target_of([[0, *BOX]]))).loss)


def test_measures_of_the_tallies_are_near_the_exact_score(task):
    scores = task.scores(answers_of(task, *random_outputs()))

    measured = task.measures(scores.tally.sum(axis=0)[None])

    assert measured["score"][0] == pytest.approx(scores.score, abs=0.01)
    assert set(measured) == {"score", "class.red", "class.white", "class.platelet"}


# What a person sees


def test_boxes_are_said_by_class_the_surest_first_and_hardly_any_unsure_ones(task):
    outputs = detections([[ELSEWHERE, BOX, BOX]], [[0.25, 0.75, 0.01]], [[1, 0, 2]])

    assert task.say(answers_of(task, outputs, None)) == [
        {
            "boxes": [
                {"label": "red", "score": 0.75, "box": BOX},
                {"label": "white", "score": 0.25, "box": ELSEWHERE},
            ]
        }
    ]


def test_boxes_are_painted_into_the_picture_and_not_into_the_image(task):
    images_NHWC = np.full((1, 160, 160, 3), 100, dtype=np.uint8)
    outputs = detections([[BOX, ELSEWHERE]], [[0.9, 0.1]], [[0, 0]])

    (tile,) = task.tiles(answers_of(task, outputs, None), images_NHWC)

    assert (tile.title, tile.good) == ("1 red", None)
    assert tile.image_HWC[2, 10].tolist() == [0xE6, 0x9F, 0x00]  # the upper edge, in the colour of the first class
    assert (tile.image_HWC[40:, 40:] == 100).all()  # too unsure to be drawn
    assert (images_NHWC == 100).all()


def test_true_boxes_are_painted_black_and_white_with_the_f1(task):
    images_NHWC = np.full((2, 160, 160, 3), 100, dtype=np.uint8)
    outputs = detections([[BOX], [BOX]], [[0.9], [0.9]], [[0], [0]])

    right, wrong = task.tiles(answers_of(task, outputs, target_of([[0, *BOX]], [[0, *ELSEWHERE]])), images_NHWC)

    assert [(tile.title, tile.good) for tile in (right, wrong)] == [("F1 1.00", True), ("F1 0.00", False)]
    assert {tuple(pixel) for pixel in wrong.image_HWC[40, 40:60].tolist()} == {(0, 0, 0), (255, 255, 255)}


def test_a_small_image_is_enlarged_so_that_lines_do_not_hide_it(task):
    images_NHWC = np.full((1, 40, 64, 3), 100, dtype=np.uint8)
    outputs = detections([[BOX]], [[0.9]], [[0]])

    (tile,) = task.tiles(answers_of(task, outputs, None), images_NHWC)

    assert tile.image_HWC.shape == (120, 192, 3)
    painted = np.argwhere((tile.image_HWC == [0xE6, 0x9F, 0x00]).all(axis=2))
    left, top, right, bottom = (3 * side for side in BOX)
    assert [painted[:, 1].min(), painted[:, 0].min()] == [left, top]
    assert [painted[:, 1].max(), painted[:, 0].max()] == [right - 1, bottom - 1]


def test_boxes_outside_the_image_and_without_area_can_be_painted(task):
    images_NHWC = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    outputs = detections([[[-50.0, -50.0, 90.0, 90.0], [8.0, 8.0, 8.0, 8.0]]], [[0.9, 0.9]], [[0, 1]])

    (tile,) = task.tiles(answers_of(task, outputs, target_of([[0, 5, 5, 5, 5]])), images_NHWC)

    assert (tile.image_HWC.shape, tile.image_HWC.dtype) == ((160, 160, 3), np.uint8)


def test_the_chart_is_the_average_precision_of_each_class(task):
    outputs = detections([[BOX]], [[0.9]], [[0]])

    (chart,) = task.charts(answers_of(task, outputs, target_of([[0, *BOX], [1, *ELSEWHERE]])))

    assert (chart.values, chart.label) == ({"red": 1.0, "white": 0.0}, "AP 50")


def test_answers_of_two_batches_are_those_of_one(task):
    outputs, target = random_outputs()
    halves = [
        answers_of(
            task,
            Detections(
                boxes_NM4=outputs.boxes_NM4[part],
                scores_NM=outputs.scores_NM[part],
                labels_NM=outputs.labels_NM[part],
            ),
            target[part],
        )
        for part in (slice(0, 9), slice(9, 20))
    ]
    joined = Answers(
        rows=np.arange(20),
        columns={name: np.concatenate([half.columns[name] for half in halves]) for name in halves[0].columns},
    )

    assert task.scores(joined).score == task.scores(answers_of(task, outputs, target)).score
