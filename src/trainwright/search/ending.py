"""How a study ends: whether length pays for what was found, and the training on all images but the test part."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from trainwright.diagnosis.comparison import Comparison, adopted
from trainwright.diagnosis.wording import points_within
from trainwright.records import Outcome, Proposal
from trainwright.search import planning, telling
from trainwright.search.rounds import WORDS, Incumbent, Length, Unproven

if TYPE_CHECKING:
    from trainwright.recipe import Recipe
    from trainwright.search.coach import Coach

# Of the budget, kept for a longer training of what was found and the final one on all images: one after the other, or beside
# each other, where the same time goes further than in another round (docs/log.md).
FINAL_SHARE, FINAL_SHARE_TOGETHER = 0.35, 0.45
ROOM = 0.95  # of what is left that a plan may fill: estimates are estimates
LAST_ROOM = 0.98  # of the last plan, after which nothing has to fit
STRETCH_SHARE = 0.3  # of what is left for these two: the longer one, on train alone
STRETCHES = 3  # how often a training is made longer
LEAST_STRETCH, LONGEST = 2, 4  # by what factor, at least and at most
WORTH_IT = 1.5  # times the proven length: shorter than that, one that is as long as the final one tells nothing new
FARTHEST = 6  # times the proven length, where a training of the same length on train alone stands beside it
BEYOND = 2  # times the length that was found to pay: as far as the final training goes where it may overfit
PLATEAU = "reduce-on-plateau"
UNUSED = 0.15  # of the budget: where more is left at the end, it is said why

Plan = Generator[list[Proposal], list[Outcome], None]


def final_share(slots: int) -> float:
    """Of the budget, what is kept for the end. slots: runs that are trained at a time."""
    return FINAL_SHARE if slots == 1 else FINAL_SHARE_TOGETHER


def end(coach: Coach) -> Plan:
    """What is done with the time that is kept for the end."""
    lengths = epochs_together(coach, coach.held)
    if lengths:
        yield from together(coach, *lengths)
        _say_what_is_left(coach, f"the last training is at most {FARTHEST} times as long as what was proven")
        return
    tried = yield from stretch(coach)
    why = yield from finish(coach, tried)
    _say_what_is_left(coach, why)


def _say_what_is_left(coach: Coach, why: str) -> None:
    """Why the study does not use all of its time, where much is left. No seconds: killed and resumed, the story is the same."""
    left, limit = coach.ledger.left, coach.ledger.limit
    if why and math.isfinite(limit) and left > UNUSED * limit:
        coach.say("decision", f"The rest of the time is left unused: {why}.")


def _proven(incumbent: Incumbent) -> int:
    return planning.proven_epochs(incumbent.recipe, incumbent.judged)


def epochs_together(coach: Coach, incumbent: Incumbent) -> tuple[int, int] | None:
    """Of a longer training on train alone and the final one beside it (`together`), each as long as the time that is left allows,
    the first no longer than the second; None where the study ends in another way."""
    if coach.ledger.slots == 1 or coach.on_all is None or not longer_may_pay(incumbent):
        return None
    room, most = LAST_ROOM * coach.ledger.left, FARTHEST * _proven(incumbent)
    final = min(most, coach.ledger.epochs(room, cost=incumbent.cost * _final_cost(incumbent, coach.on_all)))
    longer = min(final, coach.ledger.epochs(room, cost=incumbent.cost))
    return (longer, final) if longer >= WORTH_IT * _proven(incumbent) else None


def _final_cost(incumbent: Incumbent, on_all: float) -> float:
    """Time of an epoch of the final training over that of one on train alone: more images, and evaluated once at its end."""
    return on_all * incumbent.share_of_steps


def final_seconds(coach: Coach, on_all: float) -> float:
    """Of a final training of the incumbent, as long as it is proven."""
    incumbent = coach.held
    return coach.ledger.seconds(_proven(incumbent), cost=incumbent.cost * _final_cost(incumbent, on_all))


def together(coach: Coach, epochs: int, final_epochs: int) -> Plan:
    """The same recipe for longer, twice at a time: on train alone, which says what length does and how large the gap is, and on
    train and val together, which is handed over unless the first is worse than what was proven. The second is evaluated once, and
    may have more epochs in the same time."""
    incumbent, proven = coach.held, _proven(coach.held)
    final_length = (
        "final" if final_epochs == epochs else f"final, {final_epochs} epochs in the time that evaluating it once saves"
    )
    coach.say(
        "trial",
        f"Trying the same for longer ({epochs} epochs instead of {proven}): nothing says that its score has come to rest. "
        "Two trainings beside each other: on train alone, to measure what length does (longer), and on train and val "
        f"together, the model that is handed over ({final_length}).",
    )
    longer = incumbent.recipe.changed({"epochs": epochs, "seed": coach.seed_of(0, 1)})
    why, last = "whether length pays for what was found", "the training that is handed over if it does no harm"
    outcome, final = yield [
        coach.propose("arm", longer, "longer", reason=why),
        coach.propose("final", trained_on_all(incumbent.recipe, final_epochs), "final", reason=last, on_all=True),
    ]
    if outcome.answers is None:
        _keep_length(coach, incumbent, outcome, epochs)
        coach.say("outcome", f"longer: {telling.why(outcome)}", outcome.run)
        coach.say("decision", "The final training is not handed over: nothing says how good it is.", final.run)
        return
    compared = coach.compared([outcome], incumbent.unchanged or [incumbent.chosen])
    decision = adopted({"longer": compared}, noise=coach.sigma)["longer"].decision
    _keep_length(coach, incumbent, outcome, epochs, compared, decision)
    over = f"{points_within(compared.gain)} more than with {_before(coach)}, {telling.gap(outcome)}"
    said = {"adopt": "adopted", "worse": "worse"}.get(decision, "no evidence that length pays, and none that it harms")
    coach.say("outcome", f"longer: {telling.scored(outcome)}; {over}: {said}.", outcome.run)
    if decision == "worse":
        said = "The final training was no shorter, so it is not handed over: the best run so far is."
        coach.say("decision", said, final.run)
        return
    _hand_over(coach, final, final_epochs, judged=outcome)
    if decision == "adopt":
        longer_too = (*incumbent.remedies, f"longer ({epochs} epochs)")
        recipe = incumbent.recipe.changed({"epochs": epochs})
        coach.incumbent = replace(
            incumbent, recipe=recipe, chosen=outcome, fresh=[outcome], remedies=longer_too, stretched=True
        )
        proven = epochs
    if coach.final is not None and final_epochs > proven:  # what is proven stays; the model has learned for longer
        gain = None if decision == "adopt" else compared
        recipe = incumbent.recipe.changed({"epochs": final_epochs})
        coach.unproven = Unproven(recipe=recipe, outcome=outcome, gain=gain, proven_epochs=proven)


def _keep_length(
    coach: Coach,
    incumbent: Incumbent,
    outcome: Outcome,
    epochs: int,
    compared: Comparison | None = None,
    decision: str = "worse",
) -> None:
    verdict = WORDS[decision] if compared is not None else "hopeless"
    coach.lengths.append(
        Length(epochs=epochs, before=incumbent.recipe.epochs, outcome=outcome, comparison=compared, verdict=verdict)
    )


@dataclass(frozen=True, kw_only=True)
class Longer:
    """A longer training on train alone that has not proven that length pays. gain: over what was proven. harms: it failed, or is
    worse."""

    outcome: Outcome
    epochs: int
    gain: Comparison
    harms: bool


def stretch(coach: Coach) -> Generator[list[Proposal], list[Outcome], Longer | None]:
    """The incumbent for longer, on train alone, again and again as long as that pays and there is time: the figures of the
    recipe that is handed over. What came of the last one, where it did not prove that it pays."""
    for turn in range(1, STRETCHES + 1):
        incumbent = coach.held
        epochs = _longer_epochs(coach)
        if not longer_may_pay(incumbent) or not epochs:
            return None
        recipe = incumbent.recipe.changed({"epochs": epochs, "seed": coach.seed_of(0, turn)})
        said = f"Trying the same for longer ({epochs} epochs): nothing says that its score has come to rest."
        coach.say("trial", said)
        why = "whether length pays for what was found"
        (outcome,) = yield [coach.propose("arm", recipe, "longer", reason=why, alone=True)]
        if outcome.answers is None:
            _keep_length(coach, incumbent, outcome, epochs)
            coach.say("outcome", f"longer: {telling.why(outcome)}", outcome.run)
            coach.incumbent = replace(incumbent, stretched=bool(incumbent.stretched))
            return Longer(outcome=outcome, epochs=epochs, gain=planning.lost(1), harms=True)
        compared = coach.compared([outcome], incumbent.unchanged or [incumbent.chosen])
        decision = adopted({"longer": compared}, noise=coach.sigma)["longer"].decision
        _keep_length(coach, incumbent, outcome, epochs, compared, decision)
        said = {"adopt": "adopted", "worse": "worse, so it stays as long as it was"}.get(
            decision, "no evidence that length pays, and none that it harms"
        )
        over = f"{points_within(compared.gain)} more than with {_before(coach)}"
        coach.say("outcome", f"longer: {telling.scored(outcome)}; {over}: {said}.", outcome.run)
        if decision != "adopt":
            coach.incumbent = replace(incumbent, stretched=bool(incumbent.stretched))
            return Longer(outcome=outcome, epochs=epochs, gain=compared, harms=decision == "worse")
        coach.incumbent = replace(
            incumbent,
            recipe=incumbent.recipe.changed({"epochs": epochs}),
            chosen=outcome,
            fresh=[outcome],  # one arm alone: nothing was the best of several
            remedies=(*incumbent.remedies, f"longer ({epochs} epochs)"),
            stretched=True,
        )
    return None


def _longer_epochs(coach: Coach) -> int:
    """Of a longer training on train alone; 0 where none is worth its time. Where a final one follows it, that has the time to go
    further; where time is too short for that, to be as long. What surely does not overfit has that time in its final training:
    on cats and dogs three times the epochs were worth 1.7 points, and half of them, proven, cost 2.3 (docs/log.md)."""
    incumbent, ledger, room = coach.held, coach.ledger, ROOM * coach.ledger.left
    known, on_all = incumbent.recipe.epochs, coach.on_all
    most = LONGEST * known
    fits = min(most, ledger.epochs(room if on_all is None else STRETCH_SHARE * room, cost=incumbent.cost))
    if fits >= LEAST_STRETCH * known:
        return fits
    if on_all is None or incumbent.stretched is not None or not _may_overfit(coach):
        return 0
    both = incumbent.cost * (1 + _final_cost(incumbent, on_all))
    fits = min(most, ledger.epochs(room - ledger.pace.run_seconds, cost=both))
    return fits if fits >= LEAST_STRETCH * known else 0


def finish(coach: Coach, tried: Longer | None) -> Generator[list[Proposal], list[Outcome], str]:
    """The incumbent on train and val together: as long as it was compared, longer where that was found to pay, or at least not to
    harm. Gives why it is no longer than that. tried: the last longer training, which did not prove that it pays."""
    incumbent, on_all = coach.held, coach.on_all
    proven = planning.proven_epochs(incumbent.recipe, incumbent.judged)
    unproven = incumbent.stretched is None and longer_may_pay(incumbent)
    harmless = tried if tried is not None and not tried.harms and not incumbent.stretched else None
    if on_all is None:
        return _why_no_longer(coach, tried, unproven=False)
    fits = coach.ledger.epochs(ROOM * coach.ledger.left, cost=incumbent.cost * _final_cost(incumbent, on_all))
    if harmless is not None and fits < harmless.epochs:
        harmless = None
    if incumbent.recipe.schedule.name == PLATEAU:
        why = f"{PLATEAU} needs images that it does not learn from"
        coach.say("decision", f"No final training on train and val: {why}. The best run so far is the model.")
        return ""
    if fits < proven:
        said = "No time is left for a final training on train and val: the best run so far is the model."
        coach.say("decision", said)
        return "a final training would take longer"
    most = _farthest(coach)
    epochs = min(fits, most * proven if incumbent.stretched or unproven else proven)
    if harmless is not None:
        epochs = harmless.epochs
        said = f"The final training has {epochs} epochs instead of {proven}, as the longer one had, which did no harm"
        coach.say(
            "decision", f"{said}: more epochs are expected to gain where the learning rate anneals over all of them."
        )
    elif incumbent.stretched and epochs > proven:
        said = f"Length was found to pay: the final training has {epochs} epochs instead of {proven}"
        coach.say("decision", f"{said}, with the images of val to learn from too.")
    elif epochs > proven:
        said = f"No time was left to prove that length pays; the final training has {epochs} epochs instead of {proven}"
        coach.say("decision", f"{said} all the same: it anneals, and nothing speaks against it.")
    why = "nothing left to choose, so the validation images may be learned from too"
    recipe = trained_on_all(incumbent.recipe, epochs)
    (outcome,) = yield [coach.propose("final", recipe, "final", reason=why, on_all=True, alone=True)]
    _hand_over(coach, outcome, epochs, judged=incumbent.judged if harmless is None else harmless.outcome)
    if epochs > proven and coach.final is not None:  # what is proven stays what it was
        coach.unproven = Unproven(
            recipe=incumbent.recipe.changed({"epochs": epochs}),
            outcome=incumbent.judged if harmless is None else harmless.outcome,
            gain=None if harmless is None else harmless.gain,
            proven_epochs=proven,
        )
    return _why_no_longer(coach, tried, unproven=unproven)


def _farthest(coach: Coach) -> int:
    """Times the proven length that a final training may have which no other stands for."""
    return BEYOND if _may_overfit(coach) else LONGEST


def _may_overfit(coach: Coach) -> bool:
    return telling.answers(coach.held.judged).get("overfits") != "no"


def _why_no_longer(coach: Coach, tried: Longer | None, *, unproven: bool) -> str:
    """Why time is left that a longer training could have."""
    if tried is not None:
        return (
            "a longer training failed or was worse"
            if tried.harms
            else "a longer training gained nothing that could be told"
        )
    if coach.held.stretched:
        most = _farthest(coach)
        return f"a training is at most {LONGEST} times as long as what was proven, the final one {most} times"
    if unproven:
        why = "as there was no time to compare a longer one"
        return f"the final training is at most {_farthest(coach)} times as long as what was compared, {why}"
    if not longer_may_pay(coach.held):
        return "more epochs of this recipe are not expected to gain"
    return ""


def trained_on_all(recipe: Recipe, epochs: int) -> Recipe:
    """A recipe whose training learns from the validation images too, which leave it nothing to choose by."""
    return recipe.changed({"epochs": epochs, "data.train_on": "train+val", "keep": "last", "early_stop": None})


def _hand_over(coach: Coach, outcome: Outcome, epochs: int, *, judged: Outcome) -> None:
    """Make the final training the study's model, unless something is wrong with it. judged: what it is held against."""
    wrong = planning.wrong_with(outcome, judged)
    if wrong:
        said = f"The final training is not handed over: {wrong} The best run so far is the model."
    else:
        coach.final = outcome
        said = (
            f"Final training, {epochs} epochs on train and val together: done. It learned from the validation images too, so "
            "they cannot say how good it is."
        )
    coach.say("decision" if wrong else "outcome", said, outcome.run)


def _before(coach: Coach) -> str:
    """'16 epochs (accuracy 0.815)': what a longer training is held against; of several trainings their number."""
    incumbent = coach.held
    before = incumbent.unchanged or [incumbent.chosen]
    said = telling.scored(before[0]) if len(before) == 1 else f"mean of {len(before)} trainings"
    return f"{incumbent.recipe.epochs} epochs ({said})"


def longer_may_pay(incumbent: Incumbent) -> bool:
    """Whether a longer training is worth proving: one that anneals, and is not both at rest and overfitting."""
    findings = telling.answers(incumbent.judged)
    anneals = incumbent.recipe.schedule.name not in ("constant", PLATEAU)
    return anneals and (findings.get("still-improving") != "no" or findings.get("overfits") != "yes")
