"""What belongs to an optimizer, a schedule or a loss goes with its name; what was given with the new name stays."""

import json
from types import SimpleNamespace

import pytest

import trainwright as tw
from trainwright.errors import RecipeError, UnknownNameError, UsageError
from trainwright.optim import losses as loss_constants
from trainwright.optim import schedules as schedule_constants
from trainwright.optim.optimizers import PUBLISHED
from trainwright.optim.published_decay import KINDS, LION_FACTOR, decay_for
from trainwright.plugins import losses, optimizers, schedules
from trainwright.recipe import LossSpec, OptimizerSpec, ScheduleSpec
from trainwright.workflows import run as workflow
from trainwright.workflows import settle as settling
from trainwright.workflows.changes import changed
from trainwright.workflows.choose import facts_of
from trainwright.workflows.range_test import lr_range_test

OPTIONS = tw.RunOptions(workers=0, device="cpu")
SCRATCH = tw.recipes.get("scratch-default")
SMALL = {"network.width": 8, "data.image_size": 16, "batch_size": 16, "epochs": 2, "precision": "fp32"}


# Another optimizer


def test_another_optimizer_has_its_rate_found_anew_and_its_own_weight_decay():
    found = changed(SCRATCH, {"optimizer.name": "sgd"})

    assert (found.recipe.optimizer.lr, found.recipe.optimizer.weight_decay) == (None, 1e-4)
    assert found.notes == (
        "optimizer sgd instead of adamw: the learning rate is found anew; weight decay 0.0001 instead of 0.05 "
        "(He et al., arXiv:1512.03385 §3.4, where it is added to the gradient)",
    )


def test_what_is_given_with_the_optimizer_stays():
    given = {"optimizer.name": "sgd", "optimizer.lr": 0.1, "optimizer.weight_decay": 0.05, "optimizer.momentum": 0.5}

    assert changed(SCRATCH, given) == changed(SCRATCH.changed(given), {})


def test_the_same_optimizer_named_once_more_changes_nothing():
    assert changed(SCRATCH, {"optimizer.name": "adamw"}) == changed(SCRATCH, {})


def test_a_recipe_in_which_nothing_is_changed_is_taken_as_it_is():
    recipe = SCRATCH.changed({"optimizer.name": "sgd"})

    assert (changed(recipe, {}).recipe, changed(recipe, {}).notes) == (recipe, ())


def test_rprop_begins_with_its_published_first_step():
    optimizer = changed(SCRATCH, {"optimizer.name": "rprop"}).recipe.optimizer

    assert (optimizer.lr, optimizer.weight_decay) == (0.01, 0.0)


def test_constants_of_the_old_optimizer_are_left_out_and_told_where_somebody_chose_them():
    start = SCRATCH.changed({"optimizer.betas": [0.8, 0.9], "optimizer.eps": 1e-8})

    found = changed(start, {"optimizer.name": "lion", "optimizer.lr": 1e-4})

    assert (found.recipe.optimizer.betas, found.recipe.optimizer.eps) == (None, None)
    assert found.notes[0].endswith("; without adamw's betas [0.8, 0.9]")


def test_a_constant_that_the_old_optimizer_had_no_use_for_is_meant_for_the_new_one():
    start = SCRATCH.changed({"optimizer.momentum": 0.7})

    assert changed(start, {"optimizer.name": "sgd"}).recipe.optimizer.momentum == 0.7


def test_schedule_free_averages_instead_of_the_recipes_schedule_and_average():
    start = SCRATCH.changed({"ema_decay": 0.98, "schedule.final": 0.1})

    found = changed(start, {"optimizer.name": "schedule-free-adamw"})

    schedule = found.recipe.schedule
    assert (schedule.name, schedule.warmup, schedule.final, found.recipe.ema_decay) == ("constant", 0.05, None, None)
    assert any("schedule constant instead of cosine behind its warm-up" in note for note in found.notes)
    assert "ema_decay 0.98 of the recipe is left out: schedule-free-adamw averages the weights itself" in found.notes


def test_a_schedule_given_with_schedule_free_stays():
    found = changed(SCRATCH, {"optimizer.name": "schedule-free-adamw", "schedule.name": "cosine"})

    assert found.recipe.schedule == SCRATCH.schedule


@pytest.mark.parametrize(
    ("name", "before", "decay"),
    [
        ("sgd", "adamw", 1e-4),
        ("sgd", "adam", 0.05),  # both add it: the same penalty
        ("nadamw", "adamw", 0.05),
        ("muon", "sgd", 0.05),
        ("lamb", "adamw", 0.02),
        ("lion", "adamw", LION_FACTOR * 0.05),
        ("lion", "sgd", LION_FACTOR * 0.05),
        ("adamw", "lion", 0.05),
        ("rprop", "adamw", 0.0),
        ("mine", "adamw", 0.05),
    ],
)
def test_the_weight_decay_of_the_new_optimizer(name, before, decay):
    assert decay_for(name, before=OptimizerSpec(name=before, weight_decay=0.05))[0] == pytest.approx(decay)


