"""Weights of classes from the data into the run: counted over the train part, written down, refused where they do not fit."""

import numpy as np
import pytest

import trainwright as tw
from trainwright.errors import RecipeError

SIDE = 16
SMALL = {"network.width": 8, "batch_size": 8, "epochs": 1, "augment.crop_padding": 0.0, "data.image_size": SIDE}
PARTS = ["train"] * 20 + ["val"] * 20


def coloured():
    """Forty images of two colours; of the twenty to train on five are red, of the twenty unseen ones ten."""
    images_NHWC = np.random.default_rng(0).integers(90, 130, (40, SIDE, SIDE, 3)).astype(np.uint8)
    red_N = np.array([n < 5 if part == "train" else n % 2 == 0 for n, part in enumerate(PARTS)])
    images_NHWC[red_N, ..., 0] = 220
    images_NHWC[~red_N, ..., 2] = 220
    labels = ["red" if red else "blue" for red in red_N]
    return tw.Dataset.from_arrays(images_NHWC, labels, parts=PARTS)


def masked():
    """Forty images: in those to train on a quarter of the scored pixels is of class `thing`, in the others a half; the

    top four rows, a quarter of each image, are ignored.
    """
    images_NHWC = np.random.default_rng(0).integers(90, 130, (40, SIDE, SIDE, 3)).astype(np.uint8)
    masks_NHW = np.zeros((40, SIDE, SIDE), np.uint8)
    masks_NHW[:20, :, :4] = 1
    masks_NHW[20:, :, :8] = 1
    masks_NHW[:, :4] = 255
    images_NHWC[masks_NHW == 1] = (220, 40, 40)
    return tw.Dataset.from_arrays(images_NHWC, list(masks_NHW), classes=["ground", "thing"], parts=PARTS)


def train(data, runs, **changes):
    network = {"mask": "small-unet"}.get(data.targets.kind, "small-resnet")
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    wanted = SMALL | {"network.name": network, "network.weights": "random"} | changes
    return tw.train(data, changes=wanted, runs=runs, mirrors=(), workers=1, device="cpu")


@pytest.fixture(scope="module")
def balanced_run(tmp_path_factory):
    return train(coloured(), tmp_path_factory.mktemp("runs"), loss__class_weights="balanced")


def test_balanced_weights_of_images_are_those_of_the_train_part_and_stand_in_the_recipe_of_the_run(balanced_run):
    loss = tw.open_run(balanced_run.id, runs=balanced_run.folder.parent).recipe.loss

    assert loss.name == "cross-entropy"
    assert dict(zip(("blue", "red"), loss.class_weights, strict=True)) == pytest.approx(
        {"blue": 20 / (2 * 15), "red": 20 / (2 * 5)}
    )


def test_a_run_with_balanced_weights_is_the_run_with_those_numbers(balanced_run, tmp_path):
    given = train(coloured(), tmp_path, loss__class_weights=[20 / (2 * 15), 20 / (2 * 5)])

    assert balanced_run.result["weights_sha256"] == given.result["weights_sha256"]


def test_balanced_weights_of_masks_count_scored_pixels_of_the_train_part(tmp_path):
    run = train(masked(), tmp_path, loss__class_weights="balanced", augment__flip=0.0)

    assert run.recipe.loss.name == "dice+cross-entropy"
    assert run.recipe.loss.class_weights == pytest.approx((1 / (2 * 0.75), 1 / (2 * 0.25)))


def test_softmax_of_what_binary_cross_entropy_taught_is_not_judged_as_probabilities(tmp_path):
    run = train(coloured(), tmp_path, loss__name="binary-cross-entropy")

    (finding,) = [finding for finding in run.findings if finding.rule == "over-confident"]
    assert (finding.verdict, finding.evidence) == (
        "no",
        "The answers are not probabilities, so they cannot be too sure.",
    )


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (
            [1.0, 2.0, 3.0],
            "loss.class_weights: 3 weights for 2 classes. One for each, in this order: blue, red; or balanced.",
        ),
        ([1.0, -2.0], "recipe: loss.class_weights"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(tmp_path, weights, text):
    with pytest.raises(RecipeError) as caught:
        train(coloured(), tmp_path, loss__class_weights=weights)

    assert str(caught.value).startswith(text)


def test_a_task_without_classes_has_none_to_weigh(tmp_path):
    images_NHWC = np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3)).astype(np.uint8)
    numbers = tw.Dataset.from_arrays(images_NHWC, np.arange(40.0), parts=PARTS)

    with pytest.raises(RecipeError) as caught:
        train(numbers, tmp_path, loss__class_weights="balanced")

    assert str(caught.value) == "loss.class_weights: regression has no classes to weigh. Set it to null."


def test_a_loss_that_has_no_place_for_weights_is_refused_before_training(tmp_path):
    with pytest.raises(RecipeError, match=r"^loss\.class_weights: lovasz has none: "):
        train(masked(), tmp_path, loss__name="lovasz", loss__class_weights="balanced")

    assert list(tmp_path.iterdir()) == []
