"""The verbs of `import trainwright as tw` beyond train and resume: a few lines each, as in the README."""

import base64
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import trainwright as tw
from trainwright.batch import Detections
from trainwright.data.loader import TrainBatches
from trainwright.errors import DataError, RunError, UsageError
from trainwright.optim.losses import build_loss
from trainwright.optim.schedules import build_schedule
from trainwright.plugins import tasks
from trainwright.recipe import LossSpec, ScheduleSpec
from trainwright.records import TargetInfo
from trainwright.tasks.classification import Classification
from trainwright.training.model import ImageNetwork
from trainwright.workflows.options import installed_mirrors, parse_mirrors
from trainwright.workflows.prepare import build_task, refuse_other_outputs

CPU = torch.device("cpu")


class Brightness(nn.Module):
    """A network of one's own: the mean of each colour, and a linear head."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, images_NCHW):
        return self.head(images_NCHW.mean(dim=(2, 3)))


@pytest.fixture
def red_and_blue():
    """Eighty noisy images in memory, half of them red, half blue."""
    draws = np.random.Generator(np.random.Philox(0))
    labels = np.arange(80) % 2
    images_NHWC = draws.integers(0, 120, (80, 12, 12, 3)).astype(np.uint8)
    images_NHWC[labels == 0, :, :, 0] += 100
    images_NHWC[labels == 1, :, :, 2] += 100
    return tw.Dataset.from_arrays(images_NHWC, labels, classes=["red", "blue"])


def test_arrays_and_a_network_of_ones_own_are_trained_in_a_few_lines(train, red_and_blue):
    changes = {"epochs": 10, "batch_size": 8, "optimizer.lr": 0.1, "data.image_size": 12, "augment.crop_padding": 0.0}

    run = train(changes, data=red_and_blue, model=Brightness())

    assert run.score["val"] == 1.0
    assert run.recipe.network.name == "custom"
    assert repr(run) == f"Run('{run.id}', val 1.000, {run.verdict})"


def test_a_network_of_ones_own_is_trained_in_place(train, red_and_blue):
    torch.manual_seed(0)
    model = Brightness()
    before = model.head.weight.detach().clone()

    train({"epochs": 1, "data.image_size": 12}, data=red_and_blue, model=model)

    assert not torch.equal(model.head.weight, before)


def test_a_network_of_ones_own_ends_up_with_the_averaged_weights_that_were_judged(train, red_and_blue):
    model = Brightness()

    run = train({"epochs": 2, "data.image_size": 12, "ema_decay": 0.9}, data=red_and_blue, model=model)

    kept = load_file(run.folder / "checkpoints" / "model.safetensors")
    assert torch.equal(model.head.weight, kept["network.head.weight"])


class Saying(nn.Module):
    """A network that says the same of whatever it is shown."""

    def __init__(self, outputs, *, takes_target=False):
        super().__init__()
        self.outputs, self.takes_target = outputs, takes_target
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images_NCHW, target=None):
        self.norm(images_NCHW)
        return self.outputs


def probed(task, outputs, **more):
    """Show a network that says `outputs` to a task of two classes, 8 × 12 pixels."""
    model = ImageNetwork(Saying(outputs, **more), mean=(0.5,) * 3, std=(0.25,) * 3)
    recipe = tw.Recipe().changed({"task": task})
    refuse_other_outputs(
        model, build_task(recipe, TargetInfo(names=("a", "b"), mean=(0.0, 0.0), std=(1.0, 1.0))), (8, 12)
    )
    return model


DETECTIONS = Detections(
    boxes_NM4=torch.zeros(2, 1, 4), scores_NM=torch.zeros(2, 1), labels_NM=torch.full((2, 1), -1, dtype=torch.int64)
)
TAUGHT = replace(DETECTIONS, loss_N=torch.zeros(2))


@pytest.mark.parametrize(
    ("task", "outputs"),
    [
        ("classification", torch.zeros(2, 2)),
        ("regression", torch.zeros(2, 2)),
        ("segmentation", torch.zeros(2, 2, 8, 12)),
        ("detection", TAUGHT),
    ],
)
def test_a_network_of_ones_own_that_says_what_the_task_needs_is_taken_and_left_as_it_was(task, outputs):
    model = probed(task, outputs, takes_target=task == "detection")

    assert model.state_dict()["network.norm.num_batches_tracked"] == 0


@pytest.mark.parametrize(
    ("task", "outputs", "message"),
    [
        (
            "regression",
            torch.zeros(2, 3),
            r"outputs of shape \(2, 3\) for 2 images, expected shape \(2, 2\)\. .* 2 outputs: a, b\.$",
        ),
        ("classification", [1, 2], r"the network gives list for 2 images, expected shape \(2, 2\)\."),
        (
            "segmentation",
            torch.zeros(2, 2, 4, 6),
            r"outputs of shape \(2, 2, 4, 6\) for 2 images, expected shape \(2, 2, 8, 12\)\. .* as high and wide as",
        ),
        ("segmentation", DETECTIONS, r"the network gives Detections for 2 images, expected shape \(2, 2, 8, 12\)\."),
    ],
)
def test_a_network_of_ones_own_that_says_something_else_is_refused_with_what_is_needed(task, outputs, message):
    with pytest.raises(UsageError, match=message):
        probed(task, outputs)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(2, 5), "gives Tensor, expected Detections"),
        (DETECTIONS, r"loss_N with a target, in eval mode too has shape \('none',\), expected \(2,\)"),
        (replace(TAUGHT, loss_N=torch.zeros(())), r"loss_N .* has shape \(\), expected \(2,\)"),
        (replace(TAUGHT, boxes_NM4=torch.zeros(2, 4)), r"boxes_NM4 has shape \(2, 4\), expected \(2, 1, 4\)"),
        (replace(TAUGHT, labels_NM=torch.full((2, 1), 2)), "labels go from 2 to 2, expected -1 to 1"),
    ],
)
def test_a_detector_of_ones_own_that_says_something_else_is_refused(outputs, message):
    with pytest.raises(UsageError, match=message):
        probed("detection", outputs, takes_target=True)


def test_a_detector_that_takes_no_target_is_refused():
    with pytest.raises(UsageError, match="takes_target = True"):
        probed("detection", TAUGHT)


def test_every_task_is_probed():
    assert {"classification", "regression", "segmentation", "detection"} <= set(tasks.names())


def test_the_training_leaves_torchs_own_random_stream_alone(train):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    train({"epochs": 1})

    assert torch.equal(torch.rand(3), expected)


def test_fit_is_a_loop_of_ones_own(red_and_blue):
    class Everything:
        def take(self, rows):
            return np.stack([red_and_blue.read(int(row), (12, 12), "crop") for row in rows])

    task = Classification(TargetInfo(names=("red", "blue")), build_loss(LossSpec(), Classification.losses))
    model = ImageNetwork(Brightness(), mean=(0.5,) * 3, std=(0.25,) * 3)
    batches = TrainBatches(
        Everything(),
        red_and_blue.stored_targets(np.arange(80), (12, 12), "crop"),
        np.arange(80),
        batch_size=16,
        image_size=(12, 12),
        augment=tw.Recipe().augment,
        seed=0,
        workers=0,
    )
    optimizer, schedule = torch.optim.SGD(model.parameters(), lr=0.5), build_schedule(ScheduleSpec())

    steps = list(tw.fit(model, task, batches.iterate(), optimizer, schedule, steps=40, device=CPU))

    assert [step.step for step in steps] == list(range(40))
    assert float(steps[-1].loss) < 0.5 * float(steps[0].loss)


def test_a_run_has_what_came_out_of_it(trained):
    assert 0 <= trained.score["train"] <= 1
    assert trained.gap.low <= trained.gap.value <= trained.gap.high
    assert trained.verdict == trained.result["verdict"]
    assert {finding.rule for finding in trained.findings} >= {"overfits", "diverged"}
    assert len(trained.epochs) == trained.recipe.epochs


def test_a_notebook_shows_the_curves(trained):
    html = trained._repr_html_()

    picture = html.partition("base64,")[2].partition('"')[0]
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert trained.id in html


def test_the_last_run_is_opened_by_that_word(trained):
    assert tw.open_run("last", trained.folder.parent).id == trained.id


def test_a_run_is_opened_by_its_path(trained):
    assert tw.open_run(str(trained.folder)).score == trained.score


def test_runs_are_listed(trained):
    (summary,) = tw.list_runs(trained.folder.parent)

    assert (summary.run_id, summary.state, summary.val_score) == (trained.id, "finished", trained.score["val"])


def test_an_image_is_predicted_from_its_path_or_text(trained, digits):
    image = min((digits / "0").iterdir())

    assert tw.predict(trained, image) == tw.predict(trained, str(image)) == tw.predict(trained, [image])


def test_a_network_of_ones_own_predicts_when_it_is_given(train, red_and_blue, digits):
    run = train({"epochs": 1, "data.image_size": 12}, data=red_and_blue, model=Brightness())
    image = min((digits / "0").iterdir())

    (answer,) = tw.predict(run, image, model=Brightness())

    assert set(answer["probabilities"]) == {"red", "blue"}
    with pytest.raises(UsageError, match="network of your own"):
        tw.predict(run, image)


def test_predicting_before_there_is_a_model_is_refused_with_the_way_on(train, polls, digits):
    run = train(stop_asked=polls(1))

    with pytest.raises(RunError, match=f"trainwright resume {run.id}"):
        tw.predict(run, digits)


def test_predictions_tell_how_far_they_are(trained, digits):
    heard = []

    tw.predict(trained, digits / "0", progress=lambda what, done, total: heard.append((what, done, total)))

    assert heard[-1] == ("predicting", 50, 50)


def test_pictures_of_predictions_are_written_to_a_folder_that_need_not_exist(trained, digits, tmp_path):
    folder = tmp_path / "a" / "b"

    said = tw.predict(trained, digits / "0", pictures=folder)

    assert said == tw.predict(trained, digits / "0")
    assert [file.name for file in sorted(folder.iterdir())] == ["predictions-001.png", "predictions-002.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in folder.iterdir())


def test_predicting_nothing_is_refused(trained, tmp_path):
    with pytest.raises(DataError, match="no image files"):
        tw.predict(trained, tmp_path)


def test_mirrors_of_the_environment_are_those_used(monkeypatch):
    monkeypatch.setenv("TRAINWRIGHT_MIRRORS", "none")

    assert installed_mirrors() == ()


def test_mirrors_are_read_from_text():
    assert parse_mirrors(" mlflow, tensorboard ") == ("mlflow", "tensorboard")
    assert parse_mirrors("none") == ()


def test_an_unknown_mirror_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match="no such mirror 'mlfow'"):
        parse_mirrors("mlfow")


def test_tensorboard_is_filled_from_the_run_folder(trained, tmp_path):
    copy = shutil.copytree(trained.folder, tmp_path / trained.id)

    first = tw.sync(tw.open_run(str(copy)), ["tensorboard"])
    again = tw.sync(tw.open_run(str(copy)), ["tensorboard"])

    assert first["tensorboard"] > 0
    assert again["tensorboard"] == 0
    assert list((copy / "tensorboard").iterdir())
