"""What every task keeps to, whoever adds it: found through the registry, examined alike."""

import itertools
import json

import numpy as np
import pytest
import torch

from trainwright import plugins
from trainwright.batch import Batch, Detections
from trainwright.errors import RecipeError
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import build_optimizer
from trainwright.recipe import LossSpec, NetworkSpec, OptimizerSpec
from trainwright.records import IGNORED, Answers, BarsChart, ConfusionChart, ResidualChart, TargetInfo
from trainwright.seeding import stream
from trainwright.training.evaluate import concatenate
from trainwright.training.loop import fit

CPU = torch.device("cpu")
TASKS, OPTIMIZERS = plugins.tasks.names(), plugins.optimizers.names()
IMAGES, SIZE = 12, (32, 48)
BOXES = 3  # of an image at most
BIN_ERROR = 0.03  # of mAP from bins of scores, on a dozen images; other tasks' tallies are exact
NETWORKS = {"vector": "small-resnet", "map": "small-unet", "boxes": "small-detector"}
STEPS = 40  # a detector's loss rises at first: the better its boxes, the more it is asked of
LRS = {"sgd": 0.03}  # others: 0.01
USUAL = ("adamw", "sgd")
COMBINATIONS = [
    *((task, optimizer, loss) for task in TASKS for loss in plugins.tasks.get(task).losses for optimizer in USUAL),
    *(("classification", optimizer, "cross-entropy") for optimizer in OPTIMIZERS if optimizer not in USUAL),
]


def info_of(kind):
    if kind == "numbers":
        return TargetInfo(names=("width", "height"), mean=(10.0, -5.0), std=(2.0, 3.0))
    return TargetInfo(names=("ant", "bee", "cat"))


def task_of(name, loss=None):
    build = plugins.tasks.get(name)
    return build(info_of(build.target), build_loss(LossSpec(name=loss), build.losses))


def target_of(kind, images=IMAGES):
    """Targets of every kind, with whatever the kind allows: ignored pixels, images without boxes."""
    generator = torch.Generator().manual_seed(1)
    if kind == "class":
        return torch.arange(images) % 3
    if kind == "numbers":
        info = info_of(kind)
        return torch.randn(images, 2, generator=generator) * torch.tensor(info.std) + torch.tensor(info.mean)
    if kind == "mask":
        mask_NHW = torch.randint(0, 3, (images, *SIZE), generator=generator, dtype=torch.uint8)
        mask_NHW[:, :4] = IGNORED
        return mask_NHW
    left_top = torch.tensor([28.0, 12.0]) * torch.rand(images, BOXES, 2, generator=generator)
    corners = torch.cat([left_top, left_top + 10 + 10 * torch.rand(images, BOXES, 2, generator=generator)], dim=2)
    classes = (torch.arange(images)[:, None] + torch.arange(BOXES)) % 3
    classes[1, 1:], classes[2] = -1, -1
    return torch.cat([classes[:, :, None].float(), corners], dim=2)


def outputs_of(task, images=IMAGES):
    """What a half-trained network could say, right now and then."""
    generator = torch.Generator().manual_seed(2)
    target = target_of(task.target, images)
    if task.form == "vector":
        return torch.randn(images, task.outputs, generator=generator)
    if task.form == "map":
        return torch.randn(images, task.outputs, *SIZE, generator=generator)
    boxes = torch.cat(
        [target[:, :, 1:], target[:, :, 1:] + 6 * torch.randn(images, BOXES, 4, generator=generator)], dim=1
    )
    labels = torch.cat([target[:, :, 0], target[:, :, 0].roll(1, dims=1)], dim=1).long()
    scores = torch.rand(images, 2 * BOXES, generator=generator) * (labels >= 0)
    loss_N = torch.rand(images, generator=generator)
    return Detections(boxes_NM4=boxes, scores_NM=scores, labels_NM=labels, loss_N=loss_N)


def part_of(outputs, part):
    if isinstance(outputs, torch.Tensor):
        return outputs[part]
    return Detections(**{name: column[part] for name, column in vars(outputs).items()})


