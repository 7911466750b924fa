"""The small detector: what it answers, its loss of each image, how places are assigned, and that it learns."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainwright.batch import Detections
from trainwright.networks.detector_assignment import assign
from trainwright.networks.detector_boxes import (
    Grid,
    decode,
    encode,
    grid_of,
    overlap_and_generalized,
    overlaps,
)
from trainwright.networks.detector_decoding import KEPT, best_boxes, packed, suppressed, true_boxes
from trainwright.networks.small_detector import STRIDES, SmallDetector, detection_loss
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec

CPU = torch.device("cpu")
SIDE = 64
CLASSES = 3
NO_BOX = (-1.0, 0.0, 0.0, 0.0, 0.0)


def detector(*, norm: str = "batch", seed: int = 0) -> SmallDetector:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SmallDetector(CLASSES, NetworkSpec(width=8, norm=norm))


def noise(count: int, *, height: int = SIDE, width: int = SIDE, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def target(*images: list[tuple[float, ...]]) -> torch.Tensor:
    """Boxes (class, left, top, right, bottom) of each image, filled up to the most of one image."""
    longest = max(1, *(len(boxes) for boxes in images))
    return torch.tensor([boxes + [NO_BOX] * (longest - len(boxes)) for boxes in images])


def square_grid(side: int = SIDE) -> Grid:
    return grid_of([(side // stride, side // stride) for stride in STRIDES], STRIDES, CPU)


def said(grid: Grid, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(raw boxes [L, 4], logits [L, K]) of a network that says something at random."""
    draws = torch.Generator().manual_seed(seed)
    places = len(grid.points_L2)
    return torch.randn(places, 4, generator=draws), torch.randn(places, CLASSES, generator=draws)


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> tuple[torch.Tensor, ...]:
    return (
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.tensor(scores),
        torch.tensor(labels, dtype=torch.int64),
    )


# What it answers


@pytest.mark.parametrize("training", [True, False])
def test_the_answer_has_one_shape_and_lies_inside_the_frame(training: bool) -> None:
    model = detector().train(training)
    with torch.no_grad():
        model.head.classes.bias.fill_(0.0)  # sure enough to say something

    answer = model(10 * noise(2, height=40, width=72), None)

    assert answer.boxes_NM4.shape == (2, KEPT, 4)
    assert answer.boxes_NM4.dtype == answer.scores_NM.dtype == torch.float32
    assert answer.labels_NM.dtype == torch.int64
    assert answer.loss_N is None
    assert bool((answer.labels_NM >= 0).any())
    assert answer.boxes_NM4.min() >= 0
    assert answer.boxes_NM4[..., 0::2].max() <= 72
    assert answer.boxes_NM4[..., 1::2].max() <= 40
    assert not answer.scores_NM.requires_grad


def test_the_surest_come_first_and_what_is_empty_is_minus_one() -> None:
    answer = packed([found([[0, 0, 4, 4], [8, 8, 9, 9]], [0.9, 0.4], [2, 0]), found([], [], [])], loss_N=None)

    assert answer.labels_NM[:, :3].tolist() == [[2, 0, -1], [-1, -1, -1]]
    assert answer.scores_NM[0, :3].tolist() == pytest.approx([0.9, 0.4, 0.0])
    assert answer.boxes_NM4[0, 2].tolist() == [0, 0, 0, 0]


def test_of_two_boxes_of_one_thing_the_surer_one_stays() -> None:
    boxes, scores, labels = suppressed(
        found([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8]], [0.5, 0.7, 0.6], [1, 1, 0])
    )

    assert scores.tolist() == pytest.approx([0.7, 0.6])  # the third is of another class
    assert labels.tolist() == [1, 0]
    assert boxes[0].tolist() == [0, 0, 10, 9]


def test_one_place_can_say_two_classes() -> None:
    boxes_NL4 = torch.tensor([[[-5.0, 2.0, 20.0, 12.0]]])
    logits_NLK = torch.tensor([[[2.0, -9.0, 1.0]]])

    answer = best_boxes(boxes_NL4, logits_NLK, (10, 16), candidates=300, loss_N=None)

    assert answer.labels_NM[0, :3].tolist() == [0, 2, -1]  # e^-9 is less than the least score
    assert answer.scores_NM[0, :2].tolist() == pytest.approx(logits_NLK[0, 0, [0, 2]].sigmoid().tolist())
    assert answer.boxes_NM4[0, 0].tolist() == [0, 2, 16, 10]


# Boxes


@given(box=st.tuples(*(st.floats(0, 60, width=32) for _ in range(2)), *(st.floats(1, 64, width=32) for _ in range(2))))
def test_decoding_turns_encoding_round(box: tuple[float, float, float, float]) -> None:
    left, top, width, height = box
    grid = square_grid()
    boxes_NL4 = torch.tensor([left, top, left + width, top + height]).expand(1, len(grid.points_L2), 4)

    assert torch.allclose(decode(encode(boxes_NL4, grid), grid), boxes_NL4, atol=1e-3)


