"""What every loss keeps to, whatever it is of: a number an image in full precision, and a gradient that is right and finite."""

import pytest
import torch

from trainwright import plugins
from trainwright.errors import RecipeError
from trainwright.optim.losses import build_loss
from trainwright.recipe import LossSpec

LABELS = ("binary-cross-entropy", "focal")  # that also take several labels an image
USUAL = {"class": "classification", "mask": "segmentation", "numbers": "regression"}
KINDS = {kind: plugins.tasks.get(task).losses for kind, task in USUAL.items()}
CASES = [*((kind, name) for kind, names in KINDS.items() for name in names), *(("labels", name) for name in LABELS)]
WEIGHTED = {"class": KINDS["class"], "mask": ("dice+cross-entropy", "cross-entropy", "focal")}
WITH_WEIGHTS = [(kind, name) for kind, names in WEIGHTED.items() for name in names]
SMOOTHED = ("cross-entropy", "binary-cross-entropy", "dice+cross-entropy")
WITHOUT_WEIGHTS = ["dice", "tversky", "lovasz", "huber", "mse", "mae", "own"]


def loss_of(name, **constants):
    return build_loss(LossSpec(name=name, **constants), [name])


def target_of(kind, images=4):
    generator = torch.Generator().manual_seed(1)
    if kind == "class":
        return torch.arange(images) % 3
    if kind == "numbers":
        return torch.randn(images, 2, generator=generator)
    if kind == "labels":
        return (torch.rand(images, 3, generator=generator) < 0.5).float()
    target_NHW = torch.randint(0, 3, (images, 3, 5), generator=generator, dtype=torch.uint8)
    target_NHW[0, 0], target_NHW[1] = 255, 0  # ignored pixels; an image of one class
    return target_NHW


def outputs_of(kind, images=4):
    shape = {"numbers": (images, 2), "mask": (images, 3, 3, 5)}.get(kind, (images, 3))
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_loss_is_one_number_an_image(kind, name):
    assert loss_of(name)(outputs_of(kind), target_of(kind)).shape == (4,)


def test_no_loss_is_forgotten():
    assert {name for _, name in CASES} | {"own"} == set(plugins.losses.names())


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_gradient_is_that_of_the_loss(kind, name):
    """By finite differences in double precision, with whatever constants the loss has."""
    target = target_of(kind)
    weights = (0.5, 2.0, 3.0) if (kind, name) in WITH_WEIGHTS else None
    loss = loss_of(name, label_smoothing=0.1 * (name in SMOOTHED), class_weights=weights, gamma=1.5)

    assert torch.autograd.gradcheck(lambda outputs: loss(outputs, target), outputs_of(kind).double().requires_grad_())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("size", [50.0, 1000.0])
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_gradient_is_finite_where_the_network_is_sure_of_the_right_and_of_the_wrong_thing(kind, name, size, gamma):
    outputs, target = (size * outputs_of(kind).sign()).requires_grad_(), target_of(kind)

    loss_N = loss_of(name, gamma=gamma)(outputs, target)
    loss_N.sum().backward()

    assert loss_N.isfinite().all()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_outputs_in_half_precision_have_the_loss_of_the_same_numbers_in_full(kind, name):
    outputs, target = outputs_of(kind).bfloat16(), target_of(kind)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed_N = loss_of(name)(outputs, target)

    assert mixed_N.dtype == torch.float32
    assert torch.equal(mixed_N, loss_of(name)(outputs.float(), target))


@pytest.mark.parametrize("name", KINDS["mask"])
def test_the_order_of_a_map_in_memory_changes_nothing(name):
    target_NHW = target_of("mask")
    plain = outputs_of("mask").requires_grad_()
    turned = outputs_of("mask").to(memory_format=torch.channels_last).requires_grad_()

    plain_N, turned_N = (loss_of(name)(outputs, target_NHW) for outputs in (plain, turned))
    (plain_N.sum() + turned_N.sum()).backward()

    assert torch.equal(plain_N, turned_N)
    assert torch.equal(plain.grad, turned.grad)


