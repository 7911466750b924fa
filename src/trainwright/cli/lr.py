"""`trainwright lr`: the learning-rate range test of a dataset and a recipe, from the command line."""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.recipes import recipe_from
from trainwright.errors import GoalNotMetError, TrainwrightError, UsageError

if TYPE_CHECKING:
    from trainwright.records import LrTrial
    from trainwright.workflows.range_test import LrTest

FOUND = ("optimizer.lr", "schedule.low")  # what a range test sets in a recipe
BATCH_SIZE = "batch_size"
PNG = ".png"
BESIDE = {  # where the recipe's own rate lies, in words
    "below": "which lies below the interval: at no rate that low was the loss seen to fall",
    "inside": "which lies within the interval",
    "above": "which lies above the interval: at no rate that high was the loss seen to fall",
}
DIGITS = 4  # significant ones of what the next command gets: its training is that of what was suggested
Low = Annotated[float, typer.Option("--low", metavar="LR", help="Lowest learning rate of the sweep.")]
High = Annotated[float, typer.Option("--high", metavar="LR", help="Highest learning rate of the sweep.")]
Seeds = Annotated[
    int, typer.Option("--seeds", metavar="N", help="Most sweeps, for the band; short trainings get fewer.")
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--picture",
        metavar="FILE.png",
        help="Where the PNG goes. [default: lr-range-….png in --runs]",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Learning-rate range test: which learning rate, or why it cannot tell.",
        epilog="Examples:\n\n  trainwright lr photos/\n\n  trainwright lr photos/ --set optimizer.name=sgd --seeds 5\n\n"
        "  trainwright lr photos/ --recipe story --picture lr.png --json",
    )(lr)


@grouped
def lr(
    data: options.Data,
    *,
    asked: options.Asked,
    batch_size: options.BatchSize = None,
    seed: options.Seed = None,
    low: Low = 1e-7,
    high: High = 10.0,
    seeds: Seeds = 3,
    picture: Picture = None,
    machine: options.Machine,
    offline: options.Offline = False,
    output: options.Output,
) -> int:
    """Find the learning rate for a training on DATA by a range test; exit code 4 where it cannot tell."""
    from trainwright.cli.training import check_early

    images = options.batch_size_from(batch_size)
    named, wanted = recipe_from(asked.recipe, asked.changes, epochs=asked.epochs, seed=seed, task=asked.task)
    check_early(named, wanted, data, offline=offline)
    _refuse_picture(picture)
    with _interruptible():
        from trainwright.files import write_atomically
        from trainwright.workflows import range_test as workflow

        test = workflow.lr_range_test(
            data,
            named,
            changes=wanted,
            batch_size=images,
            target=asked.target,
            low=low,
            high=high,
            seeds=seeds,
            **vars(machine),
            offline=offline,
            reporter=output.reporter(),
        )
        drawn = test.figure()
    now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    file = picture or machine.runs / f"lr-range-{now}-{data.resolve().stem}.png"
    file.absolute().parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, drawn)
    given = {"--recipe": asked.recipe, "--target": asked.target, "--task": asked.task, "--epochs": asked.epochs}
    kept = _kept(asked.changes, and_batch_size=images is None and test.sizes is None)
    found = _assignments(test, and_batch_size=images is not None or test.sizes is not None)
    words = [*_words(given | {"--seed": seed}), *_set([*kept, *found])]
    after = shlex.join(["trainwright", "train", str(data), *words])
    print(json.dumps(_content(test, file, after)) if output.as_json else _text(test, file, after))
    return 0 if test.suggestion is not None else GoalNotMetError.exit_code


def _refuse_picture(picture: Path | None) -> None:
    options.refuse_no_file("--picture", picture)
    if picture is not None and picture.suffix.lower() != PNG:
        raise UsageError(
            f"the picture is a PNG, and this name does not end in {PNG}.",
            where=f"--picture {picture}",
            cure=f"For example --picture {picture.with_suffix(PNG)}.",
        )


