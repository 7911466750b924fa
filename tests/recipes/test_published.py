"""Every published recipe is whole, and says of each of its values where it comes from and of itself when to take it."""

import re

import pytest
import torch

from trainwright import plugins, recipes
from trainwright.errors import UnknownNameError
from trainwright.optim.losses import build_loss
from trainwright.optim.optimizers import build_optimizer
from trainwright.optim.schedules import build_schedule
from trainwright.recipe import Recipe, load_recipe, recipe_keys
from trainwright.recipes import published
from trainwright.recipes.published import DEFAULT, FOLDER, OF_TASK
from trainwright.training.mixing import mixing
from trainwright.training.model import build_network
from trainwright.workflows.early import check_names
from trainwright.yaml_text import load_yaml

NAMES = recipes.names()
TASKS = ("classification", "detection", "regression", "segmentation")
OUTPUTS, SIZE = 3, (64, 64)
# A paper with the place in it, or a journal with its volume
PLACE = r"(§[\dA-Z]|Table \d|Algorithm \d|Appendix [A-Z]|Figure \d)"
PUBLISHED = re.compile(rf"arXiv:\d{{4}}\.\d{{4,5}}.* ?{PLACE}|[A-Z][A-Za-z ]+ \d+ ?(:|\()\d+")
ADAPTED = re.compile(
    rf"^adapted: .+; published: .*arXiv:\d{{4}}\.\d{{4,5}}.*{PLACE}|^adapted: .+; published: .+Figure \d"
)
OURS = re.compile(r"^ours: (\S+ ){2,}\S+")  # and a reason of three words at least
PLACES = re.compile(r"arXiv:\S+|§\S+|(Table|Algorithm|Figure) \d+|\d+ \(\d{4}\) \d+")
SLOW_TO_BUILD = ("vit_", "deit_")  # timm draws the weights of transformers for seconds


def value_of(recipe, key):
    """The numbers at a dotted key of a recipe; none for a section, a name or a switch."""
    value = recipe
    for part in key.split("."):
        value = getattr(value, part)
    several = value if isinstance(value, tuple) else (value,)
    return {float(one) for one in several if isinstance(one, int | float) and not isinstance(one, bool)}


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
    assert set(load_yaml(FOLDER / f"{name}.yaml")) == {"recipe", "for", "sources"}


def test_fine_tuning_and_training_from_scratch_are_published_for_every_task():
    """A dozen at least, and the two ways for each task."""
    ways = {(task, recipes.page(name).start) for name in NAMES for task in recipes.page(name).tasks}

    assert len(NAMES) >= 12
    assert ways == {(task, start) for task in TASKS for start in ("scratch", "pretrained")}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_for_which_tasks_and_when_in_one_sentence(name):
    page = recipes.page(name)

    assert set(page.tasks) <= set(TASKS)
    assert len(page.tasks) >= 1
    assert page.when.endswith(".")
    assert page.when.count(". ") == 0


@pytest.mark.parametrize("name", NAMES)
def test_what_a_page_says_of_its_start_are_the_weights_of_its_network(name):
    page = recipes.page(name)

    assert {"scratch": "random", "pretrained": "pretrained"}[page.start] == page.recipe.network.weights


@pytest.mark.parametrize("name", NAMES)
def test_every_source_is_a_place_in_a_paper_or_a_choice_of_ours_with_its_reason(name):
    sources = recipes.sources(name)
    by_kind = {"ours": OURS, "adapted": ADAPTED}

    unproven = {
        key: source
        for key, source in sources.items()
        if not by_kind.get(source.partition(":")[0], PUBLISHED).search(source)
    }

    assert unproven == {}


def numbers_of(text):
    """The numbers that a source names, but for those that say where in which paper."""
    return {float(number) for number in re.findall(r"\d+(?:\.\d+)?", PLACES.sub("", text).replace(",", ""))}


@pytest.mark.parametrize("name", NAMES)
def test_a_number_with_a_published_source_of_its_own_is_named_there(name):
    """But for flips: papers flip at random, and an even chance goes without saying."""
    recipe, sources = recipes.get(name), recipes.sources(name)
    published = {key: text for key, text in sources.items() if not text.startswith(("ours:", "adapted:"))}
    values = {key: value for key in published if (value := value_of(recipe, key)) and key != "augment.flip"}

    unnamed = {key: value for key, value in values.items() if not value <= numbers_of(published[key])}

    assert unnamed == {}


