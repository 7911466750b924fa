"""Why a file cannot be used as an image: judged from its bytes, because decoders' own messages differ by format."""

from __future__ import annotations

import zlib

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ZEROS = bytes(64)  # a file that ends in so many zeros was reserved on disk and not written to its end

# What a file that is no image often is instead: its first bytes in lower case, what it is, and the cure.
_NO_IMAGES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the image itself.", "Run 'git lfs pull'."),
    (b"<!doctype html", "a web page, probably of a failed download.", "Download it again."),
    (b"<html", "a web page, probably of a failed download.", "Download it again."),
    (b"<svg", "an SVG drawing.", "Export it as PNG."),
    (b"<?xml", "an XML file.", "Remove it or export the picture as PNG."),
    (b"%pdf", "a PDF document.", "Export its pages as PNG."),
    (b"pk\x03\x04", "a ZIP archive.", "Unpack it."),
    (b"\x1f\x8b", "a gzip archive.", "Unpack it."),
    (b"{", "JSON text.", "Download it again or remove it."),
)
_UNSUPPORTED = {b"heic", b"heix", b"hevc", b"hevx", b"mif1", b"msf1", b"heim", b"heis"}


def format_of(data: bytes) -> str:
    """The image format that the first bytes announce, "" where they announce none."""
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf", b"PF") and data[2:3].isspace():
        return "PPM"
    if data[4:8] == b"ftyp":
        return "HEIC" if data[8:12] in _UNSUPPORTED else "AVIF" if data[8:11] == b"avi" else ""
    if data[:4] == b"RIFF":
        return "WEBP" if data[8:12] in (b"WEBP", b"") else ""
    signatures = {
        b"\xff\xd8": "JPEG",
        PNG_SIGNATURE[:4]: "PNG",
        b"GIF8": "GIF",
        b"BM": "BMP",
        b"II*\0": "TIFF",
        b"MM\0*": "TIFF",
        b"II+\0": "TIFF",
        b"\0\0\1\0": "ICO",
        b"\0\0\0\x0cjP": "JPEG2000",
        b"\xff\x4f\xff\x51": "JPEG2000",
    }
    return next((name for signature, name in signatures.items() if data.startswith(signature)), "")


def hidden_damage(data: bytes) -> tuple[str, str] | None:
    """(kind, message) of damage that Pillow decodes without complaint, None where there is none.

    These are a PNG whose checksums do not match, and a JPEG that ends in zeros instead of its end mark.
    """
    if data.startswith(PNG_SIGNATURE) and (chunk := _wrong_chunk(data)):
        return (
            "corrupt",
            f"the checksum of its {chunk} part is wrong: the file is damaged. Get it again from its source.",
        )
    if data.startswith(b"\xff\xd8") and data.endswith(ZEROS) and _ends_early(data, "JPEG"):
        return "truncated", "its end is filled with zeros: it was never written or copied to the end. Get it again."
    return None


def verdict(data: bytes, error: Exception) -> tuple[str, str]:
    """(kind, message) for bytes that Pillow could not decode."""
    announced = format_of(data)
    if announced == "HEIC":
        return "unsupported-format", "HEIC images cannot be decoded here. Convert it to JPEG or PNG."
    if not announced:
        return "not-an-image", _what_instead(data)
    if _ends_early(data, announced) or _says_truncated(error):
        return "truncated", f"the {announced} image ends early after {len(data):,} bytes. Get it again from its source."
    reason = " ".join(str(error).split())[:120]
    return "corrupt", f"the {announced} image is damaged ({reason}). Get it again from its source."


def _what_instead(data: bytes) -> str:
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for prefix, what, cure in _NO_IMAGES:
        if start.startswith(prefix):
            return f"not an image: {what} {cure}"
    if not data.strip(b"\0"):
        return "not an image: nothing but zeros, probably of an interrupted copy. Get it again from its source."
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in data[:512]):
        return "not an image: it holds text. Remove it or get it again from its source."
    return "not an image in any format known here. Convert it to JPEG or PNG, or remove it."


def _says_truncated(error: Exception) -> bool:
    text = str(error).lower()
    return isinstance(error, EOFError) or "truncated" in text or "not enough image data" in text


def _ends_early(data: bytes, announced: str) -> bool:
    """Whether the file's own structure reaches beyond its last byte."""
    if announced == "JPEG":  # no end-of-image mark after the last start of scan
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if announced == "PNG":
        return b"IEND" not in data
    if announced == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    if announced == "WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if announced == "BMP":
        return len(data) < 26 or int.from_bytes(data[2:6], "little") > len(data)
    if announced == "TIFF":
        order = "little" if data[:2] == b"II" else "big"
        return len(data) < 16 or int.from_bytes(data[4:8], order) >= len(data)  # type: ignore[arg-type]
    if announced == "ICO":
        return _icons_end(data) > len(data)
    if announced == "JPEG2000":
        return not data.endswith(b"\xff\xd9")
    return announced == "AVIF" and _boxes_end(data) > len(data)


def _icons_end(data: bytes) -> int:
    """The byte after the last image of an ICO file, by its directory."""
    count = int.from_bytes(data[4:6], "little")
    entries = [data[6 + 16 * index : 22 + 16 * index] for index in range(min(count, 64))]
    ends = [int.from_bytes(e[8:12], "little") + int.from_bytes(e[12:16], "little") for e in entries]
    return max([6 + 16 * len(entries), *ends])


def _boxes_end(data: bytes) -> int:
    """The byte after the last box of an ISO base media file (AVIF), by the boxes' stated sizes."""
    position = 0
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if size < 8:  # 0: to the end of the file; anything else is no size
            return len(data)
        position += size
    return position


def _wrong_chunk(data: bytes) -> str:
    """The name of the first critical PNG chunk whose CRC does not match its bytes, "" where all do."""
    position, view = len(PNG_SIGNATURE), memoryview(data)
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            return ""  # cut off: the decoder says so
        name = data[position + 4 : position + 8]
        critical = not name[0] & 0x20  # PNG §5.4: an upper-case first letter
        if critical and zlib.crc32(view[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return name.decode("ascii", "replace")
        if name == b"IEND":
            return ""
        position = end + 4
    return ""
