"""A learning-rate range test drawn in characters: loss against lr with its band, the interval and the suggestion below."""

from __future__ import annotations

import math
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TextIO

import numpy as np

from trainwright.diagnosis.lr_sweep import swept_interval
from trainwright.records import LrRange

HEIGHT = 12  # lines of the curve
MOST_COLUMNS, LEAST_COLUMNS = 96, 24  # of the curve: wider tells no more, narrower tells nothing
LABEL = 9  # columns left of the axis
DOTS_WIDE, DOTS_HIGH = 2, 4  # of a braille character
DECADE = 7  # columns that the name of one needs
BRAILLE = 0x2800  # of no dots; the dots are its lowest eight bits: Unicode 16, block "Braille Patterns"
BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a dot by its row and column
ABOVE = 0.35  # of the fall of the loss that is shown above its start
LEAST_FALL = 0.1  # of the loss before learning: a flat curve is to look flat


@dataclass(frozen=True, kw_only=True)
class Letters:
    """What the picture is made of. curve: None for braille dots. interval: its ends; swept, trained: what fell between them."""

    curve: str | None
    band: str
    corner: str
    side: str
    floor: str
    interval: tuple[str, str]
    swept: str
    trained: str
    peak: str


FINE = Letters(
    curve=None, band="░", corner="└", side="│", floor="─", interval=("├", "┤"), swept="━", trained="┄", peak="▲"
)
PLAIN = Letters(
    curve="*", band=":", corner="+", side="|", floor="-", interval=("[", "]"), swept="=", trained="-", peak="^"
)


def letters_for(stream: TextIO) -> Letters:
    """Fine ones on a terminal that can show them, plain ASCII elsewhere."""
    fine = stream.isatty() and os.environ.get("TERM") != "dumb" and "utf" in (stream.encoding or "").lower()
    return FINE if fine else PLAIN


