"""What was found out about files, remembered between runs, so that an unchanged file is not read again.

One text file for each dataset root: a line with the SHA-256 of the rest, then JSON. It is only a memory: a damaged,
foreign or unwritable one costs time, never an answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import PIL

from trainwright.data.decode import DECODER_VERSION
from trainwright.errors import OutOfResourcesError
from trainwright.files import write_atomically

_SCHEMA = f"trainwright.fingerprints/2 decoder {DECODER_VERSION} Pillow {PIL.__version__}"
SETTLED_NS = 50_000_000  # a file changed so shortly ago may change again within one tick of the file system's clock

logger = logging.getLogger(__name__)
Stamp = tuple[int, int, int]  # size in bytes, time of last change of the content and of the entry in nanoseconds


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What one file holds. width, height: pixels, upright; 0 where it cannot be used, and then kind and message say why.

    orientation: how EXIF says that its pixels are to be turned, 1 to 8; width and height are those afterwards.
    """

    stamp: Stamp
    file_hash: str = ""
    pixel_hash: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    kind: str = ""
    message: str = ""
    orientation: int = 1


def stamp_of(path: Path) -> Stamp:
    """What changes when the file does. Raises OSError."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_settled(stamp: Stamp) -> bool:
    """Whether a file with this stamp, just taken, would get another stamp if it changed now."""
    now = time.time_ns()
    return all(abs(now - moment) > SETTLED_NS for moment in stamp[1:])  # a clock may have been set wrong


def recall(root: Path, cache_dir: Path | None = None) -> dict[str, Facts]:
    """What is remembered of the files below `root`, by relative path; nothing where nothing can be read."""
    try:
        checksum, body = _file(root, cache_dir).read_bytes().split(b"\n", 1)
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return {}
        content = json.loads(body)
        return {path: _facts(values) for path, values in content["files"].items()} if content["is"] == _SCHEMA else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def remember(root: Path, facts: Mapping[str, Facts], cache_dir: Path | None = None) -> None:
    """Add `facts` to what is remembered of `root`. Other processes may do so at once: each leaves a whole file."""
    file = _file(root, cache_dir)
    files = {path: _values(entry) for path, entry in {**recall(root, cache_dir), **facts}.items()}
    body = json.dumps({"is": _SCHEMA, "files": files}, separators=(",", ":")).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    except (OSError, OutOfResourcesError) as error:
        logger.warning("%s cannot be written (%s): images will be read again next time.", file, error)


def _file(root: Path, cache_dir: Path | None) -> Path:
    if cache_dir is None:
        from platformdirs import user_cache_path

        cache_dir = user_cache_path("trainwright") / "fingerprints"
    return cache_dir / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.json"


def _values(facts: Facts) -> list[object]:
    return list(astuple(facts))


def _facts(values: list[object]) -> Facts:
    stamp, file_hash, pixel_hash, width, height, kind_of_file, kind, message, orientation = values
    size, changed, entered = stamp  # type: ignore[misc]
    return Facts(
        stamp=(int(size), int(changed), int(entered)),  # type: ignore[has-type]
        file_hash=str(file_hash),
        pixel_hash=str(pixel_hash),
        width=int(width),  # type: ignore[call-overload]
        height=int(height),  # type: ignore[call-overload]
        format=str(kind_of_file),
        kind=str(kind),
        message=str(message),
        orientation=int(orientation),  # type: ignore[call-overload]
    )
