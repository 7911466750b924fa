"""Published recipes, each value with its source: the YAML files beside this one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from trainwright.errors import unknown_name
from trainwright.recipe import Recipe, parse_recipe
from trainwright.yaml_text import load_yaml

DEFAULT = "scratch-default"
OF_TASK = {  # where none is named; tasks of one's own take DEFAULT
    "regression": "regression-default",
    "segmentation": "segmentation-default",
    "detection": "detection-default",
}
FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The names of all published recipes."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def get(name: str) -> Recipe:
    """The published recipe of that name. Raises UnknownNameError with the nearest name."""
    return parse_recipe(_content(name)["recipe"], where=f"recipe {name}")


def default_for(task: str) -> str:
    """The name of the recipe that is taken for a task where none is named."""
    return OF_TASK.get(task, DEFAULT)


def sources(name: str) -> dict[str, str]:
    """Where each value of that recipe comes from, by dotted key."""
    return dict(_content(name)["sources"])


@cache
def _content(name: str) -> dict[str, Any]:
    if name not in names():
        raise unknown_name(name, names(), where="--recipe", what="recipe")
    content: dict[str, Any] = load_yaml(FOLDER / f"{name}.yaml")
    return content
