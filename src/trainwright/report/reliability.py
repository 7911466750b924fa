"""How sure answers were beside how often they were right: the bins of a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainwright.diagnosis.calibration import BIN_IMAGES, BINS
from trainwright.diagnosis.stats import wilson
from trainwright.records import Interval


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images of about the same confidence. sure: their mean probability of the answer. right: the share of right answers."""

    sure: float
    right: Interval
    images: int


def reliability_bins(probabilities_NK: np.ndarray, target_N: np.ndarray) -> tuple[Bin, ...]:
    """Bins of equally many images, the least sure first: those of `calibration_error`, at most BINS of at least BIN_IMAGES.

    A reliability diagram: Guo et al., arXiv:1706.04599 §2; bins of equally many images: Roelofs et al., arXiv:2012.08668.
    probabilities_NK: 0–1. target_N: class indices. Empty for no images.
    """
    if not len(target_N):
        return ()
    sure_N = probabilities_NK.max(axis=1).astype(np.float64)
    right_N = (probabilities_NK.argmax(axis=1) == target_N).astype(np.float64)
    order = np.argsort(sure_N, kind="stable")
    return tuple(
        Bin(sure=float(sure_N[part].mean()), right=wilson(float(right_N[part].sum()), len(part)), images=len(part))
        for part in np.array_split(order, max(1, min(BINS, len(order) // BIN_IMAGES)))
    )
