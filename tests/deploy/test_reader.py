"""The reader that goes along with an exported model: the same pixels as in training, from numpy and Pillow alone."""

import ast
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainwright.data.decode import FORMATS, MAX_PIXELS, PAD_COLOUR, decode
from trainwright.deploy import reader
from trainwright.deploy.predict import Fitting


def as_trained(path, stored, size, fit):
    return Fitting(stored=stored, size=size, fit=fit).shown(decode(path, size=stored, fit=fit)[None])[0]


def spec(stored, size, fit):
    return {"stored": list(stored), "size": list(size), "fit": fit}


def noise(height, width, channels=3, *, seed=0):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def png(depth, colour_type, rows, *chunks):
    """A PNG file of 90 x 70 pixels from its rows of bytes; Pillow writes no such ones. chunks: (name, content)."""
    header = struct.pack(">IIBBBBB", 90, 70, depth, colour_type, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", data), (b"IEND", b"")]
    made = (
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def rows_of(count):
    """70 rows of that many bytes."""
    return [bytes(row) for row in noise(70, count, 1, seed=1)]


DEEP = [row[:6] * 90 for row in rows_of(6)[:35]] + rows_of(540)[:35]  # RGB of 16 bits: rows of one colour, then noise
PNGS = {  # 4 and 16 bits, a colour of them transparent, or with alpha; EXIF data that is none
    "four.png": png(4, 0, rows_of(45), (b"tRNS", b"\0\x05")),
    "deep-grey.png": png(16, 0, [row[:2] * 90 for row in DEEP], (b"tRNS", DEEP[0][:2])),
    "deep-colours.png": png(16, 2, DEEP, (b"tRNS", DEEP[0][:6])),
    "deep-alpha.png": png(16, 6, rows_of(720)),
    "deep-grey-alpha.png": png(16, 4, rows_of(360)),
    "damaged-exif.png": png(8, 2, rows_of(270), (b"eXIf", b"II*\0\xff\xff\xff\xff")),
    "no-exif.png": png(8, 2, rows_of(270), (b"eXIf", b"neither of both")),
}


def saved(folder, kind):
    """An image file of a kind, 90 x 70 pixels."""
    path = folder / kind.split()[0]
    image = Image.fromarray(noise(70, 90))
    if kind == "turned.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    elif kind == "sixteen.png":
        Image.fromarray(np.arange(6300, dtype=np.uint16).reshape(70, 90) * 10).save(path)
    elif kind == "floats.tiff":
        Image.fromarray(noise(70, 90, 1).astype(np.float32) / 255).save(path)
    elif kind == "alpha.png":
        Image.fromarray(noise(70, 90, 4)).save(path)
    elif kind in PNGS:
        path.write_bytes(PNGS[kind])
    elif kind == "lab.tiff":
        Image.frombytes("LAB", (90, 70), noise(70, 90).tobytes()).save(path)
    elif kind == "palette.gif":
        image.quantize(16).save(path)
    elif kind == "cmyk.jpg":
        image.convert("CMYK").save(path)
    elif kind == "grey.png":
        image.convert("L").save(path)
    else:
        image.save(path)
    return path


KINDS = [
    "plain.png",
    "plain.jpg",
    "plain.webp",
    "plain.bmp",
    "turned.jpg",
    "sixteen.png",
    "floats.tiff",
    "alpha.png",
    "palette.gif",
    "cmyk.jpg",
    "grey.png",
    "lab.tiff",
    *PNGS,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
def test_every_kind_of_file_has_the_pixels_of_the_training(tmp_path, kind, fit):
    path = saved(tmp_path, kind)

    pixels_HWC = reader.read_image(path, spec((40, 32), (32, 32), fit))

    np.testing.assert_array_equal(pixels_HWC, as_trained(path, (40, 32), (32, 32), fit))


SIDES = st.integers(1, 70)


@settings(max_examples=60)
@given(
    SIDES, SIDES, st.integers(8, 40), st.integers(8, 40), st.integers(0, 6), st.sampled_from(["crop", "squash", "pad"])
)
def test_every_shape_has_the_pixels_of_the_training(tmp_path_factory, height, width, high, wide, margin, fit):
    path = tmp_path_factory.mktemp("shape") / "image.png"
    Image.fromarray(noise(height, width, seed=height * width)).save(path)
    stored, size = (high, wide), (high - margin, wide - margin)

    np.testing.assert_array_equal(reader.read_image(path, spec(stored, size, fit)), as_trained(path, stored, size, fit))


def test_a_large_jpeg_is_decoded_at_a_part_of_its_size_as_in_training(tmp_path):
    path = tmp_path / "large.jpg"
    Image.fromarray(noise(600, 800)).resize((1600, 1200)).save(path)

    pixels_HWC = reader.read_image(path, spec((64, 64), (64, 64), "crop"))

    np.testing.assert_array_equal(pixels_HWC, as_trained(path, (64, 64), (64, 64), "crop"))


def test_several_images_are_one_array(tmp_path):
    paths = [saved(tmp_path, kind) for kind in ("plain.png", "grey.png")]

    images_NHWC = reader.read_images(paths, spec((16, 16), (16, 16), "crop"))

    assert (images_NHWC.shape, images_NHWC.dtype) == ((2, 16, 16, 3), np.uint8)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_true_8_bit_form_are_refused(tmp_path, mode):
    path = tmp_path / "image.tiff"
    Image.fromarray(np.full((8, 8), -1, dtype=np.int32 if mode == "I" else np.float32)).save(path)

    with pytest.raises(ValueError, match="pixels range from -1 to -1: convert the image to 8 bits"):
        reader.read_image(path, spec((8, 8), (8, 8), "crop"))


@pytest.mark.parametrize("kind", ["deep-grey.png", "deep-colours.png"])
def test_what_is_transparent_is_white(tmp_path, kind):
    pixels_HWC = reader.read_image(saved(tmp_path, kind), spec((70, 90), (70, 90), "crop"))

    assert (pixels_HWC[0] == 255).all()
    assert not (pixels_HWC[69] == 255).all()


def test_formats_that_start_other_programs_are_not_even_looked_at(tmp_path):
    (tmp_path / "page.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")

    with pytest.raises(OSError, match="cannot identify image file"):
        reader.read_image(tmp_path / "page.eps", spec((8, 8), (8, 8), "crop"))


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    path = saved(tmp_path, "plain.png")
    monkeypatch.setattr(reader, "MAX_PIXELS", 6299)

    with pytest.raises(ValueError, match="90 x 70 pixels; at most 6,299 are decoded: shrink it"):
        reader.read_image(path, spec((8, 8), (8, 8), "crop"))


def test_its_formats_and_limits_are_those_of_the_training():
    assert (reader.FORMATS, reader.MAX_PIXELS, reader.PAD_COLOUR) == (FORMATS, MAX_PIXELS, PAD_COLOUR)


def test_it_needs_numpy_and_pillow_alone():
    tree = ast.parse(Path(reader.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    others = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)

    assert others == {"numpy", "PIL"}
