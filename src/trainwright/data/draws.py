"""The uniform numbers that random changes of images are made from: a row for each image, a column for each use."""

from __future__ import annotations

import numpy as np

from trainwright import seeding
from trainwright.recipe import AugmentSpec

# Which column is for what. Every image has the same columns whatever the spec, so that one change does not move another's.
FLIP, Y, X, AREA, ASPECT_RATIO = range(5)
VERTICAL_FLIP, BRIGHTNESS, CONTRAST, SATURATION, OPERATION, MAGNITUDE, SIGN = range(5, 12)
ERASE, HOLE_Y, HOLE_X, HOLE_AREA, HOLE_ASPECT_RATIO, NOISE = range(12, 18)
FIRST, ALL = 5, 18  # columns of the first stream, and of both


def columns_for(spec: AugmentSpec) -> int:
    """How many of the columns what `spec` does reads: the first ones, or all."""
    return ALL if spec.vertical_flip or spec.colour or spec.trivial_augment or spec.erase else FIRST


def draws(seed: int, epoch: int, samples: int, *, name: str = "augment", columns: int = ALL) -> np.ndarray:
    """The random numbers of an epoch: float32 [samples, columns] in [0, 1). Row i is that of the i-th training row.

    Depends on (seed, name, epoch) and the row alone: not on order, batch size or the number of workers. The first columns
    and the others come from two streams: a row of one stream cannot grow without moving all rows after it. columns: FIRST
    or ALL; those that there are have the same numbers.
    """
    first_SD = seeding.stream(seed, name, epoch).random((samples, FIRST), dtype=np.float32)
    if columns == FIRST:
        return first_SD
    others_SD = seeding.stream(seed, f"{name}-more", epoch).random((samples, ALL - FIRST), dtype=np.float32)
    return np.concatenate([first_SD, others_SD], axis=1)
