"""Measuring batch sizes: what is chosen of given figures, and that a measurement leaves no trace."""

import hashlib
import random
import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainwright.errors import OutOfResourcesError, UsageError
from trainwright.optim.optimizers import build_optimizer
from trainwright.plugins import optimizers
from trainwright.recipe import OptimizerSpec
from trainwright.training import batch_size as trial
from trainwright.training.batch_size import BatchSizeRow, candidates, knee, measure_batch_sizes
from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")
GIGABYTE = 10**9


@pytest.fixture
def rows():
    """({batch size: images a second}, train_images=…) → rows, of so many images that every size leaves enough steps."""

    def make(rates: dict[int, float], *, train_images: int = 100_000) -> list[BatchSizeRow]:
        return [
            BatchSizeRow(
                batch_size=size,
                images_per_second=rate,
                step_seconds=size / rate,
                memory_bytes=size,
                steps_per_epoch=train_images // size,
            )
            for size, rate in rates.items()
        ]

    return make


@pytest.fixture
def quick(monkeypatch):
    """Rounds of two timed steps."""
    monkeypatch.setattr(trial, "ROUND_SECONDS", 0.0)


@pytest.fixture
def batch_of(make_batches):
    """(size) → a batch of so many images."""
    return lambda size: make_batches(1, size=size)[0]


class Passing(nn.Module):
    """Lets as much time pass on a clock as `seconds` gives for a number of images."""

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, images_NCHW):
        PASSED.append(self.seconds(len(images_NCHW)))
        return images_NCHW


PASSED: list[float] = []


@pytest.fixture
def clock(monkeypatch):
    """Steps take the time that `Passing` says, to the last digit."""
    PASSED.clear()
    monkeypatch.setattr(trial._Trials, "_now", lambda self: sum(PASSED))


