"""A part of the train images: of every class alike, smaller ones within larger ones, nothing else moved."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from trainwright.data.dataset import Dataset
from trainwright.data.split import Split
from trainwright.recipe import DataSpec


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """120 images of class a, 60 of b; each tenth image of a is the twin of the one before it."""
    images_NHWC = np.random.Generator(np.random.Philox(0)).integers(0, 256, (180, 8, 8, 3), dtype=np.uint8)
    images_NHWC[9:120:10] = images_NHWC[8:120:10]
    return Dataset.from_arrays(images_NHWC, ["a"] * 120 + ["b"] * 60)


def part(dataset: Dataset, fraction: float, *, seed: int = 0) -> Split:
    return dataset.split(DataSpec(train_fraction=fraction, train_seed=seed))


def test_every_class_keeps_its_share(dataset) -> None:
    strata = dataset.targets.strata()
    whole = Counter(strata[row] for row in part(dataset, 1.0).train)

    half = Counter(strata[row] for row in part(dataset, 0.5).train)

    assert {name: half[name] / whole[name] for name in whole} == pytest.approx({"a": 0.5, "b": 0.5}, abs=0.03)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_smaller_part_lies_within_a_larger_one(dataset, seed) -> None:
    parts = [set(part(dataset, fraction, seed=seed).train.tolist()) for fraction in (0.125, 0.25, 0.5, 1.0)]

    assert all(smaller < larger for smaller, larger in itertools.pairwise(parts))


def test_another_seed_leaves_other_images(dataset) -> None:
    first, second = (set(part(dataset, 0.5, seed=seed).train.tolist()) for seed in (0, 1))

    assert len(first & second) < 0.75 * len(first)


def test_val_and_test_stay_as_they_are(dataset) -> None:
    whole, few = part(dataset, 1.0), part(dataset, 0.125)

    assert whole.val.tolist() == few.val.tolist()
    assert whole.test.tolist() == few.test.tolist()
    assert whole.digest != few.digest


def test_twins_stay_together(dataset) -> None:
    hashes = dataset.fingerprint.pixel_hashes
    whole = Counter(hashes[row] for row in part(dataset, 1.0).train)

    half = Counter(hashes[row] for row in part(dataset, 0.5).train)

    assert all(count == whole[content] for content, count in half.items())


def test_the_smallest_part_has_every_class(dataset) -> None:
    strata = dataset.targets.strata()

    assert {strata[row] for row in part(dataset, 0.001).train} == {"a", "b"}
