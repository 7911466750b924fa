"""The weight decay for another optimizer than the one that a recipe was written for: the same number means something else.

Added to the gradient it is a penalty in the loss; decoupled it shrinks the weights by lr times itself at every step (Loshchilov
and Hutter, arXiv:1711.05101 §2). Lion's is decoupled beside a far smaller lr, LAMB's goes into a ratio.
"""

from __future__ import annotations

from typing import Literal

from trainwright.recipe import OptimizerSpec

Kind = Literal["added", "decoupled", "lamb", "lion"]
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("sgd", "adam", "adamax", "nadam", "radam", "rmsprop", "adagrad", "rprop"), "added"),
    # muon: its steps are scaled so that AdamW's lr and weight decay go on: Liu et al., arXiv:2502.16982
    **dict.fromkeys(("adamw", "nadamw", "adopt", "muon", "schedule-free-adamw"), "decoupled"),
    "lamb": "lamb",
    "lion": "lion",
}
DECOUPLED = 0.05, "Touvron et al., arXiv:2012.12877, Table 9, with AdamW"
PUBLISHED_DECAY: dict[Kind, tuple[float, str]] = {  # (weight decay, source)
    # With SGD. Of the other optimizers that add it none is known to be better: it is part of what is minimized, whoever does it.
    "added": (1e-4, "He et al., arXiv:1512.03385 §3.4, where it is added to the gradient"),
    "decoupled": DECOUPLED,
    "lamb": (0.02, "Wightman et al., arXiv:2110.00476, Table 2, A3"),
}
# Times AdamW's: 3 to 10 times larger beside an lr as much smaller, Chen et al., arXiv:2302.06675 §5. The lower end, because
# the lr is found and may come out higher than that.
LION_FACTOR = 3


def decay_for(name: str, *, before: OptimizerSpec) -> tuple[float, str]:
    """(weight decay, why) for training with the optimizer `name` what was to be trained as `before` says.

    None stays none, and between optimizers that decay alike the number stays; so it does, for want of a better one, where
    either is one of one's own.
    """
    decay, old, new = before.weight_decay, KINDS.get(before.name), KINDS.get(name)
    if decay == 0:
        return 0.0, "as before"
    if name == "rprop":
        return 0.0, "its steps go by signs, which a decay would turn: torch.optim.Rprop has none"
    if old is None or new is None:
        return decay, f"kept: none is known of {name if new is None else before.name}"
    if old == new:
        return decay, f"kept: {name} decays as {before.name} does"
    if new == "lion":
        of_adamw = decay if old == "decoupled" else DECOUPLED[0]
        return LION_FACTOR * of_adamw, f"{LION_FACTOR} times AdamW's: Chen et al., arXiv:2302.06675 §5"
    return PUBLISHED_DECAY[new]
