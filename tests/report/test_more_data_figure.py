"""The picture of a learning curve over the number of train images."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from trainwright.diagnosis.curve_points import TrainedOn
from trainwright.diagnosis.more_data import MoreData
from trainwright.diagnosis.more_data import more_data as judged
from trainwright.report.more_data_figure import more_data

VERMILION = (213, 94, 0)


def answer(*, sizes: tuple[int, ...]) -> MoreData:
    rng = np.random.Generator(np.random.Philox(0))
    runs = []
    for images in sizes:
        for seed in range(2):
            right_N = rng.random(300) > 0.1 + 5 / images
            runs.append(
                TrainedOn(images=images, seed=seed, error=float(1 - right_N.mean()), tally_NQ=right_N[:, None] * 1.0)
            )
    return judged(runs, lambda tally_BQ: tally_BQ[:, 0] / 300)


def pixels_of(png: bytes, colour: tuple[int, int, int]) -> int:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    return int((np.asarray(image) == colour).all(axis=2).sum())


def test_predictions_are_points_on_a_small_png() -> None:
    png = more_data(answer(sizes=(50, 100, 200, 400)))

    assert max(Image.open(io.BytesIO(png)).size) <= 1000
    assert len(png) < 200_000
    assert pixels_of(png, VERMILION) > 50


def test_without_an_answer_there_are_the_points_alone() -> None:
    png = more_data(answer(sizes=(50, 100)), metric="mean IoU")

    assert pixels_of(png, VERMILION) == 0
