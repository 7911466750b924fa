"""A finished run judged again from its record, with the probes that were asked for."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.evidence import Evidence, ProbeResult
from trainwright.diagnosis.remedies.capacity import relative_work
from trainwright.diagnosis.rules import judge
from trainwright.diagnosis.rules.fit import probes_that_would_tell
from trainwright.recipe import Recipe
from trainwright.records import Finding, to_json
from trainwright.report.wording import scored_train
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import find_run
from trainwright.workflows.kept_evidence import evidence_of
from trainwright.workflows.label_probe import LABELS
from trainwright.workflows.larger import larger_network
from trainwright.workflows.lr import recorded_finding
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.probe_changes import Subject, subject_of
from trainwright.workflows.probes import check_probe, run_probe
from trainwright.workflows.report import refresh
from trainwright.workflows.run import Run, recipe_of

if TYPE_CHECKING:
    from torch import nn

AUTO, WIDER = "auto", "wider"
ANY_SIZE = (32, 32)  # of images: what a larger network costs beside a smaller one does not hang on it
# Of the process that runs a probe, after which it is not begun again: a probe may take its process with it, as by its memory, and
# would do so at every start. Kills by a person in one probe, after which a study goes on as if nothing was, are fewer.
MOST_DEATHS = 6
COST = 2.0  # times the run's own: a probe trains as long, and a second time where the first did not settle it
COSTS = {"longer": 4.0, LABELS: 5.0}  # twice or four times as long; one for each fold


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What is known of a run: the verdict in a word, every rule's finding, the probes so far, and those that would tell more.

    images_scored: of how many images of train and val its errors are. images: how many there are of each.
    """

    run: str
    verdict: str
    findings: tuple[Finding, ...]
    probes: dict[str, ProbeResult]
    would_tell: tuple[str, ...]
    images_scored: dict[str, int] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)


def diagnose(
    run: str | os.PathLike[str] | Run,
    *,
    probes: Sequence[str] | Literal["auto"] = (),
    data: Dataset | None = None,
    model: Callable[[], nn.Module] | None = None,
    limit_seconds: float = math.inf,
    options: RunOptions | None = None,
    **more: Any,
) -> Diagnosis:
    """Run the probes that are asked for, judge the run again with all that is known, and keep that as its result.

    run: as for `resume`. probes: names (`workflows/probe_changes.py`), each a training of about the run's own length or twice
    that; `auto`: one after the other those that would tell, until a cause of the high train error is clear. A probe that was run
    is not run again. limit_seconds: wall-clock for all of them; one that would take longer, by the time that the run took, is
    not begun. data, model: what only Python code could give; model makes the network anew. Raises RunError for a run
    that has no evidence, UsageError for an unknown probe, what a training raises.
    """
    options = options_from(options, more)
    if probes != AUTO:
        for name in probes:
            check_probe(name)
    folder = RunFolder.open(run.folder) if isinstance(run, Run) else find_run(options.runs, str(run))
    evidence = evidence_of(folder)
    if probes and recipe_of(folder).data.train_on != "train+val":
        wanted = [] if probes == AUTO else list(probes)
        left = _next(evidence, wanted, auto=probes == AUTO)
        subject = subject_of(folder, data=data, model=model, options=options) if left else None
        began, took = time.perf_counter(), float((folder.result() or {}).get("seconds", 0.0))
        while left is not None and subject is not None:
            if time.perf_counter() - began + cost_of(left, subject.recipe) * took > limit_seconds:
                break
            found = _run(subject, left)
            evidence = replace(evidence, probes={**evidence.probes, left: found})
            left = _next(evidence, wanted, auto=probes == AUTO)
    return _judged(folder, evidence, data=data, options=options)


def cost_of(name: str, recipe: Recipe) -> float:
    """What a probe of a run of this recipe takes at most, over what the run took; of a larger network by its multiply-adds."""
    changes = larger_network(recipe.network)[0] if name == WIDER else {}
    work = relative_work(recipe, recipe.changed(changes), ANY_SIZE) if changes else 1.0
    return COSTS.get(name, COST) * max(1.0, work)


def _run(subject: Subject, name: str) -> ProbeResult:
    """Run a probe; one whose process was ended twice while it was run has failed."""
    folder = subject.folder
    states = [record["state"] for record in folder.records("probing") if record["name"] == name]
    deaths = states.count("began") - states.count("let go")
    if deaths >= MOST_DEATHS:
        return ProbeResult(name=name, state="failed", note=f"Its process was ended {deaths} times while it was run.")
    _note(folder, name, "began")
    try:
        return run_probe(subject, name)
    finally:  # not where the process is gone
        _note(folder, name, "let go")


def _note(folder: RunFolder, name: str, state: str) -> None:
    with folder:
        folder.append("probing", {"name": name, "state": state})


def _next(evidence: Evidence, wanted: Sequence[str], *, auto: bool) -> str | None:
    names = probes_that_would_tell(evidence) if auto else [name for name in wanted if name not in evidence.probes]
    return next(iter(names), None)


def _judged(folder: RunFolder, evidence: Evidence, *, data: Dataset | None, options: RunOptions) -> Diagnosis:
    """Judge, and keep verdict, findings and probes in the result of the run."""
    result = folder.result()
    if result is not None and recipe_of(folder).data.train_on == "train+val":  # nothing unseen is left to judge by
        found = tuple(Finding(**finding) for finding in result["findings"])
        return Diagnosis(
            run=folder.run_id, verdict=result["verdict"], findings=found, probes={}, would_tell=(), **_images(folder)
        )
    verdict, findings = judge(evidence)
    if result is not None:
        kept = {"verdict": verdict, "findings": to_json([*recorded_finding(folder), *findings])}
        kept |= {"probes": to_json(evidence.probes)} if evidence.probes else {}
        if any(result.get(key) != value for key, value in kept.items()):
            with folder:
                folder.claim()
                folder.write_json("result.json", {**result, **kept})
            refresh(folder, data=data, reporter=options.reporter)
    return Diagnosis(
        run=folder.run_id,
        verdict=verdict,
        findings=findings,
        probes=dict(evidence.probes),
        would_tell=probes_that_would_tell(evidence),
        **_images(folder),
    )


def _images(folder: RunFolder) -> dict[str, dict[str, int]]:
    split = {part: int(folder.manifest["split"][part]) for part in ("train", "val")}
    scored, _ = scored_train(folder.result() or {}, split)
    return {"images_scored": {"train": scored, "val": split["val"]}, "images": split}
