"""A Gaussian process over (recipe, epoch): what the beginnings of many learning curves say about their ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

# Choices of ours, for targets whose better half spans about 1 and times from 0 (epoch 1) to 1 (the last one).
EPOCH_LENGTH = 0.45  # of what curves have in common
CURVE_LENGTH = 0.6  # of what one curve does by itself
LASTING = 0.25  # share of a recipe's merit that is the same at every epoch
LEVEL = 20.0  # deviation of the unknown level: as good as any
JITTER = 1e-6
LENGTH_CENTRE, LENGTH_WIDTH = 0.6, 0.8  # of the lengths' prior: median, and deviation of the logarithm
CENTRES = np.array([1.0, 0.5, 0.3, 0.6, 0.05])  # the same of recipe, trend, curve, epoch, noise
WIDTHS = np.array([0.8, 0.8, 0.7, 0.8, 0.5])
STEPS = 25  # of the quasi-Newton search


@dataclass(frozen=True, kw_only=True)
class Points:
    """Where curves are looked at. places_NF: features of the recipes. curves_N: which training. times_N: 0–1, log epochs."""

    places_NF: np.ndarray
    curves_N: np.ndarray
    times_N: np.ndarray

    def __len__(self) -> int:
        return len(self.times_N)

    def at(self, rows: np.ndarray) -> Points:
        return Points(places_NF=self.places_NF[rows], curves_N=self.curves_N[rows], times_N=self.times_N[rows])

    def __add__(self, other: Points) -> Points:
        return Points(
            places_NF=np.concatenate([self.places_NF, other.places_NF]),
            curves_N=np.concatenate([self.curves_N, other.curves_N]),
            times_N=np.concatenate([self.times_N, other.times_N]),
        )


@dataclass(frozen=True, kw_only=True)
class Scales:
    """What the process is made of. lengths_F: distances over which recipes are alike. The others are standard deviations: of
    what recipes are worth, of its linear part, of what one curve does by itself, of what all curves do, of an observation."""

    lengths_F: np.ndarray
    recipe: float
    trend: float
    curve: float
    epoch: float
    noise: float


def usual(groups_F: np.ndarray) -> Scales:
    """The prior's medians. groups_F: which dimension each feature belongs to."""
    recipe, trend, curve, epoch, noise = map(float, CENTRES)
    lengths_F = np.full(len(groups_F), LENGTH_CENTRE)
    return Scales(lengths_F=lengths_F, recipe=recipe, trend=trend, curve=curve, epoch=epoch, noise=noise)


def tuned(points: Points, targets_N: np.ndarray, groups_F: np.ndarray) -> Scales:
    """The scales of highest posterior density: marginal likelihood times prior (Rasmussen & Williams, chapter 5)."""
    dimensions = int(groups_F.max()) + 1 if len(groups_F) else 0
    centres = np.log(np.concatenate([np.full(dimensions, LENGTH_CENTRE), CENTRES]))
    widths = np.concatenate([np.full(dimensions, LENGTH_WIDTH), WIDTHS])
    shared = _Shared(points)

    def loss(logs: np.ndarray) -> tuple[float, np.ndarray]:
        value, slopes = shared.evidence(targets_N, logs, groups_F)
        away = (logs - centres) / widths
        return -value + 0.5 * float(away @ away), -slopes + away / widths

    bounds = list(zip(centres - 3 * widths, centres + 3 * widths, strict=True))
    found = minimize(loss, centres, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    values = np.exp(found.x)
    recipe, trend, curve, epoch, noise = map(float, values[dimensions:])
    return Scales(
        lengths_F=values[:dimensions][groups_F], recipe=recipe, trend=trend, curve=curve, epoch=epoch, noise=noise
    )


class CurveProcess:
    """A recipe's merit, smooth in its places and in log epochs, a trend, what all curves do, and a term for each curve.

    That a paused training is predicted from its own curve as well as from its neighbours is the idea of Swersky et al.,
    arXiv:1406.3896; the kernel over log epochs is ours.
    """

    def __init__(self, points: Points, targets_N: np.ndarray, scales: Scales) -> None:
        self._points, self._scales = points, scales
        covariance_NN = _covariance(points, points, scales)
        covariance_NN[np.diag_indices(len(points))] += scales.noise**2 + JITTER
        self._lower_NN = cholesky(covariance_NN, lower=True, check_finite=False)
        self._weights_N = cho_solve((self._lower_NN, True), targets_N, check_finite=False)

    def predict(self, points: Points) -> tuple[np.ndarray, np.ndarray]:
        """(mean [M], standard deviation [M]) of the noiseless curves at these points."""
        cross_NM = _covariance(self._points, points, self._scales)
        solved_NM = solve_triangular(self._lower_NN, cross_NM, lower=True, check_finite=False)
        variance_M = _variance(points, self._scales) - np.einsum("nm,nm->m", solved_NM, solved_NM)
        return cross_NM.T @ self._weights_N, np.sqrt(np.maximum(variance_M, JITTER))


def matern(distances: np.ndarray) -> np.ndarray:
    """Matérn 5/2 of scaled distances, any shape: Rasmussen & Williams, equation 4.17."""
    far = math.sqrt(5) * distances
    return np.asarray((1 + far + far * far / 3) * np.exp(-far))


def distances(one_NF: np.ndarray, other_MF: np.ndarray) -> np.ndarray:
    """Euclidean [N, M]."""
    squares = (one_NF**2).sum(1)[:, None] + (other_MF**2).sum(1) - 2 * one_NF @ other_MF.T
    return np.asarray(np.sqrt(np.maximum(squares, 1e-12)))


def _of_epochs(one: Points, other: Points) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * ((one.times_N[:, None] - other.times_N) / EPOCH_LENGTH) ** 2))


