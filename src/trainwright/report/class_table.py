"""The table of classes: how well each is told, with its interval, and what it is taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainwright.records import BarsChart, Chart, ConfusionChart
from trainwright.report.markup import Html, joined
from trainwright.report.tables import Cell, Column, bar, table
from trainwright.report.wording import NOTHING, finite, score, within


def class_table(charts: Sequence[Chart], result: Mapping[str, Any]) -> Html | None:
    """A row for each class of the unseen images; None where the task has no classes.

    With a confusion matrix also the share of its answers that are right (precision), and what it is taken for most often.
    """
    per_class: Mapping[str, Any] = result.get("per_class") or {}
    if not per_class:
        return None
    intervals = (result.get("intervals") or {}).get("per_class") or {}
    metric = str(result["metric"])
    confusion = next((chart for chart in charts if isinstance(chart, ConfusionChart)), None)
    label = next(
        (chart.label for chart in charts if isinstance(chart, BarsChart)), "right" if metric == "accuracy" else "score"
    )
    columns = [Column(title="class"), Column(title=label, number=True, lower_first=True), Column(title="95 % interval")]
    if confusion is not None:
        columns += [
            Column(title=confusion.unit, number=True),
            Column(title="of its answers right", number=True, lower_first=True),
            Column(title="most often taken for"),
        ]
    rows = []
    for name, value in per_class.items():
        number = finite(value)
        rows.append(
            [
                name,
                Cell(shown=joined([score(number, metric), bar(number)]), value=number),
                Cell(shown=within(intervals.get(name), metric), value=finite((intervals.get(name) or {}).get("low"))),
                *(() if confusion is None else _of_matrix(confusion, name)),
            ]
        )
    return table(columns, rows, caption="Every class, on unseen images")


def _of_matrix(chart: ConfusionChart, name: str) -> list[Cell]:
    if name not in chart.classes:
        return [Cell(shown=NOTHING, value=None)] * 3
    k, matrix_KK = chart.classes.index(name), np.asarray(chart.matrix)
    count, said = int(matrix_KK[k].sum()), int(matrix_KK[:, k].sum())
    precision = matrix_KK[k, k] / said if said else float("nan")
    wrong_K = matrix_KK[k].copy()
    wrong_K[k] = 0
    other = int(wrong_K.argmax())
    mistaken = "" if not wrong_K[other] else f"{chart.classes[other]} ({100 * wrong_K[other] / count:.1f} %)"
    return [
        Cell(shown=f"{count:,}", value=float(count)),
        Cell(shown=score(precision, "accuracy"), value=float(precision)),
        Cell(shown=mistaken, value=float(wrong_K[other]) if wrong_K[other] else None),
    ]
