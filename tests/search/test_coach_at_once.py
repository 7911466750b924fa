"""The coach where two runs are trained at a time: what it asks for together, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.search.test_coach import KNOWN, STORY, augmented, finding, outcome

from trainwright.recipe import Recipe
from trainwright.records import Outcome, Proposal
from trainwright.search.coach import Coach
from trainwright.search.ending import FARTHEST
from trainwright.search.ledger import Ledger, Pace

Accuracy = Callable[[Proposal], float]
COSINE = STORY.changed({"schedule.name": "cosine"})


def coach(limit: float = 600.0, recipe: Recipe = STORY, **more: Any) -> Coach:
    ledger = Ledger(limit=limit, pace=Pace(epoch_seconds=1.0, run_seconds=2.0), slots=2)
    return Coach(recipe, ledger=ledger, score=None, known=KNOWN, **{"seed": 0, "on_all": 1.25, **more})


def play(
    strategy: Coach, accuracy: Accuracy, told: Callable[[Outcome], Outcome] = lambda one: one
) -> list[list[Proposal]]:
    """Everything that it asks for, wave by wave, told the accuracy of each, and that two runs at a time take half as long."""
    waves = []
    while not strategy.done:
        wave = []
        while (one := strategy.ask()) is not None:
            wave.append(one)
        assert wave
        waves.append(wave)
        found = [told(outcome(one, accuracy(one))) for one in wave]
        seconds = strategy.ledger.together([one.seconds for one in found])
        for place, one in enumerate(found):
            strategy.tell(replace(one, elapsed=seconds if place == 0 else 0.0))
    return waves


def roles(waves: Sequence[Sequence[Proposal]]) -> list[list[str]]:
    return [[one.role for one in wave] for wave in waves]


def test_a_control_stands_beside_the_baseline_and_the_first_round_needs_no_other():
    waves = play(coach(), lambda proposal: 0.7)

    assert roles(waves)[0] == ["baseline", "control"]
    assert waves[0][1].recipe.changed({"seed": 0}) == STORY
    assert set(roles(waves)[1]) == {"arm"}


def test_an_arm_that_seems_better_is_looked_at_again_with_a_control_beside_it():
    strategy = coach()

    waves = play(strategy, lambda proposal: 0.8 if augmented(proposal) else 0.7)

    assert roles(waves)[2] == ["confirmation", "control"]
    assert strategy.rounds[0].adopted is not None


def test_no_wave_leaves_a_slot_idle_but_where_one_run_is_all():
    waves = play(coach(), lambda proposal: 0.8 if augmented(proposal) else 0.7)

    assert {len(wave) % 2 for wave in waves if len(wave) > 1} == {0}


def test_a_remedy_that_another_one_holds_waits_for_a_later_round():
    waves = play(coach(), lambda proposal: 0.7)
    assert "published-recipe" in [one.label for one in waves[1]]
    assert "augmentation" not in [one.label for one in waves[1]]


def test_the_longer_training_and_the_final_one_stand_beside_each_other_and_are_as_long():
    waves = play(coach(recipe=COSINE), lambda proposal: 0.8 if augmented(proposal) else 0.7)
    longer, final = waves[-1]

    assert (longer.role, final.role, final.on_all) == ("arm", "final", True)
    assert longer.recipe.epochs == final.recipe.epochs > COSINE.epochs
    assert longer.recipe.data.train_on == "train"
    assert final.recipe.network == longer.recipe.network


def test_the_longer_training_is_what_the_model_is_judged_by():
    strategy = coach(recipe=COSINE)

    waves = play(strategy, lambda proposal: 0.7 + 0.1 * augmented(proposal))

    recipe, judged = strategy.handed_over
    assert strategy.final is not None
    assert judged.number == waves[-1][0].number
    assert recipe.epochs == waves[-1][1].recipe.epochs


def test_length_that_was_not_proven_is_told_apart_from_what_was():
    strategy = coach(recipe=COSINE)

    play(strategy, lambda proposal: 0.7)

    assert strategy.held.remedies == ()
    assert strategy.gain() is None
    assert strategy.held.recipe.epochs == COSINE.epochs
    assert "That length pays is not proven" in strategy.summary()


def test_length_that_is_better_beyond_chance_is_a_remedy_like_any_other():
    strategy = coach(recipe=COSINE)

    play(strategy, lambda proposal: 0.8 if proposal.recipe.epochs > 3 * COSINE.epochs else 0.7)

    assert [remedy.partition(" ")[0] for remedy in strategy.held.remedies] == ["longer"]
    assert strategy.unproven is None
    gain = strategy.gain()
    assert gain is not None
    assert gain.gain.low > 0


@pytest.mark.parametrize("changes", [{"optimizer.lr": None}, {"batch_size": "auto"}])
def test_no_control_stands_beside_a_baseline_that_measures_its_own_values(changes):
    """The two would measure other ones, and no longer differ in their seed alone."""
    waves = play(coach(recipe=STORY.changed(changes)), lambda proposal: 0.7)

    assert roles(waves)[0] == ["baseline"]
    assert roles(waves)[1][0] == "control"


def test_a_control_that_fails_beside_its_arms_costs_none_of_them():
    """Where there is time, later rounds have a control in the wave of their arms."""
    strategy = coach(2400.0)
    asked: dict[int, str] = {}

    def accuracy(proposal: Proposal) -> float:
        asked[proposal.number] = proposal.role
        return 0.8 if augmented(proposal) else 0.7

    def told(one: Outcome) -> Outcome:
        fails = asked[one.number] == "control" and one.number > 1
        return replace(one, state="failed", answers=None, result={"message": "gone."}) if fails else one

    play(strategy, accuracy, told)

    assert len(strategy.rounds) > 1
    assert all(one.arms for one in strategy.rounds)
    assert any("Earlier trainings stand in for it" in entry.text for entry in strategy.entries)


def test_a_longer_training_that_is_worse_beyond_chance_hands_over_the_best_so_far():
    strategy = coach(recipe=COSINE)

    def accuracy(proposal: Proposal) -> float:
        return 0.4 if proposal.label == "longer" else 0.7 + 0.1 * augmented(proposal)

    waves = play(strategy, accuracy)

    assert strategy.final is None
    assert strategy.handed_over[1].number != waves[-1][0].number
    assert any("not handed over" in entry.text for entry in strategy.entries)


def test_a_final_training_without_a_longer_one_to_judge_it_by_is_not_handed_over():
    strategy = coach(recipe=COSINE)

    def told(one: Outcome) -> Outcome:
        at_the_end = [entry for entry in strategy.entries if entry.text.startswith("Trying the same for longer")]
        if not at_the_end or one.result["recipe"]["data"]["train_on"] != "train":
            return one
        return replace(one, state="failed", answers=None, result={"message": "no memory."})

    play(strategy, lambda proposal: 0.7, told)

    assert "no memory." in " ".join(entry.text for entry in strategy.entries)
    assert strategy.final is None


def test_the_longest_is_six_times_what_was_proven():
    waves = play(coach(36_000.0, COSINE), lambda proposal: 0.7)

    assert waves[-1][-1].recipe.epochs <= FARTHEST * max(one.recipe.epochs for wave in waves[:-1] for one in wave)


@pytest.mark.parametrize("limit", [60.0, 120.0, 300.0, 1200.0])
@pytest.mark.parametrize("recipe", [STORY, COSINE])
def test_the_budget_is_not_overrun(limit, recipe):
    strategy = coach(limit, recipe)

    play(strategy, lambda proposal: 0.8 if augmented(proposal) else 0.7)

    assert strategy.ledger.spent <= 1.1 * limit


def test_told_the_same_it_asks_for_the_same():
    first, second = (play(coach(), lambda proposal: 0.8 if augmented(proposal) else 0.7) for _ in range(2))

    assert first == second


def test_a_control_that_failed_beside_the_baseline_is_no_end():
    strategy = coach()

    def told(one: Outcome) -> Outcome:
        return replace(one, state="failed", answers=None, result={"message": "gone."}) if one.number == 1 else one

    waves = play(strategy, lambda proposal: 0.7, told)

    assert len(waves) > 2
    assert "control" in roles(waves)[1]


def test_the_belief_is_that_of_the_baseline_whose_cause_probes_have_found():
    """The control beside it is judged too, but nobody has probed it."""
    strategy = coach()

    def told(one: Outcome) -> Outcome:
        found = [finding("too-small")] if one.number == 0 else []
        return replace(one, result={**one.result, "findings": found})

    play(strategy, lambda proposal: 0.7, told)

    assert "It too-small." in next(entry.text for entry in strategy.entries if entry.step == "belief")


def test_the_baseline_has_time_for_probes_and_nothing_else_has():
    waves = play(coach(600.0), lambda proposal: 0.7)
    asked = {one.role: one.probe_seconds for wave in waves for one in wave}

    assert asked.pop("baseline") == 60.0
    assert set(asked.values()) == {0.0}


def lengths_at_the_end(share: float, strategy: Coach | None = None) -> tuple[int, int]:
    """Epochs of the longer training and of the final one. share: of a training's time, what is not evaluation."""

    def told(one: Outcome) -> Outcome:
        return replace(one, result={**one.result, "step_seconds": share * one.result["seconds"]})

    strategy = coach(110.0, recipe=COSINE) if strategy is None else strategy
    waves = play(strategy, lambda proposal: 0.8 if augmented(proposal) else 0.7, told)
    assert roles(waves)[-1] == ["arm", "final"]
    longer, final = waves[-1]
    return longer.recipe.epochs, final.recipe.epochs


