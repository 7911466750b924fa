"""Random changes of training images and the fixed one of evaluation: whole batches of uint8, every draw by its counter.

A batch's `Moves` are planned once and then made with everything that belongs to the images: pixels, masks and boxes; what
changes colours alone comes after (`paint_images`). These functions run in loader threads, torch's thread pool is global and
belongs to the training: of torch only what works on one image in the thread that calls it. Axis letter beside those of
batch.py: D draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from trainwright.data import colours, erasing, trivial_augment
from trainwright.data.draws import AREA, ASPECT_RATIO, FLIP, VERTICAL_FLIP, X, Y
from trainwright.data.windows import random_windows
from trainwright.errors import RecipeError
from trainwright.recipe import AugmentSpec, Size
from trainwright.records import IGNORED, TargetKind

CROP_MARGIN = 256 / 224  # side of what is stored over side of what is seen: He et al., arXiv:1512.03385 §3.4
ASPECT = 4 / 3  # of a random resized crop, between 1/ASPECT and ASPECT: Szegedy et al., arXiv:1409.4842 §6
# Share of its own area that is left of a box which stays: that of one whose centre lies in the corner of the window. Boxes
# whose centre is inside are what Liu et al. keep, arXiv:1512.02325 §2.2; shares also serve boxes larger than the window.
MIN_VISIBLE = 0.25
MIN_SIDE = 1.0  # pixels: a thinner box covers no pixel that a network could find it by
# Of images worked on at once: half of a usual L2 cache; a whole batch takes twice as long at 224 px.
BLOCK_BYTES = 1 << 20
PIXEL = np.dtype("V3")  # one RGB pixel moved as a whole: mirroring is 2.5 times as fast as on three uint8


@dataclass(frozen=True, kw_only=True)
class Moves:
    """What becomes of each stored image of a batch: a window of it, mirrored left-right where `flips_N` and top-bottom where
    `vertical_flips_N`, brought to `size`, warped, a part of it erased.

    windows_N4: int64 (left, top, right, bottom) in pixels of the stored image. A window may reach outside of it, where the
    image is continued by its reflection; it is then as large as `size`. warps_N6: `trivial_augment.coefficients`, in pixels
    of `size`. holes_N4: int64 windows of `size` that are erased, all 0 for none. None: nothing of the kind in this batch.
    """

    windows_N4: np.ndarray
    flips_N: np.ndarray
    size: Size
    vertical_flips_N: np.ndarray | None = None
    warps_N6: np.ndarray | None = None
    holes_N4: np.ndarray | None = None


def stored_size(image_size: Size, spec: AugmentSpec, *, whole: bool = False) -> Size:
    """(height, width) of the images to store: `image_size`, with a margin where a random resized crop needs one.

    whole: no margin, since it would keep the border of every image from evaluation: of a class that takes nothing, of
    pixels, boxes and counts it does.
    """
    if spec.crop_scale is None or whole:
        return image_size
    return round(image_size[0] * CROP_MARGIN), round(image_size[1] * CROP_MARGIN)


def refuse_what_lies(spec: AugmentSpec, kind: TargetKind) -> None:
    """Raise RecipeError where a change of the images would make targets of this kind wrong."""
    if spec.erase and kind == "numbers":
        raise RecipeError(
            "a number may count or measure what was erased, and would be wrong.",
            where="augment.erase",
            cure="Set it to 0; augment.colour and augment.trivial_augment hide nothing of these images.",
        )


def plan(
    stored: Size,
    image_size: Size,
    spec: AugmentSpec | None,
    draws_ND: np.ndarray | None,
    count: int,
    *,
    warpable: bool = False,
) -> Moves:
    """How `count` images stored at `stored` (height, width) become `image_size`, as `spec` says with each one's own draws.

    Without spec or draws the clean transform: the middle, the same every time. warpable: whether the targets bear images
    that are sheared, shifted and turned.
    """
    margins = (stored[1] - image_size[1]) // 2, (stored[0] - image_size[0]) // 2
    starts_N2 = np.full((count, 2), margins, dtype=np.int64)  # x, y
    flips_N = np.zeros(count, dtype=bool)
    if spec is None or draws_ND is None:
        windows_N4 = np.concatenate([starts_N2, starts_N2 + image_size[::-1]], axis=1)
        return Moves(windows_N4=windows_N4, flips_N=flips_N, size=image_size)
    draws_ND = draws_ND.astype(np.float64)  # float32 would round a draw just below 1 up to the next offset
    if spec.crop_scale is not None:
        windows_N4 = crop_windows(stored, spec.crop_scale, draws_ND)
    else:
        # A reflection has at most side - 1 pixels.
        padding = np.array([min(round(spec.crop_padding * side), side - 1) for side in image_size[::-1]])
        starts_N2 = starts_N2 + np.floor(draws_ND[:, [X, Y]] * (2 * padding + 1)).astype(np.int64) - padding
        windows_N4 = np.concatenate([starts_N2, starts_N2 + image_size[::-1]], axis=1)
    return Moves(
        windows_N4=windows_N4,
        flips_N=draws_ND[:, FLIP] < spec.flip,
        size=image_size,
        vertical_flips_N=draws_ND[:, VERTICAL_FLIP] < spec.vertical_flip if spec.vertical_flip else None,
        warps_N6=_warps(image_size, spec, draws_ND) if spec.trivial_augment and warpable else None,
        holes_N4=erasing.holes(image_size, spec.erase, draws_ND) if spec.erase else None,
    )


def _warps(size: Size, spec: AugmentSpec, draws_ND: np.ndarray) -> np.ndarray:
    chosen = zip(*trivial_augment.choose(spec.trivial_augment, draws_ND, warpable=True), strict=True)
    return np.array([trivial_augment.coefficients(operation, magnitude, size) for operation, magnitude in chosen])


def paint_images(
    moved_NHWC: np.ndarray,
    moves: Moves,
    spec: AugmentSpec | None,
    draws_ND: np.ndarray | None,
    *,
    warpable: bool = False,
) -> np.ndarray:
    """Moved images with what `spec` does to colours, and with noise in their holes: uint8; the argument where that is nothing.

    draws_ND, warpable: those of the plan. The order is that of the sources: colour, TrivialAugment, erasing.
    """
    if spec is None or draws_ND is None:
        return moved_NHWC
    draws_ND = draws_ND.astype(np.float64)
    painted_NHWC = moved_NHWC
    if spec.colour:
        painted_NHWC = colours.recolour(painted_NHWC, colours.factors(spec.colour, draws_ND))
    if spec.trivial_augment:
        operations, magnitudes = trivial_augment.choose(spec.trivial_augment, draws_ND, warpable=warpable)
        painted_NHWC = trivial_augment.recolour(painted_NHWC, operations, magnitudes, spec.trivial_augment)
    if moves.holes_N4 is not None:
        painted_NHWC = erasing.erase(painted_NHWC, moves.holes_N4, draws_ND)
    return painted_NHWC


def move_images(stored_NHWC: np.ndarray, moves: Moves) -> np.ndarray:
    """Each image changed by its move: uint8 [N, *moves.size, 3]; the argument itself where nothing is to be done.

    stored_NHWC: uint8. A window of another size than `moves.size` is resized, bilinear and antialiased where it shrinks.
    """
    if _resizes(moves):
        moved_NHWC = _resized_images(stored_NHWC, moves)
    else:
        moved_NHW = _moved_pixels(_pixels(np.ascontiguousarray(stored_NHWC)), moves)
        moved_NHWC = moved_NHW.view(np.uint8).reshape(len(stored_NHWC), *moves.size, 3)
    return moved_NHWC if moves.warps_N6 is None else trivial_augment.warp_images(moved_NHWC, moves.warps_N6)


def move_masks(stored_NHW: np.ndarray, moves: Moves) -> np.ndarray:
    """Each mask changed by the move of its image: uint8 [N, *moves.size], every value one that was stored or IGNORED.

    Where the image is resized, a pixel takes the value of the one under its centre; where it is reflected, the mask is too.
    Where a warp shows what lies outside, or the image is erased, nothing can be known, and the mask is IGNORED.
    """
    moved_NHW = (
        _resized_masks(stored_NHW, moves) if _resizes(moves) else _moved_pixels(np.ascontiguousarray(stored_NHW), moves)
    )
    if moves.warps_N6 is not None:
        moved_NHW = trivial_augment.warp_masks(moved_NHW, moves.warps_N6, IGNORED)
    return moved_NHW if moves.holes_N4 is None else erasing.hide(moved_NHW, moves.holes_N4, IGNORED)


def move_boxes(stored_NM5: np.ndarray, moves: Moves) -> np.ndarray:
    """Each image's boxes changed by its move and clipped to its frame: float32 [N, M, 5], those that stay first, in order.

    stored_NM5: (class, left, top, right, bottom) in pixels of the stored image; class -1 fills up. A box of which less than
    MIN_VISIBLE is left or a side of less than MIN_SIDE becomes (-1, 0, 0, 0, 0); what is erased counts as gone. Moves of
    boxes have no warps.
    """
    assert moves.warps_N6 is None, "the frame of a turned box is no longer tight"
    height, width = moves.size
    starts_N2, ends_N2 = moves.windows_N4[:, :2], moves.windows_N4[:, 2:]
    scales_N2 = (width, height) / (ends_N2 - starts_N2)
    corners_NM22 = stored_NM5[..., 1:].astype(np.float64).reshape(*stored_NM5.shape[:2], 2, 2)
    whole_NM22 = (corners_NM22 - starts_N2[:, None, None]) * scales_N2[:, None, None]
    seen_NM22 = np.clip(whole_NM22, 0, (width, height))
    whole_NM2, seen_NM2 = np.diff(whole_NM22, axis=2)[:, :, 0], np.diff(seen_NM22, axis=2)[:, :, 0]
    kept_NM = (stored_NM5[..., 0] >= 0) & (seen_NM2.min(axis=2) >= MIN_SIDE)
    left_NM = seen_NM2.prod(axis=2)  # decided before: a box and its mirror image have the same fate to the last bit
    moved_NM22 = _mirrored(seen_NM22, moves)
    if moves.holes_N4 is not None:
        left_NM = left_NM * erasing.visible_share(moved_NM22, moves.holes_N4)
    kept_NM &= left_NM >= MIN_VISIBLE * whole_NM2.prod(axis=2)
    moved_NM5 = np.concatenate([stored_NM5[..., :1], moved_NM22.reshape(*kept_NM.shape, 4)], axis=2)
    moved_NM5[~kept_NM] = (-1, 0, 0, 0, 0)
    order_NM = np.argsort(~kept_NM, axis=1, kind="stable")
    return np.take_along_axis(moved_NM5, order_NM[..., None], axis=1).astype(np.float32)


def crop_windows(stored: Size, scale: tuple[float, float], draws_ND: np.ndarray) -> np.ndarray:
    """Windows (left, top, right, bottom) of random resized crops, int64 [N, 4]. scale: their area, a share of the whole."""
    return random_windows(stored, scale, ASPECT, draws_ND[:, [AREA, ASPECT_RATIO, Y, X]])


def _mirrored(corners_NM22: np.ndarray, moves: Moves) -> np.ndarray:
    """The corners (left, top), (right, bottom) of boxes after the flips."""
    mirrored_NM22 = corners_NM22.copy()
    for axis, flips_N in ((0, moves.flips_N), (1, moves.vertical_flips_N)):
        if flips_N is not None:
            mirrored_NM22[flips_N, :, :, axis] = moves.size[1 - axis] - corners_NM22[flips_N, :, ::-1, axis]
    return mirrored_NM22


def _resizes(moves: Moves) -> bool:
    return bool((moves.windows_N4[:, 2:] - moves.windows_N4[:, :2] != moves.size[::-1]).any())


def _vertical_flips(moves: Moves) -> np.ndarray:
    return np.zeros(len(moves.flips_N), dtype=bool) if moves.vertical_flips_N is None else moves.vertical_flips_N


def _resized_images(stored_NHWC: np.ndarray, moves: Moves) -> np.ndarray:
    """Each window resized.

    torch's kernel for uint8 channels-last gives the bits of Pillow's in a fifth of its time (85 against 390 µs at 224 px).
    """
    out_NHWC = np.empty((len(stored_NHWC), *moves.size, 3), np.uint8)
    windows, flips, upside_down = moves.windows_N4.tolist(), moves.flips_N.tolist(), _vertical_flips(moves).tolist()
    for stored, window, flip, turn, out in zip(
        stored_NHWC, windows, flips, upside_down, _pixels(out_NHWC), strict=True
    ):
        left, top, right, bottom = window
        crop_1HWC = torch.from_numpy(stored[top:bottom, left:right].copy())[None]
        resized_1CHW = functional.interpolate(
            crop_1HWC.permute(0, 3, 1, 2), size=moves.size, mode="bilinear", antialias=True
        )
        target = out[:: -1 if turn else 1, :: -1 if flip else 1]
        target[:] = _pixels(np.ascontiguousarray(resized_1CHW[0].permute(1, 2, 0).numpy()))
    return out_NHWC


def _resized_masks(stored_NHW: np.ndarray, moves: Moves) -> np.ndarray:
    """Of each window the pixels under the centres of those that are wanted."""
    height, width = moves.size
    left_N, top_N, right_N, bottom_N = moves.windows_N4.T[..., None]
    rows_NH = top_N + (2 * np.arange(height) + 1) * (bottom_N - top_N) // (2 * height)
    columns_NW = left_N + (2 * np.arange(width) + 1) * (right_N - left_N) // (2 * width)
    columns_NW = np.where(moves.flips_N[:, None], columns_NW[:, ::-1], columns_NW)
    rows_NH = np.where(_vertical_flips(moves)[:, None], rows_NH[:, ::-1], rows_NH)
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
    upside_down_N = _vertical_flips(moves)
    if not (moves.flips_N | upside_down_N).any() and (windows_N4 == windows_N4[0]).all():
        left, top, right, bottom = windows_N4[0].tolist()
        if min(left, top) >= 0 and right <= stored_width and bottom <= stored_height:
            return np.ascontiguousarray(stored_NHW[:, top:bottom, left:right])
    out_NHW = np.empty((len(stored_NHW), *moves.size), stored_NHW.dtype)
    step = max(1, BLOCK_BYTES // (math.prod(stored_NHW.shape[1:]) * stored_NHW.itemsize))
    for block in (slice(start, start + step) for start in range(0, len(out_NHW), step)):
        moved_NHW = _moved_rows(stored_NHW[block], windows_N4[block, 1], upside_down_N[block], moves.size[0])
        lefts, flips = windows_N4[block, 0].tolist(), moves.flips_N[block].tolist()
        for image, left, flip, out in zip(moved_NHW, lefts, flips, out_NHW[block], strict=True):
            _move_columns(image, left, out[:, ::-1] if flip else out)
    return out_NHW


def _moved_rows(stored_NHW: np.ndarray, tops_N: np.ndarray, upside_down_N: np.ndarray, height: int) -> np.ndarray:
    """out[n, y] = stored[n, y + top of n] for y < height, with the edge row as the mirror where that lies outside; the last
    row first where upside down."""
    images, stored_height, width = stored_NHW.shape
    wanted_NH = np.abs(np.arange(height) + tops_N[:, None])
    wanted_NH = np.minimum(wanted_NH, 2 * (stored_height - 1) - wanted_NH)
    wanted_NH = np.where(upside_down_N[:, None], wanted_NH[:, ::-1], wanted_NH)
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
