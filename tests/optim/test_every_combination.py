"""Every optimizer under every schedule with every loss: it learns, and a training that is cut goes on in the very same bits."""

import copy
import itertools
import json

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from trainwright import plugins
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import build_optimizer
from trainwright.optim.schedules import build_schedule, momentum_of
from trainwright.plugins import RememberingSchedule
from trainwright.recipe import LossSpec, OptimizerSpec, ScheduleSpec
from trainwright.training.checkpoint import Checkpoint, restore_training, training_tensors

CPU = torch.device("cpu")
OPTIMIZERS, SCHEDULES = plugins.optimizers.names(), plugins.schedules.names()
STEPS, CUT, EPOCH, LR = 16, 7, 3, 0.2
POINTS_M2 = torch.tensor([[x / 3, y / 2] for x, y in itertools.product((-3, -1, 1, 3), (-2, 1, 2))])
RIGHT_M = (POINTS_M2[:, 0] > POINTS_M2[:, 1]).long()  # class of a point: below the diagonal, 6 of 12, or above
# Of each kind of target: the target, and how the figures [12, 2] of a linear layer are laid out to answer it.
PROBLEMS = {
    "class": (RIGHT_M, lambda figures_M2: figures_M2),
    "numbers": (POINTS_M2 @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]]), lambda figures_M2: figures_M2),
    "mask": (RIGHT_M.view(2, 2, 3).to(torch.uint8), lambda figures_M2: figures_M2.view(2, 2, 3, 2).permute(0, 3, 1, 2)),
}
LOSSES = [
    (task, loss)
    for task, kind in sorted(plugins.tasks.all().items())
    for loss in kind.losses
    if loss != "own"  # a detector's, which no linear layer has: tests/tasks
]
# Quick are all optimizers under all schedules with one loss, and all optimizers with all losses under one schedule.
COMBINATIONS = [
    pytest.param(
        *names,
        *loss,
        id="-".join([*names, *loss]),
        marks=() if names[1] == "one-cycle" or loss[1] == "binary-cross-entropy" else pytest.mark.slow,
    )
    for *names, loss in itertools.product(OPTIMIZERS, SCHEDULES, LOSSES)
]


class Training:
    """A linear layer that begins with answering the wrong way round, with its optimizer, schedule and loss."""

    def __init__(self, optimizer, schedule, task, loss):
        kind = plugins.tasks.get(task)
        self.target, self.laid_out = PROBLEMS[kind.target]
        self.loss_of = build_loss(LossSpec(name=loss), kind.losses)
        self.model = nn.Linear(2, 2)
        self.model.load_state_dict({"weight": torch.tensor([[0.5, -0.5], [-0.5, 0.5]]), "bias": torch.zeros(2)})
        spec = OptimizerSpec(name=optimizer, lr=LR)
        self.optimizer = build_optimizer([(p, 1.0) for p in self.model.parameters()], spec, CPU)
        moved = ScheduleSpec(name=schedule, warmup=0.1, momentum=(0.85, 0.95))
        self.schedule, self.momentum = build_schedule(moved), momentum_of(moved) or (lambda progress: None)

    def loss(self):
        return self.loss_of(self.laid_out(self.model(POINTS_M2)), self.target).mean()

    def go(self, first, last):
        for step in range(first, last):
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak_lr"] * self.schedule(step / STEPS)
                if self.momentum(step / STEPS) is not None and "betas" in group:
                    group["betas"] = (self.momentum(step / STEPS), group["betas"][1])
                if self.momentum(step / STEPS) is not None and group.get("momentum"):
                    group["momentum"] = self.momentum(step / STEPS)
            self.optimizer.zero_grad()
            loss = self.loss()
            loss.backward()
            self.optimizer.step()
            if isinstance(self.schedule, RememberingSchedule) and step % EPOCH == 0:
                self.schedule.observe(-loss.item())

    def saved(self):
        """Bytes and JSON, as the files of a checkpoint have them."""
        tensors, state = training_tensors(self.model, self.optimizer, None)
        memory = self.schedule.state_dict() if isinstance(self.schedule, RememberingSchedule) else None
        return save({name: tensor.clone() for name, tensor in tensors.items()}), json.dumps([state, memory])

    def restore(self, data, text):
        state, memory = json.loads(text)
        restore_training(Checkpoint(tensors=load(data), state=state), self.model, self.optimizer, None)
        if memory is not None:
            self.schedule.load_state_dict(memory)


@pytest.mark.parametrize(("optimizer", "schedule", "task", "loss"), COMBINATIONS)
def test_the_loss_goes_down_and_a_cut_training_ends_in_the_same_bits(optimizer, schedule, task, loss):
    whole, resumed = (Training(optimizer, schedule, task, loss) for _ in range(2))
    start = whole.loss().item()

    whole.go(0, CUT)
    kept = whole.saved()
    whole.go(CUT, STEPS)
    resumed.restore(*kept)
    again = resumed.saved()
    resumed.go(CUT, STEPS)

    assert whole.loss().item() < 0.99 * start
    assert again == kept
    assert resumed.saved() == whole.saved()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_copy_of_model_and_optimizer_is_an_independent_twin(optimizer):
    """Made in one deepcopy, as the learning-rate range test does, after some steps and before any."""
    fresh, moved, still = (Training(optimizer, "cosine", "classification", "cross-entropy") for _ in range(3))
    untouched = still.saved()

    twin = copy.copy(fresh)
    twin.model, twin.optimizer = copy.deepcopy((fresh.model, fresh.optimizer))
    fresh.go(0, CUT)
    twin.go(0, CUT)
    of_both = (fresh.saved(), twin.saved())
    twin.model, twin.optimizer = copy.deepcopy((fresh.model, fresh.optimizer))
    twin.go(CUT, STEPS)
    left = fresh.saved()
    fresh.go(CUT, STEPS)
    moved.go(0, STEPS)

    assert of_both[0] == of_both[1] != untouched
    assert left == of_both[0]
    assert twin.saved() == fresh.saved() == moved.saved()
