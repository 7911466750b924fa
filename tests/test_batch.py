"""A batch moves whole, and its parts put together are the batch."""

import numpy as np
import pytest
import torch

from trainwright.batch import Batch


def batch_of(images: int) -> Batch:
    return Batch(
        images_NCHW=torch.arange(images * 12, dtype=torch.uint8).reshape(images, 3, 2, 2),
        target=torch.arange(images),
        rows_N=np.arange(images) + 100,
    )


def test_its_length_is_the_number_of_images():
    assert len(batch_of(5)) == 5


@pytest.mark.parametrize(("size", "lengths"), [(2, [1, 2, 2]), (3, [2, 3]), (5, [5]), (9, [5]), (1, [1] * 5)])
def test_parts_are_at_most_as_large_as_asked_and_even(size, lengths):
    assert [len(part) for part in batch_of(5).split(size)] == lengths


@pytest.mark.parametrize("size", [1, 2, 5])
def test_parts_put_together_are_the_batch(size):
    batch = batch_of(5)

    parts = batch.split(size)

    assert torch.equal(torch.cat([part.images_NCHW for part in parts]), batch.images_NCHW)
    assert torch.equal(torch.cat([part.target for part in parts]), batch.target)
    assert np.concatenate([part.rows_N for part in parts]).tolist() == batch.rows_N.tolist()


def test_parts_share_the_memory_of_the_batch():
    batch = batch_of(4)

    second = batch.split(2)[1]
    second.images_NCHW.zero_()

    assert int(batch.images_NCHW[2:].sum()) == 0
    assert np.shares_memory(second.rows_N, batch.rows_N)


def test_moving_takes_images_and_target_and_leaves_the_rows():
    batch = batch_of(2)

    moved = batch.to(torch.device("meta"))

    assert (moved.images_NCHW.device.type, moved.target.device.type) == ("meta", "meta")
    assert moved.rows_N is batch.rows_N
    assert batch.images_NCHW.device.type == "cpu"


def test_moving_keeps_the_memory_order_of_the_images():
    batch = batch_of(2)
    last = Batch(
        images_NCHW=batch.images_NCHW.contiguous(memory_format=torch.channels_last),
        target=batch.target,
        rows_N=batch.rows_N,
    )

    moved = last.to(torch.device("cpu"))

    assert moved.images_NCHW.is_contiguous(memory_format=torch.channels_last)
