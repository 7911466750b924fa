"""Where an image of any shape comes to lie when it is made to fit a given size: for pixels, masks and boxes alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainwright.errors import unknown_name
from trainwright.recipe import Size

FITS = ("crop", "squash", "pad")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A point (x, y) of the image, in pixels from its upper left corner, comes to (x · scale_x + left, y · scale_y + top)."""

    scale_x: float
    scale_y: float
    left: float
    top: float

    def forth(self, boxes_M4: np.ndarray) -> np.ndarray:
        """Boxes (left, top, right, bottom) of the image as boxes of the fitted one, float64 [M, 4]; they may reach outside."""
        moved: np.ndarray = boxes_M4 * self._scales + self._offsets
        return moved

    def back(self, boxes_M4: np.ndarray) -> np.ndarray:
        """Boxes of the fitted image as boxes of the image it was made from, float64 [M, 4]."""
        moved: np.ndarray = (boxes_M4 - self._offsets) / self._scales
        return moved

    @property
    def _scales(self) -> np.ndarray:
        return np.array([self.scale_x, self.scale_y, self.scale_x, self.scale_y])

    @property
    def _offsets(self) -> np.ndarray:
        return np.array([self.left, self.top, self.left, self.top])


def place(width: int, height: int, size: Size, fit: str) -> Placement:
    """Where an image of `width` × `height` pixels lies in one of `size` (height, width). Raises UnknownNameError.

    fit: `crop` keeps the centre, `squash` changes the proportions, `pad` adds borders.
    """
    if fit not in FITS:
        raise unknown_name(fit, FITS, where="data.fit", what="fit")
    to_height, to_width = size
    across, down = to_width / width, to_height / height
    if fit == "squash" or across == down:
        return Placement(scale_x=across, scale_y=down, left=0.0, top=0.0)
    if fit == "crop":
        scale = max(across, down)
        return Placement(
            scale_x=scale, scale_y=scale, left=(to_width - width * scale) / 2, top=(to_height - height * scale) / 2
        )
    scale = min(across, down)
    inner_width, inner_height = max(1, round(width * scale)), max(1, round(height * scale))  # in whole pixels
    return Placement(
        scale_x=inner_width / width,
        scale_y=inner_height / height,
        left=float((to_width - inner_width) // 2),
        top=float((to_height - inner_height) // 2),
    )
