"""The training of a search that scored highest, and why the model is another one where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

STOPPED = {
    "paused": "it was paused there, and no time was left to train it to its end",
    "stopped": "it was given up there",
    "unfinished": "it was under way when the time was over",
}


def highest_of(
    searched: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any] | None,
    *,
    found: int | None,
    first_score: float | None,
    compared: int,
) -> dict[str, Any] | None:
    """`trial`, `run` and `score` of the one that scored highest, paused ones among them, and `why_not`: why it is not the model,
    None where it is. None where none has a score.

    searched: rows of `trials_table`, of the search alone. best: of the result. found: number of the trial that was best of those
    trained to their end. first_score: of the first trial. compared: how many came to their end.
    """
    scored = [one for one in searched if one["score"] is not None]
    if best is None or not scored:
        return None
    # of equal ones the one that is held, else the first
    one = max(
        scored, key=lambda row: (row["score"], row["number"] == best["trial"], row["number"] == found, -row["number"])
    )
    why: str | None = None
    if one["number"] != best["trial"]:
        why = _another(one, lost=one["number"] == found, first_score=first_score, compared=compared)
    elif best["trained_on"] == "train+val":
        why = (
            f"The model is not the training of trial {one['number']}, which scored highest, but its recipe trained on "
            "train and val together: no validation image is left to say how good it is."
        )
    elif best["run"] != one["run"]:
        why = (
            f"The model is not the training of trial {one['number']}, which scored highest, but this one with another "
            "seed: nothing was chosen by its score."
        )
    return {"trial": one["number"], "run": one["run"], "score": one["score"], "why_not": why}


def _another(one: Mapping[str, Any], *, lost: bool, first_score: float | None, compared: int) -> str:
    """Why the recipe of the trial that scored highest is not that of the model."""
    began = f"Trial {one['number']} scored highest ({one['score']:.3f}) and is not the model: "
    if lost and first_score is not None:
        return (
            f"{began}with another seed it is not above the first trial's {first_score:.3f}, so nothing shows that its "
            f"lead is more than the luck of the best of {compared}, and the recipe stays as it is."
        )
    after = f" after {one['epochs']} epoch{'' if one['epochs'] == 1 else 's'}" if one["epochs"] else ""
    return f"{began}that was{after}, and {STOPPED.get(one['state'], 'it did not come to its end')}."
