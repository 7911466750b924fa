"""`trainwright train`, `resume`, `demo`: one run, from the command line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.recipes import recipe_from
from trainwright.errors import TrainwrightError
from trainwright.execution.place import place_told

if TYPE_CHECKING:
    from trainwright.recipe import Recipe
    from trainwright.workflows.run import Run
    from trainwright.workflows.settle import Settled

CHECKPOINT_SECONDS = 60.0
T = TypeVar("T")
DEMO_CHANGES = {
    "augment.flip": 0.0,
    "augment.crop_padding": 0.0,  # a digit fills its frame from top to bottom: shifted and reflected it is another shape
    "epochs": 8,
    "optimizer.lr": 0.003,
    "loss.label_smoothing": 0.0,
}


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="One run on a dataset: train, evaluate, judge, record.",
        epilog="Examples:\n\n  trainwright train photos/\n\n  trainwright train photos/ --recipe story --json\n\n"
        "  trainwright train photos/ --batch-size auto\n\n  trainwright train photos/ --processes 4\n\n"
        "  trainwright train labels.csv --target species --set network.name=resnet18 --set optimizer.lr=3e-4",
    )(train)
    app.command(
        short_help="Go on with a run where it stopped.",
        epilog="Examples:\n\n  trainwright resume last\n\n  trainwright resume 20261122-0117 --workers 4",
    )(resume)
    app.command(
        short_help="The whole way on handwritten digits, without a network.", epilog="Example:\n\n  trainwright demo"
    )(demo)


@grouped
def train(
    data: options.Data,
    *,
    asked: options.Asked,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    machine: options.Machine,
    processes: options.Processes = None,
    mirrors: options.Mirrors = None,
    checkpoint_seconds: options.CheckpointSeconds = CHECKPOINT_SECONDS,
    offline: options.Offline = False,
    dry_run: options.DryRun = False,
    output: options.Output,
) -> int:
    """One run on DATA: train, evaluate, judge, record."""
    if _helps():
        return _help_out()
    images = options.batch_size_from(batch_size)
    named, wanted = recipe_from(
        asked.recipe, asked.changes, epochs=asked.epochs, seed=seed, task=asked.task, batch_size=images
    )
    check_early(named, wanted, data, offline=offline)
    chosen = {**vars(machine), "offline": offline, "checkpoint_seconds": checkpoint_seconds}
    chosen |= {"mirrors": mirrors_from(mirrors), "processes": processes}

    def begin(verb: str, stop: Callable[[], bool]) -> Any:
        from trainwright.cli.runs import close_dead_runs
        from trainwright.workflows import run as workflow
        from trainwright.workflows.options import RunOptions

        close_dead_runs(machine.runs)
        settings = RunOptions(**chosen, reporter=output.reporter(), stop_asked=stop)
        work = getattr(workflow, verb)
        return work(data, asked.recipe, changes=wanted, batch_size=images, target=asked.target, options=settings)

    if dry_run:
        settled, _ = under_signals(lambda stop: begin("plan", stop), quiet=output.quiet)
        return _dry_run(settled, as_json=output.as_json)
    return _carry_out(lambda stop: begin("train", stop), output)


@grouped
def resume(
    run: options.RunName,
    *,
    machine: options.Machine,
    processes: options.Processes = None,
    at_once: options.AtOnce,
    mirrors: options.Mirrors = None,
    checkpoint_seconds: options.CheckpointSeconds = CHECKPOINT_SECONDS,
    offline: options.Offline = False,
    output: options.Output,
) -> int:
    """Go on with RUN, or a study, where it stopped; it ends in the very same weights as if it never had."""
    if _helps():
        return _help_out()
    chosen = {**vars(machine), **vars(at_once), "offline": offline, "checkpoint_seconds": checkpoint_seconds}
    chosen |= {"mirrors": mirrors_from(mirrors), "processes": processes}

    def work(stop: Callable[[], bool]) -> Run:
        from trainwright.cli.runs import close_dead_runs
        from trainwright.tracking.runs import find_run
        from trainwright.tracking.study_folder import refuse_owned
        from trainwright.workflows import run as workflow
        from trainwright.workflows.options import RunOptions

        close_dead_runs(machine.runs)
        refuse_owned(find_run(machine.runs, run, stopped=True))
        return workflow.resume(run, options=RunOptions(**chosen, reporter=output.reporter(), stop_asked=stop))

    study = _study_of(machine.runs, run)
    if study is not None:
        from trainwright.cli.improve import resume_study

        return resume_study(study, output, chosen=chosen)
    return _carry_out(work, output)


def _helps() -> bool:
    """Whether torchrun has started this process to help another one, which does all the rest."""
    place = place_told()
    return place is not None and not place.leads


def _help_out() -> int:
    from trainwright.workflows.helper import main

    return main()


def _study_of(runs: Path, name: str) -> str | None:
    """What to call the study that `name` means; None where it means a run."""
    from trainwright.tracking.study_folder import LAST, find_study, last_study

    if name == LAST:
        return LAST if last_study(runs) is not None else None
    return name if not (runs / name).is_dir() and find_study(runs, name) is not None else None


@grouped
def demo(
    *,
    runs: options.Runs = Path("runs"),
    mirrors: options.Mirrors = None,
    output: options.Output,
) -> int:
    """The whole way on handwritten digits, without a network: inspect, train, judge, record."""
    import platformdirs

    from trainwright.cli.runs import close_dead_runs
    from trainwright.data.digits import write_digits
    from trainwright.recipes import published
    from trainwright.workflows import run as workflow
    from trainwright.workflows.options import RunOptions

    close_dead_runs(runs)
    folder = write_digits(platformdirs.user_cache_path("trainwright") / "digits")
    reporter = output.reporter()
    reporter.note(f"1,797 handwritten digits as PNG files: {folder}")
    recipe = published.get(published.DEFAULT).changed(DEMO_CHANGES)
    chosen = RunOptions(runs=runs, mirrors=mirrors_from(mirrors), reporter=reporter)
    code = _carry_out(lambda stop: workflow.train(folder, recipe, options=chosen, stop_asked=stop), output)
    if not output.as_json and code == 0:
        print("\nnext: trainwright runs show last    trainwright ui    trainwright train YOUR_FOLDER")
    return code


def check_early(recipe: Recipe | None, changes: dict[str, Any], data: Path, *, offline: bool) -> None:
    """What can be refused before torch is imported."""
    from trainwright.errors import DataError
    from trainwright.recipe import Recipe
    from trainwright.workflows.changes import with_schedule
    from trainwright.workflows.early import check_early, check_names

    wanted = with_schedule(recipe or Recipe(), changes)
    if recipe is None and "network.name" not in changes:
        check_names(wanted)  # which network it is follows from the data, and with it which weights
    else:
        check_early(wanted, offline=offline)
    if not data.exists():
        raise DataError("no such file or folder.", where=str(data), cure="Check the path.")


def mirrors_from(given: str | None) -> tuple[str, ...] | None:
    from trainwright.workflows.options import parse_mirrors

    return None if given is None else parse_mirrors(given)


def _dry_run(settled: Settled, *, as_json: bool) -> int:
    from trainwright.records import to_json
    from trainwright.workflows.lr import as_json as range_as_json

    prepared = settled.prepared
    if as_json:
        content = {
            "images": prepared.split.counts,
            "device": str(prepared.device),
            "recipe": prepared.recipe.model_dump(mode="json"),
        }
        measured = {"measured": settled.measured} if settled.measured else {}
        chosen = {"choice": to_json(settled.choice)} if settled.choice else {}
        found = {"lr_range": range_as_json(settled.lr_range)} if settled.lr_range else {}
        print(
            json.dumps(
                {"schema": "trainwright.plan/1", **content, "asked": settled.asked, **measured, **chosen, **found}
            )
        )
        return 0
    print(prepared.recipe.to_yaml(), end="")
    print(f"# {prepared.split}; device {prepared.device}")
    return 0


class _Stopped(TrainwrightError):
    kind = "interrupted"

    def __init__(self, message: str, *, exit_code: int, cure: str) -> None:
        super().__init__(message, cure=cure)
        self.exit_code = exit_code


def _carry_out(work: Callable[[Callable[[], bool]], Run], output: options.Output) -> int:
    """Do the work under signal handlers, print what came of it, return the exit code."""
    from trainwright.cli.show import show_run

    run, signals = under_signals(work, quiet=output.quiet)
    if run.finished:
        print(json.dumps(run.result) if output.as_json else show_run(run.result))
        return 0
    return stopped(run.id, "its state is saved", signals, as_json=output.as_json)


def stopped(name: str, saved: str, signals: list[int], *, as_json: bool, verb: str = "resume") -> int:
    """Say how a run or a study that was asked to stop goes on, by which command; its exit code."""
    cure = f"trainwright {verb} {name}"
    typer.echo(f"stopped; {saved}. Go on with: {cure}", err=True)
    if as_json:
        said = {"message": f"stopped; {saved}.", "where": name, "cure": f"Go on with '{cure}'."}
        print(json.dumps({"schema": "trainwright.error/1", "kind": "interrupted", **said}))
    return 128 + signals[0] if signals else 1


def under_signals(work: Callable[[Callable[[], bool]], T], *, quiet: bool) -> tuple[T, list[int]]:
    """(what the work gave, the signals that came meanwhile). Raises _Stopped for a signal that ends it at once."""
    with _stoppable(quiet=quiet) as (signals, stop_asked):
        try:
            return work(stop_asked), signals
        except BaseException as error:  # a signal in the middle of an import may come out as something else
            if not signals or isinstance(error, TrainwrightError):
                raise
            how = "terminated" if signals[-1] == signal.SIGTERM else "interrupted"
            cure = " ".join(getattr(error, "__notes__", [])) or "Nothing was written: start it again."
            raise _Stopped(f"{how}.", exit_code=128 + signals[-1], cure=cure) from error


@contextlib.contextmanager
def _stoppable(*, quiet: bool) -> Iterator[tuple[list[int], Callable[[], bool]]]:
    """SIGINT and SIGTERM ask the run to save and stop; a second one, or one before the training, interrupts it.

    Yields the signals that came, and what the training asks between its steps.
    """
    came: list[int] = []
    asked: list[bool] = []  # not empty once the training asks: before that there is nothing to save, nor who would stop

    def stop_asked() -> bool:
        asked[:] = [True]
        return bool(came)

    def handle(number: int, frame: object) -> None:
        at_once = bool(came) or not asked
        came.append(number)
        if at_once:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        if not quiet:  # straight to the descriptor: the signal may have come in the middle of a print
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\nstopping: the state is being saved (once more: stop at once)\n")

    if threading.current_thread() is not threading.main_thread():
        yield came, stop_asked  # signal handlers can only be set from the main thread
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came, stop_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
