"""The picture of "how much would more data help": error against train images with fits, band, prediction and back-test."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from trainwright.diagnosis.more_data import MoreData
from trainwright.report.figures import BLUE, GREEN, GREY, ORANGE, VERMILION, as_png, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE_LENGTH = 88  # characters of the answer
STYLES = {"power": "-", "exponential": "--", "logarithmic": "-.", "arctangent": ":"}


def more_data(found: MoreData, *, metric: str = "accuracy") -> bytes:
    """Unseen error against the number of train images as PNG, with what is predicted for more of them."""
    figure = blank(8.0, 4.6)
    panel = figure.add_subplot()
    panel.set_xscale("log")
    _curve(panel, found)
    for index, point in enumerate(found.points):
        name = None if index else "each run"
        panel.plot([point.images] * len(point.errors), point.errors, "o", color=GREY, ms=4, alpha=0.7, label=name)
    _means(panel, found)
    _predictions(panel, found)
    _back_test(panel, found)
    ticks = sorted({*(point.images for point in found.points), *(told.images for told in found.predictions)})
    panel.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.minorticks_off()
    panel.set_ylim(bottom=0)
    panel.set_xlabel("train images")
    panel.set_ylabel("unseen error" if metric == "accuracy" else f"unseen error (1 − {metric})")
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    figure.suptitle(
        "\n".join(textwrap.wrap(found.reason, LINE_LENGTH)), fontsize=11, fontweight="bold", x=0.012, ha="left"
    )
    return as_png(figure)


def _curve(panel: Axes, found: MoreData) -> None:
    curve = found.curve
    if curve is None:
        return
    panel.fill_between(curve.images_L, curve.low_L, curve.high_L, color=BLUE, alpha=0.2, linewidth=0, label="95 % band")
    panel.plot(curve.images_L, curve.error_L, color=BLUE, linewidth=2.2, label="all fits together")
    for name, error_L in curve.fits.items():
        share = f"{100 * found.weights.get(name, 0.0):.0f} %"
        panel.plot(curve.images_L, error_L, STYLES.get(name, "-"), color=GREY, linewidth=1, label=f"{name}, {share}")


def _means(panel: Axes, found: MoreData) -> None:
    for index, point in enumerate(found.points):
        ends = np.array([[point.error.value - point.error.low], [point.error.high - point.error.value]])
        known = ends if np.isfinite(ends).all() else None
        name = None if index else "mean of seeds"
        panel.errorbar(
            [point.images], [point.error.value], yerr=known, fmt="s", color="black", ms=5, capsize=3, label=name
        )


def _predictions(panel: Axes, found: MoreData) -> None:
    for index, told in enumerate(found.predictions):
        value, ends = 1 - told.score.value, [[told.score.high - told.score.value], [told.score.value - told.score.low]]
        name = None if index else "predicted"
        panel.errorbar([told.images], [value], yerr=ends, fmt="D", color=VERMILION, ms=6, capsize=3, label=name)


def _back_test(panel: Axes, found: MoreData) -> None:
    test = found.back_test
    if test is None:
        return
    told = test.predicted
    ends = [[told.value - told.low], [told.high - told.value]]
    colour = GREEN if test.inside else ORANGE
    at = test.images * 1.06  # beside the point that was measured
    panel.errorbar([at], [told.value], yerr=ends, fmt="x", color=colour, ms=7, capsize=3, label="back-test: predicted")
