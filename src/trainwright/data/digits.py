"""The handwritten digits that come with scikit-learn, written as a folder of class folders: a dataset without a network."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from trainwright.errors import DataError

DIGITS = 1797
SIDE = 32  # pixels; the source has 8×8, a smudge on a screen. Each of its pixels becomes a block of 4×4.
# SHA-256 over the name and the pixels of each image in the order of names: what a complete folder holds
DIGITS_SHA256 = "f55707cb897448c794ec8d6d2f0c971735cf3f8641c1e5bab813fa9242df4b77"


def write_digits(folder: Path) -> Path:
    """Write 1,797 handwritten digits, 32×32 grey PNG, as `folder`/0/0000.png … `folder`/9/1796.png; returns `folder`.

    The folder appears whole or not at all, so processes may race for it. A folder that is complete already stays as it
    is (a fraction of a second, to check every pixel). Raises DataError where it holds anything else.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0;
    `sklearn.datasets.load_digits` has its test part. Values 0–16 become 0–255.
    """
    if _is_empty(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
            stage = Path(place) / folder.name
            _write_classes(stage)
            _move(stage, folder)
    if not _is_complete(folder):
        raise DataError(
            "holds something else than the 1,797 handwritten digits.",
            where=str(folder),
            cure="Remove it, or name another folder.",
        )
    return folder


def _is_empty(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def _move(stage: Path, folder: Path) -> None:
    """Rename, which replaces an empty folder; another process that was faster is left its own, to be checked."""
    try:
        stage.rename(folder)
    except OSError:
        if _is_empty(folder):
            raise


def _write_classes(folder: Path) -> None:
    from sklearn.datasets import load_digits  # two seconds of import, only for the first time

    digits = load_digits()
    grey_NHW = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for row, (grey_HW, label) in enumerate(zip(grey_NHW, digits.target, strict=True)):
        image = Image.fromarray(grey_HW.repeat(SIDE // 8, axis=0).repeat(SIDE // 8, axis=1))
        image.save(folder / str(label) / f"{row:04d}.png")


def _is_complete(folder: Path) -> bool:
    """By pixels, not files: another zlib compresses the same image to other bytes."""
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    if len(paths) != DIGITS:
        return False
    digest = hashlib.sha256()
    for path in paths:
        try:
            with Image.open(path) as image:
                if (image.mode, image.size) != ("L", (SIDE, SIDE)):
                    return False
                digest.update(path.relative_to(folder).as_posix().encode() + image.tobytes())
        except OSError:
            return False
    return digest.hexdigest() == DIGITS_SHA256
