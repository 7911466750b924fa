"""Which parts of a network learn, how fast, and what a network of ours or of the user's is made of."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from trainwright.errors import RecipeError, UnknownNameError, UsageError
from trainwright.plugins import networks
from trainwright.recipe import NetworkSpec
from trainwright.seeding import derive
from trainwright.training.loop import fit
from trainwright.training.model import ImageNetwork, build_network, parameter_stages
from trainwright.training.names import check_network, check_network_name

CPU = torch.device("cpu")
SMALL_STAGES = ["stem", "stage1", "stage2", "stage3", "head"]


class Own(nn.Module):
    """A user's network: a body inside a single child, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.relu = nn.ReLU()
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 3)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        features = self.relu(self.second(self.relu(self.first(images_NCHW + self.offset))))
        return self.head(features.mean(dim=(2, 3)))


def small() -> ImageNetwork:
    network = build_network(NetworkSpec(width=8), form="vector", outputs=3, size=(8, 8), seed=0)
    return ImageNetwork(network, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def own() -> ImageNetwork:
    return ImageNetwork(Own(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def learning(model: ImageNetwork) -> set[str]:
    """The top-level parts of the network that have a parameter that learns."""
    return {name.split(".")[1] for name, parameter in model.named_parameters() if parameter.requires_grad}


# What learns


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("all", {"stem", "stage1", "stage2", "stage3", "head"}),
        ("head", {"head"}),
        ("last-1", {"stage3", "head"}),
        ("last-3", {"stage1", "stage2", "stage3", "head"}),
        ("last-4", {"stem", "stage1", "stage2", "stage3", "head"}),
        ("last-99", {"stem", "stage1", "stage2", "stage3", "head"}),
    ],
)
def test_small_resnet_learns_in_the_stages_that_are_asked_for(trainable, expected):
    model = small()

    model.freeze(trainable)

    assert learning(model) == expected


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        ("all", {"offset", "first", "second", "head"}),
        ("head", {"head"}),
        ("last-1", {"second", "head"}),
        ("last-2", {"offset", "first", "second", "head"}),
    ],
)
def test_each_child_of_a_users_network_that_has_parameters_is_a_stage(trainable, expected):
    model = own()

    model.freeze(trainable)

    assert learning(model) == expected


def test_a_network_that_a_user_wrapped_has_the_stages_of_what_is_inside():
    inner, wrapped = Own(), nn.Sequential(nn.Sequential(*Own().children()))

    assert max(parameter_stages(inner).values()) == max(parameter_stages(wrapped).values()) == 2
    assert parameter_stages(wrapped)["0.3.weight"] == 2


def test_a_network_of_a_single_layer_is_its_own_head():
    assert parameter_stages(nn.Linear(2, 3)) == {"weight": 0, "bias": 0}


def test_what_the_maker_of_a_network_froze_stays_frozen():
    model = small()
    model.network.stem.requires_grad_(False)

    model.freeze("all")

    assert learning(model) == set(SMALL_STAGES) - {"stem"}
    assert not any(module.training for module in model.network.stem.modules())
    assert model.network.stage1.training


@pytest.mark.parametrize("build", [small, own])
@pytest.mark.parametrize(("name", "weight_decay"), [("sgd", 0.1), ("adamw", 0.1)])
def test_frozen_parts_keep_weights_and_statistics_and_the_others_do_not(
    build, make_batches, make_optimizer, task, tensors_of, name, weight_decay
):
    """From the very first step: a fresh network is in train mode, and its frozen parts must not be."""
    model = build()
    model.freeze("last-1")
    before = tensors_of(model)
    moving = {"network.stage3", "network.second", "network.head"}

    optimizer = make_optimizer(model, name, weight_decay=weight_decay)
    list(fit(model, task, make_batches(3), optimizer, lambda p: 1.0, steps=3, device=CPU))

    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert {".".join(key.split(".")[:2]) for key in changed} <= moving
    assert "network.head.weight" in changed
    assert any("running_mean" in key for key in changed)


