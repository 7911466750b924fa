"""Where an image comes to lie is where its pixels, its mask and its boxes come to lie, and the way back is the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainwright.data.decode import fit_mask, fit_to
from trainwright.data.placement import FITS, place
from trainwright.errors import UnknownNameError
from trainwright.recipe import Size

SHAPES = st.tuples(st.integers(24, 120), st.integers(24, 120))
SIZES = st.tuples(st.integers(16, 90), st.integers(16, 90))
WHOLE = np.array([[0, 0, 40, 20]])  # the frame of an image of 40 × 20 pixels


def enclosing(shown_HW: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(shown_HW)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def test_crop_lets_the_sides_reach_outside() -> None:
    assert place(40, 20, (10, 10), "crop").forth(WHOLE).tolist() == [[-5, 0, 15, 10]]


def test_squash_fills_the_frame() -> None:
    assert place(40, 20, (10, 30), "squash").forth(WHOLE).tolist() == [[0, 0, 30, 10]]


def test_pad_leaves_borders_of_whole_pixels() -> None:
    assert place(40, 20, (13, 10), "pad").forth(WHOLE).tolist() == [[0, 4, 10, 9]]


def test_an_unknown_fit_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'squash'"):
        place(40, 20, (10, 10), "sqash")


@given(shape=SHAPES, size=SIZES, fit=st.sampled_from(FITS), corners=st.tuples(*[st.floats(0, 1)] * 4))
def test_back_undoes_forth(shape: Size, size: Size, fit: str, corners: tuple[float, float, float, float]) -> None:
    height, width = shape
    boxes = np.array([corners]) * [width, height, width, height]
    placed = place(width, height, size, fit)
    assert np.allclose(placed.back(placed.forth(boxes)), boxes, rtol=0, atol=1e-9)
    assert np.allclose(placed.forth(placed.back(boxes)), boxes, rtol=0, atol=1e-9)


@given(shape=SHAPES, size=SIZES, fit=st.sampled_from(FITS))
def test_a_bright_rectangle_is_where_its_box_says_in_image_and_mask(shape: Size, size: Size, fit: str) -> None:
    height, width = shape
    left, top, right, bottom = width // 4, height // 4, width - width // 4, height - height // 4
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 1
    image = Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2))
    moved = place(width, height, size, fit).forth(np.array([[left, top, right, bottom]]))[0]
    expected = np.clip(moved, 0, [size[1], size[0], size[1], size[0]])
    assert np.abs(enclosing(np.asarray(fit_to(image, size, fit))[..., 0] > 127) - expected).max() <= 1
    assert np.abs(enclosing(fit_mask(mask, size, fit) == 1) - expected).max() <= 1
