"""Random changes of training images and the fixed one of evaluation: whole batches of uint8, every draw by its counter.

A batch's `Moves` are planned once and then made with everything that belongs to the images: pixels, masks and boxes. These
functions run in loader threads, torch's thread pool is global and belongs to the training: of torch only what works on one
image in the thread that calls it. Axis letter beside those of batch.py: D draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from trainwright import seeding
from trainwright.recipe import AugmentSpec, Size

CROP_MARGIN = 256 / 224  # side of what is stored over side of what is seen: He et al., arXiv:1512.03385 §3.4
ASPECT = 4 / 3  # of a random resized crop, between 1/ASPECT and ASPECT: Szegedy et al., arXiv:1409.4842 §6
DRAWS = 5  # uniform numbers for each image, whatever the spec: flip, y, x, area, aspect
FLIP, Y, X, AREA, ASPECT_RATIO = range(DRAWS)
# Share of its own area that is left of a box which stays: that of one whose centre lies in the corner of the window. Boxes
# whose centre is inside are what Liu et al. keep, arXiv:1512.02325 §2.2; shares also serve boxes larger than the window.
MIN_VISIBLE = 0.25
MIN_SIDE = 1.0  # pixels: a thinner box covers no pixel that a network could find it by
# Of images worked on at once: half of a usual L2 cache; a whole batch takes twice as long at 224 px.
BLOCK_BYTES = 1 << 20
PIXEL = np.dtype("V3")  # one RGB pixel moved as a whole: mirroring is 2.5 times as fast as on three uint8


@dataclass(frozen=True, kw_only=True)
class Moves:
    """What becomes of each stored image of a batch: a window of it, mirrored left-right where `flips_N`, brought to `size`.

    windows_N4: int64 (left, top, right, bottom) in pixels of the stored image. A window may reach outside of it, where the
    image is continued by its reflection; it is then as large as `size`.
    """

    windows_N4: np.ndarray
    flips_N: np.ndarray
    size: Size


def stored_size(image_size: Size, spec: AugmentSpec, *, whole: bool = False) -> Size:
    """(height, width) of the images to store: `image_size`, with a margin where a random resized crop needs one.

    whole: no margin, since it would keep the border of every image from evaluation: of a class that takes nothing, of
    pixels, boxes and counts it does.
    """
    if spec.crop_scale is None or whole:
        return image_size
    return round(image_size[0] * CROP_MARGIN), round(image_size[1] * CROP_MARGIN)


def draws(seed: int, epoch: int, samples: int, *, name: str = "augment") -> np.ndarray:
    """All random numbers of an epoch: float32 [samples, D] in [0, 1). Row i is that of the i-th training row.

    Depends on (seed, name, epoch) and the row alone: not on order, batch size or the number of workers.
    """
    return seeding.stream(seed, name, epoch).random((samples, DRAWS), dtype=np.float32)


def plan(stored: Size, image_size: Size, spec: AugmentSpec | None, draws_ND: np.ndarray | None, count: int) -> Moves:
    """How `count` images stored at `stored` (height, width) become `image_size`, as `spec` says with each one's own draws.

    Without spec or draws the clean transform: the middle, the same every time.
    """
    margins = (stored[1] - image_size[1]) // 2, (stored[0] - image_size[0]) // 2
    starts_N2 = np.full((count, 2), margins, dtype=np.int64)  # x, y
    flips_N = np.zeros(count, dtype=bool)
    if spec is not None and draws_ND is not None:
        draws_ND = draws_ND.astype(np.float64)  # float32 would round a draw just below 1 up to the next offset
        flips_N = draws_ND[:, FLIP] < spec.flip
        if spec.crop_scale is not None:
            windows_N4 = crop_windows(stored, spec.crop_scale, draws_ND)
            return Moves(windows_N4=windows_N4, flips_N=flips_N, size=image_size)
        # A reflection has at most side - 1 pixels.
        padding = np.array([min(round(spec.crop_padding * side), side - 1) for side in image_size[::-1]])
        starts_N2 = starts_N2 + np.floor(draws_ND[:, [X, Y]] * (2 * padding + 1)).astype(np.int64) - padding
    windows_N4 = np.concatenate([starts_N2, starts_N2 + image_size[::-1]], axis=1)
    return Moves(windows_N4=windows_N4, flips_N=flips_N, size=image_size)


def move_images(stored_NHWC: np.ndarray, moves: Moves) -> np.ndarray:
    """Each image changed by its move: uint8 [N, *moves.size, 3]; the argument itself where nothing is to be done.

    stored_NHWC: uint8. A window of another size than `moves.size` is resized, bilinear and antialiased where it shrinks.
    """
    if _resizes(moves):
        return _resized_images(stored_NHWC, moves)
    moved_NHW = _moved_pixels(_pixels(np.ascontiguousarray(stored_NHWC)), moves)
    return moved_NHW.view(np.uint8).reshape(len(stored_NHWC), *moves.size, 3)


def move_masks(stored_NHW: np.ndarray, moves: Moves) -> np.ndarray:
    """Each mask changed by the move of its image: uint8 [N, *moves.size], every value one that was stored.

    Where the image is resized, a pixel takes the value of the one under its centre; where it is reflected, the mask is too.
    """
    if _resizes(moves):
        return _resized_masks(stored_NHW, moves)
    return _moved_pixels(np.ascontiguousarray(stored_NHW), moves)


def move_boxes(stored_NM5: np.ndarray, moves: Moves) -> np.ndarray:
    """Each image's boxes changed by its move and clipped to its frame: float32 [N, M, 5], those that stay first, in order.

    stored_NM5: (class, left, top, right, bottom) in pixels of the stored image; class -1 fills up. A box of which less than
    MIN_VISIBLE is left or a side of less than MIN_SIDE becomes (-1, 0, 0, 0, 0).
    """
    height, width = moves.size
    starts_N2, ends_N2 = moves.windows_N4[:, :2], moves.windows_N4[:, 2:]
    scales_N2 = (width, height) / (ends_N2 - starts_N2)
    corners_NM22 = stored_NM5[..., 1:].astype(np.float64).reshape(*stored_NM5.shape[:2], 2, 2)
    whole_NM22 = (corners_NM22 - starts_N2[:, None, None]) * scales_N2[:, None, None]
    seen_NM22 = np.clip(whole_NM22, 0, (width, height))
    whole_NM2, seen_NM2 = np.diff(whole_NM22, axis=2)[:, :, 0], np.diff(seen_NM22, axis=2)[:, :, 0]
    kept_NM = (stored_NM5[..., 0] >= 0) & (seen_NM2.min(axis=2) >= MIN_SIDE)
    kept_NM &= seen_NM2.prod(axis=2) >= MIN_VISIBLE * whole_NM2.prod(axis=2)
    mirrored_NM22 = seen_NM22.copy()  # decided before: a box and its mirror image have the same fate to the last bit
    mirrored_NM22[..., 0] = width - seen_NM22[..., ::-1, 0]
    moved_NM22 = np.where(moves.flips_N[:, None, None, None], mirrored_NM22, seen_NM22)
    moved_NM5 = np.concatenate([stored_NM5[..., :1], moved_NM22.reshape(*kept_NM.shape, 4)], axis=2)
    moved_NM5[~kept_NM] = (-1, 0, 0, 0, 0)
    order_NM = np.argsort(~kept_NM, axis=1, kind="stable")
    return np.take_along_axis(moved_NM5, order_NM[..., None], axis=1).astype(np.float32)


def crop_windows(stored: Size, scale: tuple[float, float], draws_ND: np.ndarray) -> np.ndarray:
    """Windows (left, top, right, bottom) in whole pixels, int64 [N, 4], inside of an image of `stored` (height, width).

    The area is uniform in `scale`, a share of the whole; the logarithm of width over height, relative to that of the whole,
    is uniform among the shapes between 3:4 and 4:3 that fit, so one draw is enough where torchvision draws up to ten times.
    """
    low, high = scale
    sides = np.array(stored[::-1])
    area_N = low + (high - low) * draws_ND[:, AREA]
    widest_N = np.minimum(np.log(ASPECT), -np.log(area_N))
    aspect_N = np.exp(widest_N * (2 * draws_ND[:, ASPECT_RATIO] - 1))
    exact_N2 = sides * np.sqrt(np.stack([area_N * aspect_N, area_N / aspect_N], axis=1))
    size_N2 = np.clip(np.rint(exact_N2), 1, sides).astype(np.int64)
    start_N2 = np.floor(draws_ND[:, [X, Y]] * (sides - size_N2 + 1)).astype(np.int64)
    return np.concatenate([start_N2, start_N2 + size_N2], axis=1)


def _resizes(moves: Moves) -> bool:
    return bool((moves.windows_N4[:, 2:] - moves.windows_N4[:, :2] != moves.size[::-1]).any())


def _resized_images(stored_NHWC: np.ndarray, moves: Moves) -> np.ndarray:
    """Each window resized.

    torch's kernel for uint8 channels-last gives the bits of Pillow's in a fifth of its time (85 against 390 µs at 224 px).
    """
    out_NHWC = np.empty((len(stored_NHWC), *moves.size, 3), np.uint8)
    windows, flips = moves.windows_N4.tolist(), moves.flips_N.tolist()
    for stored, window, flip, out in zip(stored_NHWC, windows, flips, _pixels(out_NHWC), strict=True):
        left, top, right, bottom = window
        crop_1HWC = torch.from_numpy(stored[top:bottom, left:right].copy())[None]
        resized_1CHW = functional.interpolate(
            crop_1HWC.permute(0, 3, 1, 2), size=moves.size, mode="bilinear", antialias=True
        )
        target = out[:, ::-1] if flip else out
        target[:] = _pixels(np.ascontiguousarray(resized_1CHW[0].permute(1, 2, 0).numpy()))
    return out_NHWC


def _resized_masks(stored_NHW: np.ndarray, moves: Moves) -> np.ndarray:
    """Of each window the pixels under the centres of those that are wanted."""
    height, width = moves.size
    left_N, top_N, right_N, bottom_N = moves.windows_N4.T[..., None]
    rows_NH = top_N + (2 * np.arange(height) + 1) * (bottom_N - top_N) // (2 * height)
    columns_NW = left_N + (2 * np.arange(width) + 1) * (right_N - left_N) // (2 * width)
    columns_NW = np.where(moves.flips_N[:, None], columns_NW[:, ::-1], columns_NW)
    out_NHW = np.empty((len(stored_NHW), height, width), np.uint8)
    for stored, rows_H, columns_W, out in zip(stored_NHW, rows_NH, columns_NW, out_NHW, strict=True):
        np.take(stored[rows_H], columns_W, axis=1, out=out)
    return out_NHW


def _moved_pixels(stored_NHW: np.ndarray, moves: Moves) -> np.ndarray:
    """Each image's window without resizing, one element a pixel: contiguous [N, *moves.size], as they are where possible.

    The same as padding with the reflection, cropping and flipping. Rows are gathered whole, columns moved by slices: at
    224 px three times as fast as gathering pixels.
    """
    windows_N4, (stored_height, stored_width) = moves.windows_N4, stored_NHW.shape[1:]
    if not moves.flips_N.any() and (windows_N4 == windows_N4[0]).all():
        left, top, right, bottom = windows_N4[0].tolist()
        if min(left, top) >= 0 and right <= stored_width and bottom <= stored_height:
            return np.ascontiguousarray(stored_NHW[:, top:bottom, left:right])
    out_NHW = np.empty((len(stored_NHW), *moves.size), stored_NHW.dtype)
    step = max(1, BLOCK_BYTES // (math.prod(stored_NHW.shape[1:]) * stored_NHW.itemsize))
    for block in (slice(start, start + step) for start in range(0, len(out_NHW), step)):
        moved_NHW = _moved_rows(stored_NHW[block], windows_N4[block, 1], moves.size[0])
        lefts, flips = windows_N4[block, 0].tolist(), moves.flips_N[block].tolist()
        for image, left, flip, out in zip(moved_NHW, lefts, flips, out_NHW[block], strict=True):
            _move_columns(image, left, out[:, ::-1] if flip else out)
    return out_NHW


def _moved_rows(stored_NHW: np.ndarray, tops_N: np.ndarray, height: int) -> np.ndarray:
    """out[n, y] = stored[n, y + top of n] for y < height, with the edge row as the mirror where that lies outside."""
    images, stored_height, width = stored_NHW.shape
    wanted_NH = np.abs(np.arange(height) + tops_N[:, None])
    wanted_NH = np.minimum(wanted_NH, 2 * (stored_height - 1) - wanted_NH)
    row = np.dtype((np.void, width * stored_NHW.itemsize))
    rows = stored_NHW.reshape(images * stored_height, width).view(row)[:, 0]
    moved: np.ndarray = np.take(rows, wanted_NH + stored_height * np.arange(images)[:, None])
    return moved.view(stored_NHW.dtype).reshape(images, height, width)


def _move_columns(image: np.ndarray, left: int, out: np.ndarray) -> None:
    """out[:, x] = image[:, x + left], with the edge column as the mirror where that lies outside."""
    width, after = out.shape[1], left + out.shape[1] - image.shape[1]  # columns that lie outside on the right
    if left < 0:
        out[:, :-left] = image[:, -left:0:-1]
        out[:, -left:] = image[:, : width + left]
    elif after > 0:
        out[:, : width - after] = image[:, left:]
        out[:, width - after :] = image[:, -1 - after : -1][:, ::-1]
    else:
        out[:] = image[:, left : left + width]


def _pixels(images: np.ndarray) -> np.ndarray:
    """The same memory with one element a pixel: uint8 [..., 3] as V3 [...]."""
    view: np.ndarray = images.view(PIXEL)[..., 0]
    return view
