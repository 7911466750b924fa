"""What each arm of a study gained: a picture and a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainwright.report.markup import Html, element, joined
from trainwright.report.page import figure
from trainwright.report.story import folded
from trainwright.report.study_plots import arms_forest
from trainwright.report.tables import Cell, Column, table
from trainwright.report.wording import NOTHING, counted, finite, points_within, recipe_value

COMPARED = (
    "Every arm beside trainings of the unchanged recipe, a longer one beside shorter ones of what was found, on the same images; "
    "p: how likely chance alone brings as much"
)


def arms_of(result: Mapping[str, Any]) -> Html | None:
    """The picture and the table of a study's arms, its longer trainings behind them; None where it has none."""
    rounds = [*(result.get("rounds") or ()), *_at_the_end(result)]
    if not any(one["arms"] for one in rounds):
        return None
    columns = [
        Column(title="round", number=True, lower_first=True),
        Column(title="remedy"),
        Column(title="gain", number=True),
        Column(title="p", number=True, lower_first=True),
        Column(title="what became of it"),
        Column(title="changes"),
        Column(title="why, and its source", long=True),
    ]
    rows = []
    for place, one in enumerate(rounds, start=1):
        for arm in one["arms"]:
            gain, p = arm.get("gain"), arm.get("p")
            source = element("span", arm.get("source") or "", class_="quiet")
            why = joined([arm.get("reason") or "", element("br"), source])
            rows.append(
                [
                    Cell(shown=one["round"], value=float(place)),
                    arm["remedy"],
                    Cell(shown=points_within(gain), value=None if gain is None else finite(gain["value"])),
                    Cell(shown=NOTHING if p is None else f"{p:.2g}", value=None if p is None else finite(p)),
                    str(arm["verdict"]),
                    _arm_changes(arm.get("changes") or {}),
                    why,
                ]
            )
    drawn = arms_forest(rounds, result.get("noise_floor"))
    listed = table(columns, rows, caption=COMPARED)
    return joined([figure(drawn), listed])


def _at_the_end(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The longer trainings, as a round of their own."""
    why = {"reason": "whether length pays for what was found"}
    arms = [
        {**one, "remedy": f"longer ({counted(one['epochs'], 'epoch')})", "changes": {"epochs": one["epochs"]}, **why}
        for one in result.get("lengths") or ()  # studies of before it kept none
    ]
    return [{"round": "end", "arms": arms}] if arms else []


def _arm_changes(changes: Mapping[str, Any]) -> Html:
    """What an arm changed; values that only go back to what belongs to another name are left out."""
    told = {
        key: recipe_value(value) if value is not None else "found anew"
        for key, value in changes.items()
        if value is not None or key == "optimizer.lr"
    }
    return folded([f"{key}: {value}" for key, value in told.items()])
