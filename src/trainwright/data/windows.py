"""Random rectangles in an image: where it is cropped, where it is erased."""

from __future__ import annotations

import numpy as np

from trainwright.recipe import Size


def random_windows(size: Size, area: tuple[float, float], aspect: float, draws_N4: np.ndarray) -> np.ndarray:
    """Windows (left, top, right, bottom) in whole pixels, int64 [N, 4], inside of an image of `size` (height, width).

    draws_N4: uniform numbers for area, shape, y, x. The area is uniform in `area`, a share of the whole; the logarithm of
    width over height, relative to that of the whole, is uniform among the shapes between 1 / `aspect` and `aspect` that fit,
    so one draw is enough where torchvision draws up to ten times.
    """
    low, high = area
    sides = np.array(size[::-1])
    area_N = low + (high - low) * draws_N4[:, 0]
    widest_N = np.minimum(np.log(aspect), -np.log(area_N))
    aspect_N = np.exp(widest_N * (2 * draws_N4[:, 1] - 1))
    exact_N2 = sides * np.sqrt(np.stack([area_N * aspect_N, area_N / aspect_N], axis=1))
    size_N2 = np.clip(np.rint(exact_N2), 1, sides).astype(np.int64)
    start_N2 = np.floor(draws_N4[:, [3, 2]] * (sides - size_N2 + 1)).astype(np.int64)
    return np.concatenate([start_N2, start_N2 + size_N2], axis=1)
