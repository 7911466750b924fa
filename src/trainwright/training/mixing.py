"""Mixtures of training images: mixup and CutMix, drawn from a random stream of their own."""

from __future__ import annotations

from collections.abc import Callable

from trainwright.batch import Batch
from trainwright.recipe import AugmentSpec
from trainwright.records import TargetKind


def mixing(spec: AugmentSpec, *, kind: TargetKind, seed: int) -> Callable[[Batch, int], Batch] | None:
    """(batch, step) → the batch mixed as `spec` says, a pure function of (seed, step); None where nothing is to be mixed.

    kind: of the targets. Raises RecipeError where such targets cannot be mixed so.
    """
    return None
