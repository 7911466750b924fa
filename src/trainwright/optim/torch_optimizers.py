"""The optimizers of torch.optim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trainwright.errors import RecipeError
from trainwright.optim.optimizers import constants_of
from trainwright.plugins import optimizers
from trainwright.recipe import OptimizerSpec

Groups = list[dict[str, Any]]


@optimizers.register("sgd")
def sgd(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Stochastic gradient descent with momentum, plain or Nesterov (Sutskever et al., ICML 2013).

    Weight decay is added to the gradient.
    """
    constants = constants_of(spec)
    if constants.nesterov and constants.momentum == 0:
        raise RecipeError(
            "Nesterov's momentum needs a momentum above 0.",
            where="optimizer.nesterov",
            cure="Set optimizer.momentum=0.9, or optimizer.nesterov=false.",
        )
    return torch.optim.SGD(groups, lr=spec.peak_lr, momentum=constants.momentum, nesterov=constants.nesterov)


@optimizers.register("adam")
def adam(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, arXiv:1412.6980); weight decay is added to the gradient."""
    constants = constants_of(spec)
    return torch.optim.Adam(groups, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps)


@optimizers.register("adamw")
def adamw(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101)."""
    constants = constants_of(spec)
    return torch.optim.AdamW(groups, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps)


@optimizers.register("adamax")
def adamax(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam by the largest gradient instead of the mean of squares (Kingma and Ba, arXiv:1412.6980, Algorithm 2).

    Weight decay is added to the gradient.
    """
    constants = constants_of(spec)
    return torch.optim.Adamax(groups, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps)


@optimizers.register("nadam")
def nadam(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam with Nesterov's momentum, which warms up (Dozat, ICLR 2016 workshop); weight decay is added to the gradient."""
    constants = constants_of(spec)
    return torch.optim.NAdam(groups, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps)


@optimizers.register("radam")
def radam(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Adam whose steps adapt only once the mean of squares is known well (Liu et al., arXiv:1908.03265).

    Weight decay is added to the gradient.
    """
    constants = constants_of(spec)
    return torch.optim.RAdam(groups, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps)


@optimizers.register("rmsprop")
def rmsprop(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Gradient over the root of its mean square (Tieleman and Hinton 2012, lecture 6e), with or without momentum.

    Weight decay is added to the gradient.
    """
    alpha, eps, momentum = (getattr(constants_of(spec), name) for name in ("alpha", "eps", "momentum"))
    return torch.optim.RMSprop(groups, lr=spec.peak_lr, alpha=alpha, eps=eps, momentum=momentum)


@optimizers.register("adagrad")
def adagrad(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Gradient over the root of the sum of all squares so far, so that steps shrink by themselves (Duchi et al., JMLR 2011).

    Weight decay is added to the gradient.
    """
    return torch.optim.Adagrad(groups, lr=spec.peak_lr, eps=constants_of(spec).eps)


@optimizers.register("rprop")
def rprop(groups: Groups, spec: OptimizerSpec) -> torch.optim.Optimizer:
    """Steps by the sign of the gradient, of a size that each weight finds for itself; for batches of all train images.

    Riedmiller and Braun 1993, in the form without back-tracking (iRprop−: Igel and Hüsken 2000). lr is the size of every
    first step; from then on a weight's step grows by 1.2 or halves, and lr acts through the schedule alone, which
    scales each step that is taken: at half the peak lr, half of it. Factors of lr for parts of the network hold for the
    first steps only, since the sizes soon forget where they began. Weight decay is added to the gradient.
    """
    return ScheduledRprop(groups, lr=spec.peak_lr)


class ScheduledRprop(torch.optim.Rprop):
    """torch's Rprop, which looks at lr at the first step only and knows no weight decay, with both."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of `lr / peak_lr` of its length. Weight decay is in the gradients afterwards."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        rates, starts = [], []
        for group in self.param_groups:
            rates.append(group["lr"] / group.setdefault("peak_lr", group["lr"]))
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group.get("weight_decay"):
                for parameter in learning:
                    parameter.grad.add_(parameter, alpha=group["weight_decay"])
            starts.append([(parameter, parameter.clone()) for parameter in learning] if rates[-1] != 1 else [])
            group["lr"] = group["peak_lr"]  # the size of a weight's first step is taken from here
        super().step()
        for group, rate, moved in zip(self.param_groups, rates, starts, strict=True):
            for parameter, start in moved:
                parameter.lerp_(start, 1 - rate)
            group["lr"] = rate * group["peak_lr"]
        return loss
