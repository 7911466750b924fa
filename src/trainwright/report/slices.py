"""Which kinds of images a model fails at: those that are worse than all others beyond chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.diagnosis.comparison import LEVEL
from trainwright.report.markup import Html, element, joined
from trainwright.report.tables import Cell, Column, table
from trainwright.report.wording import counted, finite, points_within

MEANINGS = {  # of the properties that every image has
    "pixels of the file": "its height times its width",
    "brightness": "0 is black, 1 is white",
    "contrast": "how much its grey values differ",
    "saturation": "0 is grey, 1 is of pure colours",
    "sharpness": "how much neighbouring pixels differ: little is blurred, much is noisy or full of detail",
}


def slices_section(found: Mapping[str, Any] | None, note: str, *, run: str, unseen: int) -> Html | None:
    """A table of what fails, or a sentence that nothing stood out. note: why there is nothing to be told of. unseen: how many
    unseen images there are, of which not all need to have been looked at."""
    if found is None:
        return element("p", note, class_="quiet") if note else None
    looked = ", ".join(found["attributes"])
    more = element(
        "p",
        "More kinds, by a table of your own (camera, place, day): ",
        element("code", f"trainwright slices {run} --metadata TABLE.csv"),
        class_="quiet small",
    )
    if found["images"] < unseen:
        some = f"{found['images']:,} of the {unseen:,} unseen images were looked at, evenly drawn; the command looks at all. "
        more = joined([element("p", some, class_="quiet small"), more])
    if not found["slices"]:
        few = f"{counted(found['images'], 'unseen image')} are too few to tell kinds of them apart by {looked}: "
        return joined([element("p", few, f"each kind, and the rest, need {found['least_images']}."), more])
    kinds = counted(len(found["slices"]), "kind")
    if not found["failing"]:
        said = (
            f"None stands out: of {kinds} of images (by {looked}; numbers in quarters) none is worse than all others beyond "
            "chance and by more than two points."
        )
        return joined([element("p", said), more])
    rest = [one for one in found["slices"] if not one["fails"]]
    return joined(
        [
            element("p", _lead(found, kinds, looked)),
            _table(found["failing"], found, "Worse than all other images beyond chance, what costs most first"),
            element("p", _meanings(found["failing"]), class_="quiet small"),
            element(
                "details",
                element("summary", f"The other {counted(len(rest), 'kind')} that were looked at"),
                _table(rest, found, "The other kinds, the worst first"),
            )
            if rest
            else None,
            more,
        ]
    )


def _lead(found: Mapping[str, Any], kinds: str, looked: str) -> str:
    worst, count = found["failing"][0], len(found["failing"])
    return (
        f"What costs most: {_said(worst)}. {count} of {kinds} of images (by {looked}; numbers in quarters) "
        f"{'fails' if count == 1 else 'fail'}: worse than all others by more than two points, and at most one such page in "
        "twenty would name a kind by chance. Kinds overlap: the same images may be of several."
    )


def _said(one: Mapping[str, Any]) -> str:
    return f"{one['attribute']} {one['value']}, {points_within(one['difference'])} against all others"


def _meanings(some: Sequence[Mapping[str, Any]]) -> str:
    known = {one["attribute"]: MEANINGS.get(one["attribute"]) for one in some}
    return " ".join(f"{name.capitalize()}: {meaning}." for name, meaning in known.items() if meaning)


def _table(some: Sequence[Mapping[str, Any]], found: Mapping[str, Any], caption: str) -> Html:
    columns = [
        Column(title="kind of image"),
        Column(title="images", number=True),
        Column(title="their score", number=True, lower_first=True),
        Column(title="all others", number=True),
        Column(title="difference (95 % interval)", number=True, lower_first=True),
        Column(title="p, for all kinds", number=True, lower_first=True),
        Column(title="verdict"),
    ]
    rows = [
        [
            f"{one['attribute']}: {one['value']}",
            Cell(shown=f"{one['images']:,}", value=float(one["images"])),
            Cell(shown=f"{finite(one['score']):.3f}", value=finite(one["score"])),
            Cell(shown=f"{finite(one['rest']):.3f}", value=finite(one["rest"])),
            Cell(shown=points_within(one["difference"]), value=finite(one["difference"]["value"])),
            Cell(shown=_p(finite(one["p"])), value=finite(one["p"])),
            verdict(one),
        ]
        for one in some
    ]
    corrected = f"score: {found['score_is']}; p: of no difference, corrected for all kinds (Holm)"
    return table(columns, rows, caption=f"{caption}; {corrected}")


def verdict(one: Mapping[str, Any]) -> str:
    """What is to be thought of a slice, in words."""
    if one["fails"]:
        return "fails"
    if finite(one["p"]) >= LEVEL:
        return "not told from chance"
    return "better" if finite(one["difference"]["value"]) > 0 else "a little worse"


def _p(value: float) -> str:
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}"
