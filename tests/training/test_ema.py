"""Averaged weights: an exponential moving average whose decay starts small."""

import pytest
import torch
from torch import nn

from trainwright.training.ema import WeightAverage
from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")


@pytest.fixture
def scalar():
    """A network of one weight, 1.0, and one buffer."""
    model = nn.Linear(1, 1, bias=False)
    model.register_buffer("count", torch.zeros(()))
    nn.init.ones_(model.weight)
    return model


def set_weight(model, value):
    with torch.no_grad():
        model.weight.fill_(value)
        model.count += 1


def test_the_average_is_that_of_a_hand_computation(scalar):
    """Decays are min(0.25, 2/11) = 2/11, min(0.25, 3/12) = 1/4 and min(0.25, 4/13) = 1/4."""
    average = WeightAverage(scalar, 0.25)
    expected = 1.0

    for value, decay in [(2.0, 2 / 11), (4.0, 1 / 4), (8.0, 1 / 4)]:
        set_weight(scalar, value)
        average.update(scalar)
        expected = decay * expected + (1 - decay) * value

    assert average.model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert average.updates == 3


def test_buffers_are_the_latest(scalar):
    average = WeightAverage(scalar, 0.999)

    set_weight(scalar, 5.0)
    set_weight(scalar, 5.0)
    average.update(scalar)

    assert average.model.count.item() == 2.0


def test_weights_that_stand_still_are_their_own_average_to_the_last_bit(make_model):
    model = make_model()
    average = WeightAverage(model, 0.9)

    for _ in range(20):
        average.update(model)

    assert all(torch.equal(a, b) for a, b in zip(average.model.parameters(), model.parameters(), strict=True))


def test_the_averaged_model_is_a_model_of_its_own_that_does_not_learn(make_model):
    model = make_model()

    average = WeightAverage(model, 0.9)

    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not average.model.training
    assert model.training


def test_a_training_does_not_feel_that_it_is_averaged(
    make_model, make_batches, make_optimizer, task, tensors_of, assert_same
):
    averaged, plain = make_model(), make_model()
    average = WeightAverage(averaged, 0.9)
    batches = make_batches(3)

    for model, settings in [(averaged, FitSettings(average=average)), (plain, FitSettings())]:
        optimizer = make_optimizer(model)
        list(fit(model, task, batches, optimizer, lambda p: 1.0, steps=3, device=CPU, settings=settings))

    assert average.updates == 3
    assert_same(tensors_of(averaged), tensors_of(plain))
    assert not torch.equal(average.model.network[3].weight, averaged.network[3].weight)


def test_the_average_of_a_partly_frozen_network_keeps_the_frozen_parts(make_model, make_batches, make_optimizer, task):
    model = make_model()
    model.freeze("head")
    stem, head = model.network[0][0].weight.clone(), model.network[3].weight.clone()
    average = WeightAverage(model, 0.9)

    settings = FitSettings(average=average)
    list(
        fit(
            model,
            task,
            make_batches(3),
            make_optimizer(model),
            lambda p: 1.0,
            steps=3,
            device=CPU,
            settings=settings,
        )
    )

    assert torch.equal(average.model.network[0][0].weight, stem)
    assert not torch.equal(average.model.network[3].weight, head)
