"""Shapes that the unseen error has as a function of the number of train images, fitted to a few points of it.

Every family is e(x) = a · g(x; s) + c with a ≥ 0 and g falling in x, the number of images over the largest number at hand. Given
the shape s, a and c are a linear fit in closed form, and s comes from a grid: a fit of four points cannot get lost on its way.

Power law, logarithm and arctangent are families that Mahmood et al., arXiv:2207.01725, compare; amplitude and offset are free
here. The exponential is the other shape that learning curves are found to have (Viering and Loog, arXiv:2103.10948).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

SHAPES = 16  # of a grid; twice as many move no interval of a simulated curve by a tenth of its width


@dataclass(frozen=True, kw_only=True)
class Family:
    """g(x; s) of one family. shapes: the grid of s. bounded: g falls to 0, so c is the error that always stays."""

    name: str
    shape: Callable[[np.ndarray, float], np.ndarray]
    shapes: np.ndarray = field(repr=False)
    bounded: bool = True

    def at(self, x: float) -> np.ndarray:
        """[K]: g(x; s) of every shape."""
        return np.array([float(self.shape(np.array([x]), s)[0]) for s in self.shapes])


# From shapes that still fall steeply at the last point to shapes that have long been flat there. A power law of learning falls
# with n^(-1/2) or n^-1 where its theory is known (Hutter, arXiv:2102.04074), so not faster; below 0.05 it is a logarithm.
FAMILIES = (
    Family(name="power", shape=lambda x, s: x**-s, shapes=np.geomspace(0.05, 1.0, SHAPES)),
    Family(name="exponential", shape=lambda x, s: np.exp(-s * x), shapes=np.geomspace(0.5, 12.0, SHAPES)),
    Family(
        name="logarithmic",
        shape=lambda x, s: -np.log(x + s),
        shapes=np.array([0.0, *np.geomspace(0.01, 1.0, SHAPES - 1)]),
        bounded=False,
    ),
    Family(name="arctangent", shape=lambda x, s: np.pi / 2 - np.arctan(s * x), shapes=np.geomspace(0.5, 50.0, SHAPES)),
)


@dataclass(frozen=True, kw_only=True)
class Fits:
    """Every shape of one family fitted to every draw of the points.

    slopes_BK, offsets_BK: a and c. chi_BK: squared misfit in units of the points' own noise.
    """

    family: Family
    slopes_BK: np.ndarray = field(repr=False)
    offsets_BK: np.ndarray = field(repr=False)
    chi_BK: np.ndarray = field(repr=False)

    def errors(self, x: float) -> np.ndarray:
        """[B, K]: the error at x, never below 0."""
        errors_BK: np.ndarray = np.maximum(0.0, self.slopes_BK * self.family.at(x) + self.offsets_BK)
        return errors_BK


def fit(family: Family, x_S: np.ndarray, errors_BS: np.ndarray, noise_S: np.ndarray) -> Fits:
    """Weighted least squares of each row of `errors_BS` for each shape, with a ≥ 0, and c ≥ 0 where the family has a floor.

    x_S: positions of the points. noise_S: standard deviation of each, above 0.
    """
    weights_S = 1 / noise_S**2
    total = weights_S.sum()
    middle_B = errors_BS @ weights_S / total
    found = [_fit_shape(family.shape(x_S, s), family.bounded, errors_BS, weights_S, middle_B) for s in family.shapes]
    slopes_BK, offsets_BK, chi_BK = (np.stack(part, axis=1) for part in zip(*found, strict=True))
    return Fits(family=family, slopes_BK=slopes_BK, offsets_BK=offsets_BK, chi_BK=chi_BK)


def _fit_shape(
    g_S: np.ndarray, bounded: bool, errors_BS: np.ndarray, weights_S: np.ndarray, middle_B: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(a, c, misfit), each [B], for one shape."""
    centred_S = g_S - g_S @ weights_S / weights_S.sum()
    slope_B = errors_BS @ (weights_S * centred_S) / (weights_S @ centred_S**2)
    slope_B = np.maximum(0.0, slope_B)  # more images do no harm: a curve that rises is flat and its noise
    offset_B = middle_B - slope_B * (g_S @ weights_S / weights_S.sum())
    if bounded:
        below_B = offset_B < 0
        through_zero_B = errors_BS @ (weights_S * g_S) / (weights_S @ g_S**2)
        slope_B = np.where(below_B, np.maximum(0.0, through_zero_B), slope_B)
        offset_B = np.maximum(0.0, offset_B)
    missed_BS = errors_BS - slope_B[:, None] * g_S - offset_B[:, None]
    return slope_B, offset_B, (missed_BS**2) @ weights_S