class _Interrupted(TrainwrightError):
    kind = "interrupted"

    def __init__(self, number: int) -> None:
        super().__init__("interrupted before the range test was done; nothing was written.")
        self.exit_code = 128 + number


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGINT and SIGTERM end the test, also where a shell has set the first one to be ignored: `trainwright lr … &`."""
    came: list[int] = []

    def handle(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()  # handlers can only be set from there
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM) if here}
    try:
        yield
    except KeyboardInterrupt as error:
        raise _Interrupted(came[0] if came else signal.SIGINT) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _words(given: Mapping[str, object]) -> list[str]:
    return [str(part) for option, value in given.items() if value is not None for part in (option, value)]


def _set(assignments: list[str]) -> list[str]:
    return [part for assignment in assignments for part in ("--set", assignment)]


def _kept(changes: list[str] | None, *, and_batch_size: bool) -> list[str]:
    """What `--set` said, without what the test answers anew."""
    answered = FOUND if and_batch_size else (*FOUND, BATCH_SIZE)
    return [change for change in changes or [] if change.partition("=")[0].strip() not in answered]


def _assignments(test: LrTest, *, and_batch_size: bool) -> list[str]:
    """What the test found; where it cannot tell, the published rate."""
    from trainwright.workflows.lr import CYCLIC

    found = [f"optimizer.lr={test.recipe.optimizer.peak_lr:.{DIGITS}g}"]
    if test.suggestion is not None and test.recipe.schedule.name in CYCLIC:
        found.append(f"schedule.low={test.recipe.schedule.low or 0.0:.{DIGITS}g}")
    if and_batch_size:
        found.append(f"{BATCH_SIZE}={test.recipe.step_images}")
    return found


def _content(test: LrTest, file: Path, after: str) -> dict[str, Any]:
    """`trainwright.lr/1`."""
    from trainwright.records import to_json
    from trainwright.workflows.lr import as_json, cycle_of

    plain = as_json(test)
    curve = {"lr": "lrs", "loss": "smooth", "low": "band_low", "high": "band_high"}
    return {
        "schema": "trainwright.lr/1",
        "low": test.low,
        "high": test.high,
        "suggested": test.suggested,
        "verdict": test.verdict,
        "reason": test.reason,
        "swept_interval": plain["swept_interval"],
        "cycle": cycle_of(test.recipe),
        "recipe_lr": test.recipe_lr,
        "recipe_lr_lies": test.recipe_lr_lies,
        "still_falling": test.still_falling,
        "notes": test.notes,
        "curve": {name: plain[key] for name, key in curve.items()},
        "figure": str(file),
        "state_restored": test.state_restored,
        "start": plain["start"],
        "trials": plain["trials"],
        "seeds": test.seeds,
        "asked_seeds": test.asked_seeds,
        "steps": test.steps,
        "seconds": test.seconds,
        "training_steps": test.training_steps,
        "next": after,
        "recipe": test.recipe.model_dump(mode="json"),
        **({} if test.sizes is None else {"measured": {"batch_size": to_json(test.sizes)}}),
    }


def _text(test: LrTest, file: Path, after: str) -> str:
    """The test on a page."""
    from trainwright.cli.lr_picture import columns_of, picture
    from trainwright.cli.show import wrapped
    from trainwright.diagnosis.lr_sweep import tight_bounds
    from trainwright.workflows.lr import answer, cost, cycle_of, sweeps

    count = sweeps(test, test.training_steps, asked=test.asked_seeds)
    lines = [f"train loss against learning rate, {count.partition(',')[0]}, with its 95 % band", ""]
    lines += [*picture(test, columns=columns_of(sys.stdout)), "", f"verdict    {test.verdict}"]
    if test.interval is not None:
        lines += wrapped("interval   ", _interval(test))
    if test.suggestion is not None:
        lines.append(f"suggested  {test.suggestion:.3g}")
    if test.recipe_lr_lies is not None:
        lines += wrapped("recipe     ", f"{test.recipe_lr:.3g}, {BESIDE[test.recipe_lr_lies]}")
    if (bounds := cycle_of(test.recipe)) is not None:
        lines.append(f"schedule   {test.recipe.schedule.name}, between {bounds[0]:.3g} and {bounds[1]:.3g}")
    lines += wrapped("reason     ", test.reason)
    lines += _trials(test.trials, test.suggestion)
    lines += [f"cost       {cost(test, test.training_steps)}", f"sweeps     {count}"]
    lines += [line for note in tight_bounds(test) for line in wrapped("note       ", note)]
    lines += [f"picture    {file}", ""]
    if test.suggestion is None:
        return "\n".join([*lines, *wrapped("", answer(test.recipe, test)), f"train so: {after}"])
    return "\n".join([*lines, f"next: {after}"])


def _interval(test: LrTest) -> str:
    """From the lowest to the highest rate at which the loss fell, and in what."""
    from trainwright.diagnosis.lr_sweep import swept_interval

    assert test.interval is not None
    (low, high), swept = test.interval, swept_interval(test)
    if low == high:
        return f"{low:.2g} alone, where a short training brings the loss down, and no sweep surely"
    if swept is None:
        return f"{low:.2g} to {high:.2g}, where short trainings bring the loss down, and no sweep surely"
    if swept == test.interval:
        return f"{low:.2g} to {high:.2g}, where the loss falls in a sweep"
    return (
        f"{low:.2g} to {high:.2g}, where the loss falls: from {swept[0]:.2g} to {swept[1]:.2g} in a sweep, beyond that in "
        "short trainings"
    )


def _trials(trials: tuple[LrTrial, ...], suggestion: float | None) -> list[str]:
    """A line for each learning rate that short runs tried: the loss that each seed ended with, and their mean."""
    lines = []
    for trial in trials:
        ended = [f"{loss:.4g}" if math.isfinite(loss) else "diverged" for loss in trial.losses]
        mean = sum(trial.losses) / len(trial.losses) if trial.losses else math.nan
        mark = "  <- suggested" if suggestion is not None and math.isclose(trial.lr, suggestion, rel_tol=1e-6) else ""
        said = f"mean {mean:.4g}" if math.isfinite(mean) else "mean –"
        lines.append(f"{trial.lr:<9.3g} {said:<12} each {'  '.join(ended)}{mark}")
    heads = ["short runs ", *[" " * 11] * len(lines)]
    return [head + line for head, line in zip(heads, lines, strict=False)]
