"""The rounds that `benchmarks/aa.py` draws, and the rules it tries on them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def aa(benchmark_module):
    return benchmark_module("aa")


def test_a_round_takes_no_run_twice(aa):
    assert all(len(set(picked.tolist())) == len(picked) for picked in aa.draw_rounds(12, 30))


def test_pairs_of_arm_and_control_are_not_used_again_while_there_are_others(aa):
    pairs = [pair for picked in aa.draw_rounds(40, 60) for pair in aa._pairs(picked)]

    assert len(set(pairs)) == len(pairs) == 180


def test_a_pool_with_too_few_runs_for_a_round_is_refused(aa):
    with pytest.raises(SystemExit, match="a round takes 9 runs, the pool has 8"):
        aa.draw_rounds(8, 1)


def round_with(first, again):
    """Answers of a round: controls that are right half of the time, the first arm as often as said, once and again."""
    rng = np.random.default_rng(0)
    return (rng.random((9, 1000)) < np.array([0.5] * 3 + [first, 0.5, 0.5] + [again, 0.5, 0.5])[:, None]).astype(float)


@pytest.mark.parametrize("rule", ["mcnemar", "one-control", "two-controls", "confirmed", "settled"])
def test_every_rule_adopts_an_arm_that_is_far_better_twice(aa, rule):
    names, compared = aa.round_of(round_with(0.95, 0.95), aa.RULES[rule])

    assert (names, len(compared)) == (["0"], 3)


def test_only_the_confirming_rule_drops_an_arm_that_was_better_once(aa):
    right_RN = round_with(0.75, 0.5)

    found = [aa.round_of(right_RN, aa.RULES[rule])[0] for rule in ("two-controls", "confirmed")]

    assert found == [["0"], []]


@pytest.mark.parametrize(("first", "names"), [(0.8, ["0"]), (0.65, [])])
def test_what_is_sure_at_first_sight_is_adopted_whatever_comes_again_and_nothing_else_is(aa, first, names):
    """Fifteen points of 1,000 images, over so few trainings, are beyond chance, but not surely: once more they are none."""
    right_RN = round_with(first, 0.5)

    assert aa.round_of(right_RN, aa.RULES["two-controls"])[0] == ["0"]
    assert aa.round_of(right_RN, aa.RULES["settled"])[0] == names


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (((0.05, 0.05, 0.0), (0.0, 0.0, 0.05)), True),
        (((0.0, 0.0, 0.0), (0.06, 0.0, 0.0)), False),
        (((0.0, 0.06, 0.0),), False),
        (((0.0, 0.0, 0.06),), False),
    ],
)
def test_the_benchmark_passes_where_no_pool_adopts_more_than_five_percent(aa, shares, expected):
    judged = ("confirmed", "settled", "lean")
    rules = [dict(zip(judged, ({"share": share} for share in pool), strict=True)) for pool in shares]

    assert aa.reached([{"rules": pool} for pool in rules]) is expected


@pytest.mark.slow
def test_the_benchmark_runs_from_training_to_rounds_and_trains_a_pool_once(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "aa.py"), "--dry", "--results", str(tmp_path), "--rounds", "4"]

    first = subprocess.run(command, capture_output=True, text=True, check=True)
    again = subprocess.run([*command, "--kept"], capture_output=True, text=True, check=True)

    assert "digits: seed 8" in first.stderr
    assert "seed" not in again.stderr.replace("between seeds", "")
    assert json.loads(first.stdout) == json.loads(again.stdout)
