"""Random changes keep their promises: pixels are those of the image, moved, and masks and boxes move with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainwright import seeding
from trainwright.data.augment import (
    MIN_VISIBLE,
    Moves,
    crop_windows,
    move_boxes,
    move_images,
    move_masks,
    plan,
    stored_size,
)
from trainwright.data.draws import ALL, FIRST, FLIP, X, Y, draws
from trainwright.recipe import AugmentSpec, Size

ALWAYS_FLIPPED = AugmentSpec(flip=1.0)
UPSIDE_DOWN = AugmentSpec(vertical_flip=1.0)
RESIZED = AugmentSpec(crop_scale=(0.3, 1.0))
ALL_KINDS = [
    AugmentSpec(),
    AugmentSpec(flip=0.5),
    AugmentSpec(crop_padding=0.125),
    AugmentSpec(flip=0.5, crop_padding=0.9),
    AugmentSpec(flip=0.5, crop_scale=(0.1, 1.0)),
    AugmentSpec(flip=0.5, vertical_flip=0.5, crop_padding=0.3),
    AugmentSpec(vertical_flip=0.5, crop_scale=(0.1, 1.0)),
]
SIZES = st.tuples(st.integers(4, 40), st.integers(4, 40))
KINDS = st.sampled_from(ALL_KINDS)
FRAME = (20, 30)  # (height, width), where boxes are thought through by hand
GONE = [-1.0, 0.0, 0.0, 0.0, 0.0]


def random_images(images: int, size: Size, seed: int = 0) -> np.ndarray:
    return seeding.stream(seed, "test-images").integers(0, 256, (images, *size, 3), dtype=np.uint8)


def random_masks(images: int, size: Size, seed: int = 0) -> np.ndarray:
    return seeding.stream(seed, "test-masks").integers(0, 256, (images, *size), dtype=np.uint8)


def random_boxes(images: int, boxes: int, size: Size, seed: int = 0) -> np.ndarray:
    """Inside an image of `size` (height, width), some of them empty places: float32 [N, M, 5]."""
    stream, sides = seeding.stream(seed, "test-boxes"), np.array(size[::-1])
    ends = np.sort(stream.random((images, boxes, 2, 2)), axis=2) * sides
    classes = stream.integers(-1, 3, (images, boxes, 1))
    return np.concatenate([classes, ends.reshape(images, boxes, 4)], axis=2).astype(np.float32)


def planned(stored: np.ndarray, size: Size, spec: AugmentSpec | None, table: np.ndarray) -> Moves:
    return plan(stored.shape[1:3], size, spec, table, len(stored))


def augment(stored: np.ndarray, size: Size, spec: AugmentSpec, table: np.ndarray) -> np.ndarray:
    return move_images(stored, planned(stored, size, spec, table))


def one_move(window: tuple[int, int, int, int], *, flip: bool = False, size: Size = FRAME) -> Moves:
    return Moves(windows_N4=np.array([window]), flips_N=np.array([flip]), size=size)


def moved_one(boxes: list[list[float]], moves: Moves) -> list[list[float]]:
    found: list[list[float]] = move_boxes(np.array([boxes], dtype=np.float32), moves)[0].tolist()
    return found


def painted(boxes_N4: np.ndarray, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """White rectangles on black, as images [N, H, W, 3] and as masks of class 1 on class 0."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    left, top, right, bottom = boxes_N4.T[..., None, None]
    inside = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    return np.repeat(inside[..., None] * np.uint8(255), 3, axis=3), inside.astype(np.uint8)


def enclosing(masks_NHW: np.ndarray) -> np.ndarray:
    """The smallest boxes around all that is not 0: [N, 4]."""
    found = [np.nonzero(mask) for mask in masks_NHW]
    return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in found]).reshape(-1, 4)


def whole_boxes(images: int, size: Size, seed: int) -> np.ndarray:
    """Boxes with corners on whole pixels, at least 1 pixel wide and tall: int64 [N, 4]."""
    stream, sides = seeding.stream(seed, "whole-boxes"), np.array(size[::-1])
    starts = stream.integers(0, sides, (images, 2))
    return np.concatenate([starts, stream.integers(starts + 1, sides + 1)], axis=1)


def labelled(boxes_N4: np.ndarray) -> np.ndarray:
    """One box an image, of class 0: float32 [N, 1, 5]."""
    return np.insert(boxes_N4, 0, 0, axis=1)[:, None].astype(np.float32)


