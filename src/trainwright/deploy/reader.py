"""Image files to the pixels that an exported model was certified with. Needs numpy and Pillow alone; copy it where you need it.

    import json, onnxruntime
    from reader import read_images

    spec = json.load(open("export.json"))["input"]
    session = onnxruntime.InferenceSession("model.onnx")
    answers = session.run(None, {"images": read_images(["photo.jpg"], spec)})

The same steps as in training, in the same order: upright by EXIF, to 8-bit RGB with transparency over white, made to fit
`stored` with antialiased bilinear interpolation, of which the middle of `size` is taken. In another language do the same: the
order of colours, the filter and the place of the crop all matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from PIL import Image

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
    """One image, uint8 RGB [H, W, 3]. Raises ValueError for pixels that have no true 8-bit form, OSError as Pillow does."""
    (stored_height, stored_width), (height, width) = spec["stored"], spec["size"]
    with Image.open(path) as image:
        _draft(image, (stored_height, stored_width), spec["fit"])
        image.load()
        turned = image.getexif().get(ORIENTATION, 1)
        rgb = _to_rgb(image)
    if turned in UPRIGHT:
        rgb = rgb.transpose(UPRIGHT[turned])
    fitted = _fitted(rgb, stored_height, stored_width, spec["fit"])
    top, left = (stored_height - height) // 2, (stored_width - width) // 2
    return np.ascontiguousarray(np.asarray(fitted)[top : top + height, left : left + width])


def _draft(image: Image.Image, stored: tuple[int, int], fit: str) -> None:
    """A JPEG of at least four times the size is decoded at a half, a quarter or an eighth of it: faster by as much."""
    choose = min if fit == "pad" else max
    needed = max(choose(stored[0] / height, stored[1] / width) for width, height in (image.size, image.size[::-1]))
    factor = max((k for k in (1, 2, 4, 8) if 2 * k * needed <= 1), default=1)
    if factor > 1 and image.format in ("JPEG", "MPO") and min(image.size) >= factor:
        image.draft(None, (image.width // factor, image.height // factor))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if image.mode == "F" or image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(_grey(np.asarray(image), image.mode)).convert("RGB")
    if image.mode == "LAB":
        raise ValueError("LAB colours: convert the image to RGB")
    if image.has_transparency_data:
        rgba = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _grey(values_HW: np.ndarray, mode: str) -> np.ndarray:
    """16-bit integers as 0–65535 and floats as 0–1, linearly to uint8."""
    low, high = values_HW.min(), values_HW.max()
    if not (low >= 0 and high <= (1 if mode == "F" else 65535)):
        raise ValueError(f"pixels range from {low:g} to {high:g}: convert the image to 8 bits with the scale you want")
    if mode == "F":
        return np.rint(values_HW * np.float32(255)).astype(np.uint8)
    return ((values_HW.astype(np.uint32) + 128) // 257).astype(np.uint8)


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
