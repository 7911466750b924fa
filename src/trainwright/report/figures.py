"""Pictures of a run as PNG bytes. Colours are told apart by colour-blind readers and never carry a meaning alone."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainwright.records import Interval, TrainErrors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008, "Color universal design": told apart with any kind of colour blindness.
BLUE, ORANGE, GREEN, VERMILION, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
DOTS_PER_INCH = 100
MOST_COUNTED = 20  # classes up to which a confusion matrix has its counts written in
MOST_LABELS = 40  # class names along one axis of a confusion matrix
MOST_IMAGES = 32  # in the picture of predictions
COLUMNS = 8


def learning_curves(epochs: Sequence[Mapping[str, Any]], chosen: int | None = None) -> bytes:
    """Loss, score and learning rate over the epochs.

    epochs: EpochRecords as mappings (`records.to_json`). chosen: the epoch whose weights were kept, marked by a line;
    without it the first one with the best val score.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(8.0, 6.4)
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
        panel.set_ylabel(key)
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
    return _png(figure)


def confusion_matrix(matrix: np.ndarray, classes: Sequence[str]) -> bytes:
    """Rows are the truth, columns the prediction; shaded by the share of the row's images.

    matrix: [K, K] counts. Up to MOST_COUNTED classes each cell says its count; beyond, names are thinned.
    """
    from matplotlib.colors import PowerNorm

    matrix, count = np.asarray(matrix), len(classes)
    side = min(12.0, 3.4 + 0.42 * count)
    figure = _figure(side + 0.8, side)
    panel = figure.add_subplot()
    totals = matrix.sum(axis=1, keepdims=True)
    share = np.divide(matrix, totals, out=np.zeros(matrix.shape), where=totals > 0)
    picture = panel.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))  # root: rare mistakes stay visible
    shown = list(range(0, count, math.ceil(count / MOST_LABELS)))
    names = [_short(classes[k], 18) for k in shown]
    size = 9 if count <= MOST_COUNTED else 7
    panel.set_xticks(shown, names, rotation=90 if count > 4 else 0, fontsize=size)
    panel.set_yticks(shown, names, fontsize=size)
    panel.set_xlabel("prediction")
    panel.set_ylabel("truth")
    if count <= MOST_COUNTED:
        _write_counts(panel, matrix, share)
    bar = figure.colorbar(picture, ax=panel, fraction=0.04, pad=0.03)
    bar.set_label("share of the images of the class")
    return _png(figure)


def predictions(
    images_NHWC: np.ndarray, labels: Sequence[str], predicted: Sequence[str], probabilities: np.ndarray
) -> bytes:
    """A grid of at most MOST_IMAGES images: the most confidently wrong first, then the least confidently right.

    images_NHWC: uint8 RGB. labels, predicted: class names. probabilities: [N], of the predicted class.
    A wrong answer has a thick frame, a cross and both names; a right one a thin frame, a tick and its name.
    """
    chosen = worth_showing(np.asarray(labels) == np.asarray(predicted), np.asarray(probabilities))
    figure, panels = _grid(len(chosen))
    for panel, k in zip(panels, chosen, strict=False):
        _prediction(panel, images_NHWC[k], labels[k], predicted[k], float(probabilities[k]))
    if not len(chosen):
        panels[0].text(0, 0.5, "no images", fontsize=9)
    return _png(figure)


def answers(images: Sequence[np.ndarray], names: Sequence[str], said: Sequence[str]) -> bytes:
    """A grid of new images whose truth nobody knows, in the order given: each with what was said of it and its file's name.

    images: uint8 RGB [H, W, 3], at most MOST_IMAGES of them are shown.
    """
    figure, panels = _grid(min(len(images), MOST_IMAGES))
    for panel, image, name, answer in zip(panels, images, names, said, strict=False):
        panel.imshow(image, interpolation="nearest" if max(image.shape[:2]) < 64 else "antialiased")
        panel.set_title(f"{_short(answer, 22)}\n{_short(name, 22)}", fontsize=7.5, pad=3)
    return _png(figure)