def test_places_are_the_middles_of_their_cells() -> None:
    grid = grid_of([(1, 2), (1, 1)], (8, 16), CPU)

    assert grid.points_L2.tolist() == [[4, 4], [12, 4], [8, 8]]
    assert grid.strides_L.tolist() == [8, 8, 16]


def test_overlap_is_common_area_over_all_area() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [4, 0, 6, 2]])
    others = torch.tensor([[1.0, 0, 3, 2], [4, 0, 6, 2]])

    assert overlaps(boxes, others).tolist() == [pytest.approx([1 / 3, 0]), pytest.approx([0, 1])]


def test_the_generalized_overlap_falls_with_distance() -> None:
    box = torch.tensor([[0.0, 0, 2, 2]]).expand(3, 4)
    others = torch.tensor([[0.0, 0, 2, 2], [2, 0, 4, 2], [6, 0, 8, 2]])

    iou, generalized = overlap_and_generalized(box, others)

    assert iou.tolist() == pytest.approx([1, 0, 0])
    assert generalized.tolist() == pytest.approx([1, 0, -0.5])  # of the hull of 16 half is empty


def test_fill_and_boxes_without_area_are_no_true_boxes() -> None:
    boxes_M4, labels_M = true_boxes(torch.tensor([[1.0, 2, 3, 9, 8], [0, 5, 5, 5, 9], list(NO_BOX)]))

    assert boxes_M4.tolist() == [[2, 3, 9, 8]]
    assert labels_M.tolist() == [1]


# Who answers for which box


@pytest.mark.parametrize(
    "box",
    [
        (8.0, 8.0, 40.0, 40.0),
        (0.0, 0.0, 64.0, 64.0),
        (15.0, 15.0, 17.0, 17.0),
        (0.0, 0.0, 1.0, 1.0),
        (63.0, 0.0, 64.0, 64.0),
    ],
)
def test_a_box_of_any_size_finds_a_place_near_its_centre(box: tuple[float, ...]) -> None:
    grid = square_grid()
    start = torch.zeros(len(grid.points_L2), 4)

    owner_L = assign(
        decode(start, grid), torch.full((len(start), CLASSES), -4.6), grid, torch.tensor([box]), torch.tensor([0])
    )

    mine = owner_L >= 0
    centre = torch.tensor([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    assert int(mine.sum()) >= 1
    assert bool(((grid.points_L2[mine] - centre).abs().amax(dim=1) <= 2 * grid.strides_L[mine]).all())


def test_without_boxes_no_place_answers() -> None:
    grid = square_grid()
    raw_L4, logits_LK = said(grid)

    owner_L = assign(decode(raw_L4, grid), logits_LK, grid, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))

    assert owner_L.tolist() == [-1] * len(raw_L4)


def test_the_place_that_says_the_box_already_answers_for_it() -> None:
    grid = square_grid()
    raw_L4, logits_LK = said(grid)
    box = torch.tensor([20.0, 20.0, 44.0, 44.0])
    place = int((grid.points_L2 - 28).abs().sum(dim=1).argmin())
    boxes_L4 = decode(raw_L4, grid)
    boxes_L4[place] = box

    owner_L = assign(boxes_L4, logits_LK, grid, box[None], torch.tensor([1]))

    assert owner_L[place] == 0


def test_a_mirrored_image_has_the_mirrored_loss() -> None:
    grid = square_grid()
    raw_L4, logits_LK = said(grid)
    truth = target([(0, 4, 6, 30, 40), (2, 33, 20, 61, 44), (1, 50, 50, 57, 55)])
    mirrored = truth.clone()
    mirrored[..., 1], mirrored[..., 3] = SIDE - truth[..., 3], SIDE - truth[..., 1]
    twin_L = torch.tensor(
        [
            int(((grid.points_L2 - torch.tensor([SIDE - x, y])).abs().sum(dim=1) + (grid.strides_L - s).abs()).argmin())
            for (x, y), s in zip(grid.points_L2.tolist(), grid.strides_L.tolist(), strict=True)
        ]
    )

    loss = detection_loss(decode(raw_L4[None], grid), logits_LK[None], grid, truth)
    turned = (raw_L4 * torch.tensor([-1.0, 1, 1, 1]))[twin_L]
    mirrored_loss = detection_loss(decode(turned[None], grid), logits_LK[twin_L][None], grid, mirrored)

    assert mirrored_loss.item() == pytest.approx(loss.item(), rel=1e-4)


def test_the_right_answer_costs_nothing_and_a_wrong_class_much() -> None:
    grid = square_grid()
    truth = target([(1, 8, 8, 40, 40)])
    boxes_NL4 = truth[:, :1, 1:].expand(1, len(grid.points_L2), 4)
    owner_L = assign(boxes_NL4[0], torch.zeros(len(grid.points_L2), CLASSES), grid, truth[0, :, 1:], torch.tensor([1]))
    right, wrong = torch.full((2, 1, len(owner_L), CLASSES), -20.0)
    right[0, owner_L >= 0, 1] = 20.0
    wrong[0, owner_L >= 0, 2] = 20.0

    assert detection_loss(boxes_NL4, right, grid, truth).item() < 1e-4
    assert detection_loss(boxes_NL4, wrong, grid, truth).item() > 10


# Its loss


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("training", [True, False])
def test_every_image_has_a_finite_loss_of_its_own(norm: str, training: bool) -> None:
    crowd = [(float(i % CLASSES), 2.0 * i, i, 2.0 * i + 12, i + 9.0) for i in range(24)]
    truth = target([], [(0, 0, 0, 64, 64)], [(1, 30, 30, 31, 31)], crowd)

    answer = detector(norm=norm).train(training)(noise(4), truth)

    assert answer.loss_N is not None
    assert answer.loss_N.shape == (4,)
    assert answer.loss_N.dtype == torch.float32
    assert bool(torch.isfinite(answer.loss_N).all())
    assert bool((answer.loss_N > 0).all())
    assert answer.loss_N[0] < 0.1 < answer.loss_N[1:].min()  # nothing to say, and it says nothing


def test_the_loss_of_an_image_does_not_depend_on_the_others() -> None:
    model = detector().eval()
    images, truth = noise(3), target([(0, 8, 8, 30, 30)], [(2, 20, 4, 60, 60), (1, 0, 0, 9, 9)], [])

    together = model(images, truth).loss_N
    alone = torch.cat([model(images[i : i + 1], truth[i : i + 1]).loss_N for i in range(3)])

    assert torch.allclose(together, alone, rtol=1e-4)


def test_the_loss_is_float32_under_mixed_precision() -> None:
    model, images, truth = detector().eval(), noise(2), target([(0, 8, 8, 30, 30)], [(2, 20, 4, 60, 60)])

    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model(images, truth)

    assert mixed.loss_N.dtype == mixed.boxes_NM4.dtype == torch.float32
    assert torch.allclose(mixed.loss_N, model(images, truth).loss_N, rtol=0.05)


def test_the_gradient_reaches_every_parameter() -> None:
    model = detector()
    every_map = target([(0, 8, 8, 36, 40), (1, 50, 50, 110, 114)], [(2, 0, 0, 128, 128)])

    model(noise(2, height=128, width=128), every_map).loss_N.mean().backward()

    assert [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().any())] == []


