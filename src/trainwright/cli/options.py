"""The options that commands share, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from trainwright.errors import UsageError

if TYPE_CHECKING:
    from trainwright.workflows.reporting import Reporter

Data = Annotated[
    Path,
    typer.Argument(
        metavar="DATA", help="Folder of images with their classes, masks or boxes, or a CSV file.", show_default=False
    ),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Id, unique beginning of one, folder, or 'last': the newest, without repetitions; 'last~1': the one before. Of a "
        "study that has ended, its model.",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of a CSV file: labels or numbers; several, separated by commas."),
]
TaskName = Annotated[str | None, typer.Option("--task", metavar="NAME", help="Overrules what the layout says.")]
RecipeName = Annotated[
    str | None, typer.Option("--recipe", metavar="NAME|FILE", help="A published recipe or a YAML file.")
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable.")
]
Epochs = Annotated[int | None, typer.Option(metavar="N", min=1, help="Short for --set epochs=N.")]
BatchSize = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        help="Images a step; auto: measured here. Unless --set optimizer.lr is given too, the learning rate is found anew "
        "where this is not the recipe's own number; --set batch_size=N leaves the rate alone.",
    ),
]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Short for --set seed=N.")]
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", envvar="TRAINWRIGHT_RUNS", help="Folder of run folders.")]
Device = Annotated[str, typer.Option(metavar="NAME", envvar="TRAINWRIGHT_DEVICE", help="auto, cpu, cuda or cuda:N.")]
Workers = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, max=64, envvar="TRAINWRIGHT_WORKERS", help="Loader threads; the result is the same."
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, envvar="TRAINWRIGHT_THREADS", help="CPU threads of torch; other numbers, other bits."
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=64,
        help="Processes of this machine that share each step, one for each GPU; batch norm then sees fewer images at a time. "
        "Unless said: one, or as the run began.",
        show_default=False,
    ),
]
Slots = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=64,
        help="Trainings of a study at a time, each in a process with its share of the threads. Unless said: as many as pay.",
        show_default=False,
    ),
]
Executor = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where the trainings of a study run: local, in processes of this machine, or ray, on a cluster. "
        "Unless said: local, or as the study began.",
        show_default=False,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Of the Ray cluster: host:6379, ray://host:10001, auto for this machine's, local for one of its own. Means "
        "--executor ray.",
        show_default=False,
    ),
]
Mirrors = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", envvar="TRAINWRIGHT_MIRRORS", help="mlflow,tensorboard or none. [default: those installed]"
    ),
]
CheckpointSeconds = Annotated[
    float,
    typer.Option(
        metavar="S", min=0, envvar="TRAINWRIGHT_CHECKPOINT_SECONDS", help="The most work that a kill costs, in seconds."
    ),
]
Offline = Annotated[bool, typer.Option("--offline", envvar="TRAINWRIGHT_OFFLINE", help="Fetch nothing.")]
Calibrated = Annotated[
    bool,
    typer.Option(
        "--calibrated", help="Divide logits by the temperature that the diagnosis found: honest probabilities."
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Check everything and show the filled-in recipe, a batch size or learning rate that it leaves open measured; "
        "train nothing.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which recipe a training starts from, and what of it and of the data is said."""

    recipe: RecipeName = None
    changes: Set = None
    target: Target = None
    task: TaskName = None
    epochs: Epochs = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where runs are and what computes: fields of `RunOptions`."""

    runs: Runs = Path("runs")
    device: Device = "auto"
    workers: Workers = 2
    threads: Threads = None


@dataclass(frozen=True, kw_only=True)
class AtOnce:
    """How several trainings of a study are carried out at a time: fields of `RunOptions`."""

    slots: Slots = None
    executor: Executor = "auto"
    address: Address = None


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command says, and how."""

    quiet: Quiet = False
    as_json: Json = False

    def reporter(self) -> Reporter:
        """What tells of the progress."""
        from trainwright.cli.reporters import choose_reporter

        return choose_reporter(quiet=self.quiet)


def batch_size_from(given: str | None) -> int | Literal["auto"] | None:
    """What --batch-size says. Raises UsageError for anything but a number from 1 up or `auto`."""
    if given is None or given == "auto":
        return given  # type: ignore[return-value]
    if not given.isascii() or not given.isdigit() or int(given) < 1:
        raise UsageError(
            f"expected a number of images from 1 up, or auto, got {given!r}.",
            where="--batch-size",
            cure="For example --batch-size 64.",
        )
    return int(given)


def refuse_no_file(option: str, file: Path | None) -> None:
    """Raise UsageError where no file can be written as the option says."""
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError("its folder does not exist.", where=f"{option} {file}", cure="Make it, or name another file.")
    if file is not None and file.is_dir():
        raise UsageError("is a folder.", where=f"{option} {file}", cure="Name a file in it.")
