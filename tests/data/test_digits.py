"""The handwritten digits are written whole, once, true to their source, and never over something else."""

import multiprocessing
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from trainwright.data import digits
from trainwright.data.digits import write_digits
from trainwright.errors import DataError


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_digits(tmp_path_factory.mktemp("digits") / "deep" / "digits")


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_there_is_a_folder_for_each_digit_and_nothing_else(written):
    assert sorted(path.name for path in written.iterdir()) == list("0123456789")
    assert [path.name for path in written.parent.iterdir()] == ["digits"]


def test_each_image_is_its_source_enlarged_in_the_folder_of_its_label(written):
    source = load_digits()

    for row, (grey_HW, label) in enumerate(zip(source.images, source.target, strict=True)):
        image_HW = np.asarray(Image.open(written / str(label) / f"{row:04d}.png"))
        assert image_HW.shape == (32, 32)
        # 255/16 a level; rounded, it is off by half a grey at most
        assert np.abs(image_HW.reshape(8, 4, 8, 4) - grey_HW[:, None, :, None] * 255 / 16).max() <= 0.5


def test_all_images_are_there(written):
    assert len(list(written.rglob("*.png"))) == 1797


def test_a_complete_folder_is_left_as_it_is(written):
    before = stamps(written)

    assert write_digits(written) == written
    assert stamps(written) == before


def test_an_empty_folder_is_filled(tmp_path):
    assert len(list(write_digits(tmp_path).iterdir())) == 10


@pytest.mark.parametrize("harm", ["missing", "changed", "added", "cut"])
def test_a_folder_that_holds_something_else_is_refused_and_left(tmp_path, harm):
    folder = write_digits(tmp_path / "digits")
    victim = folder / "0" / "0000.png"
    harms = {
        "missing": victim.unlink,
        "changed": lambda: Image.new("L", (32, 32)).save(victim),
        "added": lambda: (folder / "notes.txt").write_text("mine"),
        "cut": lambda: victim.write_bytes(victim.read_bytes()[:60]),
    }
    harms[harm]()
    before = stamps(folder)

    with pytest.raises(DataError) as caught:
        write_digits(folder)

    assert str(caught.value) == (
        f"{folder}: holds something else than the 1,797 handwritten digits. Remove it, or name another folder."
    )
    assert stamps(folder) == before


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "digits").write_text("mine")

    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'digits'}: holds something else")):
        write_digits(tmp_path / "digits")


def test_a_failure_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(folder: Path) -> None:
        (folder / "0").mkdir(parents=True)
        raise OSError("no space left")

    monkeypatch.setattr(digits, "_write_classes", fail)

    with pytest.raises(OSError, match="no space left"):
        write_digits(tmp_path / "digits")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_processes_that_race_for_a_folder_all_get_it(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        folders = pool.map(write_digits, [tmp_path / "digits"] * 4)

    assert folders == [tmp_path / "digits"] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
