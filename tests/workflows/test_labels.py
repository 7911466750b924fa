"""Labels held against networks that have not seen them."""

import csv

import numpy as np
import pytest

import trainwright as tw
from trainwright.errors import DataError, UsageError
from trainwright.workflows import judge
from trainwright.workflows.labels import check_labels


@pytest.fixture
def no_pictures(monkeypatch):
    monkeypatch.setattr(judge, "_draw", lambda *arguments: None)


@pytest.fixture(scope="module")
def planted():
    """(a dataset of four digits, some of them under a wrong label; the names of these)."""
    from sklearn.datasets import load_digits

    source = load_digits()
    chosen = np.flatnonzero(source.target < 4)[:400]
    rng = np.random.Generator(np.random.Philox(0))
    wrong = rng.random(len(chosen)) < 0.1
    given = np.where(wrong, (source.target[chosen] + 1) % 4, source.target[chosen])
    grey_NHW = np.rint(source.images[chosen] * (255 / 16)).astype(np.uint8).repeat(2, axis=1).repeat(2, axis=2)
    names = [f"{row:04d}" for row in chosen]
    parts = ["test" if place % 10 == 0 else "train" if place % 3 else "val" for place in range(len(chosen))]
    data = tw.Dataset.from_arrays(grey_NHW, [str(label) for label in given], names=names, parts=parts)
    return data, {name for name, is_wrong in zip(names, wrong, strict=True) if is_wrong}


@pytest.mark.slow
def test_wrong_labels_head_the_list_and_are_counted(planted, recipe, no_pictures, tmp_path):
    data, wrong = planted

    found = check_labels(data, recipe.changed({"epochs": 8}), folds=3, workers=1)
    found.write_csv(tmp_path / "doubtful.csv")

    asked = {name for name, part in zip(data.table.paths, data.table.parts, strict=True) if part != "test"}
    assert found.images == len(asked)
    first = [one.path for one in found.doubtful[:10]]
    assert len([path for path in first if path in wrong]) >= 8
    assert found.noise.out_of_fold
    assert found.noise.rate.low < 0.13
    assert found.noise.rate.high > 0.07
    rows = list(csv.DictReader((tmp_path / "doubtful.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [one.path for one in found.doubtful]
    assert rows[0]["seems"] == found.doubtful[0].seems


@pytest.mark.slow
def test_the_same_seed_gives_the_same_list_and_no_run_is_left(planted, recipe, no_pictures, tmp_path):
    data, _ = planted
    quick = recipe.changed({"epochs": 1})

    first, second = (check_labels(data, quick, folds=2, workers=1, runs=tmp_path / "runs") for _ in range(2))

    assert first.doubtful == second.doubtful
    assert not (tmp_path / "runs").exists()


def test_a_single_fold_is_refused(planted):
    with pytest.raises(UsageError, match="expected at least 2 folds, got 1"):
        check_labels(planted[0], folds=1)


def test_numbers_have_no_labels_to_doubt():
    images = np.random.Generator(np.random.Philox(0)).integers(0, 255, (30, 8, 8), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images, np.linspace(0.5, 9.7, 30))

    with pytest.raises(DataError, match="its task is regression: labels are examined where each image has one class"):
        check_labels(data)


def test_too_few_images_are_refused(planted):
    images = np.random.Generator(np.random.Philox(0)).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    data = tw.Dataset.from_arrays(images, ["a", "b"] * 20)

    with pytest.raises(DataError, match="40 images are too few to doubt their labels; 60 are needed"):
        check_labels(data)