def columns_of(stream: TextIO) -> int:
    """Columns of the terminal, or 80 where there is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else 80


def picture(found: LrRange, *, columns: int = 80, letters: Letters | None = None) -> list[str]:
    """Lines of at most `columns` characters. letters: those that fit stdout, if not given."""
    letters = letters or letters_for(sys.stdout)
    reached = np.isfinite(found.smooth_L)
    if reached.sum() < 2:
        return ["(no learning rate of the sweep gave a finite loss: nothing to draw)"]
    width = max(LEAST_COLUMNS, min(MOST_COLUMNS, columns - LABEL - 2))
    scale = _Scale.of(found, reached, width)
    lines = _curve(found, reached, scale, letters)
    labels = {0: scale.top, HEIGHT - 1: scale.bottom, scale.line_of(found.start): found.start}
    rows = [f"{_loss(labels.get(row)):>{LABEL}} {letters.side}{line}".rstrip() for row, line in enumerate(lines)]
    axis = [" " * LABEL + f" {letters.corner}{letters.floor * width}", _decades(scale)]
    return rows + axis + _below(found, scale, letters)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Where a learning rate and a loss lie in the picture. first, last: log10 of lr."""

    first: float
    last: float
    bottom: float
    top: float
    width: int

    @classmethod
    def of(cls, found: LrRange, reached: np.ndarray, width: int) -> _Scale:
        curve = np.concatenate([found.smooth_L[reached], found.low_L[reached]])
        bottom = float(np.nanmin(curve))
        start = found.start if math.isfinite(found.start) else float(found.smooth_L[reached][0])
        fall = max(start - bottom, LEAST_FALL * abs(start), 1e-12)
        lrs = found.lrs_L[reached]
        first, last = math.log10(lrs[0]), math.log10(lrs[-1])
        return cls(first=first, last=last, bottom=start - fall, top=start + ABOVE * fall, width=width)

    def column(self, lr: float) -> int:
        share = (math.log10(lr) - self.first) / (self.last - self.first)
        return min(self.width - 1, max(0, round(share * (self.width - 1))))

    def dot(self, loss: float) -> int:
        """Row of dots from the top; beyond the picture where the loss is."""
        return math.floor((self.top - loss) / (self.top - self.bottom) * (HEIGHT * DOTS_HIGH - 1) + 0.5)

    def line_of(self, loss: float) -> int:
        return min(HEIGHT - 1, max(0, self.dot(loss) // DOTS_HIGH)) if math.isfinite(loss) else 0


def _curve(found: LrRange, reached: np.ndarray, scale: _Scale, letters: Letters) -> list[str]:
    dots_wide, dots_high = scale.width * DOTS_WIDE, HEIGHT * DOTS_HIGH
    at = np.linspace(scale.first, scale.last, dots_wide)
    known = np.log10(found.lrs_L[reached])
    smooth, low, high = (np.interp(at, known, curve[reached]) for curve in (found.smooth_L, found.low_L, found.high_L))
    dots, band = np.zeros((dots_high, dots_wide), dtype=bool), np.zeros((dots_high, dots_wide), dtype=bool)
    before = scale.dot(smooth[0])
    for column in range(dots_wide):
        now = scale.dot(smooth[column])
        first, last = sorted((before, now))  # a steep curve has no gaps
        dots[max(0, first) : max(0, last + 1), column] = True
        before = now
        if np.isfinite(low[column]) and np.isfinite(high[column]):
            band[max(0, scale.dot(high[column])) : max(0, scale.dot(low[column]) + 1), column] = True
    return [
        "".join(
            _letter(
                dots[row : row + DOTS_HIGH, column : column + DOTS_WIDE],
                band[row : row + DOTS_HIGH, column : column + DOTS_WIDE],
                letters,
            )
            for column in range(0, dots_wide, DOTS_WIDE)
        )
        for row in range(0, dots_high, DOTS_HIGH)
    ]


def _letter(dots: np.ndarray, band: np.ndarray, letters: Letters) -> str:
    if dots.any():
        if letters.curve is not None:
            return letters.curve
        return chr(BRAILLE + sum(BITS[row][column] for row, column in np.argwhere(dots)))
    return letters.band if band.mean() >= 0.5 else " "


def _decades(scale: _Scale) -> str:
    """Powers of ten at their places; every second, third, … one where there is no room for all."""
    line = [" "] * (scale.width + 3)
    every = math.ceil(DECADE * (scale.last - scale.first) / scale.width)
    for power in range(math.ceil(scale.first - 1e-9), math.floor(scale.last + 1e-9) + 1):
        text = {0: "1", 1: "10"}.get(power, f"1e{power:+03d}")
        start = max(0, scale.column(10.0**power) - len(text) // 2)
        if power % every == 0 and start + len(text) <= len(line):
            line[start : start + len(text)] = text
    return " " * (LABEL + 2) + "".join(line).rstrip()


def _below(found: LrRange, scale: _Scale, letters: Letters) -> list[str]:
    """The interval as a bar under the axis, the suggestion on it; where there is room, what its letters mean."""
    if found.suggestion is None:
        return []
    line = [" "] * scale.width
    swept, meaning = swept_interval(found), [f"{letters.peak} suggested"]
    if found.interval is not None and found.interval[0] < found.interval[1]:
        first, last = (scale.column(lr) for lr in found.interval)
        line[first : last + 1] = letters.trained * (last + 1 - first)
        if swept is not None:
            start, end = (scale.column(lr) for lr in swept)
            line[start : end + 1] = letters.swept * (end + 1 - start)
        line[first], line[last] = letters.interval
        inside = line[first + 1 : last]
        meaning = [*([f"{letters.trained} in a short training"] if letters.trained in inside else []), *meaning]
        meaning = [*([f"{letters.swept} falls in a sweep"] if letters.swept in inside else []), *meaning]
    line[scale.column(found.suggestion)] = letters.peak
    lines = ["".join(line).rstrip(), "   ".join(meaning)]
    return [" " * (LABEL + 2) + text for text in lines if len(text) <= scale.width]


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
