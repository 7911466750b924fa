"""The learning-rate range test on small things: it finds what is known, leaves no trace, and says when it cannot tell."""

import copy
import hashlib
import math
import random
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from trainwright import plugins
from trainwright.batch import Batch, Detections
from trainwright.errors import UsageError
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import build_optimizer
from trainwright.recipe import LossSpec, OptimizerSpec
from trainwright.records import TargetInfo
from trainwright.tasks.classification import Classification
from trainwright.training.loop import FitSettings, fit
from trainwright.training.lr_range import LEAST_STEPS, SHARE, lr_range_test

CPU = torch.device("cpu")
OPTIMIZERS = plugins.optimizers.names()
BATCHES = 40  # an epoch of the stream below: more than a sweep and a short training take


@pytest.fixture
def stream(make_batches):
    """(shuffled: seed of a permutation of the labels, or none) → seed → batches of 16, in another order for each seed."""

    def of(*, shuffled: int | None = None, count: int = BATCHES):
        epoch = make_batches(count, size=16)
        if shuffled is not None:
            targets = torch.cat([batch.target for batch in epoch])
            order = torch.from_numpy(np.random.Generator(np.random.Philox(shuffled)).permutation(len(targets)))
            epoch = [
                Batch(images_NCHW=batch.images_NCHW, target=part, rows_N=batch.rows_N)
                for batch, part in zip(epoch, targets[order].split(16), strict=True)
            ]

        def batches(seed: int):
            draws = np.random.Generator(np.random.Philox(seed))
            while True:
                for index in draws.permutation(len(epoch)):
                    yield epoch[index]

        return batches

    return of


