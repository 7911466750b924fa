"""Numbers of images: how they are read from tables, what is wrong with them, and how they are grouped and described."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from trainwright.data.csv_layout import read_csv
from trainwright.data.csv_parts import read_beside, read_parts_csv
from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.number_targets import NumberTargets
from trainwright.data.table import SampleTable
from trainwright.errors import DataError, UnknownNameError, UsageError
from trainwright.recipe import DataSpec

Write = Callable[..., Path]


def of_values(*columns: list[float], parts: list[str] | None = None) -> SampleTable:
    """A table of images 0, 1, … with number columns a, b, …"""
    values = np.array(columns, dtype=np.float64).T
    return SampleTable(
        root=Path("planned"),
        task="regression",
        paths=tuple(str(row) for row in range(len(values))),
        targets=NumberTargets(values=values, names=tuple("abcdef"[: values.shape[1]])),
        parts=np.array(parts or [""] * len(values), dtype="U5"),
    )


def kinds(table: SampleTable) -> list[tuple[str, str, tuple[str, ...]]]:
    found = table.targets.problems(table, table.targets.usable())
    return [(problem.kind, problem.severity, problem.files) for problem in found]


# ---- from tables ----


@pytest.fixture
def write_csv(write_images: Write) -> Callable[..., Path]:
    """A function that writes a CSV, `data.csv` in a folder beside images 0.png … 19.png."""

    def write(text: str) -> Path:
        root = write_images(*(f"{number}.png" for number in range(20)))
        (root / "data.csv").write_text(text)
        return root / "data.csv"

    return write


def numbered(header: str, *cells: str) -> str:
    """A CSV with a row for 0.png, 1.png, … and the given further cells."""
    return "\n".join([f"path,{header}", *(f"{row}.png,{text}" for row, text in enumerate(cells))])


def read(file: Path, target: str | None = None, task: str | None = None) -> SampleTable:
    return read_csv(file, target=target, task=task)


def test_a_column_of_measurements_is_for_regression(write_csv: Write) -> None:
    table = read(write_csv(numbered("weight", "3", "1.5", "-2e3")))
    assert (table.task, table.classes, table.targets.kind) == ("regression", ("weight",), "numbers")
    assert table.targets.array(np.arange(3)).tolist() == [[3.0], [1.5], [-2000.0]]
    assert table.targets.array(np.arange(3)).dtype == np.float64


def test_few_whole_numbers_with_many_images_each_are_classes(write_csv: Write) -> None:
    table = read(write_csv(numbered("stage", *["0", "1"] * 5)))
    assert (table.task, table.classes) == ("classification", ("0", "1"))


def test_a_task_overrules_what_the_numbers_look_like(write_csv: Write) -> None:
    file = write_csv(numbered("stage", *["0", "1"] * 5))
    assert read(file, task="regression").targets.array(np.array([0, 1])).tolist() == [[0.0], [1.0]]
    measured = write_csv(numbered("weight", "3", "1.5", "3"))
    assert read(measured, task="classification").classes == ("1.5", "3")


def test_several_columns_are_numbers_in_the_order_that_is_asked_for(write_csv: Write) -> None:
    table = read(write_csv(numbered("x,y,note", "1,2,a", "3,4,b")), target="Y, x")
    assert table.classes == ("y", "x")
    assert table.targets.array(np.arange(2)).tolist() == [[2.0, 1.0], [4.0, 3.0]]


def test_a_column_whose_name_holds_a_comma_is_one_column(write_csv: Write) -> None:
    table = read(write_csv(numbered('"x,y",x', "1.5,7", "2.5,8")), target="x,y")
    assert table.targets.array(np.arange(2)).tolist() == [[1.5], [2.5]]


def test_rows_follow_the_order_of_paths_with_their_parts_and_groups(write_csv: Write) -> None:
    text = "path,y,split,group\n1.png,1.5,val,g\n0.png,0.5,train,h\n"
    table = read(write_csv(text))
    assert (table.paths, table.groups) == (("0.png", "1.png"), ("h", "g"))
    assert (table.parts.tolist(), table.targets.strata()) == (["train", "val"], ["0", "0"])
    assert table.targets.text(1) == "1.5"


def test_an_empty_cell_leaves_its_row_out_and_names_it(write_csv: Write, tmp_path: Path) -> None:
    cells = [f"{row}.5,{row * row}" for row in range(20)]
    cells[7] = "7.5,"
    file = write_csv(numbered("x,y", *cells))
    data = open_dataset(file, target="x,y", cache_dir=tmp_path / "cache")
    (problem,) = data.problems
    assert (problem.kind, problem.severity, problem.files) == ("no-target", "error", ("7.png",))
    assert data.images == {"all": 19}
    assert data.table.paths.index("7.png") not in np.concatenate(
        [data.split(DataSpec()).train, data.split(DataSpec()).val]
    )


def test_a_repeated_row_is_used_once_however_its_number_is_written(write_csv: Write) -> None:
    table = read(write_csv("path,y\n0.png,3\n1.png,2.5\n./0.png,3.0\n"))
    assert table.paths == ("0.png", "1.png")
    assert [(problem.kind, problem.files) for problem in table.problems] == [("repeated-row", ("0.png",))]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        (numbered("y", *["1.5"] * 18, "n/a"), None, r"1 cell without a number in y: line 20 has 'n/a'\. A number is written"),
        (numbered("x,y", "1,2", "3,many"), "x,y", "1 cell without a number in x, y: line 3 has 'many'"),
        (numbered("x,y", "1,inf", "3,NaN"), "x,y", "2 cells without a number in x, y: line 2 has 'inf', line 3 has 'NaN'"),
        (numbered("x,y", "1,1_000"), "x,y", "line 2 has '1_000'"),
        (numbered("x,y", "1,1e999"), "x,y", "line 2 has '1e999'"),
        (numbered("width,height", "1,2"), "width,hight", r"no column 'hight'\. Did you mean 'height'\? Its columns are"),
        (numbered("x,y", "1,2"), "u,v", "no column 'u', 'v'"),
        (numbered("x,y", "1,2"), "x,path", "column 'path' holds the paths"),
        ("path,y\n0.png,1.5\n0.png,2.5\n", None, r"given twice with different labels, .* 0\.png \(1\.5 and 2\.5\)"),
        ("path,y\nx.png,1.5\n0.png,2.5\n", None, r"1 image of 2 do not exist: x\.png"),
        ("path,y,split\n0.png,1.5,val\n1.png,2.5,val\n", None, "there is no train part, only val"),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_read_are_refused(write_csv: Write, text: str, target: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write_csv(text), target)


def test_a_task_that_does_not_learn_from_a_table_is_refused(write_csv: Write) -> None:
    with pytest.raises(UsageError, match=r"task: segmentation learns from mask, which a table does not hold\."):
        read(write_csv(numbered("y", "1.5", "2.5")), task="segmentation")


def test_several_columns_are_no_classes(write_csv: Write) -> None:
    with pytest.raises(UsageError, match=r"target: classification learns from one column, got x, y\."):
        read(write_csv(numbered("x,y", "1,2", "3,4")), "x,y", "classification")


def test_an_unknown_task_is_refused(write_csv: Write) -> None:
    with pytest.raises(UnknownNameError, match="no such task 'regresion'"):
        read(write_csv(numbered("y", "1.5", "2.5")), task="regresion")


# ---- from part folders ----


@pytest.fixture
def write_parts(write_images: Write) -> Callable[..., Path]:
    """A function that writes part folders train/ and valid/ with images 0.png … 2.png and the given CSV files each."""

    def write(**tables: str) -> Path:
        root = write_images(*(f"{part}/{number}.png" for part in ("train", "valid") for number in range(3)))
        for part in ("train", "valid"):
            for name, text in tables.items():
                (root / part / f"{name}.csv").write_text(text)
        return root

    return write


def test_a_table_in_each_part_folder_makes_one_table_with_parts(write_parts: Write) -> None:
    table = read_parts_csv(write_parts(counts=numbered("y", "0.5", "1.5", "2.5")), target="y", task=None)
    assert table is not None
    assert table.paths == ("train/0.png", "train/1.png", "train/2.png", "valid/0.png", "valid/1.png", "valid/2.png")
    assert table.parts.tolist() == ["train"] * 3 + ["val"] * 3
    assert table.targets.array(np.arange(6))[:, 0].tolist() == [0.5, 1.5, 2.5] * 2


def test_of_several_tables_the_one_with_the_column_is_taken(write_parts: Write) -> None:
    root = write_parts(one=numbered("x", "1.5", "2.5"), two=numbered("y", "3.5", "4.5"))
    table = read_parts_csv(root, target="y", task=None)
    assert table is not None
    assert table.targets.array(np.arange(4))[:, 0].tolist() == [3.5, 4.5] * 2


def test_folders_without_tables_are_none_of_ours(write_parts: Write, tmp_path: Path) -> None:
    assert read_parts_csv(write_parts(), target="y", task=None) is None
    assert read_parts_csv(tmp_path, target="y", task=None) is None


def test_a_part_without_the_table_of_the_others_is_named(write_parts: Write) -> None:
    root = write_parts(y=numbered("y", "1.5"))
    (root / "test").mkdir()
    with pytest.raises(
        DataError, match=r"no table that every part has: test: no table; train: y\.csv; valid: y\.csv\."
    ):
        read_parts_csv(root, target="y", task=None)


def test_two_folders_of_one_part_are_refused(write_parts: Write) -> None:
    root = write_parts(y=numbered("y", "1.5"))
    (root / "training").mkdir()
    with pytest.raises(DataError, match=r"more than one folder for train: train, training\."):
        read_parts_csv(root, target="y", task=None)


def test_a_part_folder_that_cannot_be_listed_is_named(write_parts: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_parts(y=numbered("y", "1.5"))
    listing = os.scandir

    def scandir(folder: Path) -> object:
        if folder == root / "valid":
            raise PermissionError(13, "Permission denied")
        return listing(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"valid: cannot be listed \(Permission denied\)"):
        read_parts_csv(root, target="y", task=None)


WHOLE = [str(number % 4) for number in range(20)]


def test_whole_numbers_taken_as_classes_are_told(write_csv: Write) -> None:
    (problem,) = read(write_csv(numbered("red_cells", *WHOLE)), target="red_cells").problems
    assert (problem.kind, problem.severity, problem.files) == ("whole-numbers", "warning", ())
    assert problem.message.startswith(
        "the whole numbers of red_cells are taken as 4 classes; if they measure or count something: --task regression."
    )


@pytest.mark.parametrize(
    ("column", "cells", "task"),
    [
        ("red_cells", WHOLE, "classification"),
        ("label", WHOLE, None),
        ("ill", [str(number % 2) for number in range(20)], None),
        ("kind", [f"kind {number % 4}" for number in range(20)], None),
    ],
)
def test_classes_that_are_no_count_are_no_problem(
    write_csv: Write, column: str, cells: list[str], task: str | None
) -> None:
    assert read(write_csv(numbered(column, *cells)), target=column, task=task).problems == ()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("z", r"no table that every part has holds column 'z'.*\(1\) one.csv: path, x, y. \(2\) two.csv: path, y."),
        ("y", r"more than one table that every part has could be meant: one.csv, two.csv.*\(1\) one.csv: path, x, y"),
    ],
)
def test_tables_that_cannot_be_told_apart_are_named(write_parts: Write, target: str, message: str) -> None:
    root = write_parts(one=numbered("x,y", "1.5,2.5"), two=numbered("y", "3.5"))
    with pytest.raises(DataError, match=message):
        read_parts_csv(root, target=target, task=None)


def test_a_wrong_cell_is_named_with_its_table(write_parts: Write) -> None:
    root = write_parts(counts=numbered("x,y", "0.5,1", "1.5,many"))
    with pytest.raises(DataError, match=r"\(1\) train/counts.csv: 1 cell without .*\(2\) valid/counts.csv: 1 cell"):
        read_parts_csv(root, target="x,y", task=None)


def test_tables_with_other_columns_in_another_part_are_refused(write_parts: Write) -> None:
    root = write_parts(counts=numbered("y", "0.5", "1.5"))
    (root / "valid" / "counts.csv").write_text("image,y\n0.png,1.5\n")
    with pytest.raises(DataError, match="the columns differ between parts"):
        read_parts_csv(root, target="y", task=None)


def test_real_red_cell_counts_are_read_with_their_parts(real_data: Callable[[str], Path]) -> None:
    table = read_parts_csv(real_data("bccd"), target="red_cells", task=None)
    assert table is not None
    assert (table.task, table.parts.tolist().count("train"), table.parts.tolist().count("val")) == (
        "regression",
        205,
        87,
    )
    values = table.targets.array(np.arange(len(table)))
    assert (values.min(), values.max()) == (0, 27)


# ---- what is wrong ----


def test_healthy_numbers_have_no_problems() -> None:
    assert kinds(of_values([float(number) for number in range(12)])) == []


def test_a_row_without_a_finite_number_is_left_out() -> None:
    table = of_values([*range(12), np.nan, 1.0, 1e300], [*range(12), 1.0, np.inf, 1.0])
    assert kinds(table) == [("no-target", "error", ("12", "13", "14"))]
    assert table.targets.usable().tolist() == [True] * 12 + [False] * 3


def test_a_number_that_never_changes_in_train_is_an_error() -> None:
    table = of_values([3.0] * 12, [*range(12)], parts=["train"] * 11 + ["val"])
    (problem,) = table.targets.problems(table, table.targets.usable())
    assert (problem.kind, problem.severity) == ("constant-target", "error")
    assert problem.message == "always the same number in train: a. There is nothing to learn: leave it out."


def test_fewer_than_ten_train_images_are_an_error() -> None:
    table = of_values([*range(12)], parts=["train"] * 9 + ["val"] * 3)
    (problem,) = table.targets.problems(table, table.targets.usable())
    assert (problem.kind, problem.severity) == ("too-few-images", "error")
    assert problem.message == "only 9 usable images to train on; at least 10 are needed. Add images."


def test_numbers_far_from_all_others_are_named() -> None:
    table = of_values([*range(20), 500.0])  # the median is 10, half of them lie within 5
    (problem,) = table.targets.problems(table, table.targets.usable())
    assert (problem.kind, problem.severity, problem.files) == ("outlier", "warning", ("20",))
    assert problem.message.startswith(
        "a is far from all others: 500, where half of the images lie within 5 of 10. Correct it if it is a slip"
    )


def test_a_number_that_is_zero_for_most_has_no_outliers() -> None:
    assert kinds(of_values([0.0] * 15 + [1.0] * 5)) == []


def test_both_kinds_of_error_keep_a_dataset_from_being_trained_on() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    assert [p.kind for p in Dataset.from_arrays(images, [1.5] * 12).refusals()] == ["constant-target"]
    assert [p.kind for p in Dataset.from_arrays(images[:5], [0.5, 1.5, 2.5, 3.5, 4.5]).refusals()] == ["too-few-images"]


# ---- values ----


def test_equal_numbers_have_equal_texts() -> None:
    targets = of_values([0.0, -0.0, 0.1 + 0.2, 0.30000000000000004, 0.3], [1.0] * 5).targets
    assert [targets.text(row) for row in range(5)] == ["0.0, 1.0"] * 2 + ["0.30000000000000004, 1.0"] * 2 + ["0.3, 1.0"]


def test_strata_are_fifths_of_the_images() -> None:
    strata = of_values([float(number**2) for number in range(50)]).targets.strata()
    assert list(strata) == [str(number // 10) for number in range(50)]


def test_several_numbers_weigh_the_same_in_the_strata() -> None:
    small, large = [float(number) for number in range(50)], [1000.0 * number for number in range(50)]
    assert of_values(small, large).targets.strata() == of_values(small).targets.strata()


def test_numbers_that_most_images_share_make_fewer_strata() -> None:
    strata = of_values([0.0] * 45 + [1.0, 2.0, 3.0, 4.0, 5.0]).targets.strata()
    assert len(set(strata)) <= 2


def test_rows_that_cannot_be_used_do_not_move_the_strata() -> None:
    numbers = [float(number) for number in range(50)]
    assert list(of_values([*numbers, np.nan]).targets.strata())[:50] == list(of_values(numbers).targets.strata())


def test_a_loader_gets_float32_in_the_numbers_own_unit() -> None:
    targets = of_values([1.5, 2.5, 1e300], [3.0, 4.0, 5.0]).targets
    source = targets.source(None)  # type: ignore[arg-type] # numbers do not lie beside pixels
    taken = source.take(np.array([1, 0]))
    assert taken.dtype == np.float32
    assert taken.tolist() == [[2.5, 4.0], [1.5, 3.0]]


def test_a_description_has_the_range_of_each_number() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    values = np.column_stack([np.arange(12.0), np.full(12, 7.0)])
    values[11, 1] = np.nan
    described = Dataset.from_arrays(images, values, classes=["x", "y"]).describe()
    assert described["numbers"] == {
        "x": {"min": 0.0, "median": 5.0, "max": 10.0},
        "y": {"min": 7.0, "median": 7.0, "max": 7.0},
    }
    assert described["counts"] == {"all": {"x": 11, "y": 11}}
    assert (described["task"], described["target"], described["classes"]) == ("regression", "numbers", ["x", "y"])


def test_means_and_deviations_are_those_of_the_train_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    info = Dataset.from_arrays(images, np.arange(12.0)).info(np.array([0, 2]))
    assert (info.names, info.mean, info.std) == (("y",), (1.0,), (1.0,))


def test_twins_with_other_numbers_are_named() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    images[3] = images[5]
    (problem,) = Dataset.from_arrays(images, np.arange(12.0)).problems
    assert problem.kind == "twins-with-different-labels"
    assert "different labels: 3.0, 5.0" in problem.message


def test_a_train_table_is_read_together_with_those_of_the_other_parts(write_parts: Write) -> None:
    root = write_parts(counts=numbered("y", "0.5", "1.5", "2.5"))

    table = read_beside(root / "train" / "counts.csv", target="y", task=None)

    assert table.paths == read_parts_csv(root, target="y", task=None).paths
    assert set(table.parts) == {"train", "val"}
    assert [(problem.kind, problem.files) for problem in table.problems] == [("read-together", ("valid/counts.csv",))]


def test_a_table_of_val_is_read_alone(write_parts: Write) -> None:
    root = write_parts(counts=numbered("y", "0.5", "1.5", "2.5"))

    assert read_beside(root / "valid" / "counts.csv", target="y", task=None) is None


def test_a_train_table_that_is_the_only_one_is_read_alone(write_parts: Write) -> None:
    root = write_parts(counts=numbered("y", "0.5", "1.5", "2.5"))
    (root / "valid" / "counts.csv").unlink()

    assert read_beside(root / "train" / "counts.csv", target="y", task=None) is None
