"""Semantic segmentation: one class a pixel."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from trainwright.plugins import tasks
from trainwright.records import (
    IGNORED,
    Answers,
    BarsChart,
    Chart,
    ConfusionChart,
    OutputForm,
    Scores,
    TargetInfo,
    TargetKind,
    Tile,
)

# Okabe and Ito 2008, "Color universal design": told apart with any kind of colour blindness.
FIRST_COLOURS = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (240, 228, 66),
    (204, 121, 167),
    (0, 0, 0),
)
GOLDEN_ANGLE = 0.381966  # of a turn: hues that keep their distance however many there are
PAINT = 0.6  # share of the class's colour in a painted pixel
GOOD_IOU = 0.5  # from which on an image counts as good: the usual threshold of a hit in detection
MOST_NAMED = 3  # classes in the title of an image without a target
SCORED_AT_ONCE = 32  # images: 8 bytes a pixel are needed to count them


@tasks.register("segmentation")
class Segmentation:
    """One class a pixel. Outputs are logits [N, K, H, W], targets masks [N, H, W]; the score is mean IoU, 0–1.

    Mean IoU: the mean, over the classes that occur in target or answer, of intersection over union of the pixels of all
    images taken together (Everingham et al. 2010, "The PASCAL VOC challenge", §4.4). Pixels of 255 are left out.
    """

    name = "segmentation"
    metric = "mean IoU"
    target: TargetKind = "mask"
    form: OutputForm = "map"
    losses: tuple[str, ...] = (
        "dice+cross-entropy",
        "cross-entropy",
        "dice",
        "tversky",
        "lovasz",
        "focal",
    )
    counts_right = False

    def __init__(self, info: TargetInfo, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.info = info
        self.outputs = len(info.names)
        self._loss = loss

    def loss(self, outputs: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss [N], tally [N, 2K + 2]): pixels in the intersection and in the union of each class, right ones, scored ones."""
        predicted_NHW = _best(outputs.detach())
        return self._loss(outputs, target), _tally(_confusion(predicted_NHW, target, self.outputs)).float()

    def answers(self, outputs: torch.Tensor, target: torch.Tensor | None, rows: np.ndarray) -> Answers:
        """Columns `masks` uint8 [N, H, W] and, where known, `target` uint8 [N, H, W] and `loss` float32 [N], as in training."""
        columns = {"masks": _best(outputs).to(torch.uint8).cpu().numpy()}
        if target is not None:
            columns["target"] = target.cpu().numpy()
            columns["loss"] = self._loss(outputs, target).float().cpu().numpy()
        return Answers(rows=rows, columns=columns)

    def scores(self, answers: Answers) -> Scores:
        """Mean IoU, the mean training loss, the IoU of each class, and the accuracy of the pixels.

        An image's own score is its mean IoU over the classes in its target or answer; 1 where none of its pixels is scored.
        """
        tally_NQ = _tally(self._confusions(answers)).numpy().astype(np.float64)
        of_images, of_all = self.measures(tally_NQ), self.measures(tally_NQ.sum(axis=0, keepdims=True))
        by_class = {name: float(of_all[f"class.{name}"][0]) for name in self.info.names}
        return Scores(
            score=float(of_all["score"][0]),
            loss=float(answers.columns["loss"].astype(np.float64).mean()),
            per_image=np.nan_to_num(of_images["score"], nan=1.0),
            tally=tally_NQ,
            per_class={name: iou for name, iou in by_class.items() if not np.isnan(iou)},
            metrics={"pixel accuracy": float(of_all["pixel accuracy"][0])},
        )

    def measures(self, tally_BQ: np.ndarray) -> Mapping[str, np.ndarray]:
        """Mean IoU, the IoU of each class (nan where it has no pixel) and `pixel accuracy`; nan where no pixel is scored."""
        both_BK, either_BK = tally_BQ[:, : self.outputs], tally_BQ[:, self.outputs : 2 * self.outputs]
        iou_BK = _ratio(both_BK, either_BK)
        occurs_BK = either_BK > 0
        found = {"score": _ratio(np.where(occurs_BK, iou_BK, 0.0).sum(axis=1), occurs_BK.sum(axis=1))}
        found |= {f"class.{name}": iou_BK[:, k] for k, name in enumerate(self.info.names)}
        return found | {"pixel accuracy": _ratio(tally_BQ[:, -2], tally_BQ[:, -1])}

    def say(self, answers: Answers) -> list[dict[str, Any]]:
        """`shares`: each class with its share of the image's pixels, the largest first."""
        return [
            {"shares": {self.info.names[k]: float(share_K[k]) for k in np.argsort(-share_K, kind="stable")}}
            for share_K in self._shares(answers.columns["masks"])
        ]

    def tiles(self, answers: Answers, images_NHWC: np.ndarray) -> list[Tile]:
        """The image with the classes painted in and, where they are known, the true ones to the right of it."""
        masks_NHW, target_NHW = answers.columns["masks"], answers.columns.get("target")
        if target_NHW is None:
            shares_NK = self._shares(masks_NHW)
            return [
                Tile(image_HWC=_painted(image_HWC, mask_HW), title=self._largest(share_K))
                for image_HWC, mask_HW, share_K in zip(images_NHWC, masks_NHW, shares_NK, strict=True)
            ]
        iou_N = self.scores(answers).per_image
        return [
            Tile(
                image_HWC=np.concatenate(
                    [_painted(image_HWC, masks_NHW[n]), _painted(image_HWC, target_NHW[n])], axis=1
                ),
                title=f"IoU {iou_N[n]:.2f}",
                good=bool(iou_N[n] >= GOOD_IOU),
            )
            for n, image_HWC in enumerate(images_NHWC)
        ]

    def charts(self, answers: Answers) -> list[Chart]:
        """The IoU of each class, and the confusion matrix of the pixels."""
        matrix_KK = self._confusions(answers).sum(dim=0).numpy()
        return [
            BarsChart(name="iou", values=self.scores(answers).per_class, label="IoU"),
            ConfusionChart(name="confusion", matrix=matrix_KK, classes=self.info.names, unit="pixels"),
        ]

    def _confusions(self, answers: Answers) -> torch.Tensor:
        """int64 [N, K, K], counted a few images at a time."""
        masks_NHW, target_NHW = (torch.from_numpy(answers.columns[name]) for name in ("masks", "target"))
        pieces = [slice(start, start + SCORED_AT_ONCE) for start in range(0, len(masks_NHW), SCORED_AT_ONCE)]
        return torch.cat([_confusion(masks_NHW[piece], target_NHW[piece], self.outputs) for piece in pieces])

    def _shares(self, masks_NHW: np.ndarray) -> np.ndarray:
        """float64 [N, K]: the share of each class in the pixels of each image."""
        counts = [np.bincount(mask_HW.ravel(), minlength=self.outputs) for mask_HW in masks_NHW]
        shares_NK: np.ndarray = np.stack(counts) / masks_NHW[0].size
        return shares_NK

    def _largest(self, share_K: np.ndarray) -> str:
        largest = [k for k in np.argsort(-share_K)[:MOST_NAMED] if share_K[k] > 0]
        return ", ".join(f"{self.info.names[k]} {100 * share_K[k]:.0f} %" for k in largest)


