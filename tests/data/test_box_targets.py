"""Boxes held against their images: each fault named in full; then counted, split, and laid beside the stored pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from trainwright.data.augment import Moves
from trainwright.data.box_faults import Annotation, RawBox
from trainwright.data.box_targets import BoxTargets
from trainwright.data.memory import Facts
from trainwright.data.problems import DATASET_WIDE, Problem
from trainwright.data.table import SampleTable
from trainwright.data.targets import Stored
from trainwright.errors import DataError

NAMES = ("cat", "dog")
GOOD = ("cat", 10, 10, 50, 40)


def table_of(targets: BoxTargets, parts: Sequence[str] = ()) -> SampleTable:
    paths = tuple(f"images/{row}.png" for row in range(len(targets)))
    marks = np.array(parts or [""] * len(targets), dtype="U5")
    return SampleTable(root=Path(), task="detection", paths=paths, targets=targets, parts=marks)


def looked(targets: BoxTargets, width: int = 100, height: int = 80) -> BoxTargets:
    facts = [Facts(stamp=(1, 1, 1), pixel_hash="x", width=width, height=height)] * len(targets)
    return targets.looked_at(table_of(targets), facts, workers=1, progress=None, cache_dir=None)


def annotation(*boxes: tuple, **stated) -> Annotation:
    raw = tuple(RawBox(label, *edges, f"object {place}") for place, (label, *edges) in enumerate(boxes, 1))
    return Annotation(file="labels/0.xml", boxes=raw, **stated)


def judged(*boxes: tuple, **stated) -> BoxTargets:
    return looked(BoxTargets.from_annotations([annotation(*boxes, **stated)], NAMES))


def arrays(*images: list, names: Sequence[str] = NAMES) -> BoxTargets:
    return looked(BoxTargets.from_arrays([np.array(boxes, dtype=np.float64) for boxes in images], names))


def wide(targets: BoxTargets, parts: Sequence[str]) -> list[Problem]:
    return list(targets.problems(table_of(targets, parts), np.ones(len(targets), dtype=bool)))


# ---- faults ----


def test_good_boxes_stay_as_they_are_and_nothing_is_said() -> None:
    targets = judged(("dog", 0, 0, 100, 80), GOOD)
    assert targets.text(0) == '[["cat",10.0,10.0,50.0,40.0],["dog",0.0,0.0,100.0,80.0]]'
    assert targets.found == ()
    assert targets.usable().all()


@pytest.mark.parametrize(
    ("box", "kind", "message", "becomes"),
    [
        (
            ("cat", 90, 10, 110.5, 40),
            "box-outside",
            "object 1 (cat: 90, 10, 110.5, 40): it reaches outside of the image; cut at its edge. Check it.",
            '[["cat",90.0,10.0,100.0,40.0]]',
        ),
        (
            ("cat", 101, 10, 120, 40),
            "box-outside",
            "object 1 (cat: 101, 10, 120, 40): less than a pixel of it lies inside of the image; left out. "
            "Draw it anew, or remove it.",
            "[]",
        ),
        (
            ("cat", -1, 10, 0, 40),
            "box-outside",
            "object 1 (cat: -1, 10, 0, 40): less than a pixel of it lies inside of the image; left out. "
            "Draw it anew, or remove it.",
            "[]",
        ),
        (
            ("cat", 50, 10, 10, 40),
            "box-inverted",
            "object 1 (cat: 50, 10, 10, 40): its edges are the wrong way round; swapped. Check it.",
            '[["cat",10.0,10.0,50.0,40.0]]',
        ),
        (
            ("cat", 10, 40, 50, 10),
            "box-inverted",
            "object 1 (cat: 10, 40, 50, 10): its edges are the wrong way round; swapped. Check it.",
            '[["cat",10.0,10.0,50.0,40.0]]',
        ),
        (
            ("cat", 10, 10, 10.99, 40),
            "box-without-area",
            "object 1 (cat: 10, 10, 10.99, 40): it is thinner than a pixel; left out. Draw it anew, or remove it.",
            "[]",
        ),
        (
            ("cat", 99.5, 10, 100.7, 40),
            "box-without-area",
            "object 1 (cat: 99.5, 10, 100.7, 40): inside of the image it is thinner than a pixel; left out. "
            "Draw it anew, or remove it.",
            "[]",
        ),
        (
            ("cat", float("nan"), 10, 50, 40),
            "box-not-a-number",
            "object 1 (cat: nan, 10, 50, 40): an edge is missing or no number; left out. Draw it anew, or remove it.",
            "[]",
        ),
        (
            ("cat", 10, 10, float("inf"), 40),
            "box-not-a-number",
            "object 1 (cat: 10, 10, inf, 40): an edge is missing or no number; left out. Draw it anew, or remove it.",
            "[]",
        ),
        (
            (None, 10, 10, 50, 40),
            "class-unknown",
            "object 1 (10, 10, 50, 40): its class is not listed; left out. Draw it anew, or remove it.",
            "[]",
        ),
    ],
)
def test_each_fault_is_named_with_file_place_class_numbers_and_what_was_done(
    box: tuple, kind: str, message: str, becomes: str
) -> None:
    targets = judged(box)
    assert targets.found == (Problem(kind=kind, severity="warning", files=("labels/0.xml",), message=message),)
    assert targets.text(0) == becomes


def test_up_to_a_pixel_outside_is_cut_silently() -> None:
    targets = judged(("cat", -1, -0.5, 101, 81))
    assert targets.found == ()
    assert targets.text(0) == '[["cat",0.0,0.0,100.0,80.0]]'


def test_a_box_exactly_a_pixel_wide_is_kept() -> None:
    targets = judged(("cat", 9.37, 10, 10.37, 11))
    assert (targets.found, targets.counts(np.array([0]))["cat"]) == ((), 1)


def test_a_swapped_box_is_checked_again() -> None:
    targets = judged(("cat", 150, 10, 50, 40))
    assert [problem.kind for problem in targets.found] == ["box-inverted", "box-outside"]
    assert targets.text(0) == '[["cat",50.0,10.0,100.0,40.0]]'


def test_only_the_repeats_of_a_box_are_left_out_and_named() -> None:
    targets = judged(GOOD, ("dog", *GOOD[1:]), GOOD, ("cat", 50, 40, 10, 10))
    repeats = [problem.message.split(":")[0] for problem in targets.found if problem.kind == "box-repeated"]
    assert repeats == ["object 3 (cat", "object 4 (cat"]
    assert targets.counts(np.array([0])) == {"cat": 1, "dog": 1}


def test_the_same_box_in_two_images_is_no_repeat() -> None:
    assert arrays([[0, 1, 1, 9, 9]], [[0, 1, 1, 9, 9]]).found == ()


def test_a_stated_size_that_the_image_does_not_have_is_named_and_the_boxes_stay() -> None:
    targets = judged(GOOD, width=80, height=100)
    (problem,) = targets.found
    assert (problem.kind, problem.files) == ("size-differs", ("labels/0.xml",))
    assert problem.message.startswith(
        "states 80 x 100 pixels, the image has 100 x 80; its boxes are taken as they stand."
    )
    assert targets.text(0) == '[["cat",10.0,10.0,50.0,40.0]]'


def test_a_size_of_zero_is_one_that_is_not_stated() -> None:
    assert judged(GOOD, width=0, height=0).found == ()


def test_an_image_that_cannot_be_used_has_no_boxes_and_no_faults() -> None:
    targets = BoxTargets.from_annotations([annotation(("cat", 5, 5, 1, 1), width=10, height=10)], NAMES)
    bad = looked(targets, width=0, height=0)
    assert (bad.found, bad.text(0)) == ((), "[]")


def test_looking_twice_gives_the_same() -> None:
    once = judged(("cat", 90, 10, 110, 40), GOOD)
    assert (looked(once).text(0), looked(once).found) == (once.text(0), once.found)


def test_listed_classes_without_a_box_are_dropped_where_a_format_lists_them() -> None:
    raw = [annotation(("dog", 1, 1, 9, 9), ("ant", 1, 1, 1, 1))]
    targets = looked(BoxTargets.from_annotations(raw, ("ant", "cat", "dog"), only_used=True))
    assert targets.names == ("dog",)
    assert targets.text(0) == '[["dog",1.0,1.0,9.0,9.0]]'
    assert targets.found[-1].kind == "class-unused"
    assert targets.found[-1].message.startswith("no image has a box of ant, cat: left out of the classes.")


# ---- the dataset as a whole ----


def test_no_box_to_learn_from_is_refused() -> None:
    (problem,) = wide(arrays([], []), ["", ""])
    assert (problem.kind, problem.severity) == ("too-few-classes", "error")


def test_one_class_is_enough() -> None:
    targets = arrays(*[[[0, 1, 1, 9, 9]]] * 5, names=("cat",))
    assert wide(targets, [""] * 5) == []


def test_a_class_that_train_does_not_have_is_refused() -> None:
    five = [[0, place, 1, place + 5, 9] for place in range(5)]
    problems = wide(arrays(five, [*five, *[[1, *box[1:]] for box in five]]), ["train", "val"])
    assert [(problem.kind, problem.severity) for problem in problems] == [("class-missing", "error")]
    assert problems[0].message == "val has boxes of dog, train has none. Add some, or rename the class."
    assert problems[0].kind in DATASET_WIDE


def test_a_class_that_cannot_be_judged_is_a_warning() -> None:
    five = [[0, place, 1, place + 5, 9] for place in range(5)]
    problems = wide(arrays([*five, *[[1, *box[1:]] for box in five]], five), ["train", "val"])
    assert [(problem.kind, problem.severity) for problem in problems] == [("class-not-judged", "warning")]
    assert problems[0].message == "no box of dog in val: how well it is found cannot be told. Add some."
    assert problems[0].kind not in DATASET_WIDE


def test_fewer_than_five_boxes_of_a_class_are_a_warning() -> None:
    (problem,) = wide(arrays([[0, place, 1, place + 5, 9] for place in range(4)], names=("cat",)), [""])
    assert (problem.kind, problem.message) == ("few-boxes", "class 'cat' has only 4 boxes. Add images of it.")


def test_images_that_cannot_be_used_do_not_count() -> None:
    targets = arrays([[0, 1, 1, 9, 9]], [[0, 1, 1, 9, 9]], names=("cat",))
    problems = targets.problems(table_of(targets), np.array([True, False]))
    assert [problem.message for problem in problems] == ["class 'cat' has only 1 box. Add images of it."]


def test_an_image_stands_for_its_rarest_class_and_background_for_none() -> None:
    cat, dog = [0, 1, 1, 9, 9], [1, 1, 1, 9, 9]
    more_dogs = [1, 20, 20, 30, 30], [1, 40, 40, 50, 50], [1, 60, 60, 70, 70]  # many boxes, yet in one image
    targets = arrays([cat], [cat, dog, *more_dogs], [], [cat])
    assert targets.strata() == ["cat", "dog", "", "cat"]
    assert not targets.every_stratum_in_every_part


def test_counts_are_of_boxes() -> None:
    targets = arrays([[0, 1, 1, 9, 9], [0, 2, 2, 9, 9]], [[1, 1, 1, 9, 9]], [])
    assert targets.counts(np.array([0, 2])) == {"cat": 2, "dog": 0}
    assert targets.counts(np.array([0, 1, 2])) == {"cat": 2, "dog": 1}


# ---- in memory ----


def test_arrays_become_boxes_with_padding() -> None:
    targets = arrays([[1, 2, 3, 40, 50]], [])
    assert targets.array(np.array([1, 0])).tolist() == [[[-1, 0, 0, 0, 0]], [[1, 2, 3, 40, 50]]]


def test_a_dataset_without_any_box_has_room_for_one() -> None:
    assert arrays([], []).array(np.array([0, 1])).shape == (2, 1, 5)


def test_a_class_number_that_is_none_is_named_with_the_image() -> None:
    targets = arrays([[0, 1, 1, 9, 9]], [[2, 1, 1, 9, 9], [0.5, 1, 1, 9, 9]])
    assert [(p.kind, p.files, p.message.split(":")[0]) for p in targets.found] == [
        ("class-unknown", ("images/1.png",), "box 0 of class 2 (1, 1, 9, 9)"),
        ("class-unknown", ("images/1.png",), "box 1 of class 0.5 (1, 1, 9, 9)"),
    ]


def test_arrays_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"from_arrays: image 1: expected boxes \[M, 5\], got \[2, 4\]"):
        BoxTargets.from_arrays([np.zeros((0, 5)), np.zeros((2, 4))], NAMES)


# ---- beside the stored images ----


def stored(fit: str, size: tuple[int, int], rows: int, width: int = 100, height: int = 80) -> Stored:
    sizes = {"widths": np.full(rows, width, np.int32), "heights": np.full(rows, height, np.int32)}
    return Stored(root=Path(), rows=np.arange(rows), size=size, fit=fit, **sizes)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [
        ("squash", [0, 4, 4, 20, 16]),  # 100 x 80 to 40 x 32: all by 0.4
        ("crop", [0, 4, 4, 20, 16]),
        ("pad", [0, 4, 4, 20, 16]),
    ],
)
def test_boxes_follow_their_images_to_the_stored_size(fit: str, expected: list[float]) -> None:
    taken = arrays([[0, 10, 10, 50, 40]]).source(stored(fit, (32, 40), 1)).take(np.array([0]))
    assert taken.dtype == np.float32
    np.testing.assert_allclose(taken[0], [expected], rtol=1e-6)


def test_cropping_cuts_boxes_and_leaves_out_those_that_are_mostly_gone() -> None:
    # 100 x 80 cropped to 80 x 80 loses 10 pixels on the left and the right
    boxes = [[0, 0, 0, 20, 20], [0, 0, 0, 13, 20], [1, 0, 0, 9, 20], [1, 40, 40, 60, 60]]
    taken = arrays(boxes).source(stored("crop", (80, 80), 1)).take(np.array([0]))
    assert taken[0].tolist() == [[0, 0, 0, 10, 20], [1, 30, 40, 50, 60], [-1, 0, 0, 0, 0], [-1, 0, 0, 0, 0]]


def test_rows_are_given_in_the_order_asked_for_and_as_new_arrays() -> None:
    source = arrays([[0, 1, 1, 9, 9]], [], [[1, 2, 2, 8, 8], [0, 3, 3, 7, 7]]).source(stored("squash", (80, 100), 3))
    taken = source.take(np.array([2, 0, 1]))
    assert taken[:, :, 0].tolist() == [[0, 1], [0, -1], [-1, -1]]
    taken[:] = 7
    assert source.take(np.array([1])).max() == 0


def test_the_order_of_boxes_does_not_depend_on_that_in_the_file() -> None:
    boxes = [[1, 2, 2, 8, 8], [0, 30, 3, 70, 7], [0, 3, 3, 7, 7]]
    one, other = (arrays(order).source(stored("squash", (80, 100), 1)) for order in (boxes, boxes[::-1]))
    np.testing.assert_array_equal(one.take(np.array([0])), other.take(np.array([0])))


def test_each_box_is_placed_by_the_size_of_its_own_image() -> None:
    box = [0, 10, 10, 50, 40]
    sizes = {"widths": np.array([100, 200, 100, 100]), "heights": np.array([80, 80, 160, 80])}
    lying = Stored(root=Path(), rows=np.array([0, 1, 2]), size=(80, 100), fit="squash", **sizes)
    taken = arrays([box], [box], [box], [box]).source(lying).take(np.array([2, 1, 0, 3]))
    assert taken[:, 0].tolist() == [[0, 10, 5, 50, 20], [0, 5, 10, 25, 40], box, [-1, 0, 0, 0, 0]]  # 3 is not stored


def test_boxes_are_mirrored_with_their_images() -> None:
    source = arrays([[0, 10, 10, 50, 40]]).source(stored("squash", (80, 100), 1))
    moves = Moves(windows_N4=np.array([[0, 0, 100, 80]]), flips_N=np.array([True]), size=(80, 100))
    assert source.moved(source.take(np.array([0])), moves).tolist() == [[[0, 50, 10, 90, 40]]]


def test_a_part_without_any_box_cannot_be_judged_on() -> None:
    five = [[0, place, 1, place + 5, 9] for place in range(5)]
    (problem,) = wide(arrays(five, [], names=("cat",)), ["train", "test"])
    assert (problem.kind, problem.severity) == ("nothing-to-judge", "error")
    assert problem.kind in DATASET_WIDE
