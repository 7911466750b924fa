"""Fitting to a size, drafts, limits and warnings of decoding. What single kinds of file give is in test_broken_files.py."""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from trainwright.data import decode as decode_module
from trainwright.data.decode import PAD_COLOUR, DecodeError, decode, fit_mask, fit_to, normalized
from trainwright.data.placement import FITS
from trainwright.data.verdict import format_of
from trainwright.errors import UnknownNameError
from trainwright.recipe import Size
from trainwright.records import IGNORED

SIZES = st.tuples(st.integers(8, 60), st.integers(8, 60))


def jpeg(pixels: np.ndarray, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def thirds() -> Image.Image:
    """30 × 10 pixels: a red, a green and a blue square side by side."""
    return Image.fromarray(np.repeat(np.eye(3, dtype=np.uint8)[None] * 255, 10, axis=0).repeat(10, axis=1))


def gradient(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return (np.stack([rows, columns, (rows + columns) / 2], axis=2) * 255).astype(np.uint8)


def quadrants(height: int, width: int) -> np.ndarray:
    """A mask of four flat areas: 1 above on the left and below on the right, 0 elsewhere."""
    rows, columns = np.mgrid[:height, :width]
    mask: np.ndarray = ((rows < height // 2) == (columns < width // 2)).astype(np.uint8)
    return mask


def beside_an_edge(mask_HW: np.ndarray) -> np.ndarray:
    """Pixels with a neighbour, also across a corner, of another value: bool [H, W]."""
    around = np.lib.stride_tricks.sliding_window_view(np.pad(mask_HW, 1, mode="edge"), (3, 3))
    beside: np.ndarray = around.max(axis=(2, 3)) != around.min(axis=(2, 3))
    return beside


def test_crop_keeps_the_centre() -> None:
    square = np.asarray(fit_to(thirds(), (10, 10), "crop"))
    assert (square == [0, 255, 0]).all()


def test_squash_keeps_everything() -> None:
    square = np.asarray(fit_to(thirds(), (3, 3), "squash"))
    assert square.argmax(axis=2).tolist() == [[0, 1, 2]] * 3


def test_pad_adds_borders_above_and_below() -> None:
    square = np.asarray(fit_to(thirds(), (30, 30), "pad"))
    assert (square[:10] == PAD_COLOUR).all()
    assert (square[20:] == PAD_COLOUR).all()
    assert (square[10:20] == np.asarray(thirds())).all()


def test_crop_to_an_oblong_keeps_the_centre() -> None:
    tall = fit_to(thirds(), (10, 5), "crop")
    assert tall.size == (5, 10)
    assert (np.asarray(tall) == [0, 255, 0]).all()


def test_an_image_of_the_wanted_shape_keeps_everything_with_every_fit() -> None:
    half = [np.asarray(fit_to(thirds(), (5, 15), fit)) for fit in FITS]
    assert (half[0][:, [0, 7, 14]].argmax(axis=2) == [0, 1, 2]).all()
    assert (half[0] == half[1]).all()
    assert (half[0] == half[2]).all()


def test_pad_of_a_square_to_an_oblong_adds_borders_left_and_right() -> None:
    padded = np.asarray(fit_to(Image.fromarray(gradient(10, 10)), (10, 20), "pad"))
    assert (padded[:, :5] == PAD_COLOUR).all()
    assert (padded[:, 15:] == PAD_COLOUR).all()
    assert (padded[:, 5:15] == gradient(10, 10)).all()


def test_a_mask_of_the_right_size_stays_as_it_is() -> None:
    mask = quadrants(16, 12)
    assert all(np.array_equal(fit_mask(mask, (16, 12), fit), mask) for fit in FITS)


def test_a_pixel_of_a_mask_takes_the_value_under_its_centre() -> None:
    mask = np.arange(9, dtype=np.uint8)[None].repeat(3, axis=0)
    assert fit_mask(mask, (1, 3), "squash").tolist() == [[1, 4, 7]]
    assert fit_mask(mask, (1, 1), "crop").tolist() == [[4]]
    assert fit_mask(mask[:, :2], (3, 6), "squash").tolist() == [[0, 0, 0, 1, 1, 1]] * 3


def test_what_is_padded_of_a_mask_is_ignored() -> None:
    padded = fit_mask(np.full((10, 30), 4, np.uint8), (30, 30), "pad")
    assert (padded[:10] == IGNORED).all()
    assert (padded[10:20] == 4).all()
    assert (padded[20:] == IGNORED).all()


@given(shape=st.tuples(st.integers(24, 120), st.integers(24, 120)), size=SIZES, fit=st.sampled_from(FITS))
def test_an_image_and_its_mask_stay_aligned(shape: Size, size: Size, fit: str) -> None:
    """A picture of flat areas, cut at a threshold after fitting, is its fitted mask but for a pixel along the edges."""
    mask = quadrants(*shape)
    fitted = np.asarray(fit_to(Image.fromarray(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)), size, fit))
    found = fit_mask(mask, size, fit)
    shown = found != IGNORED
    differs = shown & ((fitted[..., 0] >= 128) != (found == 1))
    assert found.shape == size
    assert ((fitted == PAD_COLOUR).all(axis=2) == ~shown).all()
    assert not (differs & ~beside_an_edge(found)).any()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(200, 300), (300, 200), (256, 256), (77, 400)])
@pytest.mark.parametrize("size", [(32, 48), (48, 32), (40, 40)])
def test_a_jpeg_and_its_mask_stay_aligned_when_the_jpeg_is_drafted(shape: Size, size: Size, fit: str) -> None:
    mask = quadrants(*shape)
    fitted = decode(jpeg(np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)), size=size, fit=fit)
    found = fit_mask(mask, size, fit)
    differs = (fitted[..., 0] >= 128) != (found == 1)
    assert not (differs & (found != IGNORED) & ~beside_an_edge(found)).any()


