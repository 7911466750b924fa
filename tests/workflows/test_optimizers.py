"""Optimizers with a state of their own kind in whole runs: what they refuse, what is judged and kept, stops in the middle."""

import pytest
import torch

import trainwright as tw
from trainwright.errors import RecipeError
from trainwright.training.checkpoint import load_newest, load_tensors

TRAIN_IMAGES = 102  # of the 150 digits, with a fifth and then 15 % left out


@pytest.mark.parametrize("name", ["lamb", "lion", "muon", "nadam", "rprop", "schedule-free-adamw"])
def test_a_run_that_is_stopped_in_the_middle_ends_in_the_same_weights(train, polls, name):
    changes = {"optimizer.name": name, "schedule.name": "cosine", "schedule.warmup": 0.1, "epochs": 1}
    changes |= {"batch_size": TRAIN_IMAGES, "accumulate": 4, "epochs": 4} if name == "rprop" else {}
    untouched, stopped = train(changes), train(changes, stop_asked=polls(3))
    ended_before = stopped.finished

    resumed = tw.resume(stopped, mirrors=())

    assert not ended_before
    for key in ("weights_sha256", "score", "loss", "gap"):
        assert resumed.result[key] == untouched.result[key]


@pytest.mark.parametrize("keep", ["last", "best"])
def test_of_a_schedule_free_training_the_average_is_judged_and_kept(train, keep):
    run = train({"optimizer.name": "schedule-free-adamw", "keep": keep, "epochs": 1, "network.width": 8})

    kept = load_tensors(run.folder / "checkpoints" / "model.safetensors", run.result["weights_sha256"])
    state = load_newest(run.folder / "checkpoints").tensors
    averages = [tensor for name, tensor in state.items() if name.startswith("optimizer.") and name.endswith(".x")]
    weights = {name: tensor for name, tensor in kept.items() if f"model.{name}" in state and tensor.ndim > 1}
    matrices = [tensor for tensor in weights.values() if any(torch.equal(tensor, average) for average in averages)]
    assert len(matrices) == sum(average.ndim > 1 for average in averages) > 5
    assert run.result["score"]["val"] == run.epochs[-1]["val"]["score"]


def test_a_module_of_ones_own_ends_up_with_the_average(train):
    own = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    own.append(torch.nn.Linear(4, 3))

    run = train({"optimizer.name": "schedule-free-adamw", "epochs": 1}, model=own)

    kept = load_tensors(run.folder / "checkpoints" / "model.safetensors", run.result["weights_sha256"])
    assert torch.equal(own[3].weight, kept["network.3.weight"])


def test_rprop_is_refused_before_anything_is_trained(train, tmp_path):
    with pytest.raises(RecipeError, match=r"optimizer\.name: rprop's steps are valid only where each is taken on all"):
        train({"optimizer.name": "rprop"})

    assert not list(tmp_path.glob("runs/*/result.json"))


def test_two_averages_are_refused(train):
    with pytest.raises(RecipeError, match="ema_decay: schedule-free-adamw evaluates an average of its own"):
        train({"optimizer.name": "schedule-free-adamw", "ema_decay": 0.9})


def test_the_runs_recipe_says_which_published_constants_were_used(train):
    run = train({"optimizer.name": "muon", "epochs": 1})

    optimizer = run.result["recipe"]["optimizer"]
    assert (optimizer["momentum"], optimizer["nesterov"], optimizer["betas"]) == (0.95, True, [0.9, 0.95])
