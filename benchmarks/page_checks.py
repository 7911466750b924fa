"""What is looked at on a page that a browser shows: figures, contrast, the way of the keyboard, width, time to open.

`benchmarks/report_page.py` and `tests/report/test_browser.py` ask with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from browser import Tab

CONTRAST = Path(__file__).with_name("contrast.js")
MOST_STOPS = 600  # of the keyboard on a page

FIGURES = """[document.querySelectorAll(".plot .svg-container").length, document.querySelectorAll(".plot").length]"""

FOCUSED = """(() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const style = getComputedStyle(one);
  return { tag: one.tagName, id: one.id, head: one.closest("thead") !== null, text: (one.textContent || "").trim().slice(0, 40),
           class: one.className, seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0 };
})()"""

WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
TIMES = """(() => {
  const [page] = performance.getEntriesByType("navigation"), [figure] = performance.getEntriesByName("first figure");
  return { load: page.loadEventEnd / 1000, figure: figure ? figure.startTime / 1000 : null };
})()"""


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """low: texts that cannot be read well, in words. texts, of_figures: how many were looked at, and how many are in figures."""

    low: Sequence[str]
    texts: int
    of_figures: int


def figures_of(tab: Tab) -> tuple[int, int]:
    """(figures that were drawn, figures there are)."""
    done, all_ = tab.value(FIGURES)
    return int(done), int(all_)


def contrast_of(tab: Tab) -> Contrast:
    """That of every text in the theme that is shown."""
    found = tab.value(CONTRAST.read_text(encoding="utf-8"))
    return Contrast(low=found["low"], texts=found["texts"], of_figures=found["ofFigures"])


def stops_of(tab: Tab) -> list[dict[str, Any]]:
    """Where the keyboard leads by Tab from the top of the page to its end, each once."""
    tab.value("document.activeElement.blur(); scrollTo(0, 0)")
    stops: list[dict[str, Any]] = []
    for _ in range(MOST_STOPS):
        tab.press("Tab")
        stop = tab.value(FOCUSED)
        if stop is None:
            return stops
        stops.append(stop)
    return stops


def wider_than_the_window(tab: Tab) -> int:
    """Pixels by which the page itself scrolls sideways."""
    return int(tab.value(WIDER))


def times_of(tab: Tab) -> tuple[float, float | None]:
    """Seconds since the page was asked for: (its load event, its first figure is drawn; None where it has none)."""
    found = tab.value(TIMES)
    return float(found["load"]), found["figure"]
