"""What of a recipe fits into a budget."""

from __future__ import annotations

import re

import pytest

from trainwright.errors import UsageError
from trainwright.recipe import Recipe
from trainwright.search.ending import FINAL_SHARE, ROOM
from trainwright.search.ledger import Ledger, Pace
from trainwright.search.planning import RETUNE_COST
from trainwright.workflows.pace import fitting

PACE = Pace(epoch_seconds=5.0, run_seconds=3.0)


def leaves_time_for_a_round(limit: float, epochs: int, *, spent: float, on_all: bool) -> bool:
    """By the coach's own account: one arm, and that once more, after the baseline; all with their range test."""
    ledger = Ledger(limit=limit, pace=PACE)
    run = ledger.seconds(epochs) * (1 + RETUNE_COST)
    ledger.book(spent)
    ledger.book(run)
    return 2 * run <= ROOM * (ledger.left - FINAL_SHARE * limit * on_all) + 1e-6


def test_a_recipe_that_fits_stays_as_it_is() -> None:
    recipe = Recipe().changed({"epochs": 10})

    assert fitting(recipe, PACE, 3600.0) == recipe


def test_a_recipe_that_does_not_fit_is_shortened_and_leaves_time_for_a_round() -> None:
    shortened = fitting(Recipe().changed({"epochs": 100}), PACE, 600.0, spent=10.0)

    assert 1 < shortened.epochs < 100
    assert shortened == Recipe().changed({"epochs": shortened.epochs})
    assert leaves_time_for_a_round(600.0, shortened.epochs, spent=10.0, on_all=True)


@pytest.mark.parametrize("on_all", [True, False])
@pytest.mark.parametrize("spent", [0.0, 20.0])
def test_the_budget_that_a_refusal_asks_for_is_enough_for_a_whole_round(on_all: bool, spent: float) -> None:
    with pytest.raises(UsageError, match="too few to compare anything") as caught:
        fitting(Recipe().changed({"epochs": 10}), PACE, 20.0, spent=spent, on_all=on_all)
    found = re.search(r"at least (\d+)s", caught.value.cure)
    assert found
    asked = float(found[1])

    recipe = fitting(Recipe().changed({"epochs": 10}), PACE, asked, spent=spent, on_all=on_all)

    assert recipe.epochs >= 1
    assert leaves_time_for_a_round(asked, recipe.epochs, spent=spent, on_all=on_all)


def test_without_a_final_training_less_time_is_enough() -> None:
    recipe = fitting(Recipe().changed({"epochs": 1}), PACE, 40.0, on_all=False)

    assert recipe.epochs == 1
    with pytest.raises(UsageError):
        fitting(Recipe().changed({"epochs": 1}), PACE, 40.0, on_all=True)
