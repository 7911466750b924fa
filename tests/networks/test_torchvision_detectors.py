"""torchvision's detectors behind our contract: loss and boxes in both modes, each image for itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from trainwright.errors import RecipeError
from trainwright.networks.detector_decoding import KEPT
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec

NAMES = ("faster-rcnn", "retinanet", "fcos")
BACKBONE = "mobilenetv3_small_050"
HEIGHT, WIDTH = 64, 96
CLASSES = 3
EMPTY = [-1.0, 0.0, 0.0, 0.0, 0.0]
TARGET_NM5 = torch.tensor(
    [
        [[1.0, 10, 10, 42, 50], [2, 0, 0, 96, 64], [0, 20, 20, 22, 23]],
        [[0, 5, 5, 30, 30], EMPTY, EMPTY],
        [EMPTY, EMPTY, EMPTY],
    ]
)


def build(name: str, *, seed: int = 0, **more: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        spec = NetworkSpec(name=name, backbone=BACKBONE).model_copy(update=more)
        return networks.get(name)().build(spec, outputs=CLASSES, size=(HEIGHT, WIDTH))


def images() -> torch.Tensor:
    return torch.randn(3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def own_random_stream() -> Iterator[None]:
    """torch's stream as the loop sets it for a step: Faster R-CNN draws from it what it learns from."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        yield


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_target_gives_loss_and_boxes_in_both_modes(name: str, training: bool) -> None:
    answer = build(name).train(training)(images(), TARGET_NM5)

    assert answer.loss_N.shape == (3,)
    assert answer.loss_N.dtype == torch.float32
    assert bool(torch.isfinite(answer.loss_N).all())
    assert answer.loss_N.requires_grad
    assert answer.boxes_NM4.shape == (3, KEPT, 4)
    assert not answer.boxes_NM4.requires_grad
    assert answer.labels_NM.dtype == torch.int64
    assert int(answer.labels_NM.max()) < CLASSES
    assert answer.boxes_NM4.min() >= 0
    assert answer.boxes_NM4[..., 0::2].max() <= WIDTH
    assert answer.boxes_NM4[..., 1::2].max() <= HEIGHT
    assert bool((answer.scores_NM.diff(dim=1) <= 0).all())


@pytest.mark.parametrize("name", NAMES)
def test_without_a_target_there_is_no_loss(name: str) -> None:
    model = build(name)

    assert model.takes_target
    assert model.train()(images(), None).loss_N is None
    assert model.eval()(images()).loss_N is None


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_the_loss_of_an_image_does_not_depend_on_the_others(name: str) -> None:
    model = build(name).eval()

    together = model(images(), TARGET_NM5).loss_N
    alone = torch.cat([model(images()[i : i + 1], TARGET_NM5[i : i + 1]).loss_N for i in range(3)])

    assert torch.allclose(together, alone, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_boxes_of_one_image_are_those_of_torchvision(name: str) -> None:
    model = build(name)
    theirs = _as_torchvision_runs_it(copy.deepcopy(model))
    target = [{"boxes": TARGET_NM5[0, :, 1:], "labels": TARGET_NM5[0, :, 0].long() + (name == "faster-rcnn")}]

    losses, answers = [], []
    for run in (
        lambda training: model.train(training)(images()[:1], TARGET_NM5[:1]),
        lambda training: theirs.train(training)([images()[0]], target),
    ):
        torch.default_generator.manual_seed(2)
        losses.append(run(True))
        answers.append(run(False))

    assert losses[0].loss_N.item() == pytest.approx(sum(losses[1].values()).item(), rel=1e-5)
    count = len(answers[1][0]["boxes"])
    assert torch.equal(answers[0].boxes_NM4[0, :count], answers[1][0]["boxes"])
    assert torch.equal(answers[0].scores_NM[0, :count], answers[1][0]["scores"])
    assert not bool(answers[0].scores_NM[0, count:].any())


class _AsItComes(nn.Module):
    """In place of torchvision's transform: images are taken as they come."""

    def forward(self, given: list[torch.Tensor], target: Any) -> Any:
        from torchvision.models.detection.image_list import ImageList

        return ImageList(torch.stack(given), [(HEIGHT, WIDTH)] * len(given)), target

    def postprocess(self, answer: Any, *_: Any) -> Any:
        return answer


def _as_torchvision_runs_it(model: Any) -> nn.Module:
    """The same parts in torchvision's own class, with its own forward."""
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

    backbone = nn.Sequential(model.encoder, model.pyramid)
    if hasattr(model, "rpn"):
        return GeneralizedRCNN(backbone, model.rpn, model.roi_heads, _AsItComes())
    (detector,) = model._detector
    detector.backbone, detector.transform = backbone, _AsItComes()
    return detector


@pytest.mark.parametrize("name", NAMES)
def test_batch_norm_follows_the_mode(name: str) -> None:
    model = build(name)
    before = {key: value.clone() for key, value in model.named_buffers()}

    model.eval()(images(), TARGET_NM5)
    kept = [key for key, value in model.named_buffers() if not torch.equal(value, before[key])]
    model.train()(images(), TARGET_NM5)
    moved = [key for key, value in model.named_buffers() if not torch.equal(value, before[key])]

    assert kept == []
    assert any("running_mean" in key for key in moved)


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    model = build(name).train()

    model(images(), TARGET_NM5).loss_N.mean().backward()

    assert [key for key, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().any())] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_float32_under_mixed_precision(name: str) -> None:
    model = build(name).eval()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        answer = model(images(), TARGET_NM5)

    assert answer.loss_N.dtype == answer.boxes_NM4.dtype == torch.float32
    assert bool(torch.isfinite(answer.loss_N).all())


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_make_the_loss_smaller_and_repeat_bit_for_bit(name: str) -> None:
    first, again = _losses(name, steps=4), _losses(name, steps=4)

    assert first == again
    assert first[-1] < first[0]


def _losses(name: str, *, steps: int) -> list[float]:
    model = build(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for step in range(steps):
        torch.default_generator.manual_seed(step)
        loss = model(images(), TARGET_NM5).loss_N.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_its_weights_can_be_kept_and_read_back(name: str) -> None:
    model, other = build(name).eval(), build(name, seed=1).eval()

    other.load_state_dict(copy.deepcopy(model.state_dict()))

    mine, theirs = model(images()), other(images())
    assert torch.equal(mine.boxes_NM4, theirs.boxes_NM4)
    assert torch.equal(mine.scores_NM, theirs.scores_NM)


@pytest.mark.parametrize("backbone", ["vit_tiny_patch16_224", "resmlp_12_224"])
def test_a_backbone_without_maps_of_several_strides_is_refused(backbone: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build("fcos", backbone=backbone)

    assert str(caught.value).startswith(
        f"network.backbone: {backbone!r} cannot be the backbone of fcos, which needs maps of"
    )
    assert str(caught.value).endswith("such as resnet18, resnet50 or convnext_tiny.")


def test_a_backbone_of_a_fixed_size_with_its_channels_last_is_built_for_the_images() -> None:
    model = build("fcos", backbone="swin_tiny_patch4_window7_224").eval()

    with torch.no_grad():
        assert bool(torch.isfinite(model(images(), TARGET_NM5).loss_N).all())


def test_published_weights_are_those_of_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    asked = []
    create = timm.create_model

    def record(name: str, *, pretrained: bool, **options: Any) -> Any:
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", record)
    build("retinanet", weights="pretrained")

    assert asked == [(BACKBONE, False), (BACKBONE, True)]


def test_the_encoder_comes_before_the_head() -> None:
    for name in NAMES:
        assert next(iter(build(name).named_children()))[0] == "encoder"
