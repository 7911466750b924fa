"""Figures of a study with many recipes: all of them at once, one value at a time, what matters, what a search of m would find."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from trainwright.diagnosis.isolation import isolated
from trainwright.report.markup import figure_text
from trainwright.report.page import Figure
from trainwright.report.plots import axis, layout, line, plain
from trainwright.report.values import Trial
from trainwright.report.wording import SHARES, counted, finite, has_bounds, recipe_value, score

LEAST_RUNS = 6  # of different recipes, from which on a picture of all says more than the table
MOST_AXES = 7
MOST_ISOLATED = 6
LOG_FROM = 20.0  # times: values that lie further apart are shown on a logarithmic axis
FIFTH = 5


def searched(trials: Sequence[Trial]) -> list[Trial]:
    """The scored runs whose recipes were chosen, trained to their end: not the controls, which are the same one again, nor what
    was paused or stopped, whose score is of fewer epochs."""
    return [
        one
        for one in trials
        if math.isfinite(one.score) and one.state == "finished" and one.role not in ("control", "confirmation", "final")
    ]


def varied(trials: Sequence[Trial], importance: Mapping[str, Any] | None = None) -> list[str]:
    """The values of the recipes that differ, the most important first where that is known, else the most often changed."""
    known: dict[str, list[str]] = {}
    for one in trials:
        for key, value in one.recipe.items():
            known.setdefault(key, []).append(_said(value))
    different = {key: values for key, values in known.items() if len(set(values)) > 1}
    weight = {key: finite(_importance_of(found)["value"]) for key, found in (importance or {}).items()}

    def order(key: str) -> tuple[float, int, str]:
        return -weight.get(key, 0.0), max(Counter(different[key]).values()), key

    return sorted(different, key=order)


def parallel_coordinates(
    trials: Sequence[Trial], metric: str, importance: Mapping[str, Any] | None = None
) -> Figure | None:
    """Every run as a line across its values to its score; None for too few runs."""
    runs = searched(trials)
    keys = varied(runs, importance)[:MOST_AXES]
    if len(runs) < LEAST_RUNS or len(keys) < 2:
        return None
    axes = [_Axis(key, [one.recipe.get(key) for one in runs]) for key in keys]
    scores = [one.score for one in runs]
    axes.append(_Axis(metric, scores, shown=lambda value: score(value, metric)))
    ranked = sorted(range(len(runs)), key=lambda n: -scores[n])
    fifth = max(1, len(runs) // FIFTH)
    groups = [
        ("others", ranked[fifth:-fifth], "grey", 1.0, "solid"),
        (f"worst {fifth}", ranked[-fifth:], "orange", 1.6, "dot"),
        (f"best {fifth}", ranked[:fifth], "blue", 3.0, "solid"),
    ]
    data = []
    for name, members, colour, width, dash in groups:
        x: list[int | None] = []
        y: list[float | None] = []
        said: list[str] = []
        for n in members:
            x += [*range(len(axes)), None]
            y += [*(one.places[n] for one in axes), None]
            said += [*(figure_text(f"{runs[n].number}: {one.name} {one.words[n]}") for one in axes), ""]
        style = {"mode": "lines+markers", "marker": {"size": 5, "color": f"@{colour}"}, "text": said}
        trace = line(name, x, y, colour, width=width, dash=dash, hovertemplate="%{text}<extra></extra>", **style)
        data.append(trace | {"opacity": 0.5 if colour == "grey" else 0.9})
    ticks = [note for column, one in enumerate(axes) for note in one.notes(column)]
    posts = [
        {
            "type": "line",
            "x0": column,
            "x1": column,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "line": {"color": "@line", "width": 1.5},
        }
        for column in range(len(axes))
    ]
    names = [figure_text(one.name.removesuffix(".name").rpartition(".")[2].replace("_", " ")) for one in axes]
    hidden = {"showgrid": False, "zeroline": False, "automargin": True}
    return Figure(
        data=data,
        layout=layout(
            430,
            xaxis={**hidden, "tickvals": list(range(len(axes))), "ticktext": names, "range": [-0.35, len(axes) - 0.4]},
            yaxis={**hidden, "showticklabels": False, "range": [-0.06, 1.06]},
            annotations=ticks,
            shapes=posts,
        ),
        title="All recipes at once",
        alt=f"Parallel coordinates of {counted(len(runs), 'run')} over {', '.join(keys)}; the best one scored "
        f"{score(max(scores), metric)}: " + ", ".join(f"{one.name} {one.words[ranked[0]]}" for one in axes[:-1]) + ".",
        caption="Every line is a run, from value to value to its score at the right; the best fifth is drawn thick.",
    )


def isolation_plots(
    trials: Sequence[Trial],
    metric: str,
    importance: Mapping[str, Any] | None = None,
    *,
    nuisance: Collection[str] = (),
    noise: float = 0.0,
) -> list[Figure]:
    """The score against one value at a time, with the best run at each value, or in each part of its range, joined: what is left
    of it when all others may be chosen as well as they were.

    nuisance: values that nobody asked about; they have no figure. noise: of one score by seed alone, where that is known.
    """
    runs = searched(trials)
    if len(runs) < LEAST_RUNS:
        return []
    asked = [key for key in varied(runs, importance) if key not in nuisance]
    return [_isolated(runs, key, metric, noise) for key in asked[:MOST_ISOLATED]]


def best_of_m(trials: Sequence[Trial], metric: str) -> Figure | None:
    """The score that the best of m of these runs is expected to have; None for too few runs.

    Expected validation performance, from the empirical distribution of the scores: Dodge et al., arXiv:1909.03004.
    """
    scores = [one.score for one in searched(trials)]
    if len(scores) < LEAST_RUNS:
        return None
    expected = expected_bests(scores, len(scores))
    factor = 100 if metric in SHARES else 1
    curve = line("expected best", range(1, len(scores) + 1), [factor * value for value in expected], "blue", width=2.5)
    return Figure(
        data=[curve | {"hovertemplate": "the best of %{x}: %{y:.4g}<extra></extra>"}],
        layout=layout(
            330,
            xaxis=axis("runs", rangemode="tozero"),
            yaxis=axis(f"{figure_text(metric)}{', %' if factor == 100 else ''}"),
            showlegend=False,
        ),
        title="The best of m runs",
        alt=f"One run scores {score(expected[0], metric)} in the mean; the best of {len(scores)} "
        f"{score(expected[-1], metric)}.",
        caption="What a search of m runs drawn from these would be expected to reach on the validation images. Where it has come "
        "to rest, more of the same search brings nothing. A strategy that learns from its runs does not draw them by chance.",
    )


def expected_bests(scores: Sequence[float], most: int) -> list[float]:
    """The mean of the largest of m draws, with replacement, from the scores, for each m from 1 to `most`."""
    ordered_N, share_N = np.sort(scores), np.arange(1, len(scores) + 1) / len(scores)
    found, below_N = [], np.ones(len(scores))  # probability that none of the draws lies above a score
    for _ in range(most):
        below_N *= share_N
        found.append(float(ordered_N @ np.diff(below_N, prepend=0.0)))
    return found


def importance_bars(importance: Mapping[str, Any] | None) -> Figure | None:
    """How much of the score's variance each value explains. importance: by dotted key a share, or {value, low, high}."""
    known = {key: _importance_of(found) for key, found in (importance or {}).items()}
    values = {key: finite(found["value"]) for key, found in known.items() if math.isfinite(finite(found["value"]))}
    ranked = sorted(values, key=lambda key: -values[key])
    if not ranked:
        return None
    sides = [
        [
            plain(abs(finite(known[key][end]) - finite(known[key]["value"]))) if has_bounds(known[key]) else 0.0
            for key in ranked
        ]
        for end in ("high", "low")
    ]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [plain(known[key]["value"]) for key in ranked],
        "y": [figure_text(key) for key in ranked],
        "marker": {"size": 10, "color": "@blue"},
        "error_x": {"type": "data", "symmetric": False, "array": sides[0], "arrayminus": sides[1], "color": "@blue"},
        "hovertemplate": "%{y}: %{x:.3g}<extra></extra>",
    }
    return Figure(
        data=[dots],
        layout=layout(
            110 + 28 * max(2, len(ranked)),
            xaxis=axis("importance", rangemode="tozero"),
            yaxis={"type": "category", "autorange": "reversed", "automargin": True, "gridcolor": "@line"},
            showlegend=False,
        ),
        title="What matters",
        alt="; ".join(f"{key} {finite(known[key]['value']):.2f}" for key in ranked) + ".",
    )


