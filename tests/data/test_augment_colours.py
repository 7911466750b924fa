"""Brightness, contrast and saturation do what they are named after, and to each image alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from trainwright import seeding
from trainwright.data.colours import LUMA, factors, recolour
from trainwright.data.draws import draws


def random_images(images: int, *, side: int = 12, low: int = 0, high: int = 256, seed: int = 0) -> np.ndarray:
    return seeding.stream(seed, "test-images").integers(low, high, (images, side, side, 3), dtype=np.uint8)


def same_for_all(images: int, brightness: float = 1, contrast: float = 1, saturation: float = 1) -> np.ndarray:
    return np.array([[brightness, contrast, saturation]] * images, dtype=np.float32)


def grey(images_NHWC: np.ndarray) -> np.ndarray:
    found: np.ndarray = images_NHWC @ np.array(LUMA)
    return found


def test_factors_are_uniform_about_one() -> None:
    found = factors(0.4, draws(0, 0, 20_000))
    assert found.min() >= np.float32(0.6)
    assert found.max() <= np.float32(1.4)
    assert np.abs(found.mean(axis=0) - 1).max() < 4 * 0.4 / np.sqrt(3 * 20_000)
    assert np.abs(found.std(axis=0) - 0.4 / np.sqrt(3)).max() < 0.003
    assert np.abs(np.corrcoef(found.T) - np.eye(3)).max() < 4 / np.sqrt(20_000)


def test_factors_of_one_change_nothing() -> None:
    images = random_images(3)
    assert np.array_equal(recolour(images, same_for_all(3)), images)


def test_twice_the_brightness_doubles_every_value_up_to_white() -> None:
    images = random_images(2)
    assert np.array_equal(recolour(images, same_for_all(2, brightness=2)), np.minimum(2 * images.astype(int), 255))


def test_without_contrast_every_pixel_is_the_mean_grey() -> None:
    images = random_images(2)
    found = recolour(images, same_for_all(2, contrast=0))
    assert np.array_equal(found[:, 0, 0, 0], np.rint(grey(images).mean(axis=(1, 2))))
    assert (found == found[:, :1, :1, :1]).all()


def test_without_saturation_the_colours_are_equal_and_the_grey_stays() -> None:
    images = random_images(2)
    found = recolour(images, same_for_all(2, saturation=0))
    assert (found == found[..., :1]).all()
    assert np.abs(found[..., 0] - grey(images)).max() <= 0.5 + 1e-3


@given(
    brightness=st.floats(0.7, 1.3), contrast=st.floats(0.7, 1.3), saturation=st.floats(0.7, 1.3), seed=st.integers(0, 9)
)
def test_where_nothing_is_cut_off_it_is_pillows_enhancement(
    brightness: float, contrast: float, saturation: float, seed: int
) -> None:
    images = random_images(1, low=100, high=140, seed=seed)
    expected = Image.fromarray(images[0])
    for enhancer, factor in (
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, saturation),
    ):
        expected = enhancer(expected).enhance(factor)
    found = recolour(images, same_for_all(1, brightness, contrast, saturation))
    assert np.abs(found[0].astype(int) - np.asarray(expected)).max() <= 3  # Pillow rounds down, three times


@pytest.mark.parametrize("side", [12, 200], ids=["many-in-a-block", "one-in-a-block"])
def test_an_image_does_not_depend_on_its_neighbours_and_stays_as_it_is(side: int) -> None:
    images, chosen = random_images(5, side=side), factors(0.9, draws(0, 0, 5))
    images.flags.writeable = False
    alone = [recolour(images[i : i + 1], chosen[i : i + 1])[0] for i in range(5)]
    assert np.array_equal(recolour(images, chosen), np.stack(alone))


def test_a_batch_of_several_blocks_is_changed_throughout() -> None:
    images = random_images(300)
    assert np.array_equal(recolour(images, same_for_all(300, brightness=0.5)), np.floor(images / 2 + 0.5))
