"""Patterns across studies: which hyperparameter mattered where, and what the best of each had."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from trainwright.diagnosis.isolation import APART, isolated
from trainwright.errors import RunError, UsageError
from trainwright.records import to_json
from trainwright.report.search_plots import searched, varied
from trainwright.search.audit import LEAST_TRIALS, importance_of
from trainwright.search.domains import Choice, FloatRange
from trainwright.search.space import Dimension, Space
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.runs import find_run, list_runs
from trainwright.tracking.study_folder import StudyFolder, find_study, owners_of, studies_in
from trainwright.workflows.compare import flat_values
from trainwright.workflows.report_of_study import SELF_EVIDENT, study_values

WILD = "*?["
MATTERS = 0.1  # share of what is known of the scores from which on a value is said to have mattered
NOT_A_VALUE = (*SELF_EVIDENT, "epochs")  # of a run's recipe: nothing that a search chooses


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trainings that are compared with each other alone: those of a study, or runs that no study made, of one dataset.

    rows: (run, values of the recipe by dotted key, score) of each that came to its end.
    """

    name: str
    kind: str
    data: str
    metric: str
    rows: Sequence[tuple[str, Mapping[str, Any], float]]


def meant(runs: Path, names: Sequence[str]) -> list[RunFolder] | list[Group]:
    """Two runs, or groups of trainings. names: of runs, of studies, or patterns as `lr-*` over the names of both.

    Raises RunError for a name that is none and a pattern that matches nothing, UsageError for one run alone.
    """
    if len(names) == 2 and not any(_is_study(runs, name) or _is_pattern(name) for name in names):
        return [find_run(runs, name) for name in names]
    studies: dict[str, StudyFolder] = {}
    single: list[str] = []
    for name in names:
        found_studies, found_runs = _found(runs, name)
        studies |= found_studies
        single += found_runs
    owners = owners_of(runs, single)
    alone = [run for run in dict.fromkeys(single) if owners.get(run) not in studies]
    groups = [_of_study(study, runs) for study in studies.values()] + _of_runs(runs, alone, owners)
    if sum(len(group.rows) for group in groups) < 2:
        raise UsageError(
            "one training alone is no comparison.",
            where=" ".join(names),
            cure="Name two runs, a study, or a pattern as 'lr-*' (in quotes) that more of them match.",
        )
    return groups


def patterns(groups: Sequence[Group]) -> dict[str, Any]:
    """The `trainwright.patterns/1` object: of each group its best and what mattered, and each hyperparameter across them."""
    told = [_told(group) for group in groups]
    keys = {key: None for one in told for key in one["varied"]}
    rows = []
    for key in keys:
        shares = [(one["importance"] or {}).get(key) for one in told]
        best = [one["best"]["values"].get(key) if one["best"] and key in one["varied"] else None for one in told]
        rows.append(
            {
                "key": key,
                "importance": shares,
                "best": best,
                "mattered": sum((share or 0) >= MATTERS for share in shares),
            }
        )
    rows.sort(key=lambda row: (-max(share or 0.0 for share in row["importance"]), row["key"]))
    content = {"schema": "trainwright.patterns/1", "groups": told, "hyperparameters": rows}
    clean: dict[str, Any] = to_json(content | {"conclusion": _conclusion(told, rows)})
    return clean


def _told(group: Group) -> dict[str, Any]:
    keys = _varied(group)
    best = max(group.rows, key=lambda row: row[2], default=None)
    importance, why = _importance(group, keys)
    scores = [score for _, _, score in group.rows]
    return {
        "name": group.name,
        "kind": group.kind,
        "data": group.data,
        "metric": group.metric,
        "trainings": len(group.rows),
        "varied": keys,
        "best": None
        if best is None
        else {"run": best[0], "score": best[2], "values": {key: best[1].get(key) for key in keys}},
        "importance": importance,
        "why_not": why,
        "listed": [
            {"run": run, "score": score, "values": {key: values.get(key) for key in keys}}
            for run, values, score in sorted(group.rows, key=lambda row: -row[2])
            if len(group.rows) < LEAST_TRIALS
        ],
        "isolation": {key: isolated([row[1].get(key) for row in group.rows], scores) for key in keys},
    }


def _importance(group: Group, keys: Sequence[str]) -> tuple[dict[str, float] | None, str]:
    """(shares by key, why there are none)."""
    if len(group.rows) < LEAST_TRIALS:
        return None, f"fewer than {LEAST_TRIALS} whole trainings"
    if not keys:
        return None, "all have the same recipe"
    dimensions = tuple(_dimension(key, [row[1].get(key) for row in group.rows]) for key in keys)
    scored = [({key: row[1].get(key) for key in keys}, row[2]) for row in group.rows]
    found = importance_of(Space(dimensions=dimensions), scored)
    return found, "" if found else "its values do not tell its scores"


