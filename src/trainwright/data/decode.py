"""One image file to uint8 RGB pixels, whatever it holds: rotation, bit depth, palette, alpha and colour space made one.

Whatever cannot be brought to that form truthfully is refused with a verdict (`DecodeError`), never clipped or guessed.
Embedded colour profiles are not applied, apart from what CMYK and LAB need to become RGB at all.
"""

from __future__ import annotations

import errno
import io
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from trainwright.data.placement import place
from trainwright.data.verdict import PNG_SIGNATURE, hidden_damage, verdict
from trainwright.recipe import Size
from trainwright.records import IGNORED

MAX_PIXELS = 89_478_485  # where Pillow itself begins to warn of decompression bombs: 256 MB as RGB
MAX_FILE_BYTES = 512_000_000
PAD_COLOUR = (124, 116, 104)  # mean of ImageNet's training images, so a padded border is about 0 once normalized
DECODER_VERSION = 2  # raised when the same file gives other pixels, so that what was remembered of it expires

# Formats that are looked for. Left out on purpose: those that start other programs (EPS) and those without a signature.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
_GREY_ALPHA, _RGB_ALPHA = 4, 6  # colour types: PNG specification, third edition, §11.2.1
_ALPHA_16 = ((16, _GREY_ALPHA), (16, _RGB_ALPHA))  # bit depth and colour type, the 25th and 26th byte of a PNG file
AS_IT_STANDS = 1  # an orientation: EXIF 2.32 §4.6.4
_ORIENTATION = 0x0112  # EXIF 2.32 §4.6.4
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class DecodeError(Exception):
    """A file that cannot be used as an image. kind: a stable word as in `Problem`. message: what it is and the cure."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


def decode(source: Path | bytes, *, size: Size | int | None = None, fit: str = "crop") -> np.ndarray:
    """The pixels of an image file, upright, uint8 RGB [H, W, 3]; with `size` (height, width, or a side) made to fit it.

    fit: how an image of another shape is made to fit, as in `fit_to`. Raises DecodeError for a file that cannot be used.
    """
    data = read_bytes(source) if isinstance(source, Path) else source
    size = (size, size) if isinstance(size, int) else size
    image, _ = normalized(data, size=size, fit=fit)
    return np.array(image if size is None else fit_to(image, size, fit))


def fit_to(image: Image.Image, size: Size, fit: str = "crop") -> Image.Image:
    """An RGB image made to fit `size` (height, width), resized with antialiased bilinear interpolation.

    fit: `crop` keeps the centre, `squash` changes the proportions, `pad` adds borders. Raises UnknownNameError.
    """
    placed, (height, width) = place(*image.size, size, fit), size
    if fit == "crop":
        kept_width = min(image.width, image.height * width / height)
        kept_height = min(image.height, image.width * height / width)
        left, top = (image.width - kept_width) / 2, (image.height - kept_height) / 2
        whole = (kept_width, kept_height) == image.size
        return _resized(image, width, height, box=None if whole else (left, top, left + kept_width, top + kept_height))
    inner_width, inner_height = round(image.width * placed.scale_x), round(image.height * placed.scale_y)
    inner = _resized(image, inner_width, inner_height)
    if inner.size == (width, height):
        return inner
    padded = Image.new("RGB", (width, height), PAD_COLOUR)
    padded.paste(inner, (int(placed.left), int(placed.top)))
    return padded


def fit_mask(mask_HW: np.ndarray, size: Size, fit: str = "crop") -> np.ndarray:
    """A mask made to fit as `fit_to` does the image of the same shape: uint8 [height, width], every value one that was there.

    mask_HW: uint8. A pixel takes the value of the one under its centre; padding is IGNORED. Raises UnknownNameError.
    """
    (height, width), placed = mask_HW.shape, place(mask_HW.shape[1], mask_HW.shape[0], size, fit)
    rows = np.floor((np.arange(size[0]) + 0.5 - placed.top) / placed.scale_y).astype(np.int64)
    columns = np.floor((np.arange(size[1]) + 0.5 - placed.left) / placed.scale_x).astype(np.int64)
    inside_H, inside_W = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    fitted_HW = np.full(size, IGNORED, np.uint8)
    fitted_HW[np.ix_(inside_H, inside_W)] = mask_HW[rows[inside_H]][:, columns[inside_W]]
    return fitted_HW


def upright_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of an image file, upright, from its header. Raises DecodeError."""
    data = read_bytes(path)
    with _pillow_muted():
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            turned = image.format != "TIFF" and _orientation(image) >= 5  # a quarter turn: EXIF 2.32 §4.6.4
            return image.size[::-1] if turned else image.size
        except Exception as error:  # Pillow's readers raise anything at all on damaged files
            raise DecodeError(*verdict(data, error)) from error


