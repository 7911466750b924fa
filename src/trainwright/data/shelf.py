"""The folder that holds caches: one at a time builds an entry, complete ones appear by rename, idle ones make room.

    <shelf>/<name>/             a complete entry: meta.json (its time: last used) and the payload
    <shelf>/<name>.<random>.part/   being built, or a leftover of a builder that was killed
    <shelf>/<name>.lock         held while <name> is built; freed by the system when its holder dies

Where the file system knows no locks, several may build the same privately: the first rename wins, nothing is removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

META = "meta.json"
PAYLOAD = "pixels.u8"

if sys.platform == "win32":

    def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
        """Never had: this system has no flock."""
        return False

else:
    import fcntl

    def lock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
        """Lock an open file until it is closed. False where another process has it or the file system knows no locks."""
        flags = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(descriptor, flags)
        except OSError:
            return False
        return True


@contextmanager
def building(entry: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Be the only one who builds `entry`; `waiting` is called first where another one is at it."""
    with _lock_file(entry.name, entry.parent).open("ab") as file:
        if not lock(file.fileno()):
            waiting()
            lock(file.fileno(), wait=True)
        yield


@contextmanager
def part(entry: Path) -> Iterator[Path]:
    """A private folder to build `entry` in; whatever is left of it at the end is removed."""
    folder = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".part", dir=entry.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(built: Path, entry: Path) -> None:
    """Make the folder `built` appear as `entry`, on disk in full before it has its name. The first one wins."""
    for path in (*built.iterdir(), built):
        _to_disk(path)
    try:
        built.rename(entry)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    _to_disk(entry.parent)


def remove(entry: Path) -> None:
    """Take `entry` away at once; whoever has it mapped keeps what is mapped."""
    aside = Path(tempfile.mkdtemp(prefix=f"{entry.name}.", suffix=".part", dir=entry.parent))
    entry.rename(aside / entry.name)
    shutil.rmtree(aside, ignore_errors=True)


def sweep(shelf: Path) -> None:
    """Remove what killed builders left behind: parts of entries that nobody is building."""
    for leftover in shelf.glob("*.part"):
        with suppress(OSError), _lock_file(leftover.name.split(".")[0], shelf).open("ab") as file:
            if lock(file.fileno()):
                shutil.rmtree(leftover, ignore_errors=True)


def idle(shelf: Path) -> list[tuple[Path, int]]:
    """Entries that no process has open, with their payload's bytes; least recently used first."""
    entries = []
    for meta in shelf.glob(f"*/{META}"):
        if meta.parent.suffix == ".part":
            continue
        with suppress(OSError):  # removed meanwhile
            payload = meta.with_name(PAYLOAD)
            entries.append((meta.stat().st_mtime, meta.parent, payload.stat().st_size))
    return [(entry, size) for _, entry, size in sorted(entries) if not _in_use(entry)]


def total_bytes(shelf: Path) -> int:
    """Bytes of every payload on the shelf, those being built included."""
    sizes = []
    for payload in shelf.glob(f"*/{PAYLOAD}"):
        with suppress(OSError):
            sizes.append(payload.stat().st_size)
    return sum(sizes)


def free_bytes(shelf: Path, wanted: int) -> None:
    """Remove idle entries, least recently used first, until `wanted` bytes are gained or none is left."""
    for entry, size in idle(shelf):
        if wanted <= 0:
            return
        with suppress(OSError):  # another process was faster
            remove(entry)
            wanted -= size


def _in_use(entry: Path) -> bool:
    """Whether a process has the payload locked (see `cache._map`), or it cannot be known."""
    try:
        with (entry / PAYLOAD).open("rb") as file:
            return not lock(file.fileno())
    except OSError:
        return True


def _lock_file(name: str, shelf: Path) -> Path:
    return shelf / f"{name}.lock"


def _to_disk(path: Path) -> None:
    if path.is_dir() and os.name != "posix":
        return  # only POSIX lets a folder be opened
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
