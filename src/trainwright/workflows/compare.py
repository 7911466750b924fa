"""Two runs compared: what differs in their recipes, in their results, and whether the difference is beyond chance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainwright.diagnosis.stats import mcnemar_exact, paired_difference
from trainwright.errors import RunError
from trainwright.records import to_json
from trainwright.tracking.run_folder import RunFolder

COMPARED = ("verdict", "epochs", "seconds", "images_per_second", "parameters")
CHANCE = 0.05  # two-sided p-value below which a difference counts


def compare_runs(first: RunFolder, second: RunFolder) -> dict[str, Any]:
    """The `trainwright.comparison/1` object: `recipe` and `result` hold [first, second] of what differs.

    `gain` (second − first, with its interval) and `p` (exact McNemar) only where both answered the same images.
    Raises RunError where a run has not finished.
    """
    results = [_result(first), _result(second)]
    a, b = (_flat(result["recipe"]) for result in results)
    gain = _gain(first, second)
    return {
        "schema": "trainwright.comparison/1",
        "runs": [{"run": result["run"], "score": result["score"]} for result in results],
        "recipe": {key: [a.get(key), b.get(key)] for key in sorted({*a, *b}) if a.get(key) != b.get(key)},
        "result": {
            **{f"score.{part}": [result["score"][part] for result in results] for part in ("train", "val")},
            **{key: [result[key] for result in results] for key in COMPARED},
        },
        "gain": gain,
        "conclusion": _conclusion(gain),
    }


def _gain(first: RunFolder, second: RunFolder) -> dict[str, Any] | None:
    """None where the two did not answer the same images of the same dataset."""
    if first.manifest["dataset"]["fingerprint"] != second.manifest["dataset"]["fingerprint"]:
        return None
    right = [_right(first), _right(second)]
    if right[0].keys() != right[1].keys():
        return None
    paths = sorted(right[0])
    a, b = (np.array([answers[path] for path in paths]) for answers in right)
    interval = paired_difference(b, a)
    return {**to_json(interval), "p": mcnemar_exact(a, b), "images": len(paths)}


def _right(folder: RunFolder) -> dict[str, bool]:
    """By path: whether the run's model had the validation image right."""
    with np.load(folder.answers / "val.npz", allow_pickle=False) as answers:
        right_N = answers["probabilities"].argmax(axis=1) == answers["target"]
        return dict(zip(answers["paths"].tolist(), right_N.tolist(), strict=True))


def _conclusion(gain: Mapping[str, Any] | None) -> str:
    if gain is None:
        return "The two were scored on different validation images: their scores cannot be compared image by image."
    points = f"{100 * gain['value']:+.1f} points ({100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})"
    beyond = gain["p"] < CHANCE and (gain["low"] > 0 or gain["high"] < 0)
    judged = "beyond chance for these two trainings" if beyond else "no evidence of a difference"
    return (
        f"b − a on the same {gain['images']:,} images: {points}, p = {gain['p']:.3f} (exact McNemar): {judged}. "
        "Another seed moves both scores too."
    )


def _result(folder: RunFolder) -> dict[str, Any]:
    result = folder.result()
    if result is None:
        raise RunError(
            "has not finished.", where=folder.run_id, cure=f"Go on with 'trainwright resume {folder.run_id}'."
        )
    return result


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat
