"""`trainwright export`: a model handed over as files, with the proof that they answer as it does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped

if TYPE_CHECKING:
    from trainwright.workflows.options import RunOptions

Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="NAME", help="onnx, torch (a torch.export program), safetensors (weights) or all."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder. [default: export/ of the run]")]


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What `export` and `register` share: of which runs, with which probabilities, and what computes."""

    calibrated: options.Calibrated = False
    runs: options.Runs = Path("runs")
    workers: options.Workers = 2
    threads: options.Threads = None

    def run_options(self, output: options.Output) -> RunOptions:
        """Those of the workflow; runs whose process has died are closed first."""
        from trainwright.cli.runs import close_dead_runs
        from trainwright.workflows.options import RunOptions

        close_dead_runs(self.runs)
        return RunOptions(runs=self.runs, workers=self.workers, threads=self.threads, reporter=output.reporter())


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Hand a model over: ONNX, torch.export, weights.",
        epilog="Examples:\n\n  trainwright export last\n\n  trainwright export last --format onnx --out model/",
    )(export)
    app.command(
        short_help="Put a model into MLflow's registry, to be served.",
        epilog="Examples:\n\n  trainwright register last\n\n  trainwright register STUDY --name cats --alias champion",
    )(register)


@grouped
def export(
    run: options.RunName,
    *,
    format: Format = "all",
    out: Out = None,
    handed: Handed,
    output: options.Output,
) -> None:
    """Write the model of RUN, a run or a study, as files that need nothing of this program: uint8 pixels in, answers out.

    Each is held against the model itself on every validation image, from the image file on. One that does not answer as the
    model does is not written, and the exit code is 4.
    """
    from trainwright.workflows import export as workflow

    chosen = handed.run_options(output)
    made = workflow.export(run, format=format, out=out, calibrated=handed.calibrated, options=chosen)  # type: ignore[arg-type]
    print(json.dumps(made) if output.as_json else _shown(made))


@grouped
def register(
    run: options.RunName,
    *,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the registered model. [default: the dataset's]")
    ] = None,
    alias: Annotated[
        str, typer.Option("--alias", metavar="NAME", help="That this version gets and any other loses; '' for none.")
    ] = "champion",
    handed: Handed,
    output: options.Output,
) -> None:
    """Put the model of RUN, a run or a study, into MLflow's registry, once its exported file answers as it does.

    `mlflow models serve` then answers images over HTTP as `trainwright predict` does.
    """
    from trainwright.workflows import register as workflow

    made = workflow.register(
        run, name=name, alias=alias, calibrated=handed.calibrated, options=handed.run_options(output)
    )
    if output.as_json:
        print(json.dumps(made))
        return
    print(f"registered {made['name']}, version {made['version']}" + (f", {alias}" if alias else ""))
    print(f"run        {made['run']}\nstore      {made['store']}\n")
    print(f"next: MLFLOW_TRACKING_URI={made['store']} {made['serve']}")


def _shown(made: dict[str, Any]) -> str:
    certificate = made["certificate"]
    lines = [f"{'file':<18} {'bytes':>12}  agreement  largest difference"]
    for name, held in certificate["files"].items():
        largest = f"{held['largest_difference']:.2g} ({held['largest_difference_of']})"
        lines.append(f"{name:<18} {held['bytes']:>12,}  {held['agreement']:.5f}    {largest}")
    lines += ["", f"held against the model on {certificate['images']:,} validation images, from the image file on"]
    if certificate["trained"] is not None:
        kept = certificate["trained"]
        lines.append(
            f"which agrees by {kept['agreement']:.5f} with the answers that it was judged by ({kept['agreement_of']})"
        )
    if certificate["note"]:
        lines.append(certificate["note"])
    lines.append(f"folder     {made['folder']}")
    return "\n".join(lines)
