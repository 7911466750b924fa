"""A planted optimum outside of the box: reported, looked for in the same budget, and found; whoever works, and after a kill."""

from __future__ import annotations

import math

import pytest
from tests.search.test_tuning import RECIPE, outcome, played, told_of, tuner

from trainwright.search.follow_up import LOOKS, Looked, beyond
from trainwright.search.recipe_search import search_recipes
from trainwright.search.space_file import parse_space

OUTSIDE = 0.3  # of the learning rates from 1e-4 to 1e-1
TRIALS = 20


def peaked_at(best_lr):
    """(proposal) → a score that is highest at that learning rate and falls by 0.1 a decade, whatever else is changed."""

    def score(proposal):
        lr = proposal.recipe.optimizer.lr or 1e-3
        return 0.9 - 0.1 * abs(math.log10(lr / best_lr)) + (proposal.epochs_now or RECIPE.epochs) / 1000

    return score


def lrs(tuner):
    return [trial.values.get("optimizer.lr", 1e-3) for trial in tuner.search.search.history.trials.values()]


def looked(text):
    return [entry for entry in text if "Follow-up" in entry]


def story(tuner):
    return [entry.text for entry in tuner.entries]


SLOW = pytest.param("gp", marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "strategy", ["random", "sobol", "tpe", "cmaes", "asha", "hyperband", "bohb", "freeze-thaw", SLOW]
)
def test_an_optimum_outside_of_the_box_is_found_by_the_follow_up(strategy):
    boxed, further = tuner(strategy, trials=TRIALS), tuner(strategy, trials=TRIALS, follow_up=True)

    played(boxed, peaked_at(OUTSIDE))
    played(further, peaked_at(OUTSIDE))

    assert max(lrs(boxed)) <= 0.1 < further.found.trial.values["optimizer.lr"]
    assert further.found.chosen.score > boxed.found.chosen.score
    assert len(lrs(further)) <= TRIALS
    (told,) = looked(story(further))[:1]
    assert "lies at the high end of optimizer.lr (0.0001 to 0.1). Follow-up, in the same budget: optimizer.lr " in told


def test_a_best_inside_of_the_box_leaves_the_budget_to_the_search():
    one = tuner("sobol", trials=TRIALS, follow_up=True)

    played(one, peaked_at(0.003))

    assert len(one.spaces) == 1
    assert len(lrs(one)) == TRIALS
    assert max(lrs(one)) <= 0.1
    assert sum(
        text.endswith("lies at no end of a range: the search goes on in its space.") for text in story(one)
    ) == len(LOOKS)


def test_a_best_further_out_is_followed_twice():
    one = tuner("sobol", trials=100, follow_up=True)

    played(one, peaked_at(30.0))

    assert [space.edges[0].end for space in one.spaces[1:]] == ["high", "high"]
    assert one.spaces[2].space.dimensions[0].domain.high > one.spaces[1].space.dimensions[0].domain.high > 0.1


def test_what_does_not_learn_looks_at_the_outer_half_of_the_box_and_beyond():
    one = tuner("sobol", trials=30, follow_up=True)

    played(one, peaked_at(OUTSIDE))

    began, within = one.spaces[1].began, one.spaces[1].within.dimensions[0].domain
    assert began == math.ceil(LOOKS[0] * 30)
    assert (within.low, within.high) == (pytest.approx(10**-2.5, rel=1e-3), pytest.approx(10**0.5, rel=0.05))
    assert min(lrs(one)[began:]) >= within.low


def test_a_grid_is_trained_whole_before_anything_further():
    one = tuner("grid", follow_up=True)

    played(one, peaked_at(OUTSIDE))

    assert lrs(one)[1:6] == pytest.approx([10**power for power in (-4, -3.25, -2.5, -1.75, -1)], rel=1e-3)
    assert one.spaces[1].began == 6
    assert one.found.trial.values["optimizer.lr"] > 0.1


def test_a_perfect_score_needs_no_follow_up():
    one = tuner("sobol", trials=TRIALS, follow_up=True)

    played(one, lambda proposal: 1.0 if (proposal.recipe.optimizer.lr or 0) > 0.05 else 0.5)

    assert one.over == "no higher score is possible"
    assert looked(story(one)) == []


def test_time_is_kept_for_the_follow_up():
    """A training takes 10 s. Of 300 s, some 20 are for what follows the search, and three fifths of the others come first."""
    one = tuner("sobol", limit=300.0, on_all=1.0, follow_up=True)

    played(one, peaked_at(OUTSIDE))

    assert one.spaces[1].began == pytest.approx(0.6 * 28, abs=1)
    assert one.ledger.spent <= 300


