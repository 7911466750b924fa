"""The picture of a learning-rate range test: loss against lr with band, interval, suggestion and confirming runs."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from trainwright.diagnosis.lr_sweep import swept_interval, tight_bounds
from trainwright.records import LrRange
from trainwright.report.figures import BLUE, GREEN, GREY, ORANGE, VERMILION, as_png, blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLE_LENGTH = 110  # characters of a line of the reason
MOST_LINES = 3
ABOVE = 0.35  # of the fall of the loss that is shown above its start: what is higher is divergence
LEAST_HEIGHT = 0.1  # of the loss before learning: a flat curve is to look flat


def lr_range(found: LrRange) -> bytes:
    """Loss against learning rate as PNG. What lies above the picture is divergence, and it says how high it goes."""
    figure = blank(8.0, 4.6)
    panel = figure.add_subplot()
    panel.set_xscale("log")
    _interval(panel, found)
    panel.axhline(found.start, color=GREY, linewidth=1, linestyle=":", label="before learning")
    seeds = len(found.losses_SL)
    for index, losses_L in enumerate(found.losses_SL):
        name = None if index else f"each of {seeds} sweeps" if seeds > 1 else "the one sweep"
        known = np.isfinite(losses_L)  # a sweep does not look at every point
        panel.plot(found.lrs_L[known], losses_L[known], ".-", color=GREY, lw=0.7, ms=3, alpha=0.4, label=name)
    panel.fill_between(found.lrs_L, found.low_L, found.high_L, color=BLUE, alpha=0.22, linewidth=0, label="95 % band")
    panel.plot(found.lrs_L, found.smooth_L, color=BLUE, linewidth=2.2, label="mean, smoothed")
    bottom, top = heights(found)
    _trials(panel, found, top)
    if found.suggestion is not None:
        panel.axvline(found.suggestion, color=VERMILION, linewidth=1.8, label=f"suggested: {found.suggestion:.3g}")
    panel.set_ylim(bottom, top)
    _note_beyond(panel, found, top)
    panel.set_xlim(_edge(found, 0), _edge(found, -1))
    panel.set_xlabel("learning rate")
    panel.set_ylabel("train loss")
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    figure.suptitle(conclusion(found), fontsize=11, fontweight="bold", x=0.012, ha="left")
    notes = [f"{note[0].upper()}{note[1:]}." for note in tight_bounds(found)]
    panel.set_title(_wrapped(" ".join([f"{found.reason.rstrip('.')}.", *notes])), fontsize=9, loc="left")
    return as_png(figure)


def conclusion(found: LrRange) -> str:
    """What the test concludes, in a line."""
    if found.suggestion is None:
        return "The learning-rate range test cannot tell"
    low, high = found.interval or (0.0, 0.0)
    falls = f": the loss falls at rates from {low:.2g} to {high:.2g}" if low < high else ""
    return f"Suggested learning rate {found.suggestion:.3g}{falls}"


def _interval(panel: Axes, found: LrRange) -> None:
    """Where the loss falls: in a sweep; and, hatched, where short trainings alone saw it."""
    if found.interval is None or found.interval[0] == found.interval[1]:
        return
    (low, high), swept = found.interval, swept_interval(found)
    first, last = swept or (high, high)
    if swept is not None:
        panel.axvspan(first, last, color=GREEN, alpha=0.2, linewidth=0, label="falls in a sweep")
    beyond = [part for part in ((low, first), (last, high)) if part[0] < part[1]]
    for index, part in enumerate(beyond):
        name = None if index else "falls in a short training"
        panel.axvspan(*part, facecolor="none", edgecolor=GREEN, hatch="///", alpha=0.35, linewidth=0, label=name)


def heights(found: LrRange) -> tuple[float, float]:
    """(lowest, highest) loss worth showing: down to the lowest there is, up to a little above the start.

    A sweep ends in divergence, where the loss may be a million times its start and would hide all that matters.
    """
    trials = [loss for trial in found.trials for loss in trial.losses]
    known = np.concatenate([found.smooth_L, found.low_L, found.losses_SL.ravel(), trials, [found.start]])
    known = known[np.isfinite(known)]
    bottom = float(known.min()) if len(known) else 0.0
    start = found.start if np.isfinite(found.start) else bottom
    fall = start - bottom
    least = LEAST_HEIGHT * abs(start)
    early = found.losses_SL[:, : found.losses_SL.shape[1] // 4 + 1]  # before anything is learned: its spread is noise
    above = max(ABOVE * fall, 1.1 * float(np.nanmax(early, initial=start) - start), least / 2)
    bottom -= 0.06 * (fall + above) if fall > least / 2 else least / 2
    return bottom, start + above if start + above > bottom else bottom + 1.0


def _trials(panel: Axes, found: LrRange, top: float) -> None:
    """A point for each confirming run; one that diverged is a cross at the upper edge."""
    ended = [(trial.lr, loss) for trial in found.trials for loss in trial.losses if np.isfinite(loss) and loss <= top]
    lost = [(trial.lr, top) for trial in found.trials for loss in trial.losses if not (loss <= top)]
    if ended:
        lrs, losses = zip(*ended, strict=True)
        panel.plot(lrs, losses, "D", color=ORANGE, markeredgecolor="black", markersize=6, label="short runs, their end")
    if lost:
        lrs, losses = zip(*lost, strict=True)
        panel.plot(lrs, losses, "X", color=VERMILION, markersize=9, clip_on=False, label="short runs that diverged")


def _wrapped(reason: str) -> str:
    """The reason in at most MOST_LINES lines; matplotlib would read what stands between two dollars as mathematics."""
    lines = textwrap.wrap(reason.replace("$", r"\$"), TITLE_LENGTH)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], f"{lines[MOST_LINES - 1][: TITLE_LENGTH - 1]}…"]
    return "\n".join(lines)


def _note_beyond(panel: Axes, found: LrRange, top: float) -> None:
    known = found.losses_SL[np.isfinite(found.losses_SL)]
    if len(known) and known.max() > top:
        note = f"above the picture:\nup to {known.max():.3g}"
        panel.text(1.02, 0.01, note, transform=panel.transAxes, va="bottom", fontsize=8, color=GREY)


def _edge(found: LrRange, end: int) -> float:
    """The first or last lr of the picture: those of the sweep that were reached, and of the confirming runs."""
    reached = found.lrs_L[np.isfinite(found.losses_SL).any(axis=0)]
    lrs = [*(reached if len(reached) else found.lrs_L), *(trial.lr for trial in found.trials)]
    return float(sorted(lrs)[end]) * (0.8 if end == 0 else 1.25)
