"""Images whose files say that they are to be turned (EXIF), and boxes that were drawn before that was done."""

from __future__ import annotations

import numpy as np

_SWAPPED = (5, 6, 7, 8)  # by a quarter turn, or mirrored at a diagonal: width becomes height
_FLIPPED_X = (2, 3, 6, 7)  # after that: left becomes right
_FLIPPED_Y = (3, 4, 7, 8)


def size_before(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) of an image in its file, from those of the upright image."""
    return size[::-1] if orientation in _SWAPPED else size


def turned_boxes(boxes_B4: np.ndarray, orientations_B: np.ndarray, sizes_B2: np.ndarray) -> np.ndarray:
    """Boxes of images as they lie in their files, in the upright images: float64 (left, top, right, bottom).

    orientations_B: EXIF's, 1 where a box stays as it is. sizes_B2: (width, height) of the upright images, in the unit of
    the boxes.
    """
    swapped_B4 = np.where(np.isin(orientations_B, _SWAPPED)[:, None], boxes_B4[:, [1, 0, 3, 2]], boxes_B4)
    width_B1, height_B1 = sizes_B2[:, :1], sizes_B2[:, 1:]
    x_B2, y_B2 = swapped_B4[:, [0, 2]], swapped_B4[:, [1, 3]]
    x_B2 = np.where(np.isin(orientations_B, _FLIPPED_X)[:, None], width_B1 - x_B2[:, ::-1], x_B2)
    y_B2 = np.where(np.isin(orientations_B, _FLIPPED_Y)[:, None], height_B1 - y_B2[:, ::-1], y_B2)
    return np.stack([x_B2[:, 0], y_B2[:, 0], x_B2[:, 1], y_B2[:, 1]], axis=1)
