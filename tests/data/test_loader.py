"""A batch is a function of seed and step: whoever makes it, with however many threads, from wherever one starts."""

from __future__ import annotations

import functools
import gc
import itertools
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainwright import seeding
from trainwright.batch import Batch
from trainwright.data.augment import Moves, move_boxes, move_images, move_masks, paint_images, plan, stored_size
from trainwright.data.draws import ALL, FIRST, columns_for, draws
from trainwright.data.loader import EvalBatches, TrainBatches
from trainwright.data.pixels import DecodedPixels, MemoryPixels
from trainwright.data.targets import PlainSource
from trainwright.errors import DataError
from trainwright.recipe import AugmentSpec

SIZE = (8, 12)
FLIP_AND_CROP = AugmentSpec(flip=0.5, crop_padding=0.25)
EVERYTHING = AugmentSpec(
    flip=0.5, vertical_flip=0.5, crop_padding=0.25, colour=0.4, trivial_augment=1.0, erase=0.5, mixup=0.2, cutmix=1.0
)
IMAGES = seeding.stream(0, "test-images").integers(0, 256, (40, *SIZE, 3), dtype=np.uint8)
MASKS = seeding.stream(0, "test-masks").integers(0, 256, (40, *SIZE), dtype=np.uint8)
BOXES = np.array([[[0, 1, 2, row % 9 + 3, 7], [1, 0, 0, 5, 3]] for row in range(40)], dtype=np.float32)
TARGETS = PlainSource(np.arange(40, dtype=np.int64) * 10)

Move = Callable[[np.ndarray, Moves], np.ndarray]


def train_batches(
    rows: np.ndarray | None = None,
    *,
    batch_size: int = 6,
    augment: AugmentSpec = FLIP_AND_CROP,
    seed: int = 0,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
) -> TrainBatches:
    return TrainBatches(
        MemoryPixels(IMAGES),
        TARGETS,
        np.arange(40) if rows is None else rows,
        batch_size=batch_size,
        image_size=SIZE,
        augment=augment,
        seed=seed,
        workers=workers,
        share=share,
    )


def eval_batches(rows: np.ndarray, *, augment: AugmentSpec | None = None, workers: int = 0) -> EvalBatches:
    return EvalBatches(
        MemoryPixels(IMAGES), TARGETS, rows, batch_size=7, image_size=SIZE, augment=augment, workers=workers
    )


def same(one: Batch, other: Batch) -> bool:
    return (
        torch.equal(one.images_NCHW, other.images_NCHW)
        and torch.equal(one.target, other.target)
        and np.array_equal(one.rows_N, other.rows_N)
    )


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("trainwright")}


