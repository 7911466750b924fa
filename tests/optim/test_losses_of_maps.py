"""What every loss of maps keeps to (a number an image, no word about ignored pixels, nothing infinite), and what each counts."""

import math

import pytest
import torch
from torch import nn

from trainwright.optim.losses import build_loss
from trainwright.recipe import LossSpec
from trainwright.tasks.segmentation import Segmentation

OF_MAPS = Segmentation.losses


def map_and_target(classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Six maps of noise and their masks: a third of the pixels ignored, all of them in the last image."""
    generator = torch.Generator().manual_seed(0)
    logits_NKHW = torch.randn(6, classes, 5, 7, generator=generator)
    target_NHW = torch.randint(0, classes, (6, 5, 7), generator=generator).to(torch.uint8)
    target_NHW[torch.rand(6, 5, 7, generator=generator) < 1 / 3] = 255
    target_NHW[-1] = 255
    return logits_NKHW, target_NHW


@pytest.mark.parametrize(
    ("name", "smoothing"), [*((name, 0.0) for name in OF_MAPS), ("cross-entropy", 0.1), ("dice+cross-entropy", 0.1)]
)
def test_a_loss_of_a_map_is_one_finite_number_an_image_and_0_where_no_pixel_counts(name, smoothing):
    logits_NKHW, target_NHW = map_and_target()
    logits_NKHW.requires_grad_()

    loss_N = build_loss(LossSpec(name=name, label_smoothing=smoothing), OF_MAPS)(logits_NKHW, target_NHW)
    loss_N.sum().backward()

    assert loss_N.shape == (6,)
    assert loss_N[:5].min() > 0.1
    assert loss_N[5] == 0
    assert logits_NKHW.grad.isfinite().all()
    assert not logits_NKHW.grad[5].any()
    assert not logits_NKHW.grad.movedim(1, -1)[target_NHW == 255].any()
    assert logits_NKHW.grad.movedim(1, -1)[target_NHW != 255].abs().sum(dim=-1).min() > 0


@pytest.mark.parametrize("name", OF_MAPS)
def test_a_loss_of_a_map_does_not_depend_on_the_other_images_nor_on_what_is_said_of_ignored_pixels(name):
    logits_NKHW, target_NHW = map_and_target()
    loss = build_loss(LossSpec(name=name), OF_MAPS)
    changed_NKHW = torch.where((target_NHW == 255).unsqueeze(1), torch.randn(4, 1, 1), logits_NKHW)

    torch.testing.assert_close(loss(logits_NKHW[:2], target_NHW[:2]), loss(logits_NKHW, target_NHW)[:2])
    torch.testing.assert_close(loss(changed_NKHW, target_NHW), loss(logits_NKHW, target_NHW))


@pytest.mark.parametrize("name", OF_MAPS)
def test_a_loss_of_a_map_stays_finite_where_the_network_is_sure_of_the_wrong_thing(name):
    logits_NKHW = torch.tensor([30000.0, -30000.0], dtype=torch.float16).view(1, 2, 1, 1).expand(1, 2, 3, 3).clone()
    logits_NKHW.requires_grad_()

    loss_N = build_loss(LossSpec(name=name), OF_MAPS)(logits_NKHW, torch.ones(1, 3, 3, dtype=torch.uint8))
    loss_N.sum().backward()

    assert loss_N.dtype == torch.float32
    assert loss_N.isfinite().all()
    assert logits_NKHW.grad.isfinite().all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_a_map_is_torchs_for_each_image(smoothing):
    logits_NKHW, target_NHW = map_and_target()
    torchs = nn.CrossEntropyLoss(label_smoothing=smoothing, ignore_index=255)
    logits_NKHW.requires_grad_()

    spec = LossSpec(name="cross-entropy", label_smoothing=smoothing)
    loss_N = build_loss(spec, OF_MAPS)(logits_NKHW, target_NHW)

    expected_N = torch.stack([torchs(logits_NKHW[n : n + 1], target_NHW[n : n + 1].long()) for n in range(5)])
    torch.testing.assert_close(loss_N[:5], expected_N)
    given, wanted = (torch.autograd.grad(value[:5].sum(), logits_NKHW)[0] for value in (loss_N, expected_N))
    torch.testing.assert_close(given, wanted)


def test_dice_counts_the_overlap_of_each_class_by_hand():
    """Four pixels, three of class 0, one of class 1; p = ¾ for class 0 everywhere: Milletari et al., arXiv:1606.04797 §3.

    Class 0: 2 · 3 · ¾ / (4 · 9/16 + 3) = 4.5 / 5.25; class 1: 2 · ¼ / (4 · 1/16 + 1) = 0.5 / 1.25.
    """
    logits_NKHW = torch.tensor([math.log(3.0), 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    target_NHW = torch.tensor([[[0, 0], [0, 1]]], dtype=torch.uint8)

    loss_N = build_loss(LossSpec(name="dice"), OF_MAPS)(logits_NKHW, target_NHW)

    assert loss_N.item() == pytest.approx(1 - (4.5 / 5.25 + 0.5 / 1.25) / 2)


def test_dice_asks_only_about_classes_that_are_in_the_image():
    """All of class 0, of which the network is sure: nothing to do better, whatever the number of classes."""
    logits_NKHW = torch.zeros(1, 5, 3, 3)
    logits_NKHW[:, 0] = 100.0

    loss_N = build_loss(LossSpec(name="dice"), OF_MAPS)(logits_NKHW, torch.zeros(1, 3, 3, dtype=torch.uint8))

    assert loss_N.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("weight", "smoothing"), [(0.0, 0.1), (0.25, 0.1), (1.0, 0.0)])
def test_dice_and_cross_entropy_are_mixed_by_their_weight_and_smoothing_is_that_of_the_cross_entropy(weight, smoothing):
    logits_NKHW, target_NHW = map_and_target()
    alone = {
        name: build_loss(LossSpec(name=name, label_smoothing=part), OF_MAPS)(logits_NKHW, target_NHW)
        for name, part in (("dice", 0.0), ("cross-entropy", smoothing))
    }

    spec = LossSpec(name="dice+cross-entropy", dice_weight=weight, label_smoothing=smoothing)
    mixed_N = build_loss(spec, OF_MAPS)(logits_NKHW, target_NHW)

    torch.testing.assert_close(mixed_N, weight * alone["dice"] + (1 - weight) * alone["cross-entropy"])