def everything(model, optimizer) -> str:
    """A hash of weights, buffers, gradients asked for, the optimizer's state and groups, and the process's random streams."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode() + tensor.numpy().tobytes())
    found.update(
        repr([p.requires_grad for p in model.parameters()] + [p.grad is None for p in model.parameters()]).encode()
    )
    found.update(repr([module.training for module in model.modules()]).encode())
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    found.update(repr(groups).encode())
    for entries in optimizer.state.values():
        for key, value in sorted(entries.items()):
            found.update(
                key.encode() + (value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
            )
    found.update(torch.get_rng_state().numpy().tobytes())
    found.update(repr((random.getstate(), np.random.get_state())).encode())  # noqa: NPY002
    return found.hexdigest()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_is_bit_for_bit_as_before(name, task, make_model, make_optimizer, stream):
    """Also of an optimizer that has taken steps, and in the middle of a stream of batches; up to rates where it diverges."""
    model = make_model(dropout=0.2)
    optimizer = make_optimizer(model, name, lr=1e-3)
    training = stream()(0)
    for _ in fit(model, task, training, optimizer, lambda progress: 1.0, steps=3, device=CPU):
        pass
    before = everything(model, optimizer)
    fourth = next(islice(stream()(0), 3, None))

    found = lr_range_test(model, task, stream(), optimizer, steps=50, device=CPU, seeds=1, low=0.01)

    assert found.steps > 0
    assert everything(model, optimizer) == before
    assert torch.equal(next(training).images_NCHW, fourth.images_NCHW)


@pytest.mark.parametrize(("name", "usual"), [("sgd", (1e-3, 1.0)), ("adam", (1e-4, 1e-1)), ("lion", (1e-5, 3e-2))])
def test_a_rate_is_found_within_what_the_optimizer_is_usually_given(
    name, usual, task, make_model, make_optimizer, stream
):
    model = make_model(norm="none")

    found = lr_range_test(model, task, stream(), make_optimizer(model, name), steps=2_000, device=CPU)

    assert found.verdict == "found", found.reason
    assert usual[0] < found.suggestion < usual[1]
    assert 1e-6 < found.interval[0] <= found.suggestion <= found.interval[1]


def test_the_suggestion_trains_and_thirty_times_as_much_does_not(task, make_model, make_optimizer, stream):
    model = make_model(norm="none")
    found = lr_range_test(model, task, stream(), make_optimizer(model, "adam"), steps=2_000, device=CPU)

    def ends_at(lr: float) -> float:
        twin = copy.deepcopy(model)
        steps = fit(twin, task, stream()(7), make_optimizer(twin, "adam", lr=lr), lambda p: 1 - p, steps=60, device=CPU)
        return float(np.mean([float(step.loss) for step in steps][-10:]))

    assert ends_at(found.suggestion) < 0.6 * found.start
    assert ends_at(30 * found.suggestion) > ends_at(found.suggestion)


def test_a_network_that_gives_a_hundredfold_wants_a_far_lower_rate(task, make_model, make_optimizer, stream):
    """The published rate is of no help there; the sweep is."""

    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = make_model(norm="none")

        def forward(self, images):
            return 100 * self.network(images)

    quiet, loud = make_model(norm="none"), Loud()
    settings = {"steps": 2_000, "device": CPU, "published": 0.01}

    of_quiet = lr_range_test(quiet, task, stream(), make_optimizer(quiet), **settings)
    of_loud = lr_range_test(loud, task, stream(), torch.optim.SGD(loud.parameters(), 0.01, momentum=0.9), **settings)

    assert of_loud.suggestion < of_quiet.suggestion / 30


def test_the_same_test_gives_the_same_answer(task, make_model, make_optimizer, stream):
    answers = []
    for _ in range(2):
        model = make_model(dropout=0.3)
        answers.append(lr_range_test(model, task, stream(), make_optimizer(model), steps=600, device=CPU))

    first, second = answers

    assert np.array_equal(first.losses_SL, second.losses_SL, equal_nan=True)
    assert (first.suggestion, first.trials) == (second.suggestion, second.trials)


def test_the_ratio_of_the_groups_is_kept(task, make_model, stream):
    rates = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            rates.append([group["lr"] for group in self.param_groups])
            return super().step(closure)

    model = make_model()
    parameters = list(model.parameters())
    optimizer = Watched([{"params": parameters[:2], "lr": 0.001}, {"params": parameters[2:], "lr": 0.01}], lr=0.01)

    lr_range_test(model, task, stream(), optimizer, steps=50, device=CPU, seeds=1)

    assert rates
    assert all(low == pytest.approx(0.1 * high) for low, high in rates if high > 0)
    assert rates[0][1] == pytest.approx(1e-7)  # the sweep's rate is that of the fastest group


def test_frozen_parts_stay_as_they_are_and_the_rest_is_tested(task, make_model, make_optimizer, stream):
    model = make_model(norm="none")
    model.freeze("last-1")

    found = lr_range_test(model, task, stream(), make_optimizer(model, "adam"), steps=2_000, device=CPU)

    assert found.verdict == "found", found.reason


def test_fewer_images_than_a_sweep_takes_are_gone_through_again(task, make_model, make_optimizer, stream):
    model = make_model(norm="none")

    found = lr_range_test(model, task, stream(count=2), make_optimizer(model, "adam"), steps=1_000, device=CPU)

    assert found.verdict == "found", found.reason


@pytest.mark.parametrize("steps", [700, 2_000])
def test_it_costs_less_than_a_tenth_of_the_training(steps, task, make_model, make_optimizer, stream):
    model = make_model()

    found = lr_range_test(model, task, stream(), make_optimizer(model), steps=steps, device=CPU)

    assert LEAST_STEPS <= found.steps <= 0.1 * steps
    assert SHARE < 0.1


def test_a_training_with_more_steps_gets_more_sweeps_and_more_points(task, make_model, make_optimizer, stream):
    model = make_model(norm="none")

    short, long = (
        lr_range_test(model, task, stream(), make_optimizer(model), steps=steps, device=CPU) for steps in (600, 4_000)
    )

    assert len(short.losses_SL) < len(long.losses_SL) == 3
    assert len(short.lrs_L) < len(long.lrs_L)
    assert len(short.trials) < len(long.trials) == 3


def test_progress_is_told(task, make_model, make_optimizer, stream):
    model, told = make_model(), []

    lr_range_test(
        model,
        task,
        stream(),
        make_optimizer(model),
        steps=600,
        device=CPU,
        progress=lambda what, done, total: told.append(what),
    )

    assert told[0] == "learning-rate range test: sweep"
    assert told[-1] == "learning-rate range test: short trainings"


# Cannot tell


def test_a_network_that_is_frozen_cannot_tell(task, make_model, stream):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model.requires_grad_(False)

    found = lr_range_test(model, task, stream(), optimizer, steps=600, device=CPU)

    assert (found.verdict, found.suggestion, found.steps) == ("cannot tell", None, 0)
    assert found.reason == "no parameter of the network learns: all of them are frozen"


def test_a_constant_loss_cannot_tell(make_model, make_optimizer, stream):
    def constant(outputs, target):
        return outputs.sum(dim=1) * 0 + 1.0

    model = make_model()
    task = Classification(TargetInfo(names=("ant", "bee", "cat")), constant)

    found = lr_range_test(model, task, stream(), make_optimizer(model), steps=600, device=CPU)

    assert found.suggestion is None
    assert found.reason == "the loss stays the same at every learning rate: nothing that learns has any influence on it"


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_shuffled_labels_and_one_epoch_cannot_tell(name, task, make_model, make_optimizer, stream):
    """The loss does fall, down to that of knowing how frequent each class is: that is nothing learned from images.

    A permutation may by chance leave images that tell of their labels, in SURE of all cases: 3 of 8 would be 1 in 170.
    """
    answers = []
    for seed in range(8):
        model = make_model(seed=seed)
        with torch.no_grad():
            model.network[-1].bias.copy_(torch.tensor([2.0, 0.0, -2.0]))  # far from the classes' shares: much to fall
        optimizer = make_optimizer(model, name)
        answers.append(
            lr_range_test(model, task, stream(shuffled=seed), optimizer, steps=BATCHES, device=CPU, low=1e-3)
        )

    untold = [found.reason for found in answers if found.suggestion is None]

    assert len(untold) >= 6
    assert all("another one's" in reason for reason in untold)


def test_the_same_network_with_the_right_labels_can_tell(task, make_model, make_optimizer, stream):
    model = make_model(norm="none")
    with torch.no_grad():
        model.network[-1].bias.copy_(torch.tensor([2.0, 0.0, -2.0]))

    found = lr_range_test(model, task, stream(), make_optimizer(model, "adamw"), steps=600, device=CPU)

    assert found.verdict == "found", found.reason


# Other networks and losses


def test_a_loss_of_ones_own_is_tested_like_any_other(make_model, make_optimizer, stream):
    def squared(outputs, target):
        return (outputs - nn.functional.one_hot(target, 3)).square().sum(dim=1)

    model = make_model(norm="none")
    task = Classification(TargetInfo(names=("ant", "bee", "cat")), squared)

    found = lr_range_test(model, task, stream(), make_optimizer(model, "adam"), steps=2_000, device=CPU)

    assert found.verdict == "found", found.reason


def test_label_smoothing_and_parts_of_a_batch_are_those_of_the_training(make_model, make_optimizer, stream):
    model = make_model(norm="none")
    loss = build_loss(LossSpec(label_smoothing=0.2), Classification.losses)
    task = Classification(TargetInfo(names=("ant", "bee", "cat")), loss)

    found = lr_range_test(
        model,
        task,
        stream(),
        make_optimizer(model, "adam"),
        steps=1_000,
        device=CPU,
        settings=FitSettings(parts=2, clip_norm=1.0),
    )

    assert found.verdict == "found", found.reason


def test_a_network_that_takes_the_target_is_judged_by_the_fall_of_its_loss(stream):
    class Own(nn.Module):
        """Learns one number, whatever the images."""

        takes_target = True

        def __init__(self) -> None:
            super().__init__()
            self.number = nn.Parameter(torch.tensor([3.0]))

        def forward(self, images, target):
            nothing = torch.zeros(len(images), 0)
            loss_N = (self.number - target.float() / 10).square().expand(len(images))
            return Detections(
                boxes_NM4=nothing[..., None].expand(-1, 0, 4),
                scores_NM=nothing,
                labels_NM=nothing.long(),
                loss_N=loss_N,
            )

    class Task:
        def loss(self, outputs, target):
            return outputs.loss_N, torch.ones(len(target), 1)

    model = Own()
    optimizer = build_optimizer([(p, 1.0) for p in model.parameters()], OptimizerSpec(name="adam", lr=1e-3), CPU)

    found = lr_range_test(model, Task(), stream(), optimizer, steps=1_000, device=CPU)

    assert found.verdict == "found", found.reason


# Requests that make no sense


@pytest.mark.parametrize(("low", "high"), [(1.0, 0.1), (0.0, 1.0), (1e-3, math.inf), (1e-3, 1e-3)])
def test_bounds_that_are_none_are_refused(low, high, task, make_model, make_optimizer, stream):
    model = make_model()

    with pytest.raises(UsageError, match="low, high: a sweep goes from a lower learning rate above 0 to a higher one"):
        lr_range_test(model, task, stream(), make_optimizer(model), steps=600, device=CPU, low=low, high=high)


def test_no_sweep_at_all_is_refused(task, make_model, make_optimizer, stream):
    model = make_model()

    with pytest.raises(UsageError, match="seeds: at least one sweep is needed, got 0"):
        lr_range_test(model, task, stream(), make_optimizer(model), steps=600, device=CPU, seeds=0)
