"""Every exception that trainwright raises on purpose.

TrainwrightError                     exit 1   something failed that the user can act on
├─ UsageError (ValueError)           exit 2   the request itself is wrong
│  ├─ RecipeError                    exit 2   a recipe has a wrong value or an unknown key
│  └─ UnknownNameError (LookupError) exit 2   no optimizer, loss, network … of that name
├─ DataError (ValueError)            exit 3   the dataset cannot be trained on as it is
├─ GoalNotMetError                   exit 4   the work ended, the goal that was asked for was not reached
├─ OutOfResourcesError (MemoryError) exit 5   no disk or memory left
├─ WeightsError (FileNotFoundError)  exit 1   weights that were asked for are not to be had
├─ NonFiniteLossError (ArithmeticError) exit 1  the loss became infinite or not a number
├─ CheckpointError (ValueError)      exit 1   a checkpoint is damaged or belongs to something else
├─ RunError (LookupError)            exit 1   a run folder is missing, incomplete or in use
├─ ProcessLostError (RuntimeError)   exit 1   one of the processes that train a run together has ended
└─ MissingPackageError (ImportError) exit 1   an optional package is not installed
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TrainwrightError(Exception):
    """An error that says what was wrong, where, and the likely cure.

    message: what was given and what was expected. where: the file, key or argument. cure: what to do about it.
    """

    exit_code = 1
    kind = "error"

    def __init__(self, message: str, *, where: str = "", cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.cure = cure

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} {self.cure}" if self.cure else text


class UsageError(TrainwrightError, ValueError):
    exit_code = 2
    kind = "usage"


class RecipeError(UsageError):
    kind = "recipe"


class UnknownNameError(UsageError, LookupError):
    kind = "unknown-name"


class DataError(TrainwrightError, ValueError):
    exit_code = 3
    kind = "data"


class GoalNotMetError(TrainwrightError):
    exit_code = 4
    kind = "goal-not-met"


class OutOfResourcesError(TrainwrightError, MemoryError):
    exit_code = 5
    kind = "out-of-resources"


class WeightsError(TrainwrightError, FileNotFoundError):
    kind = "weights"


class NonFiniteLossError(TrainwrightError, ArithmeticError):
    kind = "non-finite-loss"


class CheckpointError(TrainwrightError, ValueError):
    kind = "checkpoint"


class RunError(TrainwrightError, LookupError):
    kind = "run"


class ProcessLostError(TrainwrightError, RuntimeError):
    kind = "process-lost"


class MissingPackageError(TrainwrightError, ImportError):
    kind = "missing-package"


def unknown_name(given: str, known: Iterable[str], *, where: str, what: str = "name") -> UnknownNameError:
    """The error for a name that is not known, with the nearest known one and the whole list."""
    names = sorted(known)
    several = f"{what[:-1]}ies" if what.endswith("y") else f"{what}es" if what.endswith("s") else f"{what}s"
    return UnknownNameError(
        f"no such {what} {given!r}.",
        where=where,
        cure=f"{did_you_mean(given, names)}Known {several}: {', '.join(names)}.",
    )


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """'Did you mean X? ' with the nearest known name, or nothing when none is near."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]!r}? " if near else ""
