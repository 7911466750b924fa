"""A search space over the fields of a recipe: which of them may be searched, and that every end of a range gives a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainwright.errors import RecipeError, UsageError
from trainwright.recipe import Recipe, recipe_keys
from trainwright.search.domains import Choice
from trainwright.search.space import Dimension, Space, Values

PLAYBOOK = "https://github.com/google-research/tuning_playbook"
_BATCH = f'{PLAYBOOK}, "Choosing the batch size"'
_STEPS = f'{PLAYBOOK}, "Determining the number of steps for each training run"'
_SPLIT = "the score would be compared over other images"
_SEED = "the best of several seeds is luck, and its score comes down in the next training: docs/statistics.md"

# What is not searched for quality: (why, what to do or where to read about it).
REFUSED = {
    "batch_size": (
        "it decides how fast a training is, not how good it can get: with learning rate and regularization tuned for it, "
        "any size reaches the same",
        f"Set it once, for throughput (batch_size: auto), and search lr and regularization with it: {_BATCH}.",
    ),
    "accumulate": (
        "it changes memory and time, not the step that is taken",
        "Leave it to the memory of the device.",
    ),
    "epochs": (
        "more of them nearly always score higher, so the search would spend its budget on length",
        f"Set them from the time a training may take; a search compares trainings of the same length: {_STEPS}.",
    ),
    "early_stop": (
        "it decides how long a training is, and trainings of other length are no comparison",
        f"Choose a strategy that stops hopeless ones (asha, hyperband, bohb): {_STEPS}.",
    ),
    "keep": ("it decides which epoch is scored, and the best of many epochs always scores higher", "Set it once."),
    "seed": (_SEED, "Train the winner with other seeds afterwards."),
    "data.split_seed": (_SPLIT, "Set it once."),
    "data.val_fraction": (_SPLIT, "Set it once."),
    "data.test_fraction": (_SPLIT, "Set it once."),
    "data.train_on": (_SPLIT, "Train on train+val once nothing is left to choose."),
    "data.train_fraction": (
        "more images score higher, so the search would take all",
        "'trainwright diagnose --probe half-data' measures what more images bring.",
    ),
    "data.train_seed": ("which images are left out is luck", "Set it once."),
    "precision": ("it is a matter of the device and of speed", "Set it once, or leave it at auto."),
    "channels_last": ("it is a matter of speed", "Leave it at null: where it pays."),
    "task": ("another task has another score", "Make a study of each."),
    "title": ("it changes nothing", "Leave it out."),
}


def recipe_space(
    dimensions: Sequence[Dimension], recipe: Recipe, *, fixed: Values | None = None, where: str = "space"
) -> Space:
    """A space around a recipe: proposals are changes of it (`Recipe.changed`).

    fixed: changes that every proposal has. Conditions may name any key of the recipe. Raises RecipeError for unknown keys, what
    is not to be searched, values that no recipe has, and combinations that never are one; what is only wrong together with
    some others is left out when it is drawn.
    """
    fixed = dict(fixed or {})
    keys = {*fixed, *(one.key for one in dimensions), *(key for one in dimensions for key in one.when)}
    _refuse_unknown(keys, recipe, where=where)
    if problems := [
        f"{key} is not searched: {why}. {cure}" for key, (why, cure) in REFUSED.items() if _has(dimensions, key)
    ]:
        raise RecipeError(" ".join(problems), where=where)
    base = recipe.changed(fixed) if fixed else recipe
    values = flat(base)
    searched = {one.key for one in dimensions}
    try:
        space = Space(
            dimensions=tuple(dimensions),
            fixed=fixed,
            around={key: values[key] for key in keys - searched - set(fixed)},
            default={key: values[key] for key in searched if values[key] is not None or _takes_none(dimensions, key)},
            refuses=lambda changes: _reason(base, changes),
        )
    except UsageError as error:
        raise RecipeError(error.message, where=where, cure=error.cure) from None
    if problems := list(dict.fromkeys(_impossible(space, base))):
        raise RecipeError(" ".join(problems), where=where)
    return space


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every single value of a recipe by its dotted key, as plain data."""
    found: dict[str, Any] = {}

    def walk(tree: Mapping[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                found[prefix + name] = value

    walk(recipe.model_dump(mode="json"), "")
    return found


def difference(recipe: Recipe, other: Recipe) -> dict[str, Any]:
    """The changes that make `other` of `recipe`, by dotted key; the title and the seed are left aside."""
    before, after = flat(recipe), flat(other)
    return {key: after[key] for key in after if key not in ("title", "seed") and after[key] != before[key]}


def _has(dimensions: Sequence[Dimension], key: str) -> bool:
    return any(one.key == key for one in dimensions)


def _takes_none(dimensions: Sequence[Dimension], key: str) -> bool:
    return any(one.key == key and one.domain.contains(None) for one in dimensions)


def _refuse_unknown(keys: set[str], recipe: Recipe, *, where: str) -> None:
    known = recipe_keys()
    wrong = sorted(key for key in keys if key not in known or known[key] is not None)
    if not wrong:
        return
    try:
        recipe.changed(dict.fromkeys(wrong))  # which says for each what is wrong, with the nearest known one
    except RecipeError as error:
        raise RecipeError(error.message, where=where) from None


def _impossible(space: Space, recipe: Recipe) -> Iterator[str]:
    """What is said of ends of ranges and of choices that no recipe has, where all else is as in the recipe."""
    for one in space.dimensions:
        ends = one.domain.values if isinstance(one.domain, Choice) else (one.domain.low, one.domain.high)
        for value in ends:
            if (reason := _reason(recipe, {**space.witness(one), one.key: value})) is not None:
                yield reason


def _reason(recipe: Recipe, changes: Values) -> str | None:
    try:
        recipe.changed(changes)
    except RecipeError as error:
        return error.message
    return None
