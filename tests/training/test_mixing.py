"""Mixtures of images: what is mixed, with whom, how often, and that the loss weighs both targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional

from trainwright import seeding
from trainwright.batch import Batch
from trainwright.errors import RecipeError
from trainwright.recipe import AugmentSpec
from trainwright.training.loop import loss_of
from trainwright.training.mixing import cutmix, cutmix_window, mixing, mixup

ROTATED = np.array([1, 2, 3, 0])
MIXUP, CUTMIX = AugmentSpec(mixup=0.4), AugmentSpec(cutmix=1.0)


def a_batch(images: int = 4, *, side: int = 8, kind: str = "class", seed: int = 0) -> Batch:
    """Images of noise in channels-last memory; masks say what the red channel is."""
    draws = seeding.stream(seed, "test-images")
    pixels_NHWC = torch.from_numpy(draws.integers(0, 256, (images, side, side, 3), dtype=np.uint8))
    target = {
        "class": torch.arange(images),
        "numbers": torch.arange(images, dtype=torch.float32)[:, None],
        "mask": pixels_NHWC[..., 0].clone(),
    }[kind]
    return Batch(images_NCHW=pixels_NHWC.permute(0, 3, 1, 2), target=target, rows_N=np.arange(images))


def mixed(spec: AugmentSpec, batch: Batch, step: int = 0, *, kind: str = "class", seed: int = 0) -> Batch:
    mix = mixing(spec, kind=kind, seed=seed)  # type: ignore[arg-type]
    assert mix is not None
    return mix(batch, step)


def shares(spec: AugmentSpec, steps: int, *, side: int = 8) -> np.ndarray:
    """The share of each of many steps; nan where nothing was mixed."""
    batch, mix = a_batch(2, side=side), mixing(spec, kind="class", seed=0)
    assert mix is not None
    found = [mix(batch, step).share_N for step in range(steps)]
    return np.array([np.nan if share_N is None else float(share_N[0]) for share_N in found])


@pytest.mark.parametrize("spec", [AugmentSpec(), AugmentSpec(mixup=0.2, mix=0.0)], ids=["off", "never"])
def test_without_mixtures_there_is_nothing_to_do(spec: AugmentSpec) -> None:
    assert mixing(spec, kind="class", seed=0) is None


@pytest.mark.parametrize("spec", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
def test_a_mixture_depends_on_seed_and_step_alone(spec: AugmentSpec) -> None:
    batch = a_batch(8, side=32)
    first, again = mixed(spec, batch, 5), mixed(spec, batch, 5)
    assert torch.equal(first.images_NCHW, again.images_NCHW)
    for other in (mixed(spec, batch, 6), mixed(spec, batch, 5, seed=1)):
        assert not torch.equal(first.images_NCHW, other.images_NCHW)


@pytest.mark.parametrize("spec", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
def test_the_batch_that_is_mixed_stays_as_it_is(spec: AugmentSpec) -> None:
    batch, untouched = a_batch(), a_batch()
    mixed(spec, batch)
    assert torch.equal(batch.images_NCHW, untouched.images_NCHW)
    assert torch.equal(batch.target, untouched.target)


@pytest.mark.parametrize("spec", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
@given(images=st.integers(1, 9), step=st.integers(0, 50))
def test_every_image_is_the_partner_of_one(spec: AugmentSpec, images: int, step: int) -> None:
    found = mixed(spec, a_batch(images), step)
    assert found.partner is not None
    assert sorted(found.partner.tolist()) == list(range(images))
    assert found.target.tolist() == list(range(images))
    assert found.rows_N.tolist() == list(range(images))


def test_mixup_adds_both_images_by_their_shares() -> None:
    batch = a_batch()
    found = mixup(batch, ROTATED, share=0.75)
    images = batch.images_NCHW.double()
    assert found.images_NCHW.dtype == torch.float32
    assert torch.allclose(found.images_NCHW.double(), 0.75 * images + 0.25 * images[[1, 2, 3, 0]], rtol=0, atol=1e-4)
    assert found.partner is not None
    assert found.share_N is not None
    assert found.partner.tolist() == [1, 2, 3, 0]
    assert found.share_N.tolist() == [0.75] * 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mixup_of_floats_keeps_their_precision(dtype: torch.dtype) -> None:
    batch = a_batch()
    found = mixup(
        Batch(images_NCHW=batch.images_NCHW.to(dtype), target=batch.target, rows_N=batch.rows_N), ROTATED, share=0.5
    )
    assert found.images_NCHW.dtype == dtype


@given(share=st.floats(0, 1), seed=st.integers(0, 20))
def test_mixup_keeps_the_mean_image_of_the_batch(share: float, seed: int) -> None:
    batch = a_batch(seed=seed)
    found = mixup(batch, ROTATED, share=share)
    assert torch.allclose(found.images_NCHW.mean(dim=0), batch.images_NCHW.float().mean(dim=0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("spec", [MIXUP, CUTMIX], ids=["mixup", "cutmix"])
def test_mixtures_keep_the_order_of_memory(spec: AugmentSpec, layout: torch.memory_format) -> None:
    batch = a_batch()
    laid = Batch(
        images_NCHW=batch.images_NCHW.contiguous(memory_format=layout), target=batch.target, rows_N=batch.rows_N
    )
    assert mixed(spec, laid).images_NCHW.is_contiguous(memory_format=layout)


def test_cutmix_pastes_the_window_of_the_partner_and_nothing_else() -> None:
    batch = a_batch()
    found = cutmix(batch, ROTATED, (2, 1, 6, 4))
    expected = batch.images_NCHW.clone()
    expected[:, :, 1:4, 2:6] = batch.images_NCHW[[1, 2, 3, 0]][:, :, 1:4, 2:6]
    assert found.images_NCHW.dtype == torch.uint8
    assert torch.equal(found.images_NCHW, expected)
    assert found.partner is not None
    assert found.share_N is not None
    assert found.partner.tolist() == [1, 2, 3, 0]
    assert found.share_N.tolist() == [1 - 12 / 64] * 4


@given(step=st.integers(0, 200))
def test_the_share_of_cutmix_is_the_area_that_is_left(step: int) -> None:
    """Every image is of one colour, so what was pasted can be counted."""
    colours = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 3, 9, 11).contiguous()
    batch = Batch(images_NCHW=colours, target=torch.arange(6), rows_N=np.arange(6))
    found = mixed(CUTMIX, batch, step)
    assert found.partner is not None
    assert found.share_N is not None
    other = found.partner != found.target
    own = (found.images_NCHW[:, 0] == batch.target.view(-1, 1, 1)).float().mean(dim=(1, 2))
    assert torch.allclose(own[other], found.share_N[other])


def test_a_window_has_the_area_and_the_shape_of_the_image() -> None:
    assert cutmix_window((40, 80), 0.75, np.array([0.5, 0.5])) == (20, 10, 60, 30)


def test_a_window_is_cut_off_at_the_edge() -> None:
    assert cutmix_window((40, 80), 0.75, np.array([0.0, 0.999])) == (59, 0, 80, 10)


@given(size=st.tuples(st.integers(4, 50), st.integers(4, 50)), share=st.floats(0, 1), seed=st.integers(0, 100))
def test_a_window_lies_inside_and_takes_no_more_than_its_share(size: tuple[int, int], share: float, seed: int) -> None:
    left, top, right, bottom = cutmix_window(size, share, seeding.stream(seed, "centre").random(2))
    assert 0 <= left <= right <= size[1]
    assert 0 <= top <= bottom <= size[0]
    assert (right - left) * (bottom - top) <= (1 - share) * size[0] * size[1] + 1e-9


def test_a_mask_is_pasted_with_its_image_and_nothing_is_left_to_weigh() -> None:
    found = [mixed(CUTMIX, a_batch(kind="mask"), step, kind="mask") for step in range(20)]
    assert all(torch.equal(batch.target, batch.images_NCHW[:, 0]) for batch in found)
    assert all(batch.partner is None and batch.share_N is None for batch in found)
    assert any(not torch.equal(batch.target, a_batch(kind="mask").target) for batch in found)


@pytest.mark.parametrize("kind", ["numbers", "mask"])
def test_mixup_leaves_numbers_and_masks_whole_and_weighs_them(kind: str) -> None:
    batch = a_batch(kind=kind)
    found = mixed(MIXUP, batch, kind=kind)
    assert found.partner is not None
    assert found.share_N is not None
    assert torch.equal(found.target, batch.target)
    assert found.partner.shape == batch.target.shape


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_the_share_of_mixup_is_beta_distributed(alpha: float) -> None:
    found = shares(AugmentSpec(mixup=alpha), 2000)
    assert stats.kstest(found, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_as_many_batches_are_mixed_as_asked_for() -> None:
    found = shares(AugmentSpec(mixup=1.0, mix=0.3), 2000)
    assert np.isfinite(found).mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / 2000))


def test_with_both_on_each_is_made_as_often() -> None:
    mix = mixing(AugmentSpec(mixup=1.0, cutmix=1.0), kind="class", seed=0)
    assert mix is not None
    floats = [mix(a_batch(2), step).images_NCHW.is_floating_point() for step in range(1000)]
    assert np.mean(floats) == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 1000))


def test_the_loss_of_a_mixture_is_that_of_the_mixed_target(task: object) -> None:
    """Cross-entropy is linear in the target, so weighing two losses is one loss of soft targets (arXiv:1710.09412 §2)."""
    batch = mixup(a_batch(3), np.array([1, 2, 0]), share=0.3)
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 0.0], [3.0, -2.0, 1.0]])
    soft = 0.3 * torch.eye(3) + 0.7 * torch.eye(3)[[1, 2, 0]]
    loss_N, tally_NQ = loss_of(task, logits, batch)  # type: ignore[arg-type]
    assert torch.allclose(loss_N, functional.cross_entropy(logits, soft, reduction="none"))
    assert torch.allclose(tally_NQ, torch.tensor([[0.7, 1.0], [0.0, 1.0], [0.7, 1.0]]))


@pytest.mark.parametrize("spec", [MIXUP, CUTMIX, AugmentSpec(mixup=0.2, mix=0.0)], ids=["mixup", "cutmix", "never"])
def test_boxes_are_refused(spec: AugmentSpec) -> None:
    key = "mixup" if spec.mixup else "cutmix"
    with pytest.raises(RecipeError) as caught:
        mixing(spec, kind="boxes", seed=0)
    assert str(caught.value) == (
        f"augment.{key}: images of which each has boxes of its own are not mixed: the loss of a detector has no share of an "
        "image. Set it to 0; augment.crop_scale and augment.colour are for images with boxes."
    )


def test_cutmix_of_numbers_is_refused() -> None:
    with pytest.raises(RecipeError) as caught:
        mixing(AugmentSpec(mixup=0.2, cutmix=1.0), kind="numbers", seed=0)
    assert str(caught.value) == (
        "augment.cutmix: a number of a whole image cannot be told from a piece of it. "
        "Set it to 0; augment.mixup weighs the losses of both images."
    )


def test_the_parts_of_a_mixture_keep_what_belongs_to_their_images() -> None:
    batch = mixup(a_batch(5), np.array([1, 2, 3, 4, 0]), share=0.25)
    parts = batch.split(2)
    assert [part.partner.tolist() for part in parts if part.partner is not None] == [[1], [2, 3], [4, 0]]
    assert [part.share_N.tolist() for part in parts if part.share_N is not None] == [[0.25], [0.25] * 2, [0.25] * 2]
