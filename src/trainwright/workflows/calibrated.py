"""Probabilities made honest: the temperature that a run's diagnosis found, and what answers are with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainwright.errors import GoalNotMetError, UsageError
from trainwright.plugins import Task
from trainwright.records import Answers


def found_temperature(result: Mapping[str, Any], task: Task) -> float:
    """What logits are best divided by, where the diagnosis found that it surely lowers the loss of images that it was not fitted
    on. Raises UsageError for another task, GoalNotMetError where the diagnosis found nothing, or cannot tell."""
    if task.name != "classification":
        raise UsageError(
            f"{task.name} has no probabilities of classes to calibrate.", where="calibrated", cure="Leave it out."
        )
    of_rule = {finding["rule"]: finding["figures"] for finding in result["findings"]}
    figures = of_rule.get("over-confident", {})
    if figures.get("temperature") is None:
        raise GoalNotMetError(
            "the run's diagnosis found no temperature to divide logits by.",
            where="calibrated",
            cure="It needs at least 40 validation images: 'trainwright diagnose'. Or leave it out.",
        )
    temperature, least_gain = float(figures["temperature"]), figures.get("temperature_gain_low")
    if least_gain is None or not least_gain > 0:
        raise GoalNotMetError(
            f"it is not sure that any temperature makes the probabilities better; the best one found is {temperature:.2f}.",
            where="calibrated",
            cure="Leave it out: the probabilities are used as they are. More validation images would tell.",
        )
    return temperature


def tempered(answers: Answers, temperature: float) -> Answers:
    """With probabilities as they are once their logits were divided by the temperature."""
    if temperature == 1:
        return answers
    powers_NK = answers.columns["probabilities"].astype(np.float64) ** (1 / temperature)
    probabilities_NK = (powers_NK / powers_NK.sum(axis=1, keepdims=True)).astype(np.float32)
    return Answers(rows=answers.rows, columns={**answers.columns, "probabilities": probabilities_NK})
