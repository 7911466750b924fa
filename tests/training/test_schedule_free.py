"""A schedule-free training is evaluated at the average of its optimizer, with batch norm's statistics of that average."""

import pytest
import torch
from torch import nn

from trainwright.training.checkpoint import Checkpoint, restore_training, training_tensors
from trainwright.training.loop import fit
from trainwright.training.schedule_free import ScheduleFreeAverage

CPU = torch.device("cpu")


@pytest.fixture
def average_of(make_batches):
    """(model, optimizer) → the evaluated weights, statistics from two batches that the training does not see."""
    seen = make_batches(2, seed=1)
    return lambda model, optimizer: ScheduleFreeAverage(model, optimizer, lambda: seen, device=CPU, dtype=None, seed=0)


@pytest.fixture
def trained(make_model, make_batches, make_optimizer, task):
    """(norm=…, steps=…) → (model, its optimizer) after some steps of schedule-free AdamW."""

    def train(*, norm="batch", steps=3, trainable="all"):
        model = make_model(norm=norm)
        model.freeze(trainable)
        optimizer = make_optimizer(model, "schedule-free-adamw")
        list(fit(model, task, make_batches(steps), optimizer, lambda p: 1.0, steps=steps, device=CPU))
        return model, optimizer

    return train


def test_its_weights_are_the_optimizers_average_and_not_those_that_are_trained(trained, average_of):
    model, optimizer = trained()

    evaluated = average_of(model, optimizer).model

    pairs = list(zip(evaluated.parameters(), model.parameters(), strict=True))
    assert all(torch.equal(own, optimizer.average_of(given)) for own, given in pairs)
    assert not any(torch.equal(own, given) for own, given in pairs)
    assert not any(own.requires_grad for own in evaluated.parameters())


def test_before_any_step_it_is_the_model(make_model, make_optimizer, average_of):
    model = make_model(norm="group")

    evaluated = average_of(model, make_optimizer(model, "schedule-free-adamw")).model

    assert all(torch.equal(own, given) for own, given in zip(evaluated.parameters(), model.parameters(), strict=True))


def test_statistics_of_the_first_norm_are_the_mean_over_the_batches_at_the_average(trained, average_of, make_batches):
    model, optimizer = trained()

    evaluated = average_of(model, optimizer).model

    with torch.no_grad():
        features = [
            evaluated.network[0][0]((batch.images_NCHW.float() * evaluated.scale) + evaluated.shift)
            for batch in make_batches(2, seed=1)
        ]
    norm = evaluated.network[0][1]
    mean_C = torch.stack([values.mean(dim=(0, 2, 3)) for values in features]).mean(dim=0)
    variance_C = torch.stack([values.var(dim=(0, 2, 3)) for values in features]).mean(dim=0)
    torch.testing.assert_close(norm.running_mean, mean_C, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_var, variance_C, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.1
    assert not any(module.training for module in evaluated.modules())


def test_statistics_that_stay_in_training_stay_here(trained, average_of):
    """Of frozen stages: what they came with."""
    model, optimizer = trained(trainable="last-1")

    evaluated = average_of(model, optimizer).model

    frozen, fresh = nn.BatchNorm2d(8), evaluated.network[0][1]
    assert torch.equal(fresh.running_mean, frozen.running_mean)
    assert torch.equal(fresh.running_var, frozen.running_var)


def test_a_training_does_not_feel_that_it_is_evaluated(
    make_model, make_batches, make_optimizer, task, average_of, tensors_of, assert_same
):
    watched, alone = make_model(dropout=0.4), make_model(dropout=0.4)
    batches = make_batches(4)

    of_watched, of_alone = (make_optimizer(model, "schedule-free-adamw") for model in (watched, alone))
    average = average_of(watched, of_watched)
    for _ in fit(watched, task, batches, of_watched, lambda p: 1.0, steps=4, device=CPU):
        before = torch.random.get_rng_state()
        average.model(batches[0].images_NCHW)
        assert torch.equal(torch.random.get_rng_state(), before)
    list(fit(alone, task, batches, of_alone, lambda p: 1.0, steps=4, device=CPU))

    assert_same(tensors_of(watched), tensors_of(alone))


def test_it_follows_every_step_and_keeps_what_is_loaded_into_it_between(
    trained, make_batches, task, average_of, tensors_of, assert_same
):
    model, optimizer = trained()
    average = average_of(model, optimizer)
    first = tensors_of(average.model)

    with torch.no_grad():
        average.model.network[3].weight.fill_(7.0)
    kept = average.model.network[3].weight.clone()
    list(fit(model, task, make_batches(1), optimizer, lambda p: 1.0, steps=1, device=CPU))
    followed = tensors_of(average.model)

    assert torch.equal(kept, torch.full_like(kept, 7.0))
    assert_same(followed, tensors_of(average_of(model, optimizer).model))
    assert not torch.equal(followed["network.3.weight"], first["network.3.weight"])


def test_a_restored_training_evaluates_the_same_bits(
    trained, make_model, make_optimizer, average_of, tensors_of, assert_same
):
    """The checkpoint holds nothing of the evaluated weights beside the optimizer's state."""
    model, optimizer = trained()
    tensors, state = training_tensors(model, optimizer, None)
    other = make_model(seed=1)
    restored = make_optimizer(other, "schedule-free-adamw")
    average = average_of(other, restored)

    restore_training(Checkpoint(tensors=tensors, state=state), other, restored, None)

    assert_same(tensors_of(average.model), tensors_of(average_of(model, optimizer).model))