@pytest.mark.parametrize("name", PUBLISHED)
def test_no_weight_decay_stays_none(name):
    assert decay_for(name, before=OptimizerSpec(name="adamw", weight_decay=0.0))[0] == 0


def test_of_every_optimizer_it_is_known_how_it_decays():
    ours = {name for name in optimizers.names() if optimizers.get(name).__module__.startswith("trainwright.")}

    assert set(KINDS) == ours


@pytest.fixture
def found(monkeypatch, lr_range_of):
    """Every range test finds 0.013. What was tested, in order."""
    tested = []
    answer = lr_range_of("found")
    monkeypatch.setattr(
        settling, "range_of", lambda prepared, **_: (tested.append(prepared.recipe.optimizer.name), answer)[1]
    )
    return tested


@pytest.mark.parametrize("recipe", [None, "scratch-default", SCRATCH], ids=["chosen", "named", "given"])
def test_a_training_with_another_optimizer_is_planned_with_the_rate_that_was_found(digits, found, listener, recipe):
    changes = {**SMALL, "optimizer.name": "sgd"}
    options = tw.RunOptions(workers=0, device="cpu", reporter=listener)

    planned = workflow.plan(digits, recipe, changes=changes, options=options).prepared.recipe

    assert (planned.optimizer.lr, planned.optimizer.weight_decay, found) == (0.013, 1e-4, ["sgd"])
    assert any(note.startswith("optimizer sgd instead of adamw: ") for note in listener.notes)


def test_a_file_with_another_optimizer_on_top_is_the_same_case(digits, found, tmp_path):
    (tmp_path / "mine.yaml").write_text(SCRATCH.changed(SMALL).to_yaml())

    plans = [
        workflow.plan(digits, file, changes={"optimizer.name": "sgd"}, options=OPTIONS)
        for file in (tmp_path / "mine.yaml", str(tmp_path / "mine.yaml"))
    ]

    assert [planned.prepared.recipe.optimizer.lr for planned in plans] == [0.013, 0.013]
    assert [planned.asked["recipe"] for planned in plans] == [str(tmp_path / "mine.yaml")] * 2


def test_the_range_test_by_itself_tests_what_a_training_would_train(digits, monkeypatch, lr_range_of):
    monkeypatch.setattr("trainwright.workflows.range_test.range_of", lambda *_, **__: lr_range_of("found"))

    test = lr_range_test(digits, SCRATCH, changes={**SMALL, "optimizer.name": "sgd"}, options=OPTIONS)

    assert (test.recipe.optimizer.name, test.recipe.optimizer.weight_decay) == ("sgd", 1e-4)


# Another schedule


def test_constants_of_the_old_schedule_are_left_out():
    start = tw.recipes.get("scratch-wide-resnet").changed({"schedule.warmup": 0.1})

    found = changed(start, {"schedule.name": "reduce-on-plateau"})

    assert found.recipe.schedule == ScheduleSpec(name="reduce-on-plateau", warmup=0.1)
    assert found.notes == (
        "schedule reduce-on-plateau instead of step: without step's decay 0.2, milestones [0.3, 0.6, 0.8]",
    )


def test_an_end_at_0_does_not_keep_from_a_schedule_that_never_gets_there(cli_check):
    """Every recipe that a run has filled in says `final: 0`."""
    start = SCRATCH.changed({"schedule.final": 0.0})

    cli_check(start, {"schedule.name": "exponential"})

    assert changed(start, {"schedule.name": "exponential"}).recipe.schedule.final is None


@pytest.fixture
def cli_check(digits):
    """What the command line checks before torch is imported."""
    from trainwright.cli.training import check_early

    return lambda recipe, changes: check_early(recipe, changes, digits, offline=True)


def test_a_constant_that_the_named_one_does_not_have_is_told_to_be_without_effect():
    given = {"optimizer.momentum": 0.9, "schedule.milestones": [0.5], "loss.name": "cross-entropy", "loss.gamma": 1.0}

    assert changed(SCRATCH, given).notes == (
        "optimizer.momentum: adamw has none, so it is without effect",
        "schedule.milestones: cosine has none, so it is without effect",
        "loss.gamma: cross-entropy has none, so it is without effect",
    )


# What is said to be used is used: a spec that takes down what is asked of it


