"""Every published recipe is whole, and says of each of its values where it comes from."""

import pytest

from trainwright import plugins, recipes
from trainwright.errors import UnknownNameError
from trainwright.optim.losses import build_loss
from trainwright.recipe import Recipe, load_recipe, recipe_keys
from trainwright.recipes.published import DEFAULT, FOLDER, OF_TASK
from trainwright.workflows.early import check_names
from trainwright.yaml_text import load_yaml

NAMES = recipes.names()


def values_set(tree, prefix=""):
    """The dotted keys that a recipe's file gives a value."""
    keys = []
    for key, value in tree.items():
        keys += values_set(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def test_the_recipes_that_the_commands_name_are_there():
    assert {DEFAULT, *OF_TASK.values(), "finetune-default", "story"} <= set(NAMES)


def test_each_task_of_its_own_default_exists():
    for task in OF_TASK:
        plugins.tasks.check(task)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_whole_and_its_page_says_what_it_is_for(name):
    recipe = recipes.get(name)

    assert isinstance(recipe, Recipe)
    assert recipe.title


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_a_recipe_and_its_sources_and_nothing_else(name):
    assert set(load_yaml(FOLDER / f"{name}.yaml")) == {"recipe", "sources"}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_is_set_has_a_source_of_its_own_or_of_its_section(name):
    sources = recipes.sources(name)
    keys = values_set(load_yaml(FOLDER / f"{name}.yaml")["recipe"])

    assert [key for key in keys if key != "title" and not {key, key.split(".")[0]} & set(sources)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_of_something_that_the_recipe_sets(name):
    keys = values_set(load_yaml(FOLDER / f"{name}.yaml")["recipe"])

    for key, source in recipes.sources(name).items():
        assert key in recipe_keys()
        assert any(set_key == key or set_key.startswith(f"{key}.") for set_key in keys), key
        assert source.strip()


@pytest.mark.parametrize("name", NAMES)
def test_every_name_in_a_recipe_is_known(name):
    recipe = recipes.get(name)

    check_names(recipe)
    plugins.optimizers.get(recipe.optimizer.name)
    plugins.schedules.get(recipe.schedule.name)


@pytest.mark.parametrize("name", NAMES)
def test_network_and_loss_go_with_the_task_that_a_recipe_is_for(name):
    recipe = recipes.get(name)
    task = plugins.tasks.get(next((task for task, default in OF_TASK.items() if default == name), "classification"))

    build_loss(recipe.loss, task.losses)
    ours = recipe.network.name in plugins.networks.names()
    assert (plugins.networks.get(recipe.network.name).form if ours else "vector") == task.form


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_leaves_the_task_to_the_data(name):
    assert recipes.get(name).task is None


def test_objects_are_not_reflected_beyond_the_edge_where_they_would_have_no_boxes():
    assert recipes.get(OF_TASK["detection"]).augment.crop_padding == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_survives_being_written_to_a_file(name, tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipes.get(name).to_yaml(), encoding="utf-8")

    assert load_recipe(tmp_path / "recipe.yaml") == recipes.get(name)


def test_the_story_has_the_settings_that_it_tells():
    """Adam, lr 0.001, batch 50, no regularization of any kind."""
    story = recipes.get("story")

    assert (story.optimizer.name, story.optimizer.lr, story.batch_size) == ("adam", 1e-3, 50)
    assert story.optimizer.weight_decay == story.network.dropout == story.loss.label_smoothing == 0
    assert (story.augment.flip, story.augment.crop_padding, story.augment.crop_scale) == (0, 0, None)
    assert (story.ema_decay, story.early_stop, story.clip_norm, story.keep) == (None, None, None, "last")


def test_an_unknown_recipe_is_answered_with_the_nearest_and_all():
    with pytest.raises(UnknownNameError) as caught:
        recipes.get("finetune-defalt")

    assert str(caught.value) == (
        "--recipe: no such recipe 'finetune-defalt'. Did you mean 'finetune-default'? "
        f"Known recipes: {', '.join(NAMES)}."
    )


def test_sources_can_be_changed_by_the_caller_without_harm():
    recipes.sources("story").clear()

    assert recipes.sources("story")
