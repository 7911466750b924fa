"""`trainwright inspect --labels`: which labels are probably wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.errors import UsageError

if TYPE_CHECKING:
    from trainwright.data.dataset import Dataset
    from trainwright.workflows.labels import LabelCheck

SHOWN = 10
Labels = Annotated[
    bool,
    typer.Option(
        "--labels", help="Train five networks, ask each about the images it has not seen, and list the doubtful labels."
    ),
]
Relabel = Annotated[
    Path | None, typer.Option("--relabel", metavar="FILE.csv", help="With --labels: where the whole list goes.")
]


def refuse_relabel(relabel: Path | None, *, labels: bool) -> None:
    """Before an hour of training. Raises UsageError."""
    if relabel is None:
        return
    if not labels:
        raise UsageError("there is no list without --labels.", where="--relabel", cure="Add --labels.")
    if not relabel.absolute().parent.is_dir():
        raise UsageError("its folder does not exist.", where=f"--relabel {relabel}", cure="Make it, or name another.")


def labels_content(
    dataset: Dataset,
    recipe: str | None,
    wanted: Mapping[str, Any],
    chosen: Mapping[str, Any],
    relabel: Path | None,
    *,
    quiet: bool,
    tell: bool,
) -> dict[str, Any]:
    """`labels` of `trainwright.data/1`. chosen: of the run options. tell: print it for people too."""
    from trainwright.cli.training import under_signals
    from trainwright.records import to_json
    from trainwright.workflows.labels import check_labels
    from trainwright.workflows.options import RunOptions

    def work(stop: Callable[[], bool]) -> LabelCheck:
        return check_labels(dataset, recipe, changes=wanted, options=RunOptions(**chosen, stop_asked=stop))

    found, _ = under_signals(work, quiet=quiet)
    if relabel is not None:
        found.write_csv(relabel)
    if tell:
        print("\n".join(_told(found, relabel)))
    content = to_json(found)
    return {**content, "noisy": None if found.noise is None else found.noise.noisy}


def _told(found: LabelCheck, relabel: Path | None) -> list[str]:
    lines = [f"labels       {found.images:,} images asked about, {found.folds} networks, accuracy {found.accuracy:.3f}"]
    if found.noise is not None:
        rate, answer = found.noise.rate, found.noise.noisy.replace("-", " ")
        lines.append(
            f"wrong        {rate.value:.3f} ({rate.low:.3f} to {rate.high:.3f}) of them, as far as told; noisy: {answer}"
        )
    lines.append(f"doubtful     {len(found.doubtful):,}{'' if relabel is None else f', all in {relabel}'}")
    for one in found.doubtful[:SHOWN]:
        sure = f"{one.probability_of_seems:.2f} to {one.probability_of_label:.2f}"
        lines.append(f"{'':<13}{one.path}: {one.label}, seems {one.seems} ({sure})")
    if len(found.doubtful) > SHOWN and relabel is None:
        lines.append(f"{'':<13}and {len(found.doubtful) - SHOWN:,} more (--relabel FILE.csv names all)")
    return lines
