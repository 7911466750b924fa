"""Random brightness, contrast and saturation of whole batches (Howard, arXiv:1312.5402 §2.2)."""

from __future__ import annotations

import math

import numpy as np

from trainwright.data.draws import BRIGHTNESS, CONTRAST, SATURATION

LUMA = (0.299, 0.587, 0.114)  # of red, green, blue in grey: ITU-R BT.601, as in Pillow and torchvision
BLOCK_PIXELS = 1 << 14  # worked on at once: with all that is in between they stay in an L2 cache


def factors(colour: float, draws_ND: np.ndarray) -> np.ndarray:
    """Of brightness, contrast and saturation, each uniform in 1 ± `colour`: float32 [N, 3]."""
    factors_N3: np.ndarray = 1 + colour * (2 * draws_ND[:, [BRIGHTNESS, CONTRAST, SATURATION]] - 1)
    return factors_N3.astype(np.float32)


def recolour(images_NHWC: np.ndarray, factors_N3: np.ndarray) -> np.ndarray:
    """Each image with its brightness, contrast and saturation multiplied: uint8, a new array.

    Brightness mixes the image with black, contrast with the mean of its grey, saturation with the grey of each pixel. The
    three are one sum, image · bcs + grey · bc(1 - s) + mean of grey · b(1 - c), rounded and clipped once: in whichever order
    Pillow's are made, they lose what a step in between cuts off.
    """
    recoloured_NHWC = np.empty_like(images_NHWC)
    step = max(1, BLOCK_PIXELS // math.prod(images_NHWC.shape[1:3]))
    for start in range(0, len(images_NHWC), step):
        block = slice(start, start + step)
        _recolour(images_NHWC[block], factors_N3[block], recoloured_NHWC[block])
    return recoloured_NHWC


def _recolour(images_NHWC: np.ndarray, factors_N3: np.ndarray, out_NHWC: np.ndarray) -> None:
    brightness_N11, contrast_N11, saturation_N11 = factors_N3.T[..., None, None]
    lit_N11 = brightness_N11 * contrast_N11
    sum_NHWC = images_NHWC.astype(np.float32)
    grey_NHW = sum_NHWC[..., 0] * np.float32(LUMA[0])
    for channel in (1, 2):
        grey_NHW += sum_NHWC[..., channel] * np.float32(LUMA[channel])
    mean_N11 = grey_NHW.mean(axis=(1, 2), keepdims=True)
    grey_NHW *= lit_N11 * (1 - saturation_N11)
    grey_NHW += brightness_N11 * (1 - contrast_N11) * mean_N11 + np.float32(0.5)  # half: the conversion cuts off
    sum_NHWC *= (lit_N11 * saturation_N11)[..., None]
    for channel in range(3):
        sum_NHWC[..., channel] += grey_NHW
    np.clip(sum_NHWC, 0, 255, out=sum_NHWC)
    out_NHWC[:] = sum_NHWC
