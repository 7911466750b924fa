"""`trainwright diagnose`: why a run came out as it did, with probes that tell more."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.cli.show import show_findings, show_verdict, wrapped

if TYPE_CHECKING:
    from trainwright.diagnosis.evidence import ProbeResult
    from trainwright.workflows.diagnose import Diagnosis

Probes = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        metavar="NAME",
        help="A short extra training that tells one cause: learning-rate, no-regularization, longer, wider, fit-64, half-data, "
        "labels; repeatable. auto: those that would tell, one after the other.",
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command(
        short_help="Why a run came out as it did; --probe trains to find out.",
        epilog="Examples:\n\n  trainwright diagnose last\n\n  trainwright diagnose last --probe auto\n\n"
        "  trainwright diagnose 20261122-0117 --probe wider --probe longer --json",
    )(diagnose)


@grouped
def diagnose(
    run: options.RunName,
    *,
    probe: Probes = None,
    machine: options.Machine,
    offline: options.Offline = False,
    output: options.Output,
) -> None:
    """Say what was found in RUN and what speaks for it; with --probe, train what would tell more and judge again.

    A probe takes about as long as RUN did, `longer` and `wider` two to four times that. None is run twice.
    """
    from trainwright.cli.runs import close_dead_runs
    from trainwright.workflows.diagnose import AUTO
    from trainwright.workflows.diagnose import diagnose as judge_again
    from trainwright.workflows.options import RunOptions

    close_dead_runs(machine.runs)
    chosen = RunOptions(**vars(machine), offline=offline, reporter=output.reporter())
    names = list(probe or ())
    found = judge_again(run, probes=AUTO if AUTO in names else names, options=chosen)
    print(json.dumps(as_object(found)) if output.as_json else show_diagnosis(found))


def as_object(found: Diagnosis) -> dict[str, Any]:
    """`trainwright.diagnosis/1`."""
    from trainwright.records import to_json

    content: dict[str, Any] = to_json(found)
    return {"schema": "trainwright.diagnosis/1", **content}


def show_diagnosis(found: Diagnosis) -> str:
    """The verdict, the findings, a line for each probe, and which ones are left."""
    from trainwright.records import to_json

    findings = to_json(found.findings)
    lines = [f"run        {found.run}", *wrapped("verdict    ", show_verdict(found.verdict, findings))]
    scored, train = found.images_scored.get("train", 0), found.images.get("train", 0)
    lines += [f"train      scored on {scored:,} of its {train:,} images, drawn for this"] if scored < train else []
    lines += [""]
    lines += show_findings(findings)
    if found.probes:
        lines += ["", "probes"]
        lines += [line for probe in found.probes.values() for line in _probe(probe)]
    if found.would_tell:
        named = " ".join(f"--probe {name}" for name in found.would_tell)
        lines += ["", *wrapped("to tell    ", f"trainwright diagnose {found.run} {named}")]
    return "\n".join(lines)


def _probe(probe: ProbeResult) -> list[str]:
    from trainwright.diagnosis.wording import changed_values, percent

    if probe.state != "trained" or probe.train_error is None:
        return wrapped(f"  {probe.name}: ", probe.note or probe.state)
    errors = [
        f"{part} error {percent(error.value)}"
        for part, error in (("train", probe.train_error), ("unseen", probe.val_error))
        if error is not None
    ]
    what = changed_values(probe.before, probe.changes)
    return wrapped(f"  {probe.name}: ", f"{what}: {', '.join(errors)}; {probe.steps:,} steps, {probe.seconds:,.0f} s")
