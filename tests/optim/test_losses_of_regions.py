"""Tversky and Lovász: their values by hand, by definition and by other libraries, and cross-entropy of maps with weights."""

import itertools
import math

import pytest
import segmentation_models_pytorch.losses as smp
import torch
from torch import nn
from torchvision.ops import sigmoid_focal_loss

from trainwright.optim.losses import build_loss
from trainwright.optim.lovasz_loss import falling_order, jaccard_slopes
from trainwright.recipe import LossSpec
from trainwright.tasks.segmentation import Segmentation

IGNORED = 255
WEIGHTS = (0.5, 1.0, 4.0)


def built(name, **constants):
    return build_loss(LossSpec(name=name, **constants), Segmentation.losses)


def maps(images=3):
    """Noise, and masks of three classes with a fifth of the pixels ignored."""
    generator = torch.Generator().manual_seed(0)
    logits_NKHW = 2 * torch.randn(images, 3, 6, 8, generator=generator)
    target_NHW = torch.randint(0, 3, (images, 6, 8), generator=generator).to(torch.uint8)
    target_NHW[torch.rand(images, 6, 8, generator=generator) < 0.2] = IGNORED
    return logits_NKHW.requires_grad_(), target_NHW


def same(given_N, wanted_N, logits):
    """The values, and the gradients with respect to `logits`."""
    torch.testing.assert_close(given_N, wanted_N)
    torch.testing.assert_close(*(torch.autograd.grad(value_N.sum(), logits)[0] for value_N in (given_N, wanted_N)))


def of_each_image(loss, logits_NKHW, target_NHW):
    return torch.stack([loss(logits_NKHW[n : n + 1], target_NHW[n : n + 1].long()) for n in range(len(logits_NKHW))])


def all_of_class_0(*logits):
    """A picture of four pixels of class 0, of which the network says the same everywhere."""
    logits_NKHW = torch.tensor(logits).view(1, -1, 1, 1).expand(1, len(logits), 2, 2)
    return logits_NKHW, torch.zeros(1, 2, 2, dtype=torch.uint8)


# Weights of cross-entropy and focal loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_of_a_map_is_torchs_summed_over_the_number_of_scored_pixels(smoothing):
    logits_NKHW, target_NHW = maps()
    torchs = nn.CrossEntropyLoss(
        weight=torch.tensor(WEIGHTS), label_smoothing=smoothing, ignore_index=IGNORED, reduction="none"
    )

    loss_N = built("cross-entropy", class_weights=WEIGHTS, label_smoothing=smoothing)(logits_NKHW, target_NHW)

    count_N = (target_NHW != IGNORED).sum(dim=(1, 2))
    same(loss_N, torchs(logits_NKHW, target_NHW.long()).sum(dim=(1, 2)) / count_N, logits_NKHW)


@pytest.mark.parametrize("name", ["cross-entropy", "focal"])
def test_a_picture_full_of_a_rare_class_weighs_what_its_class_does(name):
    """Which a division by the weights in the picture, as torch has it, would undo."""
    logits_NKHW, target_NHW = torch.zeros(2, 3, 2, 2), torch.zeros(2, 2, 2, dtype=torch.uint8)
    target_NHW[1] = 2

    common, rare = built(name, class_weights=WEIGHTS)(logits_NKHW, target_NHW).tolist()

    assert rare == pytest.approx(common * 4.0 / 0.5)


def test_the_weights_of_dice_and_cross_entropy_are_those_of_its_cross_entropy():
    logits_NKHW, target_NHW = maps()
    constants = {"class_weights": WEIGHTS, "label_smoothing": 0.1}

    mixed_N = built("dice+cross-entropy", dice_weight=0.25, **constants)(logits_NKHW, target_NHW)

    dice_N = built("dice")(logits_NKHW, target_NHW)
    cross_entropy_N = built("cross-entropy", **constants)(logits_NKHW, target_NHW)
    torch.testing.assert_close(mixed_N, 0.25 * dice_N + 0.75 * cross_entropy_N)


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits_NKHW, target_NHW = maps()

    focal_N, cross_entropy_N = (
        built(name, gamma=0.0, class_weights=WEIGHTS)(logits_NKHW, target_NHW) for name in ("focal", "cross-entropy")
    )

    same(focal_N, cross_entropy_N, logits_NKHW)


