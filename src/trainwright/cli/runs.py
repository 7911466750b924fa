"""`trainwright runs`, `predict`, `sync`, `ui`: what can be done with runs that exist."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.predictions import said_in_words, write_csv
from trainwright.errors import UsageError

if TYPE_CHECKING:
    from trainwright.tracking.runs import RunSummary

SERVER_SECONDS = 10.0  # in which MLflow's server ends by itself
EXAMPLES = "Examples:\n\n  trainwright runs list\n\n  trainwright runs compare 20261122-0117 last"
sub = typer.Typer(help="What has been tried.", no_args_is_help=True, rich_markup_mode=None, epilog=EXAMPLES)


def add_to(app: typer.Typer) -> None:
    app.add_typer(sub, name="runs")
    app.command(
        short_help="What a run's model sees in images.",
        epilog="Examples:\n\n  trainwright predict last photo.jpg\n\n  trainwright predict last new/ --csv labels.csv"
        "\n\n  trainwright predict export/model.onnx new/",
    )(predict)
    app.command(
        short_help="Bring MLflow and TensorBoard up to date with a run.", epilog="Example:\n\n  trainwright sync last"
    )(sync)
    app.command(
        short_help="Serve MLflow's page on the runs, on this machine only.", epilog="Example:\n\n  trainwright ui"
    )(ui)


def close_dead_runs(runs: Path) -> None:
    """Mark runs whose process has died as interrupted, in MLflow too: every command that looks at runs begins with it."""
    from trainwright.tracking.runs import sweep

    dead = sweep(runs)
    if dead:
        from trainwright.tracking.sync import close_interrupted

        close_interrupted(runs, dead)


@sub.command("list", epilog="Example:\n\n  trainwright runs list")
def list_runs(runs: options.Runs = Path("runs"), as_json: options.Json = False) -> None:
    """List all runs, the oldest first."""
    from trainwright.cli.show import show_runs
    from trainwright.tracking import runs as tracked
    from trainwright.tracking.study_folder import StudyFolder, owners_of

    close_dead_runs(runs)
    found = tracked.list_runs(runs)
    owners = owners_of(runs, [run.run_id for run in found])
    if as_json:
        rows = [{**dataclasses.asdict(run), "study": owners.get(run.run_id)} for run in found]
        print(json.dumps({"schema": "trainwright.runs/1", "runs": rows}))
        return
    print(show_runs(found))
    for run in found:
        if run.repeats is not None:
            print(f"{run.run_id} repeats {run.repeats}: 'last' does not mean it")
    paused = list(dict.fromkeys(owners.get(run.run_id, "") for run in found if run.state == "paused"))
    for name in filter(None, paused):
        study = StudyFolder.open(tracked.folder_of_studies(runs) / name)
        on = "has ended without them" if study.result() is not None else f"goes on with: trainwright resume {name}"
        print(f"paused by the study {name}, which {on}; 'last' does not mean it")


@sub.command("show", epilog="Example:\n\n  trainwright runs show last")
def show_one(run: options.RunName, runs: options.Runs = Path("runs"), as_json: options.Json = False) -> None:
    """Show what came out of RUN, or how far it is."""
    from trainwright.cli.show import show_run
    from trainwright.tracking.runs import find_run
    from trainwright.tracking.study_folder import owner_of

    close_dead_runs(runs)
    folder = find_run(runs, run)
    result = folder.result()
    if as_json:
        state: dict[str, Any] = {"schema": "trainwright.run/1", "run": folder.run_id, "folder": str(folder.path)}
        print(json.dumps(result or {**state, "status": folder.status()}))
        return
    if result is not None:
        print(show_run(result))
        return
    status, epochs = folder.status(), sum(1 for _ in folder.records("epoch"))
    print(f"run        {folder.run_id}\nstate      {status['state']} {status['message']}\nepochs     {epochs}")
    study = owner_of(folder)
    print(f"folder     {folder.path}")
    if study is not None and study.result() is not None:
        print(f"\nthe study {study.name} has ended without it")
    else:
        print(f"\ngo on with: trainwright resume {folder.run_id if study is None else study.name}")


@sub.command(
    "compare",
    short_help="What differs between two runs, and is it chance? What mattered in which study?",
    epilog="Examples:\n\n  trainwright runs compare last~1 last\n\n  trainwright runs compare digits-study flowers-study"
    "\n\n  trainwright runs compare 'lr-*'",
)
def compare(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN | STUDY…",
            help="Two runs; or studies, more runs, or patterns as 'lr-*' over the names of both.",
        ),
    ],
    runs: options.Runs = Path("runs"),
    as_json: options.Json = False,
) -> None:
    """Show what differs between two runs: their recipes, their results, and whether that is beyond chance.

    Of studies, of more than two runs, and of what a pattern matches: which hyperparameter mattered in which of them, and what
    the best had.
    """
    from trainwright.cli.show import show_comparison, show_patterns
    from trainwright.workflows.compare import compare_runs
    from trainwright.workflows.patterns import Group, meant, patterns

    close_dead_runs(runs)
    found = meant(runs, names)
    groups = [one for one in found if isinstance(one, Group)]
    pair = [one for one in found if not isinstance(one, Group)]
    content = patterns(groups) if groups else compare_runs(*pair)
    show = show_patterns if groups else show_comparison
    print(json.dumps(content) if as_json else show(content))


@sub.command("best", epilog="Example:\n\n  trainwright runs best")
def best(
    runs: options.Runs = Path("runs"),
    data: Annotated[
        str | None, typer.Option("--data", metavar="NAME", help="Only runs on the dataset of this name.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show the finished run with the best unseen score of each dataset."""
    from trainwright.cli.show import show_runs
    from trainwright.tracking import runs as tracked

    close_dead_runs(runs)
    finished = [run for run in tracked.list_runs(runs) if run.state == "finished" and run.val_score is not None]
    winners: dict[str, tracked.RunSummary] = {}
    for run in finished:
        if data in (None, run.dataset):
            dataset = tracked.find_run(runs, run.folder).manifest["dataset"]["fingerprint"]  # names are not unique
            if dataset not in winners or _score(run) > _score(winners[dataset]):
                winners[dataset] = run
    found = list(winners.values())
    if as_json:
        print(json.dumps({"schema": "trainwright.runs/1", "runs": [dataclasses.asdict(run) for run in found]}))
    else:
        print(show_runs(found) if found else "no finished runs" + (f" on a dataset named {data!r}" if data else ""))


