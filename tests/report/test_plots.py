"""Figures of pages: plotly takes them as they are, and they show what they are given."""

import copy
import math
import warnings

import numpy as np
import pytest

from trainwright.records import ConfusionChart, Interval
from trainwright.report import answer_plots, plots, search_plots, study_plots
from trainwright.report.page import COLOURS
from trainwright.report.reliability import Bin, reliability_bins


def in_colour(value):
    """The figure with the colours that the page's script puts in."""
    if isinstance(value, str):
        return COLOURS[value[1:]][0] if value.startswith("@") else value
    if isinstance(value, list):
        return [in_colour(item) for item in value]
    return {key: in_colour(item) for key, item in value.items()} if isinstance(value, dict) else value


def figures_of(run_values, study_values):
    run, study = run_values(), study_values(12)
    result = run.result
    for task in ("classification", "regression", "segmentation", "detection"):
        values = run_values(task)
        yield from answer_plots.chart_figures(values.charts, values.result["intervals"]["per_class"])
    yield from plots.epoch_curves(run.epochs, 2, metric="accuracy")
    yield from plots.step_curves(run.losses, run.lrs)
    yield plots.gap_parts(result["train_errors"], result["gap"], "accuracy")
    yield plots.lr_range(run.lr_range, run.lr_sweeps)
    yield plots.reliability(run.reliability)
    yield study_plots.arms_forest(study.result["rounds"], 0.01)
    yield study_plots.best_so_far(study.trials, "accuracy")
    yield study_plots.unchanged_scores([0.7, 0.71], 0.75, "accuracy")
    yield search_plots.parallel_coordinates(study.trials, "accuracy")
    yield search_plots.best_of_m(study.trials, "accuracy")
    yield search_plots.importance_bars({"optimizer.lr": 0.6, "epochs": {"value": 0.2, "low": 0.1, "high": 0.3}})
    yield from search_plots.isolation_plots(study.trials, "accuracy")


def test_plotly_knows_every_word_of_every_figure(run_values, study_values):
    graph = pytest.importorskip("plotly.graph_objects")
    made = list(figures_of(run_values, study_values))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in made:
            graph.Figure(in_colour({"data": copy.deepcopy(list(figure.data)), "layout": figure.layout}))

    assert len(made) == 21
    assert all(figure.alt.endswith(".") for figure in made)


def test_many_steps_are_shown_as_means_of_some():
    losses = [float(step % 2) for step in range(2 * plots.MOST_POINTS)]

    loss, _ = plots.step_curves(losses, [0.1] * len(losses))

    assert len(loss.data[0]["y"]) == plots.MOST_POINTS
    assert set(loss.data[0]["y"]) == {0.5}
    assert loss.data[0]["name"] == "means of 2 steps"


def test_a_loss_that_is_not_a_number_is_a_hole():
    loss, _ = plots.step_curves([1.0, None, 3.0], [0.1] * 3)

    assert loss.data[0]["y"] == [1.0, None, 3.0]


def test_the_smoothed_loss_of_a_constant_is_that_constant():
    loss, _ = plots.step_curves([2.0] * 200, [0.1] * 200)

    assert set(loss.data[1]["y"]) == {2.0}


def test_a_curve_without_any_figure_is_left_out(run_values):
    epochs = [copy.deepcopy(dict(epoch)) for epoch in run_values().epochs]
    for epoch in epochs:
        epoch["val"] = {"loss": None, "score": None}

    loss, score = plots.epoch_curves(epochs, None, metric="accuracy")

    assert [trace["name"] for trace in loss.data] == ["train, as it ran", "train"]
    assert "unseen" not in score.alt


def test_one_hopeless_epoch_does_not_hide_the_others(run_values):
    epochs = [copy.deepcopy(dict(epoch)) for epoch in run_values().epochs]
    epochs[0]["val"]["score"] = -50.0

    _, score = plots.epoch_curves(epochs, None, metric="R²")

    assert score.layout["yaxis"]["range"][0] == plots.LOWEST_SCORE


def test_the_gap_begins_at_the_clean_train_error():
    errors = {"running": 0.3, "train_mode": 0.2, "augmented": 0.15, "clean": 0.1, "val": 0.4}

    figure = plots.gap_parts(errors, {"value": 0.3, "low": 0.2, "high": 0.5}, "accuracy")

    bars, gap = figure.data
    assert bars["x"] == [30, 20, 15, 10, 40]
    assert (gap["x"], gap["y"]) == ([40.0], ["unseen, clean  40.0 %"])
    assert (gap["error_x"]["array"], gap["error_x"]["arrayminus"]) == ([20.0], [10.0])


def test_errors_that_were_not_measured_have_no_bar():
    errors = {"running": None, "train_mode": 0.2, "augmented": None, "clean": 0.1, "val": 0.4}

    figure = plots.gap_parts(errors, {"value": 0.3, "low": 0.2, "high": 0.5}, "accuracy")

    assert figure.data[0]["x"] == [20, 10, 40]


