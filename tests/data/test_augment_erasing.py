"""A rectangle of noise, of the size that was published, and targets that ask for nothing that lies under it."""

from __future__ import annotations

import numpy as np
import pytest

from trainwright import seeding
from trainwright.data.augment import Moves, move_boxes, move_masks, paint_images, plan, refuse_what_lies
from trainwright.data.draws import draws
from trainwright.data.erasing import AREA, ASPECT, erase, hide, holes
from trainwright.errors import RecipeError
from trainwright.recipe import AugmentSpec, Size
from trainwright.records import IGNORED

SIZE = (40, 60)


def random_images(images: int, size: Size = SIZE) -> np.ndarray:
    return seeding.stream(0, "test-images").integers(0, 256, (images, *size, 3), dtype=np.uint8)


def inside(holes_N4: np.ndarray, size: Size = SIZE) -> np.ndarray:
    """bool [N, H, W]: which pixels are in the hole of their image."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    left, top, right, bottom = holes_N4.T[..., None, None]
    found: np.ndarray = (columns >= left) & (columns < right) & (rows >= top) & (rows < bottom)
    return found


def one_hole(hole: tuple[int, int, int, int], *, flip: bool = False) -> Moves:
    height, width = SIZE
    return Moves(
        windows_N4=np.array([[0, 0, width, height]]), flips_N=np.array([flip]), size=SIZE, holes_N4=np.array([hole])
    )


def moved_one(box: list[float], moves: Moves) -> list[float]:
    found: list[float] = move_boxes(np.array([[box]], dtype=np.float32), moves)[0, 0].tolist()
    return found


def test_as_many_images_are_erased_as_asked_for() -> None:
    found = holes(SIZE, 0.25, draws(0, 0, 4000).astype(np.float64))
    assert (found[:, 2] > 0).mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000))


def test_holes_lie_inside_and_have_the_published_area_and_shape() -> None:
    left, top, right, bottom = holes((100, 100), 1.0, draws(0, 0, 4000).astype(np.float64)).T
    area, aspect = (right - left) * (bottom - top) / 100**2, (right - left) / (bottom - top)
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 100
    assert (AREA, ASPECT) == ((0.02, 0.4), 1 / 0.3)
    assert area.min() == pytest.approx(0.02, abs=0.002)  # whole pixels: a side of 8 is off by up to 6 %
    assert area.max() == pytest.approx(0.4, abs=0.01)
    assert area.mean() == pytest.approx(0.21, abs=0.01)
    assert aspect.min() == pytest.approx(0.3, abs=0.03)
    assert aspect.max() == pytest.approx(1 / 0.3, abs=0.3)
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.05)


def test_every_corner_is_erased_as_often_as_every_other() -> None:
    covered = inside(holes((20, 20), 1.0, draws(1, 0, 4000).astype(np.float64)), (20, 20)).mean(axis=0)
    corners = covered[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert np.ptp(corners) < 4 * np.sqrt(2 * corners.mean() / 4000)
    assert corners.mean() < covered[10, 10]


def test_noise_fills_the_hole_and_nothing_else() -> None:
    images, table = random_images(50), draws(0, 0, 50).astype(np.float64)
    images.flags.writeable = False
    places = holes(SIZE, 0.5, table)
    found, hidden = erase(images, places, table), inside(places)
    assert np.array_equal(found[~hidden], images[~hidden])
    values = found[hidden].ravel()
    assert len(values) > 10_000
    counts = np.bincount(values, minlength=256)
    assert np.abs(counts - len(values) / 256).max() < 5 * np.sqrt(len(values) / 256)


def test_the_noise_of_an_image_is_its_own_and_the_same_each_time() -> None:
    images, table = np.zeros((2, *SIZE, 3), np.uint8), draws(0, 0, 2).astype(np.float64)
    places = np.array([[0, 0, 30, 30]] * 2)
    found = erase(images, places, table)
    assert np.array_equal(found[1:], erase(images[1:], places[1:], table[1:]))
    assert not np.array_equal(found[0], found[1])


def test_all_of_an_image_outside_of_its_hole_is_as_without_erasing() -> None:
    images, table = random_images(20), draws(2, 0, 20)
    plain = AugmentSpec(flip=0.5, crop_padding=0.2, colour=0.3, trivial_augment=1.0)
    erased = plain.model_copy(update={"erase": 1.0})
    found = []
    for spec in (plain, erased):
        moves = plan(SIZE, SIZE, spec, table, 20)
        found.append(paint_images(images, moves, spec, table))
    assert moves.holes_N4 is not None
    hidden = inside(moves.holes_N4)
    assert np.array_equal(found[0][~hidden], found[1][~hidden])
    assert (found[0][hidden] != found[1][hidden]).any()


def test_what_a_mask_says_of_a_hole_is_ignored() -> None:
    masks = np.arange(2 * 40 * 60, dtype=np.int64).reshape(2, *SIZE).astype(np.uint8) % 5
    places = np.array([[10, 5, 30, 25], [0, 0, 0, 0]])
    found, hidden = hide(masks, places, IGNORED), inside(places)
    assert (found[hidden] == IGNORED).all()
    assert np.array_equal(found[~hidden], masks[~hidden])
    assert hidden.sum() == 400


def test_a_mask_is_hidden_where_its_image_is_erased() -> None:
    """The image is black, so noise shows where it was erased: in all but one of 256³ pixels."""
    spec, table = AugmentSpec(flip=0.5, vertical_flip=0.5, crop_padding=0.1, erase=1.0), draws(0, 0, 10)
    moves = plan(SIZE, SIZE, spec, table, 10, warpable=True)
    images = paint_images(np.zeros((10, *SIZE, 3), np.uint8), moves, spec, table, warpable=True)
    masks = move_masks(np.zeros((10, *SIZE), np.uint8), moves)
    assert np.array_equal(images.any(axis=3), masks == IGNORED)


def test_a_box_goes_when_less_than_a_quarter_of_it_can_be_seen() -> None:
    box = [1.0, 10.0, 10.0, 30.0, 30.0]
    assert moved_one(box, one_hole((10, 15, 40, 40))) == box
    assert moved_one(box, one_hole((10, 14, 40, 40)))[0] == -1
    assert moved_one(box, one_hole((40, 0, 60, 40))) == box


def test_a_hole_hides_the_box_as_it_lies_after_the_flip() -> None:
    hole = (10, 10, 30, 30)
    assert moved_one([1, 10, 10, 30, 30], one_hole(hole, flip=True)) == [1, 30, 10, 50, 30]
    assert moved_one([1, 30, 10, 50, 30], one_hole(hole, flip=True))[0] == -1


def test_an_empty_place_stays_empty_beside_a_hole() -> None:
    assert moved_one([-1, 0, 0, 0, 0], one_hole((0, 0, 30, 30))) == [-1, 0, 0, 0, 0]


def test_numbers_are_refused_because_they_may_count_what_is_erased() -> None:
    with pytest.raises(RecipeError) as caught:
        refuse_what_lies(AugmentSpec(erase=0.25), "numbers")
    assert str(caught.value) == (
        "augment.erase: a number may count or measure what was erased, and would be wrong. "
        "Set it to 0; augment.colour and augment.trivial_augment hide nothing of these images."
    )


@pytest.mark.parametrize("kind", ["class", "mask", "boxes"])
def test_other_targets_are_not_refused(kind: str) -> None:
    refuse_what_lies(AugmentSpec(erase=0.25, trivial_augment=1.0), kind)  # type: ignore[arg-type]


def test_numbers_without_erasing_are_not_refused() -> None:
    refuse_what_lies(AugmentSpec(trivial_augment=1.0, colour=0.4, vertical_flip=0.5), "numbers")
