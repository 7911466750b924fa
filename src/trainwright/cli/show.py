"""Results as text for a person."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright.tracking.runs import RunSummary

WIDTH = 110
SYMBOLS = {"yes": "●", "cannot-tell": "?", "no": "·"}
MOST_CLASSES = 12  # a line each; of more only the lowest are named
LOWEST = 5
UNTOLD_RATE = "the range test could not tell: a published one, or near where its sweep breaks down"
ONE_PROBE = re.compile(r"The probe ([a-z0-9-]+) would tell\.")
LITTLE = (
    0.25  # ours: of what guessing leaves over; a training that has less of it has no gap because it has learned little
)


def show_run(result: Mapping[str, Any]) -> str:
    """A finished run on a page."""
    score = result["score"]
    lines = [
        f"run        {result['run']}",
        f"{result['metric']:<10} train {_number(score['train'])}   unseen {_number(score['val'])}   (eval mode, clean images)",
        *_scored(result),
        *_metrics(result),
        *_classes(result),
        *_gap(result),
        *wrapped("verdict    ", show_verdict(result["verdict"], result["findings"])),
        *_learning_rate(result),
        "",
    ]
    lines += show_findings(result["findings"])
    lines += [
        "",
        f"weights    epoch {result['kept_epoch'] + 1} of {result['epochs']}, {result['parameters']:,} parameters",
        f"time       {result['seconds']:,.0f} s, {result['images_per_second']:,.0f} images/s while training",
        f"folder     {result['folder']}",
    ]
    page = Path(result["folder"]) / "report.html"
    lines += [f"report     {page}"] if page.is_file() else []
    return "\n".join(lines)


def _scored(result: Mapping[str, Any]) -> list[str]:
    """Of how many train images the train score is; nothing where it is of all, or where that is not known."""
    from trainwright.report.wording import scored_train  # with numpy, which `--help` does without

    scored, train = scored_train(result, result.get("images") or {})
    return [] if scored == train else [f"           (train: of {scored:,} of the {train:,} images, drawn for this)"]


def _gap(result: Mapping[str, Any]) -> list[str]:
    """The gap, and why it is not the difference of the two scores, where it is not; nothing where no image is unseen."""
    from trainwright.diagnosis.wording import CHOSEN_THERE
    from trainwright.report.wording import holds_choice

    gap = result["gap"]
    if result["score"]["val"] is None:
        return []
    within = f"{_number(gap['value'])}   ({_number(gap['low'])} to {_number(gap['high'])}), margin {result['gap_margin']:.3f}"
    return [f"gap        {within}", *([f"           ({CHOSEN_THERE})"] if holds_choice(result) else [])]


def show_verdict(verdict: str, findings: Sequence[Mapping[str, Any]]) -> str:
    """The word, and what it must not be taken for: what was hardly learned has nothing that could fail on unseen images."""
    figures: Mapping[str, float] = next(
        (finding.get("figures", {}) for finding in findings if finding["rule"] == "diverged"), {}
    )
    chance, score = figures.get("chance_score"), figures.get("train_score")
    if verdict != "generalizes" or chance is None or score is None or score >= chance + LITTLE * (1 - chance):
        return verdict
    return f"{verdict}, but it has learned little: train score {_number(score)}, guessing gives {_number(chance)}"


def show_findings(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What holds and what cannot be told, with evidence and advice; what does not hold in a line. What cannot be told for the
    same reason is said once."""
    lines, told = [], set()
    for finding in findings:
        alike = [one for one in findings if _same_doubt(one, finding)] or [finding]
        if finding["verdict"] != "no" and finding["rule"] not in told:
            told |= {one["rule"] for one in alike}
            advice = _advice([one["advice"] for one in alike if one["advice"]])
            lines += _finding({**finding, "rule": ", ".join(one["rule"] for one in alike), "advice": advice})
    denied = [finding["rule"] for finding in findings if finding["verdict"] == "no"]
    return lines + (wrapped(f"{SYMBOLS['no']} not: ", ", ".join(denied)) if denied else [])


