"""Mask files: which pixel stands for which class, by number or by colour, and what of that is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import numpy as np
from PIL import Image

from trainwright.data.decode import (
    DecodeError,
    loaded,
    read_bytes,
)
from trainwright.data.problems import counted, few
from trainwright.data.verdict import PNG_SIGNATURE
from trainwright.records import IGNORED

MASK_VERSION = 1  # raised when the same file gives another mask, so that what was remembered of it expires
MAX_CLASSES = IGNORED  # 0 to 254; 255 is ignored
LOSSY = frozenset({"JPEG", "MPO", "AVIF"})  # formats that change pixels; WebP does so without a chunk named VP8L
_INDEX_CURE = "Save masks with one channel whose pixels are class numbers, as PNG."


@dataclass(frozen=True, kw_only=True)
class MaskClasses:
    """What pixels of masks mean. listed: a name for each number. ignored: numbers that are not scored.

    colours: uint8 [C, 3], the colour of each number in masks that are RGB pictures; None where pixels are numbers.
    """

    listed: tuple[str, ...]
    ignored: frozenset[int] = frozenset()
    colours: np.ndarray | None = field(default=None, repr=False)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The scored classes, in the order in which they are listed."""
        return tuple(name for number, name in enumerate(self.listed) if number not in self.ignored)

    @cached_property
    def known(self) -> np.ndarray:
        """bool [256]: pixel values that mean something."""
        return np.array([value < len(self.listed) or value == IGNORED for value in range(256)])

    def scored(self, mask_HW: np.ndarray) -> np.ndarray:
        """A mask of numbers as uint8 [H, W] of indices into `names`, IGNORED where nothing is scored."""
        indices: np.ndarray = self._indices[mask_HW]
        return indices

    @cached_property
    def digest(self) -> str:
        """Of all that decides what `scored` gives for a file, in hex."""
        colours = [] if self.colours is None else self.colours.tolist()
        content = f"{MASK_VERSION} {len(self.listed)} {sorted(self.ignored)} {colours}"
        return blake2b(content.encode(), digest_size=8).hexdigest()

    @cached_property
    def _indices(self) -> np.ndarray:
        scored = [number for number in range(len(self.listed)) if number not in self.ignored]
        indices = np.full(256, IGNORED, dtype=np.uint8)
        indices[scored] = np.arange(len(scored), dtype=np.uint8)
        return indices


def numbered(count: int) -> MaskClasses:
    """Classes of masks that nobody named: their numbers."""
    return MaskClasses(listed=tuple(str(number) for number in range(count)))


def read_mask(source: Path | bytes, colours: np.ndarray | None = None) -> np.ndarray:
    """The class number of each pixel of a mask file, upright, uint8 [H, W]. Transparency is left aside.

    colours: uint8 [C, 3], the colour of each number. Grey pixels are numbers all the same, unless all colours are grey;
    pixels of a palette are its colours then, and without `colours` its indices. Raises DecodeError.
    """
    data = read_bytes(source) if isinstance(source, Path) else source
    image, image_format = loaded(data, lambda opened, _: opened)
    if colours is not None and _shows_colours(image.mode, colours):
        return _by_colour(np.asarray(image.convert("RGB")), colours)
    if image_format in LOSSY or (image_format == "WEBP" and b"VP8L" not in data):
        message = (
            f"{image_format} compression changes pixels, and with them classes. Save masks as PNG, from the original."
        )
        raise DecodeError("lossy", message)
    return _by_number(image, data)


def _shows_colours(mode: str, colours: np.ndarray) -> bool:
    """Whether pixels of an image of `mode` are colours rather than numbers."""
    if mode in ("RGB", "RGBA", "RGBX", "P", "PA"):
        return True
    all_grey = bool((colours == colours[:, :1]).all())  # black and white: 0 and 255, or one bit
    return all_grey and mode in ("L", "LA", "1")


def _by_colour(pixels_HWC: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The number of each pixel's colour, uint8 [H, W]. Raises DecodeError naming those that no class has.

    A lossy format is no hindrance: where it changed anything, there are colours that are not listed.
    """
    codes_HW, codes_C = _codes(pixels_HWC), _codes(colours)
    order_C = np.argsort(codes_C)
    place_HW = np.searchsorted(codes_C[order_C], codes_HW).clip(max=len(codes_C) - 1)
    number_HW: np.ndarray = order_C[place_HW].astype(np.uint8)
    strange_HW = codes_C[number_HW] != codes_HW
    if strange_HW.any():
        strange, counts = np.unique(codes_HW[strange_HW], return_counts=True)
        most = np.argsort(-counts, kind="stable")
        shown = [f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code in strange[most].tolist()]
        raise DecodeError("unknown-class", unknown_values("colour", shown, counts[most].tolist()))
    return number_HW


def unknown_values(what: str, values: Sequence[str], counts: Sequence[int]) -> str:
    """The message of pixels that are of no class. what: `value` or `colour`. counts: how many pixels have each of them."""
    named = [f"{value} ({counted(count, 'pixel')})" for value, count in zip(values, counts, strict=True)]
    return f"it has {what}s of no class: {few(named)}. List {what}s like these in classes.txt, or correct the mask."


def _codes(colours: np.ndarray) -> np.ndarray:
    """uint8 [..., 3] as one number each, int64 [...]."""
    wide = colours.astype(np.int64)
    codes: np.ndarray = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    return codes


def _by_number(image: Image.Image, data: bytes) -> np.ndarray:
    """Pixel values as they were written, uint8 [H, W]. Raises DecodeError where they are no class numbers."""
    mode = image.mode
    depth = data[24] if data.startswith(PNG_SIGNATURE) else 8
    values = np.asarray(image)
    if mode in ("1", "P"):
        return values.astype(np.uint8)
    if mode == "L" and depth < 8:  # Pillow stretches greys of 2 and 4 bits to 0–255
        return np.asarray(values // (255 // (2**depth - 1)), dtype=np.uint8)
    if mode == "L" or (mode == "LA" and depth == 8):
        return np.array(values if mode == "L" else values[:, :, 0])
    if mode == "I" or mode.startswith("I;16"):
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > IGNORED:
            message = f"its pixels range from {low} to {high}; class numbers are 0 to {IGNORED}. {_INDEX_CURE}"
            raise DecodeError("unsupported-pixels", message)
        return values.astype(np.uint8)
    if mode in ("RGB", "RGBA") and depth == 8:
        if (values[:, :, :3] == values[:, :, :1]).all():
            return np.array(values[:, :, 0])
        message = "it is a colour picture, and nothing says which colour is which class. Write 'NAME R G B' into"
        raise DecodeError(
            "no-colours", f"{message} classes.txt, a line for each class, or save masks of class numbers."
        )
    raise DecodeError("unsupported-pixels", f"its pixels are {_kind(mode, depth)}, no class numbers. {_INDEX_CURE}")


def _kind(mode: str, depth: int) -> str:
    return f"{depth}-bit {mode}" if depth > 8 else "floating-point numbers" if mode == "F" else mode
