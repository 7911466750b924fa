"""Published recipes, each value with its source: the YAML files beside this one."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from trainwright.errors import unknown_name
from trainwright.recipe import RANDOM, Recipe, load_recipe, parse_recipe
from trainwright.yaml_text import load_yaml

DEFAULT = "scratch-default"
OF_TASK = {  # where none is named; tasks of one's own take DEFAULT
    "regression": "regression-default",
    "segmentation": "segmentation-default",
    "detection": "detection-default",
}
FOLDER = Path(__file__).parent
# Who wrote it, and its number. How a source begins says what it is: "ours:" a choice of ours with its reason, "adapted:"
# a published value that was changed, with the value it had; any other is as published.
PAPER = re.compile(
    r"([A-Z]\w+(?: et al\.| and [A-Z]\w+)?),? (arXiv:\d{4}\.\d{4,5}|[A-Z][A-Za-z ]+ \d+ \(\d{4}\)(?: \d+)?)"
)
MAIN_PAPERS = 2  # how many stand for a recipe in a list


@dataclass(frozen=True, kw_only=True)
class Page:
    """A published recipe with all that is said of it.

    tasks: those it is for. start: which weights. when: one sentence on when to take it. sources: where values come from, by
    dotted key, or by section for all of its values that have none of their own.
    """

    name: str
    recipe: Recipe
    tasks: tuple[str, ...]
    start: Literal["scratch", "pretrained"]
    when: str
    sources: dict[str, str]

    @property
    def papers(self) -> tuple[str, ...]:
        """The papers that most of its values come from, as 'He et al., arXiv:1512.03385', the first one first."""
        sources = [source for source in self.sources.values() if not source.startswith("ours:")]
        cited = [match for source in sources for match in PAPER.findall(source)]
        authors = {paper: author for author, paper in reversed(cited)}
        most = Counter(paper for _, paper in cited).most_common(MAIN_PAPERS)
        return tuple(f"{authors[paper]}, {paper}" for paper, _ in most)


def names() -> list[str]:
    """The names of all published recipes."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def get(name: str) -> Recipe:
    """The published recipe of that name. Raises UnknownNameError with the nearest name."""
    return parse_recipe(_content(name)["recipe"], where=f"recipe {name}")


def find(given: str | os.PathLike[str]) -> Recipe:
    """The recipe in a YAML file, or the published one of that name; a published name always means that recipe.

    Raises UnknownNameError with the nearest name, RecipeError for a file that is none.
    """
    path = Path(given)
    file = path.is_file() or path.suffix in (".yaml", ".yml") or path.name != os.fspath(given)
    return load_recipe(path) if file and os.fspath(given) not in names() else get(os.fspath(given))


def page(name: str) -> Page:
    """The published recipe of that name with what is said of it. Raises UnknownNameError with the nearest name."""
    content = _content(name)
    purpose = content["for"]
    return Page(
        name=name,
        recipe=get(name),
        tasks=tuple(purpose["tasks"]),
        start=purpose["start"],
        when=purpose["when"],
        sources=dict(content["sources"]),
    )


def rate_for(recipe: Recipe, task: str) -> tuple[float, str] | None:
    """(lr, name) of the published recipe for a task that trains the same network from the same kind of weights with the same
    optimizer; of several the one that the recipe shares most values with. None where there is none."""
    found = []
    for name in names():
        other = page(name)
        same = (other.recipe.network.name, other.recipe.network.backbone, other.recipe.optimizer.name) == (
            recipe.network.name,
            recipe.network.backbone,
            recipe.optimizer.name,
        )
        pretrained = recipe.network.weights != RANDOM
        if same and task in other.tasks and pretrained == (other.start == "pretrained") and other.recipe.optimizer.lr:
            found.append((_shared(recipe, other.recipe), other.recipe.optimizer.lr, name))
    if not found:
        return None
    _, lr, name = max(found, key=lambda one: one[0])
    return lr, name


def _shared(one: Recipe, other: Recipe) -> int:
    """How many values two recipes have in common."""
    return sum(
        getattr(getattr(one, section), key) == value
        for section in ("augment", "network", "optimizer", "schedule", "loss")
        for key, value in getattr(other, section)
    )


def default_for(task: str) -> str:
    """The name of the recipe from random weights that is taken for a task where none is named."""
    return OF_TASK.get(task, DEFAULT)


def sources(name: str) -> dict[str, str]:
    """Where each value of that recipe comes from, by dotted key."""
    return dict(_content(name)["sources"])


@cache
def _content(name: str) -> dict[str, Any]:
    if name not in names():
        raise unknown_name(name, names(), where="recipe", what="recipe")
    content: dict[str, Any] = load_yaml(FOLDER / f"{name}.yaml")
    return content
