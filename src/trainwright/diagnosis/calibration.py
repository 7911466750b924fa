"""How honest probabilities are: confidence beside accuracy, and what one temperature would make of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from trainwright.diagnosis.stats import bootstrap_mean
from trainwright.records import Interval
from trainwright.seeding import stream

BINS = 15  # Guo et al., arXiv:1706.04599 §5
BIN_IMAGES = 20  # a bin of fewer has an accuracy of ±20 points
LEAST_IMAGES = 40
DRAWS = 200
TEMPERATURES = (0.05, 20.0)
SMALLEST = float(np.finfo(np.float32).tiny)  # a float32 softmax can be exactly 0


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How honest the probabilities of unseen images are.

    excess: mean probability of the answer minus the share of right answers; above 0 too sure, below 0 too modest. error: the
    expected calibration error; error_by_chance: what it would be on as many images if the probabilities were true.
    temperature: by which logits are best divided; above 1 where they are too sure. gain: by how much that lowers the
    cross-entropy in nats, on images that it was not fitted on.
    """

    excess: Interval
    error: float
    error_by_chance: float
    temperature: float
    gain: Interval


def calibration(
    probabilities_NK: np.ndarray, target_N: np.ndarray, *, groups: np.ndarray | None = None
) -> Calibration | None:
    """How honest the probabilities are; None for fewer than LEAST_IMAGES images or groups, or a single class.

    groups: [N], images that are not independent of each other share a value; they are never in the fit and the judgement of
    the temperature at once. Expected calibration error and temperature: Guo et al., arXiv:1706.04599 §2 and §4.2; bins of
    equally many images, and its value by chance beside it, because it is biased upwards: Roelofs et al., arXiv:2012.08668.
    """
    units = np.arange(len(target_N)) if groups is None else np.unique(groups, return_inverse=True)[1]
    if len(np.unique(units)) < LEAST_IMAGES or probabilities_NK.shape[1] < 2:
        return None
    logs = np.log(np.maximum(probabilities_NK, SMALLEST).astype(np.float64))
    sure = np.exp(logs.max(axis=1))
    right = (probabilities_NK.argmax(axis=1) == target_N).astype(np.float64)
    half = stream(0, "temperature-halves").permutation(int(units.max()) + 1)[units] % 2
    gains = np.empty(len(target_N))
    for fitted in (0, 1):
        judged = half != fitted
        temperature = fit_temperature(logs[~judged], target_N[~judged])
        gains[judged] = _losses(logs[judged], target_N[judged], 1.0) - _losses(
            logs[judged], target_N[judged], temperature
        )
    rng = stream(0, "calibration-by-chance")
    by_chance = [calibration_error(sure, rng.random(len(sure)) < sure) for _ in range(DRAWS)]
    return Calibration(
        excess=bootstrap_mean(sure - right, groups),
        error=calibration_error(sure, right),
        error_by_chance=float(np.mean(by_chance)),
        temperature=fit_temperature(logs, target_N),
        gain=bootstrap_mean(gains, groups),
    )


def calibration_error(sure_N: np.ndarray, right_N: np.ndarray) -> float:
    """Expected calibration error: the mean distance of confidence and accuracy over bins of equally many images."""
    order = np.argsort(sure_N, kind="stable")
    distance = (sure_N - right_N)[order]
    parts = np.array_split(distance, max(1, min(BINS, len(distance) // BIN_IMAGES)))
    return float(sum(abs(part.sum()) for part in parts) / len(distance))


def fit_temperature(logs_NK: np.ndarray, target_N: np.ndarray) -> float:
    """The temperature with the least cross-entropy. logs_NK: log-probabilities, or logits."""
    low, high = np.log(TEMPERATURES)
    found = optimize.minimize_scalar(
        lambda log: float(_losses(logs_NK, target_N, float(np.exp(log))).mean()), bounds=(low, high), method="bounded"
    )
    return float(np.exp(found.x))


def _losses(logs_NK: np.ndarray, target_N: np.ndarray, temperature: float) -> np.ndarray:
    scaled = logs_NK / temperature
    losses: np.ndarray = special.logsumexp(scaled, axis=1) - scaled[np.arange(len(target_N)), target_N]
    return losses