def _of_curves(one: Points, other: Points) -> np.ndarray:
    same_NM = one.curves_N[:, None] == other.curves_N
    return np.where(same_NM, np.exp(-np.abs(one.times_N[:, None] - other.times_N) / CURVE_LENGTH), 0.0)


def _trend(one: Points, other: Points) -> np.ndarray:
    return np.asarray(4 * (one.places_NF - 0.5) @ (other.places_NF - 0.5).T / max(1, one.places_NF.shape[1]))


def _covariance(one: Points, other: Points, scales: Scales) -> np.ndarray:
    epochs_NM = _of_epochs(one, other)
    alike_NM = matern(distances(one.places_NF / scales.lengths_F, other.places_NF / scales.lengths_F))
    recipes_NM = scales.recipe**2 * alike_NM + scales.trend**2 * _trend(one, other)
    together_NM = recipes_NM * (LASTING + (1 - LASTING) * epochs_NM) + scales.epoch**2 * epochs_NM
    return np.asarray(together_NM + scales.curve**2 * _of_curves(one, other) + LEVEL**2)


def _variance(points: Points, scales: Scales) -> np.ndarray:
    trend_N = 4 * ((points.places_NF - 0.5) ** 2).sum(1) / max(1, points.places_NF.shape[1])
    of_all = scales.recipe**2 + scales.epoch**2 + scales.curve**2 + LEVEL**2
    return np.asarray(of_all + scales.trend**2 * trend_N)


class _Shared:
    """What of the covariance does not depend on the scales, for many evaluations of the evidence."""

    def __init__(self, points: Points) -> None:
        self._places_NF = points.places_NF
        self._epochs_NN = _of_epochs(points, points)
        self._lasting_NN = LASTING + (1 - LASTING) * self._epochs_NN
        self._trend_NN = _trend(points, points) * self._lasting_NN
        self._curves_NN = _of_curves(points, points)

    def evidence(self, targets_N: np.ndarray, logs: np.ndarray, groups_F: np.ndarray) -> tuple[float, np.ndarray]:
        """(log marginal likelihood up to a constant, its slopes by the logarithms of the scales). logs: lengths of the
        dimensions, then recipe, trend, curve, epoch, noise."""
        dimensions, count = len(logs) - len(CENTRES), len(targets_N)
        values = np.exp(logs)
        squares = values[dimensions:] ** 2
        scaled_NF = self._places_NF / values[:dimensions][groups_F]
        apart_NN = distances(scaled_NF, scaled_NF)
        far_NN = math.sqrt(5) * apart_NN
        falling_NN = np.exp(-far_NN)
        recipes_NN = (1 + far_NN + far_NN * far_NN / 3) * falling_NN * self._lasting_NN
        parts = [
            squares[0] * recipes_NN,
            squares[1] * self._trend_NN,
            squares[2] * self._curves_NN,
            squares[3] * self._epochs_NN,
            (squares[4] + JITTER) * np.eye(count),
        ]
        lower_NN = cholesky(sum(parts) + LEVEL**2, lower=True, check_finite=False)
        inverse_NN = cho_solve((lower_NN, True), np.eye(count), check_finite=False)
        weights_N = inverse_NN @ targets_N
        value = -0.5 * float(targets_N @ weights_N) - float(np.log(np.diag(lower_NN)).sum())
        # Rasmussen & Williams, equation 5.9: half the trace of (w wᵀ − K⁻¹) dK.
        pull_NN = np.outer(weights_N, weights_N) - inverse_NN
        of_squares = [float((pull_NN * part).sum()) for part in parts]
        bend_NN = pull_NN * self._lasting_NN * (1 + far_NN) * falling_NN * (squares[0] * 5 / 3)
        rows_N = bend_NN.sum(1)
        of_features_F = (scaled_NF**2).T @ rows_N - np.einsum("nf,nf->f", scaled_NF, bend_NN @ scaled_NF)
        of_lengths = np.bincount(groups_F, weights=of_features_F, minlength=dimensions)
        return value, np.concatenate([of_lengths, of_squares])
