"""The spaces that a search looked at: the first one, and the follow-ups beyond its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.report.markup import Html, element, joined
from trainwright.report.tables import Cell, Column, table
from trainwright.report.wording import score


def nuisance_of(space: Mapping[str, Any]) -> frozenset[str]:
    """The keys that nobody asked about: wherever they are searched they are nuisance. space: as its file has it."""
    entries = {key: entry if isinstance(entry, list) else [entry] for key, entry in space.items()}
    return frozenset(key for key, found in entries.items() if all(one.get("role") == "nuisance" for one in found))


def spaces_table(spaces: Sequence[Mapping[str, Any]], metric: str) -> Html | None:
    """A row for each; None where there was no follow-up. spaces: of the result."""
    if len(spaces) < 2:
        return None
    columns = [
        Column(title="space", number=True, lower_first=True),
        Column(title="because the best lay at"),
        Column(title="then looked at"),
        Column(title="trials", number=True),
        Column(title=f"best {metric}", number=True),
    ]
    rows = []
    for number, one in enumerate(spaces):
        edges = one["because"]
        looked = one["within"] or one["space"]
        best = one["best_score"]
        rows.append(
            [
                Cell(shown=number, value=float(number)),
                _lines(
                    f"the {edge['end']} end of {edge['key']}, {edge['low']:.3g} to {edge['high']:.3g}" for edge in edges
                )
                if edges
                else "the space that was asked for",
                _lines(f"{key} {range_}" for key, range_ in _ranges(looked, [edge["key"] for edge in edges])),
                Cell(shown=len(one["trials"]), value=float(len(one["trials"]))),
                Cell(shown="none" if best is None else score(best, metric), value=best),
            ]
        )
    return table(columns, rows, caption="Spaces: where the best lay at an end of a range, a follow-up looked beyond it")


def _ranges(space: Mapping[str, Any], named: Sequence[str]) -> list[tuple[str, str]]:
    """Of the keys that a follow-up moved; of the first space all of them."""
    keys = [name.partition("[")[0] for name in named] or list(space)
    found = []
    for key in dict.fromkeys(keys):
        entry = space[key]
        ranges = [one for one in (entry if isinstance(entry, list) else [entry]) if "low" in one]
        found += [(key, f"{one['low']:.3g} to {one['high']:.3g}") for one in ranges]
    return found


def _lines(said: Any) -> Html:
    return joined([joined([element("code", text), element("br")]) for text in said])
