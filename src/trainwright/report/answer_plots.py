"""Figures of what a task describes as charts, for the page: confusion matrix, truth against answer, a score for each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainwright.records import BarsChart, Chart, ConfusionChart, ResidualChart
from trainwright.report.contrast import ink_on
from trainwright.report.markup import figure_text
from trainwright.report.page import COLOURS, Figure
from trainwright.report.plots import axis, layout, plain
from trainwright.report.wording import counted, finite, has_bounds, short_count

MOST_CLASSES = 60  # of a confusion matrix; of more those that are mistaken most
MOST_COUNTED = 15  # classes up to which each cell says its count
EMPTY, FULL = "panel", "blue"  # the shades of a cell with nothing and with all of its row
MOST_POINTS = 3000  # of a scatter plot, evenly taken
MOST_COLUMNS = 6  # of numbers
MOST_BARS = 60
LABEL = 24  # characters of a class name along an axis


def chart_figures(charts: Sequence[Chart], intervals: Mapping[str, Any]) -> list[Figure]:
    """The figures of a task's charts. intervals: of a score by class, {low, high}, drawn on bars of that name."""
    found: list[Figure] = []
    for chart in charts:
        match chart:
            case ConfusionChart():
                found.append(_confusion(chart))
            case ResidualChart():
                found += _residuals(chart)
            case BarsChart():
                found.append(_bars(chart, intervals))
    return found


def mistaken(matrix_KK: np.ndarray) -> np.ndarray:
    """The classes that a matrix of MOST_CLASSES shows, in their order: those with the most mistakes, as truth and as answer."""
    wrong_KK = matrix_KK * (1 - np.eye(len(matrix_KK), dtype=matrix_KK.dtype))
    mistakes_K = wrong_KK.sum(axis=0) + wrong_KK.sum(axis=1)
    return np.sort(np.argsort(-mistakes_K, kind="stable")[:MOST_CLASSES])


def _confusion(chart: ConfusionChart) -> Figure:
    """Rows are the truth, columns the answer; shaded by the share of the row."""
    matrix = np.asarray(chart.matrix)
    totals = matrix.sum(axis=1)
    shown = mistaken(matrix)
    count = len(shown)
    names = _short_names([chart.classes[k] for k in shown])
    part = matrix[np.ix_(shown, shown)]
    share = np.divide(part, totals[shown, None], out=np.zeros(part.shape), where=totals[shown, None] > 0)
    shade = np.round(np.sqrt(share), 4)  # the root: rare mistakes stay visible
    heat: dict[str, Any] = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": shade.tolist(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, f"@{EMPTY}"], [1, f"@{FULL}"]],
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "customdata": np.stack([part, np.round(100 * share, 1)], axis=2).tolist(),
        "hovertemplate": "is %{y}, said %{x}: %{customdata[0]:,} "
        + figure_text(chart.unit)
        + ", %{customdata[1]} % of its own<extra></extra>",
    }
    words = _counts(part, shade) if count <= MOST_COUNTED else []
    side = int(min(720, 130 + max(34 if count <= MOST_COUNTED else 13, 220 / max(1, count)) * count))
    x = axis("prediction", type="category", showgrid=False, ticks="", tickangle=0 if count <= 4 else -60)
    y = axis("truth", type="category", showgrid=False, ticks="", autorange="reversed")
    left_out = "" if count == len(matrix) else f"The {count} of {len(matrix)} classes with the most mistakes. "
    return Figure(
        data=[heat],
        layout=layout(side, xaxis=x, yaxis=y, annotations=words),
        title="What is taken for what" if chart.name == "confusion" else chart.name,
        width=side + 130,
        alt=f"Confusion matrix of {chart.unit}. {_largest_mistakes(chart)}",
        caption=f"{left_out}Rows: the truth; shade: the square root of a cell's share of the {chart.unit} of its class.",
    )


def _counts(part: np.ndarray, shade: np.ndarray) -> list[dict[str, Any]]:
    """What each cell counts, in an ink that is read on its shade in both themes."""
    return [
        {
            "x": int(column),
            "y": int(row),
            "text": short_count(int(part[row, column])),
            "showarrow": False,
            "font": {"size": 12, "color": f"@{ink_on(COLOURS[EMPTY], COLOURS[FULL], float(shade[row, column]))}"},
        }
        for row, column in np.argwhere(part > 0)
    ]


def _largest_mistakes(chart: ConfusionChart, most: int = 3) -> str:
    matrix = np.asarray(chart.matrix)
    wrong_KK = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-wrong_KK, axis=None, kind="stable")[:most]
    cells = [divmod(int(cell), len(matrix)) for cell in order if wrong_KK.flat[cell] > 0]
    said = [f"{chart.classes[row]} taken for {chart.classes[column]}: {matrix[row, column]:,}" for row, column in cells]
    return f"Most frequent mistakes: {'; '.join(said)}." if said else "No mistake."