def test_lost_numbers_are_told_by_the_loss_and_not_by_a_crash() -> None:
    model = detector()
    with torch.no_grad():
        model.stem[0].weight.fill_(torch.nan)

    answer = model(noise(1), target([(0, 8, 8, 30, 30)]))

    assert not bool(torch.isfinite(answer.loss_N).any())


# It learns


def painted() -> tuple[torch.Tensor, torch.Tensor]:
    """Two images of squares, each class with a colour of its own, and their boxes."""
    truth = target([(0, 4, 6, 28, 30), (1, 36, 34, 58, 58)], [(2, 20, 10, 50, 38), (0, 6, 44, 20, 60)])
    images = torch.full((2, 3, SIDE, SIDE), -0.5)
    for image, boxes in zip(images, truth, strict=True):
        for label, left, top, right, bottom in boxes.int().tolist():
            image[label, top:bottom, left:right] = 1.5
    return images, truth


def trained(steps: int) -> tuple[SmallDetector, list[float]]:
    model, (images, truth) = detector(), painted()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        loss = model(images, truth).loss_N.mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model.eval(), losses


def hits(answer: Detections, truth: torch.Tensor) -> list[bool]:
    """For each image: are its surest boxes, as many as there are true ones, those true ones with their classes?"""
    right = []
    for boxes, labels, target_M5 in zip(answer.boxes_NM4, answer.labels_NM, truth, strict=True):
        true_M4, labels_M = true_boxes(target_M5)
        count = len(true_M4)
        same_MM = (overlaps(boxes[:count], true_M4) > 0.5) & (labels[:count, None] == labels_M)
        right.append(bool(same_MM.any(dim=0).all()))
    return right


def test_it_learns_two_images_by_heart() -> None:
    images, truth = painted()

    model, losses = trained(80)

    assert losses[-1] < 0.3 * losses[0]
    assert hits(model(images, None), truth) == [True, True]


def test_the_same_seed_gives_the_same_bits() -> None:
    assert trained(4)[1] == trained(4)[1]


def test_its_weights_can_be_kept_and_read_back() -> None:
    model, other = trained(2)[0], detector(seed=1).eval()
    images, truth = painted()

    other.load_state_dict(copy.deepcopy(model.state_dict()))

    for mine, theirs in itertools.pairwise([model(images, truth), other(images, truth)]):
        assert torch.equal(mine.loss_N, theirs.loss_N)
        assert torch.equal(mine.boxes_NM4, theirs.boxes_NM4)


# By name


def test_it_is_built_by_name() -> None:
    kind = networks.get("small-detector")()

    model = kind.build(NetworkSpec(name="small-detector", width=16, blocks=2), outputs=5, size=(48, 64))

    assert kind.form == "boxes"
    assert model.takes_target
    assert model.eval()(noise(1, height=48)).labels_NM.max() < 5
