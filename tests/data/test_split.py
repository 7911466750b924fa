"""Parts are stratified, repeatable, independent of names and order, and never tear twins or groups apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.fingerprint import Fingerprint, from_facts
from trainwright.data.memory import Facts
from trainwright.data.number_targets import NumberTargets
from trainwright.data.split import Split, split, unsplittable
from trainwright.data.table import SampleTable
from trainwright.data.targets import ClassTargets
from trainwright.errors import DataError
from trainwright.recipe import DataSpec

SPEC = DataSpec(val_fraction=0.2, test_fraction=0.15)


def planned(
    labels: list[str],
    *,
    parts: list[str] | None = None,
    pixels: list[int] | None = None,
    groups: list[str] | None = None,
) -> tuple[SampleTable, Fingerprint]:
    """A table and fingerprint with one row for each label; equal numbers in `pixels` are twins, -1 is a bad file."""
    numbers = range(len(labels)) if pixels is None else pixels
    classes = tuple(sorted(set(labels)))
    table = SampleTable(
        root=Path("planned"),
        task="classification",
        paths=tuple(f"{row:06d}.png" for row in range(len(labels))),
        targets=ClassTargets(
            indices=np.array([classes.index(label) for label in labels], dtype=np.int64), names=classes
        ),
        parts=np.array(parts or [""] * len(labels), dtype="U5"),
        groups=None if groups is None else tuple(groups),
    )
    facts = [Facts(stamp=(1, 0, 0), pixel_hash="" if n < 0 else f"{n:032x}", width=9, height=9) for n in numbers]
    return table, from_facts(table, facts)


def counts(table: SampleTable, rows: np.ndarray) -> Counter[str]:
    strata = table.targets.strata()
    return Counter(strata[row] for row in rows)


def all_rows(done: Split) -> list[int]:
    return sorted([*done.train, *done.val, *done.test])


def by_content(fingerprint: Fingerprint, done: Split) -> dict[str, str]:
    """Pixel hash to part."""
    parts = {"train": done.train, "val": done.val, "test": done.test}
    return {fingerprint.pixel_hashes[row]: part for part, rows in parts.items() for row in rows}


# ---- which parts there are ----


def test_without_parts_test_is_taken_of_all_and_val_of_the_rest() -> None:
    table, seen = planned(["a"] * 100 + ["b"] * 200)
    done = split(table, seen, SPEC)
    assert counts(table, done.test) == {"a": 15, "b": 30}
    assert counts(table, done.val) == {"a": 17, "b": 34}
    assert all_rows(done) == list(range(300))


def test_a_given_test_part_stays_and_val_is_taken_from_train() -> None:
    table, seen = planned(["a", "b"] * 60, parts=["train"] * 100 + ["test"] * 20)
    done = split(table, seen, SPEC)
    assert done.test.tolist() == list(range(100, 120))
    assert counts(table, done.val) == {"a": 10, "b": 10}


def test_a_given_val_part_stays_and_there_is_no_test() -> None:
    table, seen = planned(["a", "b"] * 60, parts=["train"] * 100 + ["val"] * 20)
    done = split(table, seen, SPEC)
    assert done.val.tolist() == list(range(100, 120))
    assert done.test.tolist() == []
    assert len(done.train) == 100


def test_three_given_parts_stay() -> None:
    table, seen = planned(["a", "b"] * 3, parts=["train", "train", "val", "val", "test", "test"])
    done = split(table, seen, SPEC)
    assert (done.train.tolist(), done.val.tolist(), done.test.tolist()) == ([0, 1], [2, 3], [4, 5])


def test_a_train_part_alone_gives_val_and_test() -> None:
    table, seen = planned(["a", "b"] * 50, parts=["train"] * 100)
    assert len(split(table, seen, SPEC).test) > 0


def test_rows_are_sorted_int64() -> None:
    table, seen = planned(["a", "b"] * 50)
    for rows in (done := split(table, seen, SPEC)).train, done.val, done.test:
        assert rows.dtype == np.int64
        assert (np.diff(rows) > 0).all()


def test_bad_files_are_in_no_part() -> None:
    table, seen = planned(["a", "b"] * 20, pixels=[-1, -1, *range(38)])
    assert all_rows(split(table, seen, SPEC)) == list(range(2, 40))


# ---- properties ----


@given(
    sizes=st.lists(st.integers(2, 60), min_size=2, max_size=5),
    val=st.floats(0.05, 0.5),
    seed=st.integers(0, 2**31),
)
def test_val_has_its_fraction_of_each_class_within_one_image(sizes: list[int], val: float, seed: int) -> None:
    labels = [f"c{index}" for index, size in enumerate(sizes) for _ in range(size)]
    table, seen = planned([*labels, *labels], parts=["train"] * len(labels) + ["test"] * len(labels))
    done = split(table, seen, DataSpec(val_fraction=val, split_seed=seed))
    for index, size in enumerate(sizes):
        assert abs(counts(table, done.val)[f"c{index}"] - val * size) <= 1
        assert 1 <= counts(table, done.val)[f"c{index}"] < size


@given(pixels=st.lists(st.integers(0, 30), min_size=8, max_size=80), seed=st.integers(0, 1000))
def test_twins_stay_together(pixels: list[int], seed: int) -> None:
    ends = [100, 101, 102, 100, 101, 102]
    table, seen = planned([*("ab"[n % 2] for n in pixels), *"aaabbb"], pixels=[*pixels, *ends[:3], 103, 104, 105])
    done = split(table, seen, DataSpec(split_seed=seed))
    contents = [{seen.pixel_hashes[row] for row in rows} for rows in (done.train, done.val, done.test)]
    assert sum(map(len, contents)) == len(set.union(*contents))
    assert len(all_rows(done)) == len(table)


@given(
    members=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=5, max_size=60),
    seed=st.integers(0, 1000),
)
def test_groups_stay_together(members: list[tuple[str, int]], seed: int) -> None:
    alone = [("a", 100), ("a", 101), ("a", 102), ("b", 103), ("b", 104), ("b", 105)]
    labels, groups = zip(*members, *alone, strict=True)
    table, seen = planned(list(labels), groups=[f"g{group}" for group in groups])
    done = split(table, seen, DataSpec(split_seed=seed))
    parts = [{groups[row] for row in rows} for rows in (done.train, done.val, done.test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert set(counts(table, done.train)) == set(counts(table, done.val)) == {"a", "b"}


@given(order=st.permutations(range(40)), seed=st.integers(0, 1000))
def test_parts_depend_on_content_not_on_names_or_order(order: list[int], seed: int) -> None:
    labels = ["ab"[number % 2] for number in range(40)]
    table, seen = planned(labels)
    shuffled, seen_shuffled = planned([labels[number] for number in order], pixels=list(order))
    spec = DataSpec(split_seed=seed)
    one, other = split(table, seen, spec), split(shuffled, seen_shuffled, spec)
    assert by_content(seen, one) == by_content(seen_shuffled, other)
    assert one.digest == other.digest


@given(seed=st.integers(0, 1000), added=st.integers(1, 5))
def test_a_few_more_images_move_few_others(seed: int, added: int) -> None:
    table, seen = planned(["a"] * 100 + ["b"] * 100)
    larger, seen_larger = planned(["a"] * 100 + ["b"] * 100 + ["a"] * added)
    spec = DataSpec(split_seed=seed)
    before = by_content(seen, split(table, seen, spec))
    after = by_content(seen_larger, split(larger, seen_larger, spec))
    assert sum(after[content] != part for content, part in before.items()) <= 2 * added


@given(seed=st.integers(0, 1000))
def test_no_image_goes_from_test_to_val_when_images_are_added(seed: int) -> None:
    table, seen = planned(["a"] * 50 + ["b"] * 50)
    larger, seen_larger = planned(["a"] * 50 + ["b"] * 50 + ["a"] * 20)
    spec = DataSpec(split_seed=seed)
    before = by_content(seen, split(table, seen, spec))
    after = by_content(seen_larger, split(larger, seen_larger, spec))
    assert not any(part == "test" and after[content] == "val" for content, part in before.items())


def test_another_seed_gives_other_parts() -> None:
    table, seen = planned(["a", "b"] * 50)
    assert split(table, seen, DataSpec(split_seed=0)).digest != split(table, seen, DataSpec(split_seed=1)).digest


def test_the_digest_changes_with_a_label() -> None:
    table, seen = planned(["a", "b"] * 3, parts=["train", "train", "val", "val", "test", "test"])
    swapped = replace(table, targets=ClassTargets(indices=np.array([1, 0] * 3), names=table.classes))
    assert split(swapped, seen, SPEC).digest != split(table, seen, SPEC).digest


# ---- small classes ----


def test_a_class_of_two_images_has_one_in_train_and_one_in_val() -> None:
    table, seen = planned(["a"] * 20 + ["b"] * 2)
    done = split(table, seen, SPEC)
    assert (counts(table, done.train)["b"], counts(table, done.val)["b"], counts(table, done.test)["b"]) == (1, 1, 0)


def test_a_class_of_three_images_has_one_in_each_part() -> None:
    table, seen = planned(["a"] * 20 + ["b"] * 3)
    done = split(table, seen, SPEC)
    assert (counts(table, done.train)["b"], counts(table, done.val)["b"], counts(table, done.test)["b"]) == (1, 1, 1)


def test_a_class_of_one_image_and_its_twins_is_refused_by_name() -> None:
    table, seen = planned(["a"] * 20 + ["b"] * 4, pixels=[*range(20), 50, 50, 50, 50])
    with pytest.raises(
        DataError, match="no val part can be taken from b: all usable images of such a class are one image"
    ):
        split(table, seen, SPEC)


def test_a_class_of_one_group_is_refused_by_name() -> None:
    table, seen = planned(["a"] * 20 + ["b"] * 4, groups=[""] * 20 + ["p1"] * 4)
    with pytest.raises(DataError, match="no val part can be taken from b"):
        split(table, seen, SPEC)


def test_a_class_of_one_image_is_no_matter_where_val_is_given() -> None:
    table, seen = planned(["a", "a", "b", "a", "b"], parts=["train"] * 3 + ["val"] * 2)
    assert split(table, seen, SPEC).train.tolist() == [0, 1, 2]


def test_a_class_that_is_never_the_main_one_of_its_groups_is_on_both_sides() -> None:
    labels = ["a", "a", "b"] * 12
    table, seen = planned(labels, groups=[f"g{row // 3}" for row in range(36)])
    done = split(table, seen, DataSpec(val_fraction=0.1))
    assert {*counts(table, done.train)} == {*counts(table, done.val)} == {"a", "b"}


# ---- numbers ----


def with_numbers(values: list[float], *, groups: list[str] | None = None) -> tuple[SampleTable, Fingerprint]:
    """A table of one number column and its fingerprint."""
    table, _ = planned(["a"] * len(values), groups=groups)
    targets = NumberTargets(values=np.array(values, dtype=np.float64)[:, None], names=("y",))
    table = replace(table, targets=targets)
    facts = [Facts(stamp=(1, 0, 0), pixel_hash=f"{n:032x}", width=9, height=9) for n in range(len(values))]
    return table, from_facts(table, facts)


@given(seed=st.integers(0, 1000))
def test_numbers_are_spread_evenly_over_the_parts(seed: int) -> None:
    table, seen = with_numbers([float(number) for number in range(100)])
    done = split(table, seen, DataSpec(val_fraction=0.2, test_fraction=0.15, split_seed=seed))
    assert Counter(row // 20 for row in done.test.tolist()) == {0: 3, 1: 3, 2: 3, 3: 3, 4: 3}
    assert Counter(row // 20 for row in done.val.tolist()) == {0: 3, 1: 3, 2: 3, 3: 3, 4: 3}


def test_a_dozen_numbers_give_no_more_than_the_fraction() -> None:
    table, seen = with_numbers([float(number) for number in range(12)])
    done = split(table, seen, SPEC)
    assert (len(done.train), len(done.val), len(done.test)) == (8, 2, 2)


def test_groups_that_each_hold_one_bin_still_give_a_val_part() -> None:
    table, seen = with_numbers([float(row // 20) for row in range(100)], groups=[f"g{row // 20}" for row in range(100)])
    done = split(table, seen, SPEC)
    assert (len(done.train), len(done.val), len(done.test)) == (60, 20, 20)


def test_numbers_of_a_single_group_cannot_be_split() -> None:
    table, seen = with_numbers([float(number) for number in range(20)], groups=["p1"] * 20)
    (problem,) = unsplittable(table, seen)
    assert (problem.kind, problem.severity) == ("class-too-small", "error")
    with pytest.raises(
        DataError, match="no val part can be taken from this dataset: all usable images of such a dataset"
    ):
        split(table, seen, SPEC)


# ---- real images ----


def test_real_cats_and_dogs_are_split_evenly(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    data: Dataset = open_dataset(real_data("cats-dogs"), cache_dir=tmp_path)
    done = data.split(SPEC)
    assert (len(done.train), len(done.val), len(done.test)) == (4440, 1110, 2000)
    assert counts(data.table, done.val) == {"cat": 555, "dog": 555}


def test_real_flowers_keep_their_twins_together(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    data = open_dataset(real_data("flowers12"), cache_dir=tmp_path)
    (twins,) = [problem.files for problem in data.problems if problem.kind == "duplicate-in-part"]
    rows = [data.table.paths.index(file) for file in twins]
    for seed in range(20):
        done = data.split(DataSpec(split_seed=seed))
        assert np.isin(rows, done.val).all() or np.isin(rows, done.train).all()


def test_a_split_says_how_many_images_each_part_has_and_which_are_in_two():
    rows = np.arange(1500)
    own = Split(train=rows[:1200], val=rows[1200:1400], test=rows[1400:], digest="")
    shared = replace(own, train=rows[:1400])

    assert (str(own), own.counts) == ("train 1,200, val 200, test 100 images", {"train": 1200, "val": 200, "test": 100})
    assert str(shared) == "train 1,400, val 200, which are among those of train, test 100 images"
