"""How rules make findings."""

from __future__ import annotations

from trainwright.records import Answer, Finding, Interval

NOTHING_EVALUATED = "Nothing was evaluated."
NO_EPOCH = "No epoch was evaluated."


def finding(rule: str, answer: Answer, evidence: str, advice: str, figures: dict[str, float] | None = None) -> Finding:
    return Finding(rule=rule, verdict=answer, evidence=evidence, advice=advice, figures=figures or {})


def figures_of(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def as_share(score: float) -> float:
    """A score or error as if it were a share of images, which the score interval takes: R² below 0 counts as 0."""
    return min(1.0, max(0.0, score))
