"""A search over recipes as a strategy of the study."""

import json
import math
from dataclasses import replace

import pytest

from trainwright.recipe import Recipe
from trainwright.records import Outcome, to_json
from trainwright.search.recipe_search import RecipeSearch, search_recipes, told_of
from trainwright.search.space_file import parse_space

RECIPE = Recipe(epochs=9)
TREE = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "augment.crop_scale": {"choices": [None, [0.35, 1.0]]},
    "clip_norm": {"fixed": 1.0},
}
SPACE = parse_space(TREE, RECIPE)


def outcome(proposal, *, state="finished", score=0.5, **result):
    return Outcome(
        number=proposal.number, run=f"run-{proposal.number}", state=state, score=score, seconds=2.0, result=result
    )


def test_the_recipe_itself_is_trained_first():
    first = search_recipes("random", RECIPE, parse_space({"optimizer.lr": TREE["optimizer.lr"]}, RECIPE)).ask()

    assert (first.recipe, first.label, first.role, first.epochs_now) == (RECIPE, "as published", "trial", None)


def test_a_proposal_is_the_recipe_with_its_changes():
    strategy = search_recipes("random", RECIPE, SPACE)
    strategy.ask()

    proposal = strategy.ask()

    assert proposal.recipe == RECIPE.changed(proposal.changes)
    assert proposal.changes.keys() == {"optimizer.lr", "augment.crop_scale", "clip_norm"}
    assert (proposal.continues, proposal.epochs_now) == (None, None)


def test_a_training_that_pauses_says_when_and_one_that_goes_on_says_which():
    strategy = search_recipes("asha", RECIPE, SPACE)

    proposals = []
    for place in range(5):
        proposals.append(strategy.ask())
        strategy.tell(outcome(proposals[-1], score=place / 10))

    assert [one.epochs_now for one in proposals] == [None, 1, 1, 1, 3]
    assert (proposals[4].continues, proposals[4].recipe) == (3, proposals[3].recipe)
    assert proposals[4].label == "trial 3 to epoch 3"
    assert {one.recipe.epochs for one in proposals} == {9}


def test_a_run_that_broke_down_by_its_loss_is_told_as_diverged_and_any_other_as_failed():
    proposal = search_recipes("random", RECIPE, SPACE).ask()

    broken = outcome(proposal, state="failed", score=float("nan"), verdict="diverged")
    failed = outcome(proposal, state="failed", score=float("nan"), verdict="cannot-tell")

    assert [told_of(one).state for one in (broken, failed)] == ["diverged", "failed"]


def test_a_run_that_was_stopped_has_the_score_of_its_best_epoch():
    proposal = search_recipes("random", RECIPE, SPACE).ask()

    told = told_of(outcome(proposal, state="stopped", score=float("nan"), val_scores=[0.2, 0.4, 0.3]))

    assert (told.score, told.scores, told.scored) == (0.4, (0.2, 0.4, 0.3), True)


@pytest.mark.parametrize("name", ["random", "tpe", "asha"])
def test_proposals_of_a_journal_are_taken_over_and_the_search_goes_on(name):
    options = {"startup": 3} if name == "tpe" else None

    def begun():
        return search_recipes(name, RECIPE, SPACE, options=options)

    def gone_on(strategy, count):
        asked = []
        for _ in range(count):
            proposal = strategy.ask()
            strategy.tell(outcome(proposal, score=proposal.recipe.optimizer.lr))
            asked.append(proposal)
        return asked

    whole = gone_on(begun(), 12)
    kept = ("number", "label", "reason", "changes", "continues", "epochs_now")
    journal = [json.loads(json.dumps(to_json({key: getattr(one, key) for key in kept}))) for one in whole[:7]]

    after = begun()
    again = [after.restore(record) for record in journal]
    for proposal in again:
        after.tell(outcome(proposal, score=proposal.recipe.optimizer.lr))

    assert again == whole[:7]
    assert gone_on(after, 5) == whole[7:]


def test_it_is_a_strategy_that_comes_to_its_end():
    strategy = search_recipes("list", RECIPE, SPACE, first=[{}, {"optimizer.lr": 0.5}])

    asked = []
    while not strategy.done:
        asked.append(strategy.ask())
        strategy.tell(outcome(asked[-1]))

    assert isinstance(strategy, RecipeSearch)
    assert [one.recipe.optimizer.lr for one in asked] == [1e-3, 0.5]


@pytest.mark.parametrize(("timed", "same"), [(False, True), (True, False)])
def test_the_clock_has_a_say_only_where_the_budget_is_time(timed, same):
    """One machine takes five times as long for every second training."""
    asked = []
    for slower in (1.0, 5.0):
        search, mine = search_recipes("freeze-thaw", RECIPE, SPACE, timed=timed), []
        while len(mine) < 30:
            proposal = search.ask()
            mine.append((proposal.changes, proposal.continues, proposal.epochs_now))
            lr = proposal.recipe.optimizer.lr or 1e-3
            reached = 0.9 - 0.1 * abs(math.log10(lr / 0.01))
            curve = [reached * (1 - 0.5 ** (epoch + 1)) for epoch in range(proposal.epochs_now or RECIPE.epochs)]
            told = outcome(proposal, score=curve[-1], val_scores=curve)
            search.tell(replace(told, seconds=slower if proposal.number % 2 else 1.0))
        asked.append(mine)

    assert (asked[0] == asked[1]) == same
