"""A trial of a search on a line of its story."""

from __future__ import annotations

import math

from trainwright.records import Outcome, Proposal
from trainwright.search.recipe_search import label_of


def line_of(proposal: Proposal, outcome: Outcome, *, began: int, best: bool) -> str:
    """A trial on a line: what it is, what came out, how long it took."""
    label = label_of(proposal.changes)
    epochs = outcome.result.get("epochs") or 0
    state = "diverged" if outcome.result.get("verdict") == "diverged" and outcome.state == "failed" else outcome.state
    reached = scored(outcome) if math.isfinite(outcome.score) else state
    far = f" after {epochs} epoch{'' if epochs == 1 else 's'}" if outcome.state == "paused" else ""
    message = f" ({outcome.result['message']})" if outcome.state == "failed" and state == "failed" else ""
    mark = ", the best so far" if best else ""
    return f"Trial {began}: {reached}{far}{message}{mark}; {label}; {outcome.seconds:,.0f} s."


def scored(outcome: Outcome) -> str:
    return f"{outcome.result['metric']} {outcome.score:.3f}"
