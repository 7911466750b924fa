"""From findings to prescriptions: what is worth trying next, the most gain for a second of training first. Pure.

A remedy's expected gain is the share of the unseen error that it takes away where it helps (`Remedy.share`, from a paper), times
that error, times the chance that it helps here, times what its family was seen to be worth in this study (`family_factors`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainwright.diagnosis.remedies import BY_NAME, REMEDIES
from trainwright.diagnosis.remedies.capacity import relative_work
from trainwright.diagnosis.remedies.case import USUAL, Case, Circumstances, Family, Remedy
from trainwright.recipe import Recipe
from trainwright.records import Finding, Interval, Prescription

__all__ = ["Circumstances", "Tried", "combine", "family_factors", "prescribe", "training_seconds"]

# Rules that are answered as others are, with the factor of the chance: a cause that was not told apart may be any of three.
AS_OTHERS: Mapping[str, tuple[tuple[str, float], ...]] = {
    "under-trained": (("still-improving", 1.0),),
    "underfits": (("learning-rate", 0.5), ("still-improving", 0.5), ("too-small", 0.5)),
}
CAUSES = frozenset({"cannot-fit", "learning-rate", "over-regularized", "under-trained", "too-small"})  # of underfitting
FITS = CAUSES | {
    "overfits",
    "underfits",
    "diverged",
    "unstable",
    "batch-norm-broken",
}  # what says where the score is lost
MEASURED = "val_drop"  # among a finding's figures: how much of the unseen error was gone in the probe that proved it
RANGE_TEST = 0.09  # of a training, what finding its learning rate takes at most: `training/lr_range.py`
# Before anything was tried a family's factor is 1, and known to within 1: gains on other data than a paper's are often none or
# twice as large. A single remedy differs from its family by as much as is expected of it, since it helps or does not. Ours.
FACTOR_DEVIATION, OWN_DEVIATION = 1.0, 1.0
LEAST_FACTOR = 0.05  # a family that only did harm is tried last, but not forgotten
OVERLAP = 0.5  # of the smaller of two gains, which the larger one has already brought: ours
WIDTH = 2 * 1.96  # deviations between the ends of a 95 % interval
CROPS = frozenset({"augment.crop_padding", "augment.crop_scale"})  # of which a recipe takes one


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A prescription that this study has trained beside a control.

    gain: of the score over the control's. findings: the rules that said yes when it was tried; empty where that was not kept.
    """

    remedy: str
    gain: Interval
    adopted: bool
    changes: Mapping[str, Any] = field(default_factory=dict)
    findings: frozenset[str] = frozenset()


def prescribe(
    findings: Sequence[Finding], recipe: Recipe, facts: Circumstances, tried: Sequence[Tried] = ()
) -> tuple[Prescription, ...]:
    """What to try, the largest expected gain for a second of training first; then advice, which has no changes.

    Each of them makes a valid recipe of this one, within the budget. Only findings that say yes are answered. Where none of
    them says that the training over- or underfits or failed, or they have nothing to be trained, what usually still helps is
    in the running too, with its own smaller chance: a side finding does not hide it. A remedy that was tried and refused is
    not proposed again under the same findings; one that was adopted is in the recipe, and is proposed only where it can be
    taken further.
    """
    sure = [finding for finding in findings if finding.verdict == "yes"]
    rules = frozenset(finding.rule for finding in sure)
    if rules & CAUSES:  # one of them is behind it, so it needs no answer of its own
        sure = [finding for finding in sure if finding.rule != "underfits"]
    factors = family_factors(tried, facts)
    found = _answers(sure, recipe, facts, tried, factors, rules)
    if not rules & FITS or not any(prescription.changes for prescription in found.values()):
        usual = [Finding(rule=USUAL, verdict="yes", evidence="", advice="")]
        found = {**_answers(usual, recipe, facts, tried, factors, rules), **found}

    def order(prescription: Prescription) -> tuple[bool, float, str]:
        control = facts.seconds_per_epoch * recipe.epochs  # trains beside it, so what is cheaper still takes as long
        seconds = max(control, training_seconds(prescription, recipe, facts)) if prescription.changes else 1.0
        return not prescription.changes, -prescription.gain / seconds, prescription.remedy

    return tuple(sorted(found.values(), key=order))


def training_seconds(prescription: Prescription, recipe: Recipe, facts: Circumstances) -> float:
    """What training the prescription is expected to take, with the range test where its learning rate has to be found."""
    epochs = prescription.changes.get("epochs", recipe.epochs)
    seconds: float = facts.seconds_per_epoch * epochs * prescription.cost
    return seconds * (1 + RANGE_TEST if prescription.retune else 1)


def combine(first: Prescription, second: Prescription) -> Prescription | None:
    """Both in one, remedy `a+b`; None where they contradict: one value in two ways, two kinds of crop, the same remedy, or a
    value of something that the other one replaces by another name. Of the smaller gain half is expected to be left."""
    names = [*first.remedy.split("+"), *second.remedy.split("+")]
    if len(set(names)) < len(names) or not first.changes or not second.changes or _contradict(first, second):
        return None
    larger, smaller = sorted((first.gain, second.gain), reverse=True)
    return Prescription(
        remedy="+".join(names),
        finding="+".join(dict.fromkeys([*first.finding.split("+"), *second.finding.split("+")])),
        changes={**first.changes, **second.changes},
        reason=f"{first.reason} {second.reason}",
        effect=f"{first.effect}; {second.effect}",
        source="; ".join(dict.fromkeys([first.source, second.source])),
        gain=larger + (1 - OVERLAP) * smaller,
        cost=first.cost * second.cost,
        retune=first.retune or second.retune,
    )


def family_factors(tried: Sequence[Tried], facts: Circumstances) -> dict[Family, float]:
    """What the remedies of a family give here over what is expected of them, families without a trial left out.

    A conjugate normal update of one factor a family, from 1 ± FACTOR_DEVIATION: a measured gain g of a remedy from which m was
    expected says g = factor · m, with the variance of its interval and (OWN_DEVIATION · m)² of its own. So a wide interval
    changes little, and a sure one much. The gain of several remedies at once is shared among them by what was expected.
    """
    weights: dict[Family, float] = defaultdict(lambda: FACTOR_DEVIATION**-2)
    sums: dict[Family, float] = defaultdict(lambda: FACTOR_DEVIATION**-2)
    for trial in tried:
        if not all(map(math.isfinite, (trial.gain.value, trial.gain.low, trial.gain.high))):
            continue
        parts = [BY_NAME[name] for name in trial.remedy.split("+") if name in BY_NAME]
        expected = [part.share * facts.error * _chance_then(part, trial) for part in parts]
        for part, wanted in zip(parts, expected, strict=True):
            if wanted <= 0:
                continue
            share = wanted / sum(expected)
            error = share * (trial.gain.high - trial.gain.low) / WIDTH
            variance = error**2 + (OWN_DEVIATION * wanted) ** 2
            weights[part.family] += wanted**2 / variance
            sums[part.family] += wanted * share * trial.gain.value / variance
    return {family: max(LEAST_FACTOR, sums[family] / weights[family]) for family in weights}


def _chance_then(remedy: Remedy, trial: Tried) -> float:
    """The chance that the remedy was given under the findings of its trial; its best one where they are not known."""
    chances = [chance for rule in trial.findings if (chance := _chance(remedy, rule)) > 0]
    return max(chances or remedy.answers.values())


def _chance(remedy: Remedy, rule: str) -> float:
    """The chance that a remedy helps where that rule says yes; 0 where it does not answer it."""
    return max(remedy.answers.get(other, 0.0) * factor for other, factor in AS_OTHERS.get(rule, ((rule, 1.0),)))


