"""More than sixty kinds of broken and odd image files in one folder: each bad one named, each good one decoded rightly.

The reference is the array that a file was made from, or for JPEG and lossy formats what Pillow's plain decode gives.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from trainwright.data.decode import decode
from trainwright.data.fingerprint import Fingerprint, fingerprint
from trainwright.data.layout import read_layout
from trainwright.data.table import SampleTable

RANDOM = np.random.default_rng(0)
HEIGHT, WIDTH = 40, 56
RGB = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
ALPHA = RANDOM.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
GREY16 = RANDOM.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
RGB16 = RANDOM.integers(0, 65536, (HEIGHT, WIDTH, 3), dtype=np.uint16)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[0:200:40j, 0:250:56j], 90.0), axis=2).astype(np.uint8)

UPRIGHT: dict[
    int, Callable[[np.ndarray], np.ndarray]
] = {  # EXIF 2.32 §4.6.4: from stored pixels to the upright picture
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels, 1),
}


# ---- how files are made ----


def saved(pixels: np.ndarray | Image.Image, file_format: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def plain(data: bytes) -> np.ndarray:
    """Pillow's plain decode."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def grey3(pixels: np.ndarray) -> np.ndarray:
    return np.repeat(pixels[:, :, None], 3, axis=2)


def over_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha[:, :, None] / 255.0
    return pixels * opacity + 255.0 * (1 - opacity)


def with_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(rows: bytes, *, depth: int, colour: int, extra: bytes = b"", interlaced: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colour, 0, 0, interlaced)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def scanlines(pixels: np.ndarray) -> bytes:
    """PNG rows of unsigned big-endian samples, each after filter type 0."""
    return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)


def packed(values: np.ndarray, depth: int) -> bytes:
    """PNG rows of `depth` bits a sample."""
    bits = np.unpackbits(values.astype(np.uint8)[:, :, None], axis=2)[:, :, -depth:].reshape(len(values), -1)
    return b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)


def interlaced_png(pixels: np.ndarray) -> bytes:
    """Adam7: PNG §8.1."""
    starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(scanlines(pixels[top::down, left::right]) for top, left, down, right in starts)
    return png(rows, depth=8, colour=2, interlaced=1)


def palette_image() -> Image.Image:
    return Image.fromarray(RGB).quantize(64)


def palette_pixels() -> np.ndarray:
    return np.asarray(palette_image().convert("RGB"))


def two_bit() -> np.ndarray:
    return GREY // 64


def holed(pixels: np.ndarray, holes: np.ndarray) -> np.ndarray:
    return np.where(holes[:, :, None], 255, pixels)


