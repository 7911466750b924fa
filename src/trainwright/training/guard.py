"""When the loss stops being a number: which step, which layer, which images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainwright.batch import Batch
from trainwright.errors import NonFiniteLossError

NAMED_IMAGES = 5


def non_finite_loss(
    model: nn.Module,
    batch: Batch,
    loss_N: torch.Tensor,
    *,
    step: int,
    name_rows: Callable[[list[int]], list[str]] | None = None,
) -> NonFiniteLossError:
    """The error that names where the number was lost; the weights are still those before the step.

    loss_N: the loss of each image. name_rows: turns rows of the sample table into what a person recognizes.
    """
    faulty = (~torch.isfinite(loss_N.detach())).nonzero().flatten().tolist()
    rows = [int(row) for row in batch.rows_N[faulty]]
    names = name_rows(rows) if name_rows is not None else [f"row {row}" for row in rows]
    which = "all images of the batch" if len(faulty) == len(batch) and len(batch) > 1 else f"{len(faulty)} image(s)"
    return NonFiniteLossError(
        f"the loss is not finite at step {step}: {where_lost(model, batch)}; "
        f"it concerns {which}: {', '.join(names[:NAMED_IMAGES])}{', …' if len(names) > NAMED_IMAGES else ''}.",
        where="training",
        cure=(
            "Lower the learning rate (--set optimizer.lr=…), limit the gradient (--set clip_norm=1), "
            "or train in full precision (--set precision=fp32)."
        ),
    )


@torch.no_grad()
def where_lost(model: nn.Module, batch: Batch) -> str:
    """The first parameter or layer output that is not finite, in words, found by running the batch once more."""
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            return f"the weights of {name!r} were already not finite"
    first: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not first and isinstance(output, torch.Tensor) and not bool(torch.isfinite(output).all()):
                first.append(f"the output of layer {name!r} ({type(module).__name__}) is not finite")

        return hook

    leaves = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    handles = [module.register_forward_hook(watch(name)) for name, module in leaves]
    try:
        outputs = model(batch.images_NCHW)
    finally:
        for handle in handles:
            handle.remove()
    if first:
        return first[0]
    if isinstance(outputs, torch.Tensor) and not bool(torch.isfinite(outputs).all()):
        return "the network's outputs are not finite"
    return "every layer's output is finite, the loss function's is not"
