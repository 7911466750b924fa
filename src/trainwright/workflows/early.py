"""What is checked before torch is imported, so that a slip of the keyboard is answered at once."""

from __future__ import annotations

from trainwright.optim.schedules import refuse_contradictions
from trainwright.plugins import losses, optimizers, schedules, tasks
from trainwright.recipe import Recipe
from trainwright.training.names import check_network
from trainwright.training.weights import check_weights


def check_early(recipe: Recipe, *, offline: bool) -> None:
    """Raise UnknownNameError or WeightsError for names and weights that a training would stumble over seconds later."""
    check_names(recipe)
    check_weights(recipe.network, offline=offline)


def check_names(recipe: Recipe) -> None:
    """Raise UnknownNameError for an optimizer, schedule, loss, task or network that does not exist, RecipeError for a schedule
    whose constants contradict each other."""
    optimizers.check(recipe.optimizer.name)
    schedules.check(recipe.schedule.name)
    refuse_contradictions(recipe.schedule)
    if recipe.loss.name is not None:
        losses.check(recipe.loss.name)
    if recipe.task is not None:
        tasks.check(recipe.task)
    check_network(recipe.network)
