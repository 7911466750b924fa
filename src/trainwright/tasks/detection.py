"""Object detection: a box around each thing, with its class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional

from trainwright.batch import Detections
from trainwright.plugins import tasks
from trainwright.records import Answers, BarsChart, Chart, OutputForm, Scores, TargetInfo, TargetKind, Tile
from trainwright.tasks.average_precision import (
    MAX_ANSWERS,
    Matches,
    average_precision,
    binned_average_precision,
    histogram,
    match,
    mean_of_known,
)

SURE = 0.5  # least score of an answer that F1, precision and recall count
SAID = (
    0.05  # least score that is said: below, detectors answer mostly to fill their places (torchvision drops them too)
)
DRAWN = 0.3  # least score that is drawn: more boxes hide the image
GOOD_F1 = 0.5  # an image's F1 from which its answers are drawn as good ones
LETTERS = 10  # pixels, of the class names in a picture
LEAST_DRAWN = 160  # pixels of the longer side of a picture with boxes
# Okabe and Ito 2008, "Color universal design", told apart with any kind of colour blindness; a box also says its class.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


@tasks.register("detection")
class Detection:
    """Boxes with classes. Outputs are `Detections`, targets boxes [N, M, 5]; the score is mAP 50: the average precision of

    each class where an answer is right if it overlaps a true box by half (COCO, arXiv:1405.0312), averaged over the classes.
    """

    name = "detection"
    metric = "mAP 50"
    target: TargetKind = "boxes"
    form: OutputForm = "boxes"
    losses: tuple[str, ...] = ("own",)
    counts_right = False

    def __init__(self, info: TargetInfo, loss: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        self.info = info
        self.outputs = len(info.names)
        self._loss = loss

    def loss(self, outputs: Detections, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss [N], tally [N, K × 201]): right and wrong answers by score and true boxes, of each class (`histogram`)."""
        tally_NQ = histogram(self._matches(_columns(outputs), _numpy(target), thresholds=(0.5,)))
        return self._loss(outputs, target), torch.from_numpy(tally_NQ).to(target.device)

    def answers(self, outputs: Detections, target: torch.Tensor | None, rows: np.ndarray) -> Answers:
        """Columns `boxes` float32 [N, 100, 4], `scores` float32 [N, 100], `labels` int64 [N, 100], label -1 and score 0 where

        there are fewer; where known `target` float32 [N, M, 5] and, where the network gave one, `loss` float32 [N].
        """
        columns = _columns(outputs)
        if target is not None:
            columns["target"] = _numpy(target)
        if outputs.loss_N is not None:
            columns["loss"] = _numpy(outputs.loss_N.float())
        return Answers(rows=rows, columns=columns)

    def scores(self, answers: Answers) -> Scores:
        """mAP 50, exact; the mean of the network's own loss; F1 of each image (1 where it has no boxes and gets none).

        metrics: `mAP 50:95` (overlaps of 0.50, 0.55, … 0.95), and `precision` and `recall` of the answers of at least SURE.
        """
        matches = self._matches(answers.columns, answers.columns["target"])
        precision_KT = average_precision(matches)
        right_N, said_N, true_N = _counts(matches)
        loss_N = answers.columns.get("loss")
        return Scores(
            score=float(mean_of_known(precision_KT[:, 0])),
            loss=float("nan") if loss_N is None else float(loss_N.mean(dtype=np.float64)),
            per_image=_f1(right_N, said_N, true_N),
            tally=histogram(matches),
            per_class={
                name: float(precision_KT[k, 0])
                for k, name in enumerate(self.info.names)
                if not np.isnan(precision_KT[k, 0])
            },
            metrics={
                "mAP 50:95": float(mean_of_known(precision_KT.mean(axis=1))),
                "precision": float(right_N.sum() / said_N.sum()) if said_N.any() else float("nan"),
                "recall": float(right_N.sum() / true_N.sum()) if true_N.any() else float("nan"),
            },
        )

    def measures(self, tally_BQ: np.ndarray) -> Mapping[str, np.ndarray]:
        """mAP 50 and that of each class (nan where it has no box), from scores in bins: mostly within 0.01 (`bins`)."""
        precision_BK = binned_average_precision(tally_BQ, self.outputs)
        by_class = {f"class.{name}": precision_BK[:, k] for k, name in enumerate(self.info.names)}
        return {"score": mean_of_known(precision_BK)} | by_class

    def say(self, answers: Answers) -> list[dict[str, Any]]:
        """`boxes`, the surest first: `label`, `score` and `box` (left, top, right, bottom); scores of at least SAID."""
        return [{"boxes": self._boxes(answers, n, least=SAID)} for n in range(len(answers.rows))]

    def tiles(self, answers: Answers, images_NHWC: np.ndarray) -> list[Tile]:
        """The image with boxes of at least DRAWN in the colour of their class, true ones dashed, and its F1 where it is known."""
        target_NM5 = answers.columns.get("target")
        if target_NM5 is None:
            return [
                Tile(image_HWC=self._drawn(image_HWC, answers, n), title=self._counted(answers, n))
                for n, image_HWC in enumerate(images_NHWC)
            ]
        f1_N = _f1(*_counts(self._matches(answers.columns, target_NM5, thresholds=(0.5,))))
        return [
            Tile(
                image_HWC=self._drawn(image_HWC, answers, n),
                title=f"F1 {f1_N[n]:.2f}",
                good=bool(f1_N[n] >= GOOD_F1),
            )
            for n, image_HWC in enumerate(images_NHWC)
        ]

    def charts(self, answers: Answers) -> list[Chart]:
        """The average precision of each class."""
        precision_K = average_precision(self._matches(answers.columns, answers.columns["target"], thresholds=(0.5,)))[
            :, 0
        ]
        values = {name: float(precision_K[k]) for k, name in enumerate(self.info.names) if not np.isnan(precision_K[k])}
        return [BarsChart(name="average-precision", values=values, label="AP 50")]

    def _matches(self, columns: Mapping[str, np.ndarray], target_NM5: np.ndarray, **thresholds: Any) -> Matches:
        answers = columns["boxes"], columns["scores"], columns["labels"]
        return match(answers, target_NM5, classes=self.outputs, **thresholds)

    def _boxes(self, answers: Answers, n: int, *, least: float) -> list[dict[str, Any]]:
        boxes_D4, scores_D, labels_D = (answers.columns[name][n] for name in ("boxes", "scores", "labels"))
        order = np.argsort(-scores_D, kind="stable")
        return [
            {"label": self.info.names[labels_D[d]], "score": float(scores_D[d]), "box": boxes_D4[d].tolist()}
            for d in order
            if labels_D[d] >= 0 and scores_D[d] >= least
        ]

    def _counted(self, answers: Answers, n: int) -> str:
        """How many boxes of each class are drawn: `12 RBC, 1 WBC`."""
        counts = Counter(box["label"] for box in self._boxes(answers, n, least=DRAWN))
        return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing"

    def _drawn(self, image_HWC: np.ndarray, answers: Answers, n: int) -> np.ndarray:
        """With its boxes; a small image is enlarged first, since lines and letters would hide what they are about."""
        times = max(1, math.ceil(LEAST_DRAWN / max(image_HWC.shape[:2])))
        image = Image.fromarray(image_HWC)
        if times > 1:
            image = image.resize((times * image.width, times * image.height), Image.Resampling.BICUBIC)
        draw, font = ImageDraw.Draw(image), ImageFont.load_default(LETTERS)
        for box in reversed(self._boxes(answers, n, least=DRAWN)):  # the surest last, on top
            colour = COLOURS[self.info.names.index(box["label"]) % len(COLOURS)]
            left, top, right, bottom = (times * side for side in box["box"])
            draw.rectangle(_corners(left, top, right, bottom), outline=colour, width=2)
            draw.text((left + 3, top + 1), box["label"], fill=colour, font=font, stroke_width=1, stroke_fill="black")
        for _, left, top, right, bottom in _known_boxes(answers, n):
            _dash(draw, _corners(*(times * side for side in (left, top, right, bottom))))
        return np.asarray(image).copy()