def orientation_of(data: bytes) -> int:
    """How the pixels of an image file are to be turned, EXIF's 1 to 8; 1 where nothing is said or can be read."""
    with _pillow_muted():
        try:
            found = _orientation(Image.open(io.BytesIO(data), formats=FORMATS))
        except Exception:  # Pillow's readers raise anything at all on damaged files
            return AS_IT_STANDS
    return found if 1 <= found <= 8 else AS_IT_STANDS


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file of at most MAX_FILE_BYTES. Raises DecodeError; never waits on a pipe."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise DecodeError("unreadable", "it is a folder. Rename it or move it away.")
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("unreadable", "it is a pipe, socket or device, not a file. Move it away.")
        if status.st_size > MAX_FILE_BYTES:
            raise DecodeError("oversized", f"{status.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read. Shrink it.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise DecodeError("unreadable", _why_unreadable(path, error)) from None


def normalized(data: bytes, *, size: Size | None = None, fit: str = "crop") -> tuple[Image.Image, str]:
    """(upright RGB image, name of its file format) from a file's bytes.

    With `size` (height, width), a JPEG at least four times larger than that needs is decoded at half, a quarter or an
    eighth of its size, at least twice what is needed. Raises DecodeError.
    """
    return loaded(data, _to_rgb, size=size, fit=fit)


def loaded(
    data: bytes,
    convert: Callable[[Image.Image, bytes], Image.Image],
    *,
    size: Size | None = None,
    fit: str = "crop",
) -> tuple[Image.Image, str]:
    """(upright image as `convert` makes it of the loaded one and the file's bytes, name of its file format).

    size, fit: as in `normalized`. Raises DecodeError.
    """
    if not data:
        raise DecodeError("empty", "the file is empty. Get it again from its source.")
    if data.startswith(PNG_SIGNATURE) and len(data) >= 24:  # before its checksums and the rest of it are looked at
        _check_size(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))
    if damage := hidden_damage(data):
        raise DecodeError(*damage)
    with _pillow_muted():
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_size(*image.size)
            if size is not None:
                _draft(image, size, fit)
            image.load()
            _check_size(*image.size)  # an ICO file says its size only now
            return _upright(convert(image, data), _orientation(image)), str(image.format)
        except DecodeError:
            raise
        except Image.DecompressionBombError:
            message = (
                f"its header states over {2 * MAX_PIXELS:,} pixels; at most {MAX_PIXELS:,} are decoded. Shrink it."
            )
            raise DecodeError("oversized", message) from None
        except MemoryError:
            raise DecodeError("out-of-memory", "it needs more memory than there is. Shrink it.") from None
        except Exception as error:  # Pillow's readers raise anything at all on damaged files
            raise DecodeError(*verdict(data, error)) from error


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise DecodeError(
            "oversized", f"its header states {width} x {height} pixels; at most {MAX_PIXELS:,} are decoded. Shrink it."
        )