def palette(count: int) -> np.ndarray:
    """uint8 [count, 3]: a colour for each class; the first eight are told apart with any kind of colour blindness."""
    further = [
        colorsys.hls_to_rgb(GOLDEN_ANGLE * k % 1, (0.65, 0.35, 0.5)[k % 3], 0.85)
        for k in range(count - len(FIRST_COLOURS))
    ]
    colours = [*FIRST_COLOURS, *(tuple(round(255 * part) for part in colour) for colour in further)]
    return np.array(colours[:count], dtype=np.uint8)


def _best(outputs_NKHW: torch.Tensor) -> torch.Tensor:
    """int64 [N, H, W]: the most probable class. `max` is ten times faster than `argmax` on a CPU."""
    return outputs_NKHW.max(dim=1).indices


def _confusion(predicted_NHW: torch.Tensor, target_NHW: torch.Tensor, classes: int) -> torch.Tensor:
    """int64 [N, K, K]: scored pixels of each image, row the truth, column the answer."""
    count = len(target_NHW)
    image_N11 = torch.arange(count, device=target_NHW.device).view(-1, 1, 1)
    cell_NHW = (image_N11 * classes + target_NHW) * classes + predicted_NHW
    cells = count * classes**2
    cell_NHW = torch.where(target_NHW == IGNORED, cells, cell_NHW)  # into one beyond the last, which is cut off
    return torch.bincount(cell_NHW.flatten(), minlength=cells + 1)[:cells].view(count, classes, classes)


def _tally(confusion_NKK: torch.Tensor) -> torch.Tensor:
    """int64 [N, 2K + 2]: intersection and union of each class, right pixels, scored pixels."""
    both_NK = confusion_NKK.diagonal(dim1=1, dim2=2)
    either_NK = confusion_NKK.sum(dim=1) + confusion_NKK.sum(dim=2) - both_NK
    totals_N2 = torch.stack([both_NK.sum(dim=1), confusion_NKK.sum(dim=(1, 2))], dim=1)
    return torch.cat([both_NK, either_NK, totals_N2], dim=1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, nan where the whole is 0."""
    found: np.ndarray = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)
    return found


def _painted(image_HWC: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """The image with each pixel's class blended in; pixels of 255 stay as they are."""
    colours = palette(IGNORED)
    mixed_HWC = np.rint((1 - PAINT) * image_HWC + PAINT * colours[np.minimum(mask_HW, IGNORED - 1)])
    painted_HWC: np.ndarray = np.where((mask_HW == IGNORED)[..., None], image_HWC, mixed_HWC).astype(np.uint8)
    return painted_HWC
