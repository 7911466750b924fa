"""Batch size: how fast this machine trains at each and in how much memory, and the smallest one that is fast enough.

A batch size is chosen for speed, and the learning rate is then found anew for it: "the batch size governs the training
speed and shouldn't be used to directly tune the validation set performance" (Godbole et al., Deep Learning Tuning Playbook,
2023, "Choosing the batch size").
"""

from __future__ import annotations

import ctypes
import itertools
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.errors import OutOfResourcesError
from trainwright.plugins import Task
from trainwright.training.ema import WeightAverage
from trainwright.training.loop import FitSettings, fit
from trainwright.training.twin import twin_of

SMALLEST = 8  # images: below it batch norm's statistics are poor (Wu and He, arXiv:1803.08494 §1)
# Of the best throughput. Ours: two clocks of one step differ by some percent, and the noise of small batches is worth more
# than a few percent of speed: Masters and Luschi, arXiv:1804.07612, found the best networks with 2 to 32 images.
ENOUGH_SPEED = 0.95
# Ours: a tenth of the images is the most. With the epochs given, twice the batch is half the steps, and that is where large
# batches lose (Shallue et al., arXiv:1811.03600: by the budget of steps, not by their size).
STEPS_PER_EPOCH = 10
MEMORY_SHARE = 0.8  # of what is free: the loader, evaluation and other programs need some too
STILL = 1e-9  # factor on the learning rate of trial steps: nothing moves that float32 can tell, and nothing diverges
ROUNDS = 3  # of every size, up and down and up again: a machine that gets slower meanwhile slows all of them
ROUND_SECONDS = 0.3
LEAST_STEPS, MOST_STEPS = 2, 20  # timed steps of a round
BUDGET_SECONDS = 30.0  # of the first round over all sizes; the others take as long each
SAMPLE_SECONDS = 0.005  # between two looks at the memory of the process

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class BatchSizeRow:
    """What a step of `batch_size` images costs: its median seconds, the images a second that makes, and peak memory.

    memory_bytes: of a GPU, the most that was allocated on it at once, the weights among it. Of a CPU, by how much the process
    grew, looked at every few milliseconds: an estimate. None where that is not known.
    """

    batch_size: int
    images_per_second: float
    step_seconds: float
    memory_bytes: int | None
    steps_per_epoch: int


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Rows by ascending batch size, and the choice. stopped: why none beyond was measured. seconds: wall-clock of it all.

    memory_is_estimate: on a CPU, where nobody counts what is allocated. The choice is no row's where there is one row only
    and the recipe's own size was kept; `stopped` says so.
    """

    rows: tuple[BatchSizeRow, ...]
    chosen: int
    stopped: str
    memory_is_estimate: bool
    seconds: float


def knee(rows: Sequence[BatchSizeRow]) -> int:
    """The smallest batch size that is nearly as fast as the fastest (`ENOUGH_SPEED`), of those with `STEPS_PER_EPOCH`.

    The smallest of all where no row leaves so many steps. rows: at least one.
    """
    smallest = min(rows, key=lambda row: row.batch_size)
    allowed = [row for row in rows if row.steps_per_epoch >= STEPS_PER_EPOCH] or [smallest]
    fastest = max(row.images_per_second for row in allowed)
    return min(row.batch_size for row in allowed if row.images_per_second >= ENOUGH_SPEED * fastest)


def candidates(train_images: int, *, parts: int = 1) -> tuple[int, ...]:
    """The powers of two that are worth a trial, ascending; at least one, and none above `train_images`.

    parts: that a batch is worked through in; each needs two images, of which batch norm can take statistics.
    """
    first = max(SMALLEST, _power_from(2 * parts))
    if first > train_images:
        return (1 << (train_images.bit_length() - 1),)
    most = max(first, train_images // STEPS_PER_EPOCH)
    return tuple(itertools.takewhile(lambda size: size <= most, (first << k for k in itertools.count())))


def measure_batch_sizes(
    model: nn.Module,
    task: Task,
    optimizer: torch.optim.Optimizer,
    batch_of: Callable[[int], Batch],
    *,
    train_images: int,
    device: torch.device,
    settings: FitSettings | None = None,
    ema_decay: float | None = None,
    usual: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> BatchSizes:
    """Time training steps over powers of two, on copies of model and optimizer, and choose the knee.

    batch_of: size → a batch of so many images. settings: of the steps (`fit`). ema_decay: of averaged weights. usual: the
    size to keep where only one could be measured, which shows no knee. progress: told (done, total). Nothing that was given
    changes, nor does torch's random stream. Making batches is not timed: the loader's threads do that beside the steps, as
    fast for a batch of any size.
    Raises OutOfResourcesError where not even the smallest fits, UsageError for a model that cannot be copied.
    """
    began = time.perf_counter()
    sizes = candidates(train_images, parts=1 if settings is None else settings.parts)
    total = ROUNDS * len(sizes)
    trials = _Trials(model, task, optimizer, settings or FitSettings(), ema_decay, device)
    try:
        times, memory, stopped, full = _grow(trials, batch_of, sizes, lambda done: progress(done, total))
        for turn in range(1, ROUNDS):
            for done, size in enumerate(sorted(times, reverse=turn % 2 == 1)):
                times[size] += trials.round(batch_of(size))
                progress(turn * len(sizes) + done, total)
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)  # the record of the training tells its own peak
    progress(total, total)
    medians = {size: statistics.median(seconds) for size, seconds in times.items()}
    rows = tuple(
        BatchSizeRow(
            batch_size=size,
            images_per_second=size / medians[size],
            step_seconds=medians[size],
            memory_bytes=memory[size],
            steps_per_epoch=train_images // size,
        )
        for size in times
    )
    chosen = knee(rows)
    if len(rows) == 1 and usual is not None and not (full and usual > chosen):
        chosen = usual
        stopped += f"; one size alone shows nothing, the recipe's {usual} stays"
    return BatchSizes(
        rows=rows,
        chosen=chosen,
        stopped=stopped,
        memory_is_estimate=device.type != "cuda",
        seconds=time.perf_counter() - began,
    )


def _grow(
    trials: _Trials, batch_of: Callable[[int], Batch], sizes: Sequence[int], progress: Callable[[int], None]
) -> tuple[dict[int, list[float]], dict[int, int | None], str, bool]:
    """A round of each size from the smallest on, until there is a reason to stop.

    Returns (step seconds, memory, that reason, whether it is that the next size did not fit).
    """
    times: dict[int, list[float]] = {}
    memory: dict[int, int | None] = {}
    meter = _Meter(trials.device, trials.copied_bytes)
    began = time.perf_counter()
    for size in sizes:
        if times and _expected(list(memory.values())) > meter.limit_bytes:
            return times, memory, f"{size} would take more than {MEMORY_SHARE * 100:.0f} % of the free memory", False
        try:
            seconds, memory[size] = meter.peak_of(lambda size=size: trials.round(batch_of(size)))  # type: ignore[misc]
        except MemoryError:  # OutOfResourcesError is one
            if not times:
                raise
            return times, memory, f"{size} does not fit into the memory of {trials.device}", True
        times[size] = seconds
        progress(len(times))
        if _is_flat([size / statistics.median(seconds) for size, seconds in times.items()]):
            return times, memory, "throughput no longer grows", False
        if 2 * (time.perf_counter() - began) > BUDGET_SECONDS:
            return times, memory, "the next would take too long to measure", False
    return times, memory, f"{2 * sizes[-1]} leaves fewer than {STEPS_PER_EPOCH} steps an epoch", False


def _is_flat(images_per_second: Sequence[float]) -> bool:
    """Whether two doublings in a row have brought nothing: one alone may be noise."""
    *before, last, newest = [0.0, 0.0, *images_per_second]
    return len(images_per_second) > 2 and max(before) >= ENOUGH_SPEED * max(last, newest)


def _expected(memory_bytes: Sequence[int | None]) -> float:
    """Memory of twice the last batch size: what comes with each image doubles, the rest stays.

    Where the last one is not known: twice all that the process holds, which is more.
    """
    *before, last = memory_bytes
    if last is None:
        return 2 * _resident_bytes()
    if not before or before[-1] is None:
        return 2 * last
    return last + 2 * max(0, last - before[-1])


class _Trials:
    """Training steps that leave no trace: every round works on fresh copies."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        settings: FitSettings,
        ema_decay: float | None,
        device: torch.device,
    ) -> None:
        self.device = device
        self.copied_bytes = sum(
            tensor.numel() * tensor.element_size() for tensor in itertools.chain(model.parameters(), model.buffers())
        )
        self._model, self._task, self._optimizer = model, task, optimizer
        self._settings, self._ema_decay = settings, ema_decay

    def round(self, batch: Batch) -> list[float]:
        """Seconds of each step but the first, which allocates. Raises OutOfResourcesError where the batch does not fit."""
        model, optimizer = self._copies()
        settings = replace(
            self._settings,
            momentum=None,
            average=None if self._ema_decay is None else WeightAverage(model, self._ema_decay),
            # A scale of one overflows nowhere: a skipped update would not be timed.
            scaler=None if self._settings.scaler is None else torch.amp.GradScaler(self.device.type, init_scale=1.0),
        )
        seconds: list[float] = []
        began = last = self._now()
        for record in fit(
            model,
            self._task,
            itertools.repeat(batch),
            optimizer,
            lambda progress: STILL,
            steps=MOST_STEPS + 1,
            device=self.device,
            settings=settings,
        ):
            if record.parts > settings.parts:
                raise OutOfResourcesError(
                    f"{len(batch)} images do not fit into the memory of {self.device} at once.",
                    where="batch_size",
                    cure="Set it to a number: a step is then worked through in parts.",
                )
            now = self._now()
            if record.step:
                seconds.append(now - last)
            last = now
            if len(seconds) >= LEAST_STEPS and now - began > ROUND_SECONDS:
                break
        return seconds

    def _copies(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        return twin_of(self._model, self._optimizer, where="model", cure="Set batch_size to a number.")

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


class _Meter:
    """How much memory work takes at its peak. limit_bytes: what it may take.

    copied_bytes: of the weights that trial steps hold once more than a training does.
    """

    def __init__(self, device: torch.device, copied_bytes: int) -> None:
        self._device, self._copied_bytes = device, copied_bytes
        self._is_counted = device.type == "cuda" or _give_back()
        self._before = 0 if device.type == "cuda" else _resident_bytes()
        self.limit_bytes = MEMORY_SHARE * _free_bytes(device)

    def peak_of(self, work: Callable[[], T]) -> tuple[T, int | None]:
        """What `work` returns, and the most memory it took; None where that is not known."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            result, peak = work(), torch.cuda.max_memory_allocated(self._device)
        else:
            _give_back()
            result, peak = _watched(work)
        taken = int(peak) - self._before - self._copied_bytes
        return result, taken if self._is_counted and taken > 0 else None


def _watched(work: Callable[[], T]) -> tuple[T, int]:
    """What `work` returns, and the most memory that the process was seen to hold meanwhile."""
    seen, ended = [_resident_bytes()], threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            seen[0] = max(seen[0], _resident_bytes())

    watcher = threading.Thread(target=look, name="trainwright-memory", daemon=True)
    watcher.start()
    try:
        result = work()
    finally:
        ended.set()
        watcher.join()
    return result, max(seen[0], _resident_bytes())


def _give_back() -> bool:
    """Give memory that was freed, but that the allocator keeps, back to the system; whether that can be done at all.

    Work that is served from it would not make the process grow: a second measurement would see nothing. glibc alone does it.
    """
    trim = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
    return trim is not None


def _resident_bytes() -> int:
    """Memory of this process, without files that it maps: decoded images are one."""
    import psutil

    found = psutil.Process(os.getpid()).memory_info()
    return int(found.rss - getattr(found, "shared", 0))


def _free_bytes(device: torch.device) -> int:
    """What training may take: of a GPU what is free or already this process's, of a CPU what is free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))
    import psutil

    return min([int(psutil.virtual_memory().available), *_container_free(Path("/sys/fs/cgroup"))])


def _container_free(folder: Path) -> list[int]:
    """What a container's limit leaves, nothing where there is none: beyond it the system kills the process unasked."""
    try:
        limit, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):  # no container, or one without a limit: `max`
        return []
    return [limit - used + int(stat.get("inactive_file", 0))]  # file pages give way when memory is needed


def _power_from(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()
