"""What came out of a study that has ended: the `trainwright.study/1` object."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from trainwright.diagnosis.noise import luck
from trainwright.diagnosis.wording import epochs
from trainwright.records import to_json
from trainwright.search.coach import Coach
from trainwright.search.rounds import Length, Round
from trainwright.tracking.study_folder import StudyFolder
from trainwright.workflows.study import trials_of


def result_of(folder: StudyFolder, coach: Coach) -> dict[str, Any]:
    """The `trainwright.study/1` object."""
    trials = list(trials_of(folder))
    incumbent, baseline = coach.incumbent, coach.baselines[0] if coach.baselines else None
    gain = coach.gain()
    compared = sum(len(one.arms) for one in coach.rounds)
    best: dict[str, Any] | None = None
    if incumbent is not None:
        recipe, judged = coach.handed_over
        model = coach.final or judged
        best = {
            "run": model.run,
            "score": judged.score,
            "gap": judged.result["gap"],
            "scored_by": judged.run,
            "trained_on": "train+val" if coach.final is not None else "train",
            "remedies": list(incumbent.remedies),
            "repairs": list(incumbent.repairs),
            "unproven": None if coach.unproven is None else f"{recipe.epochs} epochs",
            "recipe": recipe.model_dump(mode="json"),
        }
    return {
        "schema": "trainwright.study/1",
        "study": folder.name,
        "folder": str(folder.path),
        "strategy": "coach",
        "metric": None if baseline is None else baseline.result["metric"],
        "trials": trials,
        "baseline": None
        if baseline is None
        else {
            "run": baseline.run,
            "score": baseline.score,
            "gap": baseline.result["gap"],
            "verdict": baseline.result["verdict"],
        },
        "best": best,
        "gain": None if gain is None else gain.gain,
        "noise_floor": coach.noise,
        "unchanged_scores": [outcome.score for outcome in coach.baselines],
        "luck": None if math.isnan(coach.noise) or compared < 1 else luck(coach.noise, compared),
        "importance": None,
        "warnings": [*shortened(folder.asked), *(_ended(trial) for trial in trials if trial["state"] != "finished")],
        "short_of_time": coach.short_of_time,
        "rounds": [_round(one) for one in coach.rounds],
        "lengths": [_length(one) for one in coach.lengths],
        "journal": [to_json(entry) for entry in coach.entries],
        "summary": " ".join([coach.summary(), *said_of_test(folder.asked)]),
        "test_images": folder.asked["test_images"],
        "test_opened_before": folder.asked.get("test_opened_before", 0),  # studies of before it kept none
        "seconds": coach.ledger.spent,
        "budget_seconds": folder.asked["budget_seconds"],
    }


def _round(one: Round) -> dict[str, Any]:
    """A round as it went, each arm with what it gained over the control."""
    return {
        "round": one.number,
        "epochs": one.epochs,
        "verdict": one.believed,
        "control": {"run": one.control.run, "score": one.control.score},
        "arms": [
            {
                "remedy": arm.prescription.remedy,
                "changes": dict(arm.prescription.changes),
                "reason": arm.prescription.reason,
                "source": arm.prescription.source,
                "run": arm.outcome.run,
                "score": arm.outcome.score,
                "epochs": arm.outcome.result.get("epochs"),
                "trainings": None if arm.comparison is None else list(arm.comparison.seeds),
                "gain": None if arm.comparison is None else arm.comparison.gain,
                "p": None if arm.comparison is None else arm.comparison.p,
                "verdict": arm.verdict,
                "adopted": arm.prescription.remedy == one.adopted,
            }
            for arm in one.arms
        ],
        "adopted": one.adopted,
    }


def _length(one: Length) -> dict[str, Any]:
    """A longer training of what was found, as an arm without a change but its epochs."""
    compared = one.comparison
    return {
        "run": one.outcome.run,
        "score": one.outcome.score,
        "epochs": one.epochs,
        "before": one.before,
        "trainings": None if compared is None else list(compared.seeds),
        "gain": None if compared is None else compared.gain,
        "p": None if compared is None else compared.p,
        "verdict": one.verdict,
        "adopted": one.verdict == "adopted",
    }


def said_of_test(asked: Mapping[str, Any]) -> list[str]:
    """A sentence about which images nothing was chosen by."""
    if asked["test_images"]:
        return [
            "Choices were made by the unseen images, so their score may be a little too good: the test part has the last word."
        ]
    if asked["on_all"] is None:
        return [
            "This data has no test part, so the validation images, which choices were made by, are the last unseen ones."
        ]
    return ["This data has no test part: no unseen image is left to score the final model by."]


def shortened(asked: Mapping[str, Any]) -> list[str]:
    cut = asked["shortened"]
    if cut is None:
        return []
    return [f"{epochs(cut['to'])} a training, not the recipe's {cut['from']}: the budget is too small for more"]


def _ended(trial: Mapping[str, Any]) -> str:
    return f"{trial['label']} {trial['state']}"