@grouped
def predict(
    run: options.RunName,
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGE|FOLDER…", help="Image files and folders of them; - reads paths, one a line."),
    ],
    *,
    runs: options.Runs = Path("runs"),
    device: options.Device = "auto",
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write them to a CSV file.")] = None,
    pictures: Annotated[
        Path | None,
        typer.Option("--pictures", metavar="DIR", help="Write sheets of the images with what was said, and masks."),
    ] = None,
    calibrated: options.Calibrated = False,
    output: options.Output,
) -> int:
    """Say what the model of RUN sees in images: labels with probabilities, values, masks or boxes.

    RUN may be an exported file too, .onnx or .pt2: it is all that is needed then. A path read from standard input that does not
    exist is told like a file that cannot be read.
    """
    from trainwright.tracking.runs import find_run

    options.refuse_no_file("--csv", csv_file)
    exported = Path(run).suffix in (".onnx", ".pt2")
    if exported and calibrated:
        raise UsageError(
            "an exported file has its temperature inside, or none.",
            where="--calibrated",
            cure="Leave it out here, and give it to 'trainwright export'.",
        )
    absent: Literal["refused", "told"] = "told" if Path("-") in images else "refused"
    images = [path for given in images for path in (_listed() if given == Path("-") else [given])]
    folder = None if exported else find_run(runs, run)
    from trainwright.workflows.exported import predict_exported
    from trainwright.workflows.predict import predict as predict_images

    progress = output.reporter().progress
    if folder is None:
        run_id, predictions = predict_exported(run, images, absent=absent, pictures=pictures, progress=progress)
    else:
        run_id = folder.run_id
        predictions = predict_images(
            folder, images, device=device, calibrated=calibrated, absent=absent, pictures=pictures, progress=progress
        )
    for item in predictions:
        item.pop("mask", None)  # pixels are no text: --pictures writes them
    if csv_file is not None:
        write_csv(csv_file, predictions)
        if not output.quiet:
            typer.echo(f"{len(predictions):,} {'line' if len(predictions) == 1 else 'lines'} in {csv_file}", err=True)
    if pictures is not None and not output.quiet:
        typer.echo(f"pictures in {pictures}", err=True)
    if output.as_json:
        print(json.dumps({"schema": "trainwright.predictions/1", "run": run_id, "predictions": predictions}))
    elif csv_file is None:
        for item in predictions:
            print(f"{item['image']}  {said_in_words(item)}")
    bad = [item for item in predictions if "error" in item]
    if bad and not output.quiet:
        typer.echo(f"{len(bad)} of {len(predictions)} files could not be read", err=True)
    return 3 if len(bad) == len(predictions) else 0