def test_the_final_training_has_the_time_that_being_evaluated_once_saves():
    """Its images take a quarter more; where a fifth of the time is evaluation, it goes as fast as the one beside it."""
    slow, even, fast = lengths_at_the_end(1.0), lengths_at_the_end(0.8), lengths_at_the_end(0.64)

    assert slow[0] == slow[1]
    assert even[0] == even[1] == pytest.approx(1.25 * slow[1], rel=0.05)
    assert fast[0] == even[0]  # the other one is still evaluated every epoch
    assert fast[1] == pytest.approx(1.25 * fast[0], rel=0.05)


def test_the_longer_training_is_no_longer_than_the_final_one():
    assert all(longer <= final for longer, final in map(lengths_at_the_end, (1.0, 0.9, 0.7, 0.5)))


def test_what_the_final_training_has_beyond_the_longer_one_is_told():
    strategy = coach(110.0, recipe=COSINE)

    longer, final = lengths_at_the_end(0.64, strategy)

    assert strategy.unproven is not None
    assert strategy.unproven.recipe.epochs == final
    assert any(f"final, {final} epochs in the time" in entry.text for entry in strategy.entries)
    assert f"The model has {final} epochs" in strategy.summary()
    assert f"trained for {longer} on train alone" in strategy.summary()


