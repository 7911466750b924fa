from __future__ import annotations

import io
import math
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainwright.records import BarsChart, ConfusionChart, Interval, ResidualChart, Tile, TrainErrors
from trainwright.report import figures

VERMILION = (213, 94, 0)
BLUE = (0, 114, 178)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def pixels_of(png: bytes, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(opened(png)) == colour).all(axis=2).sum())


def epoch(number: int, val_score: float | None = 0.7) -> dict[str, Any]:
    means = {"loss": 1 / (number + 1), "score": 0.8}
    val = {"loss": 0.5, "score": val_score}
    return {"epoch": number, "train_running": means, "train": means, "val": val, "lr": 1e-3}


def tiles(n: int, *, good: bool | None = None, title: str = "cat", size: tuple[int, int] = (16, 16)) -> list[Tile]:
    return [Tile(image_HWC=np.full((*size, 3), 128, dtype=np.uint8), title=title, good=good)] * n


def confusion(matrix: np.ndarray, classes: Sequence[str], unit: str = "images") -> bytes:
    return figures.chart(ConfusionChart(name="confusion", matrix=matrix, classes=tuple(classes), unit=unit))


def test_learning_curves_are_a_small_png_that_fits_a_page() -> None:
    png = figures.learning_curves([epoch(k) for k in range(30)])

    assert png.startswith(b"\x89PNG")
    assert len(png) < 150_000
    assert max(opened(png).size) <= 1000


@pytest.mark.parametrize("epochs", [[], [epoch(0)], [epoch(0, None), epoch(1, math.nan)]])
def test_learning_curves_of_no_one_or_unscored_epochs_can_be_drawn(epochs: list[dict[str, Any]]) -> None:
    assert figures.learning_curves(epochs).startswith(b"\x89PNG")


def test_the_kept_epoch_moves_the_line() -> None:
    epochs = [epoch(k) for k in range(5)]

    assert figures.learning_curves(epochs, chosen=1) != figures.learning_curves(epochs, chosen=3)


def test_without_a_chosen_epoch_the_first_of_the_best_val_score_is_marked() -> None:
    epochs = [epoch(0, 0.6), epoch(1, 0.9), epoch(2, None), epoch(3, 0.9)]

    assert figures.learning_curves(epochs) == figures.learning_curves(epochs, chosen=1)


@pytest.mark.parametrize("classes", [2, 20, 100])
def test_a_confusion_matrix_fits_a_page_whatever_the_number_of_classes(classes: int) -> None:
    matrix = np.eye(classes, dtype=np.int64) * 12345

    png = confusion(matrix, [f"class {k}" for k in range(classes)])

    assert max(opened(png).size) <= 1400
    assert len(png) < 200_000


def test_counts_are_written_only_up_to_twenty_classes() -> None:
    def drawn(classes: int, count: int) -> bytes:
        return confusion(np.eye(classes, dtype=np.int64) * count, ["c"] * classes)

    assert drawn(20, 17) != drawn(20, 71)
    assert drawn(21, 17) == drawn(21, 71)


def test_a_class_without_images_leaves_its_row_empty() -> None:
    assert confusion(np.array([[3, 1], [0, 0]]), ["cat", "dog"]).startswith(b"\x89PNG")


def test_the_bar_beside_a_confusion_matrix_says_what_is_counted() -> None:
    matrix = np.eye(2, dtype=np.int64)

    assert confusion(matrix, ["cat", "dog"]) != confusion(matrix, ["cat", "dog"], unit="pixels")


def test_millions_of_pixels_are_written_short() -> None:
    def drawn(count: int) -> bytes:
        return confusion(np.eye(2, dtype=np.int64) * count, ["cat", "dog"])

    assert drawn(1_234_567) == drawn(1_199_999)  # both 1.2M
    assert drawn(999_960) == drawn(1_000_000)
    assert drawn(9_998) != drawn(9_999)


