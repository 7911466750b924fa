"""What a recipe names, made for a training that is ready to start: its batches, its optimizer, what a step does."""

from __future__ import annotations

import torch

from trainwright.data.loader import TrainBatches
from trainwright.optim.optimizers import build_optimizer
from trainwright.training.loop import FitSettings
from trainwright.training.mixing import mixing
from trainwright.workflows.prepare import Prepared


def batches_of(
    prepared: Prepared, *, seed: int, workers: int, batch_size: int | None = None, share: tuple[int, int] = (0, 1)
) -> TrainBatches:
    """Batches of the train part as the recipe augments them. batch_size: in place of the recipe's. share: as `TrainBatches`."""
    recipe = prepared.recipe
    return TrainBatches(
        prepared.pixels,
        prepared.targets,
        prepared.split.train,
        batch_size=batch_size or recipe.step_images,
        image_size=recipe.data.size,
        augment=recipe.augment,
        seed=seed,
        workers=workers,
        pin=prepared.device.type == "cuda",
        share=share,
    )


def optimizer_of(prepared: Prepared, *, lr: float | None = None) -> torch.optim.Optimizer:
    """The recipe's optimizer over the model. lr: the peak, in place of the recipe's."""
    recipe, model = prepared.recipe, prepared.model
    spec = recipe.optimizer if lr is None else recipe.changed({"optimizer.lr": lr}).optimizer
    rates = model.learning_rates(recipe.network.stage_lr_decay)
    return build_optimizer(rates, spec, prepared.device, ends=model.ends(), undecayed=model.undecayed())


def settings_of(prepared: Prepared) -> FitSettings:
    """What a step does besides, with a gradient scaler of its own; without average, and with a momentum that stays."""
    recipe, autocast = prepared.recipe, prepared.precision.autocast
    return FitSettings(
        parts=recipe.accumulate,
        clip_norm=recipe.clip_norm,
        autocast=autocast,
        scaler=torch.amp.GradScaler(prepared.device.type) if autocast is torch.float16 else None,
        seed=recipe.seed,
        name_rows=prepared.name_rows,
        mix=mixing(recipe.augment, kind=prepared.task.target, seed=recipe.seed),
    )
