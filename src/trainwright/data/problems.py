"""`Problem`: what is wrong with some files of a dataset, in words a person can act on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something about a dataset that its owner should know.

    kind: a stable kebab-case word. severity: `error` where the files are left out, or where the dataset cannot be trained
    on (kinds in `DATASET_WIDE`); `warning` where they are used nevertheless. files: relative to the dataset's root.
    message: what it is, and the likely cure.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    message: str


# Errors that are about the dataset as a whole: with one of these it cannot be trained on.
DATASET_WIDE = frozenset(
    {"class-missing", "too-few-classes", "class-too-small", "constant-target", "too-few-images", "nothing-to-judge"}
)


def few(names: Iterable[str], *, limit: int = 5) -> str:
    """The first `limit` names, with how many more there are: 'a, b, c and 12 more'."""
    names = list(names)
    shown = ", ".join(printable(name) for name in names[:limit])
    return f"{shown} and {len(names) - limit:,} more" if len(names) > limit else shown


def counted(number: int, noun: str) -> str:
    """'1 image', '1,200 images'."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(name: str) -> str:
    """`name` as text that can be written as UTF-8: bytes that are not are shown as escapes."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_printable(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def all_messages(problems: Sequence[str]) -> str:
    """Several problems as one message, numbered where there is more than one."""
    if len(problems) == 1:
        return problems[0]
    return " ".join(f"({number}) {problem}" for number, problem in enumerate(problems, 1))
