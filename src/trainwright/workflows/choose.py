"""The facts that the choice of a published recipe depends on, looked up; the choice itself is `recipes.choose`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trainwright.data.dataset import Dataset, open_dataset
from trainwright.recipe import NetworkSpec
from trainwright.recipes import Choice, Facts, choose, names, page
from trainwright.training.device import choose_device
from trainwright.training.names import published_name
from trainwright.training.weights import cached_weights


def choose_recipe(data: Dataset, wanted: Mapping[str, Any], *, own_network: bool, device: str) -> Choice:
    """The published recipe that a training of `data` starts from where none is named, and why.

    wanted: what the command changes in it. own_network: the network is the user's module. device: as in `RunOptions`.
    Weights count as at hand only in the hub cache: nothing is fetched that nobody asked for. Raises UsageError for a device
    that is not there.
    """
    return choose(facts_of(data, wanted, own_network=own_network, device=device))


def facts_of(
    data: Dataset | str | os.PathLike[str],
    wanted: Mapping[str, Any] | None = None,
    *,
    own_network: bool = False,
    device: str = "auto",
    target: str | None = None,
) -> Facts:
    """What the choice of a recipe depends on: `tw.recipes.choose(tw.facts_of("photos/"))` is what `train` starts from.

    data, target: as `train` takes them. wanted: what is changed in the recipe. own_network: the network is a module of yours.
    Raises DataError, UsageError.
    """
    data = data if isinstance(data, Dataset) else open_dataset(Path(data), target=target)
    wanted = wanted or {}
    seen, counts = data.fingerprint, data.images
    middle = [int(np.median(sides)) for sides in (seen.heights[seen.usable], seen.widths[seen.usable]) if len(sides)]
    own = own_network or any(key.startswith("network.") for key in wanted)
    return Facts(
        task=data.task,
        images=counts.get("train", counts.get("all", 0)),
        image_size=(middle[0], middle[1]) if len(middle) == 2 else (0, 0),
        device=choose_device(device).type,
        pretrained_at_hand=frozenset() if own else pretrained_at_hand(data.task),
        own_network=own,
    )


def pretrained_at_hand(task: str) -> frozenset[str]:
    """The published recipes for a task that fine-tune weights which are in the hub cache."""
    pages = [page(name) for name in names()]
    tuning = [found for found in pages if found.start == "pretrained" and task in found.tasks]
    return frozenset(found.name for found in tuning if _cached(found.recipe.network))


def _cached(spec: NetworkSpec) -> bool:
    """Whether the very weights that timm would take are cached: those of another tag of the network would be fetched anew."""
    name = published_name(spec)
    if name is None or not cached_weights(name):
        return False
    if "." in name:
        return True
    import timm  # takes seconds, so only where some weights of that network are cached

    config: Any = timm.get_pretrained_cfg(name)
    return config is not None and bool(cached_weights(str(config.hf_hub_id or name).rpartition("/")[2]))
