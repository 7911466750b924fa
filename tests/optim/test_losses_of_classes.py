"""Cross-entropy with weights, focal loss and binary cross-entropy: their values, those of other libraries, and mixtures."""

import math

import numpy as np
import pytest
import torch
from timm.loss import BinaryCrossEntropy
from torch import nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from trainwright.batch import Batch
from trainwright.optim.losses import build_loss
from trainwright.recipe import LossSpec
from trainwright.records import TargetInfo
from trainwright.tasks.classification import Classification
from trainwright.training.loop import loss_of

WEIGHTS = (0.5, 1.0, 2.0, 4.0)


def built(name, **constants):
    return build_loss(LossSpec(name=name, **constants), Classification.losses)


def logits_and_target(dtype=torch.float32):
    logits_NK = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    return logits_NK, torch.tensor([0, 1, 2, 3, 3, 2, 0, 0])


def same(given, wanted, logits):
    """The values, and the gradients with respect to `logits`."""
    torch.testing.assert_close(given, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value.sum(), logits)[0] for value in (given, wanted)))


# Class weights


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_is_torchs_before_it_is_averaged(smoothing):
    logits_NK, target_N = logits_and_target()
    logits_NK.requires_grad_()
    torchs = nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS), label_smoothing=smoothing, reduction="none")

    loss_N = built("cross-entropy", class_weights=WEIGHTS, label_smoothing=smoothing)(logits_NK, target_N)

    same(loss_N, torchs(logits_NK, target_N), logits_NK)


def test_torchs_mean_divides_by_the_weights_in_the_batch_and_ours_by_its_images():
    logits_NK, target_N = logits_and_target()
    weight_N = torch.tensor(WEIGHTS)[target_N]

    loss_N = built("cross-entropy", class_weights=WEIGHTS)(logits_NK, target_N)

    torchs = nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS))(logits_NK, target_N)
    torch.testing.assert_close(loss_N.sum() / weight_N.sum(), torchs)
    assert loss_N.mean() != pytest.approx(torchs.item(), rel=0.01)


@pytest.mark.parametrize("name", Classification.losses)
def test_the_weight_of_an_images_class_multiplies_its_loss(name):
    logits_NK, target_N = logits_and_target()

    plain_N, weighted_N = (built(name, class_weights=weights)(logits_NK, target_N) for weights in (None, WEIGHTS))

    torch.testing.assert_close(weighted_N, plain_N * torch.tensor(WEIGHTS)[target_N])


@pytest.mark.parametrize("name", Classification.losses)
def test_balanced_weights_make_the_mean_over_images_that_over_classes(name):
    """Of three images of class 0, one of class 1, two each of 2 and 3: n / (K n_k) = 8/12, 8/4, 8/8, 8/8."""
    logits_NK, target_N = logits_and_target()
    target_N[:] = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3])

    plain_N = built(name)(logits_NK, target_N)
    weighted_N = built(name, class_weights=(2 / 3, 2.0, 1.0, 1.0))(logits_NK, target_N)

    of_class_K = torch.stack([plain_N[target_N == k].mean() for k in range(4)])
    torch.testing.assert_close(weighted_N.mean(), of_class_K.mean())


# Focal loss


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_by_hand(gamma):
    """Probabilities ¾ of the true class: Lin et al., arXiv:1708.02002 §3.2."""
    loss_N = built("focal", gamma=gamma)(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0]))

    assert loss_N.item() == pytest.approx(-((1 - 0.75) ** gamma) * math.log(0.75), rel=1e-6)


def test_focal_loss_with_gamma_0_is_cross_entropy():
    logits_NK, target_N = logits_and_target()
    logits_NK.requires_grad_()

    same(built("focal", gamma=0.0)(logits_NK, target_N), built("cross-entropy")(logits_NK, target_N), logits_NK)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_two_classes_is_torchvisions_with_their_weights_as_its_alpha(gamma):
    """The softmax of (0, z) is the sigmoid of z."""
    z_N, target_N = torch.linspace(-6, 6, 9), torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1])
    logits_NK = torch.stack([torch.zeros(9), z_N], dim=1)

    loss_N = built("focal", gamma=gamma, class_weights=(0.75, 0.25))(logits_NK, target_N)

    torch.testing.assert_close(loss_N, sigmoid_focal_loss(z_N, target_N.float(), alpha=0.25, gamma=gamma))


def test_focal_loss_of_several_labels_is_the_mean_of_torchvisions():
    logits_NL, target_NL = torch.randn(5, 3, generator=torch.Generator().manual_seed(3)), torch.eye(5)[:, :3]
    logits_NL.requires_grad_()

    wanted_N = sigmoid_focal_loss(logits_NL, target_NL, alpha=-1, gamma=2.0).mean(dim=1)

    same(built("focal", gamma=2.0)(logits_NL, target_NL), wanted_N, logits_NL)


