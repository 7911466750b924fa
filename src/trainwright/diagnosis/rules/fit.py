"""What keeps the train error high."""

from __future__ import annotations

import math

from trainwright.diagnosis.evidence import Evidence
from trainwright.diagnosis.making import NOTHING_EVALUATED, figures_of, finding
from trainwright.diagnosis.wording import percent, percent_within
from trainwright.records import Finding

FAR_FROM_ZERO = 0.05  # train error above which it is worth asking for its cause
PROBES = (
    "Each of these, run, would tell one cause: fit 64 images (a fault in code or optimization); another learning rate; no "
    "regularization (too much of it); more epochs; a larger network (too little capacity). If none lowers the train error, "
    "the labels may not allow less."
)


def underfits(evidence: Evidence) -> Finding:
    """Train error far above zero, where the gap is not the trouble, asks for a cause; it is never a yes by itself, because
    the labels may not allow less. Source: statistics.md, "Underfitting needs a reference"."""
    gap = evidence.gap
    if gap is None:
        return finding("underfits", "cannot-tell", NOTHING_EVALUATED, "Train for at least one epoch.")
    error = gap.train_error
    text = f"Train error{evidence.error_note} {percent_within(error)}"
    figures = figures_of("train_error", error)
    if not math.isfinite(error.value):
        return finding("underfits", "cannot-tell", f"{text}.", "Score more train images.", figures)
    if error.low <= FAR_FROM_ZERO:
        return finding("underfits", "no", f"{text}: not surely above {percent(FAR_FROM_ZERO)}.", "", figures)
    if gap.overfits == "yes":
        return finding("underfits", "no", f"{text}, but the gap to unseen images is the larger trouble.", "", figures)
    return finding("underfits", "cannot-tell", f"{text}, with no gap that surely explains it.", PROBES, figures)
