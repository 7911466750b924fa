"""The parity certificate: what breaches it, what it says of that, and that planted faults are found."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from trainwright.deploy import reader
from trainwright.deploy.certificate import check, judge, latency, refuse_breaches
from trainwright.deploy.graph import ServedModel
from trainwright.errors import GoalNotMetError
from trainwright.networks.small_resnet import SmallResNet
from trainwright.optim.losses import build_loss
from trainwright.plugins import tasks
from trainwright.recipe import LossSpec, NetworkSpec
from trainwright.records import Answers, TargetInfo
from trainwright.training.model import ImageNetwork

IMAGES, SIZE = 40, (16, 16)
SPEC = {"stored": [16, 16], "size": [16, 16], "fit": "crop"}
COLOURS = ((220, 40, 40), (40, 40, 220))


@pytest.fixture(scope="module")
def task():
    kind = tasks.get("classification")
    return kind(TargetInfo(names=("red", "blue")), build_loss(LossSpec(), kind.losses))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Noisy red and blue PNG images in turns, 40 x 48 pixels."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for number in range(IMAGES):
        pixels_HWC = rng.integers(0, 256, (40, 48, 3)) * 0.6 + np.array(COLOURS[number % 2]) * 0.4
        pixels_HWC[:, :8] *= 0.2  # a dark edge, cut off in part where the middle is taken
        Image.fromarray(pixels_HWC.astype(np.uint8)).save(folder / f"{number:03d}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def model():
    """A network that tells images apart by random features, and is sure of it."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = SmallResNet(2, NetworkSpec(width=8))
    with torch.no_grad():
        network.head.weight.mul_(20)  # as sure of itself as a trained one
    return ImageNetwork(network, mean=(0.45, 0.35, 0.45), std=(0.2, 0.2, 0.2)).eval()


@pytest.fixture(scope="module")
def answering(model, task):
    """(pixels of a file, normalizing, …) → a function from files to answers, of the model."""
    served = ServedModel(model, task, size=SIZE)

    def of(read=lambda file: reader.read_image(file, SPEC), served=served):
        def answers(paths):
            images_NHWC = torch.from_numpy(np.stack([read(file) for file in paths]))
            with torch.no_grad():
                return {name: tensor.numpy() for name, tensor in served(images_NHWC).items()}

        return answers

    return of


@pytest.fixture(scope="module")
def own(answering, files):
    """The model's own answers, with a target that all of them get right."""
    probabilities_NK = answering()(files)["probabilities"]
    target_N = probabilities_NK.argmax(axis=1)
    return Answers(rows=np.arange(IMAGES), columns={"probabilities": probabilities_NK, "target": target_N})


def test_the_model_itself_is_certified(answering, files, own, task):
    parity = check(answering(), files, own, task)

    assert (parity.breaches, parity.worst) == ((), ())
    assert (parity.agreement.share, parity.agreement.largest) == (1, pytest.approx(0, abs=1e-6))
    assert (parity.own.score, parity.exported.score) == (1, 1)
    refuse_breaches(parity, what="model.onnx")


def swapped(file):
    return np.ascontiguousarray(reader.read_image(file, SPEC)[:, :, ::-1])


def resized_otherwise(file):
    return np.asarray(Image.open(file).convert("RGB").resize((16, 16), Image.Resampling.BILINEAR))  # nothing cropped


def resized_without_antialiasing(file):
    return np.asarray(Image.open(file).convert("RGB").crop((4, 0, 44, 40)).resize((16, 16), Image.Resampling.NEAREST))


@pytest.mark.parametrize("read", [swapped, resized_otherwise, resized_without_antialiasing], ids=lambda f: f.__name__)
def test_other_pixels_are_refused(answering, files, own, task, read):
    parity = check(answering(read), files, own, task)

    with pytest.raises(GoalNotMetError) as refused:
        refuse_breaches(parity, what="model.onnx")
    assert refused.value.exit_code == 4
    assert refused.value.where == "model.onnx"
    assert "does not answer as the model does" in refused.value.message
    assert "Nothing was written." in refused.value.message