def test_what_is_stored_has_a_margin_only_for_a_resized_crop() -> None:
    assert stored_size((224, 112), AugmentSpec(crop_padding=0.1)) == (224, 112)
    assert stored_size((224, 112), RESIZED) == (256, 128)


def test_draws_of_a_sample_depend_on_seed_epoch_and_sample_alone() -> None:
    few, many = draws(3, 7, 10), draws(3, 7, 1000)
    assert np.array_equal(few, many[:10])
    assert not np.array_equal(few, draws(3, 8, 10))
    assert not np.array_equal(few, draws(4, 7, 10))


def test_the_first_draws_are_a_stream_of_their_own_which_more_columns_do_not_move() -> None:
    expected = seeding.stream(3, "augment", 7).random((10, 5), dtype=np.float32)
    assert FIRST == 5
    assert np.array_equal(draws(3, 7, 10)[:, :FIRST], expected)
    assert draws(3, 7, 10).shape == (10, ALL)


def test_draws_lie_in_zero_to_one() -> None:
    table = draws(0, 0, 10_000)
    assert table.min() >= 0
    assert table.max() < 1


def test_nothing_asked_for_changes_nothing_and_copies_nothing() -> None:
    images, masks = random_images(3, (8, 12)), random_masks(3, (8, 12))
    moves = planned(images, (8, 12), AugmentSpec(), draws(0, 0, 3))
    assert np.array_equal(move_images(images, moves), images)
    assert np.array_equal(move_masks(masks, moves), masks)
    assert np.shares_memory(move_images(images, moves), images)
    assert np.shares_memory(move_masks(masks, moves), masks)


def test_a_flip_mirrors_left_and_right() -> None:
    images = random_images(3, (8, 12))
    assert np.array_equal(augment(images, (8, 12), ALWAYS_FLIPPED, draws(0, 0, 3)), images[:, :, ::-1])


@given(size=SIZES, spec=st.sampled_from([ALWAYS_FLIPPED, UPSIDE_DOWN]), seed=st.integers(0, 100))
def test_a_flip_of_a_flip_is_the_image_its_mask_and_its_boxes(size: Size, spec: AugmentSpec, seed: int) -> None:
    images, masks = random_images(3, size, seed), random_masks(3, size, seed)
    moves = planned(images, size, spec, draws(seed, 0, 3))
    clean_moves = planned(images, size, None, draws(seed, 0, 3))
    boxes = move_boxes(random_boxes(3, 4, size, seed), clean_moves)
    assert np.array_equal(move_images(move_images(images, moves), moves), images)
    assert np.array_equal(move_masks(move_masks(masks, moves), moves), masks)
    assert np.allclose(move_boxes(move_boxes(boxes, moves), moves), boxes, rtol=0, atol=1e-5)


@given(size=SIZES, kind=KINDS, seed=st.integers(0, 100))
def test_with_a_flip_everything_is_the_mirror_image_of_what_it_is_without(
    size: Size, kind: AugmentSpec, seed: int
) -> None:
    stored, table = stored_size(size, kind), draws(seed, 0, 4)
    images, masks, boxes = (make(4, stored, seed) for make in (random_images, random_masks, _four_boxes))
    straight, flipped = (planned(images, size, kind.model_copy(update={"flip": flip}), table) for flip in (0.0, 1.0))
    assert np.array_equal(move_images(images, flipped), move_images(images, straight)[:, :, ::-1])
    assert np.array_equal(move_masks(masks, flipped), move_masks(masks, straight)[:, :, ::-1])
    plain, mirrored = move_boxes(boxes, straight), move_boxes(boxes, flipped)
    kept = plain[..., 0] >= 0
    assert np.array_equal(mirrored[..., 0], plain[..., 0])
    assert np.array_equal(mirrored[..., [2, 4]], plain[..., [2, 4]])
    assert np.allclose(mirrored[kept][:, [1, 3]], size[1] - plain[kept][:, [3, 1]], rtol=0, atol=1e-5)


def test_a_probability_of_a_quarter_flips_a_quarter() -> None:
    images = random_images(1, (4, 4)).repeat(4000, axis=0)
    out = augment(images, (4, 4), AugmentSpec(flip=0.25), draws(0, 0, 4000))
    flipped = (out == images[:, :, ::-1]).all(axis=(1, 2, 3)).mean()
    assert flipped == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000))