def test_frozen_parts_stay_in_eval_mode_whatever_the_mode():
    model = small()
    model.freeze("head")

    for mode in (True, False, True):
        model.train(mode)
        assert not model.network.stem[1].training
        assert model.network.head.training is mode


# How fast


def test_the_lr_falls_by_the_factor_with_every_stage_from_the_head_down():
    model = small()
    names = {parameter: name.split(".")[1] for name, parameter in model.named_parameters()}

    factors = {names[parameter]: factor for parameter, factor in model.learning_rates(0.5)}

    assert factors == {"stem": 0.0625, "stage1": 0.125, "stage2": 0.25, "stage3": 0.5, "head": 1.0}


def test_without_decay_every_stage_has_the_same_lr():
    assert {factor for _, factor in own().learning_rates(1.0)} == {1.0}


def test_every_parameter_has_its_factor_once():
    model = own()

    assert [id(parameter) for parameter, _ in model.learning_rates(0.5)] == [id(p) for p in model.parameters()]


def test_a_step_moves_each_stage_by_its_own_lr(make_batches, task):
    """Plain SGD moves a weight by lr × gradient, so two trainings' moves differ by the factor alone."""
    from trainwright.optim.optimizers import build_optimizer
    from trainwright.recipe import OptimizerSpec

    moved = {}
    for decay in (1.0, 0.5):
        model = small()
        before = model.network.stage2[0].shortcut[0].weight.detach().clone()
        optimizer = build_optimizer(model.learning_rates(decay), OptimizerSpec(name="sgd", lr=1.0, momentum=0.0), CPU)
        list(fit(model, task, make_batches(1), optimizer, lambda p: 1.0, steps=1, device=CPU))
        moved[decay] = model.network.stage2[0].shortcut[0].weight.detach() - before

    torch.testing.assert_close(moved[0.5], moved[1.0] / 4, rtol=1e-3, atol=1e-7)
    assert float(moved[1.0].abs().max()) > 1e-4


# What it is made of


def test_pixels_are_normalized_by_mean_and_deviation():
    model = ImageNetwork(nn.Identity(), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    images_NCHW = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)

    black, white = model(images_NCHW).flatten(1)

    torch.testing.assert_close(black, torch.tensor([0.0, -1.0, -4.0]))
    torch.testing.assert_close(white, torch.tensor([1.0, 1.0, 0.0]))


def test_the_random_weights_depend_on_the_seed_alone(tensors_of, assert_same):
    before = torch.get_rng_state()
    spec = NetworkSpec(width=8)

    first = build_network(spec, form="vector", outputs=3, size=(8, 8), seed=5)
    torch.rand(3)
    second = build_network(spec, form="vector", outputs=3, size=(8, 8), seed=5)
    other = build_network(spec, form="vector", outputs=3, size=(8, 8), seed=6)
    torch.set_rng_state(before)

    assert_same(tensors_of(first), tensors_of(second))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_building_does_not_move_the_callers_random_state():
    before = torch.get_rng_state()

    build_network(NetworkSpec(width=8), form="vector", outputs=3, size=(8, 8), seed=derive(0, "any"))

    assert torch.equal(torch.get_rng_state(), before)


def test_a_users_module_is_taken_as_it_is():
    network = Own()

    assert build_network(NetworkSpec(), form="vector", outputs=99, size=(8, 8), seed=0, custom=network) is network


def test_a_recipe_of_a_users_network_needs_the_network():
    with pytest.raises(UsageError) as caught:
        build_network(NetworkSpec(name="custom"), form="vector", outputs=3, size=(8, 8), seed=0)

    assert str(caught.value) == (
        "network.name: this recipe trains a network of your own, which only Python code can give. "
        "Call tw.train(data, recipe, model=model), or tw.resume(run, model=model)."
    )


def test_small_resnet_has_no_published_weights():
    with pytest.raises(UsageError, match=r"^network\.weights: 'small-resnet' has no published weights\."):
        build_network(NetworkSpec(weights="pretrained"), form="vector", outputs=3, size=(8, 8), seed=0)


