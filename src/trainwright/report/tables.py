"""Tables of a page: heads sort their columns by a click or a key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainwright.report.markup import Html, element, joined


@dataclass(frozen=True, kw_only=True)
class Column:
    """A head. number: to the right, and the largest first when it is sorted by; lower_first: the smallest first. long: its
    cells are sentences, which need room."""

    title: str
    number: bool = False
    lower_first: bool = False
    long: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What a cell shows, and what it is sorted by (None: not known, which stays last)."""

    shown: Any
    value: float | str | None


def table(columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, caption: str, ids: Sequence[str] = ()) -> Html:
    """A sortable table. rows: cells, text, numbers or `Cell`; the first one of each row is its head. ids: anchors of rows."""
    heads = [
        element(
            "th",
            element("button", column.title, type="button"),
            scope="col",
            class_="number" if column.number else None,
            data_first="down" if column.number and not column.lower_first else "up",
        )
        for column in columns
    ]
    body = [
        element("tr", [_cell(cell, columns[n], n == 0) for n, cell in enumerate(row)], id=ids[index] if ids else None)
        for index, row in enumerate(rows)
    ]
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", heads)),
        element("tbody", body),
        class_="sortable",
    )
    return element("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def rows_of(pairs: Sequence[tuple[str, Any]]) -> Html:
    """Names with what they are, below each other; those with nothing are left out."""
    known = [(name, value) for name, value in pairs if value not in (None, "")]
    return element("dl", [[element("dt", name), element("dd", value)] for name, value in known], class_="rows")


def facts_of(facts: Sequence[tuple[str, str, Sequence[str]]]) -> Html:
    """The figures that stand first: of each its name, its value, and what is to be known of it, a line each."""
    return element(
        "dl",
        [
            element(
                "div",
                element("dt", name),
                element("dd", value, class_="value"),
                element("dd", [joined([text, element("br")]) for text in more if text], class_="more"),
            )
            for name, value, more in facts
        ],
        class_="facts",
    )


def bar(share: float) -> Html:
    """A share as the length of a bar. It says nothing that does not stand beside it, so it is hidden from a reader by ear."""
    width = min(100.0, max(0.0, 100 * share)) if math.isfinite(share) else 0.0
    inner = element("span", class_="bar", style=f"width:{width:.1f}%")
    return element("span", inner, class_="track", aria_hidden="true")


def _cell(cell: Any, column: Column, first: bool) -> Html:
    shown, value = (cell.shown, _sorted_by(cell.value)) if isinstance(cell, Cell) else (cell, None)
    kind = "number" if column.number else "long" if column.long else None
    if first:
        return element("th", shown, scope="row", class_=kind, data_value=value)
    return element("td", shown, class_=kind, data_value=value)


def _sorted_by(value: float | str | None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(value) if isinstance(value, float) else str(value)
