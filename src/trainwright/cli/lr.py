"""`trainwright lr`: the learning-rate range test of a dataset and a recipe, from the command line."""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.recipes import recipe_from
from trainwright.errors import GoalNotMetError, UsageError

if TYPE_CHECKING:
    from trainwright.records import LrTrial
    from trainwright.workflows.range_test import LrTest

FOUND = ("optimizer.lr", "schedule.low")  # what a range test sets in a recipe
MEASURED = "batch_size=auto"  # a number once it is measured
Low = Annotated[float, typer.Option("--low", metavar="LR", help="Lowest learning rate of the sweep.")]
High = Annotated[float, typer.Option("--high", metavar="LR", help="Highest learning rate of the sweep.")]
Seeds = Annotated[int, typer.Option("--seeds", metavar="N", help="How many sweeps, for the band.")]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--picture", metavar="FILE", help="Where the PNG goes. [default: lr-range-….png in --runs]", show_default=False
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Learning-rate range test: which learning rate, or why it cannot tell.",
        epilog="Examples:\n\n  trainwright lr photos/\n\n  trainwright lr photos/ --set optimizer.name=sgd --seeds 5\n\n"
        "  trainwright lr photos/ --recipe story --picture lr.png --json",
    )(lr)


def lr(
    data: options.Data,
    recipe: options.RecipeName = None,
    changes: options.Set = None,
    target: options.Target = None,
    task: options.TaskName = None,
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    low: Low = 1e-7,
    high: High = 10.0,
    seeds: Seeds = 3,
    picture: Picture = None,
    runs: options.Runs = Path("runs"),
    device: options.Device = "auto",
    workers: options.Workers = 2,
    threads: options.Threads = None,
    offline: options.Offline = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
) -> int:
    """Find the learning rate for a training on DATA by a range test; exit code 4 where it cannot tell."""
    from trainwright.cli.reporters import choose_reporter
    from trainwright.cli.training import check_early

    named, wanted = recipe_from(recipe, changes, epochs=epochs, seed=seed)
    wanted |= {} if task is None else {"task": task}
    check_early(named, wanted, data, offline=offline)
    _refuse_picture(picture)
    from trainwright.files import write_atomically
    from trainwright.workflows import range_test as workflow
    from trainwright.workflows.options import RunOptions

    chosen = RunOptions(
        runs=runs,
        device=device,
        workers=workers,
        threads=threads,
        offline=offline,
        reporter=choose_reporter(quiet=quiet),
    )
    test = workflow.lr_range_test(
        data, named, changes=wanted, target=target, low=low, high=high, seeds=seeds, options=chosen
    )
    drawn = test.figure()
    file = picture or runs / f"lr-range-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{data.resolve().stem}.png"
    file.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, drawn)
    words = _next_words(data, recipe, changes, (("--target", target), ("--task", task)), epochs, seed)
    after = shlex.join([*words, *_assignments(test, changes)])
    print(json.dumps(_content(test, file, after)) if as_json else _text(test, file, after))
    return 0 if test.suggestion is not None else GoalNotMetError.exit_code


def _refuse_picture(picture: Path | None) -> None:
    if picture is not None and not picture.absolute().parent.is_dir():
        raise UsageError(
            "its folder does not exist.", where=f"--picture {picture}", cure="Make it, or name another file."
        )
    if picture is not None and picture.is_dir():
        raise UsageError("is a folder.", where=f"--picture {picture}", cure="Name a file in it.")


def _next_words(
    data: Path,
    recipe: str | None,
    changes: list[str] | None,
    named: tuple[tuple[str, str | None], ...],
    epochs: int | None,
    seed: int | None,
) -> list[str]:
    """The command that trains what was tested, without its learning rate."""
    given = [("--recipe", recipe), *named, ("--epochs", epochs), ("--seed", seed)]
    words = ["trainwright", "train", str(data)]
    words += [str(part) for option, value in given if value is not None for part in (option, value)]
    kept = [change for change in changes or [] if change.partition("=")[0].strip() not in FOUND and change != MEASURED]
    return words + [part for change in kept for part in ("--set", change)]