class _Axis:
    """One axis of parallel coordinates: where each run's value lies, 0–1, and how it is written."""

    def __init__(self, name: str, values: Sequence[Any], shown: Any = recipe_value) -> None:
        self.name = name
        self.words = [str(shown(value)) for value in values]
        numbers: list[float] = [float(value) for value in values if _is_number(value)]
        if len(numbers) == len(values):
            low, high = min(numbers), max(numbers)
            if low > 0 and high / low >= LOG_FROM:
                numbers, low, high = [math.log(value) for value in numbers], math.log(low), math.log(high)
            self.places = [0.5 if high == low else (value - low) / (high - low) for value in numbers]
            ends = (self.places.index(min(self.places)), self.places.index(max(self.places)))
            self._ticks = [(self.places[n], self.words[n]) for n in ends]
        else:
            names = sorted(set(self.words))
            step = 1 / max(1, len(names) - 1)
            self.places = [names.index(word) * step for word in self.words]
            self._ticks = [(place * step, word) for place, word in enumerate(names)]

    def notes(self, column: int) -> list[dict[str, Any]]:
        """The words beside the axis."""
        short = [(place, word if len(word) <= 14 else f"{word[:13]}…") for place, word in self._ticks]
        return [
            {
                "x": column,
                "y": place,
                "text": figure_text(word),
                "showarrow": False,
                "xanchor": "left",
                "xshift": 5,
                "yshift": 9 if place == 0 else 0,
                "font": {"size": 11, "color": "@quiet"},
                "bgcolor": "@ground",
            }
            for place, word in short
        ]