@pytest.mark.parametrize("name", KINDS["mask"])
def test_an_image_without_scored_pixels_has_no_loss_and_no_gradient_even_with_weights(name):
    logits_NKHW, target_NHW = outputs_of("mask").requires_grad_(), target_of("mask")
    target_NHW[2] = 255
    weights = (0.5, 2.0, 3.0) if ("mask", name) in WITH_WEIGHTS else None

    smoothing = 0.1 * (name in SMOOTHED)
    loss_N = loss_of(name, class_weights=weights, label_smoothing=smoothing)(logits_NKHW, target_NHW)
    loss_N.sum().backward()

    assert loss_N[2] == 0
    assert not logits_NKHW.grad[2].any()


# Constants that contradict the loss


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_class_weights_are_refused_by_a_loss_that_has_no_place_for_them(name):
    with pytest.raises(RecipeError) as caught:
        loss_of(name, class_weights=(1.0, 2.0))

    assert str(caught.value).startswith(f"loss.class_weights: {name} has none: ")
    assert str(caught.value).endswith(". Set it to null.")


def test_why_they_are_refused_is_said():
    with pytest.raises(RecipeError) as caught:
        loss_of("dice", class_weights=(1.0, 2.0))

    assert str(caught.value) == (
        "loss.class_weights: dice has none: every class in an image counts alike, however small it is. Set it to null."
    )


def test_class_weights_are_refused_where_cross_entropy_has_no_share_in_the_loss():
    with pytest.raises(RecipeError, match=r"^loss\.class_weights: dice\+cross-entropy has none: dice_weight is 1, and"):
        loss_of("dice+cross-entropy", class_weights=(1.0, 2.0), dice_weight=1.0)


@pytest.mark.parametrize("name", sorted({name for _, name in WITH_WEIGHTS}))
def test_weights_that_nobody_has_counted_yet_are_refused(name):
    with pytest.raises(RecipeError) as caught:
        loss_of(name, class_weights="balanced")

    assert str(caught.value) == (
        "loss.class_weights: 'balanced' is counted from the train part, and no data is known here. "
        "Give a number for each class, for example those of trainwright.optim.losses.balanced_weights."
    )


@pytest.mark.parametrize("name", LABELS)
def test_several_labels_an_image_have_no_class_weights(name):
    loss = loss_of(name, class_weights=(1.0, 2.0, 3.0))

    with pytest.raises(RecipeError, match=r"^loss\.class_weights: an image with several labels is of no one class\."):
        loss(outputs_of("labels"), target_of("labels"))


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.3, 0.0), (1.0, 0.0)])
def test_tversky_without_a_weight_of_false_negatives_is_refused(weights):
    with pytest.raises(RecipeError) as caught:
        loss_of("tversky", tversky=weights)

    assert str(caught.value) == (
        "loss.tversky: without a weight of false negatives, nothing asks for a pixel to be found. "
        "Give [false positives, false negatives] with the second above 0, for example [0.3, 0.7]."
    )


@pytest.mark.parametrize("name", sorted(set(plugins.losses.names()) - set(SMOOTHED)))
def test_label_smoothing_is_refused_by_a_loss_that_has_no_place_for_it(name):
    with pytest.raises(RecipeError) as caught:
        loss_of(name, label_smoothing=0.1)

    assert str(caught.value).startswith(f"loss.label_smoothing: {name} has none: ")
    assert str(caught.value).endswith(". Set it to 0: --set loss.label_smoothing=0.")


def test_label_smoothing_is_refused_where_all_of_the_loss_is_dice():
    with pytest.raises(
        RecipeError, match=r"^loss\.label_smoothing: dice\+cross-entropy has none: dice_weight is 1, and "
    ):
        loss_of("dice+cross-entropy", dice_weight=1.0, label_smoothing=0.1)
