"""The optimizers of timm.optim. timm is imported only for those who use it: it takes seconds."""

from __future__ import annotations

from typing import Any

import torch

from trainwright.optim.optimizers import constants_of, is_matrix
from trainwright.plugins import optimizers
from trainwright.recipe import OptimizerSpec

Groups = list[dict[str, Any]]

# Jordan et al. 2024, kellerjordan.github.io/posts/muon: five steps of this iteration, in bfloat16
NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS, NEWTON_SCHULZ_EPS = (3.4445, -4.7750, 2.0315), 5, 1e-7


@optimizers.register("lion")
def lion(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Steps of lr by the sign of a momentum, with decoupled weight decay (Chen et al., arXiv:2302.06675, Algorithm 2).

    Every weight moves by lr at every step: its authors take an lr 3 to 10 times smaller than AdamW's, and a weight decay
    as much larger.
    """
    from timm.optim import Lion

    optimizer: torch.optim.Optimizer = Lion(groups, lr=spec.peak_lr, betas=constants_of(spec).betas)
    return optimizer


@optimizers.register("nadamw")
def nadamw(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """AdamW with Nesterov's momentum (Dozat, ICLR 2016 workshop; Choi et al., arXiv:1910.05446, Table 1).

    Weight decay is decoupled.
    """
    from timm.optim import NAdamW

    constants = constants_of(spec)
    optimizer: torch.optim.Optimizer = NAdamW(groups, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps)
    return optimizer


@optimizers.register("adopt")
def adopt(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam that divides by the mean of squares before this step's own, clipped (Taniguchi et al., arXiv:2411.02853).

    Its first step only takes a measure and moves nothing. Weight decay is decoupled: a choice of ours.
    """
    from timm.optim import Adopt

    constants = constants_of(spec)
    optimizer: torch.optim.Optimizer = Adopt(
        groups,
        lr=spec.peak_lr,
        betas=constants.betas,
        eps=constants.eps,
        clip_exp=0.25,  # the paper's clipping by the fourth root of the step
        decoupled=True,
    )
    return optimizer


@optimizers.register("lamb")
def lamb(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam whose step of a layer is as long as lr times its weights, for large batches (You et al., arXiv:1904.00962).

    What is never decayed, as biases and norms, takes Adam's step, as in the authors' program. Weight decay is added to Adam's
    direction before its length is set. The gradient is clipped only where the recipe says so.
    """
    from timm.optim import Lamb

    constants = constants_of(spec)
    layered = [{**group, "always_adapt": group["decayed"]} for group in groups]
    optimizer: torch.optim.Optimizer = Lamb(
        layered, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps, max_grad_norm=None
    )
    return optimizer


@optimizers.register("muon")
def muon(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Steps whose matrix is made orthogonal, for hidden layers (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    Convolutions count as matrices of output channels by all the rest. AdamW moves the first layer, the head,
    embeddings, biases, norms and whatever is no matrix of at least two rows and columns. Both go by the same lr: Muon's step
    is scaled to the size of AdamW's (Liu et al., arXiv:2502.16982). Weight decay is decoupled. momentum and nesterov are
    Muon's, betas and eps AdamW's.
    """
    from timm.optim import Muon

    constants = constants_of(spec)
    parted: Groups = []
    for group in groups:
        rest = {name: value for name, value in group.items() if name not in ("params", "ends")}
        hidden = [] if group.get("ends") else [p for p in group["params"] if is_matrix(p)]
        others = [p for p in group["params"] if not any(p is matrix for matrix in hidden)]
        if hidden:
            parted.append({**rest, "params": hidden, "use_muon": True, "eps": NEWTON_SCHULZ_EPS})
        if others:  # with Nesterov's momentum timm would take NAdamW
            parted.append({**rest, "params": others, "use_muon": False, "eps": constants.eps, "nesterov": False})
    optimizer: torch.optim.Optimizer = Muon(
        parted,
        lr=spec.peak_lr,
        momentum=constants.momentum,
        nesterov=constants.nesterov,
        betas=constants.betas,
        ns_coefficients=NEWTON_SCHULZ,
        ns_steps=NEWTON_SCHULZ_STEPS,
        adjust_lr_fn="match_rms_adamw",
    )
    return optimizer
