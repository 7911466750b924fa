"""What somebody sets is kept or refused, never overridden or passed over in silence."""

import pytest
import torch

import trainwright as tw
from trainwright.errors import RecipeError
from trainwright.workflows import lr as lr_workflow
from trainwright.workflows import run as workflow
from trainwright.workflows import settle as settling
from trainwright.workflows.ingredients import optimizer_of
from trainwright.workflows.range_test import lr_range_test
from trainwright.workflows.request import asked_for

OPTIONS = tw.RunOptions(workers=0, device="cpu")


@pytest.fixture
def planned(digits, recipe):
    """(changes, more arguments of `train`) → the recipe that would be trained, every value filled in."""

    def fill(changes, **more):
        return workflow.plan(digits, recipe.changed(changes), options=OPTIONS, **more).prepared.recipe

    return fill


# The momentum of one-cycle


def test_one_cycle_moves_momentum_as_published_where_nothing_is_said(planned):
    assert planned({"schedule.name": "one-cycle"}).schedule.momentum == (0.85, 0.95)


@pytest.mark.parametrize(
    "given", [{"optimizer.betas": [0.8, 0.99]}, {"optimizer.name": "sgd", "optimizer.momentum": 0.7}], ids=str
)
def test_one_cycle_leaves_a_momentum_alone_that_was_given(planned, given):
    filled = planned({"schedule.name": "one-cycle", **given})

    assert filled.schedule.momentum is None


def test_a_momentum_that_was_given_is_that_of_every_step(train):
    changes = {"schedule.name": "one-cycle", "optimizer.name": "sgd", "optimizer.momentum": 0.7, "epochs": 1}

    run = train({**changes, "network.dropout": 0.0})

    assert {record.get("momentum") for record in run._folder.records("steps")} == {None}


def test_both_given_the_schedules_is_the_one_that_moves(planned):
    given = {"optimizer.betas": [0.8, 0.99], "schedule.momentum": [0.6, 0.8]}

    assert planned({"schedule.name": "one-cycle", **given}).schedule.momentum == (0.6, 0.8)


@pytest.mark.parametrize("given", [{}, {"optimizer.betas": [0.8, 0.99]}], ids=str)
def test_a_recipe_that_is_filled_in_stays_as_it_is(planned, digits, given):
    """The betas are then numbers in every run's recipe, whoever gave them."""
    filled = planned({"schedule.name": "one-cycle", **given})

    assert workflow.plan(digits, filled, options=OPTIONS).prepared.recipe == filled


# The lower bound of a cycle


@pytest.mark.parametrize("name", lr_workflow.CYCLIC)
def test_a_lower_bound_that_was_given_stays_and_the_peak_is_found(planned, monkeypatch, lr_range_of, name):
    monkeypatch.setattr(settling, "range_of", lambda prepared, options: lr_range_of("found"))

    given = planned({"schedule.name": name, "schedule.low": 0.25, "optimizer.lr": None})
    open_ = planned({"schedule.name": name, "optimizer.lr": None})

    assert (given.optimizer.lr, given.schedule.low) == (2 * 0.013, 0.25)
    assert (open_.optimizer.lr, open_.schedule.low) == (2 * 0.013, pytest.approx(2e-4 / 0.026))


def test_the_range_test_by_itself_keeps_it_too(digits, recipe, monkeypatch, lr_range_of):
    monkeypatch.setattr(lr_workflow.lr_range, "lr_range_test", lambda *_, **__: lr_range_of("found"))
    changes = {"schedule.name": "triangular", "schedule.low": 0.25}

    test = lr_range_test(digits, recipe, changes=changes, options=OPTIONS)

    assert test.recipe.schedule.low == 0.25


# What would be without effect


def test_label_smoothing_beside_a_loss_without_it_is_refused_before_anything_is_written(train, tmp_path):
    with pytest.raises(
        RecipeError, match=r"^loss\.label_smoothing: focal has none: .*--set loss\.label_smoothing=0\.$"
    ):
        train({"loss.name": "focal", "loss.label_smoothing": 0.1})

    assert list(tmp_path.iterdir()) == []


def test_a_task_of_ones_own_starts_without_label_smoothing(digits, monkeypatch):
    data = tw.open_dataset(digits)
    monkeypatch.setattr(tw.Dataset, "task", property(lambda self: "mine"))

    _, asked, choice = asked_for(data, None, {}, own_network=True, target=None, options=OPTIONS)

    assert (choice.name, asked.loss.label_smoothing) == ("scratch-default", 0.0)


@pytest.mark.parametrize("changes", [{"network.trainable": "head"}, {}], ids=["only the head learns", "two layers"])
def test_muon_without_a_hidden_layer_is_refused_before_anything_is_written(train, tmp_path, changes):
    own = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    own.append(torch.nn.Linear(4, 3))

    with pytest.raises(RecipeError, match=r"^optimizer\.name: muon is for hidden layers, .* Set optimizer\.name=adamw"):
        train({"optimizer.name": "muon", **changes}, **({} if changes else {"model": own}))

    assert list(tmp_path.iterdir()) == []


def test_what_a_network_names_is_not_decayed_in_its_training(digits, recipe):
    own = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    own.append(torch.nn.Linear(4, 3))
    own.no_weight_decay = lambda: {"3.weight"}
    changes = {"optimizer.weight_decay": 0.5, "network.dropout": 0.0}

    prepared = workflow.plan(digits, recipe.changed(changes), model=own, options=OPTIONS).prepared

    groups = optimizer_of(prepared).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(own[0].weight)}
