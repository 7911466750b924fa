"""The rules: evidence in, findings out. Each rule is a function whose docstring states it and its source.

A finding's verdict says whether what the rule is named after holds: yes, no, or cannot-tell with what would tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.rules.data import imbalance_hidden, noisy_labels, twins, validation_shifted
from trainwright.diagnosis.rules.fit import (
    CAUSES,
    cannot_fit,
    label_ceiling,
    learning_rate,
    over_regularized,
    too_small,
    under_trained,
    underfits,
)
from trainwright.diagnosis.rules.generalization import gap_parts, over_confident, overfits, validation_too_small
from trainwright.diagnosis.rules.training import (
    batch_norm_broken,
    diverged,
    saturated_early,
    still_improving,
    unstable,
)
from trainwright.records import Finding

Rule = Callable[[Evidence], Finding]

# In the order of findings that hold: first what makes all other figures meaningless, then what lies behind others (images and
# labels before the training, the training before the gap), last what describes and asks for nothing.
RULES: tuple[Rule, ...] = (
    diverged,
    unstable,
    twins,
    validation_shifted,
    noisy_labels,
    cannot_fit,
    learning_rate,
    over_regularized,
    under_trained,
    too_small,
    batch_norm_broken,
    overfits,
    label_ceiling,
    underfits,
    imbalance_hidden,
    over_confident,
    still_improving,
    saturated_early,
    validation_too_small,
    gap_parts,
)
# True of trainings that nothing is wrong with, too: they say how to read the figures, or what the next one could do without.
DESCRIPTIVE = ("saturated-early", "validation-too-small", "gap-parts")


def judge(evidence: Evidence) -> tuple[str, tuple[Finding, ...]]:
    """The verdict in one word and every rule's finding: what holds first, then what cannot be told, then what does not."""
    findings = _by_drop([rule(evidence) for rule in RULES])
    order = ("yes", "cannot-tell", "no")
    return verdict(findings), tuple(sorted(findings, key=lambda finding: order.index(finding.verdict)))


def first_fault(findings: Sequence[Finding]) -> str:
    """The rule of the first finding that holds and asks for something; empty where there is none."""
    return next((found.rule for found in findings if found.verdict == "yes" and found.rule not in DESCRIPTIVE), "")


def _by_drop(findings: list[Finding]) -> list[Finding]:
    """Causes of a high train error in the order of what taking them away gained: the largest is the one behind the others."""
    drops = [found for found in findings if found.rule in CAUSES and "train_drop" in found.figures]
    drops.sort(key=lambda found: (found.verdict != "yes", -found.figures["train_drop"]))
    places = iter(drops)
    return [next(places) if any(found is one for one in drops) else found for found in findings]


def verdict(findings: Sequence[Finding]) -> str:
    """diverged, underfits, overfits, generalizes or cannot-tell. Underfits is said where a cause of it is proven, also beside a
    gap: it comes before the gap. A training that learned nothing does not generalize by having no gap."""
    answers = {finding.rule: finding.verdict for finding in findings}
    if answers.get("diverged") == "yes":
        return "diverged"
    if answers.get("underfits") == "yes":
        return "underfits"
    if answers.get("overfits") == "yes":
        return "overfits"
    return "generalizes" if answers.get("overfits") == "no" and answers.get("diverged") == "no" else "cannot-tell"
