"""Figures of a run for the page, as plotly's plain data: curves, gap, range test, calibration."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.report.markup import figure_text
from trainwright.report.page import Figure
from trainwright.report.reliability import Bin
from trainwright.report.wording import amount, finite, has_bounds, points_within

MOST_POINTS = 1200  # of a curve over steps; beyond, means of as many steps as it takes
LOWEST_SCORE = -1.0  # of the axis of scores: one epoch with an R² of -50 would hide all others
ABOVE_START = 0.5  # of the fall of the loss that is shown above its start in a range test: what is higher is divergence


def layout(height: int, **more: Any) -> dict[str, Any]:
    """A layout in the colours of the theme, with the legend above."""
    return {
        "height": height,
        "autosize": True,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "@text", "size": 13, "family": "system-ui, sans-serif"},
        "margin": {"l": 56, "r": 14, "t": 34, "b": 46},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "bgcolor": "rgba(0,0,0,0)"},
        "hoverlabel": {"bgcolor": "@panel", "bordercolor": "@line", "font": {"color": "@text"}, "namelength": -1},
        "hovermode": "closest",
        **more,
    }


def axis(title: str, **more: Any) -> dict[str, Any]:
    return {
        "title": {"text": title, "standoff": 8, "font": {"size": 13}},
        "gridcolor": "@line",
        "linecolor": "@grey",
        "zerolinecolor": "@line",
        "automargin": True,
        "ticks": "outside",
        "tickcolor": "@line",
        **more,
    }


def line(name: str, x: Sequence[Any], y: Sequence[Any], colour: str, **more: Any) -> dict[str, Any]:
    """A curve; what is not finite is a hole in it."""
    style = {"color": f"@{colour}", "width": more.pop("width", 2), "dash": more.pop("dash", "solid")}
    return {
        "type": "scatter",
        "mode": more.pop("mode", "lines"),
        "name": name,
        "x": list(x),
        "y": [plain(value) for value in y],
        "line": style,
        **more,
    }


def plain(value: Any) -> float | None:
    """A number for JSON, to six digits: more only make a page longer."""
    number = finite(value)
    return float(f"{number:.6g}") if math.isfinite(number) else None


def upright(
    x: Any, colour: str = "grey", *, dash: str = "dot", label: str = "", label_below: bool = False
) -> dict[str, Any]:
    """A line from bottom to top. label_below: the label stands at its foot, where curves that rise leave room."""
    ends = ("start", "bottom") if label_below else ("end", "top")
    place = {"textangle": 0, "textposition": ends[0], "xanchor": "right", "yanchor": ends[1]}
    said = {"text": label, **place, "font": {"size": 11, "color": f"@{colour}"}}
    shape = {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1}
    return {**shape, "line": {"color": f"@{colour}", "width": 1.5, "dash": dash}, **({"label": said} if label else {})}


def epoch_curves(epochs: Sequence[Mapping[str, Any]], kept: int | None, *, metric: str) -> list[Figure]:
    """Loss and score over the epochs. kept: the epoch whose weights were kept, from 0; None for none."""
    if not epochs:
        return []
    numbers = [int(epoch["epoch"]) + 1 for epoch in epochs]
    return [_of_epochs(epochs, numbers, key, kept, metric) for key in ("loss", "score")]


def _of_epochs(
    epochs: Sequence[Mapping[str, Any]], numbers: list[int], key: str, kept: int | None, metric: str
) -> Figure:
    parts = (
        ("train_running", "train, as it ran", "grey", "dot"),
        ("train", "train", "blue", "solid"),
        ("val", "unseen", "orange", "dash"),
    )
    data, said = [], []
    for part, name, colour, dash in parts:
        values = [epoch[part][key] for epoch in epochs]
        if not any(math.isfinite(finite(value)) for value in values):
            continue
        marks = {"symbol": "square" if part == "val" else "circle", "size": 5, "color": f"@{colour}"}
        mode = "lines+markers" if part != "train_running" and len(numbers) <= 60 else "lines"
        data.append(line(name, numbers, values, colour, dash=dash, mode=mode, marker=marks))
        said.append(f"{name} from {amount(values[0])} to {amount(values[-1])}")
    what = metric if key == "score" else "loss"
    marked = [] if kept is None else [upright(kept + 1, label=f"kept: epoch {kept + 1}", label_below=key == "score")]
    y = axis(figure_text(what))
    known = [finite(epoch[part][key]) for epoch in epochs for part, *_ in parts]
    known = [value for value in known if math.isfinite(value)]
    if key == "score" and known and min(known) < LOWEST_SCORE < max(known):
        y["range"] = [LOWEST_SCORE, max(known) + 0.05 * (max(known) - LOWEST_SCORE)]
    x = axis("epoch", dtick=max(1, math.ceil(len(numbers) / 10)), range=[numbers[0] - 0.5, numbers[-1] + 0.5])
    return Figure(
        data=data,
        layout=layout(330, xaxis=x, yaxis=y, shapes=marked, hovermode="x unified"),
        title=what if what[1:2].isupper() else what[0].upper() + what[1:],
        alt=f"{what} over {len(numbers)} epochs: {'; '.join(said)}.",
    )


def step_curves(losses: Sequence[Any], lrs: Sequence[Any]) -> list[Figure]:
    """Loss and learning rate of every optimizer step."""
    if not losses:
        return []
    bundle = math.ceil(len(losses) / MOST_POINTS)
    steps = [start + min(bundle, len(losses) - start) / 2 + 0.5 for start in range(0, len(losses), bundle)]
    means = [_mean(losses[start : start + bundle]) for start in range(0, len(losses), bundle)]
    firsts = [lrs[min(start + bundle // 2, len(lrs) - 1)] for start in range(0, len(losses), bundle)]
    smooth = _smoothed(means)
    each = "each step" if bundle == 1 else f"means of {bundle} steps"
    faint = line(each, steps, means, "grey", width=1, opacity=0.55)
    known = [value for value in firsts if value is not None]
    return [
        Figure(
            data=[faint, line("smoothed", steps, smooth, "blue", width=2.4)],
            layout=layout(330, xaxis=axis("step"), yaxis=axis("train loss, as it ran")),
            title="Loss, step by step",
            alt=f"Train loss of {len(losses):,} steps, from about {amount(smooth[0])} to {amount(smooth[-1])}.",
        ),
        Figure(
            data=[line("lr", steps, firsts, "green", width=2.4)],
            layout=layout(
                330, xaxis=axis("step"), yaxis=axis("learning rate", rangemode="tozero", exponentformat="power")
            ),
            title="Learning rate, step by step",
            alt=f"Learning rate between {amount(min(known, default=None))} and {amount(max(known, default=None))}.",
        ),
    ]


def _mean(values: Sequence[Any]) -> float:
    known = [finite(value) for value in values if math.isfinite(finite(value))]
    return sum(known) / len(known) if known else math.nan


def _smoothed(values: Sequence[float]) -> list[float]:
    """An exponential mean over about a fiftieth of them, without the pull of its start (as Adam's moments are corrected)."""
    keep = 1 - 1 / max(2.0, len(values) / 50)
    total = weight = 0.0
    smooth = []
    for value in values:
        if math.isfinite(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + 1 - keep
        smooth.append(total / weight if weight else math.nan)
    return smooth


def gap_parts(errors: Mapping[str, Any], gap: Mapping[str, Any], metric: str) -> Figure | None:
    """The four train errors and the unseen one as bars, with the interval of the gap at the unseen one."""
    rows = [
        ("A  train, as it ran", "running", "grey"),
        ("B  train mode", "train_mode", "grey"),
        ("C  augmented", "augmented", "grey"),
        ("D  train, clean", "clean", "blue"),
        ("unseen, clean", "val", "orange"),
    ]
    known = [(name, finite(errors.get(key)), colour) for name, key, colour in rows]
    known = [row for row in known if math.isfinite(row[1])]
    if len(known) < 2 or not math.isfinite(finite(gap.get("value"))):
        return None
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [_with_error(name, value) for name, value, _ in known],
        "x": [plain(100 * value) for _, value, _ in known],
        "marker": {"color": [f"@{colour}" for *_, colour in known]},
        "hovertemplate": "%{y}<extra></extra>",
    }
    clean = 100 * finite(errors.get("clean"))
    shapes = [upright(plain(clean), "blue")] if math.isfinite(clean) else []
    what = "error, %" if metric == "accuracy" else f"error (1 − {figure_text(metric)}), %"
    return Figure(
        data=[bars, *_doubt_of_gap(gap, clean, _with_error(*known[-1][:2]))],
        layout=layout(
            260,
            xaxis=axis(what),
            yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
            shapes=shapes,
            showlegend=False,
            bargap=0.3,
        ),
        alt="; ".join(f"{name}: {100 * value:.1f} %" for name, value, _ in known)
        + f". Gap {points_within(gap)}, from D to unseen.",
        caption="The gap goes from the dotted line (D) to the diamond, with its 95 % interval. It lies off the end of the bar "
        "where the epoch was chosen on the same images: the gap is free of what that flatters.",
    )


def _with_error(name: str, error: float) -> str:
    return f"{name}  {100 * error:.1f} %"


def _doubt_of_gap(gap: Mapping[str, Any], clean: float, row: str) -> list[dict[str, Any]]:
    """The interval of the gap, drawn from the clean train error (in percent) in the row of the unseen one."""
    if not has_bounds(gap) or not math.isfinite(clean):
        return []
    low, middle, high = (clean + 100 * finite(gap[end]) for end in ("low", "value", "high"))
    doubt = {"type": "data", "symmetric": False, "array": [plain(high - middle)], "arrayminus": [plain(middle - low)]}
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [plain(middle)],
            "y": [row],
            "marker": {"symbol": "diamond", "size": 9, "color": "@text"},
            "error_x": {**doubt, "color": "@text", "thickness": 2, "width": 6},
            "hovertemplate": f"gap {points_within(gap)}<extra></extra>",
        }
    ]


