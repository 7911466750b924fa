"""Image classification: one class an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from trainwright.plugins import tasks
from trainwright.records import Answers, Chart, ConfusionChart, OutputForm, Scores, TargetInfo, TargetKind, Tile


@tasks.register("classification")
class Classification:
    """One class an image. Outputs are logits [N, K], targets class indices [N]; the score is accuracy, 0–1."""

    name = "classification"
    metric = "accuracy"
    target: TargetKind = "class"
    form: OutputForm = "vector"
    losses: tuple[str, ...] = ("cross-entropy", "binary-cross-entropy", "focal")
    counts_right = True

    def __init__(self, info: TargetInfo, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.info = info
        self.outputs = len(info.names)
        self._loss = loss

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss [N], tally [N, 2]): right (1 where the most probable class is the target) and 1."""
        right_N = (outputs.detach().argmax(dim=1) == target).float()
        return self._loss(outputs, target), torch.stack([right_N, torch.ones_like(right_N)], dim=1)

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
        of_class_NK = np.eye(self.outputs)[target_N]
        tally_NQ = np.column_stack([right_N, np.ones_like(right_N), right_N[:, None] * of_class_NK, of_class_NK])
        return Scores(
            score=float(right_N.mean()),
            loss=float(-np.log(np.maximum(of_target_N, smallest)).mean()),
            per_image=right_N,
            tally=tally_NQ,
            per_class={
                name: float(right_N[target_N == k].mean())
                for k, name in enumerate(self.info.names)
                if (target_N == k).any()
            },
        )

    def measures(self, tally_BQ: np.ndarray) -> Mapping[str, np.ndarray]:
        """Accuracy; and, from tallies of an evaluation, the accuracy within each class (nan where it has no image)."""
        found = {"score": tally_BQ[:, 0] / tally_BQ[:, 1]}
        if tally_BQ.shape[1] > 2:
            right_BK, count_BK = np.split(tally_BQ[:, 2:], 2, axis=1)
            of_class_BK = np.divide(right_BK, count_BK, out=np.full_like(right_BK, np.nan), where=count_BK > 0)
            found |= {f"class.{name}": of_class_BK[:, k] for k, name in enumerate(self.info.names)}
        return found

    def say(self, answers: Answers) -> list[dict[str, Any]]:
        """`label`, `probability` and the `probabilities` by class."""
        said = []
        for probabilities_K in answers.columns["probabilities"]:
            best = int(probabilities_K.argmax())
            by_class = {name: float(p) for name, p in zip(self.info.names, probabilities_K, strict=True)}
            said.append(
                {
                    "label": self.info.names[best],
                    "probability": by_class[self.info.names[best]],
                    "probabilities": by_class,
                }
            )
        return said

    def tiles(self, answers: Answers, images_NHWC: np.ndarray) -> list[Tile]:
        """The class with its probability and, where the answer is wrong, what it is."""
        probabilities_NK = answers.columns["probabilities"]
        predicted_N = probabilities_NK.argmax(axis=1)
        target_N = answers.columns.get("target")
        tiles = []
        for n, image_HWC in enumerate(images_NHWC):
            title = f"{self.info.names[predicted_N[n]]} {100 * probabilities_NK[n].max():.0f} %"
            good = None if target_N is None else bool(predicted_N[n] == target_N[n])
            if target_N is not None and not good:
                title += f"\nis {self.info.names[target_N[n]]}"
            tiles.append(Tile(image_HWC=image_HWC, title=title, good=good))
        return tiles

    def charts(self, answers: Answers) -> list[Chart]:
        """The confusion matrix."""
        predicted_N, target_N = answers.columns["probabilities"].argmax(axis=1), answers.columns["target"]
        flat_N = target_N.astype(np.int64) * self.outputs + predicted_N
        matrix_KK = np.bincount(flat_N, minlength=self.outputs**2).reshape(self.outputs, self.outputs)
        return [ConfusionChart(name="confusion", matrix=matrix_KK, classes=self.info.names)]
