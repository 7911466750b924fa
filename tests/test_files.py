"""Writing a file leaves the old content or the new, whatever happens, and nothing beside it."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainwright.errors import OutOfResourcesError
from trainwright.files import explain_full_disk, sync_folder, write_atomically

WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from trainwright.files import write_atomically
real, calls = os.fsync, []
def die(handle):
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(real(handle))
os.fsync = die
write_atomically(Path(sys.argv[1]), b"new")
"""


@pytest.fixture
def file(tmp_path):
    """A file with old content, alone in its folder."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


def failing(code):
    """A stand-in for a system call that fails with that error number."""

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    return fail


def test_content_is_replaced(file):
    write_atomically(file, b"new")

    assert file.read_bytes() == b"new"
    assert list(file.parent.iterdir()) == [file]


def test_a_file_that_was_not_there_is_made(tmp_path):
    write_atomically(tmp_path / "fresh", b"")

    assert (tmp_path / "fresh").read_bytes() == b""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT], ids=["disk", "quota"])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_content_and_says_what_to_do(file, monkeypatch, call, code):
    monkeypatch.setattr({"fsync": os, "replace": Path}[call], call, failing(code))

    with pytest.raises(OutOfResourcesError) as caught:
        write_atomically(file, b"new")

    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]
    assert str(caught.value) == (
        f"{file.parent}: no space left on the disk while writing file. Free some space, then resume."
    )


@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, OSError), (errno.EACCES, PermissionError)])
def test_another_failure_is_passed_on_as_it_is(file, monkeypatch, code, kind):
    monkeypatch.setattr(os, "fsync", failing(code))

    with pytest.raises(kind) as caught:
        write_atomically(file, b"new")

    assert caught.value.errno == code
    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def test_an_interruption_leaves_nothing_behind(file, monkeypatch):
    def interrupt(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)

    with pytest.raises(KeyboardInterrupt):
        write_atomically(file, b"new")

    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("syncs", "expected"), [(0, b"old"), (1, b"new")], ids=["before the rename", "after the rename"]
)
def test_a_kill_leaves_the_old_content_or_the_new(file, syncs, expected):
    killed = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, str(file), str(syncs)], check=False)

    assert killed.returncode == -9
    assert file.read_bytes() == expected


def test_content_is_on_the_disk_before_its_name_is(file, monkeypatch):
    """The other way round a power cut could leave an empty file under the name."""
    order = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), fsync(handle)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), replace(self, target))[1])

    write_atomically(file, b"new")

    assert order == ["sync", "rename", "sync"]


def test_two_writers_do_not_share_what_they_write_aside(file, monkeypatch):
    aside = []
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (aside.append(self), replace(self, target))[1])

    write_atomically(file, b"one")
    write_atomically(file, b"two")

    assert len(set(aside)) == 2
    assert {path.parent for path in aside} == {file.parent}  # a rename across disks is a copy


def test_a_folder_that_cannot_be_opened_is_not_synced(tmp_path):
    sync_folder(tmp_path / "gone")

    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_of_space_is_the_same_object(tmp_path):
    error = OSError(errno.EIO, "Input/output error")

    assert explain_full_disk(error, tmp_path) is error
