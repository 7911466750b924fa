"""Regression scores what it says: R² and errors in the data's unit, as scikit-learn and torchmetrics count them."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, R2Score

from trainwright.optim.losses import build_loss
from trainwright.plugins import losses, tasks
from trainwright.recipe import LossSpec
from trainwright.records import Answers, TargetInfo
from trainwright.tasks.regression import Regression

ONE = TargetInfo(names=("cells",), mean=(20.0,), std=(5.0,))
TWO = TargetInfo(names=("width", "height"), mean=(20.0, -3000.0), std=(5.0, 400.0))
ROWS_N = np.arange(100, 150)


def task_of(info, loss="huber", **constants):
    return tasks.get("regression")(info, losses.get(loss)(LossSpec(name=loss, **constants)))


def drawn(info, images=50):
    """Standardized outputs and targets in their unit, related but not equal."""
    generator = torch.Generator().manual_seed(0)
    standard_NT = torch.randn(images, len(info.names), generator=generator)
    outputs_NT = 0.8 * standard_NT + 0.4 * torch.randn(images, len(info.names), generator=generator) + 0.1
    return outputs_NT, standard_NT * torch.tensor(info.std) + torch.tensor(info.mean)


def answers_of(values, target):
    values_NT, target_NT = np.array(values, dtype=np.float64), np.array(target, dtype=np.float64)
    columns = {"values": values_NT, "target": target_NT, "loss": np.zeros(len(values_NT), dtype=np.float32)}
    return Answers(rows=np.arange(len(values_NT)), columns=columns)


def test_a_column_has_an_output():
    assert task_of(TWO).outputs == 2
    assert task_of(TWO).metric == "R²"


# Losses: outputs 0 and 3 deviations too high


@pytest.mark.parametrize(
    ("loss", "constants", "expected"),
    [
        ("mse", {}, [0.0, 9.0]),
        ("mae", {}, [0.0, 3.0]),
        ("huber", {"delta": 1.0}, [0.0, 2.5]),  # δ (|e| − δ / 2)
        ("huber", {"delta": 4.0}, [0.0, 4.5]),  # e² / 2
    ],
)
def test_a_loss_is_that_of_deviations_of_the_target(loss, constants, expected):
    loss_N, _ = task_of(ONE, loss, **constants).loss(torch.tensor([[0.0], [2.0]]), torch.tensor([[20.0], [15.0]]))

    assert loss_N.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("loss", ["huber", "mse", "mae"])
def test_a_loss_is_the_mean_over_the_columns(loss):
    outputs_NT, target_NT = drawn(TWO)
    standard_NT = (target_NT - torch.tensor(TWO.mean)) / torch.tensor(TWO.std)
    function = losses.get(loss)(LossSpec())

    by_column = [function(outputs_NT[:, [t]], standard_NT[:, [t]]) for t in range(2)]

    torch.testing.assert_close(function(outputs_NT, standard_NT), torch.stack(by_column).mean(dim=0))


def test_a_column_that_never_varied_in_training_is_learned_in_its_own_unit():
    task = task_of(TargetInfo(names=("cells",), mean=(7.0,), std=(0.0,)), "mae")

    loss_N, _ = task.loss(torch.tensor([[0.0]]), torch.tensor([[9.0]]))

    assert loss_N.tolist() == [2.0]


# Answers


def test_answers_are_in_the_unit_of_the_data_with_target_loss_and_rows():
    outputs_NT, target_NT = torch.tensor([[1.0, 0.0], [-2.0, 0.5]]), torch.tensor([[25.0, -3000.0], [20.0, -2800.0]])

    answers = task_of(TWO, "mae").answers(outputs_NT, target_NT, ROWS_N[:2])

    assert answers.columns["values"].tolist() == [[25.0, -3000.0], [10.0, -2800.0]]
    assert answers.columns["target"].tolist() == target_NT.tolist()
    assert answers.columns["loss"].tolist() == [0.0, 1.0]
    assert answers.columns["values"].dtype == np.float64


def test_answers_without_a_target_are_the_values_alone():
    assert list(task_of(ONE).answers(torch.zeros(2, 1), None, ROWS_N[:2]).columns) == ["values"]


# Scores


@pytest.mark.parametrize("info", [ONE, TWO])
def test_score_and_errors_are_those_of_scikit_learn_and_torchmetrics(info):
    task, (outputs_NT, target_NT) = task_of(info), drawn(info)
    answers = task.answers(outputs_NT, target_NT, ROWS_N)
    values_NT, true_NT = answers.columns["values"], answers.columns["target"]

    scores = task.scores(answers)

    r2 = R2Score(multioutput="uniform_average")(torch.from_numpy(values_NT), torch.from_numpy(true_NT)).item()
    assert scores.score == pytest.approx(r2_score(true_NT, values_NT, multioutput="uniform_average"), abs=1e-6)
    assert scores.score == pytest.approx(r2, abs=1e-6)
    names = [""] if info is ONE else [" width", " height"]
    mae_T = mean_absolute_error(true_NT, values_NT, multioutput="raw_values")
    rmse_T = root_mean_squared_error(true_NT, values_NT, multioutput="raw_values")
    assert [scores.metrics[f"mae{name}"] for name in names] == pytest.approx(mae_T.tolist(), rel=1e-6)
    assert [scores.metrics[f"rmse{name}"] for name in names] == pytest.approx(rmse_T.tolist(), rel=1e-6)
    first, true = torch.from_numpy(values_NT[:, 0].copy()), torch.from_numpy(true_NT[:, 0].copy())
    assert scores.metrics[f"mae{names[0]}"] == pytest.approx(MeanAbsoluteError()(first, true).item(), rel=1e-6)
    assert scores.metrics[f"rmse{names[0]}"] == pytest.approx(
        MeanSquaredError(squared=False)(first, true).item(), rel=1e-6
    )


def test_bias_is_how_much_too_high_the_answers_are_on_average():
    scores = task_of(ONE).scores(answers_of([[11.0], [25.0]], [[10.0], [20.0]]))

    assert scores.metrics["bias"] == pytest.approx(3.0)


def test_always_saying_the_train_mean_has_a_ratio_of_one():
    """And an R² of 0 where the images' mean is that of the train images."""
    scores = task_of(ONE).scores(answers_of([[20.0]] * 4, [[10.0], [17.0], [23.0], [30.0]]))

    assert scores.metrics["mae ratio"] == pytest.approx(1.0)
    assert scores.score == pytest.approx(0.0)