def test_a_number_that_its_source_does_not_name_would_be_found():
    assert numbers_of("Wang et al., arXiv:2102.12122 §5.3: 0.0001 at a batch of 1,024") == {0.0001, 1024.0}


@pytest.mark.parametrize("source", ["He et al., somewhere", "arXiv:1512.03385", "ours: because", "adapted: half of it"])
def test_a_source_without_its_place_or_reason_would_be_found(source):
    pattern = {"ours": OURS, "adapted": ADAPTED}.get(source.partition(":")[0], PUBLISHED)

    assert not pattern.search(source)


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_of_a_recipe_are_among_its_sources(name):
    page = recipes.page(name)

    assert 1 <= len(page.papers) <= 2
    for paper in page.papers:
        _, _, number = paper.rpartition(", ")
        assert any(number in source for source in page.sources.values())


def test_the_main_paper_of_a_recipe_is_the_one_that_most_values_come_from():
    assert recipes.page("scratch-wide-resnet").papers == ("Zagoruyko and Komodakis, arXiv:1605.07146",)
    assert recipes.page("detection-retinanet").papers[0] == "Lin et al., arXiv:1708.02002"


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
def test_loss_and_network_go_with_every_task_that_a_recipe_is_for(name):
    page = recipes.page(name)
    spec = page.recipe.network
    form = plugins.networks.get(spec.name).form if spec.name in plugins.networks.names() else "vector"

    for task in (plugins.tasks.get(task) for task in page.tasks):
        build_loss(page.recipe.loss, task.losses)
        mixing(page.recipe.augment, kind=task.target, seed=0)
        assert form == task.form


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if recipes.get(name).network.name.startswith(SLOW_TO_BUILD) else name
        for name in NAMES
    ],
)
def test_network_optimizer_and_schedule_of_a_recipe_are_built(name):
    """Published weights are not at hand in a test, so the networks are built as for weights that a checkpoint brings."""
    page = recipes.page(name)
    recipe = page.recipe.changed({"network.weights": "random", "optimizer.lr": page.recipe.optimizer.lr or 0.01})

    network = build_network(
        recipe.network,
        form=plugins.tasks.get(page.tasks[0]).form,
        outputs=OUTPUTS,
        size=SIZE,
        seed=0,
        weights_follow=True,
    )
    optimizer = build_optimizer(
        [(parameter, 1.0) for parameter in network.parameters()], recipe.optimizer, torch.device("cpu")
    )
    factor = build_schedule(recipe.schedule)

    assert {group["lr"] for group in optimizer.param_groups} == {recipe.optimizer.lr}
    assert all(0 <= factor(progress) <= 1 for progress in (0.0, 0.25, 0.5, 0.75, 1.0))


@pytest.mark.parametrize("name", [name for name in NAMES if recipes.get(name).schedule.name == "step"])
def test_the_steps_of_a_recipe_go_down_one_after_the_other(name):
    milestones = recipes.get(name).schedule.milestones

    assert list(milestones) == sorted(set(milestones))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_leaves_the_task_to_the_data(name):
    assert recipes.get(name).task is None


@pytest.mark.parametrize("name", [name for name in NAMES if "detection" in recipes.page(name).tasks])
def test_objects_are_not_reflected_beyond_the_edge_where_they_would_have_no_boxes(name):
    assert recipes.get(name).augment.crop_padding == 0


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
        f"recipe: no such recipe 'finetune-defalt'. Did you mean 'finetune-default'? Known recipes: {', '.join(NAMES)}."
    )


def test_sources_can_be_changed_by_the_caller_without_harm():
    recipes.sources("story").clear()

    assert recipes.sources("story")


def test_the_rate_of_a_recipe_is_found_again_by_network_optimizer_and_task():
    asked = published.get("segmentation-default").changed({"optimizer.lr": None, "epochs": 3})

    assert published.rate_for(asked, "segmentation") == (0.002, "segmentation-default")


def test_of_several_recipes_the_one_that_shares_most_lends_its_rate():
    asked = published.get("scratch-trivial-augment").changed({"optimizer.lr": None})
    name = published.rate_for(asked, "classification")[1]

    assert name == "scratch-trivial-augment"


def test_another_optimizer_network_or_task_has_no_rate_of_a_recipe():
    asked = published.get("segmentation-default")

    assert published.rate_for(asked.changed({"optimizer.name": "lion"}), "segmentation") is None
    assert published.rate_for(asked.changed({"network.name": "deeplabv3plus"}), "segmentation") is None
    assert published.rate_for(asked, "detection") is None