def _isolated(runs: Sequence[Trial], key: str, metric: str, noise: float) -> Figure:
    """The score of every run against one value, and the best at each with its interval: joined where values have an order."""
    runs = [one for one in runs if one.recipe.get(key) is not None or not _numeric(runs, key)]
    numeric, factor = _numeric(runs, key), 100 if metric in SHARES else 1
    x: list[Any] = [one.recipe[key] if numeric else figure_text(_said(one.recipe.get(key))) for one in runs]
    kind: dict[str, Any] = {} if numeric else {"type": "category"}
    if numeric and min(x) > 0 and max(x) / min(x) >= LOG_FROM:
        kind = {"type": "log", "exponentformat": "power"}
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "runs",
        "x": x,
        "y": [plain(factor * one.score) for one in runs],
        "marker": {"size": 7, "color": "@grey"},
        "text": [figure_text(f"{one.number}: {one.label}") for one in runs],
        "hovertemplate": "%{text}: %{y:.4g}<extra></extra>",
    }
    parts = isolated(x, [factor * one.score for one in runs], noise=factor * noise)
    sides = [[abs(getattr(part.best, end) - part.best.value) for part in parts] for end in ("high", "low")]
    above, below = ([plain(side) if math.isfinite(side) else 0.0 for side in ends] for ends in sides)
    best = line(
        "best at each value" if len(parts) == len(set(x)) else "best in each part of the range",
        [part.value for part in parts],
        [part.best.value for part in parts],
        "blue",
        mode="lines+markers" if numeric else "markers",
        error_y={"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": "@blue"},
    )
    unit = ", %" if factor == 100 else ""
    told = ", ".join(f"{part.value} {part.best.value:.4g}" for part in parts[:8])
    return Figure(
        data=[dots, best],
        layout=layout(290, xaxis=axis(figure_text(key), **kind), yaxis=axis(f"{figure_text(metric)}{unit}")),
        title=key,
        alt=f"{metric} against {key}: best {told}.",
        caption="The best with all other values chosen as well as they were. Bars: other trials of the same part might have "
        "reached no more than their lower end.",
    )


def _numeric(runs: Sequence[Trial], key: str) -> bool:
    """Whether all values that are known are numbers."""
    known = [one.recipe[key] for one in runs if one.recipe.get(key) is not None]
    return bool(known) and all(map(_is_number, known))


def _importance_of(found: Any) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {"value": found}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
