"""`Batch`, what one training step sees, and the letters that name tensor axes.

N image in the batch · C channel · H height · W width · K class · S row of the dataset's sample table.
A tensor's name ends in its axes: `images_NCHW`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images with their targets.

    images_NCHW: uint8 0–255 RGB (channels-last memory) or float. target: first axis N, as the task defines it.
    rows_N: int64, each image's row in the dataset's sample table.
    """

    images_NCHW: torch.Tensor
    target: torch.Tensor
    rows_N: np.ndarray

    def __len__(self) -> int:
        return int(self.images_NCHW.shape[0])

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`: the one place where tensors move. Pinned memory moves without waiting."""
        return replace(
            self,
            images_NCHW=self.images_NCHW.to(device, non_blocking=True),
            target=self.target.to(device, non_blocking=True),
        )

    def split(self, size: int) -> list[Batch]:
        """The batch as consecutive parts of at most `size` images, without copying."""
        return [
            Batch(
                images_NCHW=self.images_NCHW[start : start + size],
                target=self.target[start : start + size],
                rows_N=self.rows_N[start : start + size],
            )
            for start in range(0, len(self), size)
        ]
