"""One step worked through by several processes: rank 0 trains, the others compute gradients for it.

Rank 0 is a training like any other. Before each step it sends the weights, every rank works through its part of the step's
images, and the gradients are added up on rank 0, which alone moves the weights, evaluates and writes. So the others have no
optimizer, no schedule and no records, and where one is lost, nothing is lost with it.

Orders and answers go through gloo, which notices at once where the other side has died; NCCL only carries tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import Store  # torch.distributed has it too, unknown to type checkers
from torch.nn.modules.batchnorm import _NormBase

from trainwright.errors import (
    DataError,
    NonFiniteLossError,
    ProcessLostError,
    RecipeError,
    TrainwrightError,
    UsageError,
    WeightsError,
)
from trainwright.training.device import out_of_memory

ANSWER = timedelta(minutes=10)  # for what a rank does between two messages of a step; one that hangs is given up then
PATIENCE = timedelta(days=20)  # a rank waits as long as rank 0 evaluates; that rank 0 has died it hears at once
END, STEP, ALL = 0.0, 1.0, 2.0  # orders: nothing more; a step; a step for which frozen weights are sent too
FINE, NO_MEMORY, FAILED = 0.0, 1.0, 2.0  # how a rank's part of a step went
Gradients = Callable[[], tuple[torch.Tensor, torch.Tensor]]
KINDS = {kind.kind: kind for kind in (DataError, NonFiniteLossError, RecipeError, UsageError, WeightsError)}


@dataclass(frozen=True, kw_only=True)
class Order:
    """A step to compute the gradients of. parts: how many pieces a rank's images are worked through in. scale: of the loss, where
    fp16 has one and rank 0 alone keeps it."""

    step: int
    parts: int
    scale: float = 1.0


class Ranks:
    """This process among those that train a model together. Rank 0 calls `lead`, the others `hear` and `answer`."""

    def __init__(self, model: nn.Module, store: Store, *, rank: int, count: int, device: torch.device) -> None:
        """Waits for the others. store: where all of them meet. Raises ProcessLostError where one does not come."""
        self.rank, self.count = rank, count
        self.stop_asked = False  # by a signal to this process; on rank 0 by one to any
        self._store, self._between_steps, self._order = store, True, ALL
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with self._listening():
            dist.init_process_group(
                backend_of(device),
                store=store,
                rank=rank,
                world_size=count,
                timeout=ANSWER,
                device_id=device if device.type == "cuda" else None,
            )
            group = dist.new_group(backend="gloo", timeout=PATIENCE if rank else ANSWER)
        assert isinstance(group, dist.ProcessGroup)  # it is a number for those alone that take no part
        self._orders = group
        self._frozen = _Packed([p for p in model.parameters() if not p.requires_grad])
        self._learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._sent = _Packed([*self._learning, *model.buffers()])
        self._gradients = _Packed(self._learning)
        self._norms = batch_norms(model)

    def lead(self, order: Order, gradients: Gradients) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss, summed tallies) of the whole step, whose gradient is then in the parameters of rank 0.

        gradients: computes rank 0's own part. Raises what it raises, what another rank's part raised, torch.OutOfMemoryError
        where one had no memory, ProcessLostError where one is gone.
        """
        self._between_steps = False
        with self._listening():
            order_4 = torch.tensor([self._order, order.step, order.parts, order.scale], dtype=torch.float64)
            dist.broadcast(order_4, 0, group=self._orders)
            if self._order == ALL:
                self._frozen.send()
            self._sent.send()
        self._order = STEP
        outcome = _Outcome.of(gradients)
        with self._listening():
            ends = self._exchange(outcome)
            if ends == [FINE] * self.count:
                found = self._added_up(*outcome.found)
        self._between_steps = True
        error = outcome.error
        if error is not None:
            # This frame must not hold the error: its traceback holds the frame, and with it all that the step had allocated.
            del outcome
            try:
                raise error
            finally:
                del error
        if FAILED in ends:
            raise error_told(self._store, ends.index(FAILED))
        if NO_MEMORY in ends:
            raise torch.OutOfMemoryError(f"rank {ends.index(NO_MEMORY)} has no memory for its part of the step")
        return found

    def end(self) -> None:
        """Tell the others that there is nothing more to do, where they still listen, and leave them."""
        if self.rank == 0 and self._between_steps:
            with contextlib.suppress(RuntimeError):  # nobody there is as good
                dist.broadcast(torch.tensor([END, 0, 0, 0], dtype=torch.float64), 0, group=self._orders)
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()

    def hear(self) -> Order | None:
        """The next order of rank 0, with the weights in place; None where there is nothing more to do."""
        with self._listening():
            order_4 = torch.empty(4, dtype=torch.float64)
            dist.broadcast(order_4, 0, group=self._orders)
            kind, step, parts, scale = order_4.tolist()
            if kind == END:
                return None
            if kind == ALL:
                self._frozen.receive()
            self._sent.receive()
        return Order(step=int(step), parts=int(parts), scale=scale)

    def answer(self, gradients: Gradients) -> None:
        """Compute this rank's part of the step and add it to that of the others."""
        for parameter in self._learning:
            parameter.grad = None
        outcome = _Outcome.of(gradients)
        with self._listening():
            if outcome.end == FAILED and outcome.error is not None:
                tell_error(self._store, self.rank, outcome.error)
            if self._exchange(outcome) == [FINE] * self.count:
                self._added_up(*outcome.found)

    def _exchange(self, outcome: _Outcome) -> list[float]:
        """How each rank's part went; all of them know it, so that either all add up or none does."""
        own = torch.tensor([outcome.end, float(self.stop_asked)], dtype=torch.float64)
        all_RX = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(all_RX, own, group=self._orders)
        self.stop_asked = self.stop_asked or any(bool(one[1]) for one in all_RX)
        return [float(one[0]) for one in all_RX]

    @torch.no_grad()
    def _added_up(self, loss: torch.Tensor, tally_Q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums over all ranks, which count on rank 0 alone: loss, tallies, gradients; of batch norm the means."""
        used = torch.tensor([parameter.grad is not None for parameter in self._learning], dtype=torch.float64)
        own = torch.cat([loss.double().cpu().reshape(1), tally_Q.double().cpu(), used])
        of_all = [torch.empty_like(own) for _ in range(self.count)] if self.rank == 0 else None
        dist.gather(own, of_all, 0, group=self._orders)
        self._gradients.add_up([parameter.grad for parameter in self._learning])
        running = [
            buffer
            for norm in self._norms
            if norm.training
            for buffer in (norm.running_mean, norm.running_var)
            if buffer is not None
        ]
        means = _Packed(running)
        means.add_up(running)
        if of_all is None:
            return loss, tally_Q
        total = torch.stack(of_all).sum(dim=0)  # in the order of the ranks
        for parameter, sum_, ranks in zip(
            self._learning, self._gradients.views, total[1 + len(tally_Q) :].tolist(), strict=True
        ):
            if ranks:  # what no rank used has no gradient, so that weight decay leaves it alone as in one process
                parameter.grad = torch.empty_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad.copy_(sum_)
        for buffer, sum_ in zip(running, means.views, strict=True):
            buffer.copy_(sum_ / self.count)
        return total[0].to(loss), total[1 : 1 + len(tally_Q)].to(tally_Q)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ProcessLostError(
                "a process that trains this run with others has ended or does not answer "
                f"({' '.join(str(error).split())[:200]}).",
                where=f"process {self.rank} of {self.count}",
                cure="What it said last, and how much memory was left, tell why.",
            ) from error


def backend_of(device: torch.device) -> str:
    """What carries the tensors of processes that compute on such devices."""
    return "nccl" if device.type == "cuda" else "gloo"


def batch_norms(model: nn.Module) -> list[_NormBase]:
    """The layers that take their statistics from the images of a batch."""
    return [module for module in model.modules() if isinstance(module, _NormBase) and module.track_running_stats]


def signature(model: nn.Module) -> str:
    """A hash of the names, shapes and types of a model's tensors, and of which of them learn; equal for all that may train
    together."""
    found = hashlib.sha256()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad}\n".encode())
    return found.hexdigest()


class _Packed:
    """Tensors side by side in a flat one for each type, so that few long messages go out. views: the parts of it, in order."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        self._tensors = list(tensors)
        sizes: dict[torch.dtype, int] = {}
        places = []
        for tensor in self._tensors:
            begin = sizes.get(tensor.dtype, 0)
            sizes[tensor.dtype] = begin + tensor.numel()
            places.append(slice(begin, begin + tensor.numel()))
        device = self._tensors[0].device if self._tensors else None
        self._flats = {dtype: torch.empty(size, dtype=dtype, device=device) for dtype, size in sizes.items()}
        self.views = [
            self._flats[tensor.dtype][place].view(tensor.shape)
            for tensor, place in zip(self._tensors, places, strict=True)
        ]

    @torch.no_grad()
    def send(self) -> None:
        """From rank 0 to all others."""
        for view, tensor in zip(self.views, self._tensors, strict=True):
            view.copy_(tensor)
        self._broadcast()

    @torch.no_grad()
    def receive(self) -> None:
        self._broadcast()
        for view, tensor in zip(self.views, self._tensors, strict=True):
            tensor.copy_(view)

    def add_up(self, values: Sequence[torch.Tensor | None]) -> None:
        """Leave the sums over all ranks in the views of rank 0. values: shaped like the tensors; None: nothing but zeros."""
        for view, value in zip(self.views, values, strict=True):
            view.zero_() if value is None else view.copy_(value)
        for flat in self._flats.values():
            dist.reduce(flat, 0)

    def _broadcast(self) -> None:
        for flat in self._flats.values():
            dist.broadcast(flat.view(torch.uint8), 0)  # as bytes: not every type is known to every backend


class _Outcome:
    """What came of a rank's own part of a step: `found`, or the error that it raised. end: how it went."""

    def __init__(self, end: float, found: tuple[torch.Tensor, ...] = (), error: Exception | None = None) -> None:
        self.end, self.found, self.error = end, found, error

    @classmethod
    def of(cls, gradients: Gradients) -> _Outcome:
        try:
            return cls(FINE, gradients())
        except Exception as error:
            return cls(NO_MEMORY if out_of_memory(error) else FAILED, error=error)


def tell_error(store: Store, rank: int, error: Exception) -> None:
    """Leave an error for rank 0 to raise."""
    if isinstance(error, TrainwrightError):
        told = {"kind": error.kind, "message": error.message, "where": error.where, "cure": error.cure}
    else:
        told = {"kind": "", "message": f"{type(error).__name__}: {error}", "where": "", "cure": ""}
    store.set(f"error-{rank}", json.dumps(told))


def error_told(store: Store, rank: int) -> TrainwrightError:
    """What a rank has told of its error, as the same kind of error."""
    told = json.loads(store.get(f"error-{rank}"))
    store.set(f"heard-{rank}", "")
    where = f"process {rank}" + (f", {told['where']}" if told["where"] else "")
    return KINDS.get(told["kind"], TrainwrightError)(told["message"], where=where, cure=told["cure"])
