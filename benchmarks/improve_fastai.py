"""fastai as its tutorials use it, on the same network and the same images (`improve.py`).

`lr_find` with its default suggestion (valley); `fit_one_cycle` with its defaults (Adam with decoupled decay; from lr / 25 up to
lr in a quarter of the training, momentum from 0.95 to 0.85 and back); `aug_transforms()` on batches, normalized by ImageNet's
statistics. Since nothing is chosen by a validation set, it learns from all of train/. A batch of it stands in for the
validation set that a Learner wants, so that no time is lost on it.

fastai computes in float32 where nothing else is said, our trainer in bfloat16 where the processor is quicker at it. In bfloat16
it is a method of its own, so that what precision does can be told from the rest. Its `to_bf16` does nothing on a processor, so
a callback of a few lines does the same there; `to_channelslast` is its own.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from improve_budget import Job, Wall, final_epochs
from trainwright.plugins import networks
from trainwright.recipe import Recipe

SIZE = (32, 32)  # pixels of the images, as the network is built for them


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A Learner after its training. data: the folder of the images. seconds: of wall time that the training took, all in all."""

    learner: Any
    data: Path
    seconds: float
    notes: Mapping[str, Any]

    def answered(self) -> tuple[np.ndarray, np.ndarray]:
        """(right or wrong, file) of every test image."""
        from fastai.vision.all import get_image_files

        files = sorted(get_image_files(self.data / "test"))
        with self.learner.no_bar(), self.learner.no_logging():
            scores_NK, _ = self.learner.get_preds(dl=self.learner.dls.test_dl(files))
        names = np.array(self.learner.dls.vocab)[scores_NK.argmax(dim=1).numpy()]
        right_N = names == np.array([file.parent.name for file in files])
        return right_N, np.array([file.relative_to(self.data).as_posix() for file in files])


def fitted(job: Job, recipe: Recipe, *, bfloat16: bool = False) -> Learned:
    """As many epochs as the wall time has, by one that is measured first; of `recipe` only network and batch are taken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at import, of torch and pandas about fastai
        from fastai.vision.all import CrossEntropyLossFlat, Learner, set_seed

    wall = Wall(job.seconds)
    torch.set_num_threads(job.threads)
    set_seed(job.seed)
    dls = _loaders(job, recipe)
    network = _network(recipe, outputs=len(dls.vocab), seed=job.seed)

    def learner(model: nn.Module) -> Any:
        made = Learner(dls, model, loss_func=CrossEntropyLossFlat(), path=job.work)  # also where lr_find saves
        return made.to_channelslast(use_amp=False).add_cb(_in_bfloat16()) if bfloat16 else made

    timed = learner(copy.deepcopy(network))
    learning = learner(network)
    with timed.no_bar(), timed.no_logging(), learning.no_bar(), learning.no_logging():
        began = time.perf_counter()
        timed.fit_one_cycle(1)
        epoch_seconds = time.perf_counter() - began
        found = learning.lr_find(show_plot=False)
        epochs = max(1, final_epochs(epoch_seconds=epoch_seconds, run_seconds=0.0, seconds=wall.left))
        learning.fit_one_cycle(epochs, found.valley)
    notes = {"lr": found.valley, "epochs": epochs, "epoch_seconds": epoch_seconds, "images": len(dls.train_ds)}
    return Learned(learner=learning, data=job.data, seconds=wall.spent, notes=notes)


def _loaders(job: Job, recipe: Recipe) -> Any:
    """All images of train/ in batches as large as the recipe's; the rest as fastai has it."""
    from fastai.vision.all import (
        CategoryBlock,
        DataBlock,
        ImageBlock,
        Normalize,
        aug_transforms,
        get_image_files,
        imagenet_stats,
        parent_label,
    )

    size = recipe.step_images
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=lambda files: (range(len(files)), range(size)),
        get_y=parent_label,
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
    )
    asked = {"bs": size, "num_workers": job.options.workers, "device": torch.device("cpu")}
    return block.dataloaders(job.data / "train", path=job.work, **asked)


def _network(recipe: Recipe, *, outputs: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return networks.get(recipe.network.name)().build(recipe.network, outputs=outputs, size=SIZE)


def _in_bfloat16() -> Any:
    """A fastai callback: the network computes in bfloat16 on the processor, the loss in float32."""
    from fastai.vision.all import Callback, to_float

    class InBfloat16(Callback):
        order = 10  # as fastai's own MixedPrecision

        def before_batch(self) -> None:
            self.context = torch.autocast("cpu", dtype=torch.bfloat16)
            self.context.__enter__()

        def after_pred(self) -> None:
            self.context.__exit__(None, None, None)
            self.learn.pred = to_float(self.pred)

    return InBfloat16()
