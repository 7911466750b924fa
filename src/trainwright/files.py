"""Writing files so that a kill, a crash or a full disk leaves the old content or the new, never a part."""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path

from trainwright.errors import OutOfResourcesError


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file's content: written aside, synced to disk, renamed, and the folder synced.

    Raises OutOfResourcesError where the disk is full; the old content is then still there.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise explain_full_disk(error, path) from error
    finally:
        aside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a power cut, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows cannot open folders
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain_full_disk(error: OSError, path: Path) -> Exception:
    """An OutOfResourcesError for a full disk or quota; any other error as it is."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    return OutOfResourcesError(
        f"no space left on the disk while writing {path.name}.",
        where=str(path.parent),
        cure="Free some space, then resume.",
    )
