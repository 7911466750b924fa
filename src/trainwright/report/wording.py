"""Figures as a page writes them."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping
from typing import Any

from trainwright.diagnosis.wording import TOLD_APART, percent, points

NOTHING = "–"
COMMAND_LENGTH = 100  # characters of a command on one line
SHARES = frozenset({"accuracy"})  # scores that are shares of images, and are read in percent


def finite(value: Any) -> float:
    """A recorded number; what is not there is nan."""
    return math.nan if value is None else float(value)


def holds_choice(result: Mapping[str, Any]) -> bool:
    """Whether the gap is another than the difference of the two scores: it is cross-fitted, and the unseen score is not."""
    if (result.get("recipe") or {}).get("keep") != "best" or (result.get("epochs") or 0) < 2:
        return False
    train, val = (result["score"].get(part) for part in ("train", "val"))
    gap = (result.get("gap") or {}).get("value")
    known = all(isinstance(value, int | float) and math.isfinite(value) for value in (train, val, gap))
    return bool(known and abs(train - val - gap) >= TOLD_APART)


def scored_train(result: Mapping[str, Any], split: Mapping[str, Any]) -> tuple[int, int]:
    """(how many train images a run's train score is of, of how many); (0, 0) where that is not known.

    result: of the run; those of before it was kept say nothing, and then it is the rule: about as many as there are validation
    images (statistics.md, "The gap"). split: how many images are in each part.
    """
    train, val = int(split.get("train") or 0), int(split.get("val") or 0)
    kept = (result.get("images_scored") or {}).get("train")
    return (min(train, max(val, 1)) if kept is None else int(kept), train) if train else (0, 0)


def end_of(path: str, parts: int = 2) -> str:
    """The last parts of a path, `runs/20261122-0117`: a page goes to others, whom a machine's own folders tell nothing."""
    return "/".join([part for part in path.replace("\\", "/").split("/") if part][-parts:])


def score(value: Any, metric: str) -> str:
    """'71.3 %' of an accuracy, '0.613' of other scores."""
    number = finite(value)
    if not math.isfinite(number):
        return NOTHING
    return percent(number) if metric in SHARES else f"{number:.3f}"


def within(interval: Mapping[str, Any] | None, metric: str) -> str:
    """'68.5 % to 73.8 %'; nothing where there is no interval."""
    if not has_bounds(interval):
        return ""
    assert interval is not None
    return f"{score(interval['low'], metric)} to {score(interval['high'], metric)}"


def has_bounds(interval: Mapping[str, Any] | None) -> bool:
    return bool(interval) and all(math.isfinite(finite(interval.get(end))) for end in ("low", "high"))  # type: ignore[union-attr]


def points_within(interval: Mapping[str, Any] | None) -> str:
    """'25.9 points (23.1 to 28.7)' of {value, low, high} as fractions."""
    if not interval or not math.isfinite(finite(interval.get("value"))):
        return NOTHING
    said = points(float(interval["value"]))
    if not has_bounds(interval):
        return said
    return f"{said} ({100 * float(interval['low']):.1f} to {100 * float(interval['high']):.1f})"


def amount(value: Any) -> str:
    """A figure in any unit: three digits that count, and never fewer than stand before the point."""
    number = finite(value)
    if not math.isfinite(number):
        return NOTHING
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def duration(seconds: Any) -> str:
    """'8 min 54 s'."""
    number = finite(seconds)
    if not math.isfinite(number):
        return NOTHING
    if number < 10:
        return f"{number:.1f} s"
    whole = round(number)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def moment(seconds: Any) -> str:
    """'22 November 2026, 12:18 UTC' of epoch seconds."""
    number = finite(seconds)
    if not math.isfinite(number):
        return NOTHING
    there = time.gmtime(number)
    return f"{there.tm_mday} {time.strftime('%B %Y, %H:%M', there)} UTC"


def size(bytes_: int) -> str:
    """'1.4 GB', in powers of ten."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if bytes_ >= unit:
            return f"{bytes_ / unit:.1f} {name}"
    return f"{bytes_} bytes"


def counted(count: int, one: str, many: str | None = None) -> str:
    """'1 image', '1,110 images'."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def short_count(count: int) -> str:
    """Up to four digits as they are, more as 12k or 1.2M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count > 9999 and count >= 0.9995 * unit:  # 999,950 is 1.0M, not 1000k
            return f"{count / unit:.{1 if count < 9.95 * unit else 0}f}{letter}"
    return str(count)


def command(*words: Any) -> str:
    """A command for a shell; a long one has a line for each option."""
    parts = [shlex.quote(str(word)) for word in words]
    if len(" ".join(parts)) <= COMMAND_LENGTH:
        return " ".join(parts)
    lines = [parts[0]]
    for part in parts[1:]:
        if part.startswith(("-", "'-")):
            lines.append(part)
        else:
            lines[-1] += f" {part}"
    return " \\\n  ".join(lines)


def recipe_value(value: Any) -> str:
    """A value of a recipe, as the command line would take it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(recipe_value(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
