"""The rules: evidence in, findings out. Each rule is a function whose docstring states it and its source.

A finding's verdict says whether what the rule is named after holds: yes, no, or cannot-tell with what would tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.rules.fit import underfits
from trainwright.diagnosis.rules.generalization import gap_parts, over_confident, overfits, validation_too_small
from trainwright.diagnosis.rules.training import batch_norm_broken, diverged, still_improving
from trainwright.records import Finding

Rule = Callable[[Evidence], Finding]

RULES: tuple[Rule, ...] = (
    diverged,
    overfits,
    gap_parts,
    underfits,
    still_improving,
    over_confident,
    batch_norm_broken,
    validation_too_small,
)


def judge(evidence: Evidence) -> tuple[str, tuple[Finding, ...]]:
    """The verdict in one word and every rule's finding: what holds first, then what cannot be told, then what does not."""
    findings = [rule(evidence) for rule in RULES]
    order = ("yes", "cannot-tell", "no")
    return verdict(findings), tuple(sorted(findings, key=lambda finding: order.index(finding.verdict)))


def verdict(findings: Sequence[Finding]) -> str:
    """overfits, generalizes, diverged or cannot-tell. A training that learned nothing does not generalize by having no gap."""
    answers = {finding.rule: finding.verdict for finding in findings}
    if answers.get("diverged") == "yes":
        return "diverged"
    if answers.get("overfits") == "yes":
        return "overfits"
    return "generalizes" if answers.get("overfits") == "no" and answers.get("diverged") == "no" else "cannot-tell"