@given(size=SIZES, padding=st.floats(0, 0.99), flip=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 50))
def test_a_padded_crop_equals_numpys_reflection_cropped_and_mirrored(
    size: Size, padding: float, flip: float, seed: int
) -> None:
    images, table = random_images(4, size, seed), draws(seed, 0, 4)
    out = augment(images, size, AugmentSpec(flip=flip, crop_padding=padding), table)
    (height, width), (down, across) = size, (min(round(padding * side), side - 1) for side in size)
    padded = np.pad(images, ((0, 0), (down, down), (across, across), (0, 0)), mode="reflect")
    top, left = (
        np.floor(table[:, column].astype(float) * (2 * border + 1)).astype(int)
        for column, border in ((Y, down), (X, across))
    )
    crops = [
        one[y : y + height, x : x + width][:, :: -1 if mirrored else 1]
        for one, y, x, mirrored in zip(padded, top, left, table[:, FLIP] < flip, strict=True)
    ]
    assert np.array_equal(out, np.stack(crops))


def test_every_offset_of_a_padded_crop_occurs() -> None:
    gradient = np.broadcast_to(np.arange(16, dtype=np.uint8)[None, :, None], (16, 16, 3))
    out = augment(np.stack([gradient] * 500), (16, 16), AugmentSpec(crop_padding=0.125), draws(0, 0, 500))
    assert set(out[:, 0, 8, 0].tolist()) == {6, 7, 8, 9, 10}


def test_a_draw_just_below_one_stays_within_the_padding() -> None:
    table = np.full((1, ALL), np.nextafter(np.float32(1), np.float32(0)), dtype=np.float32)
    images = random_images(1, (32, 32))
    out = augment(images, (32, 32), AugmentSpec(crop_padding=0.125), table)
    assert np.array_equal(out[0, :28, :28], images[0, 4:, 4:])


@given(size=SIZES, colour=st.integers(0, 255), seed=st.integers(0, 50))
def test_a_resized_crop_of_one_colour_is_that_colour(size: Size, colour: int, seed: int) -> None:
    stored = np.full((3, *stored_size(size, RESIZED), 3), colour, np.uint8)
    assert (augment(stored, size, RESIZED, draws(seed, 0, 3)) == colour).all()


def test_a_resized_crop_of_everything_is_pillows_antialiased_resize() -> None:
    stored = random_images(1, (64, 32))
    out = augment(stored, (16, 8), AugmentSpec(crop_scale=(1.0, 1.0)), draws(0, 0, 1))
    expected = np.asarray(Image.fromarray(stored[0]).resize((8, 16), Image.Resampling.BILINEAR))
    assert np.abs(out[0].astype(int) - expected).max() <= 1


def test_a_resized_crop_of_a_whole_mask_is_pillows_nearest() -> None:
    stored = random_masks(1, (63, 35))
    out = move_masks(stored, planned(stored, (9, 7), AugmentSpec(crop_scale=(1.0, 1.0)), draws(0, 0, 1)))
    assert np.array_equal(out[0], np.asarray(Image.fromarray(stored[0]).resize((7, 9), Image.Resampling.NEAREST)))


def test_a_resized_crop_shows_what_is_in_its_window() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 64, 3))
    table = draws(1, 0, 50)
    out = augment(np.stack([ramp] * 50), (32, 32), RESIZED, table)
    left, _, right, _ = crop_windows((64, 64), (0.3, 1.0), table.astype(np.float64)).T
    middle = ((left + right) / 2 - 0.5) * 4  # grey value where the centre of the window lies
    assert np.abs(out[:, 16, 15:17, 0].mean(axis=1) - middle).max() < 2


@given(
    low=st.floats(0.02, 1),
    width=st.floats(0, 1),
    size=st.tuples(st.integers(8, 300), st.integers(8, 300)),  # so that no window wants less than half a pixel
    seed=st.integers(0, 50),
)
def test_windows_lie_inside_and_have_the_area_and_shape_asked_for(
    low: float, width: float, size: Size, seed: int
) -> None:
    high = low + width * (1 - low)
    left, top, right, bottom = crop_windows(size, (low, high), draws(seed, 0, 40).astype(np.float64)).T
    across, down = (right - left) / size[1], (bottom - top) / size[0]  # as shares of the whole
    half_x, half_y = ((0.5 + 1e-9) / side for side in size[::-1])  # whole pixels: a side is off by half a pixel at most
    assert min(left.min(), top.min()) >= 0
    assert max(across.max(), down.max(), (right / size[1]).max(), (bottom / size[0]).max()) <= 1
    assert min((right - left).min(), (bottom - top).min()) >= 1
    assert ((across + half_x) * (down + half_y)).min() >= low
    assert (np.maximum(across - half_x, 0) * np.maximum(down - half_y, 0)).max() <= high
    assert ((across + half_x) / np.maximum(down - half_y, half_y)).min() >= 3 / 4
    assert ((across - half_x) / (down + half_y)).max() <= 4 / 3


