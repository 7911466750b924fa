"""Batches of images: which rows, in which order, changed how, made ahead by threads.

Batch s is a pure function of (seed, s): the same for any number of workers, in any process and after any resume.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from trainwright import seeding
from trainwright.batch import Batch
from trainwright.data.augment import move_images, paint_images, plan
from trainwright.data.draws import columns_for, draws
from trainwright.data.pixels import PixelSource
from trainwright.data.targets import TargetSource
from trainwright.errors import DataError
from trainwright.recipe import AugmentSpec, Size

AHEAD = 2  # batches for each worker that are made or being made before they are asked for


class TrainBatches:
    """Endless batches for training, every epoch in another order and with other draws.

    An epoch has `steps_per_epoch` batches of `batch_size` images; what does not fill a batch is left out, others each
    epoch. Fewer images than `batch_size` make one smaller batch.
    """

    def __init__(
        self,
        pixels: PixelSource,
        targets: TargetSource,
        rows: np.ndarray,
        *,
        batch_size: int,
        image_size: Size,
        augment: AugmentSpec,
        seed: int,
        workers: int = 2,
        pin: bool = False,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """pixels: stores images of `stored_size(image_size, augment)`. targets: laid beside those images.

        rows: the dataset rows to train on; their order numbers the samples. workers: threads, 0: the caller's own. pin:
        page-locked memory, for CUDA. share: (r, n) makes of each batch the r-th of n equal parts, counted from 0, as processes
        do that share a step. Raises DataError without rows.
        """
        self._maker = _Maker(pixels, targets, rows, image_size=image_size, augment=augment, pin=pin)
        self._seed = seed
        self._workers = workers
        self._share = share
        self.batch_size = min(batch_size, len(rows))
        self.steps_per_epoch = len(rows) // self.batch_size
        self._columns = columns_for(augment)
        self._plans = functools.lru_cache(maxsize=2)(self._plan)  # two: prefetching looks over the end of an epoch
        self._planning = threading.Lock()  # or every thread would make the plan of an epoch that it finds missing

    def batch(self, step: int) -> Batch:
        """The batch of step `step`, counted from 0 over all epochs."""
        epoch, index = divmod(step, self.steps_per_epoch)
        with self._planning:
            order_S, draws_SD = self._plans(epoch)
        part, parts = self._share
        begin, end = (index * self.batch_size + self.batch_size * edge // parts for edge in (part, part + 1))
        samples_N = order_S[begin:end]
        return self._maker.batch(samples_N, draws_SD)

    def iterate(self, first_step: int = 0, last_step: int | None = None) -> Iterator[Batch]:
        """The batches of steps first_step, …, last_step - 1 (None: without end), made ahead. Closing it ends its threads."""
        steps = itertools.count(first_step) if last_step is None else range(first_step, last_step)
        return prefetch(self.batch, steps, workers=self._workers)

    def _plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """An epoch's order of samples, int64 [S], and its draws by sample, [S, D]."""
        samples = len(self._maker.rows_S)
        order_S = seeding.stream(self._seed, "order", epoch).permutation(samples)
        return order_S, draws(self._seed, epoch, samples, columns=self._columns)


class EvalBatches:
    """Every row once, in the order given, on the clean transform; or augmented, the same way each time."""

    def __init__(
        self,
        pixels: PixelSource,
        targets: TargetSource,
        rows: np.ndarray,
        *,
        batch_size: int,
        image_size: Size,
        augment: AugmentSpec | None = None,
        seed: int = 0,
        workers: int = 2,
        pin: bool = False,
    ) -> None:
        """As `TrainBatches`. augment: changes to draw, from streams of their own; None: the clean transform.

        Mixtures (`training/mixing.py`) are no part of them: each image keeps its own target.
        """
        self._maker = _Maker(pixels, targets, rows, image_size=image_size, augment=augment, pin=pin)
        self._workers = workers
        self._batch_size = batch_size
        self._draws_SD = (
            None
            if augment is None
            else draws(seed, 0, len(rows), name="augment-evaluation", columns=columns_for(augment))
        )

    def __len__(self) -> int:
        return -(-len(self._maker.rows_S) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return prefetch(self._batch, range(len(self)), workers=self._workers)

    def _batch(self, index: int) -> Batch:
        last = min((index + 1) * self._batch_size, len(self._maker.rows_S))
        return self._maker.batch(np.arange(index * self._batch_size, last), self._draws_SD)


class _Maker:
    """Makes a batch of given samples; sample i is the i-th of `rows`."""

    def __init__(
        self,
        pixels: PixelSource,
        targets: TargetSource,
        rows: np.ndarray,
        *,
        image_size: Size,
        augment: AugmentSpec | None,
        pin: bool,
    ) -> None:
        if not len(rows):
            raise DataError("there are no images to make batches of.", where="rows", cure="Check the split.")
        self.rows_S = np.asarray(rows, dtype=np.int64)
        self._pixels = pixels
        self._targets = targets
        self._image_size = image_size
        self._augment = augment
        self._pin = pin

    def batch(self, samples_N: np.ndarray, draws_SD: np.ndarray | None) -> Batch:
        rows_N = self.rows_S[samples_N]
        stored_NHWC = self._pixels.take(rows_N)
        draws_ND = None if draws_SD is None else draws_SD[samples_N]
        spec, warpable = self._augment, self._targets.warpable
        moves = plan(stored_NHWC.shape[1:3], self._image_size, spec, draws_ND, len(rows_N), warpable=warpable)
        images_NHWC = paint_images(move_images(stored_NHWC, moves), moves, spec, draws_ND, warpable=warpable)
        return Batch(
            images_NCHW=self._tensor(images_NHWC).permute(0, 3, 1, 2),  # channels-last memory, no copy
            target=self._tensor(self._targets.moved(self._targets.take(rows_N), moves)),
            rows_N=rows_N,
        )

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """The array as a tensor: the same memory, or a page-locked copy made by numpy (torch would start threads)."""
        tensor = torch.from_numpy(array)
        if not self._pin:
            return tensor
        pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        np.copyto(pinned.numpy(), array)
        return pinned


def prefetch(make: Callable[[int], Batch], indices: Iterable[int], *, workers: int) -> Iterator[Batch]:
    """make(i) for each index, in order, made by `workers` threads a few ahead; 0 workers: in the caller's thread.

    What `make` raises reaches the caller at its place in the order. Closing the iterator ends the threads.
    """
    if not workers:
        yield from map(make, indices)
        return
    waiting = iter(indices)
    made: deque[Future[Batch]] = deque()
    threads = ThreadPoolExecutor(workers, thread_name_prefix="trainwright-batches")
    try:
        made.extend(threads.submit(make, index) for index in itertools.islice(waiting, AHEAD * workers))
        while made:
            batch = made.popleft().result()
            made.extend(threads.submit(make, index) for index in itertools.islice(waiting, 1))
            yield batch
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
