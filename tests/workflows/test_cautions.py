"""What works otherwise than it sounds is told, what cannot work is refused before anything is written."""

import pytest
import torch

import trainwright as tw
from trainwright.errors import RecipeError, UsageError
from trainwright.workflows import run as workflow


@pytest.fixture
def notes(digits, recipe, listener):
    """(changes) → what a plan of the training with 102 train images notes beside what every one does."""

    def plan(changes):
        settled = workflow.plan(
            digits, recipe.changed(changes), options=tw.RunOptions(workers=0, device="cpu", reporter=listener)
        )
        return [
            note for note in listener.notes if not note.startswith(("precision", "train "))
        ], settled.prepared.recipe

    return plan


def test_a_usual_training_is_not_cautioned(notes):
    said, _ = notes({"schedule.name": "cosine", "schedule.warmup": 0.1})

    assert [note for note in said if "warm" in note or "effect" in note or "batch" in note] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 200}, "batch size 200: train has 102 images, and a step takes all of them"),
        ({"early_stop": 2}, "early_stop 2: without effect in 2 epochs"),
        (
            {"augment.mix": 0.5},
            "augment.mix 0.5: without effect, since augment.mixup and augment.cutmix are 0",
        ),
        (
            {"schedule.name": "reduce-on-plateau", "schedule.patience": 5},
            "schedule.patience 5: lr is never reduced in 2 epochs",
        ),
        # 12 steps; after 0.9 of them, rising from 0, there are two at the peak's side: the last is at (11/12 - 0.9) / 0.1
        (
            {"schedule.name": "constant", "schedule.warmup": 0.9},
            "schedule.warmup 0.9: of the 12 steps of this training it leaves few or none at the peak; lr gets to 100% of it, "
            "and is 51% of it on average",
        ),
        # two steps: lr 0, then (1/2) / 0.9 of the peak
        (
            {"schedule.name": "constant", "schedule.warmup": 0.9, "batch_size": 102},
            "schedule.warmup 0.9: of the 2 steps of this training it leaves few or none at the peak; lr gets to 56% of it, "
            "and is 28% of it on average",
        ),
    ],
    ids=str,
)
def test_what_is_without_its_usual_effect_is_told(notes, changes, said):
    assert said in notes(changes)[0]


def test_schedule_free_with_a_schedule_of_ones_own_is_told_what_it_is_meant_for(notes):
    said, recipe = notes({"optimizer.name": "schedule-free-adamw", "schedule.name": "cosine"})

    assert recipe.schedule.name == "cosine"
    assert any("is meant for schedule.name=constant" in note for note in said)


def test_a_single_step_has_no_warm_up(notes):
    said, recipe = notes({"schedule.warmup": 0.05, "batch_size": 102, "epochs": 1})

    assert recipe.schedule.warmup == 0
    assert "the training is a single step, at which a warm-up has lr 0: it is left out" in said


def own():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    return network.append(torch.nn.Linear(4, 3))


@pytest.mark.parametrize("lr", [None, 0.1])
@pytest.mark.parametrize("changes", [{}, {"optimizer.name": "muon"}, {"network.trainable": "head"}], ids=str)
def test_a_network_of_ones_own_that_is_frozen_is_refused_before_anything_is_written(train, tmp_path, lr, changes):
    with pytest.raises(UsageError, match=r"^model: none of the network's parameters learns: all are frozen"):
        train({"optimizer.lr": lr, **changes}, model=own().requires_grad_(False))

    assert list(tmp_path.iterdir()) == []


def test_as_many_stages_may_learn_as_the_network_has(notes):
    """small-resnet has a stem and three stages before its head."""
    assert notes({"network.trainable": "last-4"})[1].network.trainable == "last-4"


def test_more_stages_than_the_network_has_are_refused(notes):
    with pytest.raises(RecipeError, match=r"^network\.trainable: last-5: the network has 4 stages before its head\."):
        notes({"network.trainable": "last-5"})
