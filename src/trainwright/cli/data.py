"""`trainwright inspect`: what is in a dataset and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.labels import Labels, Relabel, labels_content, refuse_relabel
from trainwright.data.problems import counted, few
from trainwright.errors import DataError, UsageError

if TYPE_CHECKING:
    from trainwright.data.dataset import Dataset
    from trainwright.recipe import Recipe
    from trainwright.records import TargetKind
    from trainwright.workflows.more_data import MoreDataStudy

MoreData = Annotated[
    bool,
    typer.Option(
        "--more-data",
        help="Train on an eighth, a quarter, half and all of the train images, two seeds each, and say whether more would help.",
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option("--picture", metavar="FILE.png", help="With --more-data: where the picture of its curve goes."),
]

SPLIT = "data."  # what keys of a recipe that say how images are split begin with
SHOWN_FILES = 10
SHOWN_CLASSES = 12
SAID_APART = frozenset(
    {
        "schema", "task", "target", "classes", "images", "counts", "numbers", "problems", "fingerprint", "targets_fingerprint",
        "split",
    }
)  # fmt: skip


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="What is in a dataset, and what is wrong with it.",
        epilog="Examples:\n\n  trainwright inspect photos/\n\n  trainwright inspect labels.csv --target species --json\n\n"
        "  trainwright inspect photos/ --more-data --picture more-data.png\n\n"
        "  trainwright inspect photos/ --labels --relabel doubtful.csv",
    )(inspect)


@grouped
def inspect(
    data: options.Data,
    *,
    target: options.Target = None,
    task: options.TaskName = None,
    more_data: MoreData = False,
    labels: Labels = False,
    relabel: Relabel = None,
    recipe: options.RecipeName = None,
    changes: options.Set = None,
    epochs: options.Epochs = None,
    seed: options.Seed = None,
    picture: Picture = None,
    runs: options.Runs = Path("runs"),
    device: options.Device = "auto",
    workers: options.Workers = 0,
    threads: options.Threads = None,
    offline: options.Offline = False,
    output: options.Output,
) -> int:
    """Say what is in DATA and what is wrong with it; exit code 3 if it cannot be trained on."""
    from trainwright.cli.recipes import recipe_from
    from trainwright.data.dataset import open_dataset

    refuse_relabel(relabel, labels=labels)
    _refuse_alone(
        more_data or labels,
        {"--recipe": recipe, "--set": _of_trainings(changes), "--epochs": epochs, "--seed": seed, "--picture": picture},
    )
    _refuse_picture(picture)
    named, wanted = recipe_from(recipe, changes, epochs=epochs, seed=seed, task=task)
    reporter = output.reporter()
    dataset = open_dataset(data, target=target, task=task, workers=workers, progress=reporter.progress)
    content = {"schema": "trainwright.data/1", **dataset.describe(), "split": None}
    try:
        content |= _split(dataset, named, wanted)
    finally:  # of what cannot be split too
        if not output.as_json:
            _show(content)
    study = None
    if more_data and not dataset.refusals():
        chosen = {"runs": runs, "device": device, "threads": threads, "offline": offline, "reporter": reporter}
        chosen |= {"workers": workers} if workers else {}
        study = _more_data(dataset, recipe, wanted, chosen, quiet=output.quiet)
        content |= {"more_data": _as_content(study, picture)}
    if labels and not dataset.refusals():
        chosen = {"device": device, "threads": threads, "offline": offline, "reporter": reporter}
        chosen |= {"workers": workers} if workers else {}
        content |= {
            "labels": labels_content(
                dataset, recipe, wanted, chosen, relabel, quiet=output.quiet, tell=not output.as_json
            )
        }
    if output.as_json:
        print(json.dumps(content))
    elif study is not None:
        print(_told(study, picture))
    return DataError.exit_code if dataset.refusals() else 0


def _refuse_alone(more_data: bool, given: Mapping[str, object]) -> None:
    """Raise UsageError for options of the trainings where there are none."""
    named = [name for name, value in given.items() if value is not None]
    if named and not more_data:
        raise UsageError(
            "says something of trainings, and inspect trains nothing.", where=named[0], cure="Add --more-data."
        )


def _of_trainings(changes: Sequence[str] | None) -> list[str] | None:
    """What of `--set` does not say how the images are split, which needs no training."""
    return [change for change in changes or () if not change.strip().startswith(SPLIT)] or None


def _split(dataset: Dataset, recipe: Recipe | None, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """`split` of `trainwright.data/1`: how many images a training has in each part, and which values of the recipe say so. Raises
    DataError where there is no such split."""
    from trainwright.recipe import Recipe

    if dataset.refusals():
        return {}
    spec = (recipe or Recipe()).changed({key: value for key, value in wanted.items() if key.startswith(SPLIT)}).data
    fractions = {} if dataset.images.get("val") else {"data.val_fraction": spec.val_fraction}
    if set(dataset.images) <= {"train", "all"}:
        fractions |= {"data.test_fraction": spec.test_fraction}
    return {"split": {**dataset.split(spec).counts, **fractions}}


def _refuse_picture(picture: Path | None) -> None:
    """Before hours of training."""
    if picture is not None and (picture.suffix.lower() != ".png" or not picture.absolute().parent.is_dir()):
        raise UsageError(
            "expected a file name that ends in .png, in a folder that exists.",
            where=f"--picture {picture}",
            cure="For example --picture more-data.png.",
        )


def _more_data(
    dataset: Dataset, recipe: str | None, wanted: Mapping[str, Any], chosen: Mapping[str, Any], *, quiet: bool
) -> MoreDataStudy:
    from trainwright.cli.training import under_signals
    from trainwright.workflows import more_data as workflow
    from trainwright.workflows.options import RunOptions

    def work(stop: Callable[[], bool]) -> MoreDataStudy:
        return workflow.more_data(dataset, recipe, changes=wanted, options=RunOptions(**chosen, stop_asked=stop))

    study, _ = under_signals(work, quiet=quiet)
    return study


def _as_content(study: MoreDataStudy, picture: Path | None) -> dict[str, Any]:
    """`more_data` of `trainwright.data/1`; the picture is written on the way."""
    from trainwright.files import write_atomically
    from trainwright.records import to_json

    if picture is not None:
        write_atomically(picture, study.figure())
    return {
        "metric": study.metric,
        **study.answer.to_json(),
        "finding": to_json(study.answer.finding()),
        "figure": None if picture is None else str(picture),
        "recipe": study.recipe.model_dump(mode="json"),
    }


def _told(study: MoreDataStudy, picture: Path | None) -> str:
    """The curve as a table, what it predicts, and how well that went for the images at hand."""
    from trainwright.cli.show import wrapped
    from trainwright.diagnosis.wording import percent, percent_within, points, points_within

    answer = study.answer
    lines = ["", f"{'images':>12}   unseen error, each seed (metric: {study.metric})"]
    for point in answer.points:
        each = "  ".join(f"{percent(error):>7}" for error in point.errors)
        lines.append(f"{point.images:>12,}   {each}   mean {percent_within(point.error)}")
    for told in answer.predictions:
        lines += wrapped(
            "predicted    ",
            f"{told.factor:g} × the images ({told.images:,}): score {percent_within(told.score)}, "
            f"gain {points_within(told.gain)}",
        )
    test = answer.back_test
    if test is not None:
        said = (
            "within its interval"
            if test.inside
            else f"beyond its interval, so all are {answer.widened:.1f} times as wide"
        )
        lines += wrapped(
            "back-test    ",
            f"error with {test.images:,} images foretold from fewer: {percent_within(test.predicted)}; measured "
            f"{percent(test.measured)}: missed by {points(abs(test.miss))}, {said}",
        )
    lines += wrapped("more data    ", answer.reason)
    lines += wrapped("             ", answer.finding().advice)
    return "\n".join(lines if picture is None else [*lines, f"picture      {picture}"])


def _show(content: Mapping[str, Any]) -> None:
    print(f"task         {_headline(content)}")
    for part, counts in content["counts"].items():
        print(f"{part:<12} {counted(content['images'][part], 'image')}{_amounts(content['target'], counts)}")
    if content["split"]:
        print(f"split        {_told_split(content['split'])}")
    for name, spread in content.get("numbers", {}).items():
        print(f"{name:<12} {spread['min']:g} to {spread['max']:g}, median {spread['median']:g}")
    for key, value in content.items():
        if key not in SAID_APART:
            print(f"{key.replace('_', ' '):<12} {_plain(value)}")
    print(f"fingerprint  {content['fingerprint'][:16]}")
    if not content["problems"]:
        print("problems     none found")
    single: dict[str, list[Mapping[str, Any]]] = {}  # of one file each, by kind: there may be thousands
    several = [problem for problem in content["problems"] if len(problem["files"]) != 1]
    for problem in content["problems"]:
        if len(problem["files"]) == 1:
            single.setdefault(problem["kind"], []).append(problem)
    for first, *more in single.values():
        if more:
            files = [f"{problem['files'][0]}: {problem['message']}" for problem in (first, *more)]
            _show_problem(first, counted(len(files), "file"), files)
        else:
            _show_problem(first, first["message"], first["files"])
    for problem in several:
        _show_problem(problem, problem["message"], problem["files"])


def _told_split(split: Mapping[str, float]) -> str:
    """'train 576, val 144, test 240 images in a training (data.val_fraction 0.2)'."""
    counts = ", ".join(f"{part} {split[part]:,}" for part in ("train", "val", "test"))
    set_by = ", ".join(f"{key} {value:g}" for key, value in split.items() if key.startswith(SPLIT))
    return f"{counts} images in a training{f' ({set_by})' if set_by else ''}"


def _headline(content: Mapping[str, Any]) -> str:
    """'detection, 3 classes', 'regression, 1 number column: red_cells'."""
    names = content["classes"]
    if content["target"] == "numbers":
        return f"{content['task']}, {counted(len(names), 'number column')}: {few(names, limit=SHOWN_CLASSES)}"
    return f"{content['task']}, {len(names)} class{'' if len(names) == 1 else 'es'}"


def _amounts(target: TargetKind, counts: Mapping[str, int]) -> str:
    """How much of each class there is: of images and boxes their number, of pixels their share."""
    if target == "numbers":
        return ""
    total = sum(counts.values())
    if target == "mask":
        shown = [f"{name} {100 * count / max(total, 1):.2g} %" for name, count in counts.items()]
    else:
        shown = [f"{name} {count:,}" for name, count in counts.items()]
    unit = {"mask": ", pixels", "boxes": f", {total:,} boxes"}.get(target, "")
    return f"{unit}: {', '.join(shown[:SHOWN_CLASSES])}{', …' if len(shown) > SHOWN_CLASSES else ''}"


def _show_problem(problem: Mapping[str, Any], message: str, files: Sequence[str]) -> None:
    print(f"{problem['severity']:<12} {problem['kind']}: {message}")
    for file in files[:SHOWN_FILES]:
        print(f"{'':<13}{file}")
    if len(files) > SHOWN_FILES:
        print(f"{'':<13}and {len(files) - SHOWN_FILES:,} more (--json names all)")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " × ".join(_plain(item) for item in value)
    return f"{value:,}" if isinstance(value, int) else str(value)
