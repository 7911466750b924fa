"""TrivialAugment: one operation an image, all equally likely, with a uniform magnitude (Müller and Hutter, arXiv:2103.10158).

The operations and their ranges are those of the paper's wide space, made by Pillow with the nearest pixel as in the
authors' code; the factors of enhancement are symmetric about 1 as in torchvision's TrivialAugmentWide. A strength below 1
scales every range towards "no change".
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from trainwright.data.draws import MAGNITUDE, OPERATION, SIGN
from trainwright.recipe import Size

# The wide space of arXiv:2103.10158 at magnitude 1.
SHEAR = 0.99
TRANSLATION = 32  # pixels, whatever the size of the image; never more than its side
ROTATION = math.radians(135)
ENHANCEMENT = 0.99  # factors from 1 - this to 1 + this
FEWER_BITS = 6  # of 8
LEVELS = 256  # from this value down pixels are inverted

Recolour = Callable[[Image.Image, float, float], Image.Image]
Coefficients = tuple[float, float, float, float, float, float]
UNWARPED: Coefficients = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def _enhance(enhancer: Callable[[Image.Image], ImageEnhance._Enhance]) -> Recolour:
    return lambda image, magnitude, strength: enhancer(image).enhance(1 + ENHANCEMENT * magnitude)


def _posterize(image: Image.Image, magnitude: float, strength: float) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(FEWER_BITS * abs(magnitude)))


def _solarize(image: Image.Image, magnitude: float, strength: float) -> Image.Image:
    return ImageOps.solarize(image, int(LEVELS * (1 - abs(magnitude))))


def _autocontrast(image: Image.Image, magnitude: float, strength: float) -> Image.Image:
    """Has no magnitude: at less than full strength it is mixed with the image."""
    return Image.blend(image, ImageOps.autocontrast(image), strength)


def _equalize(image: Image.Image, magnitude: float, strength: float) -> Image.Image:
    """Has no magnitude: at less than full strength it is mixed with the image."""
    return Image.blend(image, ImageOps.equalize(image), strength)


COLOURS: dict[str, Recolour] = {  # (image, magnitude -1 to 1, strength 0 to 1) → image
    "brightness": _enhance(ImageEnhance.Brightness),
    "saturation": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
WARPS = ("shear-x", "shear-y", "translate-x", "translate-y", "rotate")
OPERATIONS = ("identity", *COLOURS, *WARPS)


def choose(strength: float, draws_ND: np.ndarray, *, warpable: bool) -> tuple[list[str], list[float]]:
    """Each image's operation and its magnitude, from -`strength` to `strength`.

    warpable: whether images may be sheared, shifted and turned; if not, the other operations are the equally likely ones.
    """
    names = OPERATIONS if warpable else OPERATIONS[: -len(WARPS)]
    chosen_N = np.floor(draws_ND[:, OPERATION] * len(names)).astype(np.int64)
    signs_N = np.where(draws_ND[:, SIGN] < 0.5, -1.0, 1.0)
    magnitudes: list[float] = (strength * draws_ND[:, MAGNITUDE] * signs_N).tolist()
    return [names[index] for index in chosen_N.tolist()], magnitudes


def recolour(images_NHWC: np.ndarray, operations: list[str], magnitudes: list[float], strength: float) -> np.ndarray:
    """Each image changed by its operation, if that is one of COLOURS: uint8, a copy."""
    changed_NHWC = images_NHWC.copy()
    for image, operation, magnitude in zip(changed_NHWC, operations, magnitudes, strict=True):
        if operation in COLOURS:
            image[:] = np.asarray(COLOURS[operation](Image.fromarray(image), magnitude, strength))
    return changed_NHWC


def coefficients(operation: str, magnitude: float, size: Size) -> Coefficients:
    """(a, b, c, d, e, f): the pixel at (x, y) comes from (ax + by + c, dx + ey + f); UNWARPED for operations on colours.

    As in the authors' code a shear leaves the upper left corner where it is; a rotation leaves the middle.
    """
    if operation not in WARPS:
        return UNWARPED
    height, width = size
    slope = SHEAR * magnitude
    across, down = (float(int(min(TRANSLATION, side) * magnitude)) for side in (width, height))
    cosine, sine = math.cos(ROTATION * magnitude), math.sin(ROTATION * magnitude)
    warps: dict[str, Coefficients] = {
        "shear-x": (1.0, slope, 0.0, 0.0, 1.0, 0.0),
        "shear-y": (1.0, 0.0, 0.0, slope, 1.0, 0.0),
        "translate-x": (1.0, 0.0, across, 0.0, 1.0, 0.0),
        "translate-y": (1.0, 0.0, 0.0, 0.0, 1.0, down),
        "rotate": (
            *(cosine, sine, (width - cosine * width - sine * height) / 2),
            *(-sine, cosine, (height + sine * width - cosine * height) / 2),
        ),
    }
    return warps[operation]


def warp_images(images_NHWC: np.ndarray, warps_N6: np.ndarray) -> np.ndarray:
    """Each image warped by its coefficients: uint8, a copy. What comes from outside has the mean colour of its own border.

    Black, as in the authors' code, is after normalization the strongest signal there is, and the mean of the dataset is not
    known here. The border is the best guess of what would be seen there: of a drawing its ground, of a photograph its colours.
    """
    warped_NHWC = images_NHWC.copy()
    for index, warp in _real(warps_N6):
        image = images_NHWC[index]
        height, width = image.shape[:2]
        border = image[[0, -1]].sum(axis=(0, 1)) + image[:, [0, -1]].sum(axis=(0, 1))
        red, green, blue = np.rint(border / (2 * (width + height))).astype(int).tolist()
        warped_NHWC[index] = _warped(image, warp, (red, green, blue))
    return warped_NHWC


def warp_masks(masks_NHW: np.ndarray, warps_N6: np.ndarray, outside: int) -> np.ndarray:
    """Each mask warped by the coefficients of its image: uint8, a copy. What comes from outside has the value `outside`."""
    warped_NHW = masks_NHW.copy()
    for index, warp in _real(warps_N6):
        warped_NHW[index] = _warped(masks_NHW[index], warp, outside)
    return warped_NHW


def _real(warps_N6: np.ndarray) -> list[tuple[int, Coefficients]]:
    """Where something is to be done, and what."""
    moved_N = (warps_N6 != UNWARPED).any(axis=1)
    return [(index, tuple(warps_N6[index].tolist())) for index in np.flatnonzero(moved_N).tolist()]


def _warped(pixels: np.ndarray, warp: Coefficients, outside: int | tuple[int, int, int]) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    method, nearest = Image.Transform.AFFINE, Image.Resampling.NEAREST
    return np.asarray(image.transform(image.size, method, warp, nearest, fillcolor=outside))
