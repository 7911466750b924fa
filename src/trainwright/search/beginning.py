"""How a study begins: the recipe as it is, what keeps its training from breaking down, and the probes of why it errs."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from trainwright.diagnosis.prescribe import prescribe
from trainwright.diagnosis.remedies.case import Circumstances
from trainwright.recipe import Recipe
from trainwright.records import Outcome, Prescription, Proposal
from trainwright.search import planning, telling
from trainwright.search.rounds import Incumbent

if TYPE_CHECKING:
    from trainwright.search.coach import Coach

REPAIRS = 2  # attempts at a baseline that breaks down
# Of the budget, and seconds, at most: where the baseline's train error is high, probes find the cause before remedies do.
PROBES_SHARE, MOST_PROBING = 0.1, 3600.0
BRACKETS = "Brackets are 95 % intervals."
NOTHING_CHANGED = "nothing changed, another seed: what chance alone does"


def baseline(coach: Coach) -> Generator[list[Proposal], list[Outcome], bool]:
    """The recipe as it is; where its training breaks down, with what answers that. Whether there is one to compare with."""
    recipe = coach.recipe
    remedies: list[str] = []
    for left in range(REPAIRS, -1, -1):
        label = "baseline" if not remedies else f"baseline with {remedies[-1]}"
        why, seconds = "what everything is compared with", min(PROBES_SHARE * coach.ledger.limit, MOST_PROBING)
        asked = [coach.propose("baseline", recipe, label, reason=why, probe_seconds=seconds)]
        open_values = recipe.optimizer.lr is None or recipe.batch_size == "auto"  # each run would measure its own
        if coach.ledger.slots > 1 and not open_values:  # the other slot would stand idle
            twin = recipe.changed({"seed": coach.seed_of(0, 2)})
            asked.append(coach.propose("control", twin, "control", reason=NOTHING_CHANGED))
        outcome, *twins = yield asked
        if outcome.state == "finished" and outcome.answers is not None:
            break
        coach.say("outcome", f"The {label} {outcome.state}: {telling.why(outcome)}", outcome.run)
        repair = _repair(coach, recipe, outcome) if left else None
        if repair is None:
            coach.say("decision", f"Nothing can be compared with a baseline that {outcome.state}.", outcome.run)
            return False
        coach.say("trial", f"Trying {repair.remedy} ({telling.changes(repair)}): {repair.reason}")
        recipe, remedies = planning.with_remedy(recipe, repair), [*remedies, repair.remedy]
    coach.baselines = [outcome]
    coach.incumbent = Incumbent(recipe=planning.filled(recipe, outcome), chosen=outcome, repairs=tuple(remedies))
    coach.ledger.learn(
        epochs=outcome.result["epochs"],
        seconds=outcome.seconds - outcome.result.get("probed_seconds", 0.0),
        training_seconds=outcome.result["seconds"],
    )
    coach.say("outcome", f"Baseline: {telling.scored(outcome)}, {telling.gap(outcome)}. {BRACKETS}", outcome.run)
    for control in twins:
        if control.answers is not None:
            coach.take_in(control)
            coach.say("outcome", f"Control, the same recipe with another seed: {telling.scored(control)}.", control.run)
    return True


def _repair(coach: Coach, recipe: Recipe, outcome: Outcome) -> Prescription | None:
    """What answers the findings of a training that broke down."""
    if not outcome.result.get("findings"):
        return None
    circumstances = Circumstances(**coach.known, score=0.0, seconds_per_epoch=coach.ledger.pace.epoch_seconds)
    found = prescribe(telling.findings_of(outcome), recipe, circumstances)
    return next((one for one in found if one.changes and planning.changes_it(recipe, one)), None)
