"""Mask files of every kind as class numbers, and what is said of those that hold none."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data.decode import DecodeError
from trainwright.data.masks import MaskClasses, numbered, read_mask
from trainwright.records import IGNORED

MASK = np.random.default_rng(0).integers(0, 4, (6, 9), dtype=np.uint8)  # [H, W], four classes
COLOURS = np.array([[0, 0, 0], [128, 64, 128], [0, 0, 1], [255, 255, 255]], dtype=np.uint8)


def saved(pixels: np.ndarray | Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def with_palette(mask_HW: np.ndarray, colours: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask_HW).convert("L")
    image.putpalette(colours.tobytes())
    return image


# ---- masks of class numbers ----


@pytest.mark.parametrize(
    "data",
    [
        saved(MASK),
        saved(MASK, "TIFF"),
        saved(MASK, "BMP"),
        saved(MASK.astype(np.uint16)),
        saved(MASK.astype(np.int32), "TIFF"),
        saved(np.stack([MASK] * 3, axis=2)),
        saved(np.stack([*[MASK] * 3, 255 - MASK], axis=2)),
        saved(np.stack([MASK, 7 * MASK], axis=2)),
        saved(np.stack([MASK] * 3, axis=2), "WEBP", lossless=True),
    ],
    ids=["grey", "tiff", "bmp", "16-bit", "32-bit", "rgb", "rgba", "grey-alpha", "lossless-webp"],
)
def test_pixels_are_the_numbers_that_were_written(data: bytes) -> None:
    read = read_mask(data)
    assert read.dtype == np.uint8
    assert np.array_equal(read, MASK)


def test_a_palette_is_read_as_indices_whatever_its_colours() -> None:
    assert np.array_equal(read_mask(saved(with_palette(MASK, COLOURS[::-1]))), MASK)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_of_few_bits_is_read_as_indices(bits: int) -> None:
    mask_HW = MASK % 2**bits
    assert np.array_equal(read_mask(saved(with_palette(mask_HW, COLOURS), bits=bits)), mask_HW)


def test_black_and_white_are_0_and_1() -> None:
    assert np.array_equal(read_mask(saved(MASK > 1)), MASK > 1)


def test_greys_of_two_bits_are_not_stretched() -> None:
    rows = b"".join(b"\0" + bytes([0b00011011]) for _ in range(2))  # no filter; the pixels 0, 1, 2 and 3
    assert read_mask(png(4, 2, depth=2, colour_type=0, rows=rows)).tolist() == [[0, 1, 2, 3]] * 2


def test_a_mask_is_turned_as_its_orientation_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(read_mask(saved(MASK, exif=exif)), np.rot90(MASK, -1))


def test_a_file_is_read_from_its_path(tmp_path: Path) -> None:
    Image.fromarray(MASK).save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png"), MASK)


def refused(data: bytes, colours: np.ndarray | None = None) -> tuple[str, str]:
    with pytest.raises(DecodeError) as refusal:
        read_mask(data, colours)
    return refusal.value.kind, refusal.value.message


def test_numbers_above_255_are_refused() -> None:
    kind, message = refused(saved(300 + MASK.astype(np.uint16)))
    assert kind == "unsupported-pixels"
    assert message.startswith("its pixels range from 300 to 303; class numbers are 0 to 255. Save masks")


def test_channels_of_16_bits_are_refused() -> None:
    rows = b"".join(b"\0" + bytes(4 * 2) for _ in range(2))  # grey and alpha, two bytes each, two pixels a row
    kind, message = refused(png(2, 2, depth=16, colour_type=4, rows=rows))
    assert kind == "unsupported-pixels"
    assert "16-bit" in message


def test_floating_point_pixels_are_refused() -> None:
    kind, message = refused(saved(MASK.astype(np.float32), "TIFF"))
    assert kind == "unsupported-pixels"
    assert "its pixels are floating-point numbers, no class numbers." in message


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_compression_that_changes_pixels_is_refused(file_format: str) -> None:
    kind, message = refused(saved(np.stack([MASK] * 3, axis=2), file_format))
    assert kind == "lossy"
    assert message == (
        f"{file_format} compression changes pixels, and with them classes. Save masks as PNG, from the original."
    )


def test_a_colour_picture_without_listed_colours_is_refused() -> None:
    kind, message = refused(saved(COLOURS[MASK]))
    assert kind == "no-colours"
    assert "nothing says which colour is which class. Write 'NAME R G B' into classes.txt" in message


def test_damage_is_named_as_it_is_for_images() -> None:
    assert refused(b"")[0] == "empty"
    assert refused(saved(MASK)[:-30])[0] == "truncated"
    assert refused(b"<html>")[0] == "not-an-image"
    assert refused(png(20_000, 20_000, depth=8, colour_type=0, rows=b""))[0] == "oversized"
    assert refused(saved(MASK).replace(b"IDAT", b"IDAT\1", 1))[0] == "corrupt"


# ---- masks of colours ----


@pytest.mark.parametrize(
    "data",
    [
        saved(COLOURS[MASK]),
        saved(np.concatenate([COLOURS[MASK], 40 * MASK[:, :, None]], axis=2)),
        saved(with_palette(3 - MASK, COLOURS[::-1])),
        saved(COLOURS[MASK], "BMP"),
    ],
    ids=["rgb", "rgba", "palette", "bmp"],
)
def test_colours_become_the_numbers_of_their_classes(data: bytes) -> None:
    assert np.array_equal(read_mask(data, COLOURS), MASK)


def test_grey_masks_are_numbers_even_where_colours_are_listed() -> None:
    assert np.array_equal(read_mask(saved(MASK), COLOURS), MASK)


def test_black_and_white_are_colours_where_only_greys_are_listed() -> None:
    black_and_white = np.array([[255, 255, 255], [0, 0, 0]], dtype=np.uint8)
    stretched = np.where(MASK > 1, np.uint8(255), np.uint8(0))
    for data in (saved(stretched), saved(MASK > 1), saved(np.stack([stretched] * 3, axis=2))):
        assert np.array_equal(read_mask(data, black_and_white), MASK <= 1)


def test_colours_of_no_class_are_named_with_their_pixels_the_most_frequent_first() -> None:
    pixels_HWC = COLOURS[MASK]
    pixels_HWC[0, :3] = (1, 2, 3)
    pixels_HWC[2, 2] = (9, 9, 9)
    assert refused(saved(pixels_HWC), COLOURS) == (
        "unknown-class",
        "it has colours of no class: (1, 2, 3) (3 pixels), (9, 9, 9) (1 pixel). List colours like these in "
        "classes.txt, or correct the mask.",
    )


def test_a_jpeg_is_read_where_every_pixel_has_a_listed_colour() -> None:
    white = np.full((16, 16, 3), 255, dtype=np.uint8)
    assert (read_mask(saved(white, "JPEG"), COLOURS) == 3).all()
    assert refused(saved(COLOURS[MASK], "JPEG"), COLOURS)[0] == "unknown-class"


# ---- what numbers mean ----


def test_scored_classes_are_numbered_anew_where_one_in_between_is_ignored() -> None:
    classes = MaskClasses(listed=("sky", "void", "road"), ignored=frozenset({1}))
    assert classes.names == ("sky", "road")
    scored = classes.scored(np.array([[0, 1, 2, 255]], dtype=np.uint8))
    assert scored.dtype == np.uint8
    assert scored.tolist() == [[0, IGNORED, 1, IGNORED]]
    assert np.flatnonzero(classes.known).tolist() == [0, 1, 2, 255]


def test_what_is_remembered_of_a_mask_expires_with_the_meaning_of_its_pixels() -> None:
    plain = numbered(4)
    others = (
        numbered(5),
        MaskClasses(listed=plain.listed, ignored=frozenset({3})),
        MaskClasses(listed=plain.listed, colours=COLOURS),
        MaskClasses(listed=plain.listed, colours=COLOURS[::-1]),
    )
    assert len({plain.digest, *(other.digest for other in others)}) == 5
    assert MaskClasses(listed=("a", "b", "c", "d")).digest == plain.digest  # a new name changes no mask


def png(width: int, height: int, *, depth: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG file of the given scan lines."""
    import struct
    import zlib

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
