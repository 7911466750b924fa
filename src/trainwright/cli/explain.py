"""`trainwright explain`: which pixels speak for what a model says of an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.show import wrapped

MISSED = 0.1
READING = (
    "first for the image, then for a plain one of its mean colour. The pixels in red and blue add up to the difference, and tell "
    "what this model used, not what the thing is."
)


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Pictures of what speaks for the model's answers.",
        epilog="Examples:\n\n  trainwright explain last\n\n  trainwright explain last photo.jpg --of cat --out why/",
    )(explain)


@grouped
def explain(
    run: options.RunName,
    *,
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[IMAGE|FOLDER…]",
            help="Image files and folders of them. [default: the hardest validation images]",
            show_default=False,
        ),
    ] = None,
    of: Annotated[
        str | None,
        typer.Option(
            "--of", metavar="NAME", help="Class or value to explain. [default: the answer]", show_default=False
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder. [default: explained/ of the run]", show_default=False),
    ] = None,
    runs: options.Runs = Path("runs"),
    output: options.Output,
) -> int:
    """Show which pixels speak for (red) and against (blue) what the model of RUN, a run or a study, says of images.

    By integrated gradients, whose sum is the difference to what the model says of a plain image; how far it misses that is told.
    """
    from trainwright.workflows import explain as workflow
    from trainwright.workflows.known_truth import answered_in_words
    from trainwright.workflows.options import RunOptions

    chosen = RunOptions(runs=runs, reporter=output.reporter())
    found = workflow.explain(run, images or None, of=of, out=out, options=chosen)
    if output.as_json:
        print(json.dumps(found))
    else:
        for one in found["images"]:
            if "error" in one:
                print(f"{one['image']}  {one['error']}")
                continue
            missed = f"  ({one['unexplained']:.0%} not explained)" if one["unexplained"] > MISSED else ""
            said = answered_in_words(one)
            print(
                f"{_near(one['image'])}  {said}{'; explained: ' if said else ''}{one['of']} {one['output']:.3g}, "
                f"of a plain image {one['plain']:.3g}{missed}"
            )
        print("\n".join(wrapped("numbers    ", f"{_beside(found['images'])}explained: {found['explains']}; {READING}")))
        print(f"method     {found['method']}")
        print("\n".join(f"sheet      {sheet}" for sheet in found["sheets"]))
    return 3 if all("error" in one for one in found["images"]) else 0


def _near(file: str) -> str:
    """A path as it is written from here, where it lies below."""
    path, here = Path(file), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else file


def _beside(images: Sequence[Mapping[str, Any]]) -> str:
    """What the numbers beside truth and answer are."""
    if any("probability" in one for one in images):
        return "truth and answer with their probabilities; "
    return "truth and answer in the unit of the data; " if any("values" in one for one in images) else ""
