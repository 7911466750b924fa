"""`trainwright report`: one page of a run or a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trainwright.cli import options

Name = Annotated[
    str,
    typer.Argument(
        metavar="RUN|STUDY",
        help="Id, unique beginning of one, folder, or 'last': the newest run, or the study it belongs to.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="One page of a run or a study, for a browser without a network.",
        epilog="Examples:\n\n  trainwright report last --open\n\n  trainwright report 20261122-0117 --out page.html\n\n"
        "  trainwright report last --explain",
    )(report)


def report(
    run: Name,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="[default: report.html in its folder]")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what speaks for the answers to its hardest images, too.")
    ] = False,
    runs: options.Runs = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Write one self-contained HTML page of RUN or STUDY: verdict, curves, classes, images, how to repeat it.

    Every run and study writes its page at its end; this writes it anew, with what has been found since. One that failed, was
    stopped or is under way has a page too: what happened, what is there, how to go on.
    """
    from trainwright.cli.reporters import choose_reporter
    from trainwright.cli.runs import close_dead_runs
    from trainwright.workflows.options import RunOptions
    from trainwright.workflows.report import write_report

    close_dead_runs(runs)
    chosen = RunOptions(runs=runs, reporter=choose_reporter(quiet=False))
    file = write_report(run, out=out, explain=explain, options=chosen)
    if show:
        typer.launch(file.as_uri())
    if as_json:
        print(json.dumps({"schema": "trainwright.report/1", "file": str(file), "bytes": file.stat().st_size}))
    else:
        print(file)