@given(
    size=SIZES,
    flip=st.sampled_from([0.0, 1.0]),
    turn=st.sampled_from([0.0, 1.0]),
    padding=st.floats(0, 0.5),
    seed=st.integers(0, 100),
)
def test_a_moved_box_encloses_the_pixels_of_the_moved_mask(
    size: Size, flip: float, turn: float, padding: float, seed: int
) -> None:
    boxes = whole_boxes(6, size, seed)
    images, masks = painted(boxes, size)
    spec = AugmentSpec(flip=flip, vertical_flip=turn, crop_padding=padding)
    moves = planned(images, size, spec, draws(seed, 0, 6))
    left, top = moves.windows_N4.T[:2, :, None, None]
    rows, columns = np.mgrid[: size[0], : size[1]]
    inside = (rows + top >= 0) & (rows + top < size[0]) & (columns + left >= 0) & (columns + left < size[1])
    inside = inside[
        :, :: -1 if turn else 1, :: -1 if flip else 1
    ]  # what is no reflection, which may show the rectangle again
    moved_masks, moved_boxes = move_masks(masks, moves), move_boxes(labelled(boxes), moves)
    kept = moved_boxes[:, 0, 0] == 0
    assert np.array_equal(move_images(images, moves)[..., 0] == 255, moved_masks == 1)
    assert np.array_equal(moved_boxes[kept, 0, 1:], enclosing((moved_masks * inside)[kept]))


@given(size=SIZES, flip=st.sampled_from([0.0, 1.0]), seed=st.integers(0, 100))
def test_a_box_in_a_resized_crop_encloses_the_mask_and_the_image_within_a_pixel(
    size: Size, flip: float, seed: int
) -> None:
    spec = RESIZED.model_copy(update={"flip": flip})
    stored = stored_size(size, spec)
    boxes = whole_boxes(6, stored, seed)
    images, masks = painted(boxes, stored)
    moves = planned(images, size, spec, draws(seed, 0, 6))
    moved_boxes = move_boxes(labelled(boxes), moves)[:, 0]
    for shown in (move_masks(masks, moves) == 1, move_images(images, moves)[..., 0] >= 128):
        kept = (moved_boxes[:, 0] == 0) & shown.any(axis=(1, 2))  # a box of 1 pixel may lie between the centres of two
        assert np.abs(moved_boxes[kept, 1:] - enclosing(shown[kept])).max(initial=0) <= 1


def test_a_box_moves_with_its_window_and_is_scaled_with_it() -> None:
    moves = one_move((10, 5, 25, 15))  # 15 × 10 pixels become 30 × 20
    assert moved_one([[2, 12, 6, 20, 13]], moves) == [[2, 4, 2, 20, 16]]


def test_a_flipped_box_lies_as_far_from_the_other_side() -> None:
    moves = one_move((0, 0, 30, 20), flip=True)
    assert moved_one([[0, 2, 3, 9, 11]], moves) == [[0, 21, 3, 28, 11]]


def test_a_box_is_clipped_to_the_frame() -> None:
    moves = one_move((-4, 6, 26, 26))
    assert moved_one([[1, 20, 2, 30, 18]], moves) == [[1, 24, 0, 30, 12]]


def test_a_quarter_of_a_box_stays_and_less_goes() -> None:
    moves = one_move((10, 10, 40, 30))
    assert MIN_VISIBLE == 0.25
    assert moved_one([[0, 5, 5, 15, 15]], moves) == [[0, 0, 0, 5, 5]]
    assert moved_one([[0, 4.9, 5, 14.9, 15]], moves) == [GONE]


def test_a_box_thinner_than_a_pixel_goes() -> None:
    moves = one_move((0, 0, 60, 40))  # shrinks by two
    assert moved_one([[0, 4, 4, 6, 24]], moves) == [[0, 2, 2, 3, 12]]
    assert moved_one([[0, 4, 4, 5.9, 24], [0, 4, 4, 24, 5.9]], moves) == [GONE, GONE]