def _listed() -> list[Path]:
    """The paths on standard input, one a line. Raises UsageError where there is none."""
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    found = [Path(line) for line in lines if line.strip()]
    if not found:
        raise UsageError(
            "standard input has no paths.", where="-", cure="Write one a line: find photos -name '*.jpg' | …"
        )
    return found


def sync(
    run: options.RunName,
    runs: options.Runs = Path("runs"),
    mirrors: options.Mirrors = None,
    as_json: options.Json = False,
) -> None:
    """Bring MLflow and TensorBoard up to date with the folder of RUN."""
    from trainwright.tracking.mirrors import installed
    from trainwright.tracking.runs import find_run
    from trainwright.tracking.sync import MIRRORS
    from trainwright.tracking.sync import sync as bring_up_to_date

    close_dead_runs(runs)
    folder = find_run(runs, run)
    named = [name for name in MIRRORS if installed(name)] if mirrors is None else mirrors.split(",")
    asked = tuple(name.strip() for name in named if name.strip() not in ("", "none"))
    added = bring_up_to_date(folder.path, asked)
    if as_json:
        print(json.dumps({"schema": "trainwright.sync/1", "run": folder.run_id, "added": added}))
        return
    if not asked:
        print("no mirror is asked for or installed: nothing to bring up to date")
    for name, count in added.items():
        print(f"{name:<12} {count:,} rows added" if count else f"{name:<12} up to date")


def ui(
    runs: options.Runs = Path("runs"),
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
) -> int:
    """Serve MLflow's page on this store at 127.0.0.1, until Ctrl-C."""
    from trainwright.tracking.mlflow_commands import ui_command

    close_dead_runs(runs)
    command, environment = ui_command(runs, port)
    typer.echo(f"http://127.0.0.1:{port} (some seconds to start; Ctrl-C ends it)", err=True)
    environment = {**os.environ, **environment}
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # a terminal that is closed ends it too, but for nohup
        signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(128 + number))
    process = subprocess.Popen(
        command, env=environment, stdout=sys.stderr, start_new_session=True
    )  # ends with all of its own
    try:
        return process.wait()
    except KeyboardInterrupt:
        return 130
    finally:
        _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and all that it has begun: a server has workers. No second Ctrl-C stops that."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for number, seconds in ((signal.SIGTERM, SERVER_SECONDS), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
    finally:
        signal.signal(signal.SIGINT, before)


def _score(run: RunSummary) -> float:
    assert run.val_score is not None
    return run.val_score
