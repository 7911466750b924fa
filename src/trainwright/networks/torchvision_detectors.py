"""torchvision's detectors on a timm backbone: faster-rcnn, retinanet and fcos.

torchvision gives losses in train mode and boxes in eval mode. Here their parts are called one by one, so that a target gives
both in either mode, and each image its own loss.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from trainwright.batch import Detections
from trainwright.errors import RecipeError
from trainwright.networks.detector_backbone import STRIDES, Encoder, Pyramid
from trainwright.networks.detector_decoding import CANDIDATES, KEPT, TRAIN_CANDIDATES, Found, packed, true_boxes
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec, Size
from trainwright.records import OutputForm

CHANNELS = 128  # of the pyramid: half of those published, which are for 80 classes and 800 pixels
HIDDEN = 512  # figures that stand for a proposal: half of Ren et al., arXiv:1506.01497
SAMPLES = 128  # proposals an image whose class is learned: Ren et al., arXiv:1506.01497 (512 in torchvision)
PROPOSALS = 300  # an image whose class is asked: arXiv:1506.01497 §4; in train mode, where it is only watched, `KEPT`
LEAST_SCORE = 0.05  # Lin et al., arXiv:1708.02002 §4.1; torchvision has the same for two of the three
ANCHORS = tuple(4 * stride for stride in (4, 8, 16, 32, 64, 128))  # pixels a side: arXiv:1708.02002 §4


@networks.register("faster-rcnn")
class FasterRcnnNetwork:
    """Two stages: proposals, then a class and a better box for each. Ren et al., arXiv:1506.01497."""

    form: OutputForm = "boxes"
    multiple = 32

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

        encoder = _encoder(spec, strides=STRIDES, size=size)
        detector = FasterRCNN(
            Pyramid(encoder.channels, CHANNELS, LastLevelMaxPool()),
            rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in ANCHORS[:5]), ((0.5, 1.0, 2.0),) * 5),
            rpn_post_nms_top_n_train=CANDIDATES,
            rpn_post_nms_top_n_test=PROPOSALS,
            box_head=TwoMLPHead(CHANNELS * 7**2, HIDDEN),
            box_predictor=FastRCNNPredictor(HIDDEN, outputs + 1),  # class 0 is the background
            box_batch_size_per_image=SAMPLES,
            box_score_thresh=LEAST_SCORE,
            box_detections_per_img=KEPT,
        )
        return TwoStageDetector(encoder, detector)


@networks.register("retinanet")
class RetinaNetNetwork:
    """One stage with nine anchors a place and the focal loss. Lin et al., arXiv:1708.02002."""

    form: OutputForm = "boxes"
    multiple = 32

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        from torchvision.models.detection import RetinaNet
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.retinanet import RetinaNetHead

        sides = tuple((side, int(side * 2 ** (1 / 3)), int(side * 2 ** (2 / 3))) for side in ANCHORS[1:])
        anchors = AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * len(sides))
        # Group norm and generalized IoU loss as in torchvision's second version of it
        head = RetinaNetHead(CHANNELS, 9, outputs, norm_layer=partial(nn.GroupNorm, 32))
        head.regression_head._loss_type = "giou"
        encoder = _encoder(spec, strides=STRIDES[1:], size=size)
        detector = RetinaNet(
            _five_levels(encoder),
            outputs,
            anchor_generator=anchors,
            head=head,
            score_thresh=LEAST_SCORE,
            detections_per_img=KEPT,
        )
        return OneStageDetector(encoder, detector, sizes_by_level=False)


@networks.register("fcos")
class FcosNetwork:
    """One stage without anchors: every place inside a box gives its four distances. Tian et al., arXiv:1904.01355."""

    form: OutputForm = "boxes"
    multiple = 32

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> nn.Module:
        from torchvision.models.detection import FCOS

        encoder = _encoder(spec, strides=STRIDES[1:], size=size)
        detector = FCOS(_five_levels(encoder), outputs, score_thresh=LEAST_SCORE, detections_per_img=KEPT)
        return OneStageDetector(encoder, detector, sizes_by_level=True)


def _encoder(spec: NetworkSpec, *, strides: tuple[int, ...], size: Size) -> Encoder:
    """Raises RecipeError for dropout before the head, where none of the three has a place for it."""
    if spec.dropout:
        raise RecipeError(
            f"{spec.name!r} has no dropout before its head.",
            where="network.dropout",
            cure="Set it to 0; small-detector has it, and network.drop_path acts in the backbone.",
        )
    return Encoder(spec, strides=strides, size=size)


def _five_levels(encoder: Encoder) -> Pyramid:
    """Levels of strides 8 to 128: arXiv:1708.02002 §4."""
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    return Pyramid(encoder.channels, CHANNELS, LastLevelP6P7(CHANNELS, CHANNELS))


class OneStageDetector(nn.Module):
    """torchvision's RetinaNet or FCOS: normalized float [N, 3, H, W] and target [N, M, 5] to `Detections`.

    detector: lends its settings and calculations; its own transform is not used. sizes_by_level: its loss wants to know how
    many places each level has, since each learns from boxes of a range of sizes.
    """

    takes_target = True

    def __init__(self, encoder: Encoder, detector: Any, *, sizes_by_level: bool) -> None:
        super().__init__()
        self.encoder, self.pyramid, self.head = encoder, detector.backbone, detector.head
        self._detector = (detector,)  # in a tuple: what it has of parameters is registered already
        self._sizes_by_level = sizes_by_level

    def forward(self, images_NCHW: torch.Tensor, target_NM5: torch.Tensor | None = None) -> Detections:
        (detector,) = self._detector
        maps = list(self.pyramid(self.encoder(images_NCHW)).values())
        said = {name: each.float() for name, each in self.head(maps).items()}
        with torch.autocast(images_NCHW.device.type, enabled=False):
            images = _image_list(images_NCHW)
            anchors = detector.anchor_generator(images, maps)
            places = [each.shape[2] * each.shape[3] for each in maps]
            per_place = anchors[0].shape[0] // sum(places)
            counts = [count * per_place for count in places]
            loss_N = None if target_NM5 is None else self._loss(said, target_NM5, anchors, counts)
            with torch.no_grad():
                detector.topk_candidates = TRAIN_CANDIDATES if self.training else CANDIDATES
                found = detector.postprocess_detections(
                    {name: list(each.split(counts, dim=1)) for name, each in said.items()},
                    [list(each.split(counts)) for each in anchors],
                    images.image_sizes,
                )
        return packed([(each["boxes"], each["scores"], each["labels"]) for each in found], loss_N=loss_N)

    def _loss(
        self, said: dict[str, torch.Tensor], target_NM5: torch.Tensor, anchors: list[torch.Tensor], counts: list[int]
    ) -> torch.Tensor:
        (detector,) = self._detector
        losses = []
        for image, target in enumerate(_targets(target_NM5)):
            own = {name: each[image : image + 1] for name, each in said.items()}
            levels = (counts,) if self._sizes_by_level else ()
            losses.append(sum(detector.compute_loss([target], own, anchors[image : image + 1], *levels).values()))
        return torch.stack(losses)


class TwoStageDetector(nn.Module):
    """torchvision's Faster R-CNN: normalized float [N, 3, H, W] and target [N, M, 5] to `Detections`.

    What it learns from is drawn from torch's random stream, in eval mode too: 256 anchors and `SAMPLES` proposals an image.
    The draws hang on the batch, so that one worked through in parts (`accumulate`) has other draws than the whole.
    """

    takes_target = True

    def __init__(self, encoder: Encoder, detector: Any) -> None:
        super().__init__()
        self.encoder, self.pyramid = encoder, detector.backbone
        self.rpn, self.roi_heads = detector.rpn, detector.roi_heads

    def forward(self, images_NCHW: torch.Tensor, target_NM5: torch.Tensor | None = None) -> Detections:
        maps = self.pyramid(self.encoder(images_NCHW))
        images = _image_list(images_NCHW)
        targets = None if target_NM5 is None else _targets(target_NM5, first_label=1)
        proposals, proposal_losses = self._propose(images, list(maps.values()), targets)
        loss_N = None
        if targets is not None:
            learned = self._region_losses(maps, proposals, images, targets)
            loss_N = torch.stack([one + other for one, other in zip(proposal_losses, learned, strict=True)])
        return packed(self._found(maps, proposals, images), loss_N=loss_N)

    def _propose(
        self, images: Any, maps: list[torch.Tensor], targets: list[dict[str, torch.Tensor]] | None
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """(boxes of each image, surest first; loss of each image where there is a target)."""
        from torchvision.models.detection.rpn import concat_box_prediction_layers

        rpn: Any = self.rpn
        objectness, shifts = ([each.float() for each in level] for level in rpn.head(maps))
        counts = [each[0].numel() for each in objectness]
        with torch.autocast(maps[0].device.type, enabled=False):
            anchors = rpn.anchor_generator(images, maps)
            flat_P1, shifts_P4 = concat_box_prediction_layers(objectness, shifts)
            sure_NP = flat_P1.view(len(anchors), -1)
            shifts_NP4 = shifts_P4.view(len(anchors), -1, 4)
            with torch.no_grad():
                boxes_NP4 = rpn.box_coder.decode(shifts_P4, anchors).view(len(anchors), -1, 4)
                proposals, _ = rpn.filter_proposals(boxes_NP4, sure_NP, images.image_sizes, counts)
            if targets is None:
                return proposals, []
            labels, matched = rpn.assign_targets_to_anchors(anchors, targets)
            wanted = rpn.box_coder.encode(matched, anchors)
            losses = [
                sum(rpn.compute_loss(sure_P, own_P4, [label_P], [wanted_P4]))
                for sure_P, own_P4, label_P, wanted_P4 in zip(sure_NP, shifts_NP4, labels, wanted, strict=True)
            ]
        return proposals, losses

    def _region_losses(
        self,
        maps: dict[str, torch.Tensor],
        proposals: list[torch.Tensor],
        images: Any,
        targets: list[dict[str, torch.Tensor]],
    ) -> list[torch.Tensor]:
        from torchvision.models.detection.roi_heads import fastrcnn_loss

        regions: Any = self.roi_heads
        chosen, _, labels, wanted = regions.select_training_samples(proposals, targets)
        logits, shifts = self._regions(maps, chosen, images)
        counts = [len(each) for each in chosen]
        return [
            sum(fastrcnn_loss(own_logits, own_shifts, [label], [box]))
            for own_logits, own_shifts, label, box in zip(
                torch.split(logits, counts), torch.split(shifts, counts), labels, wanted, strict=True
            )
        ]

    @torch.no_grad()
    def _found(self, maps: dict[str, torch.Tensor], proposals: list[torch.Tensor], images: Any) -> list[Found]:
        regions: Any = self.roi_heads
        looked_at = [each[: KEPT if self.training else PROPOSALS] for each in proposals]
        logits, shifts = self._regions(maps, looked_at, images)
        with torch.autocast(logits.device.type, enabled=False):
            found = regions.postprocess_detections(logits, shifts, looked_at, images.image_sizes)
        return [(boxes, scores, labels - 1) for boxes, scores, labels in zip(*found, strict=True)]

    def _regions(
        self, maps: dict[str, torch.Tensor], boxes: list[torch.Tensor], images: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits, box shifts) of every region of all images, float32."""
        regions: Any = self.roi_heads
        pooled = regions.box_head(regions.box_roi_pool(maps, boxes, images.image_sizes))
        logits, shifts = regions.box_predictor(pooled)
        return logits.float(), shifts.float()


def _targets(target_NM5: torch.Tensor, first_label: int = 0) -> list[dict[str, torch.Tensor]]:
    """torchvision's form of a target: boxes and labels of each image."""
    pairs = [true_boxes(target_M5) for target_M5 in target_NM5]
    return [{"boxes": boxes_M4, "labels": labels_M + first_label} for boxes_M4, labels_M in pairs]


def _image_list(images_NCHW: torch.Tensor) -> Any:
    """torchvision's form of a batch of which all images have the same size."""
    from torchvision.models.detection.image_list import ImageList

    return ImageList(images_NCHW, [(images_NCHW.shape[2], images_NCHW.shape[3])] * len(images_NCHW))
