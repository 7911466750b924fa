"""Random changes of training images and the fixed one of evaluation: whole batches of uint8, every draw by its counter.

These functions run in loader threads, torch's thread pool is global and belongs to the training: of torch only what works on one
image in the thread that calls it. Axis letter beside those of batch.py: D draw.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from trainwright import seeding
from trainwright.recipe import AugmentSpec

CROP_MARGIN = 256 / 224  # side of what is stored over side of what is seen: He et al., arXiv:1512.03385 §3.4
ASPECT = 4 / 3  # of a random resized crop, between 1/ASPECT and ASPECT: Szegedy et al., arXiv:1409.4842 §6
DRAWS = 5  # uniform numbers for each image, whatever the spec: flip, y, x, area, aspect
FLIP, Y, X, AREA, ASPECT_RATIO = range(DRAWS)
BLOCK_BYTES = (
    1 << 20
)  # of images worked on at once: half of a usual L2 cache; a whole batch takes twice as long at 224 px
PIXEL = np.dtype("V3")  # one RGB pixel moved as a whole: mirroring is 2.5 times as fast as on three uint8


def stored_size(image_size: int, spec: AugmentSpec) -> int:
    """Side in pixels of the images to store: `image_size`, with a margin where a random resized crop needs one."""
    return image_size if spec.crop_scale is None else round(image_size * CROP_MARGIN)


def draws(seed: int, epoch: int, samples: int, *, name: str = "augment") -> np.ndarray:
    """All random numbers of an epoch: float32 [samples, D] in [0, 1). Row i is that of the i-th training row.

    Depends on (seed, name, epoch) and the row alone: not on order, batch size or the number of workers.
    """
    return seeding.stream(seed, name, epoch).random((samples, DRAWS), dtype=np.float32)


def augment(stored_NHWC: np.ndarray, image_size: int, spec: AugmentSpec, draws_ND: np.ndarray) -> np.ndarray:
    """Each image changed as `spec` says with its own row of `draws_ND`: uint8 [N, image_size, image_size, 3].

    stored_NHWC: uint8 with side `stored_size(image_size, spec)`; it may come back itself where nothing is to be done.
    """
    draws_ND = draws_ND.astype(np.float64)  # float32 would round a draw just below 1 up to the next offset
    flips_N = draws_ND[:, FLIP] < spec.flip
    if spec.crop_scale is not None:
        return _resized_crops(stored_NHWC, image_size, boxes(stored_NHWC.shape[1], spec.crop_scale, draws_ND), flips_N)
    padding = min(round(spec.crop_padding * image_size), image_size - 1)  # a reflection has at most size - 1 pixels
    if not padding and not flips_N.any():
        return clean(stored_NHWC, image_size)
    offsets_N2 = np.floor(draws_ND[:, [Y, X]] * (2 * padding + 1)).astype(np.int64) - padding
    return _shifted(clean(stored_NHWC, image_size), offsets_N2, flips_N)


def clean(stored_NHWC: np.ndarray, image_size: int) -> np.ndarray:
    """The middle of each image, the same every time: uint8 [N, image_size, image_size, 3], contiguous."""
    margin = (stored_NHWC.shape[1] - image_size) // 2
    middle = slice(margin, margin + image_size)
    return np.ascontiguousarray(stored_NHWC[:, middle, middle])


def boxes(side: int, scale: tuple[float, float], draws_ND: np.ndarray) -> np.ndarray:
    """Boxes (left, top, right, bottom) in whole pixels, int64 [N, 4], inside a square of `side`.

    The area is uniform in `scale`; the logarithm of width over height is uniform among the shapes between 3:4 and 4:3
    that fit the square, so one draw is enough where torchvision draws up to ten times.
    """
    low, high = scale
    area_N = low + (high - low) * draws_ND[:, AREA]
    widest_N = np.minimum(np.log(ASPECT), -np.log(area_N))
    aspect_N = np.exp(widest_N * (2 * draws_ND[:, ASPECT_RATIO] - 1))
    exact_N2 = side * np.sqrt(np.stack([area_N * aspect_N, area_N / aspect_N], axis=1))
    size_N2 = np.clip(np.rint(exact_N2), 1, side).astype(np.int64)
    start_N2 = np.floor(draws_ND[:, [X, Y]] * (side - size_N2 + 1)).astype(np.int64)
    return np.concatenate([start_N2, start_N2 + size_N2], axis=1)


def _resized_crops(stored_NHWC: np.ndarray, size: int, boxes_N4: np.ndarray, flips_N: np.ndarray) -> np.ndarray:
    """Each box resized to `size`, bilinear and antialiased where it shrinks.

    torch's kernel for uint8 channels-last gives the bits of Pillow's in a fifth of its time (85 against 390 µs at 224 px).
    """
    out_NHWC = np.empty((len(stored_NHWC), size, size, 3), np.uint8)
    for stored, box, flip, out in zip(stored_NHWC, boxes_N4.tolist(), flips_N.tolist(), _pixels(out_NHWC), strict=True):
        left, top, right, bottom = box
        crop_1HWC = torch.from_numpy(stored[top:bottom, left:right].copy())[None]
        resized_1CHW = functional.interpolate(
            crop_1HWC.permute(0, 3, 1, 2), size=(size, size), mode="bilinear", antialias=True
        )
        target = out[:, ::-1] if flip else out
        target[:] = _pixels(np.ascontiguousarray(resized_1CHW[0].permute(1, 2, 0).numpy()))
    return out_NHWC


def _shifted(images_NHWC: np.ndarray, offsets_N2: np.ndarray, flips_N: np.ndarray) -> np.ndarray:
    """Each image moved by its (y, x) offset, reflected where it left the frame, then mirrored where its flip says so.

    The same as padding with the reflection, cropping and flipping. Rows are gathered whole, columns moved by slices: at
    224 px three times as fast as gathering pixels.
    """
    out_NHWC = np.empty_like(images_NHWC)
    step = max(1, BLOCK_BYTES // math.prod(images_NHWC.shape[1:]))
    for block in (slice(start, start + step) for start in range(0, len(out_NHWC), step)):
        moved_NHWC = _shifted_rows(images_NHWC[block], offsets_N2[block, 0])
        for image, dx, flip, out in zip(
            _pixels(moved_NHWC),
            offsets_N2[block, 1].tolist(),
            flips_N[block].tolist(),
            _pixels(out_NHWC[block]),
            strict=True,
        ):
            _shift_columns(image, dx, out[:, ::-1] if flip else out)
    return out_NHWC


def _shifted_rows(images_NHWC: np.ndarray, offsets_N: np.ndarray) -> np.ndarray:
    """out[n, y] = images[n, y + offset of n], with the edge row as the mirror where that lies outside."""
    images, height, width, _ = images_NHWC.shape
    wanted_NH = np.abs(np.arange(height) + offsets_N[:, None])
    wanted_NH = np.minimum(wanted_NH, 2 * (height - 1) - wanted_NH)
    rows = np.ascontiguousarray(images_NHWC).reshape(images * height, width * 3).view(np.dtype((np.void, width * 3)))
    moved: np.ndarray = np.take(rows[:, 0], wanted_NH + height * np.arange(images)[:, None])
    return moved.view(np.uint8).reshape(images_NHWC.shape)


def _shift_columns(image: np.ndarray, dx: int, out: np.ndarray) -> None:
    """out[:, x] = image[:, x + dx], with the edge column as the mirror where that lies outside."""
    width = image.shape[1]
    if dx < 0:
        out[:, -dx:] = image[:, :dx]
        out[:, :-dx] = image[:, -dx:0:-1]
    else:
        out[:, : width - dx] = image[:, dx:]
        out[:, width - dx :] = image[:, width - 1 - dx : width - 1][:, ::-1]


def _pixels(images: np.ndarray) -> np.ndarray:
    """The same memory with one element a pixel: uint8 [..., 3] as V3 [...]."""
    view: np.ndarray = images.view(PIXEL)[..., 0]
    return view
