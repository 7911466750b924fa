"""Spaces over a recipe's fields, from Python, from files, and by default."""

import pytest

from trainwright.errors import RecipeError
from trainwright.recipe import Recipe
from trainwright.recipes.published import get, names, page
from trainwright.search.default_space import default_space
from trainwright.search.domains import Choice, FloatRange, IntRange
from trainwright.search.recipe_space import REFUSED, difference, recipe_space
from trainwright.search.space import Dimension
from trainwright.search.space_file import is_whole, load_space, parse_space, space_tree, space_yaml
from trainwright.seeding import stream

RECIPE = Recipe()
FILE = """\
optimizer.name: {choices: [adamw, sgd]}
optimizer.lr:
- {low: 1e-4, high: 1e-2, log: true, when: {optimizer.name: adamw}, prior: {centre: 1e-3, width: 0.5}}
- {low: 1e-3, high: 1, log: true, when: {optimizer.name: sgd}, role: nuisance}
optimizer.momentum: {low: 0.5, high: 0.99, when: {optimizer.name: sgd}}
network.blocks: {low: 1, high: 4}
augment.crop_scale: {choices: [null, [0.35, 1.0]]}
schedule.warmup: {fixed: 0.05}
"""


def refused(tree, recipe=RECIPE):
    with pytest.raises(RecipeError) as caught:
        parse_space(tree, recipe)
    return str(caught.value)


def test_a_file_says_ranges_choices_conditions_roles_and_what_is_fixed(tmp_path):
    (tmp_path / "space.yaml").write_text(FILE)

    space = load_space(tmp_path / "space.yaml", RECIPE)

    assert space.fixed == {"schedule.warmup": 0.05}
    assert [type(one.domain) for one in space.dimensions] == [
        Choice,
        FloatRange,
        FloatRange,
        FloatRange,
        IntRange,
        Choice,
    ]
    assert [one.role for one in space.dimensions if one.key == "optimizer.lr"] == ["scientific", "nuisance"]
    assert space.completed({"optimizer.name": "sgd"})["optimizer.momentum"] == pytest.approx(0.745)


def test_a_space_is_written_and_read_back_equal(tmp_path):
    (tmp_path / "space.yaml").write_text(FILE)
    space = load_space(tmp_path / "space.yaml", RECIPE)
    (tmp_path / "again.yaml").write_text(space_yaml(space))

    assert load_space(tmp_path / "again.yaml", RECIPE) == space
    assert space_tree(load_space(tmp_path / "again.yaml", RECIPE)) == space_tree(space)


def test_every_proposal_is_a_recipe(tmp_path):
    (tmp_path / "space.yaml").write_text(FILE)
    space = load_space(tmp_path / "space.yaml", RECIPE)

    recipes = [RECIPE.changed(space.sample(stream(0, i))) for i in range(20)]

    assert {recipe.optimizer.name for recipe in recipes} == {"adamw", "sgd"}
    assert {recipe.schedule.warmup for recipe in recipes} == {0.05}


def test_the_default_is_what_the_recipe_says():
    space = parse_space(
        {"optimizer.lr": {"low": 1e-5, "high": 1e-1, "log": True}}, RECIPE.changed({"optimizer.lr": 0.02})
    )

    assert space.completed({}) == {"optimizer.lr": 0.02}


def test_an_unknown_key_is_answered_with_the_nearest():
    said = refused({"optimizer.weight_deca": {"low": 0, "high": 1}})

    assert said.startswith(
        "space: optimizer.weight_deca: no such key. Did you mean 'optimizer.weight_decay'? Known keys: title,"
    )


def test_a_section_is_no_key():
    assert refused({"augment": {"choices": [1, 2]}}).startswith("space: augment is a section: set one of augment.flip,")


def test_batch_size_is_refused_with_the_reason_and_where_to_read_about_it():
    assert refused({"batch_size": {"low": 16, "high": 512, "log": True}}) == (
        "space: batch_size is not searched: it decides how fast a training is, not how good it can get: with learning rate and "
        "regularization tuned for it, any size reaches the same. Set it once, for throughput (batch_size: auto), and search lr "
        'and regularization with it: https://github.com/google-research/tuning_playbook, "Choosing the batch size".'
    )


def test_epochs_are_refused_with_the_reason_and_where_to_read_about_it():
    assert refused({"epochs": {"low": 5, "high": 50}}) == (
        "space: epochs is not searched: more of them nearly always score higher, so the search would spend its budget on length. "
        "Set them from the time a training may take; a search compares trainings of the same length: "
        'https://github.com/google-research/tuning_playbook, "Determining the number of steps for each training run".'
    )


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_not_searched_for_quality_is_refused(key):
    dimension = Dimension(key=key, domain=Choice(values=(1, 2)))

    with pytest.raises(RecipeError, match=f"{key} is not searched: "):
        recipe_space([dimension], RECIPE)


def test_what_is_not_searched_may_be_fixed():
    space = parse_space({"batch_size": {"fixed": 128}, "optimizer.lr": {"low": 0.1, "high": 1}}, RECIPE)

    assert space.sample(stream(0))["batch_size"] == 128


def test_an_end_of_a_range_that_no_recipe_has_is_refused_when_the_space_is_defined():
    assert refused({"network.dropout": {"low": 0, "high": 1}}) == (
        "space: network.dropout: Input should be less than 1, got 1.0."
    )


def test_two_values_that_never_go_together_are_refused_when_the_space_is_defined():
    padded = RECIPE.changed({"augment.crop_padding": 0.125})

    said = refused({"augment.crop_scale": {"choices": [[0.3, 1.0], [0.5, 1.0]]}}, padded)

    assert said.startswith("space: augment: crop_scale and crop_padding are two kinds of random crop")