def test_the_ratio_is_that_of_mean_absolute_errors():
    scores = task_of(ONE).scores(answers_of([[12.0], [29.0]], [[10.0], [30.0]]))

    assert scores.metrics["mae ratio"] == pytest.approx(1.5 / 10)


def test_several_columns_have_figures_of_their_own():
    scores = task_of(TWO).scores(answers_of([[12.0, -3100.0], [29.0, -2900.0]], [[10.0, -3100.0], [30.0, -2900.0]]))

    assert scores.metrics["R² height"] == pytest.approx(1.0)
    assert scores.metrics["mae ratio"] == pytest.approx(0.15 / 2)
    assert scores.score == pytest.approx((scores.metrics["R² width"] + 1) / 2)
    assert set(scores.metrics) == {"mae ratio"} | {
        f"{name} {column}" for name in ("R²", "mae", "rmse", "bias", "mae ratio") for column in ("width", "height")
    }


def test_the_score_of_numbers_that_do_not_vary_is_not_known():
    scores = task_of(ONE).scores(answers_of([[11.0], [25.0], [25.0]], [[18.3], [18.3], [18.3]]))

    assert math.isnan(scores.score)
    assert scores.metrics["mae"] == pytest.approx(6.9)


def test_a_column_that_does_not_vary_is_left_out_of_the_mean():
    scores = task_of(TWO).scores(answers_of([[10.0, 5.0], [30.0, 5.0]], [[10.0, 7.0], [30.0, 7.0]]))

    assert scores.score == pytest.approx(1.0)


def test_large_numbers_with_a_small_spread_lose_nothing():
    """Years: squares of 2,000 would leave little of a spread of a few in single precision."""
    info = TargetInfo(names=("year",), mean=(1_700_000_000.0,), std=(3.0,))
    target_NT = 1_700_000_000.0 + 3.0 * np.linspace(-2, 2, 40)[:, None]
    values_NT = target_NT + np.where(np.arange(40) % 2, 1.0, -1.0)[:, None]

    scores = task_of(info).scores(answers_of(values_NT, target_NT))

    assert scores.score == pytest.approx(r2_score(target_NT, values_NT), abs=1e-6)


