"""Search spaces in YAML: a key of the recipe, and what it may be.

optimizer.name: {choices: [adamw, sgd]}
optimizer.lr:
  - {low: 1e-4, high: 1e-2, log: true, when: {optimizer.name: adamw}, prior: {centre: 1e-3, width: 0.5}}
  - {low: 1e-3, high: 1, log: true, when: {optimizer.name: sgd}}
optimizer.momentum: {low: 0.5, high: 0.99, when: {optimizer.name: sgd}, role: nuisance}
schedule.warmup: {fixed: 0.05}
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, PositiveInt, ValidationError

from trainwright.errors import RecipeError, did_you_mean
from trainwright.recipe import Recipe, Spec, recipe_keys
from trainwright.search.domains import Choice, Domain, FloatRange, IntRange, Prior
from trainwright.search.recipe_space import recipe_space
from trainwright.search.space import Dimension, Space
from trainwright.yaml_text import load_yaml, yaml_12

MOST_DIMENSIONS = 200  # of a file; the sequences and models here are made for tens


class PriorSpec(Spec):
    """See `domains.Prior`."""

    centre: Any
    width: float


class DimensionSpec(Spec):
    """What a key may be: low and high, or choices, or fixed."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Any, ...] | None = None
    fixed: Any = None
    prior: PriorSpec | None = None
    role: Literal["scientific", "nuisance"] = "scientific"
    when: dict[str, Any] = {}  # noqa: RUF012  pydantic copies it
    points: PositiveInt | None = None  # of a grid


def load_space(path: Path, recipe: Recipe) -> Space:
    """The space in a YAML file, around a recipe. Raises RecipeError with everything that is wrong in it."""
    return parse_space(load_yaml(path), recipe, where=str(path))


def parse_space(tree: Any, recipe: Recipe, *, where: str = "space") -> Space:
    """The space in plain data, `{"optimizer.lr": {"low": 1e-4, "high": 1e-2, "log": True}}`, around a recipe."""
    if not isinstance(tree, Mapping) or not tree:
        raise RecipeError(
            f"expected keys of a recipe and what each may be, got {type(tree).__name__}.",
            where=where,
            cure="Write for example 'optimizer.lr: {low: 1e-4, high: 1e-2, log: true}'.",
        )
    entries = [
        (str(key), entry) for key, given in tree.items() for entry in (given if isinstance(given, list) else [given])
    ]
    if len(entries) > MOST_DIMENSIONS:
        raise RecipeError(f"expected at most {MOST_DIMENSIONS} entries, got {len(entries)}.", where=where)
    dimensions, fixed, problems = [], {}, []
    for key, entry in entries:
        try:
            if isinstance(entry, Mapping) and "fixed" in entry:
                fixed[key] = _fixed(key, entry)
            else:
                dimensions.append(_dimension(key, entry))
        except ValidationError as error:
            problems += [_explain(key, problem) for problem in error.errors()]
        except ValueError as error:
            problems.append(f"{key}: {error}.")
    if problems:
        raise RecipeError(" ".join(dict.fromkeys(problems)), where=where)
    return recipe_space(dimensions, recipe, fixed=fixed, where=where)


def space_tree(space: Space) -> dict[str, Any]:
    """A space as the plain data that `parse_space` reads back to an equal one."""
    tree: dict[str, Any] = {}
    for one in space.dimensions:
        entry = _entry(one)
        before = tree.get(one.key)
        tree[one.key] = entry if before is None else [*(before if isinstance(before, list) else [before]), entry]
    return tree | {key: {"fixed": _plain(value)} for key, value in space.fixed.items()}


def space_yaml(space: Space) -> str:
    """A space as the text of a file."""
    import io

    buffer = io.StringIO()
    yaml_12().dump(space_tree(space), buffer)
    return buffer.getvalue()


def _fixed(key: str, entry: Mapping[str, Any]) -> Any:
    if len(entry) > 1:
        others = ", ".join(name for name in entry if name != "fixed")
        raise ValueError(f"fixed is one value for all trainings, and goes with nothing else, got {others} beside it")
    return entry["fixed"]


def _dimension(key: str, entry: Any) -> Dimension:
    if not isinstance(entry, Mapping):
        raise ValueError(
            f"expected low and high, choices or fixed, got {str(entry)[:100]!r}; for one value write {{fixed: …}}"
        )
    spec = DimensionSpec.model_validate(entry)
    prior = None if spec.prior is None else Prior(centre=spec.prior.centre, width=spec.prior.width)
    return Dimension(key=key, domain=_domain(key, spec, prior), role=spec.role, when=spec.when, points=spec.points)


def _domain(key: str, spec: DimensionSpec, prior: Prior | None) -> Domain:
    if spec.choices is not None:
        if spec.low is not None or spec.high is not None or spec.log:
            raise ValueError("choices have no low, high or log")
        return Choice(values=spec.choices, prior=prior)
    if spec.low is None or spec.high is None:
        raise ValueError("expected low and high, or choices, or fixed")
    if is_whole(key):
        return IntRange(low=spec.low, high=spec.high, log=spec.log, prior=prior)  # type: ignore[arg-type]  # it checks
    return FloatRange(low=float(spec.low), high=float(spec.high), log=spec.log, prior=prior)


def is_whole(key: str) -> bool:
    """Whether a recipe's field takes whole numbers alone."""
    spec: type[BaseModel] = Recipe
    *sections, name = key.split(".")
    for section in sections:
        found = recipe_keys().get(section)
        if found is None:
            return False
        spec = found
    if name not in spec.model_fields:
        return False
    kinds = _kinds(spec.model_fields[name].annotation)
    return int in kinds and float not in kinds


def _kinds(annotation: Any) -> set[Any]:
    """The plain types in an annotation, whatever is around them; those inside of tuples are not numbers."""
    if typing.get_origin(annotation) is tuple:
        return {tuple}
    inner = get_args(annotation)
    return {kind for one in inner for kind in _kinds(one)} if inner else {annotation}


def _entry(one: Dimension) -> dict[str, Any]:
    domain = one.domain
    entry: dict[str, Any] = (
        {"choices": _plain(domain.values)} if isinstance(domain, Choice) else {"low": domain.low, "high": domain.high}
    )
    if not isinstance(domain, Choice) and domain.log:
        entry["log"] = True
    if domain.prior is not None:
        entry["prior"] = {"centre": _plain(domain.prior.centre), "width": domain.prior.width}
    if one.when:
        entry["when"] = {key: _plain(values) for key, values in one.when.items()}
    if one.role != "scientific":
        entry["role"] = one.role
    if one.points is not None:
        entry["points"] = one.points
    return entry


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _explain(key: str, problem: Any) -> str:
    place = ".".join(str(part) for part in (key, *problem["loc"]) if not isinstance(part, int))
    if problem["type"] == "extra_forbidden":
        known = list(PriorSpec.model_fields if problem["loc"][0] == "prior" else DimensionSpec.model_fields)
        return f"{place}: no such key. {did_you_mean(str(problem['loc'][-1]), known)}Known keys: {', '.join(known)}."
    return f"{place}: {problem['msg']}, got {str(problem.get('input'))[:100]!r}."
