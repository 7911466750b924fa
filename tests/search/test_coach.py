"""The coach on made-up outcomes: what it asks for depends on what it is told, and on nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from trainwright.recipe import Recipe
from trainwright.records import Outcome, Prescription, Proposal
from trainwright.search.coach import Coach
from trainwright.search.ledger import Ledger, Pace
from trainwright.search.planning import affordable

IMAGES = 1000
KNOWN = {
    "task": "classification",
    "train_count": 4000,
    "image_size": (32, 32),
    "classes": ("cat", "dog"),
    "device": "cpu",
    "pretrained": frozenset(),
}
STORY = Recipe().changed({"optimizer.name": "adam", "epochs": 10, "batch_size": 50})


def coach(limit: float = 600.0, recipe: Recipe = STORY, **more: Any) -> Coach:
    ledger = Ledger(limit=limit, pace=Pace(epoch_seconds=1.0, run_seconds=2.0))
    return Coach(recipe, ledger=ledger, score=None, known=KNOWN, **{"seed": 0, "on_all": 1.25, **more})


def outcome(proposal: Proposal, accuracy: float, *, verdict: str = "overfits", **more: Any) -> Outcome:
    """Of a run that got the share `accuracy` of the images right; which of those near the border depends on its seed."""
    rng = np.random.default_rng(proposal.recipe.seed + 7919 * proposal.number)
    difficulty_N = np.linspace(0, 1, IMAGES)
    right_N = (difficulty_N + rng.normal(0, 0.05, IMAGES)) < accuracy
    yes = [finding(verdict)] if verdict in ("overfits", "diverged") else []
    seconds = 2.0 + proposal.recipe.epochs
    result = {
        "metric": "accuracy",
        "epochs": proposal.recipe.epochs,
        "seconds": float(proposal.recipe.epochs),
        "score": {"train": 0.99, "val": float(right_N.mean())},
        "gap": {"value": 0.2, "low": 0.17, "high": 0.23},
        "verdict": verdict,
        "findings": yes,
        "val_scores": [accuracy] * proposal.recipe.epochs,
        "kept_epoch": proposal.recipe.epochs - 1,
        "recipe": proposal.recipe.changed({"optimizer.lr": 0.003}).model_dump(mode="json"),
    }
    return Outcome(
        **{
            "number": proposal.number,
            "run": f"run-{proposal.number:03d}",
            "state": "finished",
            "score": float(right_N.mean()),
            "seconds": seconds,
            "result": result,
            "answers": right_N[:, None].astype(float),
            **more,
        }
    )


def finding(rule: str) -> dict[str, Any]:
    return {"rule": rule, "verdict": "yes", "evidence": f"It {rule}.", "advice": "", "figures": {}}


def play(strategy: Coach, accuracy: Callable[[Proposal], float]) -> list[Proposal]:
    """Everything that it asks for, told the accuracy of each."""
    asked = []
    while not strategy.done:
        proposal = strategy.ask()
        assert proposal is not None
        asked.append(proposal)
        strategy.tell(outcome(proposal, accuracy(proposal)))
    return asked


def play_on(strategy: Coach, proposal: Proposal, accuracy: Callable[[Proposal], float]) -> list[Proposal]:
    """As `play`, from a proposal that was asked for already."""
    strategy.tell(outcome(proposal, accuracy(proposal)))
    return play(strategy, accuracy)


def augmented(proposal: Proposal) -> bool:
    return proposal.recipe.augment.crop_padding > 0 or proposal.recipe.augment.crop_scale is not None


def test_the_baseline_comes_first_then_a_control_that_differs_in_its_seed_alone():
    asked = play(coach(), lambda proposal: 0.7)

    assert [one.role for one in asked[:2]] == ["baseline", "control"]
    assert asked[0].recipe == STORY
    assert asked[1].recipe.changed({"seed": 0}) == STORY
    assert asked[1].recipe.seed != 0


def test_arms_are_trained_with_the_seed_and_the_time_of_their_control():
    asked = play(coach(), lambda proposal: 0.7)
    control, arm = asked[1], asked[2]

    assert arm.role == "arm"
    assert arm.recipe.seed == control.recipe.seed
    assert arm.recipe != control.recipe


def test_where_no_arm_is_better_the_recipe_stays_as_it_was():
    strategy = coach()

    play(strategy, lambda proposal: 0.7)

    assert strategy.incumbent is not None
    assert strategy.incumbent.remedies == ()
    assert strategy.gain() is None
    assert "stays as it was" in strategy.summary()


def test_an_arm_that_is_better_beyond_chance_is_adopted_and_everything_after_builds_on_it():
    strategy = coach()

    asked = play(strategy, lambda proposal: 0.8 if augmented(proposal) else 0.7)

    assert strategy.rounds[0].adopted is not None
    later = [one for one in asked if one.number > asked[2].number + 4 and one.role in ("control", "arm", "final")]
    assert later
    assert all(augmented(one) for one in later)


def test_the_gain_is_that_of_runs_which_were_not_chosen_for_their_score():
    strategy = coach()

    play(strategy, lambda proposal: 0.8 if augmented(proposal) else 0.7)
    gain = strategy.gain()

    assert gain is not None
    assert gain.gain.low > 0.05
    assert gain.gain.value == pytest.approx(0.1, abs=0.02)
    assert strategy.incumbent is not None
    assert strategy.incumbent.fresh


def test_the_final_training_takes_val_in_and_keeps_the_last_weights():
    asked = play(coach(), lambda proposal: 0.8 if augmented(proposal) else 0.7)

    assert asked[-1].role == "final"
    assert asked[-1].on_all
    assert (asked[-1].recipe.data.train_on, asked[-1].recipe.keep) == ("train+val", "last")


def test_without_a_final_training_it_ends_with_what_is_proven():
    asked = play(coach(on_all=None), lambda proposal: 0.7)

    assert "final" not in {one.role for one in asked}


@pytest.mark.parametrize("limit", [60.0, 120.0, 300.0, 1200.0])
def test_the_budget_is_not_overrun_and_most_of_it_is_used(limit):
    strategy = coach(limit)

    play(strategy, lambda proposal: 0.8 if augmented(proposal) else 0.7)

    assert strategy.ledger.spent <= 1.1 * limit


def test_told_the_same_it_asks_for_the_same():
    """What resuming after a kill rests on."""
    first, second = (play(coach(), lambda proposal: 0.8 if augmented(proposal) else 0.7) for _ in range(2))

    assert first == second


def test_a_run_that_is_told_out_of_turn_changes_nothing():
    ordered, turned = coach(), coach()
    for strategy, back in ((ordered, False), (turned, True)):
        for _ in range(2):
            one = strategy.ask()
            assert one is not None
            strategy.tell(outcome(one, 0.7))
        arms = []
        while (one := strategy.ask()) is not None:
            arms.append(one)
        for arm in reversed(arms) if back else arms:
            strategy.tell(outcome(arm, 0.8 if augmented(arm) else 0.7))

    assert ordered.ask() == turned.ask()
    assert ordered.entries == turned.entries


def test_an_arm_that_failed_is_a_part_of_the_story_and_not_its_end():
    strategy = coach()
    asked = []
    while not strategy.done:
        one = strategy.ask()
        assert one is not None
        asked.append(one)
        failed = {"state": "failed", "score": math.nan, "answers": None, "result": {"message": "no memory left."}}
        strategy.tell(outcome(one, 0.7, **(failed if one.role == "arm" else {})))

    assert strategy.rounds
    assert {arm.verdict for one in strategy.rounds for arm in one.arms} == {"hopeless"}
    assert any("no memory left" in entry.text for entry in strategy.entries)


def test_a_baseline_that_fails_ends_the_study_with_the_reason():
    strategy = coach()
    one = strategy.ask()
    assert one is not None

    strategy.tell(outcome(one, 0.7, state="failed", answers=None, result={"message": "the loss is not finite."}))

    assert strategy.done
    assert any("the loss is not finite" in entry.text for entry in strategy.entries)


def test_a_baseline_that_breaks_down_is_trained_with_what_answers_that():
    strategy = coach()
    one = strategy.ask()
    assert one is not None
    broken = {"message": "the loss is not finite.", "findings": [finding("diverged")]}

    strategy.tell(outcome(one, 0.7, state="failed", answers=None, result=broken))
    again = strategy.ask()
    assert again is not None
    rest = play_on(strategy, again, lambda proposal: 0.7)

    assert again.role == "baseline"
    assert again.recipe != one.recipe
    assert any(proposal.role == "control" for proposal in rest)
    repairs = ", ".join(strategy.held.repairs)
    assert f"As it was, its training broke down; with {repairs} it did not." in strategy.summary()
    if strategy.gain() is None:
        assert f"beyond {repairs}, the recipe stays as it was" in strategy.summary()


def test_of_a_baseline_that_keeps_breaking_down_no_remedy_is_told_that_is_not_trained():
    strategy = coach()
    broken = {"message": "the loss is not finite.", "findings": [finding("diverged")]}
    asked = []

    while (proposal := strategy.ask()) is not None:
        asked.append(proposal)
        strategy.tell(outcome(proposal, 0.7, state="failed", answers=None, result=broken))

    tried = [entry.text for entry in strategy.entries if entry.text.startswith("Trying ")]
    assert [one.role for one in asked] == ["baseline"] * 3
    assert len(tried) == 2
    assert strategy.entries[-1].text == "Nothing can be compared with a baseline that failed."


def test_an_arm_that_does_not_hold_up_with_another_seed_is_not_adopted():
    strategy = coach()

    asked = play(strategy, lambda proposal: 0.8 if proposal.role == "arm" and augmented(proposal) else 0.7)

    assert any(one.role == "confirmation" for one in asked)
    assert strategy.incumbent is not None
    assert strategy.incumbent.remedies == ()
    assert "not confirmed" in {arm.verdict for one in strategy.rounds for arm in one.arms}


def test_arms_of_a_round_make_different_recipes_and_none_comes_twice():
    asked = play(coach(3600.0), lambda proposal: 0.8 if augmented(proposal) else 0.7)
    arms = [one.recipe.changed({"seed": 0}) for one in asked if one.role == "arm"]

    assert len(arms) == len(set(map(repr, arms)))


def test_longer_is_adopted_where_it_pays_and_the_final_training_is_as_long_or_longer():
    def accuracy(proposal: Proposal) -> float:
        return 0.7 + 0.1 * augmented(proposal) + 0.05 * (proposal.recipe.epochs > 2 * STORY.epochs)

    strategy = coach(1200.0, STORY.changed({"schedule.name": "cosine"}))
    asked = play(strategy, accuracy)

    assert strategy.incumbent is not None
    assert strategy.incumbent.stretched
    tried = [(one.outcome.run, one.epochs, one.verdict) for one in strategy.lengths]
    longer = [one for one in asked if one.label == "longer"]
    assert [run for run, *_ in tried] == [f"run-{one.number:03d}" for one in longer]
    assert tried[0][1:] == (longer[0].recipe.epochs, "adopted")
    assert asked[-1].recipe.epochs >= strategy.incumbent.recipe.epochs


ANNEALED = STORY.changed({"schedule.name": "cosine"})


@pytest.mark.parametrize("limit", [60.0, 80.0, 100.0, 140.0, 200.0, 300.0, 600.0, 1200.0])
@pytest.mark.parametrize("helps", [True, False])
def test_what_is_left_of_a_budget_is_used_or_it_is_said_why_not(limit, helps):
    strategy = coach(limit, ANNEALED)

    play(strategy, lambda one: 0.8 if helps and augmented(one) else 0.7)
    left = strategy.ledger.left

    assert left < 0.15 * limit or "The rest of the time is left unused: " in strategy.entries[-1].text


def test_with_little_time_the_longer_training_is_as_long_as_the_final_one_behind_it():
    strategy = coach(100.0, ANNEALED)

    asked = play(strategy, lambda one: 0.7)
    longer, final = asked[-2:]

    assert (longer.label, final.role) == ("longer", "final")
    assert longer.recipe.epochs == final.recipe.epochs > 1.5 * STORY.epochs
    assert strategy.ledger.spent > 0.85 * 100
    assert strategy.unproven is not None
    assert strategy.unproven.outcome.run == f"run-{longer.number:03d}"
    assert "not proven" in strategy.summary()
    assert strategy.incumbent is not None
    assert strategy.incumbent.recipe.epochs == STORY.epochs


def test_a_final_training_longer_than_any_on_train_alone_is_told_as_that():
    strategy = coach(45.0, ANNEALED)

    asked = play(strategy, lambda one: 0.7)
    recipe, judged = strategy.handed_over

    assert [one.role for one in asked] == ["baseline", "final"]
    assert asked[-1].recipe.epochs == recipe.epochs == 2 * STORY.epochs
    assert judged.run == "run-000"
    assert "The model has 20 epochs instead of 10. No training on train alone was as long" in strategy.summary()


def test_what_surely_does_not_overfit_may_be_trained_further_at_the_end():
    strategy = coach(45.0, ANNEALED)
    one = strategy.ask()
    assert one is not None
    told = outcome(one, 0.7, verdict="fine")
    told.result["findings"] = [finding("overfits") | {"verdict": "no"}]

    strategy.tell(told)
    final = strategy.ask()

    assert final is not None
    assert (final.role, final.recipe.epochs) == ("final", 23)


def test_where_the_incumbent_does_not_profit_from_length_what_is_kept_for_it_is_used_for_a_round():
    strategy = coach(74.0, STORY)  # a constant rate

    asked = play(strategy, lambda one: 0.7)

    assert sum(one.role == "arm" for one in asked) == 2
    assert asked[-1].role == "final"
    assert strategy.ledger.spent <= 74


def test_two_rounds_of_one_arm_are_no_end_while_there_is_time():
    """Arms that are given up early: short time leaves a round one, and what they did not take is there for others."""
    strategy = coach(74.0)
    while (one := strategy.ask()) is not None:
        given_up = {"state": "stopped", "answers": None, "seconds": 4.0, "result": {"message": "far below."}}
        strategy.tell(outcome(one, 0.7, **(given_up if one.role == "arm" else {})))

    assert [len(one.arms) for one in strategy.rounds[:3]] == [1, 1, 1]
    assert strategy.ledger.spent <= 74


def test_that_time_alone_forbids_another_round_is_told():
    strategy = coach(70.0, ANNEALED)

    play(strategy, lambda one: 0.7)
    said = [entry.text for entry in strategy.entries if entry.text.startswith("No further round")]

    assert "take longer than there is time" in said[0]


@pytest.mark.parametrize(("seconds", "fits"), [(63.0, False), (65.0, True)])
def test_looking_again_is_counted_with_what_the_arm_costs(seconds, fits):
    """A remedy of four times the cost, in half of the epochs: 22 s, and as long again, beside a control of 10 s once more."""
    dear = remedy("wider", {"network.width": 64}, cost=4.0)
    ledger = Ledger(limit=1000.0, pace=Pace(epoch_seconds=1.0, run_seconds=2.0))

    chosen = affordable(
        [dear], STORY, ledger, seconds=seconds, cost=1.0, least_gain=0.0, most=3, beside=[8.0], beside_again=[12.0]
    )

    assert chosen == ([dear] if fits else [])


def remedy(name: str, changes: dict[str, Any], *, cost: float) -> Prescription:
    return Prescription(
        remedy=name,
        finding="too-small",
        changes=changes,
        reason="",
        effect="",
        gain=0.1,
        cost=cost,
        source="",
        retune=False,
    )


def test_where_the_longer_training_was_worse_the_final_one_is_not_longer():
    strategy = coach(100.0, ANNEALED)

    asked = play(strategy, lambda one: 0.5 if one.label == "longer" else 0.7)

    assert (asked[-1].role, asked[-1].recipe.epochs) == ("final", STORY.epochs)
    assert strategy.unproven is None
    assert [one.verdict for one in strategy.lengths] == ["worse"]
    assert "a longer training failed or was worse" in strategy.entries[-1].text


def test_where_the_longer_training_failed_the_final_one_goes_no_further_than_what_is_proven():
    strategy, asked = coach(100.0, ANNEALED), []
    while (one := strategy.ask()) is not None:
        asked.append(one)
        failed = {"state": "failed", "answers": None, "result": {"message": "no memory left."}}
        strategy.tell(outcome(one, 0.7, **(failed if one.label == "longer" else {})))

    assert [one.label for one in asked[-2:]] == ["longer", "final"]
    assert asked[-1].recipe.epochs == STORY.epochs
    assert [one.verdict for one in strategy.lengths] == ["hopeless"]
    assert not any("No time was left to prove" in entry.text for entry in strategy.entries)


def test_a_short_budget_does_without_a_control_of_its_own_and_still_looks_twice():
    asked = play(coach(80.0), lambda proposal: 0.8 if augmented(proposal) else 0.7)
    roles = [one.role for one in asked]

    assert roles[:2] == ["baseline", "arm"]
    assert "control" not in roles
    assert "confirmation" in roles


def test_a_final_training_that_collapsed_is_not_handed_over():
    strategy = coach()
    while not strategy.done:
        one = strategy.ask()
        assert one is not None
        told = outcome(one, 0.7)
        if one.role == "final":
            told.result["score"]["train"] = 0.5
        strategy.tell(told)

    assert strategy.final is None
    assert any("not handed over" in entry.text for entry in strategy.entries)


def test_an_arm_is_given_up_below_a_floor_that_its_control_has_set():
    asked = play(coach(), lambda proposal: 0.7)
    floor = asked[2].floor

    assert len(floor) == STORY.epochs
    assert floor[0] < -1
    assert 0.5 < floor[-1] < 0.65


def test_nothing_but_seeds_is_adopted_in_few_rounds():
    """Arms without an effect: each of 40 studies has a chance of a few percent a round."""
    adopted = 0
    for seed in range(40):
        strategy = coach(300.0, seed=seed)
        play(strategy, lambda proposal: 0.7)
        adopted += any(one.adopted for one in strategy.rounds)

    assert adopted <= 4