def asked_of(spec, use):
    asked = set()

    class Asked:
        def __getattr__(self, name):
            asked.add(name)
            return getattr(spec, name)

    use(Asked())
    return asked - {"name", "warmup"}


def run_through(build):
    def use(spec):
        schedule = build(spec)
        for step in range(100):
            schedule(step / 100)

    return use


@pytest.mark.parametrize("name", schedules.names())
def test_the_constants_of_a_schedule_are_those_that_it_asks_for(name):
    momentum = {"momentum"} if name == "one-cycle" else set()  # for the optimizer: `momentum_of`

    asked = asked_of(ScheduleSpec(name=name), run_through(schedules.get(name)))

    assert asked | momentum == set(schedule_constants.CONSTANTS[name])


def test_every_loss_says_its_constants():
    ours = {name for name in losses.names() if losses.get(name).__module__.startswith("trainwright.")}

    assert set(loss_constants.CONSTANTS) == ours


@pytest.mark.parametrize("name", loss_constants.CONSTANTS)
def test_the_constants_of_a_loss_are_those_that_it_alone_asks_for(name):
    spec = SimpleNamespace(**LossSpec(name=name).model_dump())
    closures = {}

    asked = asked_of(spec, lambda asking: closures.update(made=losses.get(name)(asking)))
    closed = "".join(closures["made"].__code__.co_names) + " ".join(closures["made"].__code__.co_freevars)
    used = {key for key in ("gamma", "delta", "dice_weight", "tversky") if key in asked or key in closed}

    assert used == set(loss_constants.CONSTANTS[name])


# Another loss


def test_another_loss_leaves_out_what_of_the_recipe_it_has_no_place_for(digits, listener):
    options = tw.RunOptions(workers=0, device="cpu", reporter=listener)

    planned = workflow.plan(digits, changes={**SMALL, "loss.name": "focal"}, options=options).prepared.recipe

    assert planned.loss == LossSpec(name="focal")
    assert (
        "loss.label_smoothing 0.1 of the recipe is left out: focal has none: it is defined for targets of 0 and 1."
        in listener.notes
    )


def test_what_was_given_with_the_loss_is_refused_by_it(digits):
    changes = {**SMALL, "loss.name": "focal", "loss.label_smoothing": 0.1}

    with pytest.raises(RecipeError, match=r"^loss\.label_smoothing: focal has none"):
        workflow.plan(digits, changes=changes, options=OPTIONS)


def test_balanced_class_weights_stay_with_a_loss_that_has_a_place_for_them():
    start = SCRATCH.changed({"loss.class_weights": "balanced"})

    with_place, without = (changed(start, {"loss.name": name}).recipe.loss for name in ("focal", "dice"))

    assert (with_place.class_weights, without.class_weights, without.label_smoothing) == ("balanced", None, 0.0)


def test_a_loss_that_does_not_exist_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'focal'"):
        changed(SCRATCH, {"loss.name": "focla"})


# What was asked


def test_a_plan_keeps_what_was_asked(digits):
    asked = {"optimizer.lr": 0.01, "optimizer.betas": (0.8, 0.9)}

    named, given = (
        workflow.plan(digits, recipe, changes=SMALL | asked, seed=3, options=OPTIONS).asked
        for recipe in ("story", tw.Recipe().changed({"epochs": 3}))
    )

    changes = {**SMALL, "optimizer.lr": 0.01, "optimizer.betas": [0.8, 0.9], "seed": 3}
    assert named == {"recipe": "story", "changes": changes}
    assert given == {"recipe": {"epochs": 3}, "changes": changes}


def test_the_manifest_of_a_run_has_it(trained, recipe):
    asked = json.loads((trained.folder / "manifest.json").read_text())["asked"]

    assert tw.Recipe().model_validate(asked["recipe"]) == recipe
    assert asked["changes"] == {}


@pytest.mark.parametrize(("key", "value"), [("seed", 1), ("batch_size", 8)])
def test_one_value_given_twice_is_refused(digits, key, value):
    with pytest.raises(UsageError, match=f"^{key}: {key} is given twice: {value}, and 2 among the changes"):
        tw.train(digits, changes={key: 2}, **{key: value})


@pytest.mark.parametrize("verb", [tw.improve, tw.tune])
def test_two_seeds_of_a_study_are_refused(digits, verb):
    with pytest.raises(UsageError, match=r"^seed: seed is given twice: 1, and 2 among the changes"):
        verb(digits, seed=1, changes={"seed": 2})


def test_the_facts_of_a_folder_are_what_a_recipe_is_chosen_by(digits):
    assert tw.facts_of is facts_of

    chosen = tw.recipes.choose(tw.facts_of(digits, device="cpu"))

    assert chosen.reasons[0] == "classification: 150 images of 16×16 pixels, on cpu"