def lr_range(found: Mapping[str, Any], sweeps: Sequence[Sequence[float]] = ()) -> Figure | None:
    """Loss against learning rate. found: a `lr_range` record. sweeps: losses of each seed, beside `lrs`."""
    lrs = list(found.get("lrs") or ())
    smooth = [finite(value) for value in found.get("smooth") or ()]
    if not lrs or not any(map(math.isfinite, smooth)):
        return None
    trials = [(one["lr"], loss) for one in found.get("trials") or () for loss in one["losses"] if loss is not None]
    start = finite(found.get("start"))
    lowest = min(value for value in [*smooth, *(loss for _, loss in trials)] if math.isfinite(value))
    top = start + max(ABOVE_START * (start - lowest), 0.05 * abs(start)) if math.isfinite(start) else max(smooth)
    data = [
        line("each sweep", lrs, losses, "grey", width=1, opacity=0.5, showlegend=index == 0, connectgaps=True)
        for index, losses in enumerate(sweeps)
    ]
    band = [found.get(end) or [] for end in ("band_high", "band_low")]
    if all(len(edge) == len(lrs) for edge in band):
        known = [n for n in range(len(lrs)) if all(math.isfinite(finite(edge[n])) for edge in band)]
        x = [lrs[n] for n in known]
        data.append(line("", x, [band[0][n] for n in known], "blue", width=0, showlegend=False, hoverinfo="skip"))
        lower = [band[1][n] for n in known]
        data.append(line("95 % band", x, lower, "blue", width=0, fill="tonexty", fillcolor="@band", hoverinfo="skip"))
    data.append(line("mean, smoothed", lrs, smooth, "blue", width=2.6))
    if trials:
        marks = {"symbol": "diamond", "size": 9, "color": "@orange"}
        ends = [min(loss, top) for _, loss in trials]
        data.append(line("short trainings", [lr for lr, _ in trials], ends, "orange", mode="markers", marker=marks))
    return Figure(
        data=data,
        layout=layout(
            380,
            xaxis=axis("learning rate", type="log", exponentformat="power"),
            yaxis=axis("train loss", range=[plain(lowest - 0.08 * (top - lowest)), plain(top)]),
            shapes=_rates(found, start),
        ),
        alt=f"Train loss against learning rate from {amount(min(lrs))} to {amount(max(lrs))}: it begins at {amount(start)}, "
        f"the lowest that was reached is {amount(lowest)}. Suggested: {amount(found.get('suggestion'))}.",
        caption=str(found.get("reason") or ""),
    )