class SmallMemory(nn.Module):
    """Holds at most `images` images."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.images = images

    def forward(self, images_NCHW):
        if len(images_NCHW) > self.images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return images_NCHW


def test_while_throughput_doubles_the_largest_is_chosen(rows):
    assert knee(rows({8: 100, 16: 200, 32: 400, 64: 800})) == 64


def test_of_sizes_that_are_as_fast_the_smallest_is_chosen(rows):
    assert knee(rows({8: 300, 16: 300, 32: 300})) == 8


def test_a_size_is_fast_enough_at_95_percent_of_the_fastest(rows):
    assert knee(rows({8: 949, 16: 950, 32: 1000, 64: 990})) == 16


def test_a_size_that_leaves_fewer_than_ten_steps_an_epoch_is_not_chosen(rows):
    """639 images: 10 steps of 63, 9 of 64."""
    assert knee(rows({16: 100, 32: 200, 64: 400}, train_images=639)) == 32
    assert knee(rows({16: 100, 32: 200, 64: 400}, train_images=640)) == 64


def test_the_speed_of_a_size_that_is_too_large_sets_no_measure(rows):
    """Beside 64 images neither 16 nor 32 would be fast enough."""
    assert knee(rows({16: 196, 32: 200, 64: 4000}, train_images=400)) == 16


def test_of_few_images_the_smallest_size_is_chosen(rows):
    assert knee(rows({8: 100, 16: 200}, train_images=40)) == 8


def test_one_measurement_is_enough(rows):
    assert knee(rows({8: 1})) == 8


@pytest.mark.parametrize(
    ("train_images", "sizes"),
    [
        (1, (1,)),
        (3, (2,)),
        (7, (4,)),
        (8, (8,)),
        (159, (8,)),
        (160, (8, 16)),
        (1000, (8, 16, 32, 64)),
        (5550, (8, 16, 32, 64, 128, 256, 512)),
    ],
)
def test_powers_of_two_that_leave_ten_steps_an_epoch_are_tried(train_images, sizes):
    assert candidates(train_images) == sizes


def test_every_part_of_a_batch_has_two_images_at_least():
    assert candidates(1000, parts=12) == (32, 64)


def test_the_chosen_size_is_one_of_the_measured_ones_and_rows_fit_together(
    quick, make_model, make_optimizer, batch_of, task
):
    model = make_model()

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=700, device=CPU)

    sizes = [row.batch_size for row in found.rows]
    assert sizes == [8, 16, 32, 64][: len(sizes)]
    assert found.chosen in sizes
    assert [row.steps_per_epoch for row in found.rows] == [87, 43, 21, 10][: len(sizes)]
    assert all(row.images_per_second == pytest.approx(row.batch_size / row.step_seconds) for row in found.rows)
    assert all(row.memory_bytes is None or row.memory_bytes > 0 for row in found.rows)


def test_steps_that_take_as_long_whatever_they_hold_make_the_largest_size_the_best(
    quick, clock, make_model, make_optimizer, batch_of, task
):
    model = make_model()
    model.network.insert(0, Passing(lambda images: 0.5))

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=320, device=CPU)

    assert (found.chosen, found.stopped) == (32, "64 leaves fewer than 10 steps an epoch")
    assert [(row.step_seconds, row.images_per_second) for row in found.rows] == [(0.5, 16), (0.5, 32), (0.5, 64)]


def test_where_every_image_takes_as_long_two_doublings_are_tried_in_vain(
    quick, clock, make_model, make_optimizer, batch_of, task
):
    model = make_model()
    model.network.insert(0, Passing(lambda images: images / 64))

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=5000, device=CPU)

    assert [row.batch_size for row in found.rows] == [8, 16, 32]
    assert (found.chosen, found.stopped) == (8, "throughput no longer grows")


def test_one_doubling_in_vain_is_no_reason_to_stop(quick, clock, make_model, make_optimizer, batch_of, task):
    """16 images take twice the time of 8, and 32 the time of 16."""
    model = make_model()
    model.network.insert(0, Passing(lambda images: 1.0 if images == 8 else 2.0))

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=320, device=CPU)

    assert [row.images_per_second for row in found.rows] == [8, 8, 16]
    assert found.chosen == 32


def test_a_measurement_that_would_take_too_long_ends(quick, make_model, make_optimizer, batch_of, task, monkeypatch):
    monkeypatch.setattr(trial, "BUDGET_SECONDS", 0.0)
    model = make_model()

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=5000, device=CPU)

    assert [row.batch_size for row in found.rows] == [8]
    assert found.stopped == "the next would take too long to measure"


def test_one_size_alone_shows_nothing_and_the_usual_one_stays(quick, make_model, make_optimizer, batch_of, task):
    model = make_model()

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=90, device=CPU, usual=64)

    assert [row.batch_size for row in found.rows] == [8]
    assert found.chosen == 64
    assert (
        found.stopped == "16 leaves fewer than 10 steps an epoch; one size alone shows nothing, the recipe's 64 stays"
    )


def test_of_two_sizes_the_usual_one_counts_no_more(quick, make_model, make_optimizer, batch_of, task):
    model = make_model()

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=200, device=CPU, usual=64)

    assert found.chosen in (8, 16)


def test_the_usual_size_does_not_stay_where_a_smaller_one_did_not_fit(
    quick, make_model, make_optimizer, batch_of, task
):
    model = make_model()
    model.network.insert(0, SmallMemory(8))

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=5000, device=CPU, usual=64)

    assert (found.chosen, found.stopped) == (8, "16 does not fit into the memory of cpu")


def test_a_size_that_does_not_fit_ends_the_measurement(quick, make_model, make_optimizer, batch_of, task):
    model = make_model()
    model.network.insert(0, SmallMemory(16))

    found = measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=5000, device=CPU)

    assert [row.batch_size for row in found.rows] == [8, 16]
    assert found.stopped == "32 does not fit into the memory of cpu"


def test_where_not_even_the_smallest_fits_the_cure_is_said(quick, make_model, make_optimizer, batch_of, task):
    model = make_model(norm="group")
    model.network.insert(0, SmallMemory(4))

    with pytest.raises(OutOfResourcesError) as caught:
        measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=5000, device=CPU)

    assert str(caught.value) == (
        "batch_size: 8 images do not fit into the memory of cpu at once. "
        "Set it to a number: a step is then worked through in parts."
    )


def test_a_size_that_would_take_too_much_memory_is_not_tried(
    quick, make_model, make_optimizer, batch_of, task, monkeypatch
):
    """Half a gigabyte and 1/16 a gigabyte an image: 8 take 1.0, 16 take 1.5, 32 would take 2.5; 80 % of 3 are free."""
    seen = []
    peaks = iter([GIGABYTE, GIGABYTE * 3 // 2])
    monkeypatch.setattr(trial, "_free_bytes", lambda device: 3 * GIGABYTE)
    monkeypatch.setattr(trial._Meter, "peak_of", lambda self, work: (work(), next(peaks)))
    model = make_model()

    found = measure_batch_sizes(
        model,
        task,
        make_optimizer(model),
        lambda size: seen.append(size) or batch_of(size),
        train_images=5000,
        device=CPU,
    )

    assert max(seen) == 16
    assert found.stopped == "32 would take more than 80 % of the free memory"
    assert [row.memory_bytes for row in found.rows] == [GIGABYTE, GIGABYTE * 3 // 2]


def test_memory_of_a_processor_is_seen_at_its_peak_not_at_its_end():
    meter = trial._Meter(CPU, copied_bytes=0)

    def work():
        held = torch.ones(25_000_000)  # 100 MB
        time.sleep(0.05)
        return float(held[-1])

    result, peak = meter.peak_of(work)

    assert result == 1.0
    assert 90e6 < peak < 200e6


def test_memory_that_was_freed_before_is_seen_again():
    """What stays at the upper end of the heap keeps the allocator from giving back by itself what is freed below it."""
    kept = []

    def work():
        held = [
            torch.ones(25_000) for _ in range(1000)
        ]  # 100 MB in blocks that are too small for mappings of their own
        kept.append(torch.ones(100))
        time.sleep(0.05)
        return len(held)

    peaks = [trial._Meter(CPU, copied_bytes=0).peak_of(work)[1] for _ in range(3)]

    assert all(90e6 < peak < 200e6 for peak in peaks)


def test_memory_is_not_known_where_the_allocator_gives_nothing_back(monkeypatch):
    monkeypatch.setattr(trial, "_give_back", lambda: False)

    assert trial._Meter(CPU, copied_bytes=0).peak_of(lambda: 7) == (7, None)


def test_memory_that_did_not_grow_is_not_known_rather_than_none():
    assert trial._Meter(CPU, copied_bytes=10**12).peak_of(lambda: 7) == (7, None)


def test_where_memory_is_not_known_twice_the_whole_process_is_expected(monkeypatch):
    monkeypatch.setattr(trial, "_resident_bytes", lambda: GIGABYTE)

    assert trial._expected([100, None]) == 2 * GIGABYTE
    assert trial._expected([None, 100]) == 200


def test_a_container_limit_is_what_is_free_without_the_file_pages(tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")

    assert trial._container_free(tmp_path) == [450]


@pytest.mark.parametrize("limit", ["max\n", None], ids=["without a limit", "outside of one"])
def test_no_container_limits_nothing(tmp_path, limit):
    if limit is not None:
        (tmp_path / "memory.max").write_text(limit)
        (tmp_path / "memory.current").write_text("700\n")

    assert trial._container_free(tmp_path) == []


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """A hash of weights, buffers, gradients, the optimizer with its groups, and the random streams of this process."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    found.update(repr([(p.grad is None, p.requires_grad) for p in model.parameters()]).encode())
    found.update(repr(optimizer.state_dict()).encode())
    found.update(repr([module.training for module in model.modules()]).encode())
    found.update(torch.get_rng_state().numpy().tobytes() + repr(random.getstate()).encode())
    return found.hexdigest()