@given(
    workers=st.integers(0, 5),
    first=st.integers(0, 20),
    seed=st.integers(0, 2**63 - 1),
    spec=st.sampled_from([FLIP_AND_CROP, EVERYTHING]),
)
def test_the_batch_of_a_step_is_the_same_for_any_workers_and_starting_step(
    workers: int, first: int, seed: int, spec: AugmentSpec
) -> None:
    expected = [train_batches(seed=seed, augment=spec).batch(step) for step in range(first, first + 4)]
    found = list(train_batches(seed=seed, augment=spec, workers=workers).iterate(first, first + 4))
    assert len(found) == 4
    assert all(map(same, expected, found))


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_shares_of_a_batch_are_that_batch_in_its_order(count: int) -> None:
    whole = train_batches(augment=EVERYTHING).batch(3)
    parts = [train_batches(augment=EVERYTHING, share=(part, count)).batch(3) for part in range(count)]

    assert [len(part) for part in parts] == [6 // count] * count
    assert torch.equal(torch.cat([part.images_NCHW for part in parts]), whole.images_NCHW)
    assert torch.equal(torch.cat([part.target for part in parts]), whole.target)
    assert np.array_equal(np.concatenate([part.rows_N for part in parts]), whole.rows_N)


def test_the_plan_of_an_epoch_is_made_once_however_many_threads_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    planned, batches = [], train_batches(batch_size=2, workers=8)
    waiting = threading.Barrier(8)

    def slowly(epoch: int) -> tuple[np.ndarray, np.ndarray]:
        planned.append(epoch)
        threading.Event().wait(0.05)  # long enough for every thread to find it missing
        return made(epoch)

    def at_once(step: int) -> Batch:
        waiting.wait()
        return batch(step)

    made, batch = batches._plan, batches.batch
    monkeypatch.setattr(batches, "_plans", functools.lru_cache(maxsize=2)(slowly))
    monkeypatch.setattr(batches, "batch", at_once)

    list(batches.iterate(0, 8))

    assert planned == [0]


def test_only_numbers_that_are_read_are_drawn() -> None:
    assert columns_for(AugmentSpec(flip=0.5, crop_padding=0.25, mixup=0.2, cutmix=1.0)) == FIRST
    assert columns_for(AugmentSpec(crop_scale=(0.5, 1.0))) == FIRST
    for field in ("vertical_flip", "colour", "trivial_augment", "erase"):
        assert columns_for(AugmentSpec(**{field: 0.5})) == ALL
    assert np.array_equal(draws(3, 0, 10, columns=FIRST), draws(3, 0, 10)[:, :FIRST])


def test_batches_may_be_asked_for_in_any_order() -> None:
    forwards, backwards = train_batches(), train_batches()
    expected = [forwards.batch(step) for step in range(20)]
    found = [backwards.batch(step) for step in reversed(range(20))]
    assert all(map(same, expected, reversed(found)))


def test_another_seed_gives_other_batches() -> None:
    assert not np.array_equal(train_batches(seed=0).batch(0).rows_N, train_batches(seed=1).batch(0).rows_N)


@given(batch_size=st.sampled_from([1, 2, 4, 5, 8, 10, 20, 40]), epoch=st.integers(0, 5))
def test_every_row_comes_once_an_epoch_where_the_batch_size_divides(batch_size: int, epoch: int) -> None:
    batches = train_batches(batch_size=batch_size)
    steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
    rows = np.concatenate([batches.batch(step).rows_N for step in steps])
    assert sorted(rows.tolist()) == list(range(40))


def test_what_does_not_fill_a_batch_is_left_out_and_others_each_epoch() -> None:
    batches = train_batches(batch_size=6)
    left_out = [set(range(40)) - _rows_of_epoch(batches, epoch) for epoch in range(4)]
    assert batches.steps_per_epoch == 6
    assert [len(rows) for rows in left_out] == [4, 4, 4, 4]
    assert len(set(map(frozenset, left_out))) > 1


def test_fewer_rows_than_a_batch_make_one_batch() -> None:
    batches = train_batches(np.array([3, 5, 9]), batch_size=64)
    assert batches.steps_per_epoch == 1
    assert sorted(batches.batch(0).rows_N.tolist()) == [3, 5, 9]


def test_epochs_differ_in_order_and_in_what_is_drawn() -> None:
    batches = train_batches(np.array([4]), batch_size=1, augment=FLIP_AND_CROP)
    images = {batches.batch(epoch).images_NCHW.numpy().tobytes() for epoch in range(20)}
    assert len(images) > 5


def test_images_are_uint8_in_channels_last_memory_with_their_targets() -> None:
    batch = train_batches().batch(0)
    assert batch.images_NCHW.dtype == torch.uint8
    assert batch.images_NCHW.shape == (6, 3, *SIZE)
    assert batch.images_NCHW.is_contiguous(memory_format=torch.channels_last)
    assert batch.rows_N.dtype == np.int64
    assert batch.target.tolist() == (batch.rows_N * 10).tolist()


def test_targets_may_be_vectors() -> None:
    targets = np.linspace(0, 1, 80, dtype=np.float32).reshape(40, 2)
    batches = TrainBatches(
        MemoryPixels(IMAGES),
        PlainSource(targets),
        np.arange(40),
        batch_size=4,
        image_size=SIZE,
        augment=AugmentSpec(),
        seed=0,
        workers=0,
    )
    assert np.array_equal(batches.batch(0).target.numpy(), targets[batches.batch(0).rows_N])


def test_unchanged_images_are_those_of_their_rows() -> None:
    batch = train_batches(augment=AugmentSpec()).batch(3)
    assert np.array_equal(batch.images_NCHW.permute(0, 2, 3, 1).numpy(), IMAGES[batch.rows_N])


def test_training_does_not_write_into_the_stored_images() -> None:
    before = IMAGES.copy()
    train_batches(augment=AugmentSpec()).batch(0).images_NCHW.zero_()
    assert np.array_equal(IMAGES, before)


def test_a_resized_crop_comes_from_the_larger_stored_image() -> None:
    spec = AugmentSpec(crop_scale=(0.5, 1.0))
    stored = np.zeros((4, *stored_size(SIZE, spec), 3), np.uint8)
    batches = TrainBatches(
        MemoryPixels(stored), TARGETS, np.arange(4), batch_size=4, image_size=SIZE, augment=spec, seed=0, workers=0
    )
    assert batches.batch(0).images_NCHW.shape == (4, 3, *SIZE)


def test_a_vertical_flip_is_added_to_what_was_drawn_before() -> None:
    """Numbers for new changes come from a stream of their own, so the old ones stay as they were."""
    before = train_batches().batch(2)
    turned = train_batches(augment=FLIP_AND_CROP.model_copy(update={"vertical_flip": 1.0})).batch(2)
    assert torch.equal(turned.images_NCHW, before.images_NCHW.flip(2))
    assert np.array_equal(turned.rows_N, before.rows_N)


def test_mixtures_are_not_made_here() -> None:
    mixed = FLIP_AND_CROP.model_copy(update={"mixup": 0.2, "cutmix": 1.0})
    assert same(train_batches(augment=mixed).batch(1), train_batches().batch(1))
    assert train_batches(augment=mixed).batch(1).partner is None


def test_images_are_augmented_and_not_only_moved() -> None:
    plain, painted = train_batches().batch(0), train_batches(augment=EVERYTHING).batch(0)
    assert painted.images_NCHW.dtype == torch.uint8
    assert painted.images_NCHW.is_contiguous(memory_format=torch.channels_last)
    assert not any(torch.equal(*pair) for pair in zip(plain.images_NCHW, painted.images_NCHW, strict=True))


@pytest.mark.parametrize("warpable", [True, False])
def test_images_are_warped_only_where_their_targets_bear_it(warpable: bool) -> None:
    source = _MovedSource(MASKS, move_masks)
    source.warpable = warpable
    batches = TrainBatches(
        MemoryPixels(np.repeat(MASKS[..., None], 3, axis=3)),
        source,
        np.arange(40),
        batch_size=40,
        image_size=SIZE,
        augment=AugmentSpec(trivial_augment=1.0),
        seed=0,
        workers=0,
    )
    batch = batches.batch(0)
    stored = MASKS[batch.rows_N]
    in_place = [np.array_equal(*pair) for pair in zip(batch.target.numpy(), stored, strict=True)]
    assert all(in_place) != warpable


@pytest.mark.parametrize(
    "spec",
    [
        AugmentSpec(),
        FLIP_AND_CROP,
        AugmentSpec(flip=0.5, crop_scale=(0.5, 1.0)),
        AugmentSpec(vertical_flip=0.5, erase=0.5),
    ],
    ids=str,
)
@pytest.mark.parametrize(("stored", "move"), [(MASKS, move_masks), (BOXES, move_boxes)], ids=["masks", "boxes"])
def test_targets_move_as_their_images_do(spec: AugmentSpec, stored: np.ndarray, move: Move) -> None:
    batches = TrainBatches(
        MemoryPixels(IMAGES),
        _MovedSource(stored, move),
        np.arange(40),
        batch_size=40,
        image_size=(7, 10),
        augment=spec,
        seed=3,
        workers=0,
    )
    batch = batches.batch(0)
    table = draws(3, 0, 40)[batch.rows_N]
    moves = plan(SIZE, (7, 10), spec, table, 40)
    images = paint_images(move_images(IMAGES[batch.rows_N], moves), moves, spec, table)
    assert np.array_equal(batch.images_NCHW.permute(0, 2, 3, 1).numpy(), images)
    assert np.array_equal(batch.target.numpy(), move(stored[batch.rows_N], moves))
    assert batch.target.numpy().dtype == stored.dtype


def test_in_evaluation_targets_take_the_clean_transform() -> None:
    batches = EvalBatches(
        MemoryPixels(IMAGES), _MovedSource(MASKS, move_masks), np.arange(5), batch_size=5, image_size=(6, 10), workers=0
    )
    assert np.array_equal(next(iter(batches)).target.numpy(), MASKS[:5, 1:7, 1:11])


def test_closing_early_leaves_no_threads() -> None:
    before = our_threads()
    iterator = train_batches(workers=3).iterate()
    next(iterator)
    running = our_threads() - before
    iterator.close()  # type: ignore[attr-defined]
    assert running
    assert not running & our_threads()


def test_dropping_the_iterator_leaves_no_threads() -> None:
    before = our_threads()
    next(train_batches(workers=3).iterate())
    gc.collect()
    assert our_threads() <= before


def test_threads_do_not_run_far_ahead_of_a_slow_caller() -> None:
    pixels = _CountingPixels(IMAGES)
    batches = TrainBatches(
        pixels, TARGETS, np.arange(40), batch_size=1, image_size=SIZE, augment=AugmentSpec(), seed=0, workers=2
    )
    iterator = batches.iterate()
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]  # waits for the threads
    assert pixels.taken <= 5  # two for each worker, and the one that replaced what was handed out


