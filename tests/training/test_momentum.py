"""A schedule that moves momentum reaches every optimizer that has one, and changes nothing of one that has none."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional

from trainwright import plugins
from trainwright.optim.schedules import build_schedule, momentum_of
from trainwright.recipe import ScheduleSpec
from trainwright.training.checkpoint import Checkpoint, load_newest, restore_training, save_checkpoint, training_tensors
from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")
STEPS = 8
ONE_CYCLE = ScheduleSpec(name="one-cycle", rise=0.5, momentum=(0.85, 0.95))
OPTIMIZERS = [("sgd", {"momentum": 0.9}), ("sgd", {"momentum": 0.9, "nesterov": True}), ("adam", {}), ("adamw", {})]
IDS = ["sgd", "nesterov", "adam", "adamw"]


@pytest.fixture
def fitted(task, make_batches):
    """(model, optimizer, steps, schedule) → the records of those steps, momentum moved as the schedule says."""
    batches = make_batches(STEPS)

    def run(model, optimizer, *, first=0, last=STEPS, spec=ONE_CYCLE):
        settings = FitSettings(momentum=momentum_of(spec))
        steps = fit(
            model,
            task,
            batches[first:last],
            optimizer,
            build_schedule(spec),
            steps=STEPS,
            device=CPU,
            first_step=first,
            settings=settings,
        )
        return list(steps)

    return run


def test_each_step_says_what_momentum_it_was_taken_with(make_model, make_optimizer, fitted):
    """Half a cosine down and half a cosine up, four steps each: at a quarter of each, (1 − cos 45°) / 2 of the way."""
    model = make_model()

    records = fitted(model, make_optimizer(model, momentum=0.9))

    early = 0.1 * (1 - 0.5**0.5) / 2
    down = [0.95, 0.95 - early, 0.9, 0.85 + early]
    assert [record.momentum for record in records] == pytest.approx([*down, 0.85, 0.85 + early, 0.9, 0.95 - early])


@pytest.mark.parametrize(("name", "constants"), OPTIMIZERS, ids=IDS)
def test_one_cycle_trains_the_weights_that_torchs_trains(
    make_model, make_optimizer, make_batches, fitted, name, constants
):
    """Torch's ends at its last step, so it is told of one step more; see tests/parity/test_torch_schedulers.py."""
    ours, theirs = make_model(norm="group"), make_model(norm="group")
    plain = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    rest = {"weight_decay": 0.0, "fused": True, **constants}
    optimizer = plain(theirs.parameters(), lr=0.05, **rest)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=STEPS + 1, pct_start=0.3)

    theirs.train()
    for batch in make_batches(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(theirs(batch.images_NCHW), batch.target).backward()
        optimizer.step()
        scheduler.step()
    spec = ScheduleSpec(name="one-cycle", rise=(0.3 * (STEPS + 1) - 1) / STEPS, momentum=(0.85, 0.95))
    fitted(ours, make_optimizer(ours, name, lr=0.05, **constants), spec=spec)

    for weight, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-5)


def test_an_optimizer_without_momentum_stays_without(make_model, make_optimizer, fitted, tensors_of, assert_same):
    """Bit for bit as if lr alone were moved."""
    cycled, plain = make_model(), make_model()

    records = fitted(cycled, make_optimizer(cycled, momentum=0.0))
    fitted(plain, make_optimizer(plain, momentum=0.0), spec=ONE_CYCLE.model_copy(update={"momentum": (0.5, 0.5)}))

    assert {record.momentum for record in records} == {None}
    assert_same(tensors_of(cycled), tensors_of(plain))


@pytest.mark.parametrize("name", plugins.optimizers.names())
def test_every_optimizer_with_betas_or_momentum_takes_it_and_keeps_its_other_constants(
    make_model, make_optimizer, fitted, name
):
    model = make_model()
    optimizer = make_optimizer(model, name)
    before = [(group.get("betas", (0,))[1:], bool(group.get("momentum"))) for group in optimizer.param_groups]

    last = fitted(model, optimizer)[-1].momentum

    groups = optimizer.param_groups
    assert [(group.get("betas", (0,))[1:], bool(group.get("momentum"))) for group in groups] == before
    assert [group["betas"][0] for group in groups if "betas" in group] == [last for group in groups if "betas" in group]
    assert [group["momentum"] for group in groups if group.get("momentum")] == [
        last for group in groups if group.get("momentum")
    ]


@pytest.mark.parametrize("stop", [1, 4, 7])
@pytest.mark.parametrize(("name", "constants"), OPTIMIZERS, ids=IDS)
def test_a_training_with_moved_momentum_goes_on_bit_for_bit(
    tmp_path, make_model, make_optimizer, fitted, assert_same, name, constants, stop
):
    states = []

    for starts in ([0, STEPS], [0, stop, STEPS]):
        folder = tmp_path / str(len(starts))
        for first, last in itertools.pairwise(starts):
            model = make_model()
            optimizer = make_optimizer(model, name, **constants)
            for found in filter(None, [load_newest(folder)]):
                restore_training(found, model, optimizer, None)
            fitted(model, optimizer, first=first, last=last)
            tensors, state = training_tensors(model, optimizer, None)
            save_checkpoint(folder, last, Checkpoint(tensors=tensors, state=state))
        states.append((dict(tensors), state))

    assert_same(states[1][0], states[0][0])
    assert states[1][1] == states[0][1]