def _advice(said: Sequence[str]) -> str:
    """Each once; probes in one sentence, with the command that runs them."""
    probes = [match[1] for match in map(ONE_PROBE.fullmatch, said) if match]
    others = list(dict.fromkeys(advice for advice in said if not ONE_PROBE.fullmatch(advice)))
    if probes:
        which = (
            f"The probe {probes[0]} would tell" if len(probes) == 1 else f"The probes {', '.join(probes)} would tell"
        )
        others.append(f"{which}: 'trainwright diagnose RUN {' '.join(f'--probe {probe}' for probe in probes)}'.")
    return " ".join(others)


def _same_doubt(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["verdict"] == other["verdict"] == "cannot-tell" and one["evidence"] == other["evidence"])


def show_runs(runs: Sequence[RunSummary]) -> str:
    """A line a run."""
    if not runs:
        return "no runs yet"
    width = max(len(run.run_id) for run in runs)
    lines = [f"{'run':<{width}}  {'state':<11}  {'train':>6}  {'unseen':>6}  {'verdict':<12} {'seconds':>8}  network"]
    for run in runs:
        seconds = f"{run.seconds:,.0f}" if run.seconds is not None else ""
        lines.append(
            f"{run.run_id:<{width}}  {run.state:<11}  {_number(run.train_score):>6}  {_number(run.val_score):>6}  "
            f"{run.verdict or '':<12} {seconds:>8}  {run.network}"
        )
    return "\n".join(lines)


def show_comparison(content: Mapping[str, Any]) -> str:
    """Two runs side by side: first what differs in the recipes, then in the results."""
    a, b = content["runs"]
    lines = [f"a  {a['run']}", f"b  {b['run']}", "", "recipe"]
    lines += [f"  {key:<26} {_plain(first)}  →  {_plain(second)}" for key, (first, second) in content["recipe"].items()]
    if not content["recipe"]:
        lines.append("  the same")
    lines += ["", "result"]
    for key, (first, second) in content["result"].items():
        told = f"{_plain(first)}  →  {_plain(second)}" if first != second else f"{_plain(first)}, both"
        lines.append(f"  {key:<26} {told}")
    lines += ["", *wrapped("", content["conclusion"])]
    return "\n".join(lines)


PAIRS = "which values mattered. Whether two runs differ by more than chance: trainwright runs compare RUN RUN"


