"""A loss that is not a number stops the training before it reaches the weights, and says where it was lost."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from trainwright.errors import NonFiniteLossError, RecipeError
from trainwright.training.loop import FitSettings, fit

CPU = torch.device("cpu")


def constant(progress):
    return 1.0


class Poison(nn.Module):
    """Passes its input on, but as `value` for images far brighter than a picture can be."""

    def __init__(self, value: float = torch.nan) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright_N = x.flatten(1).amax(dim=1) > 4
        return torch.where(bright_N.view(-1, *[1] * (x.ndim - 1)), torch.full_like(x, self.value), x)


@pytest.fixture
def poisoned(make_model):
    """A model whose second layer, `network.poison`, fails for very bright images."""
    model = make_model()
    model.network = nn.Sequential()
    model.network.add_module("stem", nn.Conv2d(3, 4, 3))
    model.network.add_module("poison", Poison())
    model.network.add_module("norm", nn.BatchNorm2d(4))  # spreads what is not finite to every image of the batch
    model.network.add_module("pool", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    model.network.add_module("head", nn.Linear(4, 3))
    with torch.no_grad():
        model.network.stem.weight.fill_(1 / 27)
        model.network.stem.bias.zero_()
    return model


@pytest.fixture
def batches(make_batches):
    """Three batches of images between −2 and 2 after normalization; images 1 and 6 of the last are far brighter."""
    good = make_batches(3)
    images_NCHW = good[2].images_NCHW.float()
    images_NCHW[[1, 6]] = 1e6
    return [*good[:2], replace(good[2], images_NCHW=images_NCHW)]


def failure_of(model, task, batches, optimizer, **settings):
    """The error that ends the training."""
    with pytest.raises(NonFiniteLossError) as caught:
        list(fit(model, task, batches, optimizer, constant, steps=9, device=CPU, settings=FitSettings(**settings)))
    return caught.value


def test_step_layer_and_images_are_named(poisoned, batches, make_optimizer, task):
    poisoned.network.norm = nn.Identity()

    error = failure_of(
        poisoned, task, batches, make_optimizer(poisoned), name_rows=lambda rows: [f"{row}.png" for row in rows]
    )

    assert str(error) == (
        "training: the loss is not finite at step 2: the output of layer 'network.poison' (Poison) is not finite; "
        "it concerns 2 image(s): 17.png, 22.png. "
        "Lower the learning rate (--set optimizer.lr=…), limit the gradient (--set clip_norm=1), "
        "or train in full precision (--set precision=fp32)."
    )


def test_rows_stand_for_images_that_have_no_name(poisoned, batches, make_optimizer, task):
    poisoned.network.norm = nn.Identity()

    assert (
        "it concerns 2 image(s): row 17, row 22."
        in failure_of(poisoned, task, batches, make_optimizer(poisoned)).message
    )


def test_the_images_of_a_later_part_are_named_too(poisoned, batches, make_optimizer, task):
    poisoned.network.norm = nn.Identity()

    assert (
        "it concerns 1 image(s): row 17."
        in failure_of(poisoned, task, batches, make_optimizer(poisoned), parts=2).message
    )


def test_weights_buffers_and_optimizer_stay_as_before_the_step(
    poisoned, batches, make_optimizer, task, tensors_of, assert_same
):
    optimizer = make_optimizer(poisoned)
    steps = fit(poisoned, task, batches, optimizer, constant, steps=9, device=CPU)
    next(steps)
    next(steps)
    weights, momentum = tensors_of(poisoned), [s["momentum_buffer"].clone() for s in optimizer.state.values()]

    with pytest.raises(NonFiniteLossError):
        next(steps)

    assert_same(tensors_of(poisoned), weights)
    assert all(torch.equal(s["momentum_buffer"], m) for s, m in zip(optimizer.state.values(), momentum, strict=True))
    assert all(parameter.grad is None for parameter in poisoned.parameters())


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf], ids=["nan", "inf", "-inf"])
@pytest.mark.parametrize("layer", ["network.0.0", "network.0.1", "network.1.0", "network.2.2", "network.3"])
def test_the_layer_that_lost_the_number_is_the_one_that_is_named(
    make_model, make_batches, make_optimizer, task, layer, value
):
    model = make_model(dropout=0.5)
    model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: output.sign() * value)

    error = failure_of(model, task, make_batches(1), make_optimizer(model))

    kind = type(model.get_submodule(layer)).__name__
    assert f"the output of layer '{layer}' ({kind}) is not finite" in error.message


@pytest.mark.parametrize("name", ["network.0.0.weight", "network.1.1.bias", "network.3.bias"])
def test_weights_that_were_already_not_finite_are_named(make_model, make_batches, make_optimizer, task, name):
    model = make_model()
    with torch.no_grad():
        model.get_parameter(name).view(-1)[0] = torch.nan

    error = failure_of(model, task, make_batches(1), make_optimizer(model))

    assert f"at step 0: the weights of '{name}' were already not finite; it concerns all images of the batch" in str(
        error
    )


def test_statistics_that_were_not_finite_are_blamed_on_their_layer(make_model, make_batches, make_optimizer, task):
    model = make_model()
    model.freeze("head")
    model.get_buffer("network.1.1.running_var").fill_(torch.nan)

    error = failure_of(model, task, make_batches(1), make_optimizer(model))

    assert "the output of layer 'network.1.1' (BatchNorm2d) is not finite" in error.message


def test_a_fault_of_the_loss_function_is_told_from_one_of_the_network(make_model, make_batches, make_optimizer, task):
    task._loss = lambda outputs, target: outputs.sum(dim=1) * torch.nan
    model = make_model()

    error = failure_of(model, task, make_batches(1), make_optimizer(model))

    assert "every layer's output is finite, the loss function's is not" in error.message


def test_no_more_than_five_images_are_listed(make_model, make_batches, make_optimizer, task):
    task._loss = lambda outputs, target: outputs.sum(dim=1) * torch.nan
    model = make_model()

    error = failure_of(model, task, make_batches(1), make_optimizer(model))

    assert "it concerns all images of the batch: row 0, row 1, row 2, row 3, row 4, …." in error.message


class SteepAtZero(nn.Module):
    """Adds the root of something that is 0: its value is finite, its gradient is not."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.weight.abs().sqrt()


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    make_model, make_batches, make_optimizer, task, tensors_of, assert_same
):
    model = make_model(norm="group")
    model.network.append(SteepAtZero())
    optimizer, before = make_optimizer(model), tensors_of(model)

    error = failure_of(model, task, make_batches(1), optimizer, clip_norm=1.0)

    assert "the gradient is not finite at step 0" in error.message
    assert_same(tensors_of(model), before)


def test_batch_norm_of_a_single_image_is_refused_with_what_helps(make_model, make_batches, make_optimizer, task):
    model = make_model()
    model.network.insert(3, nn.BatchNorm1d(8))
    optimizer = make_optimizer(model)

    with pytest.raises(RecipeError, match=r"batch_size: batch norm has no statistics of a single image\. At least 2"):
        list(fit(model, task, make_batches(1, size=1), optimizer, constant, steps=1, device=CPU))
