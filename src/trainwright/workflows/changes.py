"""What is changed on top of a recipe, and what of the recipe no longer fits where another optimizer, schedule or loss is named.

Whoever names another optimizer has seldom the learning rate of the old one in mind: what belongs to a name goes with it. What
was given beside the name stays, and so does a recipe that nothing is changed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainwright.errors import RecipeError
from trainwright.optim import schedules
from trainwright.recipe import Recipe, Spec

SCHEDULE_FREE = "schedule-free-adamw"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A recipe with what was wanted. notes: what of the old one was left out for it, or is to be measured anew."""

    recipe: Recipe
    notes: tuple[str, ...] = ()


def changed(start: Recipe, wanted: Mapping[str, Any]) -> Changed:
    """`start` with what is `wanted` changed; values of an optimizer, schedule or loss that another name replaces are left out.

    Nothing that stands in `wanted` is touched: what a name has no place for is then refused where the training is prepared.
    Raises RecipeError as `Recipe.changed` does, UnknownNameError for a loss that does not exist.
    """
    recipe, notes = start.changed(wanted), []
    for part in (_another_optimizer, _another_schedule, _another_loss):
        more, said = part(start, recipe, wanted)
        recipe = recipe.changed(more)
        notes += said
    return Changed(recipe=recipe, notes=(*notes, *_without_effect(recipe, wanted)))


def with_schedule(start: Recipe, wanted: Mapping[str, Any]) -> Recipe:
    """`start` with what is `wanted`, without the constants of a schedule that another name replaces: as far as a recipe can be
    checked before torch is imported."""
    recipe = start.changed(wanted)
    return recipe.changed(_another_schedule(start, recipe, wanted)[0])


def _another_optimizer(start: Recipe, recipe: Recipe, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    old, new = start.optimizer.name, recipe.optimizer.name
    if old == new:
        return {}, []
    from trainwright.optim.optimizers import PUBLISHED
    from trainwright.optim.published_decay import decay_for

    changes, left = _left_out("optimizer", start.optimizer, PUBLISHED.get(old, {}), wanted, PUBLISHED.get(old, {}))
    said = []
    if "optimizer.lr" not in wanted:
        lr, note = _rate_for(new)
        changes["optimizer.lr"] = lr
        said.append(note)
    if "optimizer.weight_decay" not in wanted:
        decay, why = decay_for(new, before=start.optimizer)
        changes["optimizer.weight_decay"] = decay
        before = start.optimizer.weight_decay
        number = f"{decay:g}" if decay == before else f"{decay:g} instead of {before:g}"
        said += [f"weight decay {number} ({why})"] if before else []
    notes = [f"optimizer {new} instead of {old}: {'; '.join([*said, *left])}"] if said or left else []
    if new == SCHEDULE_FREE and recipe.ema_decay is not None and "ema_decay" not in wanted:
        changes["ema_decay"] = None
        notes.append(f"ema_decay {start.ema_decay:g} of the recipe is left out: {new} averages the weights itself")
    return changes, notes


def _rate_for(name: str) -> tuple[float | None, str]:
    """(lr, what is said of it) for an optimizer that takes the place of another. None: from the range test, if it has one."""
    if name != "rprop":
        return None, "the learning rate is found anew"
    from trainwright.optim.published_rates import PUBLISHED_LR

    lr, source = PUBLISHED_LR[name]
    return lr, f"lr {lr:g} ({source})"


def _another_schedule(start: Recipe, recipe: Recipe, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    old, new, why = start.schedule.name, recipe.schedule.name, ""
    if recipe.optimizer.name == SCHEDULE_FREE != start.optimizer.name and "schedule.name" not in wanted:
        new, why = "constant", f" behind its warm-up, as {SCHEDULE_FREE} wants it (Defazio et al., arXiv:2405.15682)"
    if old == new:
        return {}, []
    changes, left = _left_out(
        "schedule", start.schedule, schedules.CONSTANTS.get(old, ()), wanted, schedules.PUBLISHED.get(old, {})
    )
    said = [f"schedule {new} instead of {old}{why}{': ' if left else ''}{'; '.join(left)}"] if why or left else []
    return changes | {"schedule.name": new}, said


def _another_loss(start: Recipe, recipe: Recipe, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    old, new = start.loss.name, recipe.loss.name
    if new is None or old == new:
        return {}, []
    from trainwright.optim.losses import CONSTANTS

    changes, left = _left_out("loss", start.loss, CONSTANTS.get(old or "", ()), wanted, {})
    notes = [f"loss {new} instead of {old}: {'; '.join(left)}"] if left else []
    while (refused := _refusal(recipe.changed(changes))) is not None:
        key, name = refused.where, refused.where.rpartition(".")[2]
        if key in wanted or key in changes or not key.startswith("loss."):
            break  # what was given is refused where the training is prepared, with all that is known there
        changes[key] = _default(recipe.loss, name)
        notes.append(f"{key} {_shown(getattr(start.loss, name))} of the recipe is left out: {refused.message}")
    return changes, notes


def _refusal(recipe: Recipe) -> RecipeError | None:
    """What the named loss refuses of its values. Numbers stand in for balanced class weights, which are counted later."""
    from trainwright.plugins import losses

    spec = recipe.loss
    if spec.class_weights is not None:
        spec = spec.model_copy(update={"class_weights": (1.0,)})
    try:
        losses.get(spec.name or "")(spec)
    except RecipeError as error:
        return error
    return None


def _left_out(
    section: str, spec: Spec, of_old: Iterable[str], wanted: Mapping[str, Any], published: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """(keys back at their defaults, what is said of it) for the constants of the old name that are not given with the new one.

    Nothing is said of those that are the old name's `published` ones: nobody has chosen them.
    """
    names = [name for name in of_old if f"{section}.{name}" not in wanted]
    names = [name for name in names if getattr(spec, name) != _default(spec, name)]
    chosen = [name for name in names if getattr(spec, name) != published.get(name)]
    shown = ", ".join(f"{name} {_shown(getattr(spec, name))}" for name in chosen)
    left = [f"without {spec.name}'s {shown}"] if chosen else []  # type: ignore[attr-defined]
    return {f"{section}.{name}": _default(spec, name) for name in names}, left


def _without_effect(recipe: Recipe, wanted: Mapping[str, Any]) -> list[str]:
    """A line for each value that was given and that the named optimizer, schedule or loss does not have."""
    if not any(key.split(".")[0] in ("optimizer", "schedule", "loss") for key in wanted):
        return []
    from trainwright.optim import losses, optimizers

    tables: dict[str, Mapping[str, Iterable[str]]] = {
        "optimizer": optimizers.PUBLISHED,
        "schedule": schedules.CONSTANTS,
        "loss": losses.CONSTANTS,
    }
    notes = []
    for key, value in wanted.items():
        section, _, name = key.partition(".")
        table = tables.get(section, {})
        named = getattr(recipe, section).name or "" if table else ""
        if (
            value is None
            or named not in table
            or name not in {constant for uses in table.values() for constant in uses}
        ):
            continue
        if name not in table[named]:
            notes.append(f"{key}: {named} has none, so it is without effect")
    return notes


def _default(spec: Spec, name: str) -> Any:
    return type(spec).model_fields[name].default


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
