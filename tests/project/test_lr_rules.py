"""Other libraries' rules for a learning rate, on curves whose answer follows from the rule, and what is true of a cell."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
LRS = np.geomspace(1e-7, 10, 100)
FALLING = np.linspace(2.0, 1.0, 100)
FASTAI = ("fastai valley", "fastai slide", "fastai steep", "fastai minimum")


@pytest.fixture
def rules(benchmark_module):
    return benchmark_module("lr_rules").RULES


@pytest.fixture
def truth_module(benchmark_module):
    return benchmark_module("lr_truth")


def fall(*steps: int, depths: tuple[float, ...] = (0.5,)) -> np.ndarray:
    """A loss of 2 that falls at once by the depths at the steps."""
    losses = np.full(100, 2.0)
    for step, depth in zip(steps, depths, strict=True):
        losses[step:] -= depth
    return losses


def ended(step: int, value: float) -> np.ndarray:
    """A falling loss that has another value from the step on."""
    return np.where(np.arange(100) < step, FALLING, value)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        pytest.param("fastai steep", 39, id="fastai: the last point before the fall, from which it falls"),
        pytest.param(
            "torch-lr-finder", 40, id="torch-lr-finder: the first point of the fall, between two falling steps"
        ),
        pytest.param("lightning", 40, id="lightning: as torch-lr-finder"),
    ],
)
def test_the_rules_of_slopes_find_the_one_step_where_the_loss_falls(rules, name, step):
    assert rules[name](LRS, fall(40)) == pytest.approx(LRS[step])


def test_only_lightning_takes_a_small_fall_at_a_small_rate_for_steeper_than_a_large_one_at_a_large_rate(rules):
    losses = fall(30, 60, depths=(0.2, 0.8))

    found = {name: rules[name](LRS, losses) for name in ("lightning", "torch-lr-finder")}

    assert found == {"lightning": pytest.approx(LRS[30]), "torch-lr-finder": pytest.approx(LRS[60])}


def test_minimum_is_a_tenth_of_the_lowest_point_which_of_a_falling_curve_is_the_last_one_kept(rules):
    assert rules["fastai minimum"](LRS, FALLING) == pytest.approx(LRS[94] / 10)  # the last five are left out


def test_valley_lies_half_way_along_a_curve_that_only_falls(rules):
    # Points 10 to 94 are kept, 85: a third is 28, half a third 14, counted from one before the first.
    assert rules["fastai valley"](LRS, FALLING) == pytest.approx(LRS[10 - 1 + 28 + 14])


def test_slide_stays_at_the_end_where_all_slopes_are_equal(rules):
    assert rules["fastai slide"](LRS, np.full(100, 2.0)) == pytest.approx(LRS[94 - 15])


def test_a_loss_that_is_no_number_ends_the_curve_for_fastai_and_is_the_answer_of_torch_lr_finder(rules):
    losses = ended(40, math.nan)

    found = {name: rules[name](LRS, losses) for name in ("fastai minimum", "torch-lr-finder")}

    assert found == {"fastai minimum": pytest.approx(LRS[39] / 10), "torch-lr-finder": pytest.approx(LRS[39])}


def test_a_sweep_ends_where_the_smoothed_loss_is_four_times_its_lowest(rules):
    losses = ended(50, 1000.0)  # one such loss lifts the average of fifty from 2 to 30

    assert rules["fastai minimum"](LRS, losses) == pytest.approx(LRS[50 - 5] / 10)


def test_no_rule_suggests_anything_when_a_sweep_diverges_within_ten_steps(rules):
    losses = ended(5, 1e6)

    assert {name: rule(LRS, losses) for name, rule in rules.items()} == dict.fromkeys(rules)


def test_the_rules_are_the_six_to_be_compared_with(rules):
    assert set(rules) == {"lightning", *FASTAI, "torch-lr-finder"}


def training(lr: float, seed: int, right: int, *, first: int = 0, diverged: bool = False) -> dict:
    """As the results folder keeps one: `right` of 100 images from number `first` on."""
    images = np.zeros(100)
    images[first : first + right] = 1
    return {"lr": lr, "seed": seed, "diverged": diverged, "score": right / 100, "per_image": images.tolist()}


def test_a_score_is_read_off_on_log_lr_and_at_the_grids_ends_beyond_them(truth_module):
    truth = truth_module.Truth(np.array([1e-3, 1e-1]), np.array([[0.4, 0.4], [0.8, 0.8]]), 0.01)

    assert [truth.score(lr) for lr in (1e-5, 1e-2, 1.0)] == pytest.approx([0.4, 0.6, 0.8])


def test_noise_comes_from_the_images_that_two_seeds_answer_differently_where_their_scores_agree(truth_module):
    trainings = [training(1e-2, 0, 90), training(1e-2, 1, 90, first=4)]  # four images each has right alone

    truth = truth_module.Truth.of(trainings, over_images=True)

    assert truth.noise == pytest.approx(math.sqrt(0.08 / 200))


@pytest.mark.parametrize("over_images", [True, False])
def test_noise_is_the_deviation_between_seeds_where_that_is_larger(truth_module, over_images):
    trainings = [training(1e-2, 0, 60), training(1e-2, 1, 80)]

    truth = truth_module.Truth.of(trainings, over_images=over_images)

    assert truth.noise == pytest.approx(0.2 / math.sqrt(2))


def test_a_diverged_training_has_the_worst_score_of_the_cell(truth_module):
    trainings = [training(lr, seed, 90 if lr < 1 else 20) for lr in (1e-2, 1.0) for seed in (0, 1)]
    trainings += [training(10.0, seed, 95, diverged=True) for seed in (0, 1)]

    truth = truth_module.Truth.of(trainings, over_images=True)

    assert (truth.score(10.0), truth.best) == (pytest.approx(0.2), pytest.approx(0.9))


def test_good_rates_are_those_within_two_noise_floors_of_the_best_and_no_rate_is_not_good(truth_module):
    scores = np.array([[0.5, 0.5], [0.9, 0.9], [0.7, 0.7]])
    truth = truth_module.Truth(np.array([1e-3, 1e-2, 1e-1]), scores, 0.1)

    assert [truth.good(lr) for lr in (2e-3, 6e-3, 1e-1, None)] == [False, True, True, False]
    assert truth.window() == pytest.approx((10**-2.5, 1e-1), rel=0.03)


@pytest.mark.parametrize(
    ("ours", "other", "cost", "expected"),
    [
        (9, 8, 0.09, True),
        pytest.param(8, 7, 0.09, False, id="too few hits"),
        pytest.param(9, 9, 0.09, False, id="no more than another rule"),
        pytest.param(9, 8, 0.1, False, id="too dear"),
    ],
)
def test_the_benchmark_passes_on_hits_on_being_the_best_and_on_cost(
    benchmark_module, rules, ours, other, cost, expected
):
    found = {name: {"hits": other, "share": other / 10} for name in rules} | {
        "ours": {"hits": ours, "share": ours / 10}
    }

    assert benchmark_module("lr_range").reached({"rules": found, "cost": cost}) is expected


@pytest.mark.slow
def test_the_benchmark_runs_from_truth_to_picture_and_measures_the_truth_once(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "lr_range.py"), "--dry", "--results", str(tmp_path), "--train"]
    command += ["--seeds", "1", "--picture", str(tmp_path / "cells.png")]

    first, second = (subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(2))

    results = [json.loads(done.stdout)["rules"] for done in (first, second)]
    assert results[0] == results[1]
    assert [done.stderr.count("measuring the truth") for done in (first, second)] == [1, 0]
    assert (tmp_path / "cells.png").stat().st_size > 1000
