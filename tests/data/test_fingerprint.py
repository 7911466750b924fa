"""What one pass over the files finds, what its digest depends on, and what is remembered for the next pass."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainwright.data import fingerprint as fingerprint_module
from trainwright.data import memory
from trainwright.data.fingerprint import Fingerprint, fingerprint
from trainwright.data.layout import read_layout
from trainwright.data.problems import Problem

Write = Callable[..., Path]
Names = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def _any_age_is_old_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files just written are remembered too, so that tests need not wait."""
    monkeypatch.setattr(memory, "SETTLED_NS", -(10**12))


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., Fingerprint]:
    """A function that takes the fingerprint of a folder, remembering in a folder of this test."""

    def run(root: Path, **options: object) -> Fingerprint:
        return fingerprint(read_layout(root), cache_dir=tmp_path / "cache", **options)

    return run


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from now on."""
    names: list[str] = []
    read = fingerprint_module.read_bytes

    def counting(path: Path) -> bytes:
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(fingerprint_module, "read_bytes", counting)
    return names


def of_kind(seen: Fingerprint, kind: str) -> list[Problem]:
    return [problem for problem in seen.problems if problem.kind == kind]


# ---- what is found ----


def test_hashes_and_sizes_are_those_of_the_files(
    write_images: Write, names: Names, look: Callable[..., Fingerprint]
) -> None:
    root = write_images(*names(""))
    Image.new("RGB", (30, 20)).save(root / "cat" / "0.png")
    seen = look(root)
    assert seen.file_hashes[0] == hashlib.sha256((root / "cat" / "0.png").read_bytes()).hexdigest()
    assert (seen.widths[0], seen.heights[0]) == (30, 20)
    assert seen.widths.dtype == seen.heights.dtype == np.int32
    assert seen.usable.all()
    assert len(set(seen.pixel_hashes)) == 12
    assert seen.bytes == sum(file.stat().st_size for file in root.rglob("*.png"))


def test_a_healthy_dataset_has_no_problems(write_images: Write, names: Names, look: Callable[..., Fingerprint]) -> None:
    assert look(write_images(*names("train", "val", "test"))).problems == ()


def test_a_bad_file_leaves_its_row_empty(write_images: Write, names: Names, look: Callable[..., Fingerprint]) -> None:
    root = write_images(*names(""))
    (root / "cat" / "3.png").write_bytes(b"")
    seen = look(root)
    assert seen.usable.tolist() == [True, True, True, False] + [True] * 8
    assert (seen.pixel_hashes[3], seen.widths[3]) == ("", 0)
    assert [(p.kind, p.severity, p.files) for p in seen.problems] == [("empty", "error", ("cat/3.png",))]


def test_twins_across_parts_are_named(write_images: Write, names: Names, look: Callable[..., Fingerprint]) -> None:
    root = write_images(*names("train", "test"), twins={"test/cat/copy.png": "train/cat/2.png"})
    (problem,) = look(root).problems
    assert (problem.kind, problem.severity) == ("twins-across-parts", "warning")
    assert problem.files == ("test/cat/copy.png", "train/cat/2.png")
    assert "2 images with the very same pixels in train and test" in problem.message


def test_twins_are_found_in_files_of_different_formats(
    write_images: Write, names: Names, look: Callable[..., Fingerprint]
) -> None:
    root = write_images(*names(""))
    Image.open(root / "dog" / "1.png").save(root / "dog" / "copy.bmp")
    assert [problem.files for problem in of_kind(look(root), "duplicate-in-part")] == [("dog/1.png", "dog/copy.bmp")]


def test_twins_with_different_labels_are_named(
    write_images: Write, names: Names, look: Callable[..., Fingerprint]
) -> None:
    root = write_images(*names(""), twins={"dog/copy.png": "cat/2.png"})
    (problem,) = look(root).problems
    assert (problem.kind, problem.files) == ("twins-with-different-labels", ("cat/2.png", "dog/copy.png"))
    assert "different labels: cat, dog" in problem.message


def test_small_classes_are_named(write_images: Write, names: Names, look: Callable[..., Fingerprint]) -> None:
    seen = look(write_images(*names(""), "cow/1.png", "cow/2.png"))
    assert [problem.message for problem in seen.problems] == ["class 'cow' has only 2 usable images. Add images of it."]


def test_a_class_without_a_usable_image_in_a_part_is_an_error(
    write_images: Write, names: Names, look: Callable[..., Fingerprint]
) -> None:
    root = write_images(*names("train"), *names("val", images=1))
    (root / "val" / "dog" / "0.png").write_bytes(b"not an image")
    (problem,) = of_kind(look(root), "class-missing")
    assert problem.severity == "error"
    assert problem.message == "no usable image in val of dog. Add images of it."


def test_groups_in_several_parts_are_named(write_images: Write, names: Names, tmp_path: Path) -> None:
    files = names("train", "val")
    root = write_images(*files)
    rows = [f"{name},{name.split('/')[1]},{name.split('/')[0]},p{name[-5]}" for name in files]
    (root / "data.csv").write_text("\n".join(["path,label,split,patient", *rows]))
    seen = fingerprint(read_layout(root / "data.csv"), cache_dir=tmp_path / "cache")
    assert [problem.kind for problem in seen.problems] == ["groups-across-parts"]


def test_progress_ends_with_all(write_images: Write, names: Names, look: Callable[..., Fingerprint]) -> None:
    calls: list[tuple[str, int, int]] = []
    look(write_images(*names("", images=100)), progress=lambda *call: calls.append(call))
    assert calls[-1] == ("reading images", 200, 200)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert len(calls) > 1


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_finds_the_same(write_images: Write, names: Names, tmp_path: Path, workers: int) -> None:
    table = read_layout(write_images(*names("", images=40)))
    one = fingerprint(table, workers=1, cache_dir=tmp_path / "one")
    many = fingerprint(table, workers=workers, cache_dir=tmp_path / "many")
    assert (many.digest, many.file_hashes) == (one.digest, one.file_hashes)


# ---- what the digest depends on ----


def test_the_digest_is_the_same_wherever_the_dataset_lies(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    root = write_images(*names("train", "val"))
    moved = shutil.copytree(root, tmp_path / "elsewhere" / "copy")
    assert look(moved).digest == look(root).digest


def test_the_digest_is_that_of_pixels_not_of_files(
    write_images: Write, names: Names, look: Callable[..., Fingerprint]
) -> None:
    root = write_images(*names(""))
    before = look(root)
    Image.open(root / "cat" / "0.png").save(root / "cat" / "0.png", "PNG", compress_level=1)
    after = look(root)
    assert after.file_hashes != before.file_hashes
    assert after.digest == before.digest


@pytest.mark.parametrize(
    "change",
    [
        lambda root: Image.new("RGB", (16, 16)).save(root / "train/cat/0.png"),
        lambda root: (root / "train/cat/0.png").rename(root / "train/dog/9.png"),
        lambda root: (root / "train/cat/0.png").rename(root / "val/cat/9.png"),
        lambda root: (root / "train/cat/0.png").rename(root / "train/cat/00.png"),
        lambda root: (root / "train/cat/0.png").unlink(),
        lambda root: (root / "train/cat/bad.png").write_bytes(b""),
    ],
    ids=["pixels", "label", "part", "name", "fewer", "a bad file that moves the rows"],
)
def test_the_digest_changes_with_anything_that_training_can_see(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], change: Callable[[Path], object]
) -> None:
    root = write_images(*names("train", "val"))
    before = look(root).digest
    change(root)
    assert look(root).digest != before


# ---- what is remembered ----


def test_the_second_pass_reads_no_file(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], reads: list[str]
) -> None:
    root = write_images(*names(""), twins={"cat/copy.png": "cat/1.png"})
    (root / "cat" / "bad.png").write_bytes(b"no image")
    first = look(root)
    reads.clear()
    second = look(root)
    assert reads == []
    assert (second.digest, second.problems) == (first.digest, first.problems)
    assert (second.widths == first.widths).all()


def test_a_changed_file_alone_is_read_again(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], reads: list[str]
) -> None:
    root = write_images(*names(""))
    look(root)
    reads.clear()
    Image.new("RGB", (9, 9)).save(root / "dog" / "4.png")
    assert look(root).widths[10] == 9
    assert reads == ["4.png"]


def test_a_file_exchanged_for_one_of_equal_size_and_time_is_noticed(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], reads: list[str]
) -> None:
    root = write_images(*names(""))
    look(root)
    reads.clear()
    file = root / "dog" / "4.png"
    before = file.stat()
    file.write_bytes(file.read_bytes()[::-1])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not look(root).usable[10]
    assert reads == ["4.png"]


def test_a_file_written_a_moment_ago_is_not_remembered(
    write_images: Write,
    names: Names,
    look: Callable[..., Fingerprint],
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "SETTLED_NS", 10**12)
    root = write_images(*names(""))
    look(root)
    reads.clear()
    look(root)
    assert len(reads) == 12


def test_a_verdict_on_the_machine_is_not_remembered(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    root = write_images(*names(""))
    link = root / "cat" / "linked.png"
    link.symlink_to(tmp_path / "later.png")
    assert Counter(problem.kind for problem in look(root).problems) == {"unreadable": 1}
    Image.new("RGB", (9, 9)).save(tmp_path / "later.png")
    assert look(root).problems == ()


@pytest.mark.parametrize("damage", [b"", b"no checksum", b"0" * 64 + b"\n{}", b"\xff\xfe\n"])
def test_a_damaged_memory_costs_time_but_no_answer(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], tmp_path: Path, reads: list[str], damage: bytes
) -> None:
    root = write_images(*names(""))
    digest = look(root).digest
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(damage)
    reads.clear()
    assert look(root).digest == digest
    assert len(reads) == 12


def test_one_flipped_letter_in_the_memory_is_noticed(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], tmp_path: Path
) -> None:
    root = write_images(*names(""))
    seen = look(root)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(file.read_bytes().replace(seen.pixel_hashes[0].encode(), seen.pixel_hashes[1].encode()))
    assert look(root).pixel_hashes == seen.pixel_hashes


def test_a_memory_that_cannot_be_written_costs_time_but_no_answer(
    write_images: Write, names: Names, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    seen = fingerprint(read_layout(write_images(*names(""))), cache_dir=tmp_path / "taken")
    assert seen.usable.all()
    assert "images will be read again next time" in caplog.text


def test_an_interrupted_pass_goes_on_where_it_stopped(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], reads: list[str]
) -> None:
    root = write_images(*names("", images=150))

    def interrupt(what: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(root, workers=1, progress=interrupt)
    reads.clear()
    look(root)
    assert len(reads) <= 300 - 64


LOOK = """
import sys
from pathlib import Path
from trainwright.data.fingerprint import fingerprint
from trainwright.data.layout import read_layout
print(fingerprint(read_layout(Path(sys.argv[1])), workers=1, cache_dir=Path(sys.argv[2])).digest)
"""


def test_several_processes_at_once_find_the_same_and_leave_a_whole_memory(
    write_images: Write, names: Names, look: Callable[..., Fingerprint], tmp_path: Path, reads: list[str]
) -> None:
    root = write_images(*names("", images=30))
    command = [sys.executable, "-c", LOOK, str(root), str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    digests = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert digests == {look(root).digest}
    assert len(memory.recall(root, tmp_path / "cache")) == 60
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".json"]


def test_real_flowers_have_one_pair_of_twins(
    real_data: Callable[[str], Path], look: Callable[..., Fingerprint]
) -> None:
    seen = look(real_data("flowers12"))
    assert seen.usable.all()
    assert set(seen.widths.tolist()) == {224}
    assert Counter(problem.kind for problem in seen.problems) == {"duplicate-in-part": 1}