def test_boxes_that_stay_come_first_in_their_order() -> None:
    moves = one_move((0, 0, 30, 20))
    boxes: list[list[float]] = [GONE, [1, 0, 0, 9, 9], [0, 40, 0, 50, 9], [0, 1, 1, 8, 8], GONE]
    assert moved_one(boxes, moves) == [boxes[1], boxes[3], GONE, GONE, GONE]


def test_moved_boxes_are_float32_of_the_same_shape() -> None:
    moved = move_boxes(random_boxes(1, 7, FRAME), one_move((0, 0, 30, 20)))
    assert moved.dtype == np.float32
    assert moved.shape == (1, 7, 5)


@pytest.mark.parametrize("spec", ALL_KINDS, ids=str)
def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(spec: AugmentSpec) -> None:
    size, table = (16, 20), draws(0, 0, 9)
    images, masks, boxes = (make(9, stored_size(size, spec)) for make in (random_images, random_masks, _four_boxes))
    together = planned(images, size, spec, table)
    alone = [planned(images[i : i + 1], size, spec, table[i : i + 1]) for i in range(9)]
    for move, stored in ((move_images, images), (move_masks, masks), (move_boxes, boxes)):
        one_by_one = [move(stored[i : i + 1], moves)[0] for i, moves in enumerate(alone)]
        assert np.array_equal(move(stored, together), np.stack(one_by_one))


def test_a_batch_larger_than_one_block_is_changed_throughout() -> None:
    images, masks = random_images(9, (224, 224)), random_masks(30, (224, 224))  # 150 kB and 50 kB each: several blocks
    assert np.array_equal(augment(images, (224, 224), ALWAYS_FLIPPED, draws(0, 0, 9)), images[:, :, ::-1])
    moves = planned(masks, (224, 224), ALWAYS_FLIPPED, draws(0, 0, 30))
    assert np.array_equal(move_masks(masks, moves), masks[:, :, ::-1])


@pytest.mark.parametrize("spec", ALL_KINDS, ids=str)
def test_what_is_stored_stays_as_it_is(spec: AugmentSpec) -> None:
    size = (16, 20)
    images, masks, boxes = (make(5, stored_size(size, spec)) for make in (random_images, random_masks, _four_boxes))
    moves = planned(images, size, spec, draws(0, 0, 5))
    for stored in (images, masks, boxes):
        stored.flags.writeable = False
    assert move_images(images, moves).shape == (5, 16, 20, 3)
    assert move_masks(masks, moves).shape == (5, 16, 20)
    assert move_boxes(boxes, moves).shape == (5, 4, 5)


@pytest.mark.parametrize("spec", [None, AugmentSpec(flip=1.0, crop_padding=0.5)], ids=str)
def test_the_clean_transform_is_the_middle(spec: AugmentSpec | None) -> None:
    images, masks = random_images(2, (10, 14)), random_masks(2, (10, 14))
    moves = plan((10, 14), (8, 10), spec, None, 2)
    assert np.array_equal(move_images(images, moves), images[:, 1:9, 2:12])
    assert np.array_equal(move_masks(masks, moves), masks[:, 1:9, 2:12])
    assert moved_one([[0, 2, 1, 6, 9]], plan((10, 14), (8, 10), spec, None, 1)) == [[0, 0, 0, 4, 8]]
    assert move_images(images, moves).flags.c_contiguous


@given(size=SIZES, margin=st.tuples(st.integers(0, 9), st.integers(0, 9)), seed=st.integers(0, 50))
def test_a_shift_inside_of_a_larger_image_shows_what_is_there(size: Size, margin: Size, seed: int) -> None:
    stored = (size[0] + margin[0], size[1] + margin[1])
    images = random_images(3, stored, seed)
    starts = seeding.stream(seed, "starts").integers(0, (margin[1] + 1, margin[0] + 1), (3, 2))
    moves = Moves(
        windows_N4=np.concatenate([starts, starts + size[::-1]], axis=1), flips_N=np.array([1, 0, 1], bool), size=size
    )
    crops = [image[y : y + size[0], x : x + size[1]] for image, (x, y) in zip(images, starts, strict=True)]
    assert np.array_equal(move_images(images, moves), np.stack([crops[0][:, ::-1], crops[1], crops[2][:, ::-1]]))


def _four_boxes(images: int, size: Size, seed: int = 0) -> np.ndarray:
    return random_boxes(images, 4, size, seed)
