"""How often the gap's 95 % interval holds the true gap, on runs whose truth is known. Figures go to docs/log.md."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from trainwright.diagnosis.gap import cross_fitted_gap, gap

EPOCHS = 20


def latent(rng: np.random.Generator, n: int, own_share: float, memory: float) -> np.ndarray:
    """[EPOCHS, n] standard normal: a part that stays with the image, and a part of the epoch's own (autoregressive)."""
    stays = rng.standard_normal(n)
    own = rng.standard_normal((EPOCHS, n))
    for epoch in range(1, EPOCHS):
        own[epoch] = memory * own[epoch - 1] + np.sqrt(1 - memory**2) * own[epoch]
    return np.sqrt(1 - own_share) * stays + np.sqrt(own_share) * own


def covers(rng: np.random.Generator, *, n: int, skill: float, wobble: float, memorized: float) -> bool:
    """One simulated run: accuracy rises to a plateau and wobbles; the best val epoch is kept; is its true gap inside?"""
    skill_E = skill - 1.2 * np.exp(-np.arange(EPOCHS) / 3.5) + wobble * rng.standard_normal(EPOCHS)
    val = skill_E[:, None] + latent(rng, n, 0.3, 0.8) > 0
    train = skill_E[:, None] + memorized + latent(rng, 4 * n, 0.3, 0.8) > 0
    kept = int(val.mean(axis=1).argmax())
    true_gap = (1 - ndtr(skill_E[kept])) - (1 - train[kept].mean())
    interval = cross_fitted_gap(train[:, :n], val, train_total=4 * n).interval
    return bool(interval.low <= true_gap <= interval.high)


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 600, 2000])
@pytest.mark.parametrize(
    ("skill", "wobble", "memorized"), [(1.0, 0.05, 1.0), (1.0, 0.1, 2.5), (0.3, 0.03, 0.5), (1.0, 0.05, 0.0)]
)
def test_the_cross_fitted_interval_covers_the_kept_checkpoints_gap(
    n: int, skill: float, wobble: float, memorized: float
) -> None:
    rng = np.random.default_rng(n)
    runs = 1000 if n < 1000 else 400

    hits = [covers(rng, n=n, skill=skill, wobble=wobble, memorized=memorized) for _ in range(runs)]

    allowance = 2 * np.sqrt(0.05 * 0.95 / runs)
    assert 0.93 - allowance / 2 <= np.mean(hits) <= 0.97 + allowance / 2


@pytest.mark.parametrize("n", [200, 500, 2000])
@pytest.mark.parametrize(("val_error", "train_error"), [(0.1, 0.0), (0.1, 0.01), (0.25, 0.02), (0.05, 0.05)])
def test_the_interval_covers_the_true_gap_of_an_unchosen_checkpoint(
    n: int, val_error: float, train_error: float
) -> None:
    rng = np.random.default_rng(n)

    intervals = [gap(rng.random(n) >= train_error, rng.random(n) >= val_error).interval for _ in range(1500)]

    covered = np.mean([interval.low <= val_error - train_error <= interval.high for interval in intervals])
    assert 0.93 <= covered <= 0.98
