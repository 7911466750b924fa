"""Image files to the pixels that an exported model was certified with. Needs numpy and Pillow alone; copy it where you need it.

    import json, onnxruntime
    from reader import read_images

    spec = json.load(open("export.json"))["input"]
    session = onnxruntime.InferenceSession("model.onnx")
    answers = session.run(None, {"images": read_images(["photo.jpg"], spec)})

The same steps as in training, in the same order: upright by EXIF, to 8-bit RGB with transparency over white, made to fit
`stored` with antialiased bilinear interpolation, of which the middle of `size` is taken. In another language do the same: the
order of colours, the filter and the place of the crop all matter. Damaged files that the training would have refused are read as
far as Pillow reads them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Left out on purpose: formats that start other programs (EPS) and those without a signature.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")
MAX_PIXELS = 89_478_485  # where Pillow itself begins to warn of decompression bombs: 256 MB as RGB
PNG = b"\x89PNG\r\n\x1a\n"
PAD_COLOUR = (124, 116, 104)
ORIENTATION = 0x0112  # EXIF 2.32 §4.6.4
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_images(paths: Sequence[str | PathLike[str]], spec: Mapping[str, Any]) -> np.ndarray:
    """The images as the model takes them: uint8 RGB [N, H, W, 3]. spec: `input` of export.json."""
    return np.stack([read_image(path, spec) for path in paths])


def read_image(path: str | PathLike[str], spec: Mapping[str, Any]) -> np.ndarray:
    """One image, uint8 RGB [H, W, 3]. Raises ValueError for pixels that have no true 8-bit form and for too many of them, OSError
    and on damaged files anything else as Pillow does."""
    (stored_height, stored_width), (height, width) = spec["stored"], spec["size"]
    data = Path(path).read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image)
            _draft(image, (stored_height, stored_width), spec["fit"])
            image.load()
            _check_size(image)  # an ICO file says its size only now
            turned = _orientation(image)
            rgb = _to_rgb(image, data)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if turned in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[turned])
    fitted = _fitted(rgb, stored_height, stored_width, spec["fit"])
    top, left = (stored_height - height) // 2, (stored_width - width) // 2
    return np.ascontiguousarray(np.asarray(fitted)[top : top + height, left : left + width])


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels; at most {MAX_PIXELS:,} are decoded: shrink it")


def _orientation(image: Image.Image) -> int:
    """1 where there is none, or none can be read: damaged EXIF data spoils no pixel."""
    try:
        turned = image.getexif().get(ORIENTATION, 1)
    except Exception:  # Pillow raises anything at all on it
        return 1
    return turned if isinstance(turned, int) else 1


def _draft(image: Image.Image, stored: tuple[int, int], fit: str) -> None:
    """A JPEG of at least four times the size is decoded at a half, a quarter or an eighth of it: faster by as much."""
    choose = min if fit == "pad" else max
    needed = max(choose(stored[0] / height, stored[1] / width) for width, height in (image.size, image.size[::-1]))
    factor = max((k for k in (1, 2, 4, 8) if 2 * k * needed <= 1), default=1)
    if factor > 1 and image.format in ("JPEG", "MPO") and min(image.size) >= factor:
        image.draft(None, (image.width // factor, image.height // factor))


def _to_rgb(image: Image.Image, data: bytes) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_grey(image)).convert("RGB")
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if data.startswith(PNG):
        depth, colour_type = data[24], data[25]  # PNG specification, third edition, §11.2.1
        if depth == 16 and colour_type in (4, 6) and not getattr(image, "is_animated", False):
            return _alpha_16_over_white(data, grey=colour_type == 4)
        _correct_transparency(image, depth)
    if image.has_transparency_data:
        rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey(image: Image.Image) -> np.ndarray:
    """16-bit integers as 0–65535 and floats as 0–1, linearly to uint8; what a PNG calls transparent is white."""
    values_HW = np.asarray(image)
    low, high = values_HW.min(), values_HW.max()
    if not (low >= 0 and high <= (1 if image.mode == "F" else 65535)):
        raise ValueError(f"pixels range from {low:g} to {high:g}: convert the image to 8 bits with the scale you want")
    if image.mode == "F":
        return np.rint(values_HW * np.float32(255)).astype(np.uint8)
    grey_HW = ((values_HW.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        grey_HW[values_HW == transparent] = 255
    return grey_HW


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    exact = ImageCms.Flags.NOOPTIMIZE  # its usual table of 33³ colours is off by up to 6 of 255
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=exact))
    assert converted is not None
    return converted


def _alpha_16_over_white(data: bytes, *, grey: bool) -> Image.Image:
    """A PNG with 16 bits a channel and alpha, over white, rounded once at the end: Pillow by itself drops the lower 8 bits."""

    def read(raw_mode: str) -> np.ndarray:
        image = Image.open(io.BytesIO(data), formats=("PNG",))
        image.tile = [tile._replace(args=raw_mode) for tile in image.tile]  # how the decoder unpacks the file's bytes
        return np.asarray(image).astype(np.uint32)

    if grey:  # four bytes a pixel: grey and alpha, the upper one first
        bytes_HWC = read("RGBA")
        values_HWC = 256 * bytes_HWC[:, :, [0, 0, 0, 2]] + bytes_HWC[:, :, [1, 1, 1, 3]]
    else:
        values_HWC = 256 * read("RGBA;16B") + read("RGBA;16L")
    alpha_HW1 = values_HWC[:, :, 3:] / 65535
    over_white_HWC = values_HWC[:, :, :3] * alpha_HW1 + 65535 * (1 - alpha_HW1)
    return Image.fromarray(np.rint(over_white_HWC / 257).astype(np.uint8))


def _correct_transparency(image: Image.Image, depth: int) -> None:
    """Bring the transparent colour of a PNG to the 8 bits of its pixels, which Pillow leaves at the file's bit depth."""
    colour = image.info.get("transparency")
    if image.mode == "L" and depth < 8 and isinstance(colour, int):
        image.info["transparency"] = colour * 255 // (2**depth - 1)
    if image.mode == "RGB" and depth == 16 and isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 for value in colour)


def _fitted(image: Image.Image, height: int, width: int, fit: str) -> Image.Image:
    """crop: the middle of the right shape; squash: all of it, out of proportion; pad: all of it, with borders."""
    if fit == "crop":
        kept_width = min(image.width, image.height * width / height)
        kept_height = min(image.height, image.width * height / width)
        left, top = (image.width - kept_width) / 2, (image.height - kept_height) / 2
        whole = (kept_width, kept_height) == image.size
        return _resized(image, width, height, None if whole else (left, top, left + kept_width, top + kept_height))
    if fit == "squash" or width / image.width == height / image.height:
        return _resized(image, width, height, None)
    scale = min(width / image.width, height / image.height)
    inner_width, inner_height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    inner = _resized(image, inner_width, inner_height, None)
    padded = Image.new("RGB", (width, height), PAD_COLOUR)
    padded.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
    return padded


def _resized(image: Image.Image, width: int, height: int, box: tuple[float, float, float, float] | None) -> Image.Image:
    if image.size == (width, height) and box is None:
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR, box=box)
