from __future__ import annotations

from pathlib import Path
from typing import Any

from trainwright.cli.show import show_run, show_verdict, wrapped


def result(**changes: Any) -> dict[str, Any]:
    finished = {
        "run": "r1",
        "metric": "R²",
        "score": {"train": 0.93, "val": 0.81},
        "gap": {"value": 0.12, "low": 0.05, "high": 0.2},
        "gap_margin": 0.04,
        "verdict": "overfits",
        "findings": [],
        "kept_epoch": 3,
        "epochs": 10,
        "parameters": 12345,
        "seconds": 12.0,
        "images_per_second": 100.0,
        "folder": "runs/r1",
    }
    return {**finished, **changes}


def test_the_score_is_called_after_its_metric() -> None:
    assert show_run(result()).splitlines()[1] == "R²         train 0.930   unseen 0.810   (eval mode, clean images)"


def test_a_gap_that_is_not_the_difference_of_the_scores_says_why() -> None:
    assert "did best on these very images" not in show_run(result())

    other = {"gap": {"value": 0.15, "low": 0.05, "high": 0.2}}
    text = show_run(result(**other, recipe={"keep": "best"}))

    assert "very images" not in show_run(result(**other, recipe={"keep": "last"}))
    assert "margin 0.040\n           (the unseen score is of the epoch that did best on these very images" in text


def test_a_training_without_unseen_images_has_no_line_for_a_gap() -> None:
    unseen = {"score": {"train": 0.93, "val": None}, "gap": {"value": None, "low": None, "high": None}}

    assert "gap  " not in show_run(result(**unseen, gap_margin=None))


def test_of_how_many_train_images_the_train_score_is_stands_below_it() -> None:
    images = {"train": 436, "val": 109, "test": 0}

    some = show_run(result(images=images, images_scored={"train": 108, "val": 109}))
    of_before = show_run(result(images=images))  # results that do not say it: the rule
    every = show_run(result(images=images, images_scored={"train": 436, "val": 109}))

    assert some.splitlines()[2] == "           (train: of 108 of the 436 images, drawn for this)"
    assert "(train: of 109 of the 436 images" in of_before
    assert "(train: of" not in every


def test_further_metrics_have_a_line_each_with_their_interval() -> None:
    metrics = {
        "train": {"score": 0.93, "mae": 0.71, "rmse": 1234.5},
        "val": {
            "mae": {"value": 1.12, "low": 0.93, "high": 1.34},
            "rmse": {"value": 20310.0, "low": None, "high": None},
            "class.age": {"value": 0.8, "low": 0.7, "high": 0.9},
        },
    }

    lines = show_run(result(metrics=metrics)).splitlines()

    assert lines[2:4] == [
        "mae        train 0.71   unseen 1.12 (0.93 to 1.34)",
        "rmse       train 1,234   unseen 20,310",
    ]
    assert lines[4].startswith("gap")


def test_a_metric_that_was_not_measured_on_train_images_has_a_dash() -> None:
    metrics = {"val": {"mae": {"value": 1.5, "low": 1.0, "high": 2.0}}}

    assert "mae        train –   unseen 1.5 (1 to 2)" in show_run(result(metrics=metrics))


def test_few_classes_have_a_line_each() -> None:
    shown = show_run(
        result(
            per_class={"rbc": 0.9, "platelets": None},
            intervals={"per_class": {"rbc": {"value": 0.9, "low": 0.8, "high": 0.95}}},
        )
    )

    assert "classes    rbc        0.900 (0.800 to 0.950)\n           platelets  –\n" in shown


def test_of_many_classes_the_lowest_are_named() -> None:
    per_class = {f"class {k}": k / 100 if k else None for k in range(40)}

    assert "lowest     class 1 0.010, class 2 0.020, class 3 0.030, class 4 0.040, class 5 0.050\n" in show_run(
        result(per_class=per_class)
    )


def rates(**changes: float | None) -> dict[str, float | None]:
    return {"low": None, "high": None, "suggested": None, "used": 0.001, **changes}


def line_of_lr(**changes: Any) -> str:
    (line,) = [line for line in show_run(result(**changes)).splitlines() if line.startswith("lr ")]
    return line


def test_a_learning_rate_of_the_recipe_is_said_to_be_so() -> None:
    assert line_of_lr(lr=rates()) == "lr         0.001   (from the recipe)"


def test_a_learning_rate_of_the_range_test_comes_with_its_interval() -> None:
    found = rates(low=2e-4, high=0.06, suggested=0.013, used=0.013)

    assert line_of_lr(lr=found) == (
        "lr         0.013   (from the range test: the loss falls at learning rates from 0.0002 to 0.06)"
    )


def test_a_cyclic_schedule_is_said_to_go_above_the_suggestion() -> None:
    found = rates(low=2e-4, high=0.06, suggested=0.013, used=0.026)

    assert line_of_lr(lr=found) == (
        "lr         0.026   (from the range test: the loss falls at learning rates from 0.0002 to 0.06, 0.013 suggested, "
        "and cycles go above it)"
    )


def test_a_learning_rate_that_could_not_be_told_is_the_optimizers_published_one() -> None:
    finding = {"rule": "lr-range", "verdict": "cannot-tell", "evidence": "flat.", "advice": ""}

    assert line_of_lr(lr=rates(), findings=[finding]) == (
        "lr         0.001   (the range test could not tell: a published one, or near where its sweep breaks down)"
    )


def test_a_result_of_old_has_no_line_of_it() -> None:
    assert "\nlr " not in show_run(result())


def learned(train_score: float) -> list[dict[str, Any]]:
    """The finding that tells what was learned, of ten classes."""
    return [{"rule": "diverged", "verdict": "no", "figures": {"train_score": train_score, "chance_score": 0.1}}]


def test_a_training_that_generalizes_because_it_learned_little_is_called_that() -> None:
    words = "generalizes, but it has learned little: train score 0.230, guessing gives 0.100"

    assert show_verdict("generalizes", learned(0.23)) == words
    assert f"verdict    {words}" in show_run(result(verdict="generalizes", findings=[*unsaid(learned(0.23))]))


def test_a_training_that_learned_its_task_or_has_another_verdict_is_called_by_the_word_alone() -> None:
    assert show_verdict("generalizes", learned(0.9)) == "generalizes"
    assert show_verdict("overfits", learned(0.23)) == "overfits"
    assert show_verdict("generalizes", []) == "generalizes"


def unsaid(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**finding, "evidence": "", "advice": ""} for finding in findings]


def test_where_the_page_is_is_said_once_it_is_there(tmp_path: Path) -> None:
    before = show_run(result(folder=str(tmp_path)))
    (tmp_path / "report.html").touch()

    after = show_run(result(folder=str(tmp_path)))

    assert "report" not in before
    assert after == f"{before}\nreport     {tmp_path / 'report.html'}"


def test_text_with_lines_of_its_own_keeps_them_below_the_first():
    assert wrapped("? ", "One.\nTwo.") == ["? One.", "  Two."]