def test_an_unknown_network_is_answered_without_importing_timm():
    with pytest.raises(UnknownNameError) as caught:
        check_network_name("small-resnt")

    ours = ", ".join(sorted(networks.names()))
    assert str(caught.value).startswith(
        f"network.name: no such network 'small-resnt'. Did you mean 'small-resnet'? Known: {ours}, and "
    )
    assert str(caught.value).endswith(" networks of timm.")


def test_an_unknown_backbone_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError) as caught:
        check_network(NetworkSpec(name="unet", backbone="resnet_18"))

    assert str(caught.value).startswith("network.backbone: no such backbone 'resnet_18'. Did you mean 'resnet")


def test_a_backbone_that_nobody_asks_for_may_have_any_name():
    check_network(NetworkSpec(name="small-unet", backbone="resnet_18"))


def test_names_are_checked_without_importing_torch():
    check = (
        "import sys; from trainwright.training.names import check_network; from trainwright.recipe import NetworkSpec;"
        "[check_network(NetworkSpec(name=name)) for name in ('small-unet', 'unet', 'resnet18.a1_in1k', 'custom')];"
        "print([name for name in ('torch', 'timm', 'segmentation_models_pytorch') if name in sys.modules])"
    )

    answer = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)

    assert answer.stdout == "[]\n"


# What goes with the task


def test_a_network_that_says_one_thing_of_each_image_is_refused_where_each_pixel_is_asked_about():
    with pytest.raises(RecipeError) as caught:
        build_network(NetworkSpec(name="resnet18"), form="map", outputs=3, size=(32, 32), seed=0)

    assert str(caught.value) == (
        "network.name: 'resnet18' gives figures for each image, and the task needs figures for each pixel. "
        "Networks that give it: deeplabv3plus, fpn, small-unet, unet."
    )


def test_a_network_of_maps_is_refused_where_each_image_is_asked_about():
    with pytest.raises(RecipeError) as caught:
        build_network(NetworkSpec(name="small-unet"), form="vector", outputs=3, size=(32, 32), seed=0)

    assert str(caught.value) == (
        "network.name: 'small-unet' gives figures for each pixel, and the task needs figures for each image. "
        "Networks that give it: small-resnet, small-resnet-9 and every network of timm."
    )


@pytest.mark.parametrize(
    ("size", "cure"),
    [
        ((180, 240), "[160, 224] or [192, 256]"),
        ((192, 200), "[192, 192] or [192, 224]"),
        ((20, 20), "[32, 32]"),
    ],
)
def test_a_size_that_a_network_does_not_take_is_answered_with_the_nearest_that_it_does(size, cure):
    with pytest.raises(RecipeError) as caught:
        build_network(NetworkSpec(name="unet"), form="map", outputs=3, size=size, seed=0)

    assert str(caught.value) == (
        f"data.image_size: 'unet' takes images whose sides are multiples of 32 pixels, got [{size[0]}, {size[1]}]. "
        f"Set it to {cure}."
    )


# Networks that want the target


class Takes(nn.Module):
    """Remembers what it was called with."""

    takes_target = True

    def forward(self, images_NCHW: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor | None:
        return target


def test_a_network_that_takes_the_target_is_given_it():
    model = ImageNetwork(Takes(), mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    images_NCHW, target = torch.zeros(1, 3, 4, 4), torch.ones(1)

    assert model.takes_target
    assert model(images_NCHW, target) is target
    assert model(images_NCHW) is None


def test_a_network_that_does_not_take_the_target_never_sees_it():
    model = own()

    assert not model.takes_target
    assert model(torch.zeros(1, 3, 8, 8), torch.ones(1)).shape == (1, 3)


# Networks with an encoder


class Encoded(nn.Module):
    """A head before its encoder, in the order of its parts, and two parts after it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(4, 2, 1)
        self.encoder = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)])
        self.decoder = nn.Conv2d(4, 4, 3)


def test_what_follows_the_encoder_is_the_head_of_a_network():
    stages = parameter_stages(Encoded())

    assert {name.rpartition(".")[0]: stage for name, stage in stages.items()} == {
        "encoder.0": 0,
        "encoder.1": 1,
        "head": 2,
        "decoder": 2,
    }