def test_an_image_of_the_right_size_stays_as_it_is() -> None:
    pixels = gradient(16, 16)
    assert (decode(png(pixels), size=16) == pixels).all()


def test_shrinking_is_antialiased() -> None:
    checkerboard = np.repeat(np.indices((64, 64)).sum(axis=0)[:, :, None] % 2 * 255, 3, axis=2).astype(np.uint8)
    small = decode(png(checkerboard), size=8)
    assert np.abs(small[1:-1, 1:-1].astype(int) - 127).max() <= 3


def test_an_unknown_fit_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'crop'"):
        fit_to(thirds(), (8, 8), "corp")


def test_pixels_can_be_written_to() -> None:
    assert decode(png(gradient(8, 8))).flags.writeable


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_a_large_jpeg_decoded_small_is_nearly_the_same_picture(fit: str) -> None:
    data = jpeg(gradient(1200, 900))
    drafted = decode(data, size=64, fit=fit)
    whole = np.asarray(fit_to(normalized(data)[0], (64, 64), fit))
    assert np.abs(drafted.astype(int) - whole).max() <= 3


def test_a_draft_leaves_at_least_twice_the_pixels_needed() -> None:
    image, _ = normalized(jpeg(gradient(1200, 900)), size=(100, 100))
    assert image.size == (225, 300)


@pytest.mark.parametrize("shape", [(1200, 900), (900, 1200)])
@pytest.mark.parametrize(
    ("size", "fit", "shorter"),
    [
        ((100, 50), "crop", 225),
        ((50, 100), "crop", 225),
        ((100, 50), "squash", 225),
        ((114, 57), "pad", 225),
        ((112, 56), "pad", 113),
    ],
)
def test_a_draft_for_an_oblong_leaves_enough_whichever_way_the_image_is_turned(
    shape: Size, size: Size, fit: str, shorter: int
) -> None:
    image, _ = normalized(jpeg(gradient(*shape)), size=size, fit=fit)
    assert min(image.size) == shorter


def test_a_jpeg_that_is_not_large_enough_is_decoded_whole() -> None:
    image, _ = normalized(jpeg(gradient(399, 399)), size=(100, 100))
    assert image.size == (399, 399)


def test_a_grey_jpeg_keeps_its_grey_in_a_draft() -> None:
    data = jpeg(gradient(800, 800), "L")
    assert np.ptp(decode(data, size=32), axis=2).max() == 0


def test_a_cmyk_jpeg_keeps_its_colours_in_a_draft() -> None:
    red = np.full((800, 800, 3), (200, 30, 30), np.uint8)
    assert np.abs(decode(jpeg(red, "CMYK"), size=32).astype(int) - red[:32, :32]).max() <= 3


def test_a_thin_strip_can_be_padded() -> None:
    assert decode(jpeg(gradient(3, 4000)), size=32, fit="pad").shape == (32, 32, 3)


def test_sizes_beyond_the_limit_are_refused_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "MAX_PIXELS", 99)
    with pytest.raises(DecodeError, match="its header states 10 x 10 pixels; at most 99 are decoded") as caught:
        decode(png(gradient(10, 10)))
    assert caught.value.kind == "oversized"


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="does not exist any more") as caught:
        decode(tmp_path / "gone.jpg")
    assert caught.value.kind == "unreadable"


def test_an_impossible_name_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="name cannot be used"):
        decode(tmp_path / "a\0b.jpg")


def test_no_warning_of_pillow_leaves_and_the_filters_are_as_before() -> None:
    odd = jpeg(gradient(10, 10)).replace(b"JFIF", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"[:4], 1)
    bomb = png(gradient(10, 10))
    before = list(warnings.filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # Pillow now warns of 100 pixels
        decode(bomb)
        decode(odd)
    assert list(warnings.filters) == before


def test_many_threads_leave_the_warning_filters_as_before() -> None:
    data = png(gradient(10, 10))
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "ICO", "JPEG2000", "PPM"])
def test_the_format_is_told_by_the_first_bytes(file_format: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(gradient(32, 32)).save(buffer, file_format)
    assert format_of(buffer.getvalue()) == file_format
