"""Losses by name, each a function of (outputs, target) to the loss of every image, [N]; and what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from trainwright.errors import RecipeError
from trainwright.plugins import losses
from trainwright.recipe import LossSpec

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# The values of a `LossSpec` that belong to a single loss; label smoothing and class weights are asked of every one of them
CONSTANTS: Mapping[str, tuple[str, ...]] = {
    "cross-entropy": (),
    "binary-cross-entropy": (),
    "focal": ("gamma",),
    "dice": (),
    "dice+cross-entropy": ("dice_weight",),
    "tversky": ("tversky",),
    "lovasz": (),
    "huber": ("delta",),
    "mse": (),
    "mae": (),
    "own": (),
}
WEIGHTS, SMOOTHING = "loss.class_weights", "loss.label_smoothing"


def build_loss(spec: LossSpec, goes_with: Sequence[str]) -> Loss:
    """The loss that `spec` names, or the first of those that the task takes where it names none.

    goes_with: names of the losses that go with the task (`Task.losses`). Raises UnknownNameError for a name that does not
    exist and RecipeError for one that is another task's, or whose constants contradict it.
    """
    name = goes_with[0] if spec.name is None else spec.name
    build = losses.get(name)
    if name not in goes_with:
        raise RecipeError(
            f"{name!r} does not go with this task.", where="loss.name", cure=f"It takes: {', '.join(goes_with)}."
        )
    return build(spec)


def balanced_weights(counts: Mapping[str, int], names: Sequence[str]) -> tuple[float, ...]:
    """A weight for each class of `names`, n / (K n_k): all of the train part over (classes × what is of the class).

    Their mean over the data is 1. counts: images, or pixels, of each class. It is scikit-learn's heuristic `balanced`, after
    King and Zeng 2001, "Logistic Regression in Rare Events Data". Raises RecipeError for classes without any.
    """
    absent = [name for name in names if not counts[name]]
    if absent:
        raise RecipeError(
            f"balanced: nothing in train is {', '.join(absent[:10])}{' …' if len(absent) > 10 else ''}.",
            where=WEIGHTS,
            cure="Take what is never seen out of the classes, or give the weights as numbers.",
        )
    total = sum(counts[name] for name in names)
    return tuple(total / (len(names) * counts[name]) for name in names)


def class_weights(spec: LossSpec) -> torch.Tensor | None:
    """The weights of the classes, float64 [K]. Raises RecipeError where they are still to be counted."""
    if spec.class_weights is None:
        return None
    if isinstance(spec.class_weights, str):
        raise RecipeError(
            "'balanced' is counted from the train part, and no data is known here.",
            where=WEIGHTS,
            cure="Give a number for each class, for example those of trainwright.optim.losses.balanced_weights.",
        )
    return torch.tensor(spec.class_weights, dtype=torch.float64)


def refuse_class_weights(spec: LossSpec, why: str) -> None:
    """Raise RecipeError where the recipe weighs classes and the loss has no place for it."""
    if spec.class_weights is not None:
        raise RecipeError(f"{spec.name or 'this loss'} has none: {why}.", where=WEIGHTS, cure="Set it to null.")


def refuse_label_smoothing(spec: LossSpec, why: str) -> None:
    """Raise RecipeError where the recipe smooths labels and the loss has no place for it."""
    if spec.label_smoothing:
        raise RecipeError(
            f"{spec.name or 'this loss'} has none: {why}.",
            where=SMOOTHING,
            cure=f"Set it to 0: --set {SMOOTHING}=0.",
        )


def full_precision(outputs: torch.Tensor) -> torch.Tensor:
    """The outputs in float32, or in float64 where they are."""
    return outputs if outputs.dtype == torch.float64 else outputs.float()