def test_values_that_only_sometimes_go_together_are_left_out_when_they_are_drawn():
    space = parse_space(
        {
            "augment.crop_scale": {"choices": [None, [0.5, 1.0]]},
            "augment.crop_padding": {"choices": [0.0, 0.125]},
        },
        RECIPE,
    )

    drawn = [space.sample(stream(0, i)) for i in range(60)]

    assert {(one["augment.crop_scale"] is None, one["augment.crop_padding"]) for one in drawn} == {
        (True, 0.0),
        (True, 0.125),
        (False, 0.0),
    }
    assert len(list(space.grid(2))) == 3


def test_a_condition_on_what_the_recipe_never_is_is_refused():
    assert refused({"optimizer.momentum": {"low": 0.5, "high": 0.99, "when": {"optimizer.name": "sgd"}}}) == (
        "space: optimizer.momentum: never searched: optimizer.name is 'adamw' here, not 'sgd'. Leave it out, or search "
        "optimizer.name."
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            0.1,
            "space: optimizer.lr: expected low and high, choices or fixed, got '0.1'; for one value write {fixed: …}.",
        ),
        ({"low": 0.1}, "space: optimizer.lr: expected low and high, or choices, or fixed."),
        ({"choices": [0.1, 1], "log": True}, "space: optimizer.lr: choices have no low, high or log."),
        (
            {"low": 0.1, "hihg": 1},
            "space: optimizer.lr.hihg: no such key. Did you mean 'high'? Known keys: low, high, log, choices, fixed, prior, "
            "role, when, points.",
        ),
        (
            {"fixed": 0.1, "log": True},
            "space: optimizer.lr: fixed is one value for all trainings, and goes with nothing else, got log beside it.",
        ),
        (
            {"low": 0.1, "high": 1, "role": "important"},
            "space: optimizer.lr.role: Input should be 'scientific' or 'nuisance', got 'important'.",
        ),
    ],
)
def test_an_entry_that_is_wrong_says_how(entry, message):
    assert refused({"optimizer.lr": entry}) == message


def test_what_is_wrong_is_said_all_at_once():
    said = refused({"optimizer.lr": {"low": 0.1}, "augment.flip": {"choices": [1]}})

    assert said == (
        "space: optimizer.lr: expected low and high, or choices, or fixed. "
        "augment.flip: expected two or more different choices, got [1]."
    )


def test_a_range_is_of_whole_numbers_where_the_field_is():
    assert [is_whole(key) for key in ("network.blocks", "schedule.patience", "augment.mixup", "optimizer.lr")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_changes_from_one_recipe_to_another_make_it():
    other = RECIPE.changed({"optimizer.lr": 0.5, "augment.crop_scale": [0.3, 1.0]})

    assert difference(RECIPE, other) == {"optimizer.lr": 0.5, "augment.crop_scale": [0.3, 1.0]}


# By default


@pytest.mark.parametrize("trainings", [1, 5, 20, 50, 200])
@pytest.mark.parametrize("name", names())
def test_a_published_recipe_has_a_default_space_whatever_the_budget(name, trainings):
    for task in page(name).tasks:
        space = default_space(get(name), task, trainings=trainings)

        assert parse_space(space_tree(space), get(name)) == space
        assert get(name).changed(space.sample(stream(0), prior=True))


def test_a_larger_budget_looks_through_more_dimensions():
    recipe = get("scratch-default")

    counts = [len(default_space(recipe, "classification", trainings=n).dimensions) for n in (1, 5, 15, 40, 100)]

    assert counts == [1, 3, 5, 7, 12]


def test_few_trainings_are_spent_on_lr_then_decay_and_augmentation():
    space = default_space(get("scratch-default"), "classification", trainings=5)

    assert space.names == ("optimizer.lr", "optimizer.weight_decay", "augment.trivial_augment")


@pytest.mark.parametrize(("highest", "end"), [(0.003, 0.003), (0.0011, 0.002), (5.0, 0.01)])
def test_the_learning_rate_is_not_looked_for_where_the_range_test_saw_no_step_help(highest, end):
    recipe = get("scratch-default").changed({"optimizer.lr": 0.001})

    space = default_space(recipe, "classification", trainings=5, lr_falls=(1e-5, highest))

    lr = next(one.domain for one in space.dimensions if one.key == "optimizer.lr")
    assert (lr.low, lr.high, lr.prior.centre) == (0.0001, end, 0.001)


def test_the_published_value_is_the_centre_of_the_default_space():
    space = default_space(get("scratch-default"), "classification", trainings=5)

    assert space.completed({}) == {
        "optimizer.lr": 0.001,
        "optimizer.weight_decay": 0.05,
        "augment.trivial_augment": 0.0,
    }
    assert space.to_cube({})[0] == pytest.approx(0.5)


def test_many_trainings_try_another_optimizer_with_an_lr_of_its_own():
    space = default_space(get("scratch-default"), "classification", trainings=100)

    assert "optimizer.lr[optimizer.name=adamw]" in space.names
    assert "optimizer.lr[optimizer.name=sgd]" in space.names


def test_another_optimizer_is_searched_around_its_own_weight_decay():
    space = default_space(get("scratch-default"), "classification", trainings=100)

    decays = {name: one.domain for name, one in zip(space.names, space.dimensions, strict=True) if "decay" in name}

    # AdamW's 0.05 shrinks the weights; SGD adds its 0.0001 to the gradient (optim/published_decay.py).
    assert decays["optimizer.weight_decay[optimizer.name=adamw]"].prior.centre == 0.05
    assert decays["optimizer.weight_decay[optimizer.name=sgd]"].prior.centre == 1e-4
    assert decays["optimizer.weight_decay[optimizer.name=sgd]"].high == 1e-3
