"""The recorded trainings as files: JSON lines, a head and then a training each, appended as they are done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from trainwright.records import Scores

TABLES = Path(__file__).parent / "replay"


@dataclass(frozen=True, kw_only=True)
class Training:
    """A recipe as it was trained with a seed. score, loss: unseen, after each epoch; seconds: of a processor, with evaluation.

    diverged: the loss was no number in the epoch after those that are there.
    """

    recipe: int
    seed: int
    values: Mapping[str, Any]
    score: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()
    train_loss: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    diverged: bool = False

    def with_epoch(self, unseen: Scores, *, train_loss: float, seconds: float) -> Training:
        return replace(
            self,
            score=(*self.score, round(unseen.score, 5)),
            loss=(*self.loss, _short(unseen.loss)),
            train_loss=(*self.train_loss, _short(train_loss)),
            seconds=(*self.seconds, round(seconds, 3)),
        )


@dataclass(kw_only=True)
class Table:
    """head: what the trainings have in common: data, images, classes, epochs, the recipe that values are changes of."""

    file: Path
    head: dict[str, Any]
    trainings: list[Training] = field(default_factory=list)

    @classmethod
    def open(cls, file: Path, *, head: Mapping[str, Any]) -> Table:
        """To go on recording. A line that was cut by a kill is dropped; a file of something else is refused."""
        head = json.loads(json.dumps(head))
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.is_file() or b"\n" not in file.read_bytes():
            file.write_text(_line(head))
        text = file.read_text()
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole)
        table = cls.read(file)
        if table.head != head:
            other = sorted(key for key in {*head, *table.head} if head.get(key) != table.head.get(key))
            raise SystemExit(f"{file} was recorded with another {', '.join(other)}. Remove it, or name another folder.")
        return table

    @classmethod
    def read(cls, file: Path) -> Table:
        """Its whole lines: the last one may be being written."""
        text = file.read_text()
        head, *lines = text[: text.rfind("\n")].split("\n")
        return cls(file=file, head=json.loads(head), trainings=[_training(json.loads(line)) for line in lines])

    @property
    def recorded(self) -> set[tuple[int, int]]:
        """(recipe, seed) of each."""
        return {(one.recipe, one.seed) for one in self.trainings}

    def append(self, training: Training) -> None:
        self.trainings.append(training)
        with self.file.open("a") as lines:
            lines.write(_line(asdict(training)))


def _training(line: Mapping[str, Any]) -> Training:
    curves = {key: tuple(line[key]) for key in ("score", "loss", "train_loss", "seconds")}
    return Training(**{**line, **curves})


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":")) + "\n"


def _short(value: float) -> float:
    return float(f"{value:.5g}")
