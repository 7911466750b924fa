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
    overfits,  # before the next: where statistics that do not fit raise the train error, little is left of the gap
    batch_norm_broken,
    label_ceiling,
    underfits,
    imbalance_hidden,
    over_confident,
    still_improving,
    saturated_early,
    validation_too_small,
    gap_parts,
)
# True of trainings that nothing is wrong with, too: signs (every curve under a schedule that anneals rises to its end; what
# it may be a sign of is `under-trained`), how to read the figures, what the next training could do without.
DESCRIPTIVE = ("still-improving", "saturated-early", "validation-too-small", "gap-parts")


def judge(evidence: Evidence) -> tuple[str, tuple[Finding, ...]]:
    """The verdict in one word and every rule's finding: what holds first, then what cannot be told, then what does not."""
    findings = _gap_before_less(_by_drop([rule(evidence) for rule in RULES]))
    order = ("yes", "cannot-tell", "no")
    return verdict(findings), tuple(sorted(findings, key=lambda finding: order.index(finding.verdict)))


def first_fault(findings: Sequence[Finding]) -> str:
    """The rule of the first finding that holds and asks for something; empty where there is none."""
    return next((found.rule for found in findings if found.verdict == "yes" and found.rule not in DESCRIPTIVE), "")


def _by_drop(findings: list[Finding]) -> list[Finding]:
    """Proven causes of a high train error in the order of what taking them away gained on unseen images: the largest gain is
    the one behind the others. Those whose interval reaches the largest gain are tied; of them the one told by the cheaper
    probe comes first (the train error alone would favour what lets a network learn by heart)."""
    proven = [found for found in findings if _proven(found)]
    best = max((found.figures["val_drop"] for found in proven), default=0.0)

    def place(found: Finding) -> tuple[bool, float]:
        tied = found.figures["val_drop_high"] >= best
        return not tied, CAUSES.index(found.rule) if tied else -found.figures["val_drop"]

    places = iter(sorted(proven, key=place))
    return [next(places) if any(found is one for one in proven) else found for found in findings]


def _gap_before_less(findings: list[Finding]) -> list[Finding]:
    """A gap that surely exceeds what taking any proven cause of the train error away gained on unseen images is the larger
    trouble, and comes before all of them; before one that a curve alone speaks for it comes too, of which no gain is known."""
    less = [found for found in findings if _proven(found) or _by_its_curve(found)]
    gap = next((found for found in findings if found.rule == "overfits"), None)
    gained = max((found.figures.get("val_drop_high", 0.0) for found in less), default=0.0)
    if gap is None or gap.verdict != "yes" or not less or gap.figures["gap_low"] <= gained:
        return findings
    others = [found for found in findings if found is not gap]
    first = next(place for place, found in enumerate(others) if any(found is one for one in less))
    return [*others[:first], gap, *others[first:]]


def _proven(found: Finding) -> bool:
    return found.rule in CAUSES and found.verdict == "yes" and "val_drop" in found.figures


def _by_its_curve(found: Finding) -> bool:
    return found.rule == "under-trained" and found.verdict == "yes" and "val_drop" not in found.figures


def verdict(findings: Sequence[Finding]) -> str:
    """diverged, underfits, overfits, generalizes or cannot-tell. Underfits is said where a cause of it is proven, also beside a
    gap, unless the gap comes before all of these. A training that learned nothing does not generalize by having no gap."""
    answers = {finding.rule: finding.verdict for finding in findings}
    if answers.get("diverged") == "yes":
        return "diverged"
    troubles = [found.rule for found in findings if found.verdict == "yes" and found.rule in ("overfits", *CAUSES)]
    if answers.get("underfits") == "yes" and troubles[:1] != ["overfits"]:
        return "underfits"
    if answers.get("overfits") == "yes":
        return "overfits"
    return "generalizes" if answers.get("overfits") == "no" and answers.get("diverged") == "no" else "cannot-tell"
