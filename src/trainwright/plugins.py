"""Everything that can be plugged in: the Protocols, and the registry of each.

Adding an optimizer, schedule, loss, task, network or mirror is one new file in its room: the decorator registers it, the contract
tests find it. A package of your own registers through the entry-point group `trainwright.plugins`.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from trainwright.errors import unknown_name

if TYPE_CHECKING:
    import numpy as np
    import torch

    from trainwright.recipe import LossSpec, NetworkSpec, OptimizerSpec, ScheduleSpec, Size
    from trainwright.records import (
        Answers,
        Chart,
        Outcome,
        OutputForm,
        Proposal,
        Scores,
        TargetInfo,
        TargetKind,
        Tile,
    )
    from trainwright.search.history import History, Move


T = TypeVar("T")


class Task(Protocol):
    """What is learned: how outputs become a loss, answers, a score and pictures. One instance serves one training.

    Every score is a function of tallies summed over images: so it can be followed during an epoch, resampled over images
    for its interval, and measured on half of the images, whatever the task.
    """

    name: str
    metric: str  # what `score` measures, in the field's term: accuracy
    target: TargetKind  # what the dataset has to know of each image
    form: OutputForm  # what the network has to say of each image
    losses: tuple[str, ...]  # names of the losses that go with it; the first one is taken where the recipe names none
    counts_right: (
        bool  # score is the share of images that are right: `Scores.per_image` is 0 or 1, and the score its mean
    )
    info: TargetInfo
    outputs: int  # how many figures the network gives for each image or pixel

    def loss(self, outputs: Any, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss [N], tally [N, Q]): per image, so that a faulty image can be named. The training minimizes the mean loss."""
        ...

    def answers(self, outputs: Any, target: torch.Tensor | None, rows: Any) -> Answers:
        """What the network says of each image, as numpy columns, with the target beside it where there is one."""
        ...

    def scores(self, answers: Answers) -> Scores:
        """Score, loss, tallies, per-image and per-class scores of answers that have their target."""
        ...

    def measures(self, tally_BQ: np.ndarray) -> Mapping[str, np.ndarray]:
        """Figures [B] of B sets of images from their summed tallies: `score`, `class.NAME` for each class, others by name."""
        ...

    def say(self, answers: Answers) -> list[dict[str, Any]]:
        """Each image's answer as a person's program would want it in JSON, boxes and masks in pixels of the input."""
        ...

    def tiles(self, answers: Answers, images_NHWC: np.ndarray) -> list[Tile]:
        """Each image with its answer painted in, and its target beside it where it is known. images_NHWC: uint8, the input."""
        ...

    def charts(self, answers: Answers) -> list[Chart]:
        """What is to be drawn of answers that have their target, beside the tiles."""
        ...


class Network(Protocol):
    """A kind of network of ours, by name."""

    form: OutputForm
    multiple: int  # both sides of its input must be multiples of this many pixels

    def build(self, spec: NetworkSpec, *, outputs: int, size: Size) -> torch.nn.Module:
        """A network with fresh weights from torch's current random stream: normalized float [N, 3, H, W] to

        vector: [N, outputs]; map: [N, outputs, H, W]; boxes: `Detections`. One whose class attribute `takes_target` is true
        is called with (images, target), target None where there is none.
        """
        ...


class BuildOptimizer(Protocol):
    def __call__(self, groups: list[dict[str, Any]], spec: OptimizerSpec) -> torch.optim.Optimizer:
        """An optimizer over parameter groups, each with its `params`, peak `lr` and `weight_decay`."""
        ...


class BuildSchedule(Protocol):
    def __call__(self, spec: ScheduleSpec) -> Callable[[float], float]:
        """A function of progress (0 at the first step, 1 after the last) to the factor of the peak lr, 0–1.

        A pure one, or a `RememberingSchedule`.
        """
        ...