def test_class_names_of_any_script_are_drawn_without_a_warning() -> None:
    names = ["猫", "$x_$ and $", "a\\b^{", "🐶 " + "long " * 20]

    png = confusion(np.eye(4, dtype=np.int64), names)
    grid = figures.sheet([tile for name in names for tile in tiles(1, title=name)])
    bars = figures.chart(BarsChart(name="iou", values=dict.fromkeys(names, 0.5), label="IoU"))

    assert (png[:4], grid[:4], bars[:4]) == (b"\x89PNG",) * 3


def test_wrong_answers_have_a_vermilion_frame_right_ones_a_blue_one_and_unknown_ones_none() -> None:
    wrong, right, unknown = (figures.sheet(tiles(1, good=good)) for good in (False, True, None))

    assert (pixels_of(wrong, VERMILION) > 100, pixels_of(wrong, BLUE)) == (True, 0)
    assert (pixels_of(right, VERMILION), pixels_of(right, BLUE) > 100) == (0, True)
    assert (pixels_of(unknown, VERMILION), pixels_of(unknown, BLUE)) == (0, 0)


@pytest.mark.parametrize("size", [(16, 16), (96, 256), (256, 96), (10, 900), (900, 10)])
def test_a_sheet_of_images_of_any_shape_fits_a_page(size: tuple[int, int]) -> None:
    png = figures.sheet(tiles(10, size=size, good=True))

    assert max(opened(png).size) <= 2000


def test_images_twice_as_wide_stand_in_fewer_columns_and_are_no_lower() -> None:
    square, wide = opened(figures.sheet(tiles(8))), opened(figures.sheet(tiles(8, size=(16, 32))))

    assert wide.width == pytest.approx(square.width, rel=0.1)
    assert wide.height > 1.8 * square.height


def test_images_of_different_shapes_share_a_sheet() -> None:
    assert figures.sheet([*tiles(3), *tiles(3, size=(20, 50)), *tiles(3, size=(50, 20))]).startswith(b"\x89PNG")


def test_a_long_title_is_wrapped_and_in_the_end_cut() -> None:
    longer, longest = (figures.sheet(tiles(1, title="many words " * count)) for count in (30, 300))

    assert longer == longest


def test_at_most_thirty_two_tiles_are_drawn() -> None:
    assert figures.sheet(tiles(33)) == figures.sheet(tiles(32))


def test_the_surest_mistakes_come_first_then_the_least_sure_right_answers() -> None:
    right = np.array([1.0, 0.0, 1.0, 0.0])

    order = figures.worth_showing(right, np.array([0.9, 0.6, 0.4, 0.95]))

    assert order.tolist() == [3, 1, 2, 0]


def test_the_worst_answers_come_first_equals_in_their_order_and_unknown_ones_last() -> None:
    order = figures.worth_showing(np.array([0.5, math.nan, 0.9, 0.5, 0.1]))

    assert order.tolist() == [4, 0, 3, 2, 1]


def test_at_most_thirty_two_images_are_shown() -> None:
    assert len(figures.worth_showing(np.ones(100), np.linspace(0, 1, 100))) == 32
    assert len(figures.worth_showing(np.ones(100))) == 32


def test_no_images_make_a_picture_that_says_so() -> None:
    assert figures.sheet([]).startswith(b"\x89PNG")


def test_one_epoch_far_below_zero_does_not_hide_the_others() -> None:
    usual = [epoch(k, 0.1 * k) for k in range(8)]
    bad, worse = ([*usual[:3], epoch(3, score), *usual[4:]] for score in (-50.0, -5000.0))

    pictures = [figures.learning_curves(epochs, chosen=7, metric="R²") for epochs in (usual, bad, worse)]

    # the curves of the other epochs are drawn over as many rows whatever the bad one's score: only the note differs
    rows = [np.flatnonzero((np.asarray(opened(png)) == (230, 159, 0)).all(axis=2).any(axis=1)) for png in pictures]
    assert np.ptp(rows[1]) == np.ptp(rows[2]) >= np.ptp(rows[0])


