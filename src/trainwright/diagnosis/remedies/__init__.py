"""The remedies from the literature, as changes of recipe. What is prescribed, and in which order, is `diagnosis/prescribe.py`."""

from __future__ import annotations

from trainwright.diagnosis.remedies import augmentation, capacity, data, optimization, package, regularization
from trainwright.diagnosis.remedies.case import Remedy

REMEDIES: tuple[Remedy, ...] = (
    *package.REMEDIES,
    *augmentation.REMEDIES,
    *regularization.REMEDIES,
    *optimization.REMEDIES,
    *capacity.REMEDIES,
    *data.REMEDIES,
)
BY_NAME = {remedy.name: remedy for remedy in REMEDIES}