def test_per_image_scores_fall_with_the_error():
    scores = task_of(ONE).scores(answers_of([[20.0], [25.0], [120.0]], [[20.0], [20.0], [20.0]]))

    assert scores.per_image.tolist() == pytest.approx([1.0, math.exp(-1), math.exp(-20)])


def test_the_tally_of_a_training_gives_the_score_of_its_images():
    task, (outputs_NT, target_NT) = task_of(TWO), drawn(TWO)

    _, tally_NQ = task.loss(outputs_NT, target_NT)

    running = task.measures(tally_NQ.double().sum(dim=0)[None].numpy())["score"][0]
    assert running == pytest.approx(task.scores(task.answers(outputs_NT, target_NT, ROWS_N)).score, abs=1e-5)


def test_an_answer_that_is_not_a_number_raises_no_warning():
    """The loop names the faulty image: the tally must not be first."""
    loss_N, _ = task_of(ONE).loss(torch.tensor([[math.nan]]), torch.tensor([[20.0]]))

    assert math.isnan(loss_N.item())


# What a person sees


def test_an_answer_is_said_by_column():
    said = task_of(TWO).say(answers_of([[18.25, -3100.0]], [[17.0, -3000.0]]))

    assert said == [{"values": {"width": 18.25, "height": -3100.0}}]


def test_a_picture_says_the_number_and_what_it_is():
    images_NHWC = np.zeros((2, 4, 4, 3), dtype=np.uint8)

    tiles = task_of(ONE).tiles(answers_of([[18.21], [30.0]], [[17.0], [20.5]]), images_NHWC)

    assert [tile.title for tile in tiles] == ["18.2, is 17", "30.0, is 20.5"]
    assert [tile.good for tile in tiles] == [True, False]


def test_a_picture_of_several_columns_names_them():
    images_NHWC = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    answers = Answers(rows=np.arange(1), columns={"values": np.array([[18.21, -3100.4]])})

    (tile,) = task_of(TWO).tiles(answers, images_NHWC)

    assert (tile.title, tile.good) == ("width 18.2\nheight -3100", None)


def test_the_chart_is_truth_against_answer():
    (chart,) = task_of(ONE).charts(answers_of([[18.0]], [[17.0]]))

    assert (chart.truth.tolist(), chart.answer.tolist(), chart.columns) == ([[17.0]], [[18.0]], ("cells",))


def test_a_column_that_does_not_vary_among_the_images_leaves_the_others_their_score():
    """Its R² is not defined; rounding must not make a number of it, as float32 sums of squares would."""
    task = Regression(
        TargetInfo(names=("varies", "same"), mean=(0.0, 1.01), std=(1.0, 0.1)),
        build_loss(LossSpec(), Regression.losses),
    )
    truth_NT = np.column_stack([np.arange(30.0) / 10, np.ones(30)])
    outputs = torch.tensor((truth_NT - [0.0, 1.01]) / [1.0, 0.1], dtype=torch.float32) + 0.05
    target = torch.tensor(truth_NT, dtype=torch.float32)

    scores = task.scores(task.answers(outputs, target, np.arange(30)))
    _, tally_NQ = task.loss(outputs, target)

    expected = r2_score(truth_NT[:, 0], truth_NT[:, 0] + 0.05)
    assert scores.score == pytest.approx(expected, abs=1e-6)
    assert task.measures(tally_NQ.sum(dim=0)[None].numpy())["score"][0] == pytest.approx(expected, abs=1e-5)


def test_an_answer_beyond_all_numbers_is_wrong_and_still_counted():
    task = Regression(
        TargetInfo(names=("y",), mean=(0.0,), std=(1.0,)), build_loss(LossSpec(name="mae"), Regression.losses)
    )
    outputs, target = torch.tensor([[3e38], [1.0]]), torch.tensor([[0.5], [1.0]])

    scores = task.scores(task.answers(outputs, target, np.arange(2)))

    assert np.isfinite(scores.tally).all()
    assert scores.score < -1e6
