"""The examples as modules, each loaded anew and forgotten afterwards: what they register must not reach other tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from trainwright.plugins import losses, tasks

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def load() -> Iterator[Callable[[str], ModuleType]]:
    """A function that imports an example by the name of its file."""
    before = {id(registry): set(registry.names()) for registry in (losses, tasks)}

    def run(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    yield run
    for registry in (losses, tasks):
        for name in set(registry.names()) - before[id(registry)]:
            registry.all().pop(name)  # type: ignore[attr-defined] # there is no way to take something back