def _residuals(chart: ResidualChart) -> list[Figure]:
    """For each column of numbers: answer against truth with the diagonal, and how far answers are off."""
    found = []
    for column, name in enumerate(chart.columns[:MOST_COLUMNS]):
        truth_N, answer_N = np.asarray(chart.truth)[:, column], np.asarray(chart.answer)[:, column]
        known = np.isfinite(truth_N) & np.isfinite(answer_N)
        if known.any():
            found += [_against_truth(truth_N[known], answer_N[known], name), _off_by((answer_N - truth_N)[known], name)]
    return found


def _against_truth(truth_N: np.ndarray, answer_N: np.ndarray, name: str) -> Figure:
    low, high = float(min(truth_N.min(), answer_N.min())), float(max(truth_N.max(), answer_N.max()))
    margin = 0.04 * (high - low) or 0.5
    ends = [plain(low - margin), plain(high + margin)]
    every = max(1, math.ceil(len(truth_N) / MOST_POINTS))
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [plain(value) for value in truth_N[::every]],
        "y": [plain(value) for value in answer_N[::every]],
        "marker": {"color": "@blue", "size": 6, "opacity": min(0.8, max(0.25, 150 / len(truth_N)))},
        "hovertemplate": "truth %{x}, answer %{y}<extra></extra>",
    }
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "x": ends,
        "y": ends,
        "line": {"color": "@grey", "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }
    together = float(np.corrcoef(truth_N, answer_N)[0, 1]) if truth_N.std() and answer_N.std() else math.nan
    return Figure(
        data=[diagonal, dots],
        layout=layout(380, xaxis=axis("truth", range=ends), yaxis=axis("answer", range=ends), showlegend=False),
        title=f"{name}: answer against truth",
        alt=f"Answer against truth of {name}, {counted(len(truth_N), 'image')}"
        + (f", correlation {together:.2f}." if math.isfinite(together) else "."),
        caption="On the dotted line an answer is exact.",
    )


def _off_by(residual_N: np.ndarray, name: str) -> Figure:
    bins = min(40, max(5, math.isqrt(len(residual_N))))
    count_B, edge_B = np.histogram(residual_N, bins=bins)
    middles = [plain(value) for value in (edge_B[:-1] + edge_B[1:]) / 2]
    bars = {
        "type": "bar",
        "x": middles,
        "y": count_B.tolist(),
        "width": plain(edge_B[1] - edge_B[0]),
        "marker": {"color": "@orange", "line": {"color": "@ground", "width": 1}},
        "hovertemplate": "off by about %{x}: %{y} images<extra></extra>",
    }
    mean = float(residual_N.mean())
    zero = {"type": "line", "xref": "x", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    shape = {**zero, "line": {"color": "@text", "width": 1.5, "dash": "dot"}}
    return Figure(
        data=[bars],
        layout=layout(
            380, xaxis=axis("answer − truth"), yaxis=axis("images"), shapes=[shape], showlegend=False, bargap=0
        ),
        title=f"{name}: how far off",
        alt=f"Histogram of answer minus truth of {name}: mean {mean:+.3g}, standard deviation {residual_N.std():.3g}.",
        caption=f"Mean {mean:+.3g}, standard deviation {residual_N.std():.3g}.",
    )


def _bars(chart: BarsChart, intervals: Mapping[str, Any]) -> Figure:
    """A dot for each name with its interval, the highest on top; of more than MOST_BARS the lowest ones."""
    known = {name: value for name, value in chart.values.items() if math.isfinite(finite(value))}
    ranked = sorted(known, key=lambda name: -known[name])
    shown = ranked[-MOST_BARS:]
    ends = [intervals.get(name) if has_bounds(intervals.get(name)) else None for name in shown]
    high, low = (
        [
            0.0 if end is None else plain(max(0.0, sign * (finite(end[side]) - known[name])))
            for name, end in zip(shown, ends, strict=True)
        ]
        for side, sign in (("high", 1), ("low", -1))
    )
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [plain(known[name]) for name in shown],
        "y": _short_names(shown),
        "marker": {"size": 9, "color": "@blue"},
        "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low, "color": "@blue", "width": 4},
        "hovertemplate": "%{y}: %{x:.3f}<extra></extra>",
    }
    left_out = "" if len(shown) == len(ranked) else f"The lowest {len(shown)} of {len(ranked)}. "
    lowest = ", ".join(f"{name} {known[name]:.3f}" for name in ranked[::-1][:3])
    label = chart.label
    return Figure(
        data=[dots],
        layout=layout(
            110 + 26 * max(2, len(shown)),
            xaxis=axis(figure_text(label), range=[min([-0.02, *known.values()]), 1.03]),
            yaxis={"type": "category", "autorange": "reversed", "automargin": True, "gridcolor": "@line"},
            showlegend=False,
        ),
        title=f"{label} of each class",
        alt=f"{label} of {counted(len(ranked), 'class', 'classes')}; lowest: {lowest}.",
        caption=f"{left_out}Bars: 95 % intervals over images." if any(ends) else left_out,
    )


def _short_names(names: Sequence[str]) -> list[str]:
    """Names for an axis, cut where they are long; where that makes two alike, with their number."""
    short = [name if len(name) <= LABEL else f"{name[: LABEL - 1]}…" for name in names]
    alike = [one if short.count(one) == 1 else f"{one} ({number})" for number, one in enumerate(short)]
    return [figure_text(one) for one in alike]