def _columns(outputs: Detections) -> dict[str, np.ndarray]:
    """The surest MAX_ANSWERS of each image as numpy columns, filled up where there are fewer."""
    order_NM = outputs.scores_NM.detach().argsort(dim=1, descending=True, stable=True)[:, :MAX_ANSWERS]
    missing = MAX_ANSWERS - order_NM.shape[1]
    scores_NM, labels_NM = (a.detach().gather(1, order_NM) for a in (outputs.scores_NM, outputs.labels_NM))
    boxes_NM4 = outputs.boxes_NM4.detach().gather(1, order_NM[:, :, None].expand(-1, -1, 4))
    return {
        "boxes": _numpy(functional.pad(boxes_NM4.float(), (0, 0, 0, missing))),
        "scores": _numpy(functional.pad(scores_NM.float(), (0, missing))),
        "labels": _numpy(functional.pad(labels_NM.long(), (0, missing), value=-1)),
    }


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _counts(matches: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(right, all) answers of at least SURE, and true boxes, of each image at the first threshold."""
    said_ND = (matches.labels_ND >= 0) & (
        matches.scores_ND >= SURE
    )  # the surest come first: others took nothing from them
    return (matches.right_TND[0] & said_ND).sum(axis=1), said_ND.sum(axis=1), matches.true_NK.sum(axis=1)


def _f1(right_N: np.ndarray, said_N: np.ndarray, true_N: np.ndarray) -> np.ndarray:
    """Harmonic mean of precision and recall, float64 [N]; 1 where there is nothing and nothing was said."""
    both_N = said_N + true_N
    f1_N: np.ndarray = np.divide(2.0 * right_N, both_N, out=np.ones(len(both_N)), where=both_N > 0)
    return f1_N


def _known_boxes(answers: Answers, n: int) -> list[list[float]]:
    target_NM5 = answers.columns.get("target")
    return [] if target_NM5 is None else target_NM5[n][target_NM5[n, :, 0] >= 0].tolist()


def _corners(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    """With right and bottom not left of or above the others, which Pillow would refuse; they name its last pixel."""
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _dash(draw: ImageDraw.ImageDraw, corners: tuple[float, float, float, float], step: int = 4) -> None:
    """A black outline with white dashes, seen on every ground."""
    left, top, right, bottom = (round(corner) for corner in corners)
    draw.rectangle((left, top, right, bottom), outline="black")
    for x in range(left, right, 2 * step):
        for y in (top, bottom):
            draw.line((x, y, min(x + step - 1, right), y), fill="white")
    for y in range(top, bottom, 2 * step):
        for x in (left, right):
            draw.line((x, y, x, min(y + step - 1, bottom)), fill="white")
