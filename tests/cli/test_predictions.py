"""Predictions of every task as a line of text and as rows of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from trainwright.cli.predictions import said_in_words, write_csv

CAT = {"image": "a.png", "label": "cat", "probability": 0.75, "probabilities": {"cat": 0.75, "dog": 0.25}}
NUMBERS = {"image": "a.png", "values": {"age": 31.25, "weight": 70123.0}}
SHARES = {"image": "a.png", "shares": {"road": 0.5, "sky": 0.25, "car": 0.125, "tree": 0.125}}
BOXES = {
    "image": "a.png",
    "boxes": [
        {"label": "red", "score": 0.9, "box": [1.0, 2.0, 3.0, 4.5]},
        {"label": "blue", "score": 0.8, "box": [0.0, 0.0, 9.0, 9.0]},
        {"label": "red", "score": 0.7, "box": [5.0, 6.0, 7.0, 8.0]},
    ],
}
TORN = {"image": "torn.png", "error": "truncated: the file ends early."}


def rows_of(folder: Path, predictions: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows of a CSV file of the predictions, read back."""
    write_csv(folder / "said.csv", predictions)
    with (folder / "said.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (CAT, "cat  0.750"),
        (NUMBERS, "age 31.25  weight 7.012e+04"),
        (SHARES, "road 50.0 %  sky 25.0 %  car 12.5 %"),
        (BOXES, "3 boxes: 1 blue, 2 red"),
        (TORN, "truncated: the file ends early."),
    ],
    ids=["classification", "regression", "segmentation", "detection", "a bad file"],
)
def test_an_answer_is_said_in_a_line(item: Mapping[str, Any], words: str) -> None:
    assert said_in_words(item) == words


def test_the_largest_shares_are_said_whatever_their_order() -> None:
    item = {"image": "a.png", "shares": {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}}

    assert said_in_words(item) == "d 40.0 %  c 30.0 %  b 20.0 %"


def test_an_image_without_boxes_is_said_to_have_none() -> None:
    assert said_in_words({"image": "a.png", "boxes": []}) == "0 boxes"


def test_a_single_box_is_one() -> None:
    assert said_in_words({"image": "a.png", "boxes": BOXES["boxes"][:1]}) == "1 box: 1 red"


def test_an_answer_of_a_task_of_ones_own_is_said_key_by_key() -> None:
    assert said_in_words({"image": "a.png", "labels": ["red", "round"]}) == "labels ['red', 'round']"


def test_a_class_has_a_column_for_each_probability(tmp_path: Path) -> None:
    assert rows_of(tmp_path, [CAT, TORN]) == [
        {"image": "a.png", "label": "cat", "probability": "0.75", "cat": "0.75", "dog": "0.25", "error": ""},
        {"image": "torn.png", "label": "", "probability": "", "cat": "", "dog": "", "error": TORN["error"]},
    ]


def test_numbers_have_a_column_each(tmp_path: Path) -> None:
    assert rows_of(tmp_path, [TORN, NUMBERS]) == [
        {"image": "torn.png", "age": "", "weight": "", "error": TORN["error"]},
        {"image": "a.png", "age": "31.25", "weight": "70123.0", "error": ""},
    ]


def test_shares_have_a_column_for_each_class_that_was_seen_in_any_image(tmp_path: Path) -> None:
    found = rows_of(tmp_path, [SHARES, {"image": "b.png", "shares": {"car": 0.875, "bus": 0.125}}])

    assert list(found[0]) == ["image", "road", "sky", "car", "tree", "bus", "error"]
    assert [(row["car"], row["bus"]) for row in found] == [("0.125", ""), ("0.875", "0.125")]


def test_boxes_have_a_row_each_with_their_edges(tmp_path: Path) -> None:
    found = rows_of(tmp_path, [BOXES])

    assert list(found[0]) == ["image", "label", "score", "left", "top", "right", "bottom", "error"]
    assert [row["label"] for row in found] == ["red", "blue", "red"]
    assert [found[0][name] for name in ("left", "top", "right", "bottom")] == ["1.0", "2.0", "3.0", "4.5"]


def test_an_image_without_boxes_has_a_row_without_one(tmp_path: Path) -> None:
    found = rows_of(tmp_path, [{"image": "empty.png", "boxes": []}, BOXES, TORN])

    assert [row["image"] for row in found] == ["empty.png", "a.png", "a.png", "a.png", "torn.png"]
    assert set(found[0].values()) == {"empty.png", ""}
    assert [row["error"] != "" for row in found] == [False] * 4 + [True]


def test_names_that_are_taken_are_told_apart(tmp_path: Path) -> None:
    item = {"image": "a.png", "label": "label", "probability": 1.0, "probabilities": {"label": 1.0, "image": 0.0}}

    (found,) = rows_of(tmp_path, [item])

    assert (found["image"], found["label"]) == ("a.png", "label")
    assert (found["probabilities label"], found["probabilities image"]) == ("1.0", "0.0")


def test_a_number_named_error_is_not_taken_for_one(tmp_path: Path) -> None:
    (found,) = rows_of(tmp_path, [{"image": "a.png", "values": {"error": 0.5}}])

    assert found == {"image": "a.png", "values error": "0.5", "error": ""}


def test_names_with_commas_and_line_breaks_survive(tmp_path: Path) -> None:
    (found,) = rows_of(tmp_path, [{"image": "a,b\nc.png", "values": {"x, y": 1.5}}])

    assert found == {"image": "a,b\nc.png", "x, y": "1.5", "error": ""}
