"""Results as text for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from trainwright.tracking.runs import RunSummary

WIDTH = 110
SYMBOLS = {"yes": "●", "cannot-tell": "?", "no": "·"}


def show_run(result: Mapping[str, Any]) -> str:
    """A finished run on a page."""
    score, gap = result["score"], result["gap"]
    lines = [
        f"run        {result['run']}",
        f"{result['metric']:<10} train {_number(score['train'])}   unseen {_number(score['val'])}   (eval mode, clean images)",
        f"gap        {_number(gap['value'])}   ({_number(gap['low'])} to {_number(gap['high'])}), "
        f"margin {result['gap_margin']:.3f}",
        f"verdict    {result['verdict']}",
        "",
    ]
    for finding in result["findings"]:
        if finding["verdict"] != "no":
            lines += _finding(finding)
    denied = [finding["rule"] for finding in result["findings"] if finding["verdict"] == "no"]
    if denied:
        lines += _wrapped(f"{SYMBOLS['no']} not: ", ", ".join(denied))
    lines += [
        "",
        f"weights    epoch {result['kept_epoch'] + 1} of {result['epochs']}, {result['parameters']:,} parameters",
        f"time       {result['seconds']:,.0f} s, {result['images_per_second']:,.0f} images/s while training",
        f"folder     {result['folder']}",
    ]
    return "\n".join(lines)


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
    lines += [f"  {key:<26} {_plain(first)}  →  {_plain(second)}" for key, (first, second) in content["result"].items()]
    lines += ["", *_wrapped("", content["conclusion"])]
    return "\n".join(lines)


def _finding(finding: Mapping[str, Any]) -> list[str]:
    head = f"{SYMBOLS[finding['verdict']]} {finding['rule']}: {finding['verdict'].replace('-', ' ')}. "
    lines = _wrapped(head, finding["evidence"])
    return lines + (_wrapped("  → ", finding["advice"]) if finding["advice"] else [])


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, WIDTH, subsequent_indent="  ", drop_whitespace=True) or [head]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