def _rates(found: Mapping[str, Any], start: float) -> list[dict[str, Any]]:
    """The interval in which the loss falls, the loss before learning, the suggestion."""
    shapes: list[dict[str, Any]] = []
    if found.get("interval"):
        low, high = found["interval"]
        area = {"type": "rect", "xref": "x", "yref": "paper", "x0": low, "x1": high, "y0": 0, "y1": 1, "layer": "below"}
        shapes.append({**area, "fillcolor": "@green", "opacity": 0.14, "line": {"width": 0}})
    if math.isfinite(start):
        edge = {"type": "line", "xref": "paper", "yref": "y", "x0": 0, "x1": 1, "y0": start, "y1": start}
        shapes.append({**edge, "line": {"color": "@grey", "width": 1.5, "dash": "dot"}})
    if found.get("suggestion") is not None:
        shapes.append(upright(found["suggestion"], "red", dash="solid", label=f"suggested: {found['suggestion']:.3g}"))
    return shapes


def reliability(bins: Sequence[Bin]) -> Figure | None:
    """How often answers are right, against how sure they were: bins of equally many images, each with its interval."""
    if not bins:
        return None
    sure, right = [100 * one.sure for one in bins], [100 * one.right.value for one in bins]
    doubt = {
        "type": "data",
        "symmetric": False,
        "array": [plain(100 * (one.right.high - one.right.value)) for one in bins],
        "arrayminus": [plain(100 * (one.right.value - one.right.low)) for one in bins],
        "color": "@blue",
        "thickness": 1.5,
        "width": 3,
    }
    least = max(0.0, 10 * math.floor(min(min(sure), *(100 * one.right.low for one in bins)) / 10))
    even = line("as sure as right", [least, 100], [least, 100], "grey", dash="dot", width=1.5, hoverinfo="skip")
    found = line(
        "unseen images",
        [plain(value) for value in sure],
        right,
        "blue",
        mode="lines+markers",
        error_y=doubt,
        marker={"size": 7, "color": "@blue"},
        customdata=[one.images for one in bins],
        hovertemplate="%{x:.1f} % sure, %{y:.1f} % right, %{customdata} images<extra></extra>",
    )
    return Figure(
        data=[even, found],
        layout=layout(
            360,
            xaxis=axis("how sure the answer was, %", range=[least, 101]),
            yaxis=axis("right, %", range=[least, 102]),
        ),
        title="How sure, and how often right",
        alt="; ".join(f"{x:.0f} % sure: {y:.0f} % right" for x, y in zip(sure, right, strict=True)) + ".",
        caption=f"Below the dotted line answers are surer than they are right. {len(bins)} bins of about "
        f"{round(sum(one.images for one in bins) / len(bins))} images; bars: 95 % intervals.",
        width=640,
    )
