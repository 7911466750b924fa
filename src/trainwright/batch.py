"""`Batch`, what one training step sees, and the letters that name tensor axes.

N image in the batch · C channel · H height · W width · K class · S row of the dataset's sample table · T number column ·
M box of an image · Q figure of a tally · B set of images whose tallies are summed.
A tensor's name ends in its axes: `images_NCHW`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Images with their targets.

    images_NCHW: uint8 0–255 RGB (channels-last memory) or float. target, by kind: class int64 [N]; numbers float32 [N, T] in
    their own unit; mask uint8 [N, H, W], 255 is ignored; boxes float32 [N, M, 5] (class, left, top, right, bottom in pixels
    of the image; class -1 fills up).
    rows_N: int64, each image's row in the dataset's sample table.
    partner, share_N: of a batch whose images are mixtures (mixup, CutMix): the target of the image that was mixed in, shaped
    like `target`, and how much of each image is its own, float32 0–1; None where nothing was mixed.
    """

    images_NCHW: torch.Tensor
    target: torch.Tensor
    rows_N: np.ndarray
    partner: torch.Tensor | None = None
    share_N: torch.Tensor | None = None

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
        """The batch as consecutive parts of at most `size` images, as even as can be, without copying.

        Even, because batch norm has no statistics of a last part of one image.
        """
        parts = -(-len(self) // size)
        edges = [len(self) * part // parts for part in range(parts + 1)]
        return [
            Batch(
                images_NCHW=self.images_NCHW[a:b],
                target=self.target[a:b],
                rows_N=self.rows_N[a:b],
                partner=None if self.partner is None else self.partner[a:b],
                share_N=None if self.share_N is None else self.share_N[a:b],
            )
            for a, b in itertools.pairwise(edges)
        ]


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What a detector says of a batch, the surest first; unused places have label -1 and score 0.

    boxes_NM4: float32 (left, top, right, bottom), pixels of its input. scores_NM: float32, 0–1. labels_NM: int64. loss_N:
    float32, its own loss of each image; None where no target was given.
    """

    boxes_NM4: torch.Tensor
    scores_NM: torch.Tensor
    labels_NM: torch.Tensor
    loss_N: torch.Tensor | None = None
