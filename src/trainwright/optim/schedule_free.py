"""Schedule-free AdamW: gradients are taken at one point, and an average of others is the result."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from trainwright.optim.optimizers import constants_of
from trainwright.plugins import optimizers
from trainwright.recipe import OptimizerSpec


@optimizers.register("schedule-free-adamw")
def schedule_free_adamw(groups: list[dict[str, Any]], spec: OptimizerSpec) -> torch.optim.Optimizer:
    """AdamW without a schedule: what is evaluated is an average of the weights (Defazio et al., arXiv:2405.15682).

    Weight decay is decoupled. It is meant for the schedule `constant` with a `schedule.warmup`: the average takes the
    place of the decay. A decaying schedule works too, and wastes its last steps, whose weight in the average is the
    square of their lr. Its authors advise to try an lr of 1 to 10 times that of AdamW with a schedule.
    """
    constants = constants_of(spec)
    return ScheduleFreeAdamW(groups, lr=spec.peak_lr, betas=constants.betas, eps=constants.eps)


class ScheduleFreeAdamW(torch.optim.Optimizer):
    """Algorithm 1 of Defazio et al., arXiv:2405.15682; each group's `lr` carries the warm-up.

    The parameters hold y, where the gradient is taken. The state of each holds z, the point that AdamW moves without momentum,
    x, the average of z, and the mean of squares. x is kept rather than worked out from y and z, so that beta1 may change on
    the way and be 0.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "steps": 0, "squared_lr_sum": 0.0}
        super().__init__(groups, defaults)

    @property
    def steps(self) -> int:
        """How many steps have been taken."""
        return int(self.param_groups[0]["steps"])

    def average_of(self, parameter: torch.Tensor) -> torch.Tensor:
        """x of a parameter: what is to be evaluated. The parameter itself where it has not moved."""
        x: torch.Tensor = self.state[parameter]["x"] if parameter in self.state else parameter
        return x

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta2 = group["betas"][1]
            group["steps"] += 1
            lr = group["lr"] * math.sqrt(1 - beta2 ** group["steps"])
            group["squared_lr_sum"] += lr**2
            share = lr**2 / group["squared_lr_sum"] if lr else 0.0  # c of this step's z in the average; lr 0: no step
            learning = [parameter for parameter in group["params"] if parameter.grad is not None]
            if learning:
                self._move(group, learning, lr=lr, share=share)
        return loss

    def _move(self, group: dict[str, Any], y: list[torch.Tensor], *, lr: float, share: float) -> None:
        beta1, beta2 = group["betas"]
        for parameter in y:
            if parameter not in self.state:
                self.state[parameter] = {
                    "z": parameter.clone(),
                    "x": parameter.clone(),
                    "v": torch.zeros_like(parameter),
                }
        z, x, v = ([self.state[parameter][name] for parameter in y] for name in ("z", "x", "v"))
        gradients = [parameter.grad for parameter in y if parameter.grad is not None]
        torch._foreach_mul_(v, beta2)
        torch._foreach_addcmul_(v, gradients, gradients, value=1 - beta2)
        roots = torch._foreach_sqrt(v)
        torch._foreach_add_(roots, group["eps"])
        torch._foreach_addcdiv_(z, gradients, roots, value=-lr)
        if group["weight_decay"]:
            torch._foreach_add_(z, y, alpha=-lr * group["weight_decay"])
        torch._foreach_lerp_(x, z, share)
        torch._foreach_copy_(y, z)
        torch._foreach_lerp_(y, x, beta1)
