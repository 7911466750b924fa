"""What the page of a study is made of, from its folder and those of its runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainwright import __version__
from trainwright.errors import RunError
from trainwright.report.values import Entry, StudyValues, Trial
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows.report_of_run import by_key, link_to
from trainwright.workflows.report_openings import openings_of_study

Record = Mapping[str, Any]  # of a study's journal
BEST_RECIPE = "best-recipe.yaml"  # in its folder, once it has ended
SELF_EVIDENT = ("seed", "title")  # values whose difference between two runs says nothing of their recipes


def study_values(folder: StudyFolder, *, runs: Path, beside: Path) -> StudyValues:
    """Everything that the page of a study says. runs: where its runs lie. beside: the folder of the page, which links are
    written from."""
    result, status = folder.result(), folder.status()
    asks = {record["number"]: record for record in folder.records("ask")}
    tells = {record["number"]: record for record in folder.records("tell")}
    first = by_key(asks[min(asks)]["recipe"]) if asks else {}
    pieces: dict[
        int, list[Record]
    ] = {}  # of each training its asks: one that was paused has one for each time it went on
    for number, asked in sorted(asks.items()):
        began = number if asked.get("continues") is None else int(asked["continues"])
        pieces.setdefault(began, []).append(asked)
    trials = [
        _trial(
            asked,
            [tells.get(one["number"]) for one in asked],
            first,
            folder,
            runs=runs,
            beside=beside,
            ended=result is not None,
        )
        for asked in pieces.values()
    ]
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
        openings=openings_of_study(folder.name, [one.run for one in trials], runs),
        version=__version__,
        runs=str(runs),
        handed_over=str(folder.path / BEST_RECIPE) if (folder.path / BEST_RECIPE).is_file() else "",
    )


def _trial(
    pieces: Sequence[Record],
    tells: Sequence[Record | None],
    first: Mapping[str, Any],
    folder: StudyFolder,
    *,
    runs: Path,
    beside: Path,
    ended: bool,
) -> Trial:
    """A training with all of its pieces. pieces: their asks. tells: what was told of each, None where nothing was yet. first: the
    values of the first recipe. ended: whether the study has."""
    asked, told = pieces[0], [tell for tell in tells if tell is not None]
    run = folder.run_id(int(asked["number"])) if not told else str(told[-1]["run"])
    recipe = {key: value for key, value in by_key(asked["recipe"]).items() if key not in SELF_EVIDENT}
    there, result = _of_folder(runs / run)
    if recipe.get("optimizer.lr") is None and told:
        used = (result.get("lr") or {}).get("used")
        recipe["optimizer.lr"] = None if used is None else float(used)
    scores = [float(tell["score"]) for tell in told if tell.get("score") is not None]
    last = told[-1] if told else {}
    when = last.get("time")
    state = "running" if not ended and len(told) < len(pieces) else str(last.get("state", "unfinished"))
    return Trial(
        number=int(asked["number"]),
        run=run,
        role=str(asked["role"]),
        label=str(asked["label"]),
        state=state,
        score=scores[-1] if scores else math.nan,
        seconds=sum(float(tell["seconds"]) for tell in told) if told else math.nan,
        verdict=str((last.get("result") or {}).get("verdict") or ""),
        changes={key: (first.get(key), value) for key, value in recipe.items() if value != first.get(key)},
        recipe=recipe,
        ended=None if when is None else float(when) - folder.created,
        link=link_to(runs / run / "report.html", beside),
        interval=(result.get("intervals") or {}).get("score"),
        there=there,
    )


def _of_folder(path: Path) -> tuple[bool, Mapping[str, Any]]:
    """(whether there is a run, what came out of it)."""
    try:
        folder = RunFolder.open(path)
    except RunError:
        return False, {}
    try:
        return True, folder.result() or {}
    except RunError:  # damaged: the study's own journal says enough
        return True, {}
