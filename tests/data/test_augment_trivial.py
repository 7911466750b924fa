"""Each operation of TrivialAugment does what it is named after, masks go along with warps, and strength scales all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import functional  # type: ignore[import-untyped]

from trainwright import seeding
from trainwright.data.augment import move_images, move_masks, paint_images, plan
from trainwright.data.draws import draws
from trainwright.data.trivial_augment import (
    COLOURS,
    OPERATIONS,
    UNWARPED,
    WARPS,
    choose,
    coefficients,
    recolour,
    warp_images,
    warp_masks,
)
from trainwright.recipe import AugmentSpec, Size
from trainwright.records import IGNORED

SIZES = st.tuples(st.integers(4, 40), st.integers(4, 40))
MAGNITUDES = st.floats(-1, 1)
WIDE = AugmentSpec(trivial_augment=1.0)


def random_images(images: int, size: Size, seed: int = 0) -> np.ndarray:
    return seeding.stream(seed, "test-images").integers(0, 256, (images, *size, 3), dtype=np.uint8)


def with_border(image_HWC: np.ndarray, value: int) -> np.ndarray:
    framed = image_HWC.copy()
    framed[[0, -1]] = value
    framed[:, [0, -1]] = value
    return framed


def warped(image_HWC: np.ndarray, operation: str, magnitude: float) -> np.ndarray:
    found: np.ndarray = warp_images(
        image_HWC[None], np.array([coefficients(operation, magnitude, image_HWC.shape[:2])])
    )[0]
    return found


def recoloured(image_HWC: np.ndarray, operation: str, magnitude: float, strength: float = 1.0) -> np.ndarray:
    found: np.ndarray = recolour(image_HWC[None], [operation], [magnitude], strength)[0]
    return found


def test_the_operations_are_the_fourteen_of_the_paper() -> None:
    assert len(OPERATIONS) == len(set(OPERATIONS)) == 14


@pytest.mark.parametrize("warpable", [True, False])
def test_all_operations_are_equally_likely_and_warps_only_where_targets_bear_them(warpable: bool) -> None:
    operations, _ = choose(1.0, draws(0, 0, 14_000), warpable=warpable)
    expected = OPERATIONS if warpable else tuple(name for name in OPERATIONS if name not in WARPS)
    share = 1 / len(expected)
    assert set(operations) == set(expected)
    for name in expected:
        assert operations.count(name) / 14_000 == pytest.approx(share, abs=4 * np.sqrt(share / 14_000))


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_magnitudes_are_uniform_within_the_strength_and_of_either_sign(strength: float) -> None:
    _, magnitudes = choose(strength, draws(0, 0, 10_000), warpable=True)
    sizes = np.abs(magnitudes)
    assert sizes.max() < strength
    assert np.histogram(sizes, bins=5, range=(0, strength))[0] == pytest.approx(2000, abs=4 * np.sqrt(2000 * 0.8))
    assert np.mean(np.array(magnitudes) < 0) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("operation", COLOURS)
def test_colours_stay_as_they_are_at_strength_zero(operation: str) -> None:
    image = random_images(1, (9, 11))[0] // 2
    assert np.array_equal(recoloured(image, operation, 0.0, strength=0.0), image)


@pytest.mark.parametrize("operation", WARPS)
def test_nothing_moves_at_magnitude_zero(operation: str) -> None:
    assert coefficients(operation, 0.0, (9, 11)) == UNWARPED


def test_brightness_multiplies_by_one_plus_the_magnitude() -> None:
    image = np.full((4, 4, 3), 100, np.uint8)
    assert (recoloured(image, "brightness", -1.0) == 1).all()
    assert (recoloured(image, "brightness", 1.0) == 199).all()


def test_saturation_goes_from_almost_grey_to_twice_the_colour() -> None:
    image = np.broadcast_to(np.array([120, 100, 80], np.uint8), (4, 4, 3))
    assert np.ptp(recoloured(image, "saturation", -1.0)) <= 1
    assert np.ptp(recoloured(image, "saturation", 1.0)) == pytest.approx(80, abs=1)


def test_contrast_goes_from_almost_one_grey_to_twice_the_distance_from_it() -> None:
    image = np.full((4, 4, 3), 80, np.uint8)
    image[2:] = 120
    assert np.ptp(recoloured(image, "contrast", -1.0)) <= 1
    assert np.ptp(recoloured(image, "contrast", 1.0)) == pytest.approx(80, abs=1)


def test_sharpness_smooths_an_edge_or_makes_it_steeper() -> None:
    image = np.full((9, 10, 3), 80, np.uint8)
    image[:, 5:] = 120
    step = [int(recoloured(image, "sharpness", magnitude)[4, 5, 0]) for magnitude in (-1.0, 0.0, 1.0)]
    assert step[0] < step[1] == 120 < step[2]


def test_posterizing_clears_the_lowest_bits_up_to_six() -> None:
    image = random_images(1, (8, 8))[0]
    assert np.array_equal(recoloured(image, "posterize", 0.5), image & 0b11111000)
    assert np.array_equal(recoloured(image, "posterize", -0.5), image & 0b11111000)
    assert np.array_equal(recoloured(image, "posterize", 1.0), image & 0b11000000)
    assert np.array_equal(recoloured(image, "posterize", 0.08), image)


def test_solarizing_inverts_what_is_at_least_the_threshold() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    assert np.array_equal(recoloured(ramp, "solarize", 0.25), np.where(ramp >= 192, 255 - ramp, ramp))
    assert np.array_equal(recoloured(ramp, "solarize", -1.0), 255 - ramp)


@pytest.mark.parametrize(
    ("operation", "made"), [("autocontrast", ImageOps.autocontrast), ("equalize", ImageOps.equalize)]
)
def test_operations_without_magnitude_are_mixed_in_by_strength(
    operation: str, made: Callable[[Image.Image], Image.Image]
) -> None:
    image = random_images(1, (32, 32))[0] // 3 + 40
    whole = np.asarray(made(Image.fromarray(image)))
    halfway = (image.astype(float) + whole) / 2
    assert not np.array_equal(whole, image)
    assert np.array_equal(recoloured(image, operation, 0.7), whole)
    assert np.abs(recoloured(image, operation, 0.7, strength=0.5) - halfway).max() <= 1


def test_a_translation_shifts_by_up_to_32_pixels_and_never_by_more_than_the_image() -> None:
    image = with_border(random_images(1, (64, 48))[0], 77)
    found = warped(image, "translate-x", 0.25)
    assert np.array_equal(found[:, :-8], image[:, 8:])
    assert (found[:, -8:] == 77).all()
    assert np.array_equal(warped(image, "translate-y", -1.0)[32:], image[:32])
    assert coefficients("translate-x", 1.0, (16, 20)) == (1, 0, 20, 0, 1, 0)


def test_a_shear_shifts_every_row_by_its_distance_from_the_top() -> None:
    image = with_border(random_images(1, (16, 16))[0], 77)
    found = warped(image, "shear-x", 1.0)  # 0.99 of a pixel a row, measured at its middle
    for row in range(16):
        assert np.array_equal(found[row, : 16 - row], image[row, row:])
        assert (found[row, 16 - row :] == 77).all()


def test_a_vertical_shear_is_a_horizontal_one_of_the_transposed_image() -> None:
    image = random_images(1, (16, 12))[0]
    transposed = warped(np.swapaxes(image, 0, 1), "shear-x", 0.5)
    assert np.array_equal(warped(image, "shear-y", 0.5), np.swapaxes(transposed, 0, 1))


def test_a_rotation_turns_about_the_middle_by_up_to_135_degrees() -> None:
    image = random_images(1, (16, 16))[0]
    assert np.array_equal(warped(image, "rotate", 90 / 135), np.rot90(image, -1))
    assert np.array_equal(warped(image, "rotate", -90 / 135), np.rot90(image, 1))


def test_what_comes_from_outside_has_the_mean_colour_of_the_border() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[0], image[-1] = (200, 100, 50), (100, 200, 150)
    image[:, [0, -1]] = 0
    mean = (image[[0, -1]].sum(axis=(0, 1)) + image[:, [0, -1]].sum(axis=(0, 1))) / 40
    assert warped(image, "translate-x", 1.0)[5, 5].tolist() == np.rint(mean).tolist()


@pytest.mark.parametrize("magnitude", [-1.0, -0.4, 0.13, 1.0])
@pytest.mark.parametrize("operation", WARPS)
def test_warps_are_torchvisions(operation: str, magnitude: float) -> None:
    image = with_border(random_images(1, (40, 30))[0], 9)
    degrees = np.degrees(np.arctan(0.99 * magnitude))
    shift = -int(min(32, 30 if operation == "translate-x" else 40) * magnitude)
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], "fill": [9, 9, 9]}
    options |= {
        "shear-x": {"shear": [degrees, 0.0], "center": [0, 0]},
        "shear-y": {"shear": [0.0, degrees], "center": [0, 0]},
        "translate-x": {"translate": [shift, 0]},
        "translate-y": {"translate": [0, shift]},
        "rotate": {"angle": 135 * magnitude},
    }[operation]
    expected = np.asarray(functional.affine(Image.fromarray(image), **options))
    found = warped(image, operation, magnitude)
    assert (found != expected).any(axis=2).mean() < 0.005  # the nearest of two equally near pixels


@given(size=SIZES, operation=st.sampled_from(WARPS), magnitude=MAGNITUDES, seed=st.integers(0, 20))
def test_a_mask_is_warped_as_its_image_and_ignored_where_it_came_from_outside(
    size: Size, operation: str, magnitude: float, seed: int
) -> None:
    masks = seeding.stream(seed, "test-masks").integers(0, 200, (1, *size), dtype=np.uint8)
    images = np.repeat(masks[..., None], 3, axis=3)
    warps = np.array([coefficients(operation, magnitude, size)])
    found_mask, found_image = warp_masks(masks, warps, IGNORED), warp_images(images, warps)
    known = found_mask != IGNORED
    assert np.array_equal(found_image[known], np.repeat(found_mask[known][:, None], 3, axis=1))
    outside = found_image[~known]
    assert (outside == outside[:1]).all()


def test_a_plan_warps_images_and_masks_alike_after_crop_and_flips() -> None:
    spec, table = AugmentSpec(flip=0.5, vertical_flip=0.5, crop_padding=0.2, trivial_augment=1.0), draws(0, 0, 60)
    masks = seeding.stream(0, "test-masks").integers(0, 200, (60, 16, 20), dtype=np.uint8)
    moves = plan((16, 20), (16, 20), spec, table, 60, warpable=True)
    images = move_images(np.repeat(masks[..., None], 3, axis=3), moves)
    moved = move_masks(masks, moves)
    known = moved != IGNORED
    assert np.array_equal(images[..., 0][known], moved[known])
    assert 0.5 < known.mean() < 1


def test_where_targets_do_not_bear_it_nothing_is_warped() -> None:
    assert plan((16, 20), (16, 20), WIDE, draws(0, 0, 60), 60, warpable=False).warps_N6 is None


@pytest.mark.parametrize("warpable", [True, False])
def test_a_sample_does_not_depend_on_its_neighbours_and_stays_as_it_is(warpable: bool) -> None:
    spec = AugmentSpec(vertical_flip=0.5, crop_padding=0.2, colour=0.5, trivial_augment=0.7, erase=0.5)
    images, table = random_images(40, (12, 14)), draws(1, 0, 40)
    images.flags.writeable = False

    def made(part: slice) -> np.ndarray:
        moves = plan((12, 14), (12, 14), spec, table[part], len(table[part]), warpable=warpable)
        return paint_images(move_images(images[part], moves), moves, spec, table[part], warpable=warpable)

    alone = [made(slice(i, i + 1))[0] for i in range(40)]
    assert np.array_equal(made(slice(None)), np.stack(alone))
    assert sum(not np.array_equal(image, one) for image, one in zip(images, alone, strict=True)) > 35
