"""Every time that the test part was looked at."""

from __future__ import annotations

from collections.abc import Sequence

from trainwright.report.markup import Html, element, joined
from trainwright.report.tables import Cell, Column, table
from trainwright.report.values import Opening
from trainwright.report.wording import finite, moment, score, within


def opened(openings: Sequence[Opening]) -> Html | None:
    """A row for each opening with its date, score and what is to be thought of it; None where there was none."""
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
    return joined(
        [element("h3", "The test part"), table(columns, rows, caption="Every look at the locked test images")]
    )
