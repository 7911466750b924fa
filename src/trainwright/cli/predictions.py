"""Predictions as lines of text and as a CSV file, whatever the task."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright.data.problems import printable

SHOWN = 3  # of an image's classes or boxes in a line of text
EDGES = ("left", "top", "right", "bottom")


def said_in_words(item: Mapping[str, Any]) -> str:
    """What was said of one image, in a line."""
    if "error" in item:
        return str(item["error"])
    if "label" in item:
        return f"{item['label']}  {item['probability']:.3f}"
    if "values" in item:
        return "  ".join(f"{name} {value:.4g}" for name, value in item["values"].items())
    if "shares" in item:
        return "  ".join(f"{name} {100 * share:.1f} %" for name, share in _largest(item["shares"]))
    if "boxes" in item:
        counts: dict[str, int] = {}
        for box in item["boxes"]:
            counts[box["label"]] = counts.get(box["label"], 0) + 1
        said = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        return f"{len(item['boxes'])} {'box' if len(item['boxes']) == 1 else 'boxes'}" + (f": {said}" if said else "")
    return "  ".join(f"{key} {value}" for key, value in item.items() if key != "image")


def write_csv(path: Path, predictions: Sequence[Mapping[str, Any]]) -> None:
    """A row an image, or a row a box; an image without any box has a row without one."""
    rows = [row for item in predictions for row in _rows(item)]
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in ("image", "error")))
    if any("boxes" in item for item in predictions):
        columns = ["label", "score", *EDGES]  # also where no image has a box
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["image", *columns, "error"], restval="")
        writer.writeheader()
        writer.writerows({**row, "image": printable(row["image"])} for row in rows)


def _rows(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "boxes" not in item:
        yield _flat(item)
        return
    if not item["boxes"]:
        yield {"image": item["image"]}
    for box in item["boxes"]:
        row = {"image": item["image"], "label": box["label"], "score": box["score"]}
        yield row | dict(zip(EDGES, box["box"], strict=True))


def _flat(item: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name: what is a mapping itself (probabilities, values) gives its own names, `values error` for a taken one."""
    flat = {key: value for key, value in item.items() if not isinstance(value, Mapping)}
    taken = {*flat, "error"}
    for key, inner in item.items():
        if isinstance(inner, Mapping):
            flat |= {f"{key} {name}" if name in taken else name: value for name, value in inner.items()}
    return flat


def _largest(values: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(values.items(), key=lambda pair: -pair[1])[:SHOWN]