def _answers(
    findings: Sequence[Finding],
    recipe: Recipe,
    facts: Circumstances,
    tried: Sequence[Tried],
    factors: Mapping[Family, float],
    rules: frozenset[str],
) -> dict[str, Prescription]:
    """By name, each remedy of the findings that applies, for the finding that it is expected to help with most."""
    refused = {trial.remedy for trial in tried if not trial.adopted and (not trial.findings or trial.findings == rules)}
    found: dict[str, Prescription] = {}
    for finding in findings:
        case = Case(recipe=recipe, facts=facts, figures=finding.figures)
        for remedy in REMEDIES:
            if remedy.name in refused or not _chance(remedy, finding.rule):
                continue
            prescription = _prescription(remedy, finding, case, tried, factors.get(remedy.family, 1.0))
            best = found.get(remedy.name)
            if prescription is not None and (best is None or prescription.gain > best.gain):
                found[remedy.name] = prescription
    return found


def _prescription(
    remedy: Remedy, finding: Finding, case: Case, tried: Sequence[Tried], factor: float
) -> Prescription | None:
    """The remedy in this case; None where it does not apply, changes nothing, or costs more than the budget has."""
    changes, recipe, facts = remedy.changes(case), case.recipe, case.facts
    if changes and remedy.family == "package":
        changes = _without_what_is_known(changes, tried)
    if changes is None or (not changes and remedy.family != "data"):
        return None
    cost = remedy.cost
    if changes:
        new = recipe.changed(changes)
        if new == recipe:
            return None
        work = relative_work(recipe, new, facts.image_size)
        cost *= (
            work if work >= 1 else math.sqrt(work)
        )  # half the channels: a quarter of the work, half of the time (docs/log.md)
    at_best = remedy.share * facts.error
    if finding.rule in CAUSES and math.isfinite(finding.figures.get(MEASURED, math.nan)):
        at_best = max(0.0, finding.figures[MEASURED])
    if finding.rule == "overfits" and facts.gap is not None:  # a remedy of the gap can take away no more than the gap
        at_best = min(at_best, max(0.0, facts.gap))
    helped = f"; where it helps, {100 * remedy.share:.0f} % less unseen error ({remedy.origin})" if changes else ""
    prescription = Prescription(
        remedy=remedy.name,
        finding=finding.rule,
        changes=changes,
        reason=remedy.reason,
        effect=f"{remedy.effect}{helped}",
        source=remedy.source,
        gain=at_best * _chance(remedy, finding.rule) * factor,
        cost=cost,
        retune=remedy.retune or changes.get("optimizer.lr", 0.0) is None,
    )
    spent = training_seconds(prescription, recipe, facts)
    return prescription if not changes or spent <= facts.budget_epochs * facts.seconds_per_epoch else None


def _without_what_is_known(changes: Mapping[str, Any], tried: Sequence[Tried]) -> dict[str, Any]:
    """A package without what this study knows better: what it adopted stays as it is, what did harm by itself is left out.

    Values of an optimizer, a schedule, a loss or a network go with its name, so they stay or go together; and batch size goes
    with the learning rate.
    """
    adopted = {key for trial in tried if trial.adopted for key in trial.changes}
    harmful = {
        (key, str(value))
        for trial in tried
        if not trial.adopted and trial.gain.value < 0 and trial.remedy in BY_NAME and len(trial.changes) == 1
        for key, value in trial.changes.items()
    }
    held = {key.partition(".")[0] for key in adopted if "." in key and not key.startswith(("augment.", "data."))}
    if "batch_size" in adopted:
        held.add("optimizer")
    if adopted & CROPS:
        adopted |= CROPS
    if "optimizer" in held:
        adopted |= {"batch_size", "ema_decay"}  # some average by themselves
    return {
        key: value
        for key, value in changes.items()
        if key not in adopted and key.partition(".")[0] not in held and (key, str(value)) not in harmful
    }


def _contradict(first: Prescription, second: Prescription) -> bool:
    keys = first.changes.keys() | second.changes.keys()
    both = first.changes.keys() & second.changes.keys()
    if any(first.changes[key] != second.changes[key] for key in both) or keys >= CROPS:
        return True
    return any(_renames_what_other_sets(*pair) for pair in ((first, second), (second, first)))


def _renames_what_other_sets(one: Prescription, other: Prescription) -> bool:
    renamed = {key.removesuffix("name") for key in one.changes if key.endswith(".name")}
    return any(key.startswith(section) and key not in one.changes for section in renamed for key in other.changes)
