"""The tuner on outcomes that are made up: budgets, the ending, and that nothing depends on how many work at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from trainwright.recipe import Recipe
from trainwright.records import Outcome, Proposal
from trainwright.search.ledger import Ledger, Pace
from trainwright.search.recipe_search import search_recipes
from trainwright.search.space_file import parse_space
from trainwright.search.tuning import Tuner

RECIPE = Recipe(epochs=9)
SPACE = parse_space({"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}}, RECIPE)
BEST_LR = 0.01
Score = Callable[[Proposal], float]


def by_lr(proposal: Proposal) -> float:
    """Best at a learning rate of 0.01; a little higher with every epoch, a little lower with another seed."""
    lr = proposal.recipe.optimizer.lr or 1e-3
    epochs = proposal.epochs_now or RECIPE.epochs
    return 0.9 - 0.1 * abs(math.log10(lr / BEST_LR)) + epochs / 1000 - 0.01 * (proposal.recipe.seed != RECIPE.seed)


def tuner(strategy: str = "random", **more: Any) -> Tuner:
    searching = {key: more.pop(key) for key in ("trials", "lag", "first") if key in more}
    search = search_recipes(strategy, RECIPE, SPACE, **{"lag": 4, **searching})
    ledger = Ledger(limit=more.pop("limit", math.inf), pace=Pace(epoch_seconds=1.0, run_seconds=1.0))
    asked = {"strategy": strategy, **more}
    return Tuner(search, ledger=ledger, **asked)


def outcome(proposal: Proposal, score: float, **more: Any) -> Outcome:
    epochs = proposal.epochs_now or RECIPE.epochs
    paused = proposal.epochs_now is not None
    seconds = 1.0 + epochs - proposal.epochs_before
    result = {"metric": "accuracy", "epochs": epochs, "seconds": float(epochs), "verdict": "healthy"}
    result |= {"score": {"train": 0.9, "val": score}, "gap": dict.fromkeys(("value", "low", "high")), "message": ""}
    fields = {"state": "paused" if paused else "finished", "seconds": seconds, "result": result, **more}
    return Outcome(number=proposal.number, run=f"run-{proposal.number}", score=score, **fields)


def played(tuner: Tuner, score: Score = by_lr, *, slots: int = 1) -> list[Proposal]:
    """All that it asks for, with as many under way as there are slots; told in the order of their numbers."""
    asked: list[Proposal] = []
    under_way: list[Proposal] = []
    while not tuner.done:
        proposal = tuner.ask() if len(under_way) < slots else None
        if proposal is not None:
            asked.append(proposal)
            under_way.append(proposal)
            continue
        first = under_way.pop(0)
        tuner.tell(outcome(first, score(first)))
    return asked


def told_of(proposals: list[Proposal]) -> list[Any]:
    return [(one.number, one.role, dict(one.changes), one.continues, one.epochs_now, one.recipe) for one in proposals]


def test_the_recipe_as_it_is_comes_first_and_the_best_is_trained_once_more_with_another_seed():
    asked = played(tuner(trials=5))

    assert asked[0].recipe == RECIPE
    assert [one.role for one in asked] == [*["trial"] * 5, "confirmation"]
    best = max(asked[:5], key=by_lr)
    assert asked[5].recipe == best.recipe.changed({"seed": asked[5].recipe.seed})
    assert asked[5].recipe.seed != RECIPE.seed


def test_one_trial_alone_is_not_the_best_of_several():
    asked = played(tuner(trials=1))

    assert [one.role for one in asked] == ["trial"]


def test_the_best_of_several_that_is_not_trained_once_more_has_an_optimistic_score():
    alone, confirmed, unconfirmed = tuner(trials=1), tuner(trials=4), tuner(trials=4, confirms=False)
    for one in (alone, confirmed, unconfirmed):
        played(one)

    assert [one.optimistic for one in (alone, confirmed, unconfirmed)] == [False, False, True]


def test_what_is_handed_over_is_trained_on_all_images_at_the_end():
    one = tuner(trials=3, on_all=1.25)

    asked = played(one)

    final = asked[-1]
    assert (final.role, final.on_all, final.recipe.data.train_on, final.recipe.epochs) == (
        "final",
        True,
        "train+val",
        9,
    )
    assert one.final is not None
    assert one.final.number == final.number


def test_an_advantage_that_another_seed_does_not_have_was_luck_and_the_first_trial_stays():
    one = tuner(trials=4)

    played(one, lambda proposal: 0.4 if proposal.role == "confirmation" else by_lr(proposal))

    assert one.found.trial.number != 0
    assert one.held.trial.number == 0
    assert not one.optimistic  # nothing chose the first one for its score
    assert one.entries[-1].text.endswith("of the first trial, which stays: nothing shows more than luck.")


@pytest.mark.parametrize("strategy", ["random", "sobol", "asha", "hyperband"])
@pytest.mark.parametrize("slots", [2, 4])
def test_any_number_of_workers_up_to_the_lag_finds_the_same(strategy, slots):
    budget = 7 * RECIPE.epochs
    alone, together = tuner(strategy, most_epochs=budget, trials=15), tuner(strategy, most_epochs=budget, trials=15)

    assert told_of(played(together, slots=slots)) == told_of(played(alone))
    assert together.found.trial.values == alone.found.trial.values


@pytest.mark.parametrize("slots", [1, 4])
def test_a_perfect_score_ends_the_search_at_the_same_number_whoever_works(slots):
    asked = played(tuner("sobol", trials=40), lambda one: 1.0 if one.number == 3 else 0.5, slots=slots)

    searched = [one for one in asked if one.role == "trial"]
    assert len(searched) == 3 + 4  # numbers up to 3 + lag − 1 do not know of it yet


def test_what_was_asked_for_by_name_is_trained_whatever_the_scores():
    asked = played(
        tuner("list", first=({}, {"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}), confirms=False), lambda one: 1.0
    )

    assert [one.changes for one in asked] == [{}, {"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}]


def test_the_epochs_of_the_budget_are_not_overrun():
    asked = played(tuner("asha", most_epochs=3 * RECIPE.epochs))

    pieces = [
        (one.epochs_now or 9) - one.epochs_before
        for one in asked
        if one.role == "trial" and one.reason[:8] != "the best"
    ]
    assert 2 * RECIPE.epochs < sum(pieces) <= 3 * RECIPE.epochs


def test_no_epoch_is_asked_for_twice():
    asked = played(tuner("asha", trials=12))

    ends: dict[int, int] = {}
    for one in asked:
        if one.role == "trial":
            trial = one.number if one.continues is None else one.continues
            assert one.epochs_before == ends.get(trial, 0)
            ends[trial] = one.epochs_now or RECIPE.epochs


def test_when_no_more_trials_may_begin_the_paused_ones_go_on_to_a_winner():
    one = tuner("asha", trials=10)

    asked = played(one)

    trials = {proposal.number for proposal in asked if proposal.role == "trial" and proposal.continues is None}
    finished = [proposal for proposal in asked if proposal.continues is not None and proposal.epochs_now is None]
    assert len(trials) == 10
    assert finished
    assert one.over == "all trials of the budget were begun"


def test_the_best_is_trained_to_its_end_where_it_is_paused():
    one = tuner("asha", most_epochs=RECIPE.epochs + 3)

    asked = played(
        one, lambda proposal: 0.95 if proposal.number == 2 or proposal.continues == 2 else by_lr(proposal) - 0.1
    )

    assert (asked[-2].continues, asked[-2].epochs_now, asked[-2].epochs_before) == (2, None, 1)
    assert one.found.trial.number == 2


def test_time_is_kept_for_what_follows_the_search():
    """A training takes 10 s: of 100 s, 20 and a little more are kept for another seed and for all images."""
    one = tuner(limit=100.0, on_all=1.0)

    asked = played(one)

    assert [proposal.role for proposal in asked] == [*["trial"] * 7, "confirmation", "final"]
    assert one.ledger.spent <= 100


@pytest.mark.parametrize("strategy", ["asha", "hyperband", "freeze-thaw"])
@pytest.mark.parametrize("limit", [60.0, 70.0, 80.0])
def test_time_is_kept_for_the_rest_of_the_best_where_it_is_paused(strategy, limit):
    """By far the best is a trial that begins late: what is left of it, another seed and all images still have their time."""
    one = tuner(strategy, limit=limit, on_all=1.0)

    asked = played(one, lambda proposal: 0.97 if 3 in (proposal.number, proposal.continues) else by_lr(proposal) - 0.1)

    assert one.found.trial.number == 3
    assert [proposal.role for proposal in asked[-2:]] == ["confirmation", "final"]
    assert one.ledger.spent <= limit


def test_where_no_time_is_left_for_another_seed_it_says_so():
    one = tuner(limit=100.0)
    while not one.done:
        proposal = one.ask()
        assert proposal.role == "trial"
        held_up = {"seconds": 85.0} if proposal.number == 1 else {}
        one.tell(outcome(proposal, by_lr(proposal), **held_up))

    assert "No time is left to train it once more with another seed" in one.entries[-1].text
    assert one.found.fresh is None


def test_a_trial_that_diverged_is_no_score_and_the_search_goes_on():
    one = tuner(trials=4)
    while not one.done:
        proposal = one.ask()
        if proposal.number == 1:
            broken = outcome(proposal, math.nan, state="failed")
            one.tell(Outcome(**{**vars(broken), "result": {**broken.result, "verdict": "diverged"}}))
        else:
            one.tell(outcome(proposal, by_lr(proposal)))

    assert one.search.search.outcomes[1].state == "diverged"
    assert "Trial 1: diverged; " in " ".join(entry.text for entry in one.entries)


def test_without_a_single_score_nothing_is_handed_over():
    one = tuner(trials=2)
    while not one.done:
        one.tell(outcome(one.ask(), math.nan, state="failed"))

    assert (one.found, one.held, one.final) == (None, None, None)
    assert one.entries[-1].text == "No training came to its end with a score: nothing is handed over."


@pytest.mark.parametrize("killed_after", [1, 3, 9, 13, 14])
def test_the_journal_restores_it_into_the_same_future(killed_after):
    """Restored asks are those of the journal: nothing is worked out again, and what follows is what would have followed."""
    whole = tuner("asha", trials=8, on_all=1.0)
    asked = played(whole)
    records = [
        {"number": one.number, "role": one.role, "reason": one.reason, "changes": dict(one.changes)}
        | {"continues": one.continues, "epochs_now": one.epochs_now}
        for one in asked[:killed_after]
    ]
    again = tuner("asha", trials=8, on_all=1.0)
    restored = []
    for record in records:
        restored.append(again.restore(record))
        again.tell(outcome(restored[-1], by_lr(restored[-1])))

    assert told_of([*restored, *played(again)]) == told_of(asked)
    assert again.entries == whole.entries


def test_a_search_whose_time_was_over_stays_over_when_it_is_restored():
    """Trial 2 is estimated at 10 s while trial 1 is under way, and takes 1 s: with that known there is time for another one."""
    whole, again = tuner(limit=42.0), tuner(limit=42.0)
    asked, outcomes = [], []
    while not whole.done:
        while len(asked) - len(outcomes) < 2 and (proposal := whole.ask()) is not None:
            asked.append(proposal)
        following = asked[len(outcomes)]
        quick = {"seconds": 1.0} if following.number == 2 else {}
        outcomes.append(outcome(following, by_lr(following), **quick))
        whole.tell(outcomes[-1])
    assert [one.role for one in asked] == ["trial", "trial", "trial", "confirmation"]

    restored = []
    for one, told in zip(asked, outcomes, strict=True):
        record = {"number": one.number, "role": one.role, "reason": one.reason, "changes": dict(one.changes)}
        restored.append(again.restore(record | {"continues": one.continues, "epochs_now": one.epochs_now}))
        again.tell(told)

    assert told_of(restored) == told_of(asked)
    assert again.done
    assert again.entries == whole.entries
