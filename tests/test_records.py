"""Values that travel: what an interval refuses, and what JSON is made of them."""

import json
import math
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.records import Answers, EpochRecord, Finding, Interval, Means, Scores, part_of, to_json

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.tuples(inner), st.dictionaries(st.text(), inner)),
    max_leaves=20,
)


def test_an_interval_holds_its_value():
    with pytest.raises(ValueError, match=r"^Interval: 0\.9 does not lie between 0\.1 and 0\.5$"):
        Interval(value=0.9, low=0.1, high=0.5)


@pytest.mark.parametrize("edge", [0.1, 0.5])
def test_an_interval_may_end_at_its_value(edge):
    assert Interval(value=edge, low=0.1, high=0.5).value == edge


def test_an_interval_without_a_value_is_allowed():
    assert math.isnan(Interval(value=math.nan, low=math.nan, high=math.nan).value)


@pytest.mark.parametrize(("low", "high"), [(math.nan, 0.5), (0.1, math.nan)])
def test_an_interval_of_a_value_has_both_ends(low, high):
    with pytest.raises(ValueError, match="does not lie between"):
        Interval(value=0.3, low=low, high=high)


def test_a_record_becomes_an_object_with_its_parts():
    means = Means(loss=0.5, score=0.75)
    record = EpochRecord(
        epoch=1, step=10, train_running=means, train=means, val=Means(loss=math.nan, score=0.5), lr=1e-3,
        seconds=2.0, images_per_second=320.0, step_seconds=0.2, memory_bytes=0,
    )  # fmt: skip

    tree = to_json(record)

    assert tree["train"] == {"loss": 0.5, "score": 0.75}
    assert tree["val"] == {"loss": None, "score": 0.5}
    assert list(tree) == [
        "epoch", "step", "train_running", "train", "val", "lr", "seconds", "images_per_second", "step_seconds", "memory_bytes",
    ]  # fmt: skip


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_a_number_that_is_not_finite_becomes_null(number):
    assert to_json({"loss": number}) == {"loss": None}


def test_arrays_become_lists_of_plain_numbers():
    scores = Scores(
        score=0.5,
        loss=1.0,
        per_image=np.array([1.0, np.nan, 0.0]),
        tally=np.array([[1.0, 1.0], [np.inf, 1.0], [0.0, 1.0]]),
        per_class={"cat": 0.5},
        metrics={"mae": 2.5},
    )

    assert to_json(scores) == {
        "score": 0.5,
        "loss": 1.0,
        "per_image": [1.0, None, 0.0],
        "tally": [[1.0, 1.0], [None, 1.0], [0.0, 1.0]],
        "per_class": {"cat": 0.5},
        "metrics": {"mae": 2.5},
    }


def test_a_part_of_answers_keeps_rows_and_columns_together_in_the_order_asked_for():
    answers = Answers(rows=np.array([7, 3, 5]), columns={"values": np.array([[0.7], [0.3], [0.5]])})

    part = part_of(answers, np.array([2, 0]))

    assert part.rows.tolist() == [5, 7]
    assert part.columns["values"].tolist() == [[0.5], [0.7]]


def test_no_part_of_answers_keeps_their_shape():
    part = part_of(Answers(rows=np.arange(3), columns={"masks": np.zeros((3, 4, 5))}), np.array([], dtype=np.int64))

    assert (len(part.rows), part.columns["masks"].shape) == (0, (0, 4, 5))


@pytest.mark.parametrize(
    ("value", "kind"), [(np.int64(3), int), (np.float32(0.5), float), (np.bool_(True), bool), (np.str_("cat"), str)]
)
def test_numpy_scalars_become_plain_values(value, kind):
    assert type(to_json(value)) is kind


def test_an_array_without_axes_becomes_a_number():
    assert to_json(np.array(2)) == 2


def test_keys_become_text_and_keep_their_order():
    assert list(to_json(OrderedDict([(2, "b"), (1, "a")]))) == ["2", "1"]


def test_a_finding_survives_a_line_of_json():
    finding = Finding(rule="overfits", verdict="yes", evidence="gap 0.25", advice="Augment.", figures={"gap": 0.25})

    assert Finding(**json.loads(json.dumps(to_json(finding)))) == finding


@given(trees)
def test_whatever_goes_in_strict_json_comes_out(tree):
    text = json.dumps(to_json(tree), allow_nan=False)

    assert to_json(json.loads(text)) == json.loads(text)
