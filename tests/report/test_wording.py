"""Figures as a page writes them."""

import math

import pytest

from trainwright.report import wording


@pytest.mark.parametrize(
    ("value", "metric", "said"),
    [(0.7126, "accuracy", "71.3 %"), (0.613, "mean IoU", "0.613"), (None, "accuracy", "–"), (math.nan, "R²", "–")],
)
def test_a_score_is_said_as_its_metric_is_read(value, metric, said):
    assert wording.score(value, metric) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(1.24, "1.2 s"), (9.99, "10.0 s"), (59.6, "1 min 0 s"), (534, "8 min 54 s"), (7260, "2 h 1 min"), (None, "–")],
)
def test_durations_are_in_units_that_suit_them(seconds, said):
    assert wording.duration(seconds) == said


def test_a_moment_is_in_universal_time():
    assert wording.moment(0.0) == "1 January 1970, 00:00 UTC"


def test_a_gap_is_in_points_with_its_interval():
    assert wording.points_within({"value": 0.2586, "low": 0.2308, "high": 0.2868}) == "25.9 points (23.1 to 28.7)"
    assert wording.points_within({"value": 0.05, "low": None, "high": None}) == "5.0 points"
    assert wording.points_within({"value": None, "low": None, "high": None}) == "–"


def test_a_short_command_is_one_line_and_a_long_one_has_a_line_for_each_option():
    assert wording.command("trainwright", "train", "my photos") == "trainwright train 'my photos'"
    long = wording.command("trainwright", "train", "x" * 80, "--recipe", "y", "--set=loss.tversky=[0.3, 0.7]")
    assert long == f"trainwright train {'x' * 80} \\\n  --recipe y \\\n  '--set=loss.tversky=[0.3, 0.7]'"


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "null"), (True, "true"), (0.001, "0.001"), ((0.9, 0.999), "[0.9, 0.999]"), ("adam", "adam")],
)
def test_recipe_values_are_written_as_the_command_line_takes_them(value, said):
    assert wording.recipe_value(value) == said


@pytest.mark.parametrize(("count", "said"), [(0, "0 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3e9, "3.0 GB")])
def test_sizes_are_in_powers_of_ten(count, said):
    assert wording.size(int(count)) == said


@pytest.mark.parametrize(
    ("count", "said"), [(7, "7"), (9999, "9999"), (12_345, "12k"), (999_500, "1.0M"), (1_234_567, "1.2M")]
)
def test_a_large_count_is_said_in_few_letters(count, said):
    assert wording.short_count(count) == said
