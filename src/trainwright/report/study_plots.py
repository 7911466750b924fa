"""Figures of a study: what each arm gained, how the best came about, what seed alone does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.report.markup import figure_text
from trainwright.report.page import Figure
from trainwright.report.plots import axis, layout, line, plain, upright
from trainwright.report.values import Trial
from trainwright.report.wording import SHARES, counted, duration, finite, has_bounds, points_within, score

# (symbol, colour) of an arm by what became of it: never told by the colour alone.
MARKS = {"adopted": ("diamond", "green"), "worse": ("square", "red"), "hopeless": ("x", "red")}
OTHER_MARK = ("circle", "blue")
ROLES = {
    "baseline": ("star", "text"),
    "control": ("circle-open", "grey"),
    "arm": ("circle", "blue"),
    "confirmation": ("diamond", "green"),
    "trial": ("circle", "blue"),
}
MINUTES_FROM, HOURS_FROM = 180, 3 * 3600  # seconds of a study from which on its time is told in minutes, in hours


def arms_forest(rounds: Sequence[Mapping[str, Any]], noise: Any) -> Figure | None:
    """The gain of every arm over its control with its interval, the first round on top.

    noise: deviation of a score between seeds; twice that of a difference is shaded around zero.
    """
    arms = [(one["round"], arm) for one in rounds for arm in one["arms"] if has_bounds(arm.get("gain"))]
    if not arms:
        return None
    names = [figure_text(f"{number}. {arm['remedy']}") for number, arm in arms]
    names = [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]
    marks = [MARKS.get(str(arm["verdict"]), OTHER_MARK) for _, arm in arms]
    gains = [100 * finite(arm["gain"]["value"]) for _, arm in arms]
    doubt = {
        "type": "data",
        "symmetric": False,
        "array": [plain(100 * (finite(arm["gain"]["high"]) - finite(arm["gain"]["value"]))) for _, arm in arms],
        "arrayminus": [plain(100 * (finite(arm["gain"]["value"]) - finite(arm["gain"]["low"]))) for _, arm in arms],
        "color": "@text",
        "thickness": 1.5,
        "width": 5,
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [plain(gain) for gain in gains],
        "y": names,
        "marker": {
            "symbol": [symbol for symbol, _ in marks],
            "color": [f"@{colour}" for _, colour in marks],
            "size": 12,
        },
        "error_x": doubt,
        "customdata": [[figure_text(str(arm["verdict"])), points_within(arm["gain"])] for _, arm in arms],
        "hovertemplate": "%{y}: %{customdata[1]}, %{customdata[0]}<extra></extra>",
    }
    shapes = [upright(0, "text", dash="solid")]
    deviation = finite(noise)
    shaded = ""
    if math.isfinite(deviation) and deviation > 0:
        reach = plain(100 * 2 * math.sqrt(2) * deviation)
        assert reach is not None
        area = {"type": "rect", "xref": "x", "yref": "paper", "x0": -reach, "x1": reach, "y0": 0, "y1": 1}
        shapes.insert(0, {**area, "fillcolor": "@grey", "opacity": 0.16, "line": {"width": 0}, "layer": "below"})
        shaded = " Shaded: two deviations of the difference between two trainings that differ in nothing but the seed."
    return Figure(
        data=[dots],
        layout=layout(
            120 + 44 * len(arms),
            xaxis=axis("gain over the control, points", zeroline=False),
            yaxis={"type": "category", "autorange": "reversed", "automargin": True, "gridcolor": "@line"},
            shapes=shapes,
            showlegend=False,
        ),
        alt="; ".join(f"{arm['remedy']} {points_within(arm['gain'])}, {arm['verdict']}" for _, arm in arms) + ".",
        caption="Diamond: adopted; circle: nothing proven; square: worse; cross: stopped. Bars are 95 % intervals on the same "
        f"unseen images.{shaded}",
    )


def best_so_far(trials: Sequence[Trial], metric: str) -> Figure | None:
    """The score of every run when it ended, and the best one until then."""
    ended = sorted(
        (one for one in trials if one.ended is not None and math.isfinite(one.score)), key=lambda one: finite(one.ended)
    )
    if len(ended) < 2:
        return None
    unit, per = _time_unit(max(finite(one.ended) for one in ended))
    factor = 100 if metric in SHARES else 1
    data: list[dict[str, Any]] = []
    times, best, top = [], [], -math.inf
    for one in ended:
        top = max(top, one.score)
        times.append(plain(finite(one.ended) / per))
        best.append(plain(factor * top))
    stairs = line("best so far", times, best, "green", hoverinfo="skip")
    data.append(stairs | {"line": {"color": "@green", "width": 2.5, "shape": "hv"}})
    for role in dict.fromkeys(one.role for one in ended):
        some = [one for one in ended if one.role == role]
        symbol, colour = ROLES.get(role, ("circle", "blue"))
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": figure_text(role),
                "x": [plain(finite(one.ended) / per) for one in some],
                "y": [plain(factor * one.score) for one in some],
                "marker": {"symbol": symbol, "color": f"@{colour}", "size": 10},
                "customdata": [[figure_text(one.label), one.number] for one in some],
                "hovertemplate": "%{customdata[1]}: %{customdata[0]}, %{y:.4g}<extra></extra>",
            }
        )
    return Figure(
        data=data,
        layout=layout(
            380,
            xaxis=axis(f"since the study began, {unit}", rangemode="tozero"),
            yaxis=axis(f"{figure_text(metric)} on unseen images{', %' if factor == 100 else ''}"),
        ),
        alt=f"{counted(len(ended), 'scored run')}; the best so far rises from {score(ended[0].score, metric)} to "
        f"{score(top, metric)} in {duration(finite(ended[-1].ended))}.",
        caption="The best of several flatters itself: what counts is the gain with its interval.",
    )


def unchanged_scores(scores: Sequence[Any], best: Any, metric: str) -> Figure | None:
    """The scores of trainings that differ in nothing but the seed, beside the best one."""
    known = [finite(value) for value in scores if math.isfinite(finite(value))]
    if len(known) < 2:
        return None
    factor = 100 if metric in SHARES else 1
    rows = [("seed alone", known, "circle", "blue")]
    if math.isfinite(finite(best)):
        rows.append(("handed over", [finite(best)], "diamond", "green"))
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [plain(factor * value) for value in values],
            "y": [name] * len(values),
            "marker": {"symbol": symbol, "color": f"@{colour}", "size": 11, "opacity": 0.85},
            "hovertemplate": "%{x:.4g}<extra></extra>",
        }
        for name, values, symbol, colour in rows
    ]
    return Figure(
        data=data,
        layout=layout(
            190,
            xaxis=axis(f"{figure_text(metric)}{', %' if factor == 100 else ''}", zeroline=False),
            yaxis={"type": "category", "automargin": True, "gridcolor": "@line", "range": [-0.6, len(rows) - 0.4]},
            showlegend=False,
        ),
        title="What seed alone does",
        alt=f"Trainings of the unchanged recipe scored {', '.join(score(value, metric) for value in known)}.",
    )


def _time_unit(seconds: float) -> tuple[str, float]:
    if seconds >= HOURS_FROM:
        return "hours", 3600.0
    return ("minutes", 60.0) if seconds >= MINUTES_FROM else ("seconds", 1.0)