def test_the_epochs_of_the_budget_are_kept_for_it_and_not_overrun():
    one = tuner("random", most_epochs=20 * RECIPE.epochs, follow_up=True)

    played(one, peaked_at(OUTSIDE))

    assert [space.began for space in one.spaces[1:2]] == [12]
    assert len(lrs(one)) == 20


@pytest.mark.parametrize("strategy", ["sobol", "asha", "tpe", "freeze-thaw"])
@pytest.mark.parametrize("slots", [2, 4])
def test_any_number_of_workers_up_to_the_lag_finds_the_same(strategy, slots):
    alone, together = (tuner(strategy, trials=TRIALS, follow_up=True) for _ in range(2))

    assert told_of(played(together, peaked_at(OUTSIDE), slots=slots)) == told_of(played(alone, peaked_at(OUTSIDE)))
    assert story(together)[-1] == story(alone)[-1]
    assert [one.began for one in together.spaces] == [one.began for one in alone.spaces]


def recorded(asked):
    return [
        {"number": one.number, "role": one.role, "reason": one.reason, "changes": dict(one.changes), "stage": one.stage}
        | {"continues": one.continues, "epochs_now": one.epochs_now}
        for one in asked
    ]


@pytest.mark.parametrize("strategy", ["sobol", "asha", "tpe", "cmaes"])
@pytest.mark.parametrize("killed_after", [5, 12, 13, 14, 16, 18, 21])
def test_the_journal_restores_it_into_the_same_future(strategy, killed_after):
    whole, again = (tuner(strategy, trials=TRIALS, follow_up=True, on_all=1.0) for _ in range(2))
    asked = played(whole, peaked_at(OUTSIDE))
    restored = []
    for record in recorded(asked[:killed_after]):
        restored.append(again.restore(record))
        again.tell(outcome(restored[-1], peaked_at(OUTSIDE)(restored[-1])))

    assert told_of([*restored, *played(again, peaked_at(OUTSIDE))]) == told_of(asked)
    assert again.entries == whole.entries


def test_with_outcomes_still_out_a_restored_follow_up_waits():
    whole, again = (tuner("sobol", trials=TRIALS, follow_up=True) for _ in range(2))
    asked = played(whole, peaked_at(OUTSIDE))
    records = recorded(asked)
    first = [again.restore(record) for record in records[:12]]

    assert again.restore(records[12]) is None
    for proposal in first:
        again.tell(outcome(proposal, peaked_at(OUTSIDE)(proposal)))

    assert again.restore(records[12]).changes == asked[12].changes


def test_an_end_beyond_which_no_recipe_goes_is_not_followed():
    space = parse_space({"augment.mixup": {"low": 0.0, "high": 0.4}}, RECIPE)
    before = Looked(began=0, space=space, within=space)

    assert beyond(before, {"augment.mixup": 0.0}, search_recipes("sobol", RECIPE, space)) is None


def test_a_prior_that_lies_in_the_inner_half_is_left_out_there_and_kept_in_the_whole():
    tree = {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True, "prior": {"centre": 1e-3, "width": 0.5}}}
    space = parse_space(tree, RECIPE)

    before = Looked(began=0, space=space, within=space)
    found = beyond(before, {"optimizer.lr": 0.099}, search_recipes("sobol", RECIPE, space))

    assert found.within.dimensions[0].domain.prior is None
    assert found.space.dimensions[0].domain.prior == space.dimensions[0].domain.prior


def test_a_range_of_the_same_ends_under_another_condition_is_not_followed():
    rates = [{"low": 1e-4, "high": 1e-2, "log": True, "when": {"optimizer.name": [name]}} for name in ("adamw", "sgd")]
    space = parse_space({"optimizer.name": {"choices": ["adamw", "sgd"]}, "optimizer.lr": rates}, RECIPE)
    search = search_recipes("sobol", RECIPE, space)
    before = Looked(began=0, space=space, within=space)

    found = beyond(before, {"optimizer.name": "sgd", "optimizer.lr": 9.9e-3}, search)

    assert found is not None
    (_, adamw, sgd) = (one.domain for one in found.within.dimensions)
    assert adamw == space.dimensions[1].domain
    assert (sgd.low, sgd.high) == (pytest.approx(1e-3), pytest.approx(0.1))