def gap(errors: TrainErrors, interval: Interval) -> bytes:
    """The four train errors and the unseen one as bars, and the gap with its interval above the clean train error."""
    names = ["A  train, as it ran", "B  train mode", "C  augmented", "D  train, clean", "unseen"]
    values = [100 * error for error in (errors.running, errors.train_mode, errors.augmented, errors.clean, errors.val)]
    figure = _figure(8.0, 2.9)
    panel = figure.add_subplot()
    panel.barh(names, values, color=[GREY, GREY, GREY, BLUE, ORANGE], height=0.6)
    low, middle, high = (100 * (errors.clean + part) for part in (interval.low, interval.value, interval.high))
    panel.errorbar(
        middle, 4, xerr=[[middle - low], [high - middle]], color="black", marker="D", markersize=5, capsize=5
    )
    panel.axvline(100 * errors.clean, color=BLUE, linewidth=1, linestyle=":")
    right = max([value for value in [*values, high] if math.isfinite(value)], default=1.0)
    for row, value in enumerate(values):
        edge = max(value, high) if row == 4 else value
        panel.text(edge + 0.015 * right, row, f"{value:.1f} %", va="center", fontsize=9)
    panel.set_xlim(min(0.0, low), max(1.0, 1.12 * right))
    panel.invert_yaxis()
    panel.set_xlabel("error, %")
    doubt = f"({100 * interval.low:.1f} to {100 * interval.high:.1f})"
    title = f"◆ gap {100 * interval.value:.1f} points {doubt} from the dotted line"
    panel.set_title(title, fontsize=10, loc="left")
    return _png(figure)


def _curve(
    panel: Axes, x: Sequence[int], y: Sequence[float], colour: str, label: str, style: str, width: float
) -> None:
    every = max(1, len(x) // 25)
    panel.plot(x, y, style, color=colour, linewidth=width, label=label, markersize=3.5, markevery=every)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _best_epoch(epochs: Sequence[Mapping[str, Any]]) -> int | None:
    scores = [_number(epoch["val"]["score"]) for epoch in epochs]
    known = [score for score in scores if math.isfinite(score)]
    return int(epochs[scores.index(max(known))]["epoch"]) if known else None


def _write_counts(panel: Axes, matrix: np.ndarray, share: np.ndarray) -> None:
    size = 10 if len(matrix) <= 10 else 8
    for row, column in np.argwhere(matrix > 0):
        colour = "white" if share[row, column] > 0.35 else "black"
        text = f"{matrix[row, column]:d}"
        panel.text(column, row, text, ha="center", va="center", color=colour, fontsize=size if len(text) < 5 else 6)


def worth_showing(right: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Indices: wrong answers from the surest down, then right ones from the least sure up."""
    doubt = np.where(right, probabilities, -probabilities)
    return np.lexsort((doubt, right))[:MOST_IMAGES]


def _prediction(panel: Axes, image_HWC: np.ndarray, label: str, predicted: str, probability: float) -> None:
    right = label == predicted
    panel.set_axis_on()
    panel.set_xticks([])
    panel.set_yticks([])
    panel.imshow(image_HWC, interpolation="nearest" if max(image_HWC.shape[:2]) < 64 else "antialiased")
    colour = BLUE if right else VERMILION
    for spine in panel.spines.values():
        spine.set(color=colour, linewidth=1.5 if right else 3.5)
    answer = f"{'✓' if right else '✗'} {_short(predicted, 13)} {100 * probability:.0f} %"
    panel.set_title(answer if right else f"{answer}\nis {_short(label, 16)}", fontsize=7.5, color=colour, pad=3)


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with a place for each of `count` images, in rows, all still empty."""
    columns = min(COLUMNS, max(4, count))
    rows = max(1, math.ceil(count / columns))
    figure = _figure(1.45 * columns, 1.95 * rows)
    panels: list[Axes] = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for panel in panels:
        panel.set_axis_off()
    return figure, panels


def _short(name: str, most: int) -> str:
    plain = name.replace("$", r"\$")  # matplotlib would read what stands between two dollars as mathematics
    return plain if len(name) <= most else f"{plain[: most - 1]}…"


def _number(value: Any) -> float:
    """JSON has no nan: a figure that was not finite comes back as None."""
    return math.nan if value is None else float(value)


def _figure(width: float, height: float) -> Figure:
    """An empty figure, inches; drawn by its own canvas, so that no global state of matplotlib is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; that is no reason to stop a training.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font", category=UserWarning)
        figure.savefig(
            buffer, format="png", bbox_inches="tight", pil_kwargs={"optimize": True}, metadata={"Software": None}
        )
    return buffer.getvalue()