def test_an_error_in_a_thread_reaches_the_caller_with_its_row_and_ends_the_threads() -> None:
    def read(row: int) -> np.ndarray:
        if row == 17:
            raise OSError("truncated")
        image: np.ndarray = IMAGES[row]
        return image

    pixels = DecodedPixels(read, rows=np.arange(40), size=SIZE, workers=1, reason="a test")
    batches = TrainBatches(
        pixels, TARGETS, np.arange(40), batch_size=8, image_size=SIZE, augment=AugmentSpec(), seed=0, workers=2
    )
    before = our_threads()
    with pytest.raises(DataError, match=r"row 17: .*OSError: truncated"):
        list(batches.iterate(0, batches.steps_per_epoch))
    left = our_threads() - before
    assert not [thread for thread in left if thread.name.startswith("trainwright-batches")]


def test_batches_before_a_faulty_one_still_come() -> None:
    order = train_batches(batch_size=1).batch
    faulty = int(order(3).rows_N[0])

    def read(row: int) -> np.ndarray:
        if row == faulty:
            raise OSError("truncated")
        image: np.ndarray = IMAGES[row]
        return image

    pixels = DecodedPixels(read, rows=np.arange(40), size=SIZE, workers=1, reason="a test")
    batches = TrainBatches(
        pixels, TARGETS, np.arange(40), batch_size=1, image_size=SIZE, augment=AugmentSpec(), seed=0, workers=2
    )
    iterator = batches.iterate()
    assert len(list(itertools.islice(iterator, 3))) == 3
    with pytest.raises(DataError):
        next(iterator)