def test_without_a_gap_there_is_no_figure_of_it():
    errors = {"running": 0.3, "train_mode": 0.2, "augmented": 0.15, "clean": 0.1, "val": None}

    assert plots.gap_parts(errors, {"value": None, "low": None, "high": None}, "accuracy") is None


def test_a_range_test_that_saw_nothing_has_no_figure():
    assert plots.lr_range({"lrs": [0.1], "smooth": [None], "reason": "nothing learns"}) is None


def test_a_confusion_matrix_of_many_classes_shows_those_mistaken_most():
    matrix = np.diag(np.full(100, 9))
    matrix[70, 20] = 5
    chart = ConfusionChart(name="confusion", matrix=matrix, classes=tuple(f"class {k}" for k in range(100)))

    (figure,) = answer_plots.chart_figures([chart], {})

    assert len(figure.data[0]["x"]) == answer_plots.MOST_CLASSES
    assert {"class 20", "class 70"} <= set(figure.data[0]["x"])
    assert "class 70 taken for class 20: 5" in figure.alt
    assert f"The {answer_plots.MOST_CLASSES} of 100 classes" in figure.caption


def test_a_class_without_images_is_a_row_without_a_shade():
    chart = ConfusionChart(name="confusion", matrix=np.array([[4, 0], [0, 0]]), classes=("a", "b"))

    (figure,) = answer_plots.chart_figures([chart], {})

    assert figure.data[0]["z"] == [[1.0, 0.0], [0.0, 0.0]]


def test_long_names_that_are_alike_once_cut_stay_apart():
    names = ("a" * 40 + "1", "a" * 40 + "2")
    chart = ConfusionChart(name="confusion", matrix=np.eye(2, dtype=int), classes=names)

    (figure,) = answer_plots.chart_figures([chart], {})

    assert len(set(figure.data[0]["x"])) == 2


def test_bins_hold_equally_many_images_from_the_least_sure_up():
    sure = np.linspace(0.5, 1.0, 60)
    probabilities = np.stack([sure, 1 - sure], axis=1)

    bins = reliability_bins(probabilities, np.zeros(60, dtype=int))

    assert [one.images for one in bins] == [20, 20, 20]
    assert [one.right.value for one in bins] == [1.0, 1.0, 1.0]
    assert bins[0].sure == pytest.approx(sure[:20].mean())


def test_no_images_have_no_bins():
    assert reliability_bins(np.empty((0, 2)), np.empty(0, dtype=int)) == ()
    assert plots.reliability(()) is None


def test_the_diagram_begins_below_its_lowest_interval():
    bins = (Bin(sure=0.7, right=Interval(value=0.3, low=0.23, high=0.4), images=20),)

    assert plots.reliability(bins).layout["yaxis"]["range"][0] == 20.0


def test_what_became_of_an_arm_is_told_by_shape_as_well_as_by_colour():
    gain = {"value": 0.0, "low": -0.1, "high": 0.1}
    arms = [{"remedy": name, "gain": gain, "verdict": name} for name in ("adopted", "no evidence", "worse", "hopeless")]

    figure = study_plots.arms_forest([{"round": 1, "arms": arms}], math.nan)

    assert figure.data[0]["marker"]["symbol"] == ["diamond", "circle", "square", "x"]
    assert len(figure.layout["shapes"]) == 1  # no noise is known, so nothing is shaded


def test_arms_without_a_comparison_are_not_drawn():
    arms = [{"remedy": "flip", "gain": None, "verdict": "hopeless"}]

    assert study_plots.arms_forest([{"round": 1, "arms": arms}], 0.01) is None


def test_the_best_so_far_never_falls_and_goes_by_the_time_of_ending(trial):
    trials = [trial(0, 0.5, ended=100.0), trial(1, 0.9, ended=50.0), trial(2, math.nan), trial(3, 0.7, ended=150.0)]

    figure = study_plots.best_so_far(trials, "accuracy")

    assert figure.data[0]["x"] == [50.0, 100.0, 150.0]
    assert figure.data[0]["y"] == [90.0, 90.0, 90.0]


def test_a_long_study_is_told_in_hours(trial):
    trials = [trial(0, 0.5, ended=3600.0), trial(1, 0.9, ended=4 * 3600.0)]

    assert "hours" in study_plots.best_so_far(trials, "accuracy").layout["xaxis"]["title"]["text"]


def test_a_short_training_below_the_sweep_is_in_the_picture(run_values):
    found = {**run_values().lr_range, "trials": [{"lr": 1e-2, "losses": [0.2]}]}

    figure = plots.lr_range(found)

    assert figure.layout["yaxis"]["range"][0] < 0.2
    assert next(trace for trace in figure.data if trace["name"] == "short trainings")["y"] == [0.2]


def test_a_class_may_be_called_as_a_colour_is():
    chart = ConfusionChart(name="confusion", matrix=np.eye(2, dtype=int), classes=("@red", "dog"))

    (figure,) = answer_plots.chart_figures([chart], {})

    assert figure.data[0]["x"] == ["&#64;red", "dog"]
