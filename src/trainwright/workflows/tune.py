"""A search over recipes as a verb: the published recipe first, then what a strategy asks for, until the budget is used up."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainwright.data.dataset import Dataset
from trainwright.diagnosis.wording import epochs
from trainwright.errors import RecipeError, UsageError
from trainwright.plugins import strategies
from trainwright.recipe import Recipe
from trainwright.records import to_json
from trainwright.search.default_space import default_space
from trainwright.search.ending import ROOM
from trainwright.search.ledger import Ledger, Pace, rung
from trainwright.search.recipe_search import RecipeSearch, search_recipes
from trainwright.search.recipe_space import recipe_space
from trainwright.search.space import Space
from trainwright.search.space_file import load_space, parse_space, space_tree
from trainwright.search.tuning import Tuner
from trainwright.tracking.study_folder import StudyFolder
from trainwright.training.repeatable import repeatable
from trainwright.workflows.lr import range_of, stated, training_steps, with_range
from trainwright.workflows.options import RunOptions, options_from
from trainwright.workflows.pace import seconds_of
from trainwright.workflows.prepare import Prepared
from trainwright.workflows.request import wanted_of
from trainwright.workflows.settle import batch_sizes_of
from trainwright.workflows.studies import Kind, Study, Tell, carry_out
from trainwright.workflows.study_beginning import Here, begun, created, measured_here, options_asked, ready_for_a_study
from trainwright.workflows.tune_result import end_of_tuning
from trainwright.yaml_text import load_yaml

if TYPE_CHECKING:
    from torch import nn

DEFAULT = "freeze-thaw"  # ahead of the others at any budget (docs/log.md)
BUDGET = "30m"  # where nothing else limits a study
LAG = 4  # workers that are kept busy whatever their number; more of them where more were asked for
# Trainings that a budget of time is to have room for, beside those that follow the search: with fewer, one by chance is as good.
LEAST_TRAININGS = 6
WITHOUT_A_SPACE = ("list",)


def tune(
    data: Dataset | str | os.PathLike[str],
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    strategy: str | None = None,
    space: Space | Mapping[str, Any] | str | os.PathLike[str] | None = None,
    budget: str | float | None = None,
    trials: int | None = None,
    full_trainings: float | None = None,
    first: Sequence[Mapping[str, Any]] | str | os.PathLike[str] = (),
    lag: int | None = None,
    least_epochs: int = 1,
    strategy_options: Mapping[str, Any] | None = None,
    model: nn.Module | None = None,
    seed: int | None = None,
    target: str | None = None,
    name: str | None = None,
    changes: Mapping[str, Any] | None = None,
    on_all: bool | None = None,
    confirm: bool = True,
    follow_up: bool = False,
    told: Tell = lambda entry: None,
    options: RunOptions | None = None,
    **more: Any,
) -> Study:
    """Search for the values that train best on `data`, around `recipe`, within a budget.

    strategy: its name (docs/search.md); None for `freeze-thaw`. space: a YAML file, the
    same as plain data, or a `Space`; None for one as wide as the budget can look through. budget: wall-clock for everything, as
    `10m`; trials, full_trainings: how many, or how much training, the search has. Whatever is reached first ends it; 30
    minutes where nothing is said. first: changes that are trained right after the recipe as it is, plain or a YAML file.
    lag: how many numbers an outcome is older than the ask that learns from it. least_epochs: the fewest after which
    trainings are compared. confirm: train the best once more with another seed. on_all: train it once more on train and val
    together; None: where there is a test part. follow_up: where the best lies at an end of a range, look beyond it with the last
    two fifths of the budget. told: called with every sentence of the story. The other arguments are those of
    `train`. The test part stays locked (`finalise`).
    Raises what `train` raises, RecipeError for a space, UsageError for a budget, UnknownNameError for a strategy.
    """
    options = options_from(options, more)
    limit, start = limit_of(budget, trials, full_trainings), time.perf_counter()
    chosen = strategy or DEFAULT
    strategies.get(chosen)
    wanted = wanted_of(changes, seed=seed)
    prepared = ready_for_a_study(data, recipe, wanted, model=model, target=target, options=options)
    data = prepared.dataset
    content = begun(TUNE, data, prepared, on_all=on_all, own_network=model is not None, options=options)
    content |= {
        "budget_seconds": limit,
        "trials": trials,
        "full_trainings": full_trainings,
        "strategy": chosen,
        "strategy_options": dict(strategy_options or {}),
        "first": _first_of(first, prepared.asked),
        "least_epochs": least_epochs,
        "lag": lag,
        "confirm": confirm,
        "follow_up": follow_up,
    }
    _refuse_too_many(content)
    content |= _paced(prepared, content, space=space, options=options, began=start)
    content = to_json(content)
    _search(content)  # what of it cannot be is refused before anything is written
    del prepared
    folder = created(content, data, name=name, options=options)
    return carry_out(TUNE, folder, data, options=options, model=model, told=told)


def _paced(
    prepared: Prepared,
    content: Mapping[str, Any],
    *,
    space: Space | Mapping[str, Any] | str | os.PathLike[str] | None,
    options: RunOptions,
    began: float,
) -> dict[str, Any]:
    """What this machine makes of it: how many trainings at a time, the recipe as long as the budget allows, the space around it,
    and what all this took."""
    asked, limit, on_all = prepared.asked, content["budget_seconds"], content["on_all"]
    here = measured_here(prepared, content, budget=limit, options=options)
    spent = time.perf_counter() - began
    fitted = _fitting(_with_batch_size(prepared, options), here, content, spent=spent, on_all=on_all)
    shortened = None
    if fitted.epochs < asked.epochs:
        shortened = {"from": asked.epochs, "to": fitted.epochs}
        said = f"{limit:,.0f} s leave no time for more"
        options.reporter.note(f"{epochs(fitted.epochs)}, not {asked.epochs}: {said}")
    fitted, falls = _with_rate(prepared, fitted, content, here, default=space is None, options=options)
    spent = time.perf_counter() - began
    found = _space(space, fitted, prepared.dataset.task, content, here, spent=spent, on_all=on_all, lr_falls=falls)
    _note_space(found, content["strategy"], default=space is None, options=options)
    return {
        "lag": content["lag"] or max(LAG, here.slots),
        "recipe": fitted.model_dump(mode="json"),
        "shortened": shortened,
        "space": space_tree(found),
        "default_space": space is None,
        "lr_falls": falls,
        "pace": to_json(here.pace),
        "machine": here.machine,
        "options": options_asked(here, prepared, options),
        "spent_seconds": time.perf_counter() - began,
    }


def _with_rate(
    prepared: Prepared, recipe: Recipe, asked: Mapping[str, Any], here: Here, *, default: bool, options: RunOptions
) -> tuple[Recipe, tuple[float, float] | None]:
    """(the recipe, with the range test's learning rate where it leaves that open and a space is laid around it; the rates between
    which the loss falls, None where nothing was tested or the test cannot tell)."""
    searched = default and asked["strategy"] not in WITHOUT_A_SPACE and recipe.optimizer.name != "rprop"
    if not searched or recipe.optimizer.lr is not None:
        return recipe, None
    changes = {"epochs": recipe.epochs, "batch_size": recipe.batch_size}
    subject = replace(prepared, recipe=prepared.recipe.changed(changes))
    with repeatable(prepared.device, max(1, here.machine["torch_threads"] // here.slots)):
        found = range_of(subject, options=options)
    tested = with_range(subject.recipe, found, low_is_given=recipe.schedule.low is not None)
    options.reporter.note(stated(tested, found, training_steps=training_steps(subject)))
    rate = {"optimizer.lr": tested.optimizer.lr}
    known = found.suggestion is not None and found.interval is not None and found.interval[0] < found.interval[1]
    return recipe.changed(rate), found.interval if known else None


def limit_of(budget: str | float | None, trials: int | None, full_trainings: float | None) -> float | None:
    """Seconds of wall-clock; None where something else alone limits the study. Raises UsageError for a budget that is none."""
    for where, number in (("--trials", trials), ("--full-trainings", full_trainings)):
        if number is not None and not (number >= 1 and math.isfinite(number)):
            raise UsageError(f"expected 1 or more, got {number}.", where=where)
    if budget is None:
        return None if trials is not None or full_trainings is not None else seconds_of(BUDGET)
    return seconds_of(budget)


def tuner_of(folder: StudyFolder, data: Dataset) -> Tuner:
    """The strategy of a study that tunes, from what it was asked: of the clock only what that says."""
    asked = folder.asked
    recipe, limit = Recipe.model_validate(asked["recipe"]), asked["budget_seconds"]
    slots = asked["options"].get("slots", 1)
    ledger = Ledger(limit=math.inf if limit is None else limit, pace=Pace(**asked["pace"]), slots=slots)
    ledger.book(asked["spent_seconds"])
    full = asked["full_trainings"]
    return Tuner(
        _search(asked),
        ledger=ledger,
        most_epochs=None if full is None else full * recipe.epochs,
        strategy=asked["strategy"],
        on_all=asked["on_all"],
        confirms=asked["confirm"],
        follow_up=asked.get("follow_up", False),  # studies of before it had none
    )


def space_of(asked: Mapping[str, Any]) -> Space:
    """The space of a study, from what it was asked."""
    recipe = Recipe.model_validate(asked["recipe"])
    return parse_space(asked["space"], recipe) if asked["space"] else recipe_space((), recipe)


def _search(asked: Mapping[str, Any]) -> RecipeSearch:
    recipe = Recipe.model_validate(asked["recipe"])
    return search_recipes(
        asked["strategy"],
        recipe,
        space_of(asked),
        seed=recipe.seed,
        first=({}, *asked["first"]),
        least_epochs=asked["least_epochs"],
        lag=asked["lag"],
        trials=asked["trials"],
        timed=asked["budget_seconds"] is not None,
        options=asked["strategy_options"],
    )


def _first_of(given: Sequence[Mapping[str, Any]] | str | os.PathLike[str], recipe: Recipe) -> list[dict[str, Any]]:
    """Changes to be trained first. Raises RecipeError for those that give no recipe, with their place in the list."""
    where = os.fspath(given) if isinstance(given, str | os.PathLike) else "first"
    entries = load_yaml(Path(where)) if isinstance(given, str | os.PathLike) else list(given)
    if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
        raise RecipeError(
            "expected a list of changes.",
            where=where,
            cure="Write for example '- {optimizer.lr: 0.01, augment.mixup: 0.2}'.",
        )
    for place, one in enumerate(entries, start=1):
        try:
            recipe.changed(one)
        except RecipeError as error:
            raise RecipeError(f"entry {place}: {error.message}", where=where, cure=error.cure) from None
    return [dict(one) for one in entries]


def _refuse_too_many(asked: Mapping[str, Any]) -> None:
    """Given changes are all trained: raises UsageError where they are more than the trials that are asked for."""
    given = 1 + len(asked["first"])
    if asked["trials"] is not None and asked["trials"] < given:
        raise UsageError(
            f"expected at least {given}: the recipe as it is and the {given - 1} that are given; got {asked['trials']}.",
            where="--trials",
            cure=f"Give --trials {given} or more, or fewer changes.",
        )


def _with_batch_size(prepared: Prepared, options: RunOptions) -> Recipe:
    """The recipe; a batch size to be measured is measured once, for all trainings."""
    recipe = prepared.asked
    if recipe.batch_size != "auto":
        return recipe
    return recipe.changed({"batch_size": batch_sizes_of(prepared, options=options).chosen})


def _fitting(recipe: Recipe, here: Here, asked: Mapping[str, Any], *, spent: float, on_all: float | None) -> Recipe:
    """The recipe, shortened where its epochs leave no time to compare. Raises UsageError where not even one epoch does."""
    limit = asked["budget_seconds"]
    if limit is None:
        return recipe
    after = (1.0 if asked["confirm"] else 0.0) + (on_all or 0.0)
    least = min(LEAST_TRAININGS, asked["trials"] or LEAST_TRAININGS)
    runs = max(1.0, least / here.slots) + after
    fits = math.floor((ROOM * (limit - spent) / runs - here.pace.run_seconds) / here.pace.epoch_seconds)
    if fits < 1:
        needed = math.ceil(1.1 * (runs * (here.pace.run_seconds + here.pace.epoch_seconds) / ROOM + spent))
        raise UsageError(
            f"an epoch takes about {here.pace.epoch_seconds:.0f} s here: {limit:.0f} s are too few to compare anything.",
            where="--budget",
            cure=f"Give it at least {needed}s, or take smaller images (--set data.image_size=…).",
        )
    return recipe if recipe.epochs <= fits else recipe.changed({"epochs": rung(fits)})


def _space(
    given: Space | Mapping[str, Any] | str | os.PathLike[str] | None,
    recipe: Recipe,
    task: str,
    asked: Mapping[str, Any],
    here: Here,
    *,
    spent: float,
    on_all: float | None,
    lr_falls: tuple[float, float] | None,
) -> Space:
    """The space that is searched; where none is given, what the budget can look through."""
    if isinstance(given, Space):
        return recipe_space(given.dimensions, recipe, fixed=given.fixed)
    if isinstance(given, Mapping):
        return parse_space(given, recipe)
    if given is not None:
        return load_space(Path(given), recipe)
    if asked["strategy"] in WITHOUT_A_SPACE:
        return recipe_space((), recipe)
    counts = [count for count in (asked["trials"], asked["full_trainings"]) if count is not None]
    if asked["budget_seconds"] is not None:
        one = here.pace.run_seconds + recipe.epochs * here.pace.epoch_seconds
        after = (1.0 if asked["confirm"] else 0.0) + (on_all or 0.0)
        counts.append(max(1.0, (asked["budget_seconds"] - spent - after * one) / one * here.slots))
    return default_space(recipe, task, trainings=min(counts), lr_falls=lr_falls)


def _note_space(space: Space, strategy: str, *, default: bool, options: RunOptions) -> None:
    searched = ", ".join(f"{name} ({one.domain})" for name, one in zip(space.names, space.dimensions, strict=True))
    how = "searched, as wide as the budget can look through" if default else "searched"
    if searched:
        options.reporter.note(f"{how}: {searched}; strategy {strategy}")


TUNE = Kind(
    name="tune",
    strategy_of=tuner_of,
    end=lambda folder, tuner, runs: end_of_tuning(folder, tuner, runs),
    ends_in_time=True,
)
