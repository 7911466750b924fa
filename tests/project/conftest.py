"""The modules of `benchmarks/`, which are programs beside the package and no part of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """A function from the name of a file in `benchmarks/` to its module, imported as the programs there do."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module