def same_as(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.asarray((pixels == colour).all(axis=-1) if pixels.ndim == 3 else pixels == colour)


def lab_image() -> Image.Image:
    """Colours well inside of sRGB: what is outside is clipped differently by every program."""
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    converted = ImageCms.profileToProfile(Image.fromarray(SMOOTH // 2 + 60), srgb, lab, outputMode="LAB")
    assert converted is not None
    return converted


def lab_pixels() -> np.ndarray:
    """CIE L*a*b* (D50) to sRGB by the formulas (CIE 15; Bradford-adapted matrix of IEC 61966-2-1)."""
    stored = np.stack([np.asarray(band) for band in lab_image().split()], axis=2).astype(np.float64)
    lightness, a, b = stored[..., 0] * 100 / 255, stored[..., 1] - 128, stored[..., 2] - 128
    fy = (lightness + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=2)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.96422, 1.0, 0.82521]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.array(matrix).T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def jpeg(**options: object) -> bytes:
    return saved(SMOOTH, "JPEG", **options)


def frames(file_format: str, **options: object) -> bytes:
    """An animation whose first frame is SMOOTH, the second one black."""
    return saved(SMOOTH, file_format, save_all=True, append_images=[Image.fromarray(SMOOTH * 0)], **options)


def patched(data: bytes, position: int, new: bytes) -> bytes:
    return data[:position] + new + data[position + len(new) :]


def jpeg_of_size(height: int, width: int) -> bytes:
    data = jpeg()
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def jpeg_of(pixels: np.ndarray, mode: str) -> bytes:
    return saved(Image.fromarray(pixels).convert(mode), "JPEG", quality=95)


Made = tuple[bytes, np.ndarray]


def decoded_plainly(data: bytes) -> Made:
    return data, plain(data)


def turned(file_format: str, orientation: int, **options: object) -> Made:
    data = saved(RGB, file_format, exif=with_exif(orientation), **options)
    return data, UPRIGHT[orientation](plain(data))


# ---- good files: name → (bytes, the pixels that they hold) ----

GOOD: dict[str, Callable[[], Made]] = {
    **{f"exif-{o}.jpg": lambda o=o: turned("JPEG", o) for o in UPRIGHT},  # type: ignore[misc]
    **{f"exif-{o}.png": lambda o=o: (turned("PNG", o)[0], UPRIGHT[o](RGB)) for o in UPRIGHT},  # type: ignore[misc]
    "exif-6.webp": lambda: (turned("WEBP", 6, lossless=True)[0], UPRIGHT[6](RGB)),
    "exif-6.tif": lambda: (saved(RGB, "TIFF", tiffinfo={0x0112: 6}), UPRIGHT[6](RGB)),
    "exif-8-lzw.tif": lambda: (saved(RGB, "TIFF", tiffinfo={0x0112: 8}, compression="tiff_lzw"), UPRIGHT[8](RGB)),
    "exif-9-unknown.jpg": lambda: decoded_plainly(jpeg(exif=with_exif(9))),
    "exif-damaged.jpg": lambda: (jpeg(exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01\x12\0\x03"), plain(jpeg())),
    "rgb.png": lambda: (saved(RGB, "PNG"), RGB),
    "bilevel.png": lambda: (saved(Image.fromarray(GREY > 127), "PNG"), grey3((GREY > 127) * np.uint8(255))),
    "grey.png": lambda: (saved(GREY, "PNG"), grey3(GREY)),
    "grey-2-bit.png": lambda: (png(packed(two_bit(), 2), depth=2, colour=0), grey3(two_bit() * 85)),
    "grey-2-bit-transparent.png": lambda: (
        png(packed(two_bit(), 2), depth=2, colour=0, extra=chunk(b"tRNS", b"\0\1")),
        holed(grey3(two_bit() * 85), two_bit() == 1),
    ),
    "grey-16.png": lambda: (saved(GREY16, "PNG"), grey3(GREY16 / 257)),
    "grey-16-transparent.png": lambda: (
        png(scanlines(GREY16), depth=16, colour=0, extra=chunk(b"tRNS", struct.pack(">H", GREY16[0, 0]))),
        holed(grey3(GREY16 / 257), same_as(GREY16, GREY16[0, 0])),
    ),
    "rgb-16.png": lambda: (png(scanlines(RGB16), depth=16, colour=2), RGB16 / 257),
    "rgb-16-transparent.png": lambda: (
        png(scanlines(RGB16), depth=16, colour=2, extra=chunk(b"tRNS", struct.pack(">3H", *RGB16[0, 0]))),
        holed(RGB16 / 257, same_as(RGB16, RGB16[0, 0])),
    ),
    "rgba-16.png": lambda: (
        png(scanlines(np.dstack([RGB16, GREY16])), depth=16, colour=6),
        over_white(RGB16 / 257, GREY16 / 257),
    ),
    "grey-alpha.png": lambda: (saved(np.dstack([GREY, ALPHA]), "PNG"), over_white(grey3(GREY), ALPHA)),
    "grey-alpha-16.png": lambda: (
        png(scanlines(np.dstack([GREY16, RGB16[:, :, 0]])), depth=16, colour=4),
        over_white(grey3(GREY16 / 257), RGB16[:, :, 0] / 257),
    ),
    "rgba.png": lambda: (saved(np.dstack([RGB, ALPHA]), "PNG"), over_white(RGB, ALPHA)),
    "rgb-transparent.png": lambda: (
        saved(RGB, "PNG", transparency=tuple(RGB[3, 4].tolist())),
        holed(RGB, same_as(RGB, RGB[3, 4])),
    ),
    "palette.png": lambda: (saved(palette_image(), "PNG"), palette_pixels()),
    "palette-transparent.png": lambda: (
        saved(palette_image(), "PNG", transparency=7),
        holed(palette_pixels(), np.asarray(palette_image()) == 7),
    ),
    "palette-alphas.png": lambda: (
        saved(palette_image(), "PNG", transparency=bytes(range(0, 256, 4))),
        over_white(palette_pixels(), np.asarray(palette_image()) * 4.0),
    ),
    "interlaced.png": lambda: (interlaced_png(RGB), RGB),
    "animated.png": lambda: (frames("PNG"), SMOOTH),
    "rgb.jpg": lambda: decoded_plainly(jpeg()),
    "RGB UPPER.JPG": lambda: decoded_plainly(jpeg(quality=95, subsampling=0)),
    "grey.jpg": lambda: decoded_plainly(saved(SMOOTH[:, :, 1].copy(), "JPEG")),
    "progressive.jpg": lambda: decoded_plainly(jpeg(progressive=True)),
    "cmyk-adobe-inverted.jpg": lambda: decoded_plainly(jpeg_of(SMOOTH, "CMYK")),
    "multi-picture.jpg": lambda: decoded_plainly(frames("MPO")),
    "trailing-bytes.jpg": lambda: decoded_plainly(jpeg() + b"SEFT and other things that telephones append"),
    "still.gif": lambda: (saved(palette_image(), "GIF"), palette_pixels()),
    "transparent.gif": lambda: (
        saved(palette_image(), "GIF", transparency=7),
        holed(palette_pixels(), np.asarray(palette_image()) == 7),
    ),
    "animated.gif": lambda: (
        saved(palette_image(), "GIF", save_all=True, append_images=[Image.new("P", (WIDTH, HEIGHT))]),
        palette_pixels(),
    ),
    "lossless.webp": lambda: (saved(RGB, "WEBP", lossless=True), RGB),
    "lossy.webp": lambda: decoded_plainly(saved(SMOOTH, "WEBP")),
    "alpha.webp": lambda: (
        saved(np.dstack([RGB, ALPHA]), "WEBP", lossless=True, exact=True),
        over_white(RGB, ALPHA),
    ),
    "animated.webp": lambda: (frames("WEBP", lossless=True), SMOOTH),
    "raw.tif": lambda: (saved(RGB, "TIFF"), RGB),
    "lzw.tif": lambda: (saved(RGB, "TIFF", compression="tiff_lzw"), RGB),
    "deflate.tif": lambda: (saved(RGB, "TIFF", compression="tiff_adobe_deflate"), RGB),
    "jpeg-inside.tif": lambda: decoded_plainly(saved(SMOOTH, "TIFF", compression="jpeg")),
    "fax.tif": lambda: (
        saved(Image.fromarray(GREY > 127), "TIFF", compression="group4"),
        grey3((GREY > 127) * np.uint8(255)),
    ),
    "grey-16.tif": lambda: (saved(GREY16, "TIFF"), grey3(GREY16 / 257)),
    "integers-32.tif": lambda: (saved(GREY16.astype(np.int32), "TIFF"), grey3(GREY16 / 257)),
    "float.tif": lambda: (saved((GREY16 / 65535).astype(np.float32), "TIFF"), grey3(GREY16 / 257)),
    "many-pages.tif": lambda: (frames("TIFF"), SMOOTH),
    "cmyk.tif": lambda: (saved(Image.fromarray(RGB).convert("CMYK"), "TIFF"), RGB),
    "ycbcr.tif": lambda: decoded_plainly(saved(Image.fromarray(SMOOTH).convert("YCbCr"), "TIFF")),
    "lab.tif": lambda: (saved(lab_image(), "TIFF"), lab_pixels()),
    "palette-alpha.tif": lambda: (saved(palette_image().convert("PA"), "TIFF"), palette_pixels()),
    "rgb.bmp": lambda: (saved(RGB, "BMP"), RGB),
    "palette.bmp": lambda: (saved(palette_image(), "BMP"), palette_pixels()),
    "icon.ico": lambda: (saved(RGB[:32, :32].copy(), "ICO", sizes=[(32, 32)]), RGB[:32, :32]),
    "rgb.ppm": lambda: (saved(RGB, "PPM"), RGB),
    "grey-16.pgm": lambda: (f"P5 {WIDTH} {HEIGHT} 65535\n".encode() + GREY16.astype(">u2").tobytes(), grey3(GREY16 / 257)),
    "rgb-16.ppm": lambda: (f"P6 {WIDTH} {HEIGHT} 65535\n".encode() + RGB16.astype(">u2").tobytes(), RGB16 / 257),
    "in-words.ppm": lambda: (f"P3 {WIDTH} {HEIGHT} 255\n{' '.join(map(str, RGB.ravel()))}\n".encode(), RGB),
    "lossless.jp2": lambda: (saved(RGB, "JPEG2000"), RGB),
    "one-pixel.png": lambda: (saved(RGB[:1, :1].copy(), "PNG"), RGB[:1, :1]),
    "strip.png": lambda: (saved(np.tile(RGB[:1], (1, 90, 1))[:, :5000], "PNG"), np.tile(RGB[:1], (1, 90, 1))[:, :5000]),
    "png-named.jpg": lambda: (saved(RGB, "PNG"), RGB),
    "jpeg-named.png": lambda: decoded_plainly(jpeg()),
    "hübsch 猫 (1).png": lambda: (saved(RGB, "PNG"), RGB),
}  # fmt: skip
if features.check("avif"):
    GOOD["still.avif"] = lambda: decoded_plainly(saved(SMOOTH, "AVIF"))
    GOOD["exif-6.avif"] = lambda: turned("AVIF", 6)

# ---- bad files: name → (verdict, bytes) ----


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def spoiled_png() -> bytes:
    """A whole PNG with right checksums whose compressed pixels are nonsense."""
    data = saved(RGB, "PNG")
    start = data.index(b"IDAT") + 4
    return data[: start - 8] + chunk(b"IDAT", b"\x78\x9c" + bytes(range(100))) + chunk(b"IEND", b"")


def flipped(data: bytes, position: int) -> bytes:
    return patched(data, position, bytes([data[position] ^ 0xFF]))


BAD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty.jpg": ("empty", lambda: b""),
    "text.jpg": ("not-an-image", lambda: b"cat, but only the word\n"),
    "web-page.png": ("not-an-image", lambda: b"<!DOCTYPE html><html><body>404</body></html>"),
    "git-lfs.jpg": ("not-an-image", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "zeros.png": ("not-an-image", lambda: bytes(5000)),
    "archive.jpg": ("not-an-image", lambda: b"PK\x03\x04" + bytes(range(200))),
    "drawing.png": ("not-an-image", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'),
    "random-bytes.jpg": ("not-an-image", lambda: b"\x07" + RANDOM.bytes(4000)),
    "postscript.png": ("not-an-image", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    "huge-header-only.png": (
        "oversized",
        lambda: b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)),
    ),
    "telephone.heic": ("unsupported-format", lambda: b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)),
    "cut-in-header.jpg": ("truncated", lambda: jpeg()[:10]),
    "cut-in-tables.jpg": ("truncated", lambda: jpeg()[:200]),
    "cut-in-half.jpg": ("truncated", lambda: half(saved(RGB, "JPEG"))),
    "cut-near-end.jpg": ("truncated", lambda: saved(RGB, "JPEG")[:-100]),
    "cut-progressive.jpg": ("truncated", lambda: half(saved(RGB, "JPEG", progressive=True))),
    "filled-with-zeros.jpg": ("truncated", lambda: half(saved(RGB, "JPEG")).ljust(len(saved(RGB, "JPEG")), b"\0")),
    "cut-in-header.png": ("truncated", lambda: saved(RGB, "PNG")[:20]),
    "cut-in-half.png": ("truncated", lambda: half(saved(RGB, "PNG"))),
    "cut.gif": ("truncated", lambda: half(saved(palette_image(), "GIF"))),
    "cut.webp": ("truncated", lambda: half(saved(RGB, "WEBP"))),
    "cut.tif": ("truncated", lambda: half(saved(RGB, "TIFF"))),
    "cut-lzw.tif": ("truncated", lambda: half(saved(RGB, "TIFF", compression="tiff_lzw"))),
    "cut.bmp": ("truncated", lambda: half(saved(RGB, "BMP"))),
    "cut.ppm": ("truncated", lambda: half(saved(RGB, "PPM"))),
    "cut.ico": ("truncated", lambda: half(saved(RGB, "ICO", sizes=[(32, 32)]))),
    "cut.jp2": ("truncated", lambda: half(saved(RGB, "JPEG2000"))),
    "wrong-checksum.png": ("corrupt", lambda: flipped(saved(RGB, "PNG"), -14)),
    "wrong-header-checksum.png": ("corrupt", lambda: flipped(saved(RGB, "PNG"), 30)),
    "flipped-bit.png": ("corrupt", lambda: flipped(saved(RGB, "PNG"), 3000)),
    "spoiled-pixels.png": ("corrupt", spoiled_png),
    "huge.png": (
        "oversized",
        lambda: patched(saved(RGB, "PNG"), 8, chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))),
    ),
    "huge.jpg": ("oversized", lambda: jpeg_of_size(60000, 60000)),
    "large.jpg": ("oversized", lambda: jpeg_of_size(10000, 10000)),  # where Pillow only warns
    "huge.gif": ("oversized", lambda: patched(saved(palette_image(), "GIF"), 6, b"\xff\xff\xff\xff")),
    "huge.bmp": ("oversized", lambda: patched(saved(RGB, "BMP"), 18, struct.pack("<II", 60000, 60000))),
    "float-to-255.tif": ("unsupported-pixels", lambda: saved(GREY.astype(np.float32), "TIFF")),
    "not-a-number.tif": ("unsupported-pixels", lambda: saved(np.full((9, 9), np.nan, np.float32), "TIFF")),
    "integers-too-large.tif": ("unsupported-pixels", lambda: saved(GREY16.astype(np.int32) * 1000, "TIFF")),
    "integers-negative.tif": ("unsupported-pixels", lambda: saved(GREY16.astype(np.int32) - 60000, "TIFF")),
}  # fmt: skip
if features.check("avif"):
    BAD["cut.avif"] = ("truncated", lambda: half(saved(SMOOTH, "AVIF")))

UNREADABLE: dict[str, Callable[[Path], object]] = {
    "folder.jpg": lambda path: path.mkdir(),
    "dangling.jpg": lambda path: path.symlink_to("nothing-there.jpg"),
    "looping.jpg": lambda path: path.symlink_to(path.name),
    "pipe.jpg": lambda path: os.mkfifo(path),
    "device.jpg": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> SampleTable:
    root = tmp_path_factory.mktemp("odd")
    odd, usual = root / "odd", root / "usual"
    odd.mkdir()
    usual.mkdir()
    for name, make in GOOD.items():
        (odd / name).write_bytes(make()[0])
    for name, (_, make_bad) in BAD.items():
        (odd / name).write_bytes(make_bad())
    for name, create in UNREADABLE.items():
        create(odd / name)
    with (odd / "oversized.jpg").open("wb") as file:
        file.truncate(600_000_000)  # sparse: it takes no room
    for seed in range(6):
        usual.joinpath(f"{seed}.png").write_bytes(saved(np.roll(RGB, seed + 1, axis=0), "PNG"))
    return read_layout(root)


@pytest.fixture(scope="module")
def seen(table: SampleTable, tmp_path_factory: pytest.TempPathFactory) -> Fingerprint:
    return fingerprint(table, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def verdicts(seen: Fingerprint) -> dict[str, list[str]]:
    """Kinds of problem by file name, twins apart: some of these files hold the same picture on purpose."""
    kinds: dict[str, list[str]] = {}
    for problem in seen.problems:
        for file in problem.files if "twins" not in problem.kind and "duplicate" not in problem.kind else ():
            kinds.setdefault(file.split("/")[1], []).append(problem.kind)
    return kinds


def test_there_are_more_than_sixty_kinds_of_file() -> None:
    assert len(GOOD) + len(BAD) + len(UNREADABLE) > 120


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_holds_its_reference_within_one_of_255(name: str, table: SampleTable) -> None:
    expected = GOOD[name]()[1]
    pixels = decode(table.root / "odd" / name)
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(np.float64) - expected).max() <= 1


def test_an_inverted_cmyk_jpeg_shows_the_colours_it_was_made_from() -> None:
    pixels = decode(jpeg_of(SMOOTH, "CMYK"))
    assert np.abs(pixels.astype(np.float64) - SMOOTH).max() <= 6  # lossy; inverted it would be off by up to 255


@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_is_used_with_its_upright_size(name: str, table: SampleTable, seen: Fingerprint) -> None:
    row = table.paths.index(f"odd/{name}")
    height, width = GOOD[name]()[1].shape[:2]
    assert seen.usable[row]
    assert (seen.heights[row], seen.widths[row]) == (height, width)


@pytest.mark.parametrize("fit", ["crop", "squash", "pad"])
@pytest.mark.parametrize("name", GOOD)
def test_a_good_file_becomes_a_square(name: str, fit: str, table: SampleTable) -> None:
    assert decode(table.root / "odd" / name, size=(12, 12), fit=fit).shape == (12, 12, 3)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_with_its_verdict(name: str, verdicts: dict[str, list[str]]) -> None:
    assert verdicts[name] == [BAD[name][0]]


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_is_no_file_is_named_as_unreadable(name: str, verdicts: dict[str, list[str]]) -> None:
    assert verdicts[name] == ["unreadable"]


def test_a_file_larger_than_the_limit_is_not_read(verdicts: dict[str, list[str]]) -> None:
    assert verdicts["oversized.jpg"] == ["oversized"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named_as_unreadable(tmp_path: Path) -> None:
    file = tmp_path / "secret.png"
    file.write_bytes(saved(RGB, "PNG"))
    file.chmod(0)
    with pytest.raises(Exception, match="no permission to read it"):
        decode(file)


def test_no_bad_file_is_used(table: SampleTable, seen: Fingerprint) -> None:
    used = {path.split("/")[1] for path, usable in zip(table.paths, seen.usable, strict=True) if usable}
    assert used == {*GOOD, *(f"{seed}.png" for seed in range(6))}


def test_odd_but_good_files_are_used_with_a_warning(verdicts: dict[str, list[str]]) -> None:
    warned = {name: kinds for name, kinds in verdicts.items() if name in GOOD}
    assert warned == {
        "png-named.jpg": ["wrong-extension"],
        "jpeg-named.png": ["wrong-extension"],
        "one-pixel.png": ["too-small"],
        "strip.png": ["too-small"],
    }


def test_files_left_out_are_errors_and_odd_ones_warnings(seen: Fingerprint) -> None:
    severities = {problem.kind: problem.severity for problem in seen.problems}
    assert severities["truncated"] == severities["empty"] == severities["oversized"] == "error"
    assert severities["wrong-extension"] == severities["too-small"] == "warning"


def test_every_message_gives_a_cure(seen: Fingerprint) -> None:
    without = [problem.message for problem in seen.problems if not problem.message.endswith((".", "!"))]
    assert without == []
