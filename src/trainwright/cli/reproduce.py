"""`trainwright reproduce`: a run trained again from its record, and whether it came out the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.show import wrapped
from trainwright.cli.training import CHECKPOINT_SECONDS, mirrors_from, stopped, under_signals
from trainwright.errors import GoalNotMetError

MoreData = Annotated[
    Path | None,
    typer.Option("--data", metavar="PATH", help="Where its data is now. [default: where it was]", show_default=False),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Where the weight file that its recipe names is now. [default: where it was]",
        show_default=False,
    ),
]
EpochsOnly = Annotated[
    int | None,
    typer.Option(
        "--epochs-only", metavar="N", min=1, help="Stop after N epochs of the same schedule, and compare those."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="CPU threads of torch. [default: as many as then]", show_default=False),
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="cpu, cuda or cuda:N; auto: the one then, where it is there.")
]
WORDS = {"identical": "identical", "within-noise": "within noise", "differs": "differs"}


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Train a run again from its record: is it the same?",
        epilog="Examples:\n\n  trainwright reproduce last\n\n  trainwright reproduce last --epochs-only 1"
        "\n\n  trainwright reproduce /mnt/copied/20261122-0117-cats-7f3a --data /mnt/copied/cats",
    )(reproduce)


@grouped
def reproduce(
    run: options.RunName,
    *,
    data: MoreData = None,
    weights: Weights = None,
    epochs_only: EpochsOnly = None,
    runs: options.Runs = Path("runs"),
    device: Device = "auto",
    workers: options.Workers = 2,
    threads: Threads = None,
    processes: options.Processes = None,
    mirrors: options.Mirrors = None,
    checkpoint_seconds: options.CheckpointSeconds = CHECKPOINT_SECONDS,
    offline: options.Offline = False,
    output: options.Output,
) -> int:
    """Train RUN again from its folder alone, as a new run, and say: identical, within noise, or differs because of what.

    RUN may lie anywhere, also in a folder copied from another machine. Before the training everything is named that is not as it
    was: images, recipe, versions, threads, device. The exit code is 0 for identical and within noise, 4 for differs, 3 where
    its data is not to be had. One that was stopped goes on with 'trainwright reproduce' and the id of the new run.
    """
    chosen: dict[str, Any] = {
        "runs": runs,
        "device": device,
        "workers": workers,
        "threads": threads,
        "processes": processes,
        "offline": offline,
        "mirrors": mirrors_from(mirrors),
        "checkpoint_seconds": checkpoint_seconds,
    }

    def work(stop: Callable[[], bool]) -> dict[str, Any]:
        from trainwright.cli.runs import close_dead_runs
        from trainwright.workflows import reproduce as workflow
        from trainwright.workflows.options import RunOptions

        close_dead_runs(runs)
        asked = RunOptions(**chosen, reporter=output.reporter(), stop_asked=stop)
        return workflow.reproduce(run, data=data, weights=weights, epochs_only=epochs_only, options=asked)

    found, signals = under_signals(work, quiet=output.quiet)
    if found["verdict"] is None:
        return stopped(found["run"], "its state is saved", signals, as_json=output.as_json, verb="reproduce")
    print(json.dumps(found) if output.as_json else show_reproduction(found))
    return GoalNotMetError.exit_code if found["verdict"] == "differs" else 0


def show_reproduction(found: Mapping[str, Any]) -> str:
    """A reproduction on a page: the verdict, the scores, where the two part, and what differs."""
    lines = [f"run        {found['reproduces']}", f"again as   {found['run']}"]
    lines += wrapped("verdict    ", f"{WORDS[found['verdict']]}: {found['said']}")
    score, compared = found["score"], found["compared"]
    for part, name in (("val", "unseen"), ("train", "train")):
        if score[part]["then"] is not None:
            head = f"{found['metric'] if part == 'val' else '':<10} {name:<6}"
            lines.append(f"{head} then {_number(score[part]['then'])}   now {_number(score[part]['now'])}")
    lines += wrapped("parted     ", _parting(found["first_parting"], compared))
    if found["differences"]:
        lines += ["", "not as it was"]
        for one in found["differences"]:
            lines += wrapped("● " if one["another"] else "· ", one["said"])
        lines += ["", "● makes it another training   · may change the last bits alone"]
    left = found["epochs"] - compared["epochs"]
    lines += ["", f"folder     {found['folder']}"]
    if found["weights"]["now"] is None and left > 0:
        lines += ["", f"the rest: trainwright reproduce {found['run']}"]
    return "\n".join(lines)


def _parting(parting: Mapping[str, Any] | None, compared: Mapping[str, Any]) -> str:
    """Where the records of the two first differ, in words."""
    if parting is None:
        return f"nowhere in {compared['steps']:,} steps and {compared['epochs']:,} epochs"
    step = "the evaluation" if parting["step"] is None else f"step {parting['step']:,}"
    where = f"{step} of epoch {parting['epoch']:,}"
    if parting["what"] == "end":
        return f"at {where}: {parting['then']:,} then, {parting['now']:,} now in all"
    then, now = parting["then"], parting["now"]
    if then is None or now is None:
        return f"at {where}: {parting['what']} {then} then, {now} now"
    apart = f", {abs(now - then) / abs(then):.1g} of it apart" if then else ""
    return f"at {where}: {parting['what']} {then:.6g} then, {now:.6g} now{apart}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
