"""The processes that train one run together, as its first one sees them: started or found, given their work, ended.

They are started by us (`processes=4`) or were by torchrun, which tells each its place. Either way the first one does all
that a training does; the others wait until its recipe is settled, then compute gradients for it (`helper.py`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from trainwright.data.dataset import Dataset
from trainwright.errors import ProcessLostError, RecipeError, UsageError
from trainwright.execution.place import Place, place_told
from trainwright.execution.processes import ENDING_SECONDS, ENVIRONMENT
from trainwright.training.device import choose_device
from trainwright.training.ranks import Ranks, backend_of, batch_norms, error_told, signature
from trainwright.workflows.options import RunOptions
from trainwright.workflows.prepare import Prepared

ADDRESS = "127.0.0.1"  # processes started by us are on this machine
INTERFACE = "GLOO_SOCKET_IFNAME"
POLL_SECONDS = 0.05
MEETING = timedelta(minutes=10)  # for torchrun's processes to find each other: they start at about the same time
LOG = "processes.log"  # in a run folder: what the processes beside the first one printed
_trainings = itertools.count()  # of this process: torchrun's others count along, so that all mean the same one


@dataclass(kw_only=True)
class Crew:
    """The processes that share the steps of a run. store: where they meet. port: of it, where we start the others; None where
    torchrun did."""

    count: int
    store: Store
    workers: int
    port: int | None = None
    _ranks: Ranks | None = None
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def stopping(self, stop_asked: Callable[[], bool]) -> Callable[[], bool]:
        """Whether this process is asked to stop, or any other of the crew."""
        return lambda: stop_asked() or (self._ranks is not None and self._ranks.stop_asked)

    @contextlib.contextmanager
    def at_work(self, folder: Path, prepared: Prepared, first_step: int) -> Iterator[Ranks]:
        """The others compute gradients from step `first_step` on. folder: of the run. Raises what keeps one of them from it."""
        job = {
            "folder": str(folder),
            "recipe": prepared.recipe.model_dump(mode="json"),
            "source": None if prepared.dataset.source is None else dict(prepared.dataset.source),
            "fingerprint": prepared.dataset.digest,
            "split": prepared.split.digest,
            "model": signature(prepared.model),
            "device": prepared.device.type,
            "threads": torch.get_num_threads(),
            "workers": self.workers,
            "first_step": first_step,
        }
        try:
            self._start(folder / LOG)
            self.store.set("job", json.dumps(job))
            self._wait_until_ready(folder / LOG)
            with _own_machine_only() if self.port is not None else contextlib.nullcontext():
                self._ranks = Ranks(prepared.model, self.store, rank=0, count=self.count, device=prepared.device)
            yield self._ranks
        finally:
            self._end()

    def close(self) -> None:
        """Let those of torchrun go: they wait for work, or for its result."""
        with contextlib.suppress(RuntimeError):  # nobody there any more
            if self.port is None and not self.store.check(["job"]):
                self.store.set("job", json.dumps(None))
            self.store.set("done", "")

    def _start(self, log: Path) -> None:
        for rank in range(1, self.count) if self.port is not None else ():
            place = Place(rank=rank, count=self.count, local_rank=rank, local_count=self.count)
            with log.open("ab") as printed, _own_machine_only():
                self._started.append(
                    subprocess.Popen(
                        [sys.executable, "-P", "-m", "trainwright.workflows.helper"],
                        stdin=subprocess.DEVNULL,
                        stdout=printed,
                        stderr=printed,
                        env={**os.environ, **ENVIRONMENT, **place.environment(ADDRESS, self.port or 0)},
                        process_group=0,  # Ctrl-C is ours to answer
                    )
                )

    def _wait_until_ready(self, log: Path) -> None:
        """Raise what keeps a process from its work, and ProcessLostError for one that ends before it said."""
        for rank in range(1, self.count):
            while not self.store.check([f"ready-{rank}"]):
                if self.store.check([f"error-{rank}"]):
                    raise error_told(self.store, rank)
                for place, process in enumerate(self._started, 1):
                    if process.poll() is not None and not self.store.check([f"error-{place}"]):
                        raise ProcessLostError(
                            f"ended with status {process.returncode} before it began.",
                            where=f"process {place} of {self.count}",
                            cure=f"{log} has what it printed.",
                        )
                time.sleep(POLL_SECONDS)

    def _end(self) -> None:
        """No process that we started is left; none of them holds anything that has to be saved."""
        seconds = 0.0
        if self._ranks is not None:
            self._ranks.end()
            self._ranks, seconds = None, ENDING_SECONDS
        until = time.monotonic() + seconds
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0.0, until - time.monotonic()))
            if process.poll() is None:
                process.kill()
            process.wait()
        self._started.clear()


@contextlib.contextmanager
def crew_for(options: RunOptions) -> Iterator[Crew | None]:
    """The crew of a run; None for one process, which trains alone. options: as `with_crew` gives them."""
    count = options.processes or 1
    if count == 1:
        yield None
        return
    if place_told() is not None:
        crew = Crew(count=count, store=meeting(), workers=options.workers)
    else:
        store = _store_here()
        crew = Crew(count=count, store=PrefixStore(_name(0), store), workers=options.workers, port=store.port)
    try:
        yield crew
    finally:
        crew.close()


def _store_here() -> dist.TCPStore:  # type: ignore[name-defined]
    """A store that this machine alone can reach: one that opens its own port listens on every interface."""
    with socket.create_server((ADDRESS, 0)) as listening:
        port = listening.getsockname()[1]
        return dist.TCPStore(  # type: ignore[attr-defined]
            ADDRESS, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )


@contextlib.contextmanager
def _own_machine_only() -> Iterator[None]:
    """Gloo listens where the name of the machine leads to, unless it is told the interface: here the loopback."""
    before = os.environ.get(INTERFACE)
    own = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if before is None and own:
        os.environ[INTERFACE] = own[0]
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(INTERFACE, None)


def meeting() -> Store:
    """Where those meet that were told their place, for one training more."""
    return PrefixStore(_name(next(_trainings)), _rendezvous())


@cache
def _rendezvous() -> Store:
    store: Store = next(rendezvous("env://", timeout=MEETING))[0]
    return store


def _name(training: int) -> str:
    return f"trainwright-{training}"


def with_crew(
    options: RunOptions, *, manifest: Mapping[str, Any] | None = None, again: bool = False, kept: str = ""
) -> RunOptions:
    """The options with the number of processes, and the device and threads of the first of them.

    manifest: of the run that is gone on with, whose number of processes it has to be. again: it is trained anew, so that another
    number may be asked for. kept: `python_only` of what was given. Raises UsageError for what cannot be.
    """
    place, asked = place_told(), options.processes
    begun = None if manifest is None else processes_of(manifest)
    options = options if manifest is None or again else _as_it_began(options, manifest)
    count = place.count if place is not None else asked or begun or 1
    if place is not None and asked not in (None, count):
        raise UsageError(
            f"{asked} were asked for, torchrun started {count}.", where="processes", cure="Leave processes out."
        )
    if begun is not None and count != begun and not again:
        raise UsageError(
            f"the run was begun with {begun}, not {count}: another number adds up in another order, and batch norm would "
            "see other images at a time.",
            where="processes",
            cure=f"Resume it with {begun}" + (", or leave --processes out." if place is None else "."),
        )
    if count == 1:
        return replace(options, processes=1)
    if place is None and kept:
        raise UsageError(
            f"{kept} was given by Python code, and processes of their own cannot have it.",
            where="processes",
            cure="Start the script itself with 'torchrun --nproc-per-node N script.py'; then each makes its own.",
        )
    threads = options.threads
    if threads is None and place is None:
        threads = max(1, torch.get_num_threads() // count)
    own = place or Place(rank=0, count=count, local_rank=0, local_count=count)
    return replace(options, processes=count, device=str(device_at(own, options.device)), threads=threads)


def python_only(data: object, model: object) -> str:
    """What was given that a process of its own could not open or make again; empty for nothing."""
    return (
        "the network" if model is not None else "the data" if isinstance(data, Dataset) and data.source is None else ""
    )


def _as_it_began(options: RunOptions, manifest: Mapping[str, Any]) -> RunOptions:
    """The options with the recorded device and threads where they say none."""
    recorded = manifest["machine"]
    device = recorded["device"].partition(":")[0] if processes_of(manifest) > 1 else recorded["device"]
    return replace(
        options,
        device=device if options.device == "auto" else options.device,
        threads=recorded["torch_threads"] if options.threads is None else options.threads,
    )


def device_at(place: Place, asked: str) -> torch.device:
    """The device of a process at its place. Raises UsageError where there are more processes than GPUs."""
    device = choose_device(asked)
    if device.type != "cuda":
        return device
    if ":" in asked:
        raise UsageError(
            f"{asked} is one GPU, and each of {place.count} processes takes one of its own.",
            where="device",
            cure="Ask for cuda; CUDA_VISIBLE_DEVICES says which ones.",
        )
    if place.local_count > torch.cuda.device_count():
        raise UsageError(
            f"{place.local_count} on a machine with {torch.cuda.device_count()} GPUs.",
            where="processes",
            cure="One for each GPU at most, or --device cpu.",
        )
    return torch.device("cuda", place.local_rank)


def refuse_study(options: RunOptions) -> None:
    """Raise UsageError where the trainings of a study, which are many, would each be shared."""
    if place_told() is not None or (options.processes or 1) > 1:
        raise UsageError(
            "a study trains one run in each process, not one run in several.",
            where="processes",
            cure="Start it without torchrun; --slots says how many of its trainings run at a time.",
        )


def refuse_share(prepared: Prepared, processes: int | None) -> None:
    """Raise RecipeError where the images of a step cannot be shared out equally."""
    count, recipe = processes or 1, prepared.recipe
    if recipe.batch_size == "auto":
        return
    images = min(recipe.step_images, len(prepared.split.train))
    if images % count:
        fewer = images // count * count
        raise RecipeError(
            f"the {images} images of a step are not to be shared equally by {count} processes.",
            where="batch_size",
            cure=f"Set it to {fewer or count}" + (f" or {fewer + count}." if fewer else "."),
        )


def processes_of(manifest: Mapping[str, Any]) -> int:
    """How many processes a run was begun with."""
    return int(manifest.get("processes", {}).get("count", 1))


def as_recorded(prepared: Prepared, processes: int | None) -> dict[str, Any]:
    """What a manifest keeps of the processes; nothing for one."""
    count = processes or 1
    if count == 1:
        return {}
    norm = "by the images of each process" if batch_norms(prepared.model) else "none"
    return {"processes": {"count": count, "backend": backend_of(prepared.device), "batch_norm": norm}}


def stated(prepared: Prepared, processes: int | None) -> str:
    """In words, for the one who waits; empty for one process."""
    count, images = processes or 1, min(prepared.recipe.step_images, len(prepared.split.train))
    if count == 1:
        return ""
    parts = -(-prepared.recipe.accumulate // count)
    norm = f"; batch norm sees {images // count // parts} at a time" if batch_norms(prepared.model) else ""
    return f"{count} processes ({backend_of(prepared.device)}), {images // count} of each step's {images} images each{norm}"
