"""The journal of a study as a story: sentence by sentence what was believed, tried, found and decided."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trainwright.report.markup import Html, element, joined
from trainwright.report.tables import rows_of
from trainwright.report.values import Entry, Trial

MOST_CHANGES = 5  # values of a recipe that are shown unfolded
ROUND = re.compile(r"(Round \d+)\. ")
MEANINGS = (
    ("unseen images", "the validation images: nothing was learned from them"),
    ("points", "hundredths of the score: from 70 % to 75 % are 5 points"),
    ("gap", "the error on unseen images less that on images it learned from: what was learned by heart"),
    ("margin", "the smallest amount that is worth acting on"),
    ("baseline", "the first training, as it was asked for"),
    ("control", "the same recipe once more, with another seed: what chance alone does"),
    ("arm", "the recipe with one remedy, trained beside a control"),
    ("adopted", "better than the unchanged recipe beyond chance, and kept"),
)
STEPS = {  # sign, what it is, of a sentence of the story
    "belief": ("#", "What was believed"),
    "trial": ("→", "What was tried"),
    "outcome": ("=", "What came out"),
    "decision": ("●", "What was decided"),
}


def told(story: Sequence[Entry], trials: Sequence[Trial]) -> Html | None:
    """The sentences in their order, each with the runs that it speaks of."""
    if not story:
        return None
    by_run = {one.run: one for one in trials}
    parts: list[tuple[str, list[Html]]] = [("", [])]
    before = ""
    for entry in story:
        begins = ROUND.match(entry.text) if entry.step == "belief" else None
        if begins:
            parts.append((begins.group(1), []))
            before = ""
        sign, what = STEPS.get(entry.step, ("·", entry.step))
        runs = [by_run[run] for run in entry.runs if run in by_run]
        links = joined([joined([" · " if n else "", _to_row(one)]) for n, one in enumerate(runs)])
        parts[-1][1].append(
            element(
                "li",
                element("span", what, class_="what") if what != before else None,
                _in_words(entry.text[begins.end() :] if begins else entry.text),
                joined([" ", element("span", links, class_="runs")]) if runs else None,
                class_=entry.step if entry.step in STEPS else None,
                data_sign=sign,
            )
        )
        before = what
    return joined(
        [
            joined([element("h3", name) if name else None, element("ol", some, class_="story", role="list")])
            for name, some in parts
            if some
        ]
    )


def _in_words(text: str) -> Html:
    """A sentence of the story, and what a remedy changes small, where that is much."""
    begin, sign, rest = text.partition(" (")
    changes, end, after = rest.partition("), ")
    if not sign or not end or not begin.startswith("Trying ") or changes.count(": ") <= MOST_CHANGES:
        return joined([text])
    folded = element("details", element("summary", f"what it changes: {changes.count(': ')} values"), changes)
    return joined([f"{begin}, {after}", folded])


def words() -> Html:
    """What the words of a story mean, for who does not know them."""
    return element("details", element("summary", "What the words mean"), rows_of(MEANINGS))


def folded(changes: Sequence[str]) -> Html:
    """Values that are changed, a line each; folded where they are many, as those of a whole published recipe."""
    listed = joined([joined([element("code", change), element("br")]) for change in changes])
    if len(changes) <= MOST_CHANGES:
        return listed
    return element("details", element("summary", f"{len(changes)} values"), element("div", listed), class_="inside")


def _to_row(one: Trial) -> Html:
    return element("a", f"run {one.number}", href=f"#run-{one.number}", title=one.label)