def test_a_missing_normalization_is_refused(answering, files, own, model, task):
    bare = ServedModel(model, task, size=SIZE)
    bare.scale, bare.shift = torch.full_like(bare.scale, 1 / 255), torch.zeros_like(bare.shift)

    parity = check(answering(served=bare), files, own, task)

    assert parity.breaches != ()


def test_a_single_decision_of_forty_is_a_breach_and_named(answering, files, own, task):
    def one_off(paths):
        said = answering()(paths)
        for place, path in enumerate(paths):
            if path.name == "007.png":
                said["probabilities"][place] = said["probabilities"][place][::-1]
        return said

    parity = check(one_off, files, own, task)

    assert parity.worst == ("007.png",)
    assert parity.breaches[:2] == (
        "agreement 0.9750 (images with the same class), at least 0.999 is asked for",
        "score 0.9750 instead of 1.0000, at most 0.001 apart is asked for",
    )


def test_the_same_decisions_with_other_probabilities_are_a_breach(answering, files, own, task):
    def modest(paths):
        return {"probabilities": 0.5 + 0.9 * (answering()(paths)["probabilities"] - 0.5)}

    parity = check(modest, files, own, task)

    assert parity.agreement.share == 1
    assert [breach.partition(" (")[2] for breach in parity.breaches] == ["probability), at most 0.001"]


def test_answers_that_are_not_numbers_are_a_breach(files, own, task):
    parity = check(lambda paths: {"probabilities": np.full((len(paths), 2), np.nan)}, files, own, task)

    assert parity.breaches[0].startswith("agreement 0.0000")


def test_numbers_that_are_none_are_a_breach_however_few():
    kind = tasks.get("regression")
    years = kind(TargetInfo(names=("year",), mean=(2000.0,), std=(50.0,)), build_loss(LossSpec(), kind.losses))
    values_N1 = np.random.default_rng(0).normal(2000, 50, (5000, 1))
    values_N1[7] = 2000  # the mean, which the score takes for what is no number
    own = Answers(rows=np.arange(5000), columns={"values": values_N1, "target": values_N1, "loss": np.zeros(5000)})
    said = {"values": values_N1.copy()}
    said["values"][7] = np.nan

    parity = judge(said, [Path(f"{number}.png") for number in range(5000)], own, years)

    assert parity.breaches == ("some answers are not numbers",)


def test_a_detector_without_boxes_is_no_model_that_agrees(files):
    kind = tasks.get("detection")
    cells = kind(TargetInfo(names=("cell",)), build_loss(LossSpec(), kind.losses))
    said = {"boxes": np.zeros((2, 3, 4)), "scores": np.zeros((2, 3)), "labels": np.full((2, 3), -1)}
    own = Answers(rows=np.arange(2), columns=said | {"target": np.array([[[0, 4.0, 4, 20, 20]]] * 2)})

    parity = judge(said, files[:2], own, cells)

    assert parity.breaches == (
        "nothing was decided (boxes of a score of at least 0.05 that both say), so that nothing shows that they agree",
    )


def test_files_are_asked_for_a_few_at_a_time_and_each_once(answering, files, own, task):
    asked, told = [], []

    def remembering(paths):
        asked.append(list(paths))
        return answering()(paths)

    check(remembering, files, own, task, progress=lambda what, done, total: told.append((what, done, total)))

    assert [file for part in asked for file in part] == files
    assert max(map(len, asked)) <= 16
    assert told[-1] == ("certifying", IMAGES, IMAGES)


def test_latency_is_measured_for_one_image_and_for_many():
    shapes = []

    found = latency(lambda images_NHWC: shapes.append(images_NHWC.shape) or {}, size=(8, 12))

    assert list(found) == ["1", "32"]
    assert set(shapes) == {(1, 8, 12, 3), (32, 8, 12, 3)}
    assert all(seconds > 0 for seconds in found.values())


def test_a_head_without_places_is_no_detector_that_can_be_served():
    from trainwright.errors import UsageError

    kind = tasks.get("detection")
    detection = kind(TargetInfo(names=("cell",)), build_loss(LossSpec(), kind.losses))

    with pytest.raises(UsageError, match="chosen image by image, of which no graph can be made"):
        ServedModel(ImageNetwork(nn.Identity(), mean=(0.0,) * 3, std=(1.0,) * 3), detection, size=SIZE)
