"""`trainwright slices`: which kinds of images a model is worse at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.show import wrapped

SHOWN = 8
HOW_TO_READ = (
    "Points: the score of a slice less that of all other images. In brackets the 95 % interval of that slice by itself, which is "
    "not corrected for the {count} slices that were looked at: one that leaves out zero is no proof. p is corrected for all of "
    "them (Holm): a slice fails where it is below 0.05 and the slice is worse by more than two points."
)


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Which kinds of images the model is worse at.",
        epilog="Examples:\n\n  trainwright slices last\n\n  trainwright slices last --metadata cameras.csv",
    )(slices)


@grouped
def slices(
    run: options.RunName,
    *,
    metadata: Annotated[
        Path | None,
        typer.Option(
            "--metadata", metavar="FILE", help="CSV with a column 'image'; every other column is one more property."
        ),
    ] = None,
    part: Annotated[str, typer.Option("--part", metavar="NAME", help="val, or test once it has been opened.")] = "val",
    runs: options.Runs = Path("runs"),
    workers: options.Workers = 2,
    output: options.Output,
) -> None:
    """Hold the unseen images of RUN against each other by class, size, brightness, contrast, saturation, sharpness and metadata.

    A slice fails where its images are worse than all others beyond chance, corrected for all slices that were looked at, and by
    more than two points.
    """
    from trainwright.workflows import failing
    from trainwright.workflows.options import RunOptions

    chosen = RunOptions(runs=runs, workers=workers, reporter=output.reporter())
    found = failing.slices_of(run, part=part, metadata=metadata, options=chosen)  # type: ignore[arg-type]
    print(json.dumps(found) if output.as_json else show_slices(found))


def show_slices(found: Mapping[str, Any]) -> str:
    """Slices on a page: those that fail, and those that cost most of the others."""
    failing, rest = found["failing"], [one for one in found["slices"] if not one["fails"]]
    head = f"{found['score_is']}: {found['score']:.3f} on {found['images']:,} {found['part']} images"
    lines = [f"run        {found['run']}", *wrapped("", head), ""]
    count = len(found["slices"])
    if count:
        lines += [*wrapped("", HOW_TO_READ.format(count=count)), ""]
    else:
        few = f"These images are too few to tell kinds of them apart: each, and the rest, need {found['least_images']}."
        lines += wrapped("", few)
    if failing:
        lines += [f"fail, {len(failing)} of {count}, what costs most first:", *(_line(one) for one in failing)]
    elif count:
        lines += wrapped(
            "", f"None of {count} slices is worse than the rest beyond chance and by more than two points."
        )
    if rest:
        some = f"the first {SHOWN} of {len(rest)}" if len(rest) > SHOWN else str(len(rest))
        lines += ["", f"do not fail, {some}, what would cost most first:", *(_line(one) for one in rest[:SHOWN])]
    lines += [
        "",
        *wrapped(
            "", f"Looked at: {', '.join(found['attributes'])}; slices of {found['least_images']} images and more."
        ),
    ]
    return "\n".join(lines)


def _line(one: Mapping[str, Any]) -> str:
    gain = one["difference"]
    value, low, high = (100 * gain[key] for key in ("value", "low", "high"))
    mark, kind = "●" if one["fails"] else " ", f"{one['attribute']}: {one['value']}"
    return (
        f"{mark} {kind:<36} {one['images']:>6,} images  {one['score']:.3f} beside {one['rest']:.3f}  "
        f"{value:+.1f} points ({low:+.1f} to {high:+.1f})  p {_p(one['p'])}"
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}"