def test_length_that_is_proven_is_that_of_the_longer_training():
    strategy = coach(80.0, recipe=COSINE)

    def told(one: Outcome) -> Outcome:
        return replace(one, result={**one.result, "step_seconds": 0.64 * one.result["seconds"]})

    waves = play(strategy, lambda proposal: 0.6 + 0.2 * (proposal.recipe.epochs > 2 * COSINE.epochs), told)
    longer, final = (one.recipe.epochs for one in waves[-1])

    assert strategy.held.remedies == (f"longer ({longer} epochs)",)
    assert strategy.unproven is not None
    assert (strategy.unproven.proven_epochs, strategy.unproven.recipe.epochs) == (longer, final)
    assert f"{longer} epochs reached" in strategy.summary()


def settled_by(strategy: Coach, better: float, **more: Any) -> list[list[Proposal]]:
    return play(strategy, lambda proposal: 0.7 + better * augmented(proposal), **more)


def test_what_is_sure_at_first_sight_is_adopted_without_a_second_look_where_no_other_round_would_follow():
    """Its longer training has another seed: the study ends with one, and has the time of the second look for it."""
    strategy, unsure = coach(80.0, COSINE), coach(80.0, COSINE)

    waves, others = settled_by(strategy, 0.2), settled_by(unsure, 0.05)

    assert roles(waves) == [["baseline", "control"], ["arm", "arm"], ["arm", "final"]]
    assert strategy.rounds[0].adopted in strategy.held.remedies
    assert waves[-1][0].label == "longer"
    assert waves[-1][0].recipe.seed not in {one.recipe.seed for wave in waves[:-1] for one in wave}
    assert any("sure at first sight" in entry.text for entry in strategy.entries)
    assert roles(others)[2] == ["confirmation", "control"]
    assert waves[-1][1].recipe.epochs > others[-1][-1].recipe.epochs


def test_what_is_sure_at_first_sight_is_looked_at_again_where_there_is_time_for_other_rounds():
    strategy = coach(600.0, COSINE)

    waves = settled_by(strategy, 0.2)

    assert roles(waves)[2] == ["confirmation", "control"]
    assert strategy.rounds[0].adopted is not None
    assert len(strategy.rounds) > 1


def test_what_is_sure_at_first_sight_is_looked_at_again_where_no_final_training_follows():
    assert roles(settled_by(coach(80.0, COSINE, on_all=None), 0.2))[2] == ["confirmation", "control"]


def test_against_one_training_alone_nothing_is_sure_at_first_sight():
    strategy = coach(80.0, COSINE)
    roles_of: dict[int, str] = {}

    def accuracy(proposal: Proposal) -> float:
        roles_of[proposal.number] = proposal.role
        return 0.7 + 0.2 * augmented(proposal)

    def told(one: Outcome) -> Outcome:
        gone = roles_of[one.number] == "control"
        return replace(one, state="failed", answers=None, result={"message": "gone."}) if gone else one

    play(strategy, accuracy, told)

    assert strategy.rounds
    assert not any(one.settled for one in strategy.rounds)


def test_the_gain_of_what_was_settled_at_first_sight_is_that_of_its_one_training():
    strategy = coach(80.0, COSINE)

    settled_by(strategy, 0.2)
    gain = strategy.gain()

    assert gain is not None
    assert gain.gain.low > 0.1
    assert gain.seeds[1] == 2
