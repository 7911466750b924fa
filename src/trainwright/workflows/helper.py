"""A process beside the first one of a run: it computes gradients of its part of each step until it is told to stop.

`python -m trainwright.workflows.helper` is one that the first process started; torchrun starts the program of the first one
again, which comes here by itself. It prints nothing: what goes wrong is told to the first process, which says it once.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.distributed_c10d import Store

from trainwright.batch import Batch
from trainwright.data.dataset import Dataset, open_dataset
from trainwright.errors import DataError, ProcessLostError, UsageError
from trainwright.execution.place import Place, place_told
from trainwright.recipe import Recipe
from trainwright.training.loop import FitSettings, gradients_of
from trainwright.training.ranks import Order, Ranks, signature, tell_error
from trainwright.training.repeatable import repeatable
from trainwright.workflows.crew import POLL_SECONDS, device_at, meeting
from trainwright.workflows.ingredients import batches_of, settings_of
from trainwright.workflows.prepare import Prepared, prepare
from trainwright.workflows.reporting import Silent

if TYPE_CHECKING:
    from torch import nn

HEARD_SECONDS = 10.0  # for the first process to hear of an error, before torchrun ends it for this one's end


def helps() -> bool:
    """Whether this process was started to help another one train."""
    place = place_told()
    return place is not None and not place.leads


def help_out(*, data: Dataset | None = None, model: nn.Module | None = None, to_the_end: bool = False) -> Path | None:
    """Compute gradients for the first process until its training ends; the folder of the run, None where there was none.

    data, model: what only Python code can give. to_the_end: come back when the run has been judged too. Raises
    ProcessLostError where the first process has gone.
    """
    place, store = place_told(), meeting()
    assert place is not None
    job = json.loads(_waited_for("job", store, place))
    if job is None:
        return None
    device = device_at(place, job["device"])
    with repeatable(device, job["threads"]):
        prepared = _prepared(job, place, store, device=device, given=(data, model))
        if prepared is None:
            return None
        ranks = Ranks(prepared.model, store, rank=place.rank, count=place.count, device=device)
        with _stoppable(ranks):
            try:
                _work(job, prepared, ranks)
            finally:
                ranks.end()
    if to_the_end:
        _waited_for("done", store, place)
    return Path(job["folder"])


def _waited_for(key: str, store: Store, place: Place) -> bytes:
    """What the first process has left under a key. Raises ProcessLostError where it has gone."""
    try:
        while not store.check([key]):
            time.sleep(POLL_SECONDS)
        found: bytes = store.get(key)
        return found
    except RuntimeError as error:
        raise _gone(place) from error


def _prepared(
    job: Mapping[str, Any],
    place: Place,
    store: Store,
    *,
    device: torch.device,
    given: tuple[Dataset | None, nn.Module | None],
) -> Prepared | None:
    """The training that the first process is about to start, but for its weights; None where that fails, which it is told."""
    try:
        dataset, model = given
        source = job["source"]
        if dataset is None and source is None:
            raise UsageError("its data was given by Python code.", where="data", cure="Give it to each process.")
        if dataset is None:
            dataset = open_dataset(
                Path(source["path"]), target=source["target"], task=source["task"], workers=job["workers"]
            )
        if dataset.digest != job["fingerprint"]:
            raise DataError(
                "this process sees other images than the first one.",
                where=str(dataset.table.root),
                cure="Give all of them the same data under the same path.",
            )
        recipe = Recipe.model_validate(job["recipe"])
        prepared = prepare(
            dataset,
            recipe,
            device=device,
            workers=job["workers"],
            reporter=Silent(),
            custom=model,
            weights_follow=True,
        )
        if prepared.split.digest != job["split"] or signature(prepared.model) != job["model"]:
            raise UsageError("the network or the split is another one than that of the first process.", where="model")
    except Exception as error:
        tell_error(store, place.rank, error)
        until = time.monotonic() + HEARD_SECONDS
        with contextlib.suppress(RuntimeError):  # the first process may have gone by then
            while not store.check([f"heard-{place.rank}"]) and time.monotonic() < until:
                time.sleep(POLL_SECONDS)
        return None
    try:
        store.set(f"ready-{place.rank}", "")
    except RuntimeError as error:
        raise _gone(place) from error
    return prepared


def _work(job: Mapping[str, Any], prepared: Prepared, ranks: Ranks) -> None:
    recipe = prepared.recipe
    batches = batches_of(prepared, seed=recipe.seed, workers=job["workers"], share=(ranks.rank, ranks.count))
    settings = replace(settings_of(prepared), scaler=None, ranks=ranks)
    steps = recipe.epochs * batches.steps_per_epoch
    with closing(batches.iterate(job["first_step"], steps)) as ahead:  # type: ignore[type-var]
        part = _Part(prepared, ahead, settings)
        while (order := ranks.hear()) is not None:
            part.order = order
            ranks.answer(part.gradients)


class _Part:
    """This process's part of the step that is ordered; of a step that is ordered once more, in smaller pieces, the same."""

    def __init__(self, prepared: Prepared, batches: Iterator[Batch], settings: FitSettings) -> None:
        self._prepared, self._batches, self._settings = prepared, batches, settings
        self._batch: Batch | None = None
        self._step = -1
        self.order = Order(step=0, parts=1)

    def gradients(self) -> tuple[torch.Tensor, torch.Tensor]:
        prepared, order = self._prepared, self.order
        if self._batch is None or order.step != self._step:
            self._batch, self._step = next(self._batches), order.step
        prepared.model.train()
        batch = self._batch.to(prepared.device)
        return gradients_of(prepared.model, prepared.task, batch, order, self._settings)


@contextlib.contextmanager
def _stoppable(ranks: Ranks) -> Iterator[None]:
    """SIGINT and SIGTERM ask the whole run to save and stop, at its next step; a second one ends this process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        ranks.stop_asked = True
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _gone(place: Place) -> ProcessLostError:
    return ProcessLostError("the first process has ended.", where=f"process {place.rank} of {place.count}")


def main() -> int:
    """Help the process that started this one; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # until there is something to save, it ends at once
    try:
        help_out()
    except ProcessLostError:
        return ProcessLostError.exit_code  # nobody is left to tell
    return 0


if __name__ == "__main__":
    sys.exit(main())
