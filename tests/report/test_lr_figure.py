"""The picture of a learning-rate range test."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from trainwright.records import LrTrial
from trainwright.report.lr_figure import conclusion, heights, lr_range

VERMILION, ORANGE = (213, 94, 0), (230, 159, 0)


def opened(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png)).convert("RGB")


def pixels_of(png: bytes, colour: tuple[int, int, int]) -> int:
    return int((np.asarray(opened(png)) == colour).all(axis=2).sum())


@pytest.mark.parametrize("kind", ["found", "flat", "diverging", "nothing"])
def test_every_kind_of_answer_is_a_small_png_that_fits_a_page(lr_range_of, kind):
    png = lr_range(lr_range_of(kind))

    assert max(opened(png).size) <= 1000
    assert len(png) < 150_000


def test_the_suggestion_is_a_line_and_without_one_there_is_none(lr_range_of):
    assert pixels_of(lr_range(lr_range_of("found")), VERMILION) > 300
    assert pixels_of(lr_range(lr_range_of("flat")), VERMILION) == 0


def test_confirming_runs_are_points(lr_range_of):
    found = lr_range_of("found")

    with_them, without = lr_range(found), lr_range(replace(found, trials=()))

    assert pixels_of(with_them, ORANGE) > 200
    assert pixels_of(without, ORANGE) == 0


def test_a_run_that_diverged_is_marked_at_the_upper_edge(lr_range_of):
    found = lr_range_of("found")
    fine = replace(found, trials=(LrTrial(lr=0.04, losses=(1.0,)),))
    lost = replace(found, trials=(LrTrial(lr=0.04, losses=(float("nan"),)),))

    assert pixels_of(lr_range(lost), VERMILION) > pixels_of(lr_range(fine), VERMILION) + 50


def test_divergence_does_not_hide_the_fall(lr_range_of):
    found = lr_range_of("found")

    bottom, top = heights(found)

    assert np.nanmax(found.losses_SL) > 100
    assert bottom < 0.85  # the lowest of the short runs
    assert 2.3 < top < 3.5


def test_a_flat_curve_is_not_blown_up(lr_range_of):
    flat = lr_range_of("flat")
    quiet = replace(flat, losses_SL=np.full((1, 97), 2.3), low_L=np.full(97, 2.3), high_L=np.full(97, 2.3))

    bottom, top = heights(quiet)

    assert top - bottom > 0.1  # of a loss of 2.3: noise of a thousandth is invisible


def test_one_seed_can_be_drawn(lr_range_of):
    assert lr_range(lr_range_of("found", seeds=1)).startswith(b"\x89PNG")


def test_the_conclusion_is_in_words(lr_range_of):
    assert (
        conclusion(lr_range_of("found")) == "Suggested learning rate 0.013: the loss falls at rates from 0.0002 to 0.06"
    )
    assert conclusion(lr_range_of("flat")) == "The learning-rate range test cannot tell"


def test_a_long_reason_with_dollars_is_cut_and_drawn(lr_range_of):
    reason = "costs $5 or $6 " * 60

    assert max(opened(lr_range(replace(lr_range_of("flat"), reason=reason))).size) <= 1000


def test_what_a_sweep_saw_is_filled_and_what_short_trainings_alone_saw_is_hatched(lr_range_of):
    """The filled green is lighter than the line's own colour; without a sweep's fall there is none of it."""
    found = lr_range_of("found")
    fallen, unsure = lr_range(found), lr_range(replace(found, high_L=found.high_L + 10))

    def filled(png: bytes) -> int:
        red, green, blue = (np.asarray(opened(png))[..., channel].astype(int) for channel in range(3))
        return int(((green > red + 20) & (green > blue) & (green > 220)).sum())

    assert filled(fallen) > 20_000
    assert filled(unsure) < 10_000