@pytest.mark.parametrize("name", optimizers.names())
def test_a_measurement_leaves_no_trace(quick, name, make_model, make_batches, batch_of, task):
    """Neither before the first step, nor in the middle of a training."""
    model = make_model(dropout=0.5)
    optimizer = build_optimizer(model.learning_rates(1.0), OptimizerSpec(name=name, lr=0.01), CPU)
    before = everything(model, optimizer)

    measure_batch_sizes(model, task, optimizer, batch_of, train_images=90, device=CPU, ema_decay=0.9)

    assert everything(model, optimizer) == before
    list(fit(model, task, make_batches(2), optimizer, lambda progress: 1.0, steps=2, device=CPU))
    before = everything(model, optimizer)
    measure_batch_sizes(model, task, optimizer, batch_of, train_images=90, device=CPU)
    assert everything(model, optimizer) == before


def test_settings_are_those_of_the_training(quick, make_model, make_optimizer, batch_of, task):
    """Parts, mixtures and averages are part of what a step costs; the schedule's momentum is not."""
    mixed = []
    model = make_model()
    settings = FitSettings(
        parts=3,
        clip_norm=1.0,
        mix=lambda batch, step: mixed.append(len(batch)) or replace(batch),
        momentum=lambda progress: pytest.fail("asked for a momentum"),
    )

    found = measure_batch_sizes(
        model,
        task,
        make_optimizer(model),
        batch_of,
        train_images=200,
        device=CPU,
        settings=settings,
        ema_decay=0.99,
    )

    assert [row.batch_size for row in found.rows] == [8, 16]
    assert set(mixed) == {8, 16}


def test_progress_ends_at_its_total(quick, make_model, make_optimizer, batch_of, task):
    told = []
    model = make_model()

    measure_batch_sizes(
        model,
        task,
        make_optimizer(model),
        batch_of,
        train_images=200,
        device=CPU,
        progress=lambda done, total: told.append((done, total)),
    )

    assert told[-1] == (6, 6)
    assert told == sorted(told)


def test_a_model_that_cannot_be_copied_is_said_so(make_model, make_optimizer, batch_of, task):
    model = make_model()
    model.network.generator = (image for image in ())

    with pytest.raises(UsageError) as caught:
        measure_batch_sizes(model, task, make_optimizer(model), batch_of, train_images=90, device=CPU)

    assert str(caught.value) == (
        "model: the network or its optimizer cannot be copied (cannot pickle 'generator' object), and what is measured works "
        "on a copy. Set batch_size to a number."
    )