def _assignments(test: LrTest, changes: list[str] | None) -> list[str]:
    """`--set` for what the test found; where it cannot tell, for the rate that the optimizer was published with."""
    from trainwright.workflows.lr import CYCLIC

    found = [f"optimizer.lr={test.recipe.optimizer.peak_lr:.2g}"]
    if test.suggestion is not None and test.recipe.schedule.name in CYCLIC:
        found.append(f"schedule.low={test.recipe.schedule.low or 0.0:.2g}")
    if MEASURED in (changes or []):
        found.append(f"batch_size={test.recipe.step_images}")
    return [part for change in found for part in ("--set", change)]


def _content(test: LrTest, file: Path, after: str) -> dict[str, Any]:
    """`trainwright.lr/1`."""
    from trainwright.workflows.lr import as_json

    plain = as_json(test)
    curve = {"lr": "lrs", "loss": "smooth", "low": "band_low", "high": "band_high"}
    return {
        "schema": "trainwright.lr/1",
        "low": test.low,
        "high": test.high,
        "suggested": test.suggested,
        "verdict": test.verdict,
        "reason": test.reason,
        "curve": {name: plain[key] for name, key in curve.items()},
        "figure": str(file),
        "state_restored": test.state_restored,
        "start": plain["start"],
        "trials": plain["trials"],
        "steps": test.steps,
        "seconds": test.seconds,
        "training_steps": test.training_steps,
        "next": after,
        "recipe": test.recipe.model_dump(mode="json"),
    }


def _text(test: LrTest, file: Path, after: str) -> str:
    """The test on a page."""
    from trainwright.cli.lr_picture import columns_of, picture
    from trainwright.cli.show import wrapped

    seeds = len(test.losses_SL)
    lines = [f"train loss against learning rate, {seeds} seed{'' if seeds == 1 else 's'}, with its 95 % band", ""]
    lines += [*picture(test, columns=columns_of(sys.stdout)), "", f"verdict    {test.verdict}"]
    if test.interval is not None:
        low, high = test.interval
        where = f"{low:.2g} to {high:.2g}, where the loss falls" if low < high else "none that a sweep is sure of"
        lines.append(f"interval   {where}")
    if test.suggestion is not None:
        lines.append(f"suggested  {test.suggestion:.2g}")
    lines += wrapped("reason     ", test.reason)
    lines += _trials(test.trials, test.suggestion)
    share = f", {test.steps / test.training_steps:.1%} of the training's {test.training_steps:,}" if test.steps else ""
    lines += [f"cost       {test.steps:,} steps{share}, {test.seconds:.1f} s", f"picture    {file}", ""]
    if test.suggestion is None:
        from trainwright.workflows.lr import stated

        lines += wrapped("", stated(test.recipe, test))
        return "\n".join([*lines, f"train so: {after}"])
    return "\n".join([*lines, f"next: {after}"])


def _trials(trials: tuple[LrTrial, ...], suggestion: float | None) -> list[str]:
    """A line for each learning rate that short runs tried: the loss that each seed ended with, and their mean."""
    lines = []
    for trial in trials:
        ended = [f"{loss:.4g}" if math.isfinite(loss) else "diverged" for loss in trial.losses]
        mean = sum(trial.losses) / len(trial.losses) if trial.losses else math.nan
        mark = "  <- suggested" if suggestion is not None and math.isclose(trial.lr, suggestion, rel_tol=1e-6) else ""
        said = f"mean {mean:.4g}" if math.isfinite(mean) else "mean –"
        lines.append(f"{trial.lr:<9.2g} {said:<12} each {'  '.join(ended)}{mark}")
    heads = ["short runs ", *[" " * 11] * len(lines)]
    return [head + line for head, line in zip(heads, lines, strict=False)]