def answers_of(task):
    return task.answers(outputs_of(task), target_of(task.target), np.arange(IMAGES))


@pytest.fixture(params=TASKS)
def task(request):
    return task_of(request.param)


def test_a_task_says_what_it_is(task):
    assert task.name in TASKS
    assert task.metric
    assert task.target in ("class", "numbers", "mask", "boxes")
    assert task.form in ("vector", "map", "boxes")
    assert isinstance(task.counts_right, bool)
    assert (task.info, task.outputs) == (info_of(task.target), len(task.info.names))


def test_the_losses_that_go_with_a_task_are_registered(task):
    assert task.losses
    assert set(task.losses) <= set(plugins.losses.names())


def test_loss_and_tally_are_of_each_image(task):
    loss_N, tally_NQ = task.loss(outputs_of(task), target_of(task.target))
    _, fewer_NQ = task.loss(part_of(outputs_of(task), slice(0, 5)), target_of(task.target)[:5])

    assert loss_N.shape == (IMAGES,)
    assert tally_NQ.shape == (IMAGES, fewer_NQ.shape[1])
    assert not tally_NQ.requires_grad
    torch.testing.assert_close(tally_NQ[:5], fewer_NQ)


def test_the_running_score_of_a_training_is_a_score(task):
    _, tally_NQ = task.loss(outputs_of(task), target_of(task.target))

    running = task.measures(tally_NQ.double().sum(dim=0)[None].numpy())["score"]

    assert running[0] == pytest.approx(task.scores(answers_of(task)).score, abs=tolerance(task, rounding=1e-5))


def tolerance(task, rounding=1e-6):
    return BIN_ERROR if task.target == "boxes" else rounding


def test_every_column_of_answers_has_an_entry_for_each_image(task):
    answers = answers_of(task)

    assert len(answers.rows) == IMAGES
    assert {len(column) for column in answers.columns.values()} == {IMAGES}
    assert {type(column) for column in answers.columns.values()} == {np.ndarray}


def test_answers_need_no_target(task):
    answers = task.answers(outputs_of(task), None, np.arange(IMAGES))

    assert "target" not in answers.columns
    assert len(task.say(answers)) == IMAGES


def test_the_score_follows_from_the_summed_tallies(task):
    scores = task.scores(answers_of(task))

    measured = task.measures(scores.tally.sum(axis=0)[None])

    assert measured["score"][0] == pytest.approx(scores.score, abs=tolerance(task))
    by_class = {name.removeprefix("class."): value[0] for name, value in measured.items() if name.startswith("class.")}
    assert {name: by_class[name] for name in scores.per_class} == pytest.approx(
        dict(scores.per_class), abs=tolerance(task)
    )


def test_scores_are_of_each_image(task):
    scores = task.scores(answers_of(task))

    assert scores.per_image.shape == (IMAGES,)
    assert scores.per_image.dtype == np.float64
    assert ((scores.per_image >= 0) & (scores.per_image <= 1)).all()
    assert scores.tally.shape[0] == IMAGES


def test_where_right_images_are_counted_the_score_is_their_share(task):
    scores = task.scores(answers_of(task))

    assert not task.counts_right or set(scores.per_image.tolist()) <= {0.0, 1.0}
    assert not task.counts_right or scores.score == pytest.approx(scores.per_image.mean())


def test_the_tally_of_an_image_does_not_depend_on_the_others(task):
    answers = answers_of(task)
    half = Answers(rows=answers.rows[5:], columns={name: column[5:] for name, column in answers.columns.items()})

    np.testing.assert_allclose(task.scores(half).tally, task.scores(answers).tally[5:], rtol=1e-9)


def test_sets_of_images_are_measured_together_as_each_for_itself(task):
    tally_NQ = task.scores(answers_of(task)).tally
    sums_BQ = np.stack([tally_NQ[:5].sum(axis=0), tally_NQ.sum(axis=0)])

    together = task.measures(sums_BQ)

    for b in range(2):
        alone = task.measures(sums_BQ[b : b + 1])
        assert {name: value[b] for name, value in together.items()} == pytest.approx(
            {name: value[0] for name, value in alone.items()}, nan_ok=True
        )


