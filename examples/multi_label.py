"""A task of one's own in one file: several yes-or-no labels an image. Here: which digits does a picture of two show?

    python examples/multi_label.py

Importing this file registers a task by name; everything else of trainwright then works with it: recipes, losses, run folders,
learning curves with error bars, diagnosis. A package registers its own through the entry-point group `trainwright.plugins`, so
that the command line knows it too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

import trainwright as tw
from trainwright.plugins import tasks
from trainwright.records import Answers, BarsChart, Chart, OutputForm, Scores, TargetInfo, TargetKind, Tile
from trainwright.seeding import stream

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@tasks.register("multi-label")
class MultiLabel:
    """Several yes-or-no labels an image. Outputs are logits [N, L], targets 0 or 1 [N, L]; the score is macro F1, 0–1."""

    name = "multi-label"
    metric = "macro F1"
    target: TargetKind = "numbers"
    form: OutputForm = "vector"
    losses: tuple[str, ...] = ("binary-cross-entropy", "focal")
    counts_right = False

    def __init__(self, info: TargetInfo, loss: Loss) -> None:
        self.info = info
        self.outputs = len(info.names)
        self._loss = loss

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss [N], tally [N, 3L]): true positives, false positives, false negatives of each label, each 0 or 1."""
        said_NL, true_NL = (outputs.detach() > 0).float(), target.float()
        tally_NQ = torch.cat([said_NL * true_NL, said_NL * (1 - true_NL), (1 - said_NL) * true_NL], dim=1)
        return self._loss(outputs, target), tally_NQ

    def answers(self, outputs: torch.Tensor, target: torch.Tensor | None, rows: np.ndarray) -> Answers:
        """Columns `probabilities` float32 [N, L] and, where known, `target` float32 [N, L] and `loss` float32 [N]."""
        columns = {"probabilities": outputs.float().sigmoid().cpu().numpy()}
        if target is not None:
            columns["target"] = target.cpu().numpy()
            columns["loss"] = self._loss(outputs, target).float().cpu().numpy()
        return Answers(rows=rows, columns=columns)

    def scores(self, answers: Answers) -> Scores:
        """Macro F1, the mean loss, and F1 of each label. per_image is the share of labels that are right."""
        said_NL, true_NL = answers.columns["probabilities"] > 0.5, answers.columns["target"] > 0.5
        tally_NQ = np.concatenate([said_NL & true_NL, said_NL & ~true_NL, ~said_NL & true_NL], axis=1).astype(
            np.float64
        )
        measures = {name: float(value_B[0]) for name, value_B in self.measures(tally_NQ.sum(axis=0)[None]).items()}
        score = measures.pop("score")
        return Scores(
            score=score,
            loss=float(answers.columns["loss"].mean(dtype=np.float64)),
            per_image=(said_NL == true_NL).mean(axis=1),
            tally=tally_NQ,
            per_class={name.removeprefix("class."): value for name, value in measures.items() if not np.isnan(value)},
        )

    def measures(self, tally_BQ: np.ndarray) -> Mapping[str, np.ndarray]:
        """F1 = 2 TP / (2 TP + FP + FN) of each label, nan where nobody has or says it; the score is the mean."""
        true_BL, wrong_BL, missed_BL = np.split(tally_BQ.astype(np.float64), 3, axis=1)
        seen_BL = 2 * true_BL + wrong_BL + missed_BL
        f1_BL = np.divide(2 * true_BL, seen_BL, out=np.full_like(seen_BL, np.nan), where=seen_BL > 0)
        known_B = (seen_BL > 0).sum(axis=1)
        score_B = np.divide(np.nansum(f1_BL, axis=1), known_B, out=np.full(len(known_B), np.nan), where=known_B > 0)
        return {"score": score_B} | {f"class.{name}": f1_BL[:, index] for index, name in enumerate(self.info.names)}

    def say(self, answers: Answers) -> list[dict[str, Any]]:
        """`labels` that are said, and the `probabilities` of all."""
        return [
            {"labels": self._labels(p_L > 0.5), "probabilities": dict(zip(self.info.names, p_L.tolist(), strict=True))}
            for p_L in answers.columns["probabilities"]
        ]

    def tiles(self, answers: Answers, images_NHWC: np.ndarray) -> list[Tile]:
        """The labels that are said and, where they are wrong, those that are true."""
        said_NL, target_NL = answers.columns["probabilities"] > 0.5, answers.columns.get("target")
        tiles = []
        for n, image_HWC in enumerate(images_NHWC):
            title, good = ", ".join(self._labels(said_NL[n])) or "none", None
            if target_NL is not None:
                good = bool((said_NL[n] == (target_NL[n] > 0.5)).all())
                title += "" if good else f"\nis {', '.join(self._labels(target_NL[n] > 0.5)) or 'none'}"
            tiles.append(Tile(image_HWC=image_HWC, title=title, good=good))
        return tiles

    def charts(self, answers: Answers) -> list[Chart]:
        """F1 of each label."""
        return [BarsChart(name="labels", values=self.scores(answers).per_class, label="F1")]

    def _labels(self, chosen_L: np.ndarray) -> list[str]:
        return [name for name, chosen in zip(self.info.names, chosen_L, strict=True) if chosen]


def two_digits() -> tw.Dataset:
    """898 pictures of two handwritten digits, grey, 16×32; which of the ten digits is there, as ten numbers of 0 or 1."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = stream(0, "pairs").permutation(len(digits.target))
    left_N, right_N = (
        order[: len(order) // 2],
        order[len(order) // 2 :][: len(order) // 2],
    )  # each digit in one picture only
    grey_NHW = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    pairs_NHW = np.concatenate([grey_NHW[left_N], grey_NHW[right_N]], axis=2).repeat(2, axis=1).repeat(2, axis=2)
    present_NL = np.eye(10)[digits.target[left_N]].astype(bool) | np.eye(10)[digits.target[right_N]].astype(bool)
    names = [str(digit) for digit in range(10)]
    return tw.Dataset.from_arrays(pairs_NHW, present_NL.astype(np.float64), task="multi-label", classes=names)


def main(epochs: int, **options: Any) -> None:
    """options: how the run is carried out, fields of `tw.RunOptions`."""
    changes = {"epochs": epochs, "batch_size": 16, "data.image_size": [16, 32], "augment.flip": 0.0}
    run = tw.train(two_digits(), "scratch-default", changes=changes, name="two digits", **options)
    print(f"{run.id}: macro F1 train {run.score['train']:.3f}, val {run.score['val']:.3f}")
    print(f"gap {run.gap.value:.3f} [{run.gap.low:.3f}, {run.gap.high:.3f}]: {run.verdict}")


if __name__ == "__main__":
    main(epochs=int(sys.argv[1]) if sys.argv[1:] else 15)
