"""Muon in a training: which layers are its own, and that every part of it follows the schedule."""

import torch
from torch import nn

from trainwright.optim.optimizers import build_optimizer
from trainwright.recipe import NetworkSpec, OptimizerSpec
from trainwright.training.loop import FitSettings, fit
from trainwright.training.model import ImageNetwork, build_network

CPU = torch.device("cpu")


def names_of_ends(network):
    """The names, within the network, of the parameters that Muon leaves to AdamW for where they stand."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    model = ImageNetwork(network, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return {names[id(parameter)] for parameter in model.ends()}


def test_every_part_of_muon_follows_the_schedule(make_batches, task, make_model):
    """Steps at lr 0 move nothing, neither hidden matrices nor what AdamW moves beside them; momentum moves in both."""
    model = make_model()
    spec = OptimizerSpec(name="muon", lr=0.1)
    optimizer = build_optimizer(model.learning_rates(0.5), spec, CPU, ends=model.ends())
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    settings = FitSettings(momentum=lambda progress: 0.25)

    list(fit(model, task, make_batches(2), optimizer, lambda p: 0.0, steps=2, device=CPU, settings=settings))

    assert {group["use_muon"] for group in optimizer.param_groups} == {True, False}
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert {(group["momentum"], group["betas"]) for group in optimizer.param_groups} == {(0.25, (0.25, 0.95))}


def test_the_ends_of_a_network_are_its_first_layer_and_its_head():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), nn.Flatten(), nn.Linear(4, 2)
    )

    assert names_of_ends(network) == {"0.weight", "0.bias", "3.weight", "3.bias"}


def test_behind_an_encoder_the_decoder_is_hidden_too():
    network = build_network(NetworkSpec(name="small-unet", width=8), form="map", outputs=2, size=(16, 16), seed=0)

    assert names_of_ends(network) == {"encoder.0.0.weight", "head.weight", "head.bias"}


class Named(nn.Module):
    """Parameters of which it names some, as timm's networks do."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.position, self.weight = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
        self._names = names

    def no_weight_decay(self) -> tuple[str, ...]:
        return self._names


def undecayed_names(network):
    model = ImageNetwork(network, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(parameter)] for parameter in model.undecayed()}


def test_what_a_network_or_a_part_of_it_names_is_not_decayed():
    """Names that nothing has are passed over: timm's name tables that a variant goes without."""
    assert undecayed_names(Named("position", "table")) == {"position"}
    assert undecayed_names(nn.Sequential(Named("*"), Named(), nn.Linear(2, 2))) == {"0.position", "0.weight"}
    assert undecayed_names(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Linear(4, 2))) == set()


def test_embeddings_of_a_transformer_are_ends_and_not_decayed():
    spec = NetworkSpec(name="vit_tiny_patch16_224")
    network = build_network(spec, form="vector", outputs=2, size=(224, 224), seed=0)

    assert undecayed_names(network) == {"cls_token", "pos_embed"}
    assert names_of_ends(network) == {
        "cls_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "head.weight",
        "head.bias",
    }