def test_focal_loss_is_least_for_an_answer_less_sure_than_the_truth_and_cross_entropy_for_the_truth():
    """Nine of ten such images are of class 1: which answer p is best?"""
    p_P = torch.linspace(0.01, 0.99, 99)
    logits_PK = torch.stack([(1 - p_P).log(), p_P.log()], dim=1)

    def best(name):
        ones_P, zeros_P = (built(name)(logits_PK, torch.full((99,), k)) for k in (1, 0))
        return p_P[(0.9 * ones_P + 0.1 * zeros_P).argmin()].item()

    assert best("cross-entropy") == pytest.approx(0.9)
    assert 0.5 < best("focal") < 0.85


# Binary cross-entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_of_classes_is_timms(smoothing):
    logits_NK, target_N = logits_and_target()
    logits_NK.requires_grad_()

    loss_N = built("binary-cross-entropy", label_smoothing=smoothing)(logits_NK, target_N)

    wanted_N = BinaryCrossEntropy(smoothing=smoothing, reduction="none")(logits_NK, target_N).mean(dim=1)
    same(loss_N, wanted_N, logits_NK)


def test_binary_cross_entropy_of_undecided_logits_is_ln_2_however_many_classes():
    loss_N = built("binary-cross-entropy")(torch.zeros(2, 100), torch.tensor([0, 99]))

    assert loss_N.tolist() == pytest.approx([math.log(2)] * 2)


def test_binary_cross_entropy_of_several_labels_is_torchs():
    logits_NL, target_NL = torch.randn(5, 3, generator=torch.Generator().manual_seed(3)), torch.eye(5)[:, :3]

    loss_N = built("binary-cross-entropy")(logits_NL, target_NL)

    wanted_NL = functional.binary_cross_entropy_with_logits(logits_NL, target_NL, reduction="none")
    torch.testing.assert_close(loss_N, wanted_NL.mean(dim=1))


def test_a_smoothed_label_moves_towards_a_half():
    """Smoothing 0.2, logit log 3, so p = ¾: the target 1 becomes 0.9, the target 0 becomes 0.1."""
    logits_NL, target_NL = torch.full((1, 2), math.log(3.0)), torch.tensor([[1.0, 0.0]])

    loss_N = built("binary-cross-entropy", label_smoothing=0.2)(logits_NL, target_NL)

    yes, no = -math.log(0.75), -math.log(0.25)
    assert loss_N.item() == pytest.approx((0.9 * yes + 0.1 * no + 0.1 * yes + 0.9 * no) / 2, rel=1e-6)


# Mixtures: two losses weighed by share are the loss of the target that is mixed in the same shares


def mixture(logits_NK, target_N, **loss):
    """(the loss of a batch of mixtures, the mixed target)."""
    share_N = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.125, 0.5, 0.875, 0.0], dtype=torch.float64)
    partner_N = target_N.roll(1)
    batch = Batch(
        images_NCHW=torch.zeros(8, 3, 1, 1),
        target=target_N,
        rows_N=np.arange(8),
        partner=partner_N,
        share_N=share_N,
    )
    task = Classification(TargetInfo(names=("a", "b", "c", "d")), built(**loss))
    one_NK, other_NK = (functional.one_hot(labels_N, 4) for labels_N in (target_N, partner_N))
    return loss_of(task, logits_NK, batch)[0], share_N[:, None] * one_NK + (1 - share_N[:, None]) * other_NK


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_mixtures_is_that_of_the_mixed_target(smoothing, weights):
    logits_NK, target_N = logits_and_target(torch.float64)
    logits_NK.requires_grad_()
    loss = {"name": "cross-entropy", "label_smoothing": smoothing, "class_weights": weights}

    loss_N, soft_NK = mixture(logits_NK, target_N, **loss)

    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    wanted_N = functional.cross_entropy(logits_NK, soft_NK, weight=weight, label_smoothing=smoothing, reduction="none")
    same(loss_N, wanted_N, logits_NK)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_cross_entropy_of_mixtures_is_that_of_the_mixed_target(smoothing):
    logits_NK, target_N = logits_and_target(torch.float64)
    logits_NK.requires_grad_()

    loss_N, soft_NK = mixture(logits_NK, target_N, name="binary-cross-entropy", label_smoothing=smoothing)

    smoothed_NK = (1 - smoothing) * soft_NK + smoothing / 4
    wanted_NK = functional.binary_cross_entropy_with_logits(logits_NK, smoothed_NK, reduction="none")
    same(loss_N, wanted_NK.mean(dim=1), logits_NK)
