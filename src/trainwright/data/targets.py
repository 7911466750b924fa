"""What a dataset knows of its images, by row: one file a kind. Here what every kind must be able to tell, and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trainwright.data.problems import Problem, counted, few, printable
from trainwright.plugins import tasks
from trainwright.recipe import Size
from trainwright.records import Progress, TargetKind

if TYPE_CHECKING:
    from trainwright.data.augment import Moves
    from trainwright.data.memory import Facts
    from trainwright.data.table import SampleTable

MIN_IMAGES = 5  # of a class: fewer cannot be both learned from and judged on
USUAL_TASKS: Mapping[TargetKind, str] = {  # what each kind of target is for where no task is named
    "class": "classification",
    "numbers": "regression",
    "mask": "segmentation",
    "boxes": "detection",
}


def kind_for(task: str) -> TargetKind:
    """What a task learns from; that of the usual tasks is told without importing torch. Raises UnknownNameError."""
    usual = {name: kind for kind, name in USUAL_TASKS.items()}
    return usual[task] if task in usual else tasks.get(task).target


@dataclass(frozen=True, kw_only=True)
class Stored:
    """How the images lie in the pixel cache, so that targets can be laid beside them.

    rows: dataset rows that can be asked for. size: of the stored images. widths, heights: int32 [S], of the image files.
    workers, progress, cache_dir: as for `open_pixels`.
    """

    root: Path
    rows: np.ndarray
    size: Size
    fit: str
    widths: np.ndarray
    heights: np.ndarray
    workers: int = 0
    progress: Progress | None = None
    cache_dir: Path | None = None


class TargetSource(Protocol):
    """Targets as a loader wants them: laid beside the stored images, then moved as those are.

    warpable: whether they stay true, or are moved along, where images are sheared, shifted and turned.
    """

    @property
    def warpable(self) -> bool: ...

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        """The targets of these dataset rows beside their stored images, first axis N, a new array."""
        ...

    def moved(self, taken: np.ndarray, moves: Moves) -> np.ndarray:
        """What `take` gave after the images were moved so: what `Batch.target` holds, by kind."""
        ...


class Targets(Protocol):
    """What is known of every image of a sample table, by row."""

    @property
    def kind(self) -> TargetKind: ...

    @property
    def names(self) -> tuple[str, ...]:
        """Scored classes in the order of their index, or number columns."""
        ...

    @property
    def every_stratum_in_every_part(self) -> bool:
        """Whether a part without one of the strata cannot be judged on."""
        ...

    def __len__(self) -> int: ...

    def text(self, row: int) -> str:
        """The target of a row in full: equal for equal targets, however they were written down. Goes into fingerprints."""
        ...

    def strata(self) -> Sequence[str]:
        """Of each row, what a split keeps in proportion: its class, or a class that stands for it."""
        ...

    def looked_at(
        self,
        table: SampleTable,
        facts: Sequence[Facts],
        *,
        workers: int,
        progress: Progress | None,
        cache_dir: Path | None,
    ) -> Targets:
        """The same once the images are known (`facts`, one a row): own files read, boxes held against their images."""
        ...

    def usable(self) -> np.ndarray:
        """bool [S]: False for rows whose own target cannot be used."""
        ...

    def problems(self, table: SampleTable, usable: np.ndarray) -> Iterator[Problem]:
        """Everything that is wrong with the targets. usable: bool [S], rows whose image and target can be used."""
        ...

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        """How much of each class (images, boxes, pixels) is in these rows."""
        ...

    def array(self, rows: np.ndarray) -> np.ndarray:
        """The targets of these rows as one array, where the kind has such: class int64 [N], numbers float64 [N, T]."""
        ...

    def source(self, stored: Stored) -> TargetSource:
        """The targets beside stored images."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClassTargets:
    """One class an image. indices: int64 [S], into names."""

    indices: np.ndarray
    names: tuple[str, ...]
    kind: TargetKind = "class"
    every_stratum_in_every_part: bool = True

    def __len__(self) -> int:
        return len(self.indices)

    def text(self, row: int) -> str:
        return self.names[int(self.indices[row])]

    def strata(self) -> Sequence[str]:
        return [self.names[index] for index in self.indices]

    def looked_at(
        self,
        table: SampleTable,
        facts: Sequence[Facts],
        *,
        workers: int,
        progress: Progress | None,
        cache_dir: Path | None,
    ) -> ClassTargets:
        return self

    def usable(self) -> np.ndarray:
        return np.ones(len(self), dtype=bool)

    def problems(self, table: SampleTable, usable: np.ndarray) -> Iterator[Problem]:
        """Classes without a usable image in some part, with too few of them, and too few classes altogether."""
        seen = Counter(zip(table.parts[usable].tolist(), self.indices[usable].tolist(), strict=True))
        parts = sorted(set(table.parts.tolist()))
        totals = {name: sum(seen[part, index] for part in parts) for index, name in enumerate(self.names)}
        for part in parts:
            missing = [name for index, name in enumerate(self.names) if not seen[part, index]]
            if missing:
                message = (
                    f"no usable image {f'in {part} ' if part else ''}of {few(missing, limit=20)}. Add images of it."
                )
                yield Problem(kind="class-missing", severity="error", files=(), message=message)
        for name, count in totals.items():
            if 0 < count < MIN_IMAGES:
                message = f"class {printable(name)!r} has only {counted(count, 'usable image')}. Add images of it."
                yield Problem(kind="few-images", severity="warning", files=(), message=message)
        if sum(count > 0 for count in totals.values()) < 2:
            message = "fewer than two classes have usable images. Add images of another class."
            yield Problem(kind="too-few-classes", severity="error", files=(), message=message)

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        """Images of each class."""
        found = np.bincount(self.indices[rows], minlength=len(self.names)).tolist()
        return dict(zip(self.names, found, strict=True))

    def array(self, rows: np.ndarray) -> np.ndarray:
        indices_N: np.ndarray = self.indices[rows]
        return indices_N

    def source(self, stored: Stored) -> TargetSource:
        return PlainSource(self.indices)


class PlainSource:
    """Targets that no move of the image changes. targets_S: first axis S, by dataset row."""

    def __init__(self, targets_S: np.ndarray, *, warpable: bool = True) -> None:
        self._targets_S = targets_S
        self.warpable = warpable

    def take(self, rows_N: np.ndarray) -> np.ndarray:
        taken: np.ndarray = self._targets_S[rows_N]
        return taken

    def moved(self, taken: np.ndarray, moves: Moves) -> np.ndarray:
        return taken