def test_the_axis_of_scores_is_called_after_the_metric() -> None:
    epochs = [epoch(k) for k in range(3)]

    assert figures.learning_curves(epochs, metric="mean IoU") != figures.learning_curves(epochs, metric="mAP")


def test_scores_that_are_never_measured_while_training_have_no_place_in_the_legend() -> None:
    epochs = [{**epoch(k), "train_running": {"loss": None, "score": None}} for k in range(3)]

    assert figures.learning_curves(epochs).startswith(b"\x89PNG")
    assert figures.learning_curves(epochs) != figures.learning_curves([epoch(k) for k in range(3)])


@pytest.mark.parametrize(("count", "columns"), [(0, 1), (1, 1), (40, 2), (3000, 12)])
def test_residuals_of_few_or_thousands_of_images_are_drawn(count: int, columns: int) -> None:
    truth = np.random.default_rng(0).normal(size=(count, columns))
    chart = ResidualChart(
        name="residuals", truth=truth, answer=0.9 * truth, columns=tuple(f"c{k}" for k in range(columns))
    )

    png = figures.chart(chart)

    assert len(png) < 500_000
    assert opened(png).width <= 800


def test_numbers_without_a_truth_are_left_out_of_the_residuals() -> None:
    truth, answer = np.arange(9.0)[:, None], np.arange(9.0)[:, None] + 1
    gapped = np.vstack([truth, [[math.nan]]]), np.vstack([answer, [[100.0]]])

    first, second = (
        figures.chart(ResidualChart(name="residuals", truth=a, answer=b, columns=("age",)))
        for a, b in ((truth, answer), gapped)
    )

    assert first == second


def test_bars_are_sorted_whatever_their_order() -> None:
    values = {"cat": 0.3, "dog": 0.9, "owl": math.nan}

    first, second = (
        figures.chart(BarsChart(name="iou", values=dict(items), label="IoU"))
        for items in (values.items(), reversed(values.items()))
    )

    assert first == second


@pytest.mark.parametrize("count", [0, 1, 80, 1000])
def test_bars_of_any_number_of_classes_fit(count: int) -> None:
    png = figures.chart(BarsChart(name="iou", values={f"class {k}": k / 1000 for k in range(count)}, label="IoU"))

    assert max(opened(png).size) <= 2100


@pytest.mark.parametrize("running", [0.11, math.nan])
def test_the_gap_is_drawn_even_where_an_error_is_missing(running: float) -> None:
    errors = TrainErrors(running=running, train_mode=0.06, augmented=0.05, clean=0.02, val=0.25)

    png = figures.gap(errors, Interval(value=0.23, low=0.2, high=0.26))

    assert png.startswith(b"\x89PNG")
    assert len(png) < 60_000


@pytest.mark.parametrize(
    ("val", "interval"),
    [(6.0, Interval(value=5.98, low=4.0, high=9.0)), (math.nan, Interval(value=math.nan, low=-1, high=1))],
)
def test_unseen_errors_above_one_or_unknown_are_drawn(val: float, interval: Interval) -> None:
    errors = TrainErrors(running=math.nan, train_mode=math.nan, augmented=0.05, clean=0.02, val=val)

    assert figures.gap(errors, interval, "R²").startswith(b"\x89PNG")


def test_figures_repeat_byte_for_byte() -> None:
    epochs = [epoch(k) for k in range(3)]

    assert figures.learning_curves(epochs) == figures.learning_curves(epochs)


def test_importing_the_figures_does_not_import_matplotlib_and_drawing_does_not_import_pyplot() -> None:
    code = (
        "import sys; from trainwright.report import figures; from trainwright.records import BarsChart; "
        "assert 'matplotlib' not in sys.modules; "
        "figures.chart(BarsChart(name='iou', values={'a': 0.5}, label='IoU')); assert 'matplotlib.pyplot' not in sys.modules; "
        "assert 'torch' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