def test_focal_loss_of_two_classes_is_the_mean_of_torchvisions_over_the_scored_pixels():
    z_HW = torch.linspace(-4, 4, 12).view(3, 4)
    target_HW = (torch.arange(12).view(3, 4) % 3 == 0).to(torch.uint8)
    target_HW[0] = IGNORED

    loss_N = built("focal", gamma=2.0, class_weights=(0.75, 0.25))(
        torch.stack([torch.zeros(3, 4), z_HW])[None], target_HW[None]
    )

    wanted = sigmoid_focal_loss(z_HW[1:], target_HW[1:].float(), alpha=0.25, gamma=2.0).mean()
    assert loss_N.item() == pytest.approx(wanted.item(), rel=1e-5)


# Tversky


def test_tverskys_index_by_hand():
    """Four pixels, three of class 0; p = ¾ for class 0 everywhere; weights 0.3 of false positives, 0.7 of false negatives.

    Class 0: TP 2.25, FP 0.75, FN 0.75; class 1: TP 0.25, FP 0.75, FN 0.75.
    """
    logits_NKHW = torch.tensor([math.log(3.0), 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    target_NHW = torch.tensor([[[0, 0], [0, 1]]], dtype=torch.uint8)

    loss_N = built("tversky", tversky=(0.3, 0.7))(logits_NKHW, target_NHW)

    assert loss_N.item() == pytest.approx(1 - (2.25 / (2.25 + 0.75) + 0.25 / (0.25 + 0.75)) / 2)


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.5, 0.5), (1.0, 1.0), (0.0, 1.0)])
def test_tversky_is_that_of_segmentation_models_for_each_image(weights):
    logits_NKHW, target_NHW = maps()
    theirs = smp.TverskyLoss("multiclass", ignore_index=IGNORED, alpha=weights[0], beta=weights[1])

    loss_N = built("tversky", tversky=weights)(logits_NKHW, target_NHW)

    same(loss_N, of_each_image(theirs, logits_NKHW, target_NHW), logits_NKHW)


def test_tversky_with_two_halves_is_dice_without_squares():
    logits_NKHW, target_NHW = maps()
    theirs = smp.DiceLoss("multiclass", ignore_index=IGNORED)

    loss_N = built("tversky", tversky=(0.5, 0.5))(logits_NKHW, target_NHW)

    same(loss_N, of_each_image(theirs, logits_NKHW, target_NHW), logits_NKHW)


def test_tversky_is_the_mean_over_the_classes_in_the_image_and_theirs_over_all():
    logits_NKHW, target_NHW = maps(images=1)
    target_NHW[target_NHW == 2] = 1
    theirs = smp.TverskyLoss("multiclass", ignore_index=IGNORED, alpha=0.3, beta=0.7)

    loss_N = built("tversky")(logits_NKHW, target_NHW)

    same(loss_N, of_each_image(theirs, logits_NKHW, target_NHW) * 3 / 2, logits_NKHW)


@pytest.mark.parametrize("name", ["tversky", "lovasz"])
def test_what_is_said_of_a_class_that_is_not_there_is_missing_where_it_belongs(name):
    loss = built(name)

    right, wrong, worse = (loss(*all_of_class_0(0.0, z, -100.0)).item() for z in (-100.0, 0.0, 100.0))

    assert (right, worse) == (pytest.approx(0.0, abs=1e-6), pytest.approx(1.0))
    assert right + 0.1 < wrong < worse - 0.1


def test_to_miss_a_pixel_of_a_small_class_is_worse_than_to_find_one_too_many():
    """A hundred pixels, four of class 1. Two of them missed: 2 / (2 + 0.7 · 2), 96 / (96 + 0.3 · 2). Two too many:

    4 / (4 + 0.3 · 2), 94 / (94 + 0.7 · 2).
    """
    target_NHW = (torch.arange(100) < 4).to(torch.uint8).view(1, 10, 10)
    missed, too_many = ((torch.arange(100) < count).to(torch.uint8).view(1, 10, 10) for count in (2, 6))

    of_missed, of_too_many = (
        built("tversky", tversky=(0.3, 0.7))(certain(said_NHW, classes=2), target_NHW).item()
        for said_NHW in (missed, too_many)
    )

    assert of_missed == pytest.approx(1 - (2 / 3.4 + 96 / 96.6) / 2)
    assert of_too_many == pytest.approx(1 - (4 / 4.6 + 94 / 95.4) / 2)


def certain(said_NHW, classes):
    """Logits of a network that is sure of what it says."""
    return 100.0 * nn.functional.one_hot(said_NHW.long(), classes).movedim(3, 1)


# Lovász


