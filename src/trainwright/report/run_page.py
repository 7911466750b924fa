"""The page of a run: the verdict first, then what it rests on, what was asked and how to repeat it."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.diagnosis.wording import CHOSEN_THERE
from trainwright.report.answer_plots import chart_figures
from trainwright.report.class_table import class_table
from trainwright.report.findings import finding_list, headline, prescription_list
from trainwright.report.markup import Html, element, joined
from trainwright.report.openings import test_facts
from trainwright.report.page import UNSEEN, Figure, Section, figure, figures, foot, page
from trainwright.report.plots import epoch_curves, gap_parts, lr_range, reliability, step_curves
from trainwright.report.provenance import asked, repeated
from trainwright.report.slices import slices_section
from trainwright.report.tables import Cell, Column, facts_of, rows_of, table
from trainwright.report.unfinished import unfinished_head
from trainwright.report.values import Picture, Pictures, RunValues
from trainwright.report.wording import (
    amount,
    duration,
    end_of,
    finite,
    holds_choice,
    points_within,
    score,
    scored_train,
    size,
    within,
)

TINY = 96  # pixels: smaller pictures are shown with their pixels, larger ones smoothly
NOT_UNSEEN = (
    "the validation images were learned from too, so that no image of this run is unseen but those of the test part."
)
EXPLAINED = (
    "Beside each image, in red, what speaks for the answer, in blue what speaks against it: integrated gradients from the "
    "image's mean colour (Sundararajan et al., arXiv:1703.01365). Look whether the red is on the thing itself: where it lies on "
    "the ground or at a border, the answer was learned from something else."
)
LARGE, WIDE = 200, 1.6  # pixels, and times as wide as high: such pictures need more room


def run_page(values: RunValues) -> str:
    """The page as HTML."""
    result = values.result
    sections = [
        ("gap", "Gap", "The gap and its parts", None if result is None else _gap(result)),
        ("findings", "Findings", "What was found", None if result is None else _findings(values, result)),
        ("curves", "Curves", "Curves", _curves(values)),
        ("lr", "Learning rate", "The learning-rate range test", _lr(values)),
        ("classes", "Answers", "Classes and answers", None if result is None else _answers(values, result)),
        ("images", "Images", "Images it gets wrong", None if result is None else _images(values)),
        ("kinds", "Kinds", "Which kinds of images fail", _kinds(values)),
        ("why", "Why", "Why it answers the hardest images so", _why(values)),
        (
            "calibration",
            "Calibration",
            "Are its probabilities honest?",
            None if result is None else _calibration(values, result),
        ),
        ("cost", "Cost", "Speed and cost", _cost(values)),
        ("asked", "Asked", "What was asked", asked(values)),
        ("repeat", "Repeat", "How to repeat it", repeated(values)),
    ]
    return page(
        title=values.run,
        kind=f"report of a run on {values.data_name}",
        head=_head(values),
        sections=[
            Section(anchor=anchor, short=short, title=title, body=body)
            for anchor, short, title, body in sections
            if body
        ],
        foot=foot(values.version, end_of(values.folder), NOT_UNSEEN if not values.unseen else UNSEEN),
    )


def _head(values: RunValues) -> Html:
    if values.result is None:
        return unfinished_head(values)
    return joined([headline(values.result), _facts(values, values.result)])


def _facts(values: RunValues, result: Mapping[str, Any]) -> Html:
    """The figures that stand first, each with its interval."""
    metric, split = str(result["metric"]), values.manifest.get("split") or {}
    scores, interval = result["score"], (result.get("intervals") or {}).get("score")
    images = {part: f"{split[part]:,} images" for part in ("train", "val", "test") if split.get(part)}
    facts: list[tuple[str, str, Sequence[str]]] = []
    if values.unseen:
        more = (within(interval, metric), images.get("val", ""))
        facts.append((f"{metric} on unseen images", score(scores["val"], metric), more))
        facts.append(
            (
                f"{metric} on train images",
                score(scores["train"], metric),
                ("the same way: eval mode, clean", _scored_train(result, split)),
            )
        )
    else:
        learned = ("eval mode, clean", _scored_train(result, split), "train and validation images: none is unseen")
        facts.append((f"{metric} on images it learned from", score(scores["train"], metric), learned))
    if math.isfinite(finite(result["gap"].get("value"))):
        said = points_within(result["gap"])
        value, _, doubt = said.partition(" (")
        margin = f"worth acting on above {100 * finite(result['gap_margin']):.1f}"
        chosen = CHOSEN_THERE if holds_choice(result) else ""
        facts.append(("gap: unseen error − train error", value, (doubt.rstrip(")"), margin, chosen)))
    facts += test_facts(values.openings, metric)
    kept = f"weights of epoch {result['kept_epoch'] + 1} kept" if result.get("kept_epoch") is not None else ""
    facts.append(("trained for", duration(result["seconds"]), (f"{result['epochs']} epochs", kept)))
    return facts_of(facts)


def _scored_train(result: Mapping[str, Any], split: Mapping[str, Any]) -> str:
    scored, train = scored_train(result, split)
    return f"{scored:,} of {train:,} images" if train else ""


def _gap(result: Mapping[str, Any]) -> Html | None:
    errors, metric = result["train_errors"], str(result["metric"])
    drawn = gap_parts(errors, result["gap"], metric)
    if drawn is None:
        return None
    parts = next((found for found in result["findings"] if found["rule"] == "gap-parts"), None)
    explained = [
        (
            "A → B",
            "running",
            "train_mode",
            "lag: during the epoch the weights were still improving (and mixtures, if any)",
        ),
        ("B → C", "train_mode", "augmented", "dropout and batch norm's statistics"),
        ("C → D", "augmented", "clean", "augmentation"),
        ("D → unseen", "clean", "val", "generalization: the gap"),
    ]
    rows = []
    for step, first, second, cause in explained:
        change = 100 * (finite(errors.get(second)) - finite(errors.get(first)))
        if math.isfinite(change):
            said = points_within(result["gap"]) if second == "val" else f"{change:+.1f} points"
            rows.append([step, cause, Cell(shown=said, value=change)])
    columns = [
        Column(title="step"),
        Column(title="what differs", long=True),
        Column(title="error changes by", number=True),
    ]
    told = element("p", parts["evidence"]) if parts is not None else None
    return joined([told, figure(drawn), table(columns, rows, caption="Each error differs from the next in one thing")])


def _findings(values: RunValues, result: Mapping[str, Any]) -> Html:
    return joined(
        [
            finding_list(result["findings"]),
            prescription_list(values.prescriptions, folder=values.folder, manifest=values.manifest),
            _would_tell(values),
        ]
    )


def _would_tell(values: RunValues) -> Html | None:
    if not values.would_tell:
        return None
    named = " ".join(f"--probe {name}" for name in values.would_tell)
    return joined(
        [
            element("h3", "Short extra trainings that would tell more"),
            element("pre", f"trainwright diagnose {values.run} {named}"),
        ]
    )


def _curves(values: RunValues) -> Html | None:
    if not values.epochs and not values.losses:
        return None
    metric = str((values.result or {}).get("metric") or values.manifest.get("metric") or "score")
    kept = None if values.result is None else values.result.get("kept_epoch")
    drawn = [*epoch_curves(values.epochs, kept, metric=metric), *step_curves(values.losses, values.lrs)]
    return joined([figures(*drawn), _epoch_table(values.epochs, metric, unseen=values.unseen)])


def _epoch_table(epochs: Sequence[Mapping[str, Any]], metric: str, *, unseen: bool) -> Html | None:
    if not epochs:
        return None
    parts = {"train": "train", "val": "unseen"} if unseen else {"train": "train"}
    of_parts = [f"{said} {what}" for what in ("loss", metric) for said in parts.values()]
    titles = ("epoch", *of_parts, "lr", "seconds")
    columns = [
        Column(title=title, number=True, lower_first=title in ("epoch", "train loss", "unseen loss"))
        for title in titles
    ]
    rows = []
    for epoch in epochs:
        figures_ = [epoch[part]["loss"] for part in parts]
        scores = [epoch[part]["score"] for part in parts]
        rows.append(
            [
                Cell(shown=epoch["epoch"] + 1, value=float(epoch["epoch"])),
                *(Cell(shown=amount(value), value=finite(value)) for value in figures_),
                *(Cell(shown=score(value, metric), value=finite(value)) for value in scores),
                Cell(shown=amount(epoch["lr"]), value=finite(epoch["lr"])),
                Cell(shown=f"{finite(epoch['seconds']):.1f}", value=finite(epoch["seconds"])),
            ]
        )
    return element(
        "details",
        element("summary", "The curves as numbers"),
        table(columns, rows, caption=f"Every epoch; {' and '.join(parts.values())} in eval mode on clean images"),
    )


def _lr(values: RunValues) -> Html | None:
    if values.lr_range is None:
        return None
    used = ((values.result or {}).get("lr") or {}).get("used")
    said = element("p", f"The training's peak learning rate was {amount(used)}.") if used is not None else None
    drawn = lr_range(values.lr_range, values.lr_sweeps)
    notes = [element("p", note) for note in values.lr_range.get("notes") or ()]
    reason = None if drawn else element("p", f"The range test: {values.lr_range.get('reason')}")
    return joined([said, reason, figure(drawn), notes])


def _answers(values: RunValues, result: Mapping[str, Any]) -> Html | None:
    intervals = (result.get("intervals") or {}).get("per_class") or {}
    drawn: list[Figure] = chart_figures(values.charts, intervals)
    listed = class_table(values.charts, result)
    further = _metrics(result)
    return joined([further, listed, figures(*drawn)]) if drawn or listed or further else None


def _metrics(result: Mapping[str, Any]) -> Html | None:
    """Further figures of the task, train beside unseen."""
    train, val = (result.get("metrics") or {}).get("train") or {}, (result.get("metrics") or {}).get("val") or {}
    rows = []
    for name in {**val, **train}:
        unseen = val.get(name) or {}
        doubt = within(unseen, "") if isinstance(unseen, Mapping) else ""
        value = unseen.get("value") if isinstance(unseen, Mapping) else unseen
        rows.append(
            [
                name,
                Cell(shown=amount(train.get(name)), value=finite(train.get(name))),
                Cell(shown=amount(value), value=finite(value)),
                doubt,
            ]
        )
    columns = [
        Column(title="figure"),
        Column(title="train", number=True),
        Column(title="unseen", number=True),
        Column(title="95 % interval"),
    ]
    return table(columns, rows, caption="Further figures") if rows else None


def _images(values: RunValues) -> Html | None:
    note = element("p", values.pictures_note, class_="quiet") if values.pictures_note else None
    groups = [_group(group) for group in values.pictures if group.shown]
    return joined([note, groups]) if note or groups else None


def _kinds(values: RunValues) -> Html | None:
    unseen = int((values.manifest.get("split") or {}).get("val") or 0)
    return slices_section(values.slices, values.slices_note, run=values.run, unseen=unseen)


def _why(values: RunValues) -> Html | None:
    if not values.explained:
        return element("p", values.explained_note, class_="quiet") if values.explained_note else None
    return joined(
        [
            element("p", EXPLAINED),
            element("ul", [_picture(one) for one in values.explained], class_="pictures wide", role="list"),
        ]
    )


def _group(group: Pictures) -> Html:
    wide = any(picture.width > LARGE or picture.width > WIDE * picture.height for picture in group.shown)
    listed = element(
        "ul", [_picture(one) for one in group.shown], class_="pictures wide" if wide else "pictures", role="list"
    )
    note = element("p", group.note, class_="quiet small") if group.note else None
    return joined([element("h3", group.title), note, listed])


def _picture(one: Picture) -> Html:
    mark = "" if one.good is None else "right" if one.good else "wrong"
    shown = element(
        "img",
        src=f"data:image/jpeg;base64,{base64.b64encode(one.data).decode()}",
        width=one.width,
        height=one.height,
        alt=f"{one.path}: {' '.join(one.said.split())}{f' ({mark})' if mark else ''}",
        loading="lazy",
        class_="tiny" if max(one.width, one.height) < TINY else None,
    )
    return element("li", shown, element("p", one.said), element("p", one.path, class_="path"))


def _calibration(values: RunValues, result: Mapping[str, Any]) -> Html | None:
    drawn = reliability(values.reliability)
    if drawn is None:
        return None
    found = next((one for one in result["findings"] if one["rule"] == "over-confident"), None)
    told = [element("p", found[part]) for part in ("evidence", "advice") if found is not None and found[part]]
    return joined([told, figure(drawn)])


def _cost(values: RunValues) -> Html | None:
    epochs, machine = values.epochs, values.manifest.get("machine") or {}
    if not epochs:
        return None
    result = values.result or {}
    in_epochs = sum(finite(epoch["seconds"]) for epoch in epochs)
    memory = max(int(epoch.get("memory_bytes") or 0) for epoch in epochs)
    precision = values.manifest.get("precision") or {}
    seconds = finite(result.get("seconds"))
    share = f" ({100 * in_epochs / seconds:.0f} % of all)" if math.isfinite(seconds) and seconds > 0 else ""
    return rows_of(
        [
            ("whole run", duration(result.get("seconds")) if result else ""),
            ("training epochs", f"{duration(in_epochs)}{share}: the rest read, evaluated, judged and drew"),
            ("median epoch", duration(_median([finite(epoch["seconds"]) for epoch in epochs]))),
            (
                "speed while training",
                f"{amount(_median([finite(e['images_per_second']) for e in epochs]))} images a second",
            ),
            ("one step", f"{amount(1000 * _median([finite(e['step_seconds']) for e in epochs]))} ms"),
            ("most memory", size(memory) if memory else ""),
            ("parameters", f"{result['parameters']:,}" if "parameters" in result else ""),
            ("device", machine.get("device")),
            ("precision", f"{precision.get('name')}: {precision.get('reason')}" if precision else ""),
            ("processor", f"{machine.get('processor') or '?'}, {machine.get('cpus')} CPUs"),
            ("threads", machine.get("torch_threads")),
        ]
    )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
