"""The published recipe that suits the data, all of its values in one change.

What its values do together is often more than the best of them does alone, and one comparison tells instead of ten. It keeps the
length of the training, which is given by the budget, what the data is split and labelled by, and what the machine is best at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainwright.diagnosis.remedies.augmentation import GENTLE
from trainwright.diagnosis.remedies.case import CUSTOM, FIRST_LOSS, OURS, USUAL, Case, Remedy
from trainwright.diagnosis.remedies.optimization import FEWEST_STEPS
from trainwright.recipe import PRETRAINED, Recipe, recipe_keys
from trainwright.recipes import Facts, choose, get

KEPT = frozenset(
    {
        "title",
        "task",
        "epochs",
        "accumulate",
        "precision",
        "channels_last",
        "seed",
        "loss.class_weights",
        "data.val_fraction",
        "data.test_fraction",
        "data.split_seed",
    }
)
SECTIONS = ("network", "optimizer", "schedule", "loss")  # whose values go with the name in them
CHOSEN_BY_ITSELF = ("optimizer.lr",)  # None says something: from the range test


def _published(case: Case) -> Mapping[str, Any] | None:
    """What is at hand for weights like the present ones: of pre-trained ones another fine-tuning, of random ones none."""
    return _package(case, case.facts.pretrained if case.is_pretrained else frozenset())


def _pretrained(case: Case) -> Mapping[str, Any] | None:
    if case.is_pretrained or not case.facts.pretrained or case.recipe.network.name == CUSTOM:
        return None
    changes = _package(case, case.facts.pretrained)
    return changes if changes is not None and changes.get("network.weights") == PRETRAINED else None


def _package(case: Case, at_hand: frozenset[str]) -> Mapping[str, Any] | None:
    facts, own = case.facts, case.recipe.network.name == CUSTOM
    chosen = choose(
        Facts(
            task=facts.task,
            images=facts.train_count,
            image_size=facts.image_size,
            device=facts.device,
            pretrained_at_hand=at_hand,
            own_network=own,
        )
    )
    changes = _differences(case.recipe, get(chosen.name))
    if own:
        changes = {key: value for key, value in changes.items() if not key.startswith("network.")}
    if facts.task == "regression" and case.loss == "mae":
        changes = {key: value for key, value in changes.items() if not key.startswith("loss.")}
    if facts.task not in FIRST_LOSS:  # a loss of one's own may have no place for the values of classification
        changes = {key: value for key, value in changes.items() if not key.startswith("loss.")}
    if not facts.mirror_is_safe:
        changes.pop("augment.flip", None)
        changes.pop("test_time_flip", None)
        if changes.get("augment.trivial_augment", 0.0) > GENTLE:
            changes["augment.trivial_augment"] = GENTLE
    wanted = changes.get("batch_size")
    if isinstance(wanted, int) and facts.train_count < FEWEST_STEPS * wanted:  # too few steps an epoch
        del changes["batch_size"]
    return changes if set(changes) - {"optimizer.lr"} else None  # another rate alone is no package


def _differences(old: Recipe, new: Recipe) -> dict[str, Any]:
    """The values of `new` that `old` does not have, other than those that are kept. What `new` leaves open where it names the
    same part as `old` is the same, since `old` may have been filled in."""
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    changes: dict[str, Any] = {}
    for key, section in recipe_keys().items():
        if section is not None or key in KEPT:
            continue
        name, _, leaf = key.rpartition(".")
        was, will = (tree[name][leaf] if name else tree[leaf] for tree in (before, after))
        same_part = name in SECTIONS and before[name]["name"] == after[name]["name"]
        filled_in = will is None and key not in CHOSEN_BY_ITSELF and (same_part or key == "loss.name")
        if key == "data.image_size" and will is None:
            filled_in = old.network.name == new.network.name or {old.network.name, new.network.name} <= set(OURS)
        if was != will and not filled_in:
            changes[key] = will
    return changes


REMEDIES = (
    Remedy(
        name="published-recipe",
        family="package",
        answers={
            "overfits": 0.8,
            "cannot-fit": 0.5,
            "diverged": 0.6,
            "unstable": 0.6,
            "batch-norm-broken": 0.5,  # its rate comes down to nothing, and statistics of weights that rest are right
            "learning-rate": 0.5,
            "saturated-early": 0.4,
            "over-regularized": 0.4,
            USUAL: 0.3,
        },
        changes=_published,
        reason="Augmentation, decay, schedule and learning rate that were chosen for each other do more than any one of them.",
        effect="every value of the published recipe that suits the data, but its epochs",
        source="each value's own (`trainwright recipes show`); that they go together: Wightman et al., arXiv:2110.00476",
        share=0.5,
        origin="ours: a guess to order trials by, a little more than its flips and shifts do alone",
    ),
    Remedy(
        name="pretrained-weights",
        family="package",
        answers={"overfits": 0.75, "too-small": 0.5, "still-improving": 0.5, USUAL: 0.4},
        changes=_pretrained,
        reason="Features of a million images need few more of one's own.",
        effect="the published fine-tuning whose weights are on this machine, every value but its epochs",
        source="Kornblith et al., arXiv:1805.08974; few images: He et al., arXiv:1811.08883",
        share=0.5,
        origin="ours: a guess to order trials by",
    ),
)
