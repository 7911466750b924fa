"""Every schedule in a run, from its name alone; stopped and resumed it ends in the very same weights."""

import pytest

import trainwright as tw
from trainwright import plugins
from trainwright.errors import RecipeError
from trainwright.recipe import Recipe

# Weights move by a millionth a step and nothing else of the network does, so that no val score ever changes.
PLATEAU = {
    "schedule.name": "reduce-on-plateau",
    "schedule.patience": 1,
    "schedule.decay": 0.5,
    "optimizer.lr": 1e-6,
    "network.norm": "group",
    "epochs": 4,
}


def lrs(run):
    """Of every step."""
    return [lr for record in run._folder.records("steps") for lr in record["lr"]]


def finished(run, polls, count):
    """Resume with a stop after `count` polls again and again until it is done."""
    for _ in range(100):
        if run.finished:
            break
        run = tw.resume(run, mirrors=(), stop_asked=polls(count))
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", plugins.schedules.names())
def test_a_schedule_trains_from_its_name_alone(train, name):
    run = train({"schedule.name": name})

    assert run.recipe.schedule.name == name
    assert len(lrs(run)) == 12
    assert 0.5 < max(lrs(run)) / run.recipe.optimizer.lr <= 1


def test_lr_falls_on_a_plateau_of_the_val_score(train):
    """The first epoch's score is the best; each one after it is no better."""
    run = train(PLATEAU)

    by_epoch = [lrs(run)[start : start + 6] for start in range(0, 24, 6)]

    assert len({epoch["val"]["score"] for epoch in run.epochs}) == 1
    assert by_epoch == [[lr] * 6 for lr in (1e-6, 1e-6, 0.5e-6, 0.25e-6)]


def test_a_run_with_a_memory_of_its_scores_goes_on_bit_for_bit(train, polls):
    """Stopped after every seventh step: in each epoch, before and after lr has fallen."""
    changes = {**PLATEAU, "schedule.warmup": 0.1}
    untouched = train(changes)

    resumed = finished(train(changes, stop_asked=polls(7)), polls, 7)

    assert resumed.result["weights_sha256"] == untouched.result["weights_sha256"]
    assert lrs(resumed) == lrs(untouched)
    assert lrs(untouched)[-1] == 0.25e-6


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_one_cycle_run_goes_on_bit_for_bit(train, polls, optimizer):
    changes = {"schedule.name": "one-cycle", "optimizer.name": optimizer}
    untouched = train(changes)

    resumed = finished(train(changes, stop_asked=polls(5)), polls, 5)

    momenta = [
        [value for record in run._folder.records("steps") for value in record["momentum"]]
        for run in (resumed, untouched)
    ]
    assert resumed.result["weights_sha256"] == untouched.result["weights_sha256"]
    assert momenta[0] == momenta[1]
    assert len(momenta[0]) == 12


def test_the_recipe_of_a_run_shows_the_constants_that_act(train, polls):
    run = train({"schedule.name": "triangular"}, stop_asked=polls(1))

    acting = run.recipe.schedule
    assert (acting.low, acting.cycles, acting.final, acting.momentum) == (0.25, 4, None, None)


def test_constants_that_contradict_each_other_are_refused_before_the_data_is_looked_at(tmp_path):
    recipe = Recipe().changed({"schedule.name": "step", "schedule.milestones": [0.75, 0.5]})

    with pytest.raises(RecipeError, match=r"^schedule\.milestones: \[0\.75, 0\.5\] are not parts of the training"):
        tw.train(tmp_path / "nowhere", recipe, runs=tmp_path / "runs", mirrors=())

    assert not (tmp_path / "runs").exists()
