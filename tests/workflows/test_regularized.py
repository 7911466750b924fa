"""Runs with what acts in train mode alone: resumed bit for bit, predicted from, and with norms that are not batch norm."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import trainwright as tw
from trainwright.errors import RecipeError
from trainwright.workflows import request
from trainwright.workflows.options import RunOptions

INSIDE = {"network.block_dropout": 0.2, "network.drop_path": 0.4, "network.blocks": 2}


class Normed(nn.Module):
    """A user's network with batch norm, the same each time it is made."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
            self.head = nn.Linear(8, 3)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images_NCHW).mean(dim=(2, 3)))


def weights(run):
    return load_file(run.folder / "checkpoints" / "model.safetensors")


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def learned(trained):
    """What makes a run start from the model of `trained`, with its statistics as they are."""
    return {"network.weights": str(trained.folder / "checkpoints" / "model.safetensors"), "network.norm": "frozen"}


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_what_is_left_out_of_blocks_hangs_on_the_step_alone(train, polls, norm):
    changes = {**INSIDE, "network.norm": norm}
    untouched = train(changes)
    stopped = train(changes, stop_asked=polls(4))

    resumed = tw.resume(stopped, mirrors=())

    assert same(weights(resumed), weights(untouched))


def test_it_makes_another_training(train):
    assert not same(weights(train({**INSIDE, "epochs": 1})), weights(train({"network.blocks": 2, "epochs": 1})))


@pytest.mark.slow
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_frozen_statistics_are_those_of_the_start_after_a_resume_too(train, polls, learned, ema_decay):
    untouched = train({**learned, "ema_decay": ema_decay})
    stopped = train({**learned, "ema_decay": ema_decay}, stop_asked=polls(4))

    resumed = tw.resume(stopped, mirrors=())

    start, end = load_file(learned["network.weights"]), weights(resumed)
    assert same(end, weights(untouched))
    assert [name for name in start if "running_" in name and not torch.equal(start[name], end[name])] == []
    assert not torch.equal(start["network.stem.1.weight"], end["network.stem.1.weight"])


@pytest.mark.parametrize(
    "changes", [INSIDE, {"network.norm": "group", "network.name": "test_resnet"}], ids=["in", "out"]
)
def test_a_run_is_predicted_from(train, digits, changes):
    run = train({**changes, "epochs": 1})

    image = next(digits.rglob("*.png"))
    first, again = (tw.predict(run, image)[0]["probabilities"] for _ in range(2))

    assert first == again
    assert sum(first.values()) == pytest.approx(1)


def test_a_run_from_frozen_statistics_is_predicted_from(train, digits, learned):
    run = train({**learned, "epochs": 1})

    (answer,) = tw.predict(run, next(digits.rglob("*.png")))

    assert sum(answer["probabilities"].values()) == pytest.approx(1)


@pytest.mark.slow
def test_a_users_network_with_group_norm_is_resumed_and_predicted_from(train, polls, digits):
    changes = {"network.norm": "group"}
    untouched, stopped = train(changes, model=Normed()), train(changes, model=Normed(), stop_asked=polls(4))

    resumed = tw.resume(stopped, model=Normed(), mirrors=())
    (answer,) = tw.predict(resumed, next(digits.rglob("*.png")), model=Normed())

    assert same(weights(resumed), weights(untouched))
    assert not [name for name in weights(resumed) if "running_" in name]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_dropout_that_a_users_network_has_no_place_for_is_refused_before_anything_is_written(train, tmp_path):
    with pytest.raises(RecipeError, match=r"^network\.drop_path: nothing can be put inside of a network of your own"):
        train({"network.drop_path": 0.1}, model=Normed())

    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("own_network", "dropout"), [(False, 0.3), (True, 0.0), (True, 0.1)])
def test_a_default_recipe_asks_for_nothing_inside_of_a_users_network(digits, monkeypatch, own_network, dropout):
    """Unless the user does, who is then told why not."""
    choice = SimpleNamespace(name="regression-default", reasons=())  # which has dropout of 0.3
    monkeypatch.setattr(request, "choose_recipe", lambda *arguments, **more: choice)
    wanted = {"network.dropout": dropout} if dropout == 0.1 else {}

    _, recipe, _ = request.asked_for(digits, None, wanted, own_network=own_network, target=None, options=RunOptions())

    assert recipe.network.dropout == dropout