def jaccard_loss(wrong, truth):
    """1 − IoU of one class where the pixels in `wrong` are answered wrongly: Berman et al., arXiv:1705.08790, eq. 6."""
    said = [is_of_it != is_wrong for is_of_it, is_wrong in zip(truth, wrong, strict=True)]
    both = sum(a and b for a, b in zip(truth, said, strict=True))
    return 1 - both / sum(a or b for a, b in zip(truth, said, strict=True))


def extension(errors_RP, truth_RP):
    return (errors_RP * jaccard_slopes(errors_RP, truth_RP)).sum(dim=1)


def test_where_every_pixel_is_right_or_wrong_the_extension_is_the_jaccard_loss():
    """All answers to all pictures of five pixels that have the class."""
    pictures = list(itertools.product([False, True], repeat=5))
    cases = [(truth, wrong) for truth in pictures for wrong in pictures if any(truth)]
    truth_RP, wrong_RP = (torch.tensor(column) for column in zip(*cases, strict=True))

    value_R = extension(wrong_RP.float(), truth_RP)

    assert len(cases) == 31 * 32
    torch.testing.assert_close(value_R, torch.tensor([jaccard_loss(wrong, truth) for truth, wrong in cases]))


def test_between_them_it_is_what_the_loss_rises_by_as_pixel_after_pixel_becomes_wrong():
    """Its definition, eq. 8 and 9, for a hundred errors in random order."""
    generator = torch.Generator().manual_seed(0)
    errors_RP, truth_RP = torch.rand(100, 6, generator=generator), torch.rand(100, 6, generator=generator) < 0.5
    truth_RP[:, 0] = True

    wanted = []
    for errors, truth in zip(errors_RP.tolist(), truth_RP.tolist(), strict=True):
        order = sorted(range(6), key=lambda place: -errors[place])
        wrong = [[place in order[:count] for place in range(6)] for count in range(7)]
        rises = [jaccard_loss(wrong[i + 1], truth) - jaccard_loss(wrong[i], truth) for i in range(6)]
        wanted.append(sum(errors[place] * rise for place, rise in zip(order, rises, strict=True)))

    torch.testing.assert_close(extension(errors_RP, truth_RP), torch.tensor(wanted))


def test_the_slopes_of_a_large_picture_have_lost_no_digits():
    """They sum to 1: from nothing wrong to everything wrong. Each is compared with its value in double precision."""
    generator = torch.Generator().manual_seed(0)
    errors_RP, truth_RP = torch.rand(1, 100_000, generator=generator), torch.rand(1, 100_000, generator=generator) < 0.3

    slopes_RP = jaccard_slopes(errors_RP, truth_RP)

    assert slopes_RP.double().sum().item() == pytest.approx(1, rel=1e-6)
    torch.testing.assert_close(slopes_RP.double(), jaccard_slopes(errors_RP.double(), truth_RP), rtol=1e-6, atol=0)


def test_lovasz_is_that_of_segmentation_models_for_each_image():
    logits_NKHW, target_NHW = maps()
    target_NHW[1][target_NHW[1] == 2] = 0  # a class that is not there
    theirs = smp.LovaszLoss("multiclass", per_image=True, ignore_index=IGNORED)

    loss_N = built("lovasz")(logits_NKHW, target_NHW)

    same(loss_N, of_each_image(theirs, logits_NKHW, target_NHW), logits_NKHW)


def test_lovasz_of_a_network_that_is_sure_is_1_minus_the_mean_iou_of_the_classes_in_the_image():
    """Six pixels: class 0 three of four right and none too many, class 1 both right and one too many."""
    target_NHW = torch.tensor([[[0, 0, 0, 0, 1, 1]]], dtype=torch.uint8)
    said_NHW = torch.tensor([[[0, 0, 0, 1, 1, 1]]])

    loss_N = built("lovasz")(certain(said_NHW, classes=3), target_NHW)

    assert loss_N.item() == pytest.approx(1 - (3 / 4 + 2 / 3) / 2)


@pytest.mark.parametrize("pixels", [1, 2, 1000])
def test_errors_are_ranked_alike_in_single_and_in_double_precision(pixels):
    """They are ranked by different means: by numpy's sort of whole numbers, by torch's of floats. With ties and −1."""
    generator = torch.Generator().manual_seed(0)
    errors_RP = torch.randint(-2, 20, (5, pixels), generator=generator).div(20)
    errors_RP[errors_RP < 0] = -1.0

    assert torch.equal(falling_order(errors_RP), falling_order(errors_RP.double()))
