"""Verdict, findings and prescriptions in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.diagnosis.rules import DESCRIPTIVE, first_fault
from trainwright.diagnosis.wording import against, points
from trainwright.records import Finding, Prescription
from trainwright.report.markup import Html, element, joined
from trainwright.report.provenance import on_its_data
from trainwright.report.wording import recipe_value

# (kind, the word, what it means) of each verdict.
VERDICTS = {
    "overfits": (
        "bad",
        "Overfits",
        "It does worse on unseen images than on those it learned from, beyond chance and margin.",
    ),
    "generalizes": ("good", "Generalizes", "It does about as well on unseen images as on those it learned from."),
    "underfits": ("bad", "Underfits", "It has not learned its own train images, and a cause of that is known."),
    "diverged": ("bad", "Diverged", "The training broke down; no other figure of it means anything."),
    "cannot-tell": ("unsure", "Cannot tell yet", "These images do not tell whether it overfits."),
}
WORDS = {"yes": "yes", "no": "no", "cannot-tell": "cannot tell"}
MOST_PRESCRIPTIONS = 4


def headline(result: Mapping[str, Any]) -> Html:
    """The verdict first: the word, what it rests on, and what matters more than it, where something does."""
    verdict = str(result["verdict"])
    kind, word, meaning = VERDICTS.get(verdict, ("unsure", verdict, ""))
    findings = list(result["findings"])
    about = {"generalizes": "overfits", "cannot-tell": "overfits"}.get(verdict, verdict)
    main = next((one for one in findings if one["rule"] == about), None)
    if main is None:
        main = next((one for one in findings if one["verdict"] == "cannot-tell"), None)
    lines = [element("p", word, class_="word"), element("p", meaning)]
    if main is not None:
        lines.append(element("p", main["evidence"]))
        if verdict == "cannot-tell" and main["advice"]:
            lines.append(element("p", element("strong", "What would tell: "), main["advice"]))
    fault = first_fault([Finding(**one) for one in findings])
    if fault and fault not in (about, verdict):
        first = next(one for one in findings if one["rule"] == fault)
        lines.append(
            element("p", element("strong", "First of all: "), element("code", fault), f". {first['evidence']}")
        )
    return element("div", lines, class_=f"verdict {kind}")


def finding_list(findings: Sequence[Mapping[str, Any]]) -> Html:
    """What holds and what cannot be told, with evidence and advice; what does not hold folded up."""
    shown: list[Html] = []
    told: set[str] = set()
    for one in findings:
        if one["verdict"] == "no" or one["rule"] in told:
            continue
        alike = [other for other in findings if _same_doubt(one, other)] or [one]
        told |= {other["rule"] for other in alike}
        shown.append(_finding(alike))
    denied = [one for one in findings if one["verdict"] == "no"]
    folded = None
    if denied:
        folded = element(
            "details",
            element("summary", f"{len(denied)} looked for and not found"),
            element("ul", [_finding([one]) for one in denied], class_="findings", role="list"),
        )
    listed = (
        element("ul", shown, class_="findings", role="list")
        if shown
        else element("p", "Nothing that asks for a change.")
    )
    return joined([listed, folded])


def prescription_list(
    prescriptions: Sequence[Prescription], *, folder: str, manifest: Mapping[str, Any]
) -> Html | None:
    """What to try next, with a command for each; none of it is proven for this data."""
    if not prescriptions:
        return None
    shown = [_prescription(one, manifest, folder) for one in prescriptions[:MOST_PRESCRIPTIONS]]
    beside = on_its_data(manifest, "improve", "--budget=30m", folder=folder)
    return joined(
        [
            element("h3", "What to try, the largest expected gain for its time first"),
            element(
                "p",
                "None of it is proven for this data: what it gained elsewhere is the expectation. ",
                "This trains each beside an unchanged control and keeps what is better beyond chance:"
                if beside
                else None,
            ),
            element("pre", beside) if beside else None,
            element("ul", shown, class_="findings", role="list"),
        ]
    )


def _prescription(one: Prescription, manifest: Mapping[str, Any], folder: str) -> Html:
    sets = (f"--set={key}={recipe_value(value)}" for key, value in one.changes.items())
    trains = on_its_data(manifest, "train", *sets, folder=folder) if one.changes else None
    return element(
        "li",
        element("h3", one.remedy, element("span", against(one.finding), class_="tag")),
        element("p", one.reason),
        element(
            "p",
            f"Expected: {points(one.gain)} of the score. {one.effect[:1].upper()}{one.effect[1:]}.",
            class_="quiet small",
        ),
        element("p", f"Source: {one.source}", class_="quiet small") if one.source else None,
        element("pre", trains) if trains else None,
        class_="tells",
    )


def _same_doubt(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["verdict"] == other["verdict"] == "cannot-tell" and one["evidence"] == other["evidence"])


def _finding(alike: Sequence[Mapping[str, Any]]) -> Html:
    first = alike[0]
    advice = " ".join(dict.fromkeys(one["advice"] for one in alike if one["advice"]))
    label = element("strong", "What would tell: ") if first["verdict"] == "cannot-tell" else None
    describes = first["verdict"] == "yes" and first["rule"] in DESCRIPTIVE
    names = ", ".join(one["rule"] for one in alike)
    return element(
        "li",
        element("h3", names, element("span", WORDS.get(first["verdict"], first["verdict"]), class_="tag")),
        element("p", first["evidence"]),
        element("p", label, advice) if advice else None,
        class_="tells" if describes else first["verdict"],
    )