@runtime_checkable
class RememberingSchedule(Protocol):
    """A schedule that goes by what came of the training so far; what it remembers is part of every checkpoint."""

    def __call__(self, progress: float) -> float: ...

    def observe(self, score: float) -> None:
        """Take in the val score of an epoch that has just ended."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, as plain JSON data."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class BuildLoss(Protocol):
    def __call__(self, spec: LossSpec) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
        """A function of (outputs, target) to the loss of each image, [N]."""
        ...


class Strategy(Protocol):
    """What to train next, and what to make of it. It depends on the outcomes that it was told and on nothing else: told the
    same again, in the order of their numbers, it asks for the same again."""

    def ask(self) -> Proposal | None:
        """The next run; None where it has to be told an outcome first, or wants no more (`done`)."""
        ...

    def tell(self, outcome: Outcome) -> None: ...

    @property
    def done(self) -> bool:
        """Whether nothing is left to be asked for and told."""
        ...


class Searcher(Protocol):
    """A way to search a space: what to try next, of any objective. `search.searching.Search` makes ask and tell of it.

    It is a function of the history, its space and its seed: what it remembers is worked out from the history and only saves
    time. Randomness comes from `seeding.stream(seed, …, number)` with the number of the ask. So a search that is killed goes
    on into the future it would have had, and several workers find what one would. `tests/search/test_strategies.py` holds
    every registered one to it.
    """

    learns: bool  # whether outcomes matter to it; where not, it never waits for one

    def propose(self, history: History) -> Move | None:
        """A new trial, or the next piece of one that is paused and not pending; None where it has to see another outcome
        first, or wants no more. Asked again of the same history it gives the same answer."""
        ...


class BuildSearcher(Protocol):
    def __call__(self, *setting: Any, **options: Any) -> Searcher:
        """A searcher from one `search.searching.Setting`. Its options are keyword-only and have defaults."""
        ...


class Mirror(Protocol):
    """A copy of run folders in another program's store. It may fail at any time: the run folder is the truth.

    A mirror is stateless: it looks up what its store already has, so calling it twice adds nothing twice.
    """

    def update(self, run: Path) -> int:
        """Bring the store up to date with the run folder; returns how many rows were added."""
        ...

    def close(self, run: Path, state: str) -> None:
        """Mark the run as ended in the store: finished, failed or interrupted."""
        ...


class Registry(Generic[T]):
    """Names to things of one kind. A module of `room` registers its own when one of its names is first looked up."""

    def __init__(self, *, name: str, what: str, where: str, room: str) -> None:
        self._name, self._what, self._where, self._room = name, what, where, room
        self._known: dict[str, T] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: register a thing under `name`. Raises ValueError where the name is taken."""

        def add(thing: T) -> T:
            if name in self._known:
                raise ValueError(f"{self._what} {name!r} is registered twice")
            self._known[name] = thing
            return thing

        return add

    def get(self, name: str) -> T:
        """The thing of that name. Raises UnknownNameError with the nearest known name and all of them.

        Of the room only the file that registers it is imported: its neighbours may take seconds, or need what is not installed.
        """
        if name not in self._known and not self._loaded and (module := self._written().get(name)) is not None:
            importlib.import_module(module)
        if name in self._known:
            return self._known[name]
        known = self.all()
        if name not in known:
            raise unknown_name(name, known, where=self._where, what=self._what)
        return known[name]

    def check(self, name: str) -> None:
        """Raise UnknownNameError for an unknown name without importing the room, and with it torch, where that can be told.

        The room's files are searched for what they register; with packages of others installed, only `get` can tell.
        """
        written = self.written_names()
        if name not in written and name not in self._known and not entry_points(group="trainwright.plugins"):
            raise unknown_name(name, {*written, *self._known}, where=self._where, what=self._what)

    def is_made_here(self, name: str) -> bool:
        """Whether this process alone has it: registered by a program of the user's."""
        if name not in self._known or name in self.written_names():
            return False
        packages = {entry.module.partition(".")[0] for entry in entry_points(group="trainwright.plugins")}
        return getattr(self._known[name], "__module__", "").partition(".")[0] not in packages

    def names(self) -> list[str]:
        return sorted(self.all())

    def all(self) -> Mapping[str, T]:
        self._load()
        return self._known

    def written_names(self) -> set[str]:
        """The names that the room's own files register, read from their text: nothing is imported."""
        return set(self._written())

    def _written(self) -> dict[str, str]:
        """The same names, each with the module that registers it."""
        room = importlib.util.find_spec(self._room)
        files = [
            file for folder in (room and room.submodule_search_locations) or [] for file in Path(folder).glob("*.py")
        ]
        pattern = re.compile(rf"^@{self._name}\.register\(\"([^\"]+)\"\)", re.MULTILINE)
        return {
            name: f"{self._room}.{file.stem}"
            for file in files
            for name in pattern.findall(file.read_text(encoding="utf-8"))
        }

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True  # from the start: a module of the room may look up a name while it loads
        try:
            for module in _modules(self._room):
                importlib.import_module(module)
            for entry in entry_points(group="trainwright.plugins"):
                entry.load()
        except BaseException:
            self._loaded = False  # or the next look-up would answer from half a room
            raise


def _modules(room: str) -> Iterable[str]:
    package = importlib.import_module(room)
    return [f"{room}.{info.name}" for info in pkgutil.iter_modules(package.__path__)]


optimizers: Registry[BuildOptimizer] = Registry(
    name="optimizers", what="optimizer", where="optimizer.name", room="trainwright.optim"
)
schedules: Registry[BuildSchedule] = Registry(
    name="schedules", what="schedule", where="schedule.name", room="trainwright.optim"
)
losses: Registry[BuildLoss] = Registry(name="losses", what="loss", where="loss.name", room="trainwright.optim")
networks: Registry[type[Network]] = Registry(
    name="networks", what="network", where="network.name", room="trainwright.networks"
)
tasks: Registry[type[Task]] = Registry(name="tasks", what="task", where="task", room="trainwright.tasks")
strategies: Registry[BuildSearcher] = Registry(
    name="strategies", what="strategy", where="strategy", room="trainwright.search"
)
