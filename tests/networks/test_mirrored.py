"""Answers to an image and to its mirror image, averaged."""

import torch
from torch import nn

from trainwright.networks.mirrored import with_mirror
from trainwright.training.model import ImageNetwork

LEFT = torch.tensor([[[[8.0, 0.0], [8.0, 0.0]]]])  # [1, 1, 2, 2]: bright on the left


class SeesTheLeft(nn.Module):
    """The mean of the left column: 8 of LEFT, 0 of its mirror image."""

    def forward(self, images_NCHW):
        return images_NCHW[..., 0].mean(dim=2)


def test_an_answer_is_the_mean_of_both():
    assert with_mirror(SeesTheLeft(), LEFT).tolist() == [[4.0]]


def test_a_map_is_mirrored_back_before_the_mean():
    assert torch.equal(with_mirror(nn.Identity(), LEFT), LEFT)


def test_a_training_sees_each_image_once_and_an_evaluation_both_ways():
    network = ImageNetwork(SeesTheLeft(), mean=(0.0,), std=(1 / 255,), test_time_flip=True)

    assert network.train()(LEFT).tolist() == [[8.0]]
    assert network.eval()(LEFT).tolist() == [[4.0]]


def test_without_it_an_evaluation_sees_the_image_alone():
    assert ImageNetwork(SeesTheLeft(), mean=(0.0,), std=(1 / 255,)).eval()(LEFT).tolist() == [[8.0]]
