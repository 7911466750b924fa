"""What lies in folders: images, parts, and the litter that systems leave. Names only, no file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from trainwright.data.problems import printable
from trainwright.errors import DataError

PARTS = {  # names of part folders and of values in a CSV's part column
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
ENDINGS = {  # of file names, by what Pillow calls the format
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "MPO": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".j2c", ".jpc"),
    "ICO": (".ico",),
    "HEIF": (".heic", ".heif", ".hif"),  # not decoded, but named
}
IMAGE_SUFFIXES = frozenset(ending for endings in ENDINGS.values() for ending in endings)
LITTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "icon\r", "lost+found"})


def listed(folder: Path) -> tuple[list[str], list[str]]:
    """Names of (folders, everything else) in a folder, sorted, without hidden ones and litter. Raises DataError."""
    folders: list[str] = []
    files: list[str] = []
    for entry in _scan(folder):
        (folders if _is_folder(entry) else files).append(entry.name)
    return sorted(folders), sorted(files)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") and e.name.lower() not in LITTER]
    except OSError as error:
        raise _cannot_be_listed(folder, error) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def files_below(folder: Path, *, root: Path) -> Iterator[str]:
    """Everything below `folder` that is no folder, relative to it. Links may loop: each real folder is entered once, and
    the dataset's `root` never.

    An empty folder with the name of an image is given as well, so that someone is told of it.
    """
    waiting, entered = [("", folder)], {_identity(root)}
    while waiting:
        prefix, here = waiting.pop()
        if (identity := _identity(here)) in entered:
            continue
        entered.add(identity)
        for entry in _scan(here):
            if not _is_folder(entry) or (is_image(entry.name) and not _scan(Path(entry.path))):
                yield prefix + entry.name
            else:
                waiting.append((f"{prefix}{entry.name}/", Path(entry.path)))


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise _cannot_be_listed(folder, error) from None
    return status.st_dev, status.st_ino


def _cannot_be_listed(folder: Path, error: OSError) -> DataError:
    where = printable(str(folder))
    return DataError(f"cannot be listed ({error.strerror}).", where=where, cure="Check its permissions.")


def holds_images(folder: Path, *, root: Path) -> bool:
    return any(is_image(path) for path in files_below(folder, root=root))


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 (ten times faster than Path here)
