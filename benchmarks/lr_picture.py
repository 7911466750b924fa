"""The picture of `lr_range.py`: the truth of every cell over lr, and where each rule's suggestion lies on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lr_truth import Truth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito 2008, "Color universal design"; every rule has a shape of its own, too.
MARKS = {
    "ours": ("*", "#D55E00", 15),
    "lightning": ("o", "#0072B2", 7),
    "fastai valley": ("v", "#009E73", 7),
    "fastai slide": ("s", "#009E73", 6),
    "fastai steep": ("^", "#009E73", 7),
    "fastai minimum": ("D", "#009E73", 6),
    "torch-lr-finder": ("X", "#E69F00", 8),
    "published": ("P", "#666666", 7),
}
COLUMNS, WIDTH, HEIGHT = 4, 3.6, 2.6  # panels in a row; inches of each
TALLEST = 1.0  # of scores below the best that is shown: an R² of −50 would hide all others


def draw(rows: Sequence[dict[str, Any]], truths: Sequence[Truth], file: Path) -> None:
    """One panel a cell. Filled marks are hits; a rule without a suggestion is not drawn."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(rows))
    lines = math.ceil(len(rows) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * lines + 0.6), dpi=100, layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, row, truth in zip(panels, rows, truths, strict=False):
        _panel(panel, row, truth)
    for panel in panels[len(rows) :]:
        panel.set_axis_off()
    legend = [
        figure.axes[0].plot([], [], shape, color=colour, label=name, markersize=8)[0]
        for name, (shape, colour, _) in MARKS.items()
    ]
    figure.legend(
        handles=legend, loc="outside upper center", ncols=min(len(legend), 2 * columns), frameon=False, fontsize=9
    )
    figure.supxlabel("learning rate", fontsize=9)
    figure.savefig(file, format="png")


def _panel(panel: Axes, row: dict[str, Any], truth: Truth) -> None:
    panel.set_xscale("log")
    panel.axvspan(*row["window"], color="#009E73", alpha=0.12, linewidth=0)
    for scores_G in truth.scores_GS.T:
        panel.plot(truth.lrs_G, scores_G, ".", color="#666666", markersize=3)
    panel.plot(truth.lrs_G, truth.scores_GS.mean(axis=1), color="black", linewidth=1)
    bottom = max(truth.worst, truth.best - TALLEST)
    for name, found in row["rules"].items():
        if found["lr"] is not None and name in MARKS:
            shape, colour, size = MARKS[name]
            at = min(max(found["lr"], truth.lrs_G[0]), truth.lrs_G[-1]), max(found["score"], bottom)
            inside = colour if found["hit"] else "white"
            panel.plot(*at, shape, color=colour, markersize=size, markerfacecolor=inside, zorder=4 + (name == "ours"))
    margin = 0.08 * (truth.best - bottom) or 0.01
    panel.set_ylim(bottom - margin, truth.best + margin)
    panel.set_title(row["cell"], fontsize=9)
    panel.tick_params(labelsize=7)
    panel.grid(color="#dddddd", linewidth=0.5)
    panel.spines[["top", "right"]].set_visible(False)