def test_no_rows_is_said_at_once() -> None:
    with pytest.raises(DataError, match="there are no images"):
        train_batches(np.array([], dtype=np.int64))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_evaluation_sees_every_row_once_in_order(workers: int) -> None:
    rows = np.array([30, 2, 7, 11, 5, 39, 0, 1, 20])
    batches = list(eval_batches(rows, workers=workers))
    assert [len(batch) for batch in batches] == [7, 2]
    assert np.concatenate([batch.rows_N for batch in batches]).tolist() == rows.tolist()
    assert np.array_equal(batches[0].images_NCHW.permute(0, 2, 3, 1).numpy(), IMAGES[rows[:7]])


def test_the_length_of_an_evaluation_is_its_number_of_batches() -> None:
    assert len(eval_batches(np.arange(14))) == 2
    assert len(eval_batches(np.arange(15))) == 3


@pytest.mark.parametrize("spec", [FLIP_AND_CROP, EVERYTHING], ids=str)
def test_an_evaluation_may_be_repeated(spec: AugmentSpec) -> None:
    batches = eval_batches(np.arange(15), augment=spec, workers=2)
    assert all(map(same, list(batches), list(batches)))


@pytest.mark.parametrize("spec", [FLIP_AND_CROP, AugmentSpec(colour=0.5)], ids=str)
def test_augmented_evaluation_draws_from_a_stream_of_its_own(spec: AugmentSpec) -> None:
    training = train_batches(np.array([4]), batch_size=1, augment=spec)
    evaluation = next(iter(eval_batches(np.array([4]), augment=spec)))
    assert not torch.equal(evaluation.images_NCHW, torch.from_numpy(IMAGES[[4]]).permute(0, 3, 1, 2))
    assert not torch.equal(evaluation.images_NCHW, training.batch(0).images_NCHW)


class _MovedSource:
    """Targets that are an array beside the stored images, moved by `move`."""

    warpable = False

    def __init__(self, stored_S: np.ndarray, move: Move) -> None:
        self._stored_S, self._move = stored_S, move

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        taken: np.ndarray = self._stored_S[rows_N]
        return taken

    def moved(self, taken: np.ndarray, moves: Moves) -> np.ndarray:
        moved: np.ndarray = self._move(taken, moves)
        return moved


class _CountingPixels(MemoryPixels):
    """Counts how many images were taken."""

    taken = 0

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        self.taken += len(rows_N)
        return super().take(rows_N)


def _rows_of_epoch(batches: TrainBatches, epoch: int) -> set[int]:
    first = epoch * batches.steps_per_epoch
    return {row for batch in batches.iterate(first, first + batches.steps_per_epoch) for row in batch.rows_N.tolist()}
