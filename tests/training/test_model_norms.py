"""Batch norm with the statistics that it came with, or group norm in its place, in whole models and over steps."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from trainwright.errors import RecipeError, WeightsError
from trainwright.recipe import NetworkSpec
from trainwright.training.ema import WeightAverage
from trainwright.training.evaluate import evaluate
from trainwright.training.loop import fit
from trainwright.training.model import ImageNetwork, build_network, parameter_stages, settled_norms

CPU = torch.device("cpu")


class Own(nn.Module):
    """A user's network whose batch norm has seen images, with dropout."""

    def __init__(self, mean=0.5) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.body[1].running_mean.fill_(mean)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.body(images_NCHW).mean(dim=(2, 3))))


@pytest.fixture
def learned_file(tmp_path, make_batches):
    """Weights of a small-resnet that has seen images."""
    network = build_network(NetworkSpec(width=8), form="vector", outputs=3, size=(8, 8), seed=1).train()
    network(make_batches(1)[0].images_NCHW.float() / 255)
    save_file(network.state_dict(), tmp_path / "learned.safetensors")
    return str(tmp_path / "learned.safetensors")


def build(spec, *, custom=None, trainable="all", **more):
    network = build_network(spec, form="vector", outputs=3, size=(8, 8), seed=0, custom=custom, **more)
    model = ImageNetwork(network, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    model.freeze(trainable, settled=settled_norms(network, spec))
    return model


def statistics(model):
    return {name: value.clone() for name, value in model.named_buffers() if "running_" in name}


def norms(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


# Frozen statistics


def test_frozen_statistics_stay_over_the_steps_and_the_scales_and_shifts_learn(
    learned_file, make_batches, make_optimizer, task, assert_same
):
    model = build(NetworkSpec(width=8, norm="frozen", weights=learned_file))
    before, scales = statistics(model), [norm.weight.clone() for norm in norms(model)]

    list(fit(model, task, make_batches(3), make_optimizer(model), lambda p: 1.0, steps=3, device=CPU))

    assert_same(statistics(model), before)
    assert len(before) == 2 * len(scales) > 0
    assert [torch.equal(norm.weight, scale) for norm, scale in zip(norms(model), scales, strict=True)] == [False] * 9


def test_an_image_is_normalized_by_them_in_train_mode_too(learned_file):
    """So a batch of one image can be learned from, and the others of a batch do not matter."""
    model = build(NetworkSpec(width=8, norm="frozen", weights=learned_file))
    images_NCHW = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    trained, judged = model.train()(images_NCHW[:1]), model.eval()(images_NCHW)[:1]

    torch.testing.assert_close(trained, judged)


def test_they_stay_whatever_the_mode_and_dropout_beside_them_acts():
    model = build(NetworkSpec(norm="frozen"), custom=Own())

    for mode in (True, False, True):
        model.train(mode)
        assert not model.network.body[1].training
        assert model.network.dropout.training is mode


def test_they_stay_in_a_copy_and_in_averaged_weights(learned_file):
    model = build(NetworkSpec(width=8, norm="frozen", weights=learned_file))

    copies = [copy.deepcopy(model), WeightAverage(model, 0.9).model]

    for each in copies:
        each.train()
        assert {norm.training for norm in norms(each)} == {False}
        assert not {id(norm) for norm in norms(each)} & {id(norm) for norm in norms(model)}


def test_an_evaluation_in_train_mode_leaves_them(learned_file, make_batches, task, assert_same):
    model = build(NetworkSpec(width=8, norm="frozen", weights=learned_file))
    before = statistics(model)

    in_train_mode, usual = (
        evaluate(model, task, make_batches(2), device=CPU, mode=mode).columns for mode in ("train", "eval")
    )

    assert_same(statistics(model), before)
    assert all((in_train_mode[name] == usual[name]).all() for name in usual)


def test_they_go_with_frozen_parts(learned_file):
    model = build(NetworkSpec(width=8, norm="frozen", weights=learned_file), trainable="last-1").train()

    assert {norm.training for norm in norms(model)} == {False}
    assert not model.network.stage2.training
    assert model.network.stage3.training
    assert model.network.stage3[0].norm1.weight.requires_grad


def test_random_weights_have_no_statistics_to_keep():
    with pytest.raises(RecipeError) as caught:
        build(NetworkSpec(width=8, norm="frozen"))

    assert str(caught.value) == (
        "network.norm: 9 of the 9 batch norms of 'small-resnet' have no statistics yet (mean 0, variance 1; the first: "
        "'stem.1'), and frozen they would never get any. Start from weights that have learned (network.weights=pretrained, "
        "or a file), or set it to batch or group."
    )


def test_a_users_network_that_has_seen_no_image_is_refused():
    with pytest.raises(RecipeError, match=r"^network\.norm: 1 of the 1 batch norms of 'custom' have no statistics yet"):
        build(NetworkSpec(norm="frozen"), custom=Own(mean=0.0))


def test_a_network_without_batch_norm_has_nothing_to_freeze():
    with pytest.raises(RecipeError) as caught:
        build(NetworkSpec(norm="frozen"), custom=nn.Sequential(nn.Flatten(), nn.Linear(192, 3)))

    assert str(caught.value) == (
        "network.norm: 'custom' has no batch norm whose statistics could stay as they are. "
        "Set it to batch, which leaves a network the norms that it has."
    )


def test_a_checkpoint_that_follows_brings_them():
    model = build(NetworkSpec(width=8, norm="frozen", weights="gone.safetensors"), weights_follow=True)

    assert {norm.training for norm in norms(model.train())} == {False}


def test_only_the_backbone_of_a_network_on_one_came_with_statistics():
    spec = NetworkSpec(name="unet", weights="pretrained", norm="frozen")
    network = build_network(spec, form="map", outputs=3, size=(32, 32), seed=0, weights_follow=True)

    settled = {id(norm) for norm in settled_norms(network, spec)}

    assert settled == {id(norm) for norm in norms(network.encoder)}
    assert len(settled) < len(norms(network))


def test_batch_norm_that_is_not_to_be_frozen_is_not():
    assert settled_norms(Own(), NetworkSpec()) == []


# Group norm


def test_a_users_network_gets_group_norm_in_place_and_only_once():
    network = Own(mean=0.0)

    first, again = (build(NetworkSpec(norm="group"), custom=network) for _ in range(2))

    assert first.network is again.network is network
    assert isinstance(network.body[1], nn.GroupNorm)


def test_a_users_network_that_learned_with_batch_norm_is_refused_and_stays_as_it_is():
    network = Own()

    with pytest.raises(RecipeError, match=r"^network\.norm: the weights of 'custom' were learned with batch norm"):
        build(NetworkSpec(norm="group"), custom=network)

    assert isinstance(network.body[1], nn.BatchNorm2d)


def test_stages_and_frozen_parts_are_those_of_the_network_with_batch_norm():
    spec = NetworkSpec(name="test_resnet")
    plain = build_network(spec, form="vector", outputs=3, size=(32, 32), seed=0)
    grouped = build_network(spec.model_copy(update={"norm": "group"}), form="vector", outputs=3, size=(32, 32), seed=0)

    assert parameter_stages(grouped) == parameter_stages(plain)
    model = ImageNetwork(grouped, mean=(0.5,) * 3, std=(0.25,) * 3)
    model.freeze("head")
    assert [name for name, parameter in grouped.named_parameters() if parameter.requires_grad] == [
        "fc.weight",
        "fc.bias",
    ]


@pytest.mark.parametrize("name", ["small-resnet", "test_resnet"])
def test_weights_that_were_learned_with_batch_norm_do_not_go_into_group_norm(tmp_path, name):
    learned = build_network(NetworkSpec(name=name, width=8), form="vector", outputs=3, size=(32, 32), seed=0)
    file = tmp_path / "learned.safetensors"
    save_file(learned.state_dict(), file)

    with pytest.raises(WeightsError) as caught:
        build_network(
            NetworkSpec(name=name, width=8, norm="group", weights=str(file)),
            form="vector",
            outputs=3,
            size=(32, 32),
            seed=0,
        )

    assert str(caught.value) == (
        f"{file}: holds weights that were learned with batch norm, and the network has group norm in its place. "
        "Set network.norm to batch or frozen."
    )


def test_weights_that_were_learned_with_group_norm_fit_again(tmp_path, tensors_of, assert_same):
    spec = NetworkSpec(name="test_resnet", norm="group")
    learned = build_network(spec, form="vector", outputs=3, size=(32, 32), seed=1)
    save_file(learned.state_dict(), tmp_path / "learned.safetensors")
    start = spec.model_copy(update={"weights": str(tmp_path / "learned.safetensors")})

    network = build_network(start, form="vector", outputs=3, size=(32, 32), seed=2)

    assert_same(tensors_of(network), tensors_of(learned))


# What cannot be put inside of a user's network


@pytest.mark.parametrize("field", ["dropout", "block_dropout", "drop_path"])
def test_dropout_in_a_users_network_is_the_users(field):
    with pytest.raises(RecipeError) as caught:
        build(NetworkSpec(**{field: 0.1}), custom=Own())

    assert str(caught.value) == (
        f"network.{field}: nothing can be put inside of a network of your own, and {field} would be without effect. "
        "Set it to 0, and put layers such as torch.nn.Dropout into your module."
    )
