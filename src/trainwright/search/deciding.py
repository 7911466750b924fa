"""How a round is decided: what each arm looks like, and the best of them once more with another seed before it is adopted."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING

from trainwright.diagnosis.comparison import SETTLED, SURE, Comparison, adopted, worth_a_second_look
from trainwright.diagnosis.noise import noise_floor
from trainwright.diagnosis.prescribe import Tried
from trainwright.diagnosis.wording import points_within
from trainwright.records import Outcome, Prescription, Proposal
from trainwright.search import ending, planning, telling
from trainwright.search.rounds import WORDS, Arm, Incumbent, Round

if TYPE_CHECKING:
    from trainwright.search.coach import Coach

CONFIRMING = 2  # runs that follow an arm which seems better: that arm and the control once more
LEAST_CONTROLS = 2  # trainings without an arm, for it to be sure at first sight
LEAST_WAVES = 2  # of a round: its arms, and the second look


def first_look(coach: Coach, one: Prescription, outcome: Outcome, first: Mapping[str, Comparison]) -> Arm:
    """What an arm looks like beside the trainings of the unchanged recipe."""
    if outcome.answers is None:
        coach.say("outcome", f"{one.remedy}: {telling.why(outcome)}", outcome.run)
        return Arm(prescription=one, outcome=outcome, verdict="hopeless")
    compared, decision = first[one.remedy], adopted(first, noise=coach.sigma)[one.remedy].decision
    said = f"{points_within(compared.gain)} against {telling.controls(compared)}"
    coach.say("outcome", f"{one.remedy}: {telling.scored(outcome)}; {said}.", outcome.run)
    return Arm(prescription=one, outcome=outcome, verdict=WORDS[decision], comparison=compared)


def decide(coach: Coach, this: Round, first: Mapping[str, Comparison]) -> ending.Plan:
    """Train the best of the arms that seem better once more, and the control with it; adopt it if it still is. What is sure at
    first sight is adopted without, where that time goes further in a longer training."""
    arms = {arm.prescription.remedy: arm for arm in this.arms if arm.comparison is not None}
    levels = worth_a_second_look(first, noise=coach.sigma)
    passing = [arms[name] for name in levels if name in arms]
    rules = frozenset(rule for rule, answer in telling.answers(coach.held.judged).items() if answer == "yes")
    again: Outcome | None = None
    if passing:
        best = passing[0]
        this.settled = _is_settled(coach, this, best, first)
        if not this.settled:
            if best.verdict != "adopted":
                said = "by itself it is better, beyond what the best of so many arms shows by chance it is not yet"
                coach.say("decision", f"{best.prescription.remedy} once more with another seed: {said}.")
            again = yield from _once_more(coach, this, best, first, levels[best.prescription.remedy])
        for other in passing[1:]:
            if other.verdict == "adopted":
                other.verdict = "better at first sight"
    for arm in this.arms:
        gain = planning.LOST if arm.comparison is None else arm.comparison.gain
        one = arm.prescription
        coach.tried.append(
            Tried(
                remedy=one.remedy,
                changes=one.changes,
                gain=gain,
                adopted=arm.verdict == "adopted",
                findings=rules,
            )
        )
    if again is None and not this.settled:
        if not (passing and best.verdict == "not looked at again"):  # that was said
            coach.say("decision", "No arm is better than the control beyond chance: the simpler recipe stays.")
        return
    this.adopted = best.prescription.remedy
    better = [arm.prescription for arm in passing[1:] if arm.verdict == "better at first sight"]
    coach.proven = planning.compatible(best.prescription, better)
    coach.incumbent = _with(coach, best, [] if again is None else [again])
    names = ", ".join(other.remedy for other in coach.proven)
    if again is not None:
        others = f" Also better at first sight, to be combined with it: {names}." if names else ""
        coach.say("decision", f"Adopted: {this.adopted}.{others}", best.outcome.run, again.run)
        return
    said = "sure at first sight. The time of a second look, which leaves none for another round, goes into a longer training"
    coach.say("decision", f"Adopted: {this.adopted}, {said} with another seed.", best.outcome.run)


def _with(coach: Coach, best: Arm, fresh: list[Outcome]) -> Incumbent:
    """The incumbent with what an arm has. fresh: its trainings with other seeds."""
    one, outcome = best.prescription, best.outcome
    recipe = planning.filled(planning.with_remedy(coach.held.recipe, one), outcome)
    return Incumbent(
        recipe=recipe.changed({"seed": coach.recipe.seed}),
        chosen=outcome,
        fresh=fresh,
        remedies=(*coach.held.remedies, one.remedy),
        repairs=coach.held.repairs,
        cost=coach.cost_of([outcome, *fresh][-1]),
    )


def _is_settled(coach: Coach, this: Round, best: Arm, first: Mapping[str, Comparison]) -> bool:
    """Whether the best arm needs no second look: sure against two trainings without it and more, and its time goes further at the
    end, where a longer training of it with another seed stands beside the final one; no other round would follow anyway."""
    remedy = best.prescription.remedy
    if best.verdict != "adopted" or first[remedy].seeds[1] < LEAST_CONTROLS:
        return False
    if adopted(first, noise=coach.sigma, level=SURE)[remedy].decision != "adopt":
        return False
    others = coach.explorable - _seconds_again(coach, this, best.prescription)
    room_for_a_round = others >= LEAST_WAVES * _seconds_again(coach, this, best.prescription)
    return not room_for_a_round and ending.epochs_together(coach, _with(coach, best, [])) is not None


def _seconds_again(coach: Coach, this: Round, one: Prescription) -> float:
    """Of a second look: the arm, and the control with it but in a lean round of one training at a time."""
    takes = planning.seconds_of(coach.held.recipe, one, coach.ledger, cost=coach.held.cost)
    control = [] if _is_alone(coach, this) else [coach.ledger.seconds(this.epochs, cost=coach.held.cost)]
    return coach.ledger.together([takes, *control])


def _is_alone(coach: Coach, this: Round) -> bool:
    """Whether a second look is at the arm alone."""
    return this.lean and coach.ledger.slots == 1


def _once_more(
    coach: Coach, this: Round, best: Arm, first: Mapping[str, Comparison], level: float
) -> Generator[list[Proposal], list[Outcome], Outcome | None]:
    """The arm and the control with a seed that neither was looked at with; the arm's outcome if it holds up, else None.

    What is the best of several arms by chance does not come again: in rounds of arms without any effect, on recorded
    runs, this takes false adoptions from 12 to 2 in 100 where seeds differ most (docs/log.md).
    """
    one = best.prescription
    best.verdict = "not confirmed"
    alone = _is_alone(coach, this)
    if _seconds_again(coach, this, one) > coach.ledger.left:
        best.verdict = "not looked at again"
        said = f"No time is left to look at {one.remedy} with another seed: it is not adopted, and the simpler recipe stays."
        coach.say("decision", said)
        return None
    fresh = coach.held.recipe.changed({"seed": coach.seed_of(this.number, 2)})
    reason = "the arm that seems better, once more with another seed"
    repeated = coach.propose(
        "confirmation", planning.with_remedy(fresh, one), f"{one.remedy}, once more", reason=reason
    )
    if alone:
        (again,) = yield [repeated]
    else:
        why = "the control beside an arm that seems better, once more"
        again, control = yield [repeated, coach.propose("control", fresh, "control, once more", reason=why)]
        if control.answers is not None:
            coach.take_in(control)
    if again.answers is None:
        coach.say(
            "outcome", f"Once more with another seed: {one.remedy} {again.state}: {telling.why(again)}", again.run
        )
        return None
    if alone:  # no control has said what seed alone does: the arm's own two trainings do, and it has to be surer
        alike = [outcome.answers for outcome in (best.outcome, again) if outcome.answers is not None]
        coach.noise, level = noise_floor(*alike, score=coach.score, groups=again.groups), SETTLED
    compared = coach.compared([best.outcome, again], coach.held.unchanged)
    verdict = adopted({**first, one.remedy: compared}, noise=coach.sigma, level=level)[one.remedy]
    best.comparison = compared
    held = verdict.decision == "adopt"
    best.verdict = "adopted" if held else "not confirmed"
    said = f"Once more with another seed: {one.remedy} {telling.scored(again)}"
    said += "" if alone else f", control {telling.scored(control)}"
    over = f"{points_within(compared.gain)} over {compared.seeds[0]} and {compared.seeds[1]} trainings"
    coach.say("outcome", f"{said}; {over}: {best.verdict}.", again.run)
    return again if held else None
