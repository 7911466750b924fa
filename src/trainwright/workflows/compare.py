"""Two runs compared: what differs in their recipes, in their results, and whether the difference is beyond chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainwright.diagnosis.comparison import compare
from trainwright.errors import RunError
from trainwright.records import to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.tracking.study_folder import owner_of
from trainwright.workflows.chosen_epoch import score_of
from trainwright.workflows.judge import moved_to
from trainwright.workflows.predict import task_of
from trainwright.workflows.run import recipe_of

COMPARED = ("task", "metric", "verdict", "epochs", "seconds", "images_per_second", "parameters")
CHANCE = 0.05  # two-sided p-value below which a difference counts


def compare_runs(first: RunFolder, second: RunFolder) -> dict[str, Any]:
    """The `trainwright.comparison/1` object: `recipe` and `result` hold [first, second] of what differs.

    `gain` (second − first, with its interval) only where both answered the same images; `p` (exact McNemar) only where
    answers are right or wrong.
    Raises RunError where a run has not finished.
    """
    results = [_result(first), _result(second)]
    a, b = (flat_values(result["recipe"]) for result in results)
    gain = _gain(first, second)
    return {
        "schema": "trainwright.comparison/1",
        "runs": [{"run": result["run"], "score": result["score"]} for result in results],
        "recipe": {key: [a.get(key), b.get(key)] for key in sorted({*a, *b}) if a.get(key) != b.get(key)},
        "result": {
            **{f"score.{part}": [result["score"][part] for result in results] for part in ("train", "val")},
            **{key: [result.get(key) for result in results] for key in COMPARED},
        },
        "gain": gain,
        "conclusion": _conclusion(gain),
    }


def _gain(first: RunFolder, second: RunFolder) -> dict[str, Any] | None:
    """None where the two did not answer the same unseen images of the same dataset for the same task."""
    a, b = (folder.manifest for folder in (first, second))
    if any(recipe_of(folder).data.train_on != "train" for folder in (first, second)):
        return None
    if (a["dataset"]["fingerprint"], a["metric"]) != (b["dataset"]["fingerprint"], b["metric"]):
        return None
    answers = [answers_of(folder) for folder in (first, second)]
    if set(answers[0]["paths"]) != set(answers[1]["paths"]):
        return None
    by_path = [dict(zip(found["paths"].tolist(), range(len(found["paths"])), strict=True)) for found in answers]
    paths = sorted(by_path[0])
    aligned = [[order[path] for path in paths] for order in by_path]
    task = task_of(first, recipe_of(first))
    tallies = [found["tally"][rows].astype(np.float64) for found, rows in zip(answers, aligned, strict=True)]
    if task.counts_right:
        found = compare([tallies[1]], [tallies[0]])
        return {**to_json(found.gain), "p": found.p, "images": found.images}
    found = compare([tallies[1]], [tallies[0]], score=score_of(task), groups=answers[0]["groups"][aligned[0]])
    scores = [_result(folder)["score"]["val"] for folder in (second, first)]
    exact = None if None in scores else scores[0] - scores[1]  # tallies give average precision only nearly
    return {**to_json(moved_to(found.gain, exact)), "p": None, "images": found.images}


def answers_of(folder: RunFolder, part: str = "val") -> dict[str, np.ndarray]:
    """What the run's model said of the images of a part, val or train (the probe images): `paths`, `per_image`, `tally` and
    `groups` (dependent images)."""
    with np.load(folder.answers / f"{part}.npz", allow_pickle=False) as saved:
        if "tally" in saved:
            return {name: saved[name] for name in ("paths", "per_image", "tally", "groups")}
        right_N = (saved["probabilities"].argmax(axis=1) == saved["target"]).astype(np.float64)  # a run of version 0.1
        return {"paths": saved["paths"], "per_image": right_N, "tally": right_N[:, None], "groups": saved["rows"]}


def _conclusion(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return "The two were not scored on the same unseen images: their scores cannot be compared image by image."
    if gain["low"] is None or gain["high"] is None:
        return (
            f"The scores on the same {gain['images']:,} images cannot be told apart: too few of them decide the score."
        )
    points = f"{100 * gain['value']:+.1f} points ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    beyond = (gain["p"] is None or gain["p"] < CHANCE) and (gain["low"] > 0 or gain["high"] < 0)
    judged = "beyond chance for these two trainings" if beyond else "no evidence of a difference"
    how = "paired bootstrap over images" if gain["p"] is None else f"p = {gain['p']:.3f} (exact McNemar)"
    return (
        f"b − a on the same {gain['images']:,} images: {points}, {how}: {judged}. Another seed moves both scores too."
    )


def _result(folder: RunFolder) -> dict[str, Any]:
    result = folder.result()
    if result is None:
        said, name = "has not finished.", folder.run_id
        if folder.status()["state"] == "paused":
            study = owner_of(folder)
            said = f"was paused by {'its study' if study is None else f'the study {study.name}'} and has no result to compare."
            name = name if study is None or study.result() is not None else study.name
        raise RunError(said, where=folder.run_id, cure=f"Go on with 'trainwright resume {name}', or name another run.")
    return result


def flat_values(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flat_values(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
