"""Every time that the test part was looked at."""

from __future__ import annotations

from collections.abc import Sequence

from trainwright.report.markup import Html, element, joined
from trainwright.report.tables import Cell, Column, table
from trainwright.report.values import Opening
from trainwright.report.wording import NOTHING, finite, moment, score, within

CAME_TO_NOTHING = "It was opened and ended before a score was written: somebody may have seen these images."


def opened(openings: Sequence[Opening], *, heading: bool = True) -> Html | None:
    """A row for each opening with its date, score and what is to be thought of it; None where there was none. heading: of its
    own, where it does not stand in a section for it."""
    if not openings:
        return None
    columns = [
        Column(title="opened"),
        Column(title="run"),
        Column(title="score", number=True),
        Column(title="95 % interval"),
        Column(title="images", number=True),
        Column(title="what it is worth"),
    ]
    rows = []
    for one in openings:
        if one.result is None:
            when = Cell(shown=moment(one.time), value=finite(one.time))
            rows.append(
                [when, one.run, Cell(shown=NOTHING, value=None), "", Cell(shown=NOTHING, value=None), CAME_TO_NOTHING]
            )
            continue
        result, metric = one.result, str(one.result["metric"])
        rows.append(
            [
                Cell(shown=moment(one.time), value=finite(one.time)),
                str(result["run"]),
                Cell(shown=score(result["test"]["score"], metric), value=finite(result["test"]["score"])),
                within(result["test"], metric),
                Cell(shown=f"{result['images']:,}", value=float(result["images"])),
                str(result["note"]),
            ]
        )
    head = element("h3", "The test part") if heading else None
    return joined([head, table(columns, rows, caption="Every look at the locked test images")])


def test_facts(openings: Sequence[Opening], metric: str) -> list[tuple[str, str, Sequence[str]]]:
    """The score of the first opening that came to one, as a fact (`tables.facts_of`); none where none did."""
    first = next((one for one in openings if one.result is not None), None)
    if first is None or first.result is None:
        return []
    test = first.result["test"]
    more = (within(test, metric), f"opened {moment(first.time)}" if first.time else "opened")
    return [(f"{metric} on the test part", score(test["score"], metric), more)]
