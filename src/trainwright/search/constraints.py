"""What is known of recipes beside their scores: whether they diverge, and how long their epochs take."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.special import log_ndtr

from trainwright.search.curve_process import distances, matern
from trainwright.search.history import Trial

# Choices of ours, on the unit cube.
LENGTH = 0.4  # distance over which recipes are alike
FIRM = 0.1  # deviation of one observation
TRUST = 1.0  # deviations by which an unknown recipe is taken to be one that can be trained: in 84 % of the cases
EVEN = 0.1  # deviation of the logarithm of seconds; where recipes differ by less, their cost is no matter
JITTER = 1e-6


class Nearness:
    """A Gaussian process with fixed scales: what recipes near to these are like. places_NF: their features."""

    def __init__(self, places_NF: np.ndarray, targets_N: np.ndarray, *, size: float) -> None:
        self._places_NF, self._size = places_NF / LENGTH, size
        covariance_NN = size**2 * matern(distances(self._places_NF, self._places_NF))
        covariance_NN[np.diag_indices(len(targets_N))] += (FIRM * size) ** 2
        self._lower_NN = cholesky(covariance_NN, lower=True, check_finite=False)
        self._weights_N = cho_solve((self._lower_NN, True), targets_N, check_finite=False)

    def predict(self, places_MF: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(mean [M], standard deviation [M])."""
        cross_NM = self._size**2 * matern(distances(self._places_NF, places_MF / LENGTH))
        solved_NM = solve_triangular(self._lower_NN, cross_NM, lower=True, check_finite=False)
        variance_M = self._size**2 - np.einsum("nm,nm->m", solved_NM, solved_NM)
        return cross_NM.T @ self._weights_N, np.sqrt(np.maximum(variance_M, JITTER))


class Constraints:
    """Of the trials that were told. place_of: features [F] by number of the trial."""

    def __init__(self, trials: Iterable[Trial], place_of: dict[int, np.ndarray], *, end: int) -> None:
        told = [trial for trial in trials if trial.tolds and trial.state != "failed"]
        self._feasible = self._pace = None
        if any(trial.state == "diverged" for trial in told):
            # Labels fitted as numbers: Rasmussen & Williams, section 6.5.
            labels = np.array([-1.0 if trial.state == "diverged" else 1.0 for trial in told])
            places_NF = np.array([place_of[trial.number] for trial in told])
            self._feasible = Nearness(places_NF, labels - TRUST, size=1.0)
        paces = {trial.number: pace for trial in told if (pace := _seconds_an_epoch(trial, end)) > 0}
        logs = np.log(list(paces.values()))
        if len(paces) > 1 and float(logs.std()) > EVEN:
            places_NF = np.array([place_of[number] for number in paces])
            self._pace = Nearness(places_NF, logs - logs.mean(), size=float(logs.std()))

    def log_feasible(self, places_MF: np.ndarray) -> np.ndarray:
        """Logarithm of the probability that a training does not diverge [M]; 0 as long as none has."""
        if self._feasible is None:
            return np.zeros(len(places_MF))
        mean_M, deviation_M = self._feasible.predict(places_MF)
        return np.asarray(log_ndtr((mean_M + TRUST) / deviation_M))

    def log_pace(self, places_MF: np.ndarray) -> np.ndarray:
        """Logarithm of the seconds of an epoch, over those of a usual one [M]; 0 where all take about the same."""
        return np.zeros(len(places_MF)) if self._pace is None else self._pace.predict(places_MF)[0]


def _seconds_an_epoch(trial: Trial, end: int) -> float:
    """0 where it is not known."""
    if trial.state == "diverged":  # somewhere in its last piece
        return 0.0
    done = trial.epochs or (end if trial.epochs is None else 0)
    return trial.seconds / done if done and math.isfinite(trial.seconds) else 0.0
