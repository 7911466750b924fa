from __future__ import annotations

import io
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainwright.records import Interval, TrainErrors
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


def photos(n: int) -> np.ndarray:
    return np.full((n, 16, 16, 3), 128, dtype=np.uint8)


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

    png = figures.confusion_matrix(matrix, [f"class {k}" for k in range(classes)])

    assert max(opened(png).size) <= 1400
    assert len(png) < 200_000


def test_counts_are_written_only_up_to_twenty_classes() -> None:
    def drawn(classes: int, count: int) -> bytes:
        return figures.confusion_matrix(np.eye(classes, dtype=np.int64) * count, ["c"] * classes)

    assert drawn(20, 17) != drawn(20, 71)
    assert drawn(21, 17) == drawn(21, 71)


def test_a_class_without_images_leaves_its_row_empty() -> None:
    assert figures.confusion_matrix(np.array([[3, 1], [0, 0]]), ["cat", "dog"]).startswith(b"\x89PNG")


def test_class_names_of_any_script_are_drawn_without_a_warning() -> None:
    names = ["猫", "$x_$ and $", "a\\b^{", "🐶 " + "long " * 20]

    png = figures.confusion_matrix(np.eye(4, dtype=np.int64), names)
    grid = figures.predictions(photos(4), names, names[::-1], np.ones(4))

    assert (png[:4], grid[:4]) == (b"\x89PNG", b"\x89PNG")


def test_wrong_answers_have_a_vermilion_frame_and_right_ones_a_blue_one() -> None:
    wrong = figures.predictions(photos(1), ["cat"], ["dog"], np.array([0.9]))
    right = figures.predictions(photos(1), ["cat"], ["cat"], np.array([0.9]))

    assert (pixels_of(wrong, VERMILION) > 100, pixels_of(wrong, BLUE)) == (True, 0)
    assert (pixels_of(right, VERMILION), pixels_of(right, BLUE) > 100) == (0, True)


def test_the_surest_mistakes_come_first_then_the_least_sure_right_answers() -> None:
    right = np.array([True, False, True, False])

    order = figures.worth_showing(right, np.array([0.9, 0.6, 0.4, 0.95]))

    assert order.tolist() == [3, 1, 2, 0]


def test_at_most_thirty_two_images_are_shown() -> None:
    assert len(figures.worth_showing(np.ones(100, dtype=bool), np.linspace(0, 1, 100))) == 32


def test_no_images_make_a_picture_that_says_so() -> None:
    assert figures.predictions(photos(0), [], [], np.zeros(0)).startswith(b"\x89PNG")


@pytest.mark.parametrize("running", [0.11, math.nan])
def test_the_gap_is_drawn_even_where_an_error_is_missing(running: float) -> None:
    errors = TrainErrors(running=running, train_mode=0.06, augmented=0.05, clean=0.02, val=0.25)

    png = figures.gap(errors, Interval(value=0.23, low=0.2, high=0.26))

    assert png.startswith(b"\x89PNG")
    assert len(png) < 60_000


def test_figures_repeat_byte_for_byte() -> None:
    epochs = [epoch(k) for k in range(3)]

    assert figures.learning_curves(epochs) == figures.learning_curves(epochs)


def test_importing_the_figures_does_not_import_matplotlib_and_drawing_does_not_import_pyplot() -> None:
    code = (
        "import sys; from trainwright.report import figures; import numpy; assert 'matplotlib' not in sys.modules; "
        "figures.confusion_matrix(numpy.eye(2, dtype=int), ['a', 'b']); assert 'matplotlib.pyplot' not in sys.modules; "
        "assert 'torch' not in sys.modules"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