def _dimension(key: str, values: Sequence[Any]) -> Dimension:
    """The space that these values span."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        low, high = float(min(values)), float(max(values))
    else:
        low = high = math.nan
    if math.isfinite(high - low) and low < high:  # 1 and 1.0 are one number
        return Dimension(key=key, domain=FloatRange(low=low, high=high, log=low > 0 and high / low >= APART))
    different: list[Any] = []
    for value in values:
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in different):
            different.append(value)
    return Dimension(key=key, domain=Choice(values=tuple(different)))


def _varied(group: Group) -> list[str]:
    keys = {key: None for _, values, _ in group.rows for key in values}
    return [key for key in keys if len({repr(values.get(key)) for _, values, _ in group.rows}) > 1]


def _found(runs: Path, name: str) -> tuple[dict[str, StudyFolder], list[str]]:
    """The studies and runs that a name or a pattern means."""
    if not _is_pattern(name):
        study = find_study(runs, name) if _is_study(runs, name) else None
        _refuse_ambiguous(runs, name, study)
        return ({study.name: study}, []) if study is not None else ({}, [find_run(runs, name).run_id])
    studies = {study.name: study for study in studies_in(runs) if fnmatchcase(study.name, name)}
    # a repetition is no further training: it would count the same one twice
    listed = [run.run_id for run in list_runs(runs) if fnmatchcase(run.run_id, name) and run.repeats is None]
    if not studies and not listed:
        raise RunError(
            "no run and no study has such a name.", where=name, cure="'trainwright runs list' shows all runs."
        )
    return studies, listed


def _refuse_ambiguous(runs: Path, name: str, study: StudyFolder | None) -> None:
    """A name is no guess: raises RunError where a study and runs that it did not make begin with it."""
    if study is None or name in (study.name, str(study.path)):
        return
    others = [run.run_id for run in list_runs(runs) if run.run_id.startswith(name) and not study.owns(run.run_id)]
    if others:
        raise RunError(
            f"the study {study.name} begins so, and so does the run {others[0]}"
            + (f" ({len(others)} such runs)." if len(others) > 1 else "."),
            where=name,
            cure="Give more of the name.",
        )


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in WILD)


def _is_study(runs: Path, name: str) -> bool:
    return (
        not (runs / name).is_dir() and not Path(name, "manifest.json").is_file() and find_study(runs, name) is not None
    )


def _of_study(study: StudyFolder, runs: Path) -> Group:
    values = study_values(study, runs=runs, beside=study.path)
    chosen = searched(values.trials)
    keys = varied(chosen)
    data = Path(str((study.asked.get("data") or {}).get("path") or "")).name
    rows = [(one.run, {key: one.recipe.get(key) for key in keys}, one.score) for one in chosen]
    return Group(name=study.name, kind="study", data=data, metric=values.metric, rows=rows)


def _of_runs(runs: Path, names: Sequence[str], owners: Mapping[str, str]) -> list[Group]:
    """Runs by dataset and metric, and by the study that made them where one did: others are no comparison."""
    groups: dict[tuple[str, str, str], list[tuple[str, Mapping[str, Any], float]]] = {}
    data: dict[tuple[str, str, str], str] = {}
    for name in names:
        folder = find_run(runs, name)
        result = folder.result()
        if result is None or result["score"]["val"] is None:
            continue
        values = {key: value for key, value in flat_values(result["recipe"]).items() if key not in NOT_A_VALUE}
        kind = (owners.get(name, ""), folder.manifest["dataset"]["fingerprint"], result["metric"])
        groups.setdefault(kind, []).append((name, values, float(result["score"]["val"])))
        data[kind] = str(folder.manifest.get("name", ""))
    return [
        Group(name=kind[0] or f"runs on {data[kind]}", kind="runs", data=data[kind], metric=kind[2], rows=rows)
        for kind, rows in groups.items()
    ]


def _conclusion(told: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> str:
    known = [one for one in told if one["importance"]]
    if not known:
        reasons = "; ".join(f"{one['name']}: {one['why_not']}" for one in told)
        return f"Which value mattered cannot be told ({reasons})."
    everywhere = [row["key"] for row in rows if row["mattered"] == len(known)]
    some = [row["key"] for row in rows if 0 < row["mattered"] < len(known)]
    said = [f"Of {len(told)} groups of trainings {len(known)} can tell which value mattered."]
    if everywhere:
        said.append(f"It mattered in {'each of them' if len(known) > 1 else 'it'}: {', '.join(everywhere)}.")
    if some:
        said.append(f"In some: {', '.join(some)}.")
    return " ".join(said)
