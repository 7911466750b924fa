"""The best boxes as one computation: the same that are found image by image."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainwright.deploy.suppression import best_boxes
from trainwright.networks import detector_decoding

SIZE = (64, 96)


def found_one_by_one(boxes_NL4, logits_NLK):
    found = detector_decoding.best_boxes(
        boxes_NL4, logits_NLK, SIZE, candidates=detector_decoding.CANDIDATES, loss_N=None
    )
    return found.boxes_NM4, found.scores_NM, found.labels_NM


def drawn(seed, *, images, places, classes, crowd):
    """Boxes around `crowd` middles, so that many overlap; logits of which about a third is too low to count."""
    rng = torch.Generator().manual_seed(seed)
    middles_L2 = torch.rand(crowd, 2, generator=rng)[torch.randint(crowd, (images, places), generator=rng)] * 60
    middles_L2 = middles_L2 + torch.randn(images, places, 2, generator=rng) * 2
    sides_L2 = 6 + 14 * torch.rand(images, places, 2, generator=rng)
    boxes_NL4 = torch.cat((middles_L2 - sides_L2, middles_L2 + sides_L2), dim=2)
    return boxes_NL4, torch.randn(images, places, classes, generator=rng) * 3 - 3


@settings(max_examples=25)
@given(st.integers(0, 200), st.integers(1, 3), st.sampled_from([5, 60, 150]), st.integers(1, 3), st.integers(1, 12))
def test_the_boxes_are_those_that_are_found_image_by_image(seed, images, places, classes, crowd):
    boxes_NL4, logits_NLK = drawn(seed, images=images, places=places, classes=classes, crowd=crowd)

    ours, theirs = best_boxes(boxes_NL4, logits_NLK, SIZE), found_one_by_one(boxes_NL4, logits_NLK)

    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_a_box_that_only_a_suppressed_one_would_hide_is_kept():
    boxes_14 = [
        [0.0, 0, 20, 20],
        [0.0, 6, 20, 26],
        [0.0, 12, 20, 32],
    ]  # each covers more than half of the next one alone
    logits_NLK = torch.tensor([[[3.0], [2.0], [1.0]]])

    _, scores_NM, labels_NM = best_boxes(torch.tensor([boxes_14]), logits_NLK, SIZE)

    assert (labels_NM[0] >= 0).tolist() == [True, True] + [False] * 98
    torch.testing.assert_close(scores_NM[0, :2], torch.tensor([3.0, 1.0]).sigmoid())


def test_boxes_of_different_classes_do_not_hide_each_other():
    boxes_NL4 = torch.tensor([[[0.0, 0, 20, 20], [0.0, 0, 20, 20]]])
    logits_NLK = torch.tensor([[[3.0, -9.0], [-9.0, 2.0]]])

    _, _, labels_NM = best_boxes(boxes_NL4, logits_NLK, SIZE)

    assert labels_NM[0, :3].tolist() == [0, 1, -1]


def test_an_image_of_which_nothing_is_sure_has_no_box():
    boxes_NM4, scores_NM, labels_NM = best_boxes(torch.ones(1, 4, 4), torch.full((1, 4, 2), -9.0), SIZE)

    assert boxes_NM4.abs().sum() == 0
    assert scores_NM.sum() == 0
    assert set(labels_NM[0].tolist()) == {-1}
