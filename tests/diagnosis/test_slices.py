"""Which kinds of images a model is worse at: planted ones are found, chance is not, and groups count once."""

import numpy as np
import pytest

from trainwright.diagnosis.slices import LEAST_IMAGES, slices


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_class_that_fails_comes_first_with_its_figures(rng):
    names = np.array(["cat", "dog", "owl", "hen"] * 100)
    right = (rng.random(400) < np.where(names == "owl", 0.5, 0.9)).astype(float)

    first, *rest = slices(right, {"class": names})

    assert (first.attribute, first.value, first.images) == ("class", "owl", 100)
    assert first.fails
    assert first.score == right[names == "owl"].mean()
    assert first.difference.low < -0.4 < first.difference.high < 0
    assert not any(one.fails for one in rest)


def test_dark_images_that_fail_are_a_quarter_of_the_numbers(rng):
    brightness = rng.random(800)
    right = (rng.random(800) < np.where(brightness < 0.25, 0.6, 0.9)).astype(float)

    first, *_ = slices(right, {"brightness": brightness})

    assert first.fails
    assert first.value == f"below {np.quantile(brightness, 0.25):.3g}"
    assert first.images == 200


def test_of_many_slices_without_any_effect_few_fail_by_chance():
    failed = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        right = (rng.random(300) < 0.8).astype(float)
        attributes = {f"number {k}": rng.random(300) for k in range(5)}
        failed += any(one.fails for one in slices(right, attributes))

    assert failed <= 8  # 5 expected at most


def test_a_score_that_is_no_share_is_held_against_the_rest_too(rng):
    large = np.array(["large", "small"] * 100)
    overlap = rng.normal(np.where(large == "small", 0.4, 0.7), 0.1)

    first, _ = slices(overlap, {"size": large})

    assert (first.value, first.fails) == ("small", True)
    assert first.difference.value == pytest.approx(-0.3, abs=0.05)


def test_images_of_one_patient_count_once(rng):
    """Ten patients of twenty images each, of which the five in one hospital happen to be worse: too few to tell."""
    patient = np.repeat(np.arange(10), 20)
    hospital = np.where(patient < 5, "north", "south")
    right = np.repeat([0, 1, 0, 1, 1, 1, 1, 1, 1, 0], 20).astype(float)

    assert slices(right, {"hospital": hospital}, groups=patient) == []
    assert slices(right, {"hospital": hospital})[0].fails


def test_slices_of_too_few_images_are_left_out():
    right = np.ones(100)
    rare = np.array(["rare"] * (LEAST_IMAGES - 1) + ["usual"] * (101 - LEAST_IMAGES))

    assert slices(right, {"kind": rare}) == []


@pytest.mark.parametrize(
    "values", [np.array(["same"] * 100), np.array([f"image-{k}" for k in range(100)]), np.ones(100)]
)
def test_what_does_not_tell_images_apart_is_no_attribute(values):
    assert slices(np.ones(100), {"word": values}) == []


def test_images_without_a_score_or_a_value_are_left_out(rng):
    score = np.where(np.arange(200) % 2 == 0, 1.0, np.nan)
    size = np.where(np.arange(200) < 20, np.nan, rng.random(200))

    found = slices(score, {"size": size, "half": np.array(["a"] * 100 + ["b"] * 100)})

    assert sum(one.images for one in found if one.attribute == "half") == 100
    assert sum(one.images for one in found if one.attribute == "size") == 90
    assert not any(one.fails for one in found)


def test_scores_of_one_side_that_differ_in_their_last_bits_alone_are_one_score(rng):
    """As maps that are all right have an IoU of 1, but for rounding: the variance of such a side is nothing, and no warning."""
    right = 0.7 + 1e-16 * np.arange(60)
    spread = rng.uniform(0.2, 0.6, 60)

    right_ones, others = sorted(
        slices(np.r_[right, spread], {"kind": np.r_[["a"] * 60, ["b"] * 60]}), key=lambda one: one.value
    )
    first, second = slices(np.r_[right, right], {"kind": np.r_[["a"] * 60, ["b"] * 60]})

    assert others.fails
    assert not right_ones.fails
    assert first.p == second.p == 1.0
