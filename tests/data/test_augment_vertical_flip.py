"""Images, masks and boxes turned upside down together."""

from __future__ import annotations

import numpy as np
import pytest

from trainwright import seeding
from trainwright.data.augment import Moves, move_boxes, move_images, move_masks, plan
from trainwright.data.draws import VERTICAL_FLIP, draws
from trainwright.recipe import AugmentSpec, Size

IMAGES = seeding.stream(0, "test-images").integers(0, 256, (3, 8, 12, 3), dtype=np.uint8)
MASKS = seeding.stream(0, "test-masks").integers(0, 256, (3, 8, 12), dtype=np.uint8)


def whole(size: Size, upside_down: list[bool] | None = None) -> Moves:
    """The whole of images of 8 × 12 pixels, brought to `size`."""
    return Moves(
        windows_N4=np.array([[0, 0, 12, 8]] * 3),
        flips_N=np.zeros(3, bool),
        size=size,
        vertical_flips_N=None if upside_down is None else np.array(upside_down),
    )


@pytest.mark.parametrize("size", [(8, 12), (7, 10)], ids=["as-stored", "resized"])
def test_the_last_row_comes_first_where_it_is_asked_for(size: Size) -> None:
    moves = whole(size, [True, False, True])
    for found, plain in (
        (move_images(IMAGES, moves), move_images(IMAGES, whole(size))),
        (move_masks(MASKS, moves), move_masks(MASKS, whole(size))),
    ):
        assert np.array_equal(found[[0, 2]], plain[[0, 2], ::-1])
        assert np.array_equal(found[1], plain[1])


def test_a_box_lies_as_far_from_the_other_edge() -> None:
    moves = whole((8, 12), [True] * 3)
    boxes = np.array([[[0, 2, 1, 9, 3]]] * 3, dtype=np.float32)
    assert move_boxes(boxes, moves)[0].tolist() == [[0, 2, 5, 9, 7]]


def test_it_happens_as_often_as_asked_for_and_independently_of_the_other_flip() -> None:
    table = draws(0, 0, 4000)
    moves = plan((4, 4), (4, 4), AugmentSpec(flip=0.5, vertical_flip=0.25), table, 4000)
    assert moves.vertical_flips_N is not None
    assert np.array_equal(moves.vertical_flips_N, table[:, VERTICAL_FLIP] < 0.25)
    for flips, share in ((moves.vertical_flips_N, 0.25), (moves.vertical_flips_N & moves.flips_N, 0.125)):
        assert flips.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 4000))
