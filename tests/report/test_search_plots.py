"""A study with many recipes at a glance."""

import math

import pytest

from trainwright.report.search_plots import (
    best_of_m,
    expected_bests,
    importance_bars,
    isolation_plots,
    parallel_coordinates,
    searched,
    varied,
)
from trainwright.report.spaces import nuisance_of, spaces_table


def test_the_best_of_one_is_expected_to_be_the_mean():
    assert expected_bests([0.2, 0.4, 0.9], 1) == [pytest.approx(0.5)]


def test_the_best_of_two_draws_of_two_scores_misses_the_better_one_in_a_quarter_of_the_cases():
    assert expected_bests([0.0, 1.0], 2)[1] == pytest.approx(0.75)


def test_the_best_of_very_many_is_the_best():
    assert expected_bests([0.2, 0.4, 0.9], 1000)[-1] == pytest.approx(0.9)


@pytest.mark.timeout(20)  # a second; twice as many took four times as long before, these more than a minute
def test_a_study_of_thousands_of_trials_is_drawn_at_once(trial):
    trials = [trial(n, 0.5 + n / 10_000, lr=1e-4 * (n + 1)) for n in range(5000)]

    assert best_of_m(trials, "accuracy").data[0]["y"][-1] > 99
    assert varied(trials) == ["optimizer.lr"]


def test_controls_are_the_same_recipe_again_and_failed_runs_have_no_score(trial):
    trials = [
        trial(0, 0.5, role="baseline"),
        trial(1, 0.5, role="control"),
        trial(2, math.nan),
        trial(3, 0.6, role="arm"),
    ]

    assert [one.number for one in searched(trials)] == [0, 3]


def test_a_score_of_fewer_epochs_is_no_score_of_a_recipe(trial):
    trials = [trial(0, 0.5), trial(1, 0.9, state="paused"), trial(2, 0.9, state="stopped"), trial(3, 0.6)]

    assert [one.number for one in searched(trials)] == [0, 3]


def test_values_that_are_the_same_everywhere_are_not_shown(trial):
    trials = [trial(n, 0.5, lr=0.1 * (n + 1)) for n in range(4)]

    assert varied(trials) == ["optimizer.lr"]


def test_the_most_important_value_comes_first(trial):
    trials = [trial(n, 0.5, lr=0.1 * (n + 1), name=("sgd", "adam")[n % 2]) for n in range(4)]

    assert varied(trials, {"optimizer.name": 0.7, "optimizer.lr": 0.1}) == ["optimizer.name", "optimizer.lr"]
    assert varied(trials, {"optimizer.name": {"value": 0.1}, "optimizer.lr": {"value": 0.7}})[0] == "optimizer.lr"


def test_few_runs_are_told_by_their_table_alone(trial):
    trials = [trial(n, 0.5, lr=0.1 * (n + 1), name=("sgd", "adam")[n % 2]) for n in range(5)]

    assert parallel_coordinates(trials, "accuracy") is None
    assert best_of_m(trials, "accuracy") is None
    assert isolation_plots(trials, "accuracy") == []


def test_rates_that_lie_far_apart_are_placed_by_their_logarithm(trial):
    rates = [1e-4, 1e-3, 1e-2, 1e-4, 1e-3, 1e-2]
    trials = [trial(n, 0.5 + 0.01 * n, lr=lr, name=("sgd", "adam")[n % 2]) for n, lr in enumerate(rates)]

    figure = parallel_coordinates(trials, "accuracy")

    ticks = figure.layout["xaxis"]["ticktext"]
    best = next(trace for trace in figure.data if trace["name"] == "best 1")
    assert ticks == ["lr", "optimizer", "accuracy"]
    assert best["y"][:3] == [1.0, 0.0, 1.0]  # the largest rate, adam (sgd is 1), the best score
    others = next(trace for trace in figure.data if trace["name"] == "others")
    assert others["y"][0] == pytest.approx(0.5)  # 1e-3 lies halfway between 1e-4 and 1e-2


def test_a_value_that_is_sometimes_not_known_is_drawn_where_it_is(trial):
    trials = [trial(n, 0.5, lr=None if n == 0 else 0.1 * n) for n in range(7)]

    (figure,) = isolation_plots(trials, "accuracy")

    assert len(figure.data[0]["x"]) == 6
    assert figure.title == "optimizer.lr"


def test_the_best_run_at_each_value_is_joined(trial):
    trials = [
        trial(n, score, lr=lr)
        for n, (lr, score) in enumerate([(1, 0.2), (1, 0.8), (2, 0.6), (2, 0.1), (3, 0.3), (3, 0.4)])
    ]

    (figure,) = isolation_plots(trials, "mean IoU")

    assert (figure.data[1]["x"], figure.data[1]["y"]) == ([1, 2, 3], [0.8, 0.6, 0.4])


def test_of_a_range_the_best_of_each_part_is_joined_with_its_interval(trial):
    rates = [10 ** (-4 + step / 10) for step in range(31)]
    trials = [trial(n, 0.5 + 0.01 * (n % 5), lr=lr) for n, lr in enumerate(rates)]

    (figure,) = isolation_plots(trials, "mean IoU", noise=0.01)

    best = figure.data[1]
    assert best["name"] == "best in each part of the range"
    assert len(best["x"]) == 6
    assert set(best["x"]) <= set(rates)
    assert best["error_y"]["array"] == pytest.approx([0.0196] * 6)
    assert min(best["error_y"]["arrayminus"]) >= 0.0196


def test_what_nobody_asked_about_is_not_isolated(trial):
    trials = [trial(n, 0.5, lr=0.1 * (n + 1), name=("sgd", "adam")[n % 2]) for n in range(8)]

    drawn = isolation_plots(trials, "accuracy", nuisance={"optimizer.lr"})

    assert [figure.title for figure in drawn] == ["optimizer.name"]


def test_a_value_is_nuisance_where_it_is_so_in_all_of_its_entries():
    space = {
        "optimizer.lr": [{"low": 1, "high": 2, "role": "nuisance"}, {"low": 1, "high": 2}],
        "optimizer.momentum": {"low": 0, "high": 1, "role": "nuisance"},
        "augment.mixup": {"low": 0, "high": 1},
    }

    assert nuisance_of(space) == {"optimizer.momentum"}


def test_the_spaces_of_a_study_are_told_where_there_was_a_follow_up():
    first = {"space": {"optimizer.lr": {"low": 1e-5, "high": 1e-3}}, "within": None, "because": []}
    edge = {"key": "optimizer.lr", "end": "high", "low": 1e-5, "high": 1e-3}
    wide = {"optimizer.lr": {"low": 1e-5, "high": 1e-2}}
    spaces = [
        {**first, "trials": [0, 1], "best_score": 0.5},
        {"space": wide, "within": None, "because": [edge], "trials": [2], "best_score": 0.75},
    ]

    text = str(spaces_table(spaces, "mean IoU"))

    assert "the high end of optimizer.lr, 1e-05 to 0.001" in text
    assert "optimizer.lr 1e-05 to 0.01" in text
    assert spaces_table(spaces[:1], "mean IoU") is None


def test_importance_is_drawn_from_the_most_important_down():
    figure = importance_bars({"epochs": 0.1, "optimizer.lr": {"value": 0.6, "low": 0.5, "high": 0.7}, "seed": None})

    assert figure.data[0]["y"] == ["optimizer.lr", "epochs"]
    assert figure.data[0]["error_x"]["arrayminus"] == [pytest.approx(0.1), 0.0]


def test_without_importance_there_is_no_figure():
    assert importance_bars(None) is None
    assert importance_bars({}) is None
