"""Pictures of a run as PNG bytes. Colours are told apart by colour-blind readers and never carry a meaning alone."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainwright.records import BarsChart, Chart, ConfusionChart, Interval, ResidualChart, Tile, TrainErrors
from trainwright.report.wording import short_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color universal design": told apart with any kind of colour blindness.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
DOTS_PER_INCH = 100
MOST_COUNTED = 20  # classes up to which a confusion matrix has its counts written in
MOST_LABELS = 40  # class names along one axis of a confusion matrix
MOST_IMAGES = 32  # on a sheet
COLUMNS = 8  # of square images on a sheet; fewer of wide ones
SIDE = 1.45  # inches, the height of an image on a sheet, and the width of a square one
WIDEST = 4.0  # times as wide as high, or as high as wide; what is beyond is drawn smaller
LINE_LENGTH, MOST_LINES = 22, 4  # of a title above a square image; wider ones have longer lines
MOST_NUMBERS = 8  # columns of numbers in one picture
MOST_BARS = 80
LOWEST_SCORE = -1.0  # of the axis of scores: one epoch with an R² of -50 would hide all others


def learning_curves(epochs: Sequence[Mapping[str, Any]], chosen: int | None = None, *, metric: str = "score") -> bytes:
    """Loss, score and learning rate over the epochs.

    epochs: EpochRecords as mappings (`records.to_json`). chosen: the epoch whose weights were kept, marked by a line;
    without it the first one with the best val score. metric: what the score measures. Scores below LOWEST_SCORE lie below
    the picture, and it says how many do.
    """
    from matplotlib.ticker import MaxNLocator

    figure = blank(8.0, 6.4)
    loss, score, lr = figure.subplots(3, 1, sharex=True, height_ratios=[3, 3, 1.1])
    numbers = [int(epoch["epoch"]) + 1 for epoch in epochs]
    for panel, key in ((loss, "loss"), (score, "score")):
        _curve(
            panel,
            numbers,
            [_number(epoch["train_running"][key]) for epoch in epochs],
            GREY,
            "train, as it ran",
            "-",
            1.0,
        )
        _curve(panel, numbers, [_number(epoch["train"][key]) for epoch in epochs], BLUE, "train", "-o", 2.0)
        _curve(panel, numbers, [_number(epoch["val"][key]) for epoch in epochs], ORANGE, "unseen", "--s", 2.0)
        panel.set_ylabel(metric if key == "score" else key)
    _limit_scores(
        score, [_number(epoch[part]["score"]) for epoch in epochs for part in ("train_running", "train", "val")]
    )
    _curve(lr, numbers, [_number(epoch["lr"]) for epoch in epochs], GREEN, "", ".-", 1.5)
    lr.set_ylabel("lr")
    lr.set_xlabel("epoch")
    lr.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    lr.set_ylim(bottom=0)
    kept = _best_epoch(epochs) if chosen is None else chosen
    if kept is not None:
        for panel in (loss, score):
            panel.axvline(kept + 1, color=GREY, linewidth=1, linestyle=":", label=f"kept: epoch {kept + 1}")
    loss.legend(loc="best", frameon=False, fontsize=9)
    lr.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    lr.set_xlim(min(numbers, default=1) - 0.5, max(numbers, default=1) + 0.5)
    return as_png(figure)


def chart(chart: Chart) -> bytes:
    """The picture of a chart that a task describes."""
    match chart:
        case ConfusionChart():
            return _confusion(chart)
        case ResidualChart():
            return _residuals(chart)
        case BarsChart():
            return _bars(chart)


def sheet(tiles: Sequence[Tile]) -> bytes:
    """A grid of at most MOST_IMAGES images in the order given, each with its title.

    A wrong answer has a thick frame and a cross, a right one a thin frame and a tick, one whose truth nobody knows neither.
    """
    shown = tiles[:MOST_IMAGES]
    shapes = [tile.image_HWC.shape for tile in shown] or [(1, 1)]
    aspect = min(WIDEST, max(1.0, *(width / height for height, width, *_ in shapes)))
    height = SIDE * min(WIDEST, max(1.0, min(height * aspect / width for height, width, *_ in shapes)))
    columns = max(1, int(COLUMNS / aspect))
    columns = min(columns, max(4, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = blank(SIDE * aspect * columns, (height + 0.5) * rows)
    panels: list[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in panels:
        panel.set_axis_off()
    for panel, tile in zip(panels, shown, strict=False):
        _tile(panel, tile, int(LINE_LENGTH * aspect))
    if not shown:
        panels[0].text(0, 0.5, "no images", fontsize=9)
    return as_png(figure)


def gap(errors: TrainErrors, interval: Interval, metric: str = "accuracy") -> bytes:
    """The four train errors and the unseen one as bars, and the gap with its interval above the clean train error.

    Errors are 1 − `metric`; one that is nan is said not to be measured.
    """
    names = ["A  train, as it ran", "B  train mode", "C  augmented", "D  train, clean", "unseen"]
    values = [100 * error for error in (errors.running, errors.train_mode, errors.augmented, errors.clean, errors.val)]
    figure = blank(8.0, 2.9)
    panel = figure.add_subplot()
    panel.barh(names, np.nan_to_num(values), color=[GREY, GREY, GREY, BLUE, ORANGE], height=0.6)
    low, middle, high = (100 * (errors.clean + part) for part in (interval.low, interval.value, interval.high))
    known, title = [value for value in values if math.isfinite(value)], "gap not measured"
    if all(map(math.isfinite, (low, middle, high))):
        known += [low, high]
        arms = [[middle - low], [high - middle]]
        panel.errorbar(middle, 4, xerr=arms, color="black", marker="D", markersize=5, capsize=5)
        panel.axvline(100 * errors.clean, color=BLUE, linewidth=1, linestyle=":")
        doubt = f"({100 * interval.low:.1f} to {100 * interval.high:.1f})"
        title = f"◆ gap {100 * interval.value:.1f} points {doubt} from the dotted line"
    right = max(known, default=1.0)
    for row, value in enumerate(values):
        edge = max(value, high if row == 4 and high in known else value) if math.isfinite(value) else 0.0
        said = f"{value:.1f} %" if math.isfinite(value) else "not measured"
        panel.text(edge + 0.015 * right, row, said, va="center", fontsize=9)
    panel.set_xlim(min([0.0, *known]), max(1.0, 1.12 * right))
    panel.invert_yaxis()
    panel.set_xlabel("error, %" if metric == "accuracy" else f"error (1 − {metric}), %")
    panel.set_title(title, fontsize=10, loc="left")
    return as_png(figure)


def worth_showing(per_image: np.ndarray, sureness: np.ndarray | None = None) -> np.ndarray:
    """Indices of at most MOST_IMAGES images: the worst first, equals in their order.

    per_image: [N], scores 0–1; nan comes last. sureness: [N], where answers are right or wrong: then wrong ones from the
    surest down, and right ones from the least sure up.
    """
    scores = np.asarray(per_image, dtype=np.float64)
    if sureness is None:
        return np.argsort(scores, kind="stable")[:MOST_IMAGES]
    doubt = np.where(scores >= 0.5, sureness, -np.asarray(sureness))
    return np.lexsort((doubt, scores))[:MOST_IMAGES]


def _curve(
    panel: Axes, x: Sequence[int], y: Sequence[float], colour: str, label: str, style: str, width: float
) -> None:
    every = max(1, len(x) // 25)
    known = not y or any(map(math.isfinite, y))  # a curve without any figure has no place in the legend
    panel.plot(
        x, y, style, color=colour, linewidth=width, label=label if known else None, markersize=3.5, markevery=every
    )
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _limit_scores(panel: Axes, scores: Sequence[float]) -> None:
    known = [score for score in scores if math.isfinite(score)]
    below = sum(score < LOWEST_SCORE for score in known)
    if not below or max(known) <= LOWEST_SCORE:
        return
    panel.set_ylim(LOWEST_SCORE, max(known) + 0.05 * (max(known) - LOWEST_SCORE))
    note = f"{below} point{'' if below == 1 else 's'} below {LOWEST_SCORE:g}: as low as {min(known):.3g}"
    panel.text(0.99, 0.03, note, transform=panel.transAxes, ha="right", va="bottom", fontsize=8, color=GREY)


def _best_epoch(epochs: Sequence[Mapping[str, Any]]) -> int | None:
    scores = [_number(epoch["val"]["score"]) for epoch in epochs]
    known = [score for score in scores if math.isfinite(score)]
    return int(epochs[scores.index(max(known))]["epoch"]) if known else None


def _confusion(chart: ConfusionChart) -> bytes:
    """Rows are the truth, columns the answer; shaded by the share of the row.

    Up to MOST_COUNTED classes each cell says its count; beyond, names are thinned.
    """
    from matplotlib.colors import PowerNorm

    matrix, count = np.asarray(chart.matrix), len(chart.classes)
    side = min(12.0, 3.4 + 0.42 * count)
    figure = blank(side + 0.8, side)
    panel = figure.add_subplot()
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    picture = panel.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))  # root: rare mistakes stay visible
    shown = list(range(0, count, math.ceil(count / MOST_LABELS)))
    names = [_short(chart.classes[k], 18) for k in shown]
    size = 9 if count <= MOST_COUNTED else 7
    panel.set_xticks(shown, names, rotation=90 if count > 4 else 0, fontsize=size)
    panel.set_yticks(shown, names, fontsize=size)
    panel.set_xlabel("prediction")
    panel.set_ylabel("truth")
    if count <= MOST_COUNTED:
        _write_counts(panel, matrix, share)
    bar = figure.colorbar(picture, ax=panel, fraction=0.04, pad=0.03)
    bar.set_label(f"share of the {chart.unit} of the class")
    return as_png(figure)


def _write_counts(panel: Axes, matrix: np.ndarray, share: np.ndarray) -> None:
    size = 10 if len(matrix) <= 10 else 8
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if share[row, column] > 0.35 else "black"
        text = short_count(int(matrix[row, column]))
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=size if len(text) < 5 else 6)


def _residuals(chart: ResidualChart) -> bytes:
    """A row for each column of numbers: answer against truth with the diagonal, and how far answers are off."""
    shown = chart.columns[:MOST_NUMBERS]
    figure = blank(7.6, 3.1 * max(1, len(shown)))
    panels = figure.subplots(max(1, len(shown)), 2, squeeze=False)
    for (scatter, histogram), column, name in zip(panels, range(len(shown)), shown, strict=False):
        truth_N, answer_N = np.asarray(chart.truth)[:, column], np.asarray(chart.answer)[:, column]
        known = np.isfinite(truth_N) & np.isfinite(answer_N)
        _against_truth(scatter, truth_N[known], answer_N[known], _short(name, 30))
        _off_by(histogram, (answer_N - truth_N)[known], _short(name, 30))
    if len(shown) < len(chart.columns):
        figure.suptitle(f"the first {len(shown)} of {len(chart.columns)} columns", fontsize=10)
    return as_png(figure)


def _against_truth(panel: Axes, truth_N: np.ndarray, answer_N: np.ndarray, name: str) -> None:
    opacity = min(0.8, max(0.08, 150 / max(1, len(truth_N))))
    panel.scatter(truth_N, answer_N, s=9, color=BLUE, alpha=opacity, linewidths=0)
    both = np.concatenate([truth_N, answer_N])
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    margin = 0.04 * (high - low) or 0.5
    panel.plot([low - margin, high + margin], [low - margin, high + margin], "--", color=GREY, linewidth=1)
    panel.set_xlim(low - margin, high + margin)
    panel.set_ylim(low - margin, high + margin)
    panel.set_xlabel(f"{name}, truth")
    panel.set_ylabel("answer")
    panel.spines[["top", "right"]].set_visible(False)


def _off_by(panel: Axes, residual_N: np.ndarray, name: str) -> None:
    if len(residual_N):
        panel.hist(residual_N, bins=min(40, max(5, math.isqrt(len(residual_N)))), color=ORANGE, edgecolor="white")
        mean = float(residual_N.mean())
        panel.axvline(0, color=GREY, linewidth=1, linestyle="--")
        panel.axvline(mean, color="black", linewidth=1.5)
        panel.set_title(f"mean {mean:+.3g}, spread {residual_N.std():.3g}", fontsize=9, loc="left")
    panel.set_xlabel(f"{name}, answer − truth")
    panel.set_ylabel("images")
    panel.spines[["top", "right"]].set_visible(False)


def _bars(chart: BarsChart) -> bytes:
    """Horizontal bars, the highest on top; of more than MOST_BARS names the lowest ones."""
    known = {name: value for name, value in chart.values.items() if math.isfinite(value)}
    unknown = [name for name in chart.values if name not in known]
    ranked = [*sorted(known, key=lambda name: -known[name]), *unknown]
    shown = ranked[-MOST_BARS:]
    values = [known.get(name, 0.0) for name in shown]
    figure = blank(7.0, 0.9 + 0.24 * max(2, len(shown)))
    panel = figure.add_subplot()
    panel.barh(range(len(shown)), values, color=BLUE, height=0.7)
    panel.set_yticks(range(len(shown)), [_short(name, 28) for name in shown], fontsize=9)
    for row, name in enumerate(shown):
        said = f"{known[name]:.3f}" if name in known else "none"
        panel.text(max(0.0, values[row]) + 0.01, row, said, va="center", fontsize=8)
    panel.set_xlim(min([0.0, *values]), 1.1)
    panel.set_ylim(len(shown) - 0.4, -0.6)  # the first on top
    panel.set_xlabel(chart.label)
    panel.spines[["top", "right"]].set_visible(False)
    if len(shown) < len(ranked):
        panel.set_title(f"the lowest {len(shown)} of {len(ranked)}", fontsize=10, loc="left")
    return as_png(figure)


def _tile(panel: Axes, tile: Tile, line_length: int) -> None:
    height, width = tile.image_HWC.shape[:2]
    panel.imshow(tile.image_HWC, interpolation="nearest" if max(height, width) < 64 else "antialiased")
    title, colour = tile.title, "black"
    if tile.good is not None:
        title, colour = f"{'✓' if tile.good else '✗'} {title}", BLUE if tile.good else VERMILION
        panel.set_axis_on()
        panel.set_xticks([])
        panel.set_yticks([])
        for spine in panel.spines.values():
            spine.set(color=colour, linewidth=1.5 if tile.good else 3.5)
    panel.set_title(_wrapped(title, line_length), fontsize=7.5, color=colour, pad=3)


def _wrapped(title: str, length: int) -> str:
    """Lines of at most `length`; what does not fit into MOST_LINES of them ends in an ellipsis."""
    lines = [part for line in title.split("\n") for part in textwrap.wrap(line, length)]
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"{lines[MOST_LINES - 1][: length - 1]}…"]
    return "\n".join(_short(line, length) for line in lines)


def _short(name: str, most: int) -> str:
    plain = name.replace("$", r"\$")  # matplotlib would read what stands between two dollars as mathematics
    return plain if len(name) <= most else f"{plain[: most - 1]}…"


def _number(value: Any) -> float:
    """JSON has no nan: a figure that was not finite comes back as None."""
    return math.nan if value is None else float(value)


def blank(width: float, height: float) -> Figure:
    """An empty figure, inches; drawn by its own canvas, so that no global state of matplotlib is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def as_png(figure: Figure) -> bytes:
    """The figure as a PNG file, without what changes from one version of matplotlib to the next."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; that is no reason to stop a training.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
        figure.savefig(
            buffer, format="png", bbox_inches="tight", pil_kwargs={"optimize": True}, metadata={"Software": None}
        )
    return buffer.getvalue()
