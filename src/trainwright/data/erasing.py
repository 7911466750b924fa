"""Random erasing: a rectangle of an image becomes noise (Zhong et al., arXiv:1708.04896, Algorithm 1).

What lies under it is no longer to be seen, so a target must not ask for it: of masks it is ignored, boxes that are hidden go,
and where images have numbers, which may count what was hidden, erasing is refused.
"""

from __future__ import annotations

import numpy as np

from trainwright.data.draws import ERASE, HOLE_AREA, HOLE_ASPECT_RATIO, HOLE_X, HOLE_Y, NOISE
from trainwright.data.windows import random_windows
from trainwright.recipe import Size

AREA = (0.02, 0.4)  # share of the image, as in all experiments of arXiv:1708.04896
ASPECT = 1 / 0.3  # of the rectangle, between 1/ASPECT and ASPECT: the same
NOISES = 1 << 24  # how many differ: the resolution of a uniform float32


def holes(size: Size, probability: float, draws_ND: np.ndarray) -> np.ndarray:
    """The rectangle of each image that is to be erased, int64 [N, 4] (left, top, right, bottom); all 0 where none is.

    The paper draws again until the rectangle fits; here its shape is drawn among those that do. That shape is relative to the
    image's own: in Algorithm 1 an aspect ratio of 1 is a square, here it has the proportions of the image. Of square images it
    is the same.
    """
    holes_N4 = random_windows(size, AREA, ASPECT, draws_ND[:, [HOLE_AREA, HOLE_ASPECT_RATIO, HOLE_Y, HOLE_X]])
    return np.where((draws_ND[:, ERASE] < probability)[:, None], holes_N4, 0)


def erase(images_NHWC: np.ndarray, holes_N4: np.ndarray, draws_ND: np.ndarray) -> np.ndarray:
    """The images with a random value in every channel of every pixel of their holes: uint8, a copy."""
    erased_NHWC = images_NHWC.copy()
    keys_N = (draws_ND[:, NOISE] * NOISES).astype(np.int64)
    for image, (left, top, right, bottom), key in zip(erased_NHWC, holes_N4.tolist(), keys_N.tolist(), strict=True):
        if right > left:
            shape = (bottom - top, right - left, image.shape[-1])
            noise = np.random.Generator(np.random.Philox(key=key)).bytes(shape[0] * shape[1] * shape[2])
            image[top:bottom, left:right] = np.frombuffer(noise, np.uint8).reshape(shape)
    return erased_NHWC


def hide(masks_NHW: np.ndarray, holes_N4: np.ndarray, value: int) -> np.ndarray:
    """The masks with `value` in every pixel of their holes: uint8, a copy."""
    hidden_NHW = masks_NHW.copy()
    for mask, (left, top, right, bottom) in zip(hidden_NHW, holes_N4.tolist(), strict=True):
        mask[top:bottom, left:right] = value
    return hidden_NHW


def visible_share(corners_NM22: np.ndarray, holes_N4: np.ndarray) -> np.ndarray:
    """Which share of each rectangle is outside of its image's hole: float64 [N, M], 1 for those without area.

    corners_NM22: ((left, top), (right, bottom)).
    """
    starts_N12, ends_N12 = holes_N4[:, None, :2], holes_N4[:, None, 2:]
    covered_NM2 = np.minimum(corners_NM22[:, :, 1], ends_N12) - np.maximum(corners_NM22[:, :, 0], starts_N12)
    covered_NM = np.maximum(covered_NM2, 0).prod(axis=2)
    whole_NM = (corners_NM22[:, :, 1] - corners_NM22[:, :, 0]).prod(axis=2)
    share_NM: np.ndarray = 1 - np.divide(covered_NM, whole_NM, out=np.zeros_like(whole_NM), where=whole_NM > 0)
    return share_NM
