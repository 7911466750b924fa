"""What somebody asked for, as a dataset and a recipe: the beginning of everything that trains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.data.problems import Problem, counted, few
from trainwright.errors import UsageError
from trainwright.recipe import Recipe
from trainwright.recipes import Choice, published
from trainwright.records import to_json
from trainwright.training.model import DROPPING
from trainwright.training.weights import check_weights
from trainwright.workflows.changes import changed
from trainwright.workflows.choose import choose_recipe
from trainwright.workflows.early import check_names
from trainwright.workflows.options import RunOptions
from trainwright.workflows.reporting import Reporter


def asked_for(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None,
    wanted: Mapping[str, Any],
    *,
    own_network: bool,
    target: str | None,
    options: RunOptions,
) -> tuple[Dataset, Recipe, Choice | None]:
    """The dataset, opened, and the recipe with what is `wanted` changed; problems of the data are noted.

    recipe: a Recipe, a published one's name, a YAML file, or None for the published one that suits the data; that choice is
    noted with its reasons, and comes third. own_network: the network is the user's, so the recipe's weights are not looked
    for. What of the recipe does not go with what is wanted is left out or to be measured, and noted (`changes.changed`).
    Raises DataError, RecipeError, UsageError, WeightsError.
    """
    named = None if recipe is None else changed(_recipe(recipe), wanted)
    asked = Recipe().changed(wanted) if named is None else named.recipe
    check_names(asked)
    if not own_network and (recipe is not None or "network.name" in wanted):
        check_weights(asked.network, offline=options.offline)
    if not isinstance(data, Dataset):
        data = open_dataset(
            Path(data), target=target, task=asked.task, workers=options.workers, progress=options.reporter.progress
        )
    choice = None
    if recipe is None:
        choice = choose_recipe(data, wanted, own_network=own_network, device=options.device)
        options.reporter.note(f"recipe {choice.name}: {'; '.join(choice.reasons)}")
        inside = dict.fromkeys((f"network.{field}" for field in DROPPING), 0.0) if own_network else {}
        page = published.page(choice.name)
        if data.task not in page.tasks:
            inside["loss.label_smoothing"] = 0.0  # the loss of a task of one's own may have no place for it
        named = changed(page.recipe.changed({key: value for key, value in inside.items() if key not in wanted}), wanted)
        asked = named.recipe
        if not own_network:
            check_weights(asked.network, offline=options.offline)
    for note in () if named is None else named.notes:
        options.reporter.note(note)
    _note_problems(data, options.reporter)
    return data, asked, choice


def wanted_of(
    changes: Mapping[str, Any] | None, *, seed: int | None, batch_size: int | str | None = None
) -> dict[str, Any]:
    """What is to be changed of a recipe, with what has an argument of its own. Raises UsageError where the two say different
    things of one value."""
    more = {key: value for key, value in (("seed", seed), ("batch_size", batch_size)) if value is not None}
    for key, value in more.items():
        if changes and changes.get(key, value) != value:
            raise UsageError(
                f"{key} is given twice: {value}, and {changes[key]} among the changes.",
                where=key,
                cure="Leave one of them out.",
            )
    return {**(changes or {}), **more}


def asked_as_json(
    recipe: Recipe | str | os.PathLike[str] | None,
    changes: Mapping[str, Any] | None,
    *,
    seed: int | None,
    batch_size: int | str | None,
) -> dict[str, Any]:
    """What a manifest keeps of a request: `recipe`, the name, the file, or the values of a Recipe that are not defaults, None
    where it was left to the data; `changes` on top of it. Raises UsageError where seed or batch_size are given twice."""
    wanted = wanted_of(changes, seed=seed, batch_size=batch_size)
    if isinstance(recipe, Recipe):
        named: Any = recipe.model_dump(mode="json", exclude_defaults=True)
    else:
        named = os.fspath(recipe) if isinstance(recipe, str | os.PathLike) else None
    return {"recipe": named, "changes": to_json(wanted)}


def _recipe(given: Recipe | str | os.PathLike[str]) -> Recipe:
    recipe = published.find(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(recipe, Recipe):
        raise UsageError(
            f"expected a Recipe or what names one (a published recipe, a YAML file), got {type(recipe).__name__}.",
            where="recipe",
            cure="For example tw.recipes.get('scratch-default').changed({'epochs': 10}).",
        )
    return recipe


def _note_problems(data: Dataset, reporter: Reporter) -> None:
    """A note for each kind of problem, with the first files of it: a folder may hold thousands of them."""
    by_kind: dict[str, list[Problem]] = {}
    for problem in data.problems:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind, problems in by_kind.items():
        files = [file for problem in problems for file in problem.files]
        told = len(problems) == 1 and "left out" in problems[0].message
        out = ", left out" if not told and all(problem.severity == "error" for problem in problems) else ""
        which = f"{counted(len(files), 'file')}{out}: {few(files)}. " if files else ""
        said = problems[0].message if len(problems) == 1 else "'trainwright inspect' says what is wrong with each."
        reporter.note(f"{kind}: {which}{said}")
