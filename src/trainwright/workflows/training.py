"""One training from its run folder: goes on where the newest checkpoint stands, evaluates every epoch, records, saves."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainwright.batch import Batch
from trainwright.data.loader import EvalBatches
from trainwright.errors import ProcessLostError
from trainwright.files import write_atomically
from trainwright.optim.schedule_free import ScheduleFreeAdamW
from trainwright.optim.schedules import build_schedule, momentum_of
from trainwright.plugins import RememberingSchedule
from trainwright.records import Answers, EpochRecord, Means, Scores, StepRecord, to_json
from trainwright.seeding import stream
from trainwright.tracking.run_folder import RunFolder
from trainwright.training import checkpoint as checkpoints
from trainwright.training.device import memory_bytes
from trainwright.training.ema import WeightAverage
from trainwright.training.evaluate import evaluate
from trainwright.training.loop import fit
from trainwright.training.schedule_free import STATISTICS_BATCHES, ScheduleFreeAverage
from trainwright.workflows.ingredients import batches_of, optimizer_of, settings_of
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.reporting import Reporter

if TYPE_CHECKING:
    from trainwright.workflows.crew import Crew

CHECKPOINT_SECONDS = 60.0  # the most work that a kill in the middle of a long epoch costs
RECORD_SECONDS = 1.0  # losses stay on the device at most this long: fetching them waits for it
EVAL_PIXELS = 4_000_000  # pixels an evaluation batch holds at most: about 80 images at 224 px


@dataclass
class Position:
    """Where a training stands; what a checkpoint keeps of it beside weights and optimizer."""

    step: int = 0
    parts: int = 1
    loss_sum: float = 0.0  # of the running epoch, over images
    tally_sum: list[float] | None = None
    images: int = 0
    best_epoch: int | None = None
    best_score: float = -math.inf
    best_sha256: str | None = None
    ended: bool = False
    seconds: float = 0.0  # wall-clock of the training so far, over all of its starts
    records_bytes: int = 0
    schedule: dict[str, Any] | None = None  # what a schedule remembers of the epochs so far


@dataclass
class Clock:
    """Wall-clock of the running epoch, evaluation left out. Not part of the result."""

    started: float = field(default_factory=time.perf_counter)
    step_seconds: list[float] = field(default_factory=list)
    images: int = 0


class Training:
    """A training under way in a run folder."""

    def __init__(
        self,
        folder: RunFolder,
        prepared: Prepared,
        *,
        workers: int,
        reporter: Reporter,
        stop_asked: Callable[[], bool] = lambda: False,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        crew: Crew | None = None,
    ) -> None:
        """crew: the processes that share each step; None where this one trains alone."""
        recipe, model = prepared.recipe, prepared.model
        self.folder, self.prepared, self.workers, self.reporter = folder, prepared, workers, reporter
        self._crew, self._processes = crew, 1 if crew is None else crew.count
        self.stop_asked = stop_asked if crew is None else crew.stopping(stop_asked)
        self.checkpoint_seconds = checkpoint_seconds
        self.record_seconds = min(RECORD_SECONDS, checkpoint_seconds)
        self.batches = batches_of(prepared, seed=recipe.seed, workers=workers)
        self._own_batches = self.batches
        if crew is not None:
            self._own_batches = batches_of(prepared, seed=recipe.seed, workers=workers, share=(0, crew.count))
        self._pending: list[StepRecord] = []  # taken and not yet noted
        self.steps = recipe.epochs * self.batches.steps_per_epoch
        self.optimizer = optimizer_of(prepared)
        self.schedule = build_schedule(recipe.schedule)
        self.average = None if recipe.ema_decay is None else WeightAverage(model, recipe.ema_decay)
        self.schedule_free = self._schedule_free()
        self.settings = settings_of(prepared)
        self.scaler = self.settings.scaler
        self.position = Position(parts=math.ceil(recipe.accumulate / self._processes))
        self.restored = self._restore()
        self._best_epoch_saved_before = self.position.best_epoch
        self._counted = time.perf_counter()

    @property
    def best_file(self) -> Path:
        """Where the weights of the best epoch so far are."""
        return self.folder.checkpoints / f"best-{self.position.best_epoch:04d}.safetensors"

    @property
    def evaluated_model(self) -> torch.nn.Module:
        """The model that is judged and kept: the averaged one where weights are averaged."""
        averaged = self.schedule_free or self.average
        return self.prepared.model if averaged is None else averaged.model

    def run(self) -> bool:
        """Train to the end; True when it got there, False when it was asked to stop before (its state is then saved)."""
        if self.position.step == 0 and not self.restored:
            self._save()  # the start is part of the record: weights from elsewhere may not be there at a resume
        saved_at = time.monotonic()
        with closing(self.steps_left()) as steps:  # ends the loader's threads, however this ends
            try:
                for settled in steps:
                    if not settled:
                        continue
                    at_epoch_end, stop = self.position.images == 0, self.stop_asked()
                    if at_epoch_end or stop or time.monotonic() - saved_at > self.checkpoint_seconds:
                        self._save()
                        saved_at = time.monotonic()
                    if self.position.ended:
                        return True
                    if stop:
                        return self.position.step >= self.steps
            except ProcessLostError:
                self._note_steps(self._pending)
                self._save()  # this process has it all: what the others held was computed from it
                raise
        return True

    def evaluation_batches(
        self, rows: np.ndarray, *, augmented: bool = False, batch_size: int | None = None
    ) -> EvalBatches:
        """Batches over `rows` in their order, clean or with this recipe's augmentation."""
        recipe = self.prepared.recipe
        return EvalBatches(
            self.prepared.pixels,
            self.prepared.targets,
            rows,
            batch_size=batch_size or self._evaluated_at_once(),
            image_size=recipe.data.size,
            augment=recipe.augment if augmented else None,
            seed=recipe.seed,
            workers=self.workers,
        )

    def _schedule_free(self) -> ScheduleFreeAverage | None:
        """The weights to evaluate, where the optimizer keeps them apart from those that it trains."""
        if not isinstance(self.optimizer, ScheduleFreeAdamW):
            return None
        device, dtype = self.prepared.device, self.prepared.precision.autocast
        return ScheduleFreeAverage(
            self.prepared.model,
            self.optimizer,
            self._statistics_batches,
            device=device,
            dtype=dtype,
            seed=self.prepared.recipe.seed,
        )

    def _statistics_batches(self) -> Iterator[Batch]:
        """The first batches of the training, in the parts that a step works through."""
        count = min(STATISTICS_BATCHES, self.batches.steps_per_epoch)
        with closing(self.batches.iterate(0, count)) as batches:  # type: ignore[type-var]
            for batch in batches:
                yield from batch.split(math.ceil(len(batch) / self._parts_of_step))

    @property
    def _parts_of_step(self) -> int:
        """How many pieces the images of a step are worked through in, by all processes."""
        return self.position.parts * self._processes

    def _evaluated_at_once(self) -> int:
        """Images of an evaluation batch: what it holds grows with the pixels and, of maps, with the classes of each."""
        task, pixels = self.prepared.task, math.prod(self.prepared.recipe.data.size)
        if task.form == "map":
            pixels *= max(1, task.outputs // 3)  # an image has three channels; answers take about as much again
        return max(1, min(512, EVAL_PIXELS // pixels))

    def evaluate(
        self, rows: np.ndarray, *, augmented: bool = False, train_mode: bool = False, what: str = ""
    ) -> Answers:
        """Answers of the evaluated model for `rows`.

        train_mode: in batches drawn as in training. Batch norm then takes its statistics from each batch, and rows in
        the order of their classes would make batches of one class, whose statistics no training ever sees.
        """
        recipe = self.prepared.recipe
        batch_size = None
        if train_mode:
            batch_size = math.ceil(recipe.step_images / self._parts_of_step)
            rows = stream(recipe.seed, "train-mode").permutation(rows)
            rows = rows[: max(1, len(rows) // batch_size) * batch_size]  # a last batch of one image has no statistics
        return evaluate(
            self.evaluated_model,
            self.prepared.task,
            self.evaluation_batches(rows, augmented=augmented, batch_size=batch_size),
            device=self.prepared.device,
            dtype=self.prepared.precision.autocast,
            mode="train" if train_mode else "eval",
            seed=recipe.seed,
            after_batch=lambda done: self.reporter.progress(what or "evaluating", done, len(rows)),
        )

    def steps_left(self) -> Generator[bool]:
        """Take the steps that are left; yields after each whether `position` and the records are up to date with it."""
        position = self.position
        if position.ended:
            return
        momentum = momentum_of(self.prepared.recipe.schedule)
        settings = replace(self.settings, parts=position.parts, average=self.average, momentum=momentum)
        crew, place = self._crew, self.folder.path
        with (
            nullcontext() if crew is None else crew.at_work(place, self.prepared, position.step) as ranks,
            closing(self._own_batches.iterate(position.step, self.steps)) as batches,  # type: ignore[type-var]
        ):
            records = fit(
                self.prepared.model,
                self.prepared.task,
                batches,
                self.optimizer,
                self.schedule,
                steps=self.steps,
                device=self.prepared.device,
                first_step=position.step,
                settings=replace(settings, ranks=ranks),
            )
            yield from self._recorded(records)

    def _recorded(self, records: Iterator[StepRecord]) -> Iterator[bool]:
        """Keep the position and the records up to date with the steps; yields after each whether they are."""
        per_epoch = self.batches.steps_per_epoch
        pending = self._pending
        clock, last, recorded = Clock(), time.perf_counter(), time.perf_counter()
        for record in records:
            pending.append(record)
            now = time.perf_counter()
            clock.step_seconds.append(now - last)
            clock.images += record.images
            in_epoch = record.step % per_epoch + 1
            if in_epoch == per_epoch or now - recorded > self.record_seconds or self.stop_asked():
                self._note_steps(pending)
                recorded = now
                self.reporter.progress(
                    f"epoch {record.step // per_epoch + 1}/{self.prepared.recipe.epochs}", in_epoch, per_epoch
                )
            if in_epoch == per_epoch:
                self._end_epoch(record, clock)
                clock = Clock()
            yield not pending
            last = time.perf_counter()

    def _note_steps(self, pending: list[StepRecord]) -> None:
        """Fetch the losses of the pending steps from the device, add them up and record them."""
        position = self.position
        if not pending:
            return
        losses = torch.stack([record.loss for record in pending]).double().tolist()
        tallies = torch.stack([record.tally_sum for record in pending]).double().cpu().numpy()
        for record, loss, tally_Q in zip(
            pending, losses, tallies, strict=True
        ):  # one by one: sums of floats hang on order
            position.tally_sum = (tally_Q if position.tally_sum is None else position.tally_sum + tally_Q).tolist()
            position.loss_sum += loss * record.images
            position.images += record.images
        position.step, position.parts = pending[-1].step + 1, pending[-1].parts
        momenta = [record.momentum for record in pending]
        rates = {"lr": [record.lr for record in pending], **({"momentum": momenta} if any(momenta) else {})}
        self.folder.append("steps", {"first_step": pending[0].step, "loss": losses, **rates})
        pending.clear()

    def _end_epoch(self, last: StepRecord, clock: Clock) -> None:
        """Evaluate, record the epoch, keep its weights if they are the best, decide whether it was the last."""
        position, prepared = self.position, self.prepared
        seconds = time.perf_counter() - clock.started
        epoch = last.step // self.batches.steps_per_epoch
        running_score = prepared.task.measures(np.array([position.tally_sum]))["score"][0]
        running = Means(loss=position.loss_sum / position.images, score=float(running_score))
        train, val = self._evaluated(epoch) if self.is_looked_at(position.step) else (None, None)
        unseen = prepared.recipe.data.train_on != "train+val"
        record = EpochRecord(
            epoch=epoch,
            step=last.step,
            train_running=running,
            train=_means(train),
            val=_means(val if unseen else None),
            lr=last.lr,
            seconds=seconds,
            images_per_second=clock.images / seconds,
            step_seconds=float(np.median(clock.step_seconds)),
            memory_bytes=memory_bytes(prepared.device),
        )
        self.folder.append("epoch", to_json(record))
        self.reporter.epoch(record, prepared.recipe.epochs)
        position.loss_sum, position.tally_sum, position.images = 0.0, None, 0
        if val is not None and val.score > position.best_score:
            position.best_score, position.best_epoch = val.score, epoch
            if prepared.recipe.keep == "best":
                position.best_sha256 = checkpoints.save_tensors(self.best_file, self.evaluated_model.state_dict())
        if isinstance(self.schedule, RememberingSchedule) and val is not None:
            self.schedule.observe(val.score)
            position.schedule = self.schedule.state_dict()
        waited = epoch - (position.best_epoch if position.best_epoch is not None else epoch)
        patience = prepared.recipe.early_stop
        position.ended = position.step >= self.steps or (patience is not None and waited >= patience)

    def is_looked_at(self, step: int) -> bool:
        """Whether an epoch that ends after `step` steps is evaluated: each, unless none of its images is unseen and nothing is
        decided by them. Then the last one says it all, and a fifth of the time and more is for training (docs/log.md)."""
        recipe = self.prepared.recipe
        decides = (
            recipe.keep == "best" or recipe.early_stop is not None or isinstance(self.schedule, RememberingSchedule)
        )
        return recipe.data.train_on != "train+val" or decides or step >= self.steps

    def _evaluated(self, epoch: int) -> tuple[Scores, Scores]:
        """(train, val) of the evaluated model after an epoch, kept."""
        prepared = self.prepared
        train = prepared.task.scores(self.evaluate(prepared.probe_rows, what="evaluating train"))
        val = prepared.task.scores(self.evaluate(prepared.split.val, what="evaluating val"))
        self._keep_scores(epoch, train, val)
        return train, val

    def _keep_scores(self, epoch: int, train: Scores, val: Scores) -> None:
        """Per-image tallies of the epoch: what a cross-fitted gap needs of every epoch that could have been chosen."""
        save_arrays(
            self.folder,
            f"scores-epoch-{epoch:04d}",
            {"train": train.tally, "val": val.tally},
        )

    def seconds(self) -> float:
        """Wall-clock of the training so far, over all of its starts."""
        now = time.perf_counter()
        self.position.seconds += now - self._counted
        self._counted = now
        return self.position.seconds

    def _save(self) -> None:
        self.seconds()
        tensors, state = checkpoints.training_tensors(self.prepared.model, self.optimizer, self.average)
        self.position.records_bytes = self.folder.position()
        state["position"] = {**vars(self.position), "best_score": to_json(self.position.best_score)}
        state["scaler"] = None if self.scaler is None else self.scaler.state_dict()
        checkpoints.save_checkpoint(
            self.folder.checkpoints, self.position.step, checkpoints.Checkpoint(tensors=tensors, state=state)
        )
        # What the two checkpoints that are kept call best stays: either may be the one that is gone back to.
        best_epochs = {self._best_epoch_saved_before, self.position.best_epoch}
        for file in self.folder.checkpoints.glob("best-*.safetensors"):
            if int(file.stem.removeprefix("best-")) not in best_epochs:
                file.unlink(missing_ok=True)
        self._best_epoch_saved_before = self.position.best_epoch

    def _restore(self) -> bool:
        """Go back to the newest whole checkpoint, or to the start; records written after it are written again.

        Whether there was a checkpoint.
        """
        found = checkpoints.load_newest(self.folder.checkpoints)
        if found is None:
            self.folder.cut(self.folder.opening())
            return False
        checkpoints.restore_training(found, self.prepared.model, self.optimizer, self.average)
        if self.scaler is not None and found.state["scaler"] is not None:
            self.scaler.load_state_dict(found.state["scaler"])
        saved: dict[str, Any] = dict(found.state["position"])
        if saved["best_score"] is None:
            saved["best_score"] = -math.inf
        self.position = Position(**saved)
        if self.position.schedule is not None and isinstance(self.schedule, RememberingSchedule):
            self.schedule.load_state_dict(self.position.schedule)
        self.folder.cut(self.position.records_bytes)
        return True


def _means(scores: Scores | None) -> Means:
    """Of an epoch's images; not a number where they were not looked at."""
    return Means(loss=math.nan, score=math.nan) if scores is None else Means(loss=scores.loss, score=scores.score)


def save_arrays(folder: RunFolder, name: str, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to answers/NAME.npz, atomically."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(folder.answers / f"{name}.npz", buffer.getvalue())
