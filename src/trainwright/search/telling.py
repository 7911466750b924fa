"""How the coach tells of outcomes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.diagnosis.comparison import Comparison
from trainwright.diagnosis.rules import DESCRIPTIVE
from trainwright.diagnosis.wording import EPOCHS_CHOSEN, TOLD_APART, epochs, points_within
from trainwright.records import Finding, Interval, Outcome, Prescription
from trainwright.search.rounds import Incumbent, Unproven

SAID = 3  # findings that a round's belief names
VERDICTS = {"cannot-tell": "whether it overfits cannot be told"}  # where the word alone would not be read
STILL, GONE, UNTOLD = "still there", "gone", "cannot be told any more"


def believed(outcome: Outcome) -> str:
    """The findings that hold, a line each, in their own words; that nothing is surely wrong, where none does."""
    sure = [finding for finding in outcome.result["findings"] if finding["verdict"] == "yes"]
    found = [finding for finding in sure if finding["rule"] not in DESCRIPTIVE] or sure
    if found:
        return "\n".join(f"{finding['rule']}: {finding['evidence']}" for finding in found[:SAID])
    return f"Verdict {outcome.result['verdict']}: nothing is surely wrong; {gap(outcome)}."


def findings_of(outcome: Outcome) -> list[Finding]:
    keys = ("rule", "verdict", "evidence", "advice")
    return [
        Finding(**{key: found[key] for key in keys}, figures=found.get("figures", {}))
        for found in outcome.result["findings"]
    ]


def answers(outcome: Outcome) -> dict[str, str]:
    """Each rule's verdict."""
    return {finding["rule"]: finding["verdict"] for finding in outcome.result["findings"]}


def changes(one: Prescription) -> str:
    """'augment.flip: 0.5'."""
    return ", ".join(f"{key}: {value}" for key, value in one.changes.items())


def scored(outcome: Outcome) -> str:
    """'accuracy 0.771'; how it ended, where there is no score."""
    if outcome.state != "finished" or not math.isfinite(outcome.score):
        return outcome.state
    return f"{outcome.result['metric']} {outcome.score:.3f}"


def gap(outcome: Outcome) -> str:
    found: Mapping[str, Any] = outcome.result["gap"]
    if None in found.values():
        return "gap not measured"
    return f"gap {points_within(Interval(**found))}"


def controls(compared: Comparison) -> str:
    """'the control', or how many trainings without a change."""
    count = compared.seeds[1]
    return "the control" if count == 1 else f"the mean of {count} trainings without it"


def why(outcome: Outcome) -> str:
    """Why a run has no result."""
    return str(outcome.result.get("message", "")) or f"it {outcome.state}."


def summary(
    baselines: Sequence[Outcome],
    incumbent: Incumbent,
    better: Comparison | None,
    *,
    tried: int,
    unproven: Unproven | None = None,
) -> str:
    """What was wrong, what helped, by how much, how sure that is, and what became of what was wrong. baselines: trainings of the
    recipe as it was, the first one before anything else. better: the incumbent against them."""
    said = _proven(baselines, incumbent, better, tried=tried)
    said += f" {longer(unproven)}" if unproven is not None else ""
    judged = incumbent.judged if unproven is None else unproven.outcome
    return f"{said} {became(baselines[0], judged)}".rstrip() if better is not None else said


def became(baseline: Outcome, judged: Outcome) -> str:
    """What is left of the findings that the baseline had; nothing where it had none."""
    before, now = answers(baseline), answers(judged)
    found = [rule for rule, verdict in before.items() if verdict == "yes" and rule not in DESCRIPTIVE]
    said = []
    for words, verdicts in ((STILL, ("yes",)), (GONE, ("no",)), (UNTOLD, ("cannot-tell", None))):
        rules = [rule for rule in found if now.get(rule) in verdicts]
        said += [f"{words}: {', '.join(rules)}"] if rules else []
    return f"Of what was found at first: {'; '.join(said)}." if said else ""


def _proven(baselines: Sequence[Outcome], incumbent: Incumbent, better: Comparison | None, *, tried: int) -> str:
    baseline = baselines[0]
    verdict = baseline.result["verdict"]
    began = (
        f"The baseline reached {scored(baseline)} on unseen images ({gap(baseline)}; {VERDICTS.get(verdict, verdict)})."
    )
    stays = "the recipe stays as it was"
    if incumbent.repairs:
        repairs = ", ".join(incumbent.repairs)
        began = f"As it was, its training broke down; with {repairs} it did not. {began}"
        stays = f"beyond {repairs}, the recipe stays as it was"
    if better is None and not tried:
        return f"{began} No remedy was tried: {stays}."
    if better is None:
        none = "The one remedy tried was not" if tried == 1 else f"Of {tried} remedies none was"
        return f"{began} {none} better than a control beyond chance: {stays}."
    helped = ", then ".join(incumbent.remedies)
    return (
        f"{began} What helped: {helped}. Trained so on train alone: {scored(incumbent.judged)} ({gap(incumbent.judged)}), "
        f"{points_within(better.gain)} better than {_usually(baselines)} on the same {better.images:,} images, "
        f"p = {better.p:.2g}.{_chosen_there(baselines, incumbent, better)}"
    )


def _chosen_there(baselines: Sequence[Outcome], incumbent: Incumbent, better: Comparison) -> str:
    """Why the gain is not the difference of the scores that are told, where it is of one training each and yet is not."""
    told = incumbent.judged.score - baselines[0].score
    one_each = better.seeds == (1, 1) and incumbent.recipe.keep == "best"
    return f" {EPOCHS_CHOSEN}" if one_each and abs(told - better.gain.value) >= TOLD_APART else ""


def _usually(baselines: Sequence[Outcome]) -> str:
    """'the baseline'; of several trainings that differ in seed alone their mean, which is what was compared with."""
    scores = [outcome.score for outcome in baselines if outcome.answers is not None]
    if len(scores) < 2:
        return "the baseline"
    metric = baselines[0].result["metric"]
    return f"{len(scores)} trainings of the baseline's recipe (mean {metric} {sum(scores) / len(scores):.3f})"


def longer(unproven: Unproven) -> str:
    """What the model has that was not proven."""
    reached = f"{scored(unproven.outcome)} ({gap(unproven.outcome)})"
    if unproven.gain is None:
        return (
            f"The model has {epochs(unproven.recipe.epochs)} instead of {unproven.proven_epochs}. No training on train alone was "
            f"as long: {reached} is what {epochs(unproven.proven_epochs)} reached."
        )
    gain, tried = points_within(unproven.gain.gain), int(unproven.outcome.result["epochs"])
    as_long = "as long" if tried == unproven.recipe.epochs else f"for {tried}"
    return (
        f"The model has {epochs(unproven.recipe.epochs)} instead of {unproven.proven_epochs}: trained {as_long} on train "
        f"alone, {reached}. That length pays is not proven ({gain}), nor that it harms."
    )


def number(value: float | None) -> float:
    return math.nan if value is None else value
