"""Which training of a search scored highest, and what is said where it is not the model."""

from __future__ import annotations

from typing import Any

import pytest

from trainwright.workflows.tune_highest import highest_of


def row(number: int, score: float | None, state: str = "finished", epochs: int = 9) -> dict[str, Any]:
    return {"number": number, "run": f"mine-{number:03d}", "score": score, "state": state, "epochs": epochs}


def model(trial: int, run: str, trained_on: str = "train") -> dict[str, Any]:
    return {"trial": trial, "run": run, "trained_on": trained_on}


ROWS = [row(0, 0.8), row(1, 0.9), row(2, None, "diverged")]


def told(rows: list[dict[str, Any]], best: dict[str, Any] | None, found: int = 1) -> Any:
    return highest_of(rows, best, found=found, first_score=0.8, compared=2)


def test_nothing_is_said_where_the_training_that_scored_highest_is_the_model() -> None:
    assert told(ROWS, model(1, "mine-001")) == {"trial": 1, "run": "mine-001", "score": 0.9, "why_not": None}


def test_of_equal_scores_the_one_that_is_handed_over_counts() -> None:
    assert told([row(0, 0.9), row(1, 0.9)], model(1, "mine-001"))["why_not"] is None


def test_a_lead_that_another_seed_does_not_have_is_said_to_be_no_more_than_luck() -> None:
    assert told(ROWS, model(0, "mine-000"))["why_not"] == (
        "Trial 1 scored highest (0.900) and is not the model: with another seed it is not above the first trial's 0.800, "
        "so nothing shows that its lead is more than the luck of the best of 2, and the recipe stays as it is."
    )


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (model(1, "mine-003"), "but this one with another seed: nothing was chosen by its score."),
        (
            model(1, "mine-004", "train+val"),
            "but its recipe trained on train and val together: no validation image is left to say how good it is.",
        ),
    ],
)
def test_a_model_that_was_trained_after_the_search_is_said_to_be_another_training(
    best: dict[str, Any], said: str
) -> None:
    assert told(ROWS, best)["why_not"] == f"The model is not the training of trial 1, which scored highest, {said}"


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("paused", "it was paused there, and no time was left to train it to its end."),
        ("stopped", "it was given up there."),
        ("unfinished", "it was under way when the time was over."),
    ],
)
def test_one_that_did_not_come_to_its_end_is_not_handed_over(state: str, said: str) -> None:
    found = told([*ROWS, row(3, 0.95, state, epochs=1)], model(1, "mine-001"))

    assert (found["trial"], found["score"]) == (3, 0.95)
    assert (
        found["why_not"] == f"Trial 3 scored highest (0.950) and is not the model: that was after 1 epoch, and {said}"
    )


def test_where_nothing_has_a_score_nothing_scored_highest() -> None:
    assert told([row(0, None, "failed")], None) is None