def _draft(image: Image.Image, size: Size, fit: str) -> None:
    """Let the JPEG decoder shrink by a power of two where at least twice what is needed remains, which the resize filters."""
    choose = min if fit == "pad" else max  # the image may still be turned by a quarter: whichever way needs more
    needed = max(choose(size[0] / height, size[1] / width) for width, height in (image.size, image.size[::-1]))
    factor = max((k for k in (1, 2, 4, 8) if 2 * k * needed <= 1), default=1)
    if factor > 1 and image.format in ("JPEG", "MPO") and min(image.size) >= factor:
        image.draft(None, (image.width // factor, image.height // factor))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8 of a loaded image; 1 where there is none or it cannot be read. TIFF is turned by its loading."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF data spoils no pixel
        return 1
    return value if isinstance(value, int) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _to_rgb(image: Image.Image, data: bytes) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode == "F" or mode == "I" or mode.startswith("I;16"):
        return Image.fromarray(_grey_8bit(image)).convert("RGB")
    if mode == "LAB":
        return _lab_to_rgb(image)
    if (
        data.startswith(PNG_SIGNATURE)
        and (data[24], data[25]) in _ALPHA_16
        and not getattr(image, "is_animated", False)
    ):
        return _alpha_16_over_white(data)
    if "transparency" in image.info and data.startswith(PNG_SIGNATURE):
        _correct_transparency(image, depth=data[24])
    if image.has_transparency_data:
        rgba = image.convert("LA").convert("RGBA") if mode == "La" else image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _alpha_16_over_white(data: bytes) -> Image.Image:
    """A PNG with 16 bits a channel and alpha, over white, rounded once at the end: Pillow by itself drops the lower 8 bits."""

    def read(raw_mode: str) -> np.ndarray:
        image = Image.open(io.BytesIO(data))
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]  # how the decoder unpacks the file's bytes
        return np.asarray(image).astype(np.uint32)

    if data[25] == _GREY_ALPHA:  # four bytes a pixel: grey and alpha, the upper one first
        bytes_HWC = read("RGBA")
        values_HWC = 256 * bytes_HWC[:, :, [0, 0, 0, 2]] + bytes_HWC[:, :, [1, 1, 1, 3]]
    else:
        values_HWC = 256 * read("RGBA;16B") + read("RGBA;16L")
    alpha_HW1 = values_HWC[:, :, 3:] / 65535
    over_white_HWC = values_HWC[:, :, :3] * alpha_HW1 + 65535 * (1 - alpha_HW1)
    return Image.fromarray(np.rint(over_white_HWC / 257).astype(np.uint8))


def _grey_8bit(image: Image.Image) -> np.ndarray:
    """16-bit integers as 0–65535 and floats as 0–1, linearly to uint8 [H, W]. Raises DecodeError for any other range."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # also for NaN
            raise DecodeError("unsupported-pixels", _range(low, high, "Floating-point pixels must lie in 0 to 1"))
        return np.rint(values * np.float32(255)).astype(np.uint8)
    if low < 0 or high > 65535:
        raise DecodeError("unsupported-pixels", _range(low, high, "Integer pixels must lie in 0 to 65535"))
    grey = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return grey


def _range(low: float, high: float, expected: str) -> str:
    return f"its pixels range from {low:g} to {high:g}. {expected}. Convert it to 8-bit PNG with the scale you want."


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    exact = ImageCms.Flags.NOOPTIMIZE  # its usual table of 33³ colours is off by up to 6 of 255
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=exact))
    assert converted is not None
    return converted


def _correct_transparency(image: Image.Image, *, depth: int) -> None:
    """Bring the transparent colour of a PNG to the 8 bits of its pixels, which Pillow leaves at the file's bit depth."""
    colour = image.info["transparency"]
    if image.mode == "L" and depth < 8 and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    if image.mode == "RGB" and depth == 16 and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _resized(
    image: Image.Image, width: int, height: int, *, box: tuple[float, float, float, float] | None = None
) -> Image.Image:
    if image.size == (width, height) and box is None:
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)


def _why_unreadable(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):
        return f"its name cannot be used ({error}). Rename it."
    if error.errno == errno.ENOENT and path.is_symlink():
        return "it is a link to a file that does not exist. Restore the file or remove the link."
    if error.errno == errno.ENOENT:
        return "it does not exist any more. Restore it, or look at the dataset anew."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "no permission to read it. Change its permissions."
    return f"it cannot be read ({error.strerror}). Check the disk."


_MUTED = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_mute_lock = threading.Lock()
_muting = 0


@contextmanager
def _pillow_muted() -> Iterator[None]:
    """Keep Pillow's warnings from everyone, in any number of threads.

    Not `warnings.catch_warnings`: threads that enter and leave it in turns restore each other's filters.
    """
    global _muting
    with _mute_lock:
        _muting += 1
        if list(warnings.filters[:1]) != [_MUTED]:
            warnings.filterwarnings("ignore", module=_MUTED[3].pattern)  # puts an item equal to _MUTED first
    try:
        yield
    finally:
        with _mute_lock:
            _muting -= 1
            if _muting == 0:
                with suppress(ValueError):
                    warnings.filters.remove(_MUTED)  # type: ignore[attr-defined]
