"""What the page of a study is made of, from its folder and those of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainwright import __version__
from trainwright.errors import RunError
from trainwright.report.values import Entry, Opening, StudyValues, Trial
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows.report_of_run import by_key, link_to, openings_of

SELF_EVIDENT = ("seed", "title")  # values whose difference between two runs says nothing of their recipes


def study_values(folder: StudyFolder, *, runs: Path, beside: Path) -> StudyValues:
    """Everything that the page of a study says. runs: where its runs lie. beside: the folder of the page, which links are
    written from."""
    result, status = folder.result(), folder.status()
    asks = {record["number"]: record for record in folder.records("ask")}
    tells = {record["number"]: record for record in folder.records("tell")}
    first = by_key(asks[min(asks)]["recipe"]) if asks else {}
    trials = [_trial(asked, tells.get(number), first, folder, runs, beside) for number, asked in sorted(asks.items())]
    told = next((tell["result"]["metric"] for tell in tells.values() if (tell.get("result") or {}).get("metric")), "")
    return StudyValues(
        study=folder.name,
        state=str(status["state"]),
        message=str(status["message"]),
        created=folder.created,
        folder=str(folder.path),
        asked=folder.asked,
        result=result,
        metric=str((result or {}).get("metric") or told or "score"),
        trials=tuple(trials),
        story=tuple(
            Entry(step=str(entry["step"]), text=str(entry["text"]), runs=tuple(entry.get("runs") or ()))
            for entry in folder.records("entry")
        ),
        openings=_openings(trials, runs),
        version=__version__,
    )


def _trial(
    asked: Mapping[str, Any],
    told: Mapping[str, Any] | None,
    first: Mapping[str, Any],
    folder: StudyFolder,
    runs: Path,
    beside: Path,
) -> Trial:
    run = folder.run_id(int(asked["number"])) if told is None else str(told["run"])
    recipe = {key: value for key, value in by_key(asked["recipe"]).items() if key not in SELF_EVIDENT}
    if recipe.get("optimizer.lr") is None and told is not None:
        recipe["optimizer.lr"] = _rate_found(runs / run)
    score = (told or {}).get("score")
    return Trial(
        number=int(asked["number"]),
        run=run,
        role=str(asked["role"]),
        label=str(asked["label"]),
        state="running" if told is None else str(told["state"]),
        score=math.nan if score is None else float(score),
        seconds=math.nan if told is None else float(told["seconds"]),
        verdict=str(((told or {}).get("result") or {}).get("verdict") or ""),
        changes={key: (first.get(key), value) for key, value in recipe.items() if value != first.get(key)},
        recipe=recipe,
        ended=None if told is None or told.get("time") is None else float(told["time"]) - folder.created,
        link=link_to(runs / run / "report.html", beside),
    )


def _rate_found(path: Path) -> float | None:
    """The learning rate that a run found for itself; None where its folder does not say."""
    try:
        result = RunFolder.open(path).result() or {}
    except RunError:
        return None
    used = (result.get("lr") or {}).get("used")
    return None if used is None else float(used)


def _openings(trials: list[Trial], runs: Path) -> tuple[Opening, ...]:
    """Every time that the test part was opened for a run of the study, the first one first."""
    found: list[Opening] = []
    for trial in trials:
        try:
            found += openings_of(RunFolder.open(runs / trial.run))
        except RunError:  # its folder has been moved or taken away since: the study's own record still tells the story
            continue
    return tuple(sorted(found, key=lambda one: math.inf if one.time is None else one.time))
