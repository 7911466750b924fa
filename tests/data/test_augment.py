"""Random changes keep their promises: pixels are those of the image, moved; each image depends on its own draws alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainwright import seeding
from trainwright.data.augment import FLIP, X, Y, augment, boxes, clean, draws, stored_size
from trainwright.recipe import AugmentSpec

ALWAYS_FLIPPED = AugmentSpec(flip=1.0)
RESIZED = AugmentSpec(crop_scale=(0.3, 1.0))
ALL_KINDS = [
    AugmentSpec(),
    AugmentSpec(flip=0.5),
    AugmentSpec(crop_padding=0.125),
    AugmentSpec(flip=0.5, crop_padding=0.9),
    AugmentSpec(flip=0.5, crop_scale=(0.1, 1.0)),
]


def random_images(images: int, size: int, seed: int = 0) -> np.ndarray:
    return seeding.stream(seed, "test-images").integers(0, 256, (images, size, size, 3), dtype=np.uint8)


def test_what_is_stored_has_a_margin_only_for_a_resized_crop() -> None:
    assert stored_size(224, AugmentSpec(crop_padding=0.1)) == 224
    assert stored_size(224, RESIZED) == 256


def test_draws_of_a_sample_depend_on_seed_epoch_and_sample_alone() -> None:
    few, many = draws(3, 7, 10), draws(3, 7, 1000)
    assert np.array_equal(few, many[:10])
    assert not np.array_equal(few, draws(3, 8, 10))
    assert not np.array_equal(few, draws(4, 7, 10))


def test_draws_lie_in_zero_to_one() -> None:
    table = draws(0, 0, 10_000)
    assert table.min() >= 0
    assert table.max() < 1


def test_nothing_asked_for_changes_nothing() -> None:
    images = random_images(3, 8)
    assert np.array_equal(augment(images, 8, AugmentSpec(), draws(0, 0, 3)), images)


def test_a_flip_mirrors_left_and_right() -> None:
    images = random_images(3, 8)
    assert np.array_equal(augment(images, 8, ALWAYS_FLIPPED, draws(0, 0, 3)), images[:, :, ::-1])


@given(size=st.integers(4, 40), seed=st.integers(0, 100))
def test_a_flip_of_a_flip_is_the_image(size: int, seed: int) -> None:
    images, table = random_images(3, size, seed), draws(seed, 0, 3)
    twice = augment(augment(images, size, ALWAYS_FLIPPED, table), size, ALWAYS_FLIPPED, table)
    assert np.array_equal(twice, images)


def test_a_probability_of_a_quarter_flips_a_quarter() -> None:
    images = random_images(1, 4).repeat(4000, axis=0)
    out = augment(images, 4, AugmentSpec(flip=0.25), draws(0, 0, 4000))
    flipped = (out == images[:, :, ::-1]).all(axis=(1, 2, 3)).mean()
    assert flipped == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000))


@given(
    size=st.integers(4, 24), padding=st.floats(0, 0.99), flip=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 50)
)
def test_a_padded_crop_equals_numpys_reflection_cropped_and_mirrored(
    size: int, padding: float, flip: float, seed: int
) -> None:
    images, table = random_images(4, size, seed), draws(seed, 0, 4)
    out = augment(images, size, AugmentSpec(flip=flip, crop_padding=padding), table)
    border = min(round(padding * size), size - 1)
    padded = np.pad(images, ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    top, left = (np.floor(table[:, column].astype(float) * (2 * border + 1)).astype(int) for column in (Y, X))
    crops = [
        one[y : y + size, x : x + size][:, :: -1 if mirrored else 1]
        for one, y, x, mirrored in zip(padded, top, left, table[:, FLIP] < flip, strict=True)
    ]
    assert np.array_equal(out, np.stack(crops))


def test_every_offset_of_a_padded_crop_occurs() -> None:
    gradient = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None], (16, 16, 3))
    out = augment(np.stack([gradient] * 500), 16, AugmentSpec(crop_padding=0.125), draws(0, 0, 500))
    assert set(out[:, 0, 8, 0].tolist()) == {6, 7, 8, 9, 10}


def test_a_draw_just_below_one_stays_within_the_padding() -> None:
    table = np.full((1, 5), np.nextafter(np.float32(1), np.float32(0)), dtype=np.float32)
    images = random_images(1, 32)
    out = augment(images, 32, AugmentSpec(crop_padding=0.125), table)
    assert np.array_equal(out[0, :28, :28], images[0, 4:, 4:])


@given(size=st.integers(4, 32), colour=st.integers(0, 255), seed=st.integers(0, 50))
def test_a_resized_crop_of_one_colour_is_that_colour(size: int, colour: int, seed: int) -> None:
    stored = np.full((3, stored_size(size, RESIZED), stored_size(size, RESIZED), 3), colour, np.uint8)
    assert (augment(stored, size, RESIZED, draws(seed, 0, 3)) == colour).all()


def test_a_resized_crop_of_everything_is_pillows_antialiased_resize() -> None:
    stored = random_images(1, 64)
    out = augment(stored, 16, AugmentSpec(crop_scale=(1.0, 1.0)), draws(0, 0, 1))
    expected = np.asarray(Image.fromarray(stored[0]).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.abs(out[0].astype(int) - expected).max() <= 1


def test_a_resized_crop_shows_what_is_in_its_box() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 64, 3))
    table = draws(1, 0, 50)
    out = augment(np.stack([ramp] * 50), 32, RESIZED, table)
    left, _, right, _ = boxes(64, (0.3, 1.0), table.astype(np.float64)).T
    middle = ((left + right) / 2 - 0.5) * 4  # grey value where the centre of the box lies
    assert np.abs(out[:, 16, 15:17, 0].mean(axis=1) - middle).max() < 2


@given(low=st.floats(0.02, 1), width=st.floats(0, 1), side=st.integers(4, 300), seed=st.integers(0, 50))
def test_boxes_lie_inside_and_have_the_area_and_shape_asked_for(low: float, width: float, side: int, seed: int) -> None:
    high = low + width * (1 - low)
    left, top, right, bottom = boxes(side, (low, high), draws(seed, 0, 40).astype(np.float64)).T
    wide, tall, half = right - left, bottom - top, 0.5 + 1e-9  # whole pixels: each side is off by half a pixel at most
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= side
    assert min(wide.min(), tall.min()) >= 1
    assert ((wide + half) * (tall + half)).min() >= low * side**2
    assert (np.maximum(wide - half, 0) * np.maximum(tall - half, 0)).max() <= high * side**2
    assert ((wide + half) / np.maximum(tall - half, half)).min() >= 3 / 4
    assert ((wide - half) / (tall + half)).max() <= 4 / 3


@pytest.mark.parametrize("spec", ALL_KINDS, ids=str)
def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(spec: AugmentSpec) -> None:
    stored, table = random_images(9, stored_size(16, spec)), draws(0, 0, 9)
    together = augment(stored, 16, spec, table)
    alone = [augment(stored[i : i + 1], 16, spec, table[i : i + 1])[0] for i in range(9)]
    assert np.array_equal(together, np.stack(alone))


def test_a_batch_larger_than_one_block_is_changed_throughout() -> None:
    images = random_images(9, 224)  # 150 kB each: several blocks
    assert np.array_equal(augment(images, 224, ALWAYS_FLIPPED, draws(0, 0, 9)), images[:, :, ::-1])


@pytest.mark.parametrize("spec", ALL_KINDS, ids=str)
def test_the_stored_images_stay_as_they_are(spec: AugmentSpec) -> None:
    stored = random_images(5, stored_size(16, spec))
    stored.flags.writeable = False
    assert augment(stored, 16, spec, draws(0, 0, 5)).shape == (5, 16, 16, 3)


def test_the_clean_transform_is_the_middle() -> None:
    images = random_images(2, 10)
    assert np.array_equal(clean(images, 8), images[:, 1:9, 1:9])
    assert clean(images, 8).flags.c_contiguous
