"""What speaks for an output: it lies where a model looks, sums to what it has to, and is drawn in the right colour."""

import numpy as np
import pytest
import torch
from torch import nn

from trainwright.deploy.attribution import attribute, overlaid

pytest.importorskip("captum")


class Corner(nn.Module):
    """Says how bright the upper left quarter is, less how bright the lower right one is."""

    def forward(self, images_NCHW):
        grey_NHW = images_NCHW.mean(dim=1)
        half = grey_NHW.shape[1] // 2
        difference_N = grey_NHW[:, :half, :half].mean(dim=(1, 2)) - grey_NHW[:, half:, half:].mean(dim=(1, 2))
        return torch.stack([difference_N, -difference_N], dim=1)


@pytest.fixture
def image():
    """Bright at the upper left, dark elsewhere."""
    image_HWC = np.full((32, 32, 3), 20, np.uint8)
    image_HWC[:16, :16] = 220
    return image_HWC


def test_what_speaks_for_it_lies_where_the_model_looks(image):
    heat = attribute(Corner(), image, lambda outputs: outputs[:, 0]).heat_HW

    assert heat.shape == (32, 32)
    assert heat[2:14, 2:14].min() > 0
    assert heat[18:30, 18:30].min() > 0  # darker than the plain image, where dark speaks for it
    assert abs(heat[2:14, 18:30]).max() < 1e-6


def test_for_the_other_output_the_same_speaks_against_it(image):
    one, other = (attribute(Corner(), image, lambda outputs, k=k: outputs[:, k]).heat_HW for k in (0, 1))

    np.testing.assert_allclose(one, -other, atol=1e-6)


def test_the_sum_is_the_difference_to_what_is_said_of_a_plain_image(image):
    found = attribute(Corner(), image, lambda outputs: outputs[:, 0])

    assert found.output == pytest.approx(200)
    assert found.plain == pytest.approx(0, abs=1e-3)
    assert found.unexplained < 1e-4


def test_a_model_that_jumps_between_the_two_is_told_not_to_be_explained(image):
    class Jumps(nn.Module):
        def forward(self, images_NCHW):
            level_N = images_NCHW[:, :, :16, :16].mean(dim=(1, 2, 3))
            return (torch.round(level_N / 64) * 64 + 0 * level_N)[:, None]

    assert attribute(Jumps(), image, lambda outputs: outputs[:, 0]).unexplained > 0.5


def test_weights_get_no_gradients(image):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))

    attribute(model, image, lambda outputs: outputs[:, 1])

    assert all(parameter.grad is None for parameter in model.parameters())


def test_red_speaks_for_it_and_blue_against(image):
    heat = np.zeros((32, 32))
    heat[0, 0], heat[31, 31] = 1.0, -1.0

    drawn = overlaid(np.full((32, 32, 3), 128, np.uint8), np.where(heat == 0, 0, heat))

    assert drawn[0, 0, 0] > drawn[0, 0, 2]
    assert drawn[31, 31, 2] > drawn[31, 31, 0]
    assert drawn[5, 5].tolist() == [128, 128, 128]
