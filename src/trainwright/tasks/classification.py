"""Image classification: one class an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from trainwright.plugins import tasks
from trainwright.records import Answers, Scores


@tasks.register("classification")
class Classification:
    """One class an image. Outputs are logits [N, K], targets class indices [N]; the score is accuracy, 0–1."""

    name = "classification"
    metric = "accuracy"

    def __init__(self, classes: Sequence[str], loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.classes = tuple(classes)
        self.outputs = len(self.classes)
        self._loss = loss

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss, right), each float [N]: right is 1 where the most probable class is the target."""
        return self._loss(outputs, target), (outputs.detach().argmax(dim=1) == target).float()

    def answers(self, outputs: torch.Tensor, target: torch.Tensor | None, rows: np.ndarray) -> Answers:
        """Columns `probabilities` float32 [N, K] and, where known, `target` int64 [N]."""
        columns = {"probabilities": functional.softmax(outputs.float(), dim=1).cpu().numpy()}
        if target is not None:
            columns["target"] = target.cpu().numpy()
        return Answers(rows=rows, columns=columns)

    def scores(self, answers: Answers) -> Scores:
        """Accuracy, plain cross-entropy in nats (without label smoothing) and the accuracy within each class."""
        probabilities_NK, target_N = answers.columns["probabilities"], answers.columns["target"]
        right_N = (probabilities_NK.argmax(axis=1) == target_N).astype(np.float64)
        of_target_N = probabilities_NK[np.arange(len(target_N)), target_N].astype(np.float64)
        smallest = np.finfo(np.float32).tiny  # a float32 softmax can be exactly 0
        return Scores(
            score=float(right_N.mean()),
            loss=float(-np.log(np.maximum(of_target_N, smallest)).mean()),
            per_image=right_N,
            per_class={
                name: float(right_N[target_N == k].mean())
                for k, name in enumerate(self.classes)
                if (target_N == k).any()
            },
        )
