"""What is exported: the model of a run with all that is said of it, and nothing of the machine that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trainwright
from trainwright.deploy import onnx
from trainwright.plugins import Task, networks
from trainwright.recipe import PRETRAINED, RANDOM, Recipe
from trainwright.records import to_json
from trainwright.tracking.run_folder import RunFolder
from trainwright.training.model import ImageNetwork, published_input
from trainwright.training.names import CUSTOM
from trainwright.workflows.calibrated import found_temperature
from trainwright.workflows.manifest import packages
from trainwright.workflows.predict import load_model, task_of
from trainwright.workflows.prepare import stored_for
from trainwright.workflows.run import Run, recipe_of

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is handed over, and what it is held against. recipe: of the training. temperature: that logits are divided by."""

    folder: RunFolder
    recipe: Recipe
    task: Task
    network: ImageNetwork = field(repr=False)
    result: Mapping[str, Any] = field(repr=False)
    temperature: float
    described: Mapping[str, Any] = field(repr=False)  # `trainwright.export/1` without its files


def subject_of(folder: RunFolder, custom: nn.Module | None, *, calibrated: bool) -> Subject:
    """The model of a run. Raises RunError where it has none yet, UsageError where no temperature is to be had."""
    recipe = recipe_of(folder)
    task = task_of(folder, recipe)
    network = load_model(folder, recipe, task, custom=custom)
    result = Run(folder).result
    temperature = found_temperature(result, task) if calibrated else 1.0
    network.eval()
    described: dict[str, Any] = {
        "schema": "trainwright.export/1",
        "run": folder.run_id,
        "task": task.name,
        "metric": task.metric,
        "names": list(task.info.names),
        "info": to_json(task.info),
        "network_of": _maker(recipe.network.name),
        "network_is_sized": _is_sized(recipe),
        "input": {
            "name": onnx.INPUT,
            "layout": "uint8 RGB [N, H, W, 3]",
            "size": list(recipe.data.size),
            "stored": list(stored_for(task, recipe)),
            "fit": recipe.data.fit,
        },
        "temperature": temperature,
        "test_time_flip": recipe.test_time_flip,
        "weights_sha256": result["weights_sha256"],
        "recipe": without_paths(recipe).model_dump(mode="json"),
        "packages": packages() | _versions(onnx.PACKAGES) | {"trainwright": trainwright.__version__},
    }
    return Subject(
        folder=folder,
        recipe=recipe,
        task=task,
        network=network,
        result=result,
        temperature=temperature,
        described=described,
    )


def without_paths(recipe: Recipe) -> Recipe:
    """The recipe with the name alone of a file of weights: where it lay is nobody else's business."""
    if recipe.network.weights in (RANDOM, PRETRAINED):
        return recipe
    return recipe.changed({"network.weights": Path(recipe.network.weights).name})


def _maker(network: str) -> str:
    """Whose code makes a network of that name: trainwright, timm, or custom, which is that of the run's owner."""
    if network == CUSTOM:
        return CUSTOM
    return "trainwright" if network in networks.names() else "timm"


def _is_sized(recipe: Recipe) -> bool:
    """Whether the network has to be told the size of its images when it is made, as a transformer of timm does at another than
    its own."""
    if _maker(recipe.network.name) != "timm":
        return False
    wanted = published_input(recipe.network)
    return bool(wanted["fixed"]) and recipe.data.size[0] != wanted["size"]


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