def show_patterns(content: Mapping[str, Any]) -> str:
    """Studies beside each other: of each value how much of the scores hung on it, and which one the best had."""
    groups, rows = content["groups"], content["hyperparameters"]
    widths = [max(20, len(group["name"])) for group in groups]

    def line(name: str, cells: Sequence[str]) -> str:
        padded = (f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
        return f"{name:<26}  {'  '.join(padded)}".rstrip()

    lines = []
    if any(group["kind"] == "runs" for group in groups):
        lines += wrapped(
            "", f"{sum(group['trainings'] for group in groups)} trainings, those of one dataset together: {PAIRS}"
        )
    lines += [line("", [group["name"] for group in groups]), line("data", [group["data"] for group in groups])]
    lines.append(line("whole trainings", [f"{group['trainings']:,}" for group in groups]))
    best = [group["best"] for group in groups]
    scores = [
        f"{group['metric']} {_number(one['score'])}" if one else "–" for group, one in zip(groups, best, strict=True)
    ]
    lines += [line("best", scores), "", "share of what the values tell of the scores, and the best one's value"]
    for row in rows:
        cells = []
        for share, value, group in zip(row["importance"], row["best"], groups, strict=True):
            known = f"{100 * share:3.0f} %" if share is not None else "    ?"
            cells.append(f"{known}  {_plain(value)}" if row["key"] in group["varied"] else "–")
        lines.append(line(row["key"], cells))
    for group in groups:
        lines += ["", f"{group['name']}, the best first"] if group["listed"] else []
        for one in group["listed"]:
            values = ", ".join(f"{key} {_plain(value)}" for key, value in one["values"].items())
            lines += wrapped(f"  {one['run']}  {_number(one['score'])}  ", values or "the same recipe")
    untold = [f"{group['name']}: {group['why_not']}" for group in groups if group["why_not"]]
    lines += [f"? cannot be told of {said}" for said in untold]
    return "\n".join([*lines, "", *wrapped("", content["conclusion"])])


def _metrics(result: Mapping[str, Any]) -> list[str]:
    """A line for each further figure of the task; results of old have none."""
    metrics = result.get("metrics") or {}
    train, val = metrics.get("train") or {}, metrics.get("val") or {}
    names = [name for name in {**val, **train} if name != "score" and not name.startswith("class.")]
    return [f"{name:<10} train {_amount(train.get(name))}   unseen {_within(val.get(name))}" for name in names]


def _classes(result: Mapping[str, Any]) -> list[str]:
    """A line for each class, in the task's order; of many classes one line with the lowest."""
    per_class = result.get("per_class") or {}
    intervals = (result.get("intervals") or {}).get("per_class") or {}
    if not per_class:
        return []
    if len(per_class) > MOST_CLASSES:
        known = {name: value for name, value in per_class.items() if value is not None}
        lowest = sorted(known, key=lambda name: known[name])[:LOWEST]
        return wrapped("lowest     ", ", ".join(f"{name} {_number(known[name])}" for name in lowest))
    width = max(len(name) for name in per_class)
    rows = [
        f"{name:<{width}}  {_number(value)}{_doubt(intervals.get(name), _number)}" for name, value in per_class.items()
    ]
    heads = ["classes    ", *[" " * 11] * len(rows)]
    return [head + row for head, row in zip(heads, rows, strict=False)]


def _learning_rate(result: Mapping[str, Any]) -> list[str]:
    """The peak learning rate and where it is from."""
    lr = result.get("lr")
    if not lr:
        return []
    if lr["suggested"] is None:
        untold = any(finding["rule"] == "lr-range" for finding in result["findings"])
        origin = UNTOLD_RATE if untold else "from the recipe"
    else:
        origin = "from the range test"
        if lr["low"] is not None:
            if lr["low"] < lr["high"]:
                origin += f": the loss falls at learning rates from {lr['low']:.2g} to {lr['high']:.2g}"
            cyclic = lr["used"] > lr["suggested"]  # other schedules peak at the suggestion
            origin += f", {lr['suggested']:.2g} suggested, and cycles go above it" if cyclic else ""
    return [f"lr         {lr['used']:.3g}   ({origin})"]


def _within(figure: Mapping[str, Any] | float | None) -> str:
    """'1.12 (0.93 to 1.34)', without the interval where there is none."""
    if not isinstance(figure, Mapping):
        return _amount(figure)
    return f"{_amount(figure['value'])}{_doubt(figure, _amount)}"


def _doubt(interval: Mapping[str, Any] | None, say: Callable[[float | None], str]) -> str:
    if interval is None or interval.get("low") is None or interval.get("high") is None:
        return ""
    return f" ({say(interval['low'])} to {say(interval['high'])})"


def _finding(finding: Mapping[str, Any]) -> list[str]:
    head = f"{SYMBOLS[finding['verdict']]} {finding['rule']}: {finding['verdict'].replace('-', ' ')}. "
    lines = wrapped(head, finding["evidence"])
    return lines + (wrapped("  → ", finding["advice"]) if finding["advice"] else [])


def wrapped(head: str, text: str) -> list[str]:
    """`text` behind `head`, in lines of at most WIDTH characters. Where it has lines of its own, each begins under the first."""
    if "\n" in text:
        first, *others = text.split("\n")
        return [*wrapped(head, first), *(line for one in others for line in wrapped("  ", one))]
    return textwrap.wrap(head + text, WIDTH, subsequent_indent="  ", drop_whitespace=True) or [head]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _amount(value: float | None) -> str:
    """A figure in any unit: three digits that count, and never fewer than stand before the point."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