def test_answers_of_two_batches_score_as_those_of_one(task):
    outputs, target, rows = outputs_of(task), target_of(task.target), np.arange(IMAGES)
    parts = [task.answers(part_of(outputs, part), target[part], rows[part]) for part in (slice(0, 5), slice(5, None))]

    joined, whole = task.scores(concatenate(parts)), task.scores(answers_of(task))

    assert (joined.score, joined.loss) == (pytest.approx(whole.score), pytest.approx(whole.loss))
    np.testing.assert_allclose(joined.per_image, whole.per_image, rtol=1e-6)


def test_what_is_said_of_each_image_goes_into_json(task):
    said = task.say(answers_of(task))

    assert len(json.loads(json.dumps(said))) == IMAGES


@pytest.mark.parametrize("known", [True, False])
def test_each_image_becomes_a_picture(task, known):
    images_NHWC = stream(0, "images").integers(0, 256, (IMAGES, *SIZE, 3), dtype=np.uint8)
    before = images_NHWC.copy()
    answers = task.answers(outputs_of(task), target_of(task.target) if known else None, np.arange(IMAGES))

    tiles = task.tiles(answers, images_NHWC)

    assert len(tiles) == IMAGES
    assert {(tile.image_HWC.dtype, tile.image_HWC.ndim, tile.image_HWC.shape[2]) for tile in tiles} == {
        (np.dtype(np.uint8), 3, 3)
    }
    assert all((tile.good is not None) == known for tile in tiles)
    np.testing.assert_array_equal(images_NHWC, before)


def test_charts_are_of_the_kinds_that_a_report_can_draw(task):
    charts = task.charts(answers_of(task))

    assert charts
    assert all(isinstance(chart, ConfusionChart | ResidualChart | BarsChart) for chart in charts)


# Every task × loss that go together, with the usual optimizers, and every optimizer on a network. All of them with all take ten
# minutes on networks; on a linear layer they are in tests/optim/test_every_combination.py.


@pytest.mark.parametrize(("name", "optimizer", "loss"), COMBINATIONS)
def test_a_few_steps_lower_the_loss(name, optimizer, loss):
    task, records = trained(name, optimizer, loss)

    assert np.mean([float(record.loss) for record in records[-5:]]) < float(records[0].loss)
    assert task.measures(records[-1].tally_sum.double()[None].numpy())["score"].shape == (1,)


def trained(name, optimizer, loss):
    task = task_of(name, loss)
    torch.manual_seed(0)
    network = plugins.networks.get(NETWORKS[task.form])()
    model = network.build(NetworkSpec(width=8, norm="group"), outputs=task.outputs, size=SIZE)
    images_NCHW = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    batch = Batch(images_NCHW=images_NCHW, target=target_of(task.target, 4), rows_N=np.arange(4))
    spec = OptimizerSpec(name=optimizer, lr=LRS.get(optimizer, 0.01))
    moving = build_optimizer([(parameter, 1.0) for parameter in model.parameters()], spec, CPU)
    batches = itertools.repeat(batch)
    return task, list(fit(model, task, batches, moving, lambda progress: 1.0, steps=STEPS, device=CPU))


@pytest.mark.parametrize(
    ("name", "loss"),
    [(n, loss) for n in TASKS for loss in plugins.losses.names() if loss not in plugins.tasks.get(n).losses],
)
def test_a_loss_of_another_task_is_refused_with_those_that_go(name, loss):
    goes_with = plugins.tasks.get(name).losses

    with pytest.raises(RecipeError, match=rf"^loss\.name: '{loss.replace('+', '.')}' does not go with") as caught:
        build_loss(LossSpec(name=loss), goes_with)

    assert str(caught.value).endswith(f"It takes: {', '.join(goes_with)}.")
