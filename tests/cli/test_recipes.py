"""`trainwright recipes`: what is listed can be shown, what is shown can be trained with."""

import pytest

import trainwright as tw
from trainwright.cli.recipes import annotated, recipe_from
from trainwright.errors import RecipeError, UsageError
from trainwright.plugins import tasks
from trainwright.recipe import recipe_keys
from trainwright.recipes import published

NAMES = tw.recipes.names()
TASKS = ("classification", "detection", "regression", "segmentation")


def test_every_published_recipe_is_listed_and_each_task_has_its_default(cli):
    lines = [line for line in cli("recipes", "list").out.splitlines() if not line.startswith(" ")]

    assert [line.split()[0] for line in lines] == NAMES
    named = {line.split()[0]: line.partition("(default for ")[2].rstrip(")") for line in lines}
    defaults = [(task, name) for name, of in named.items() for task in of.split(", ") if task]
    assert sorted(defaults) == [(task, published.default_for(task)) for task in TASKS]


def test_the_list_shows_what_a_recipe_is_for_its_start_its_title_and_its_papers(cli):
    lines = cli("recipes", "list").out.splitlines()

    first = next(number for number, line in enumerate(lines) if line.startswith("detection-retinanet "))

    assert [line.strip() for line in lines[first : first + 3]] == [
        "detection-retinanet      detection, fine-tunes pre-trained weights",
        "Objects and their boxes, RetinaNet on a pre-trained backbone",
        "from Lin et al., arXiv:1708.02002; He et al., arXiv:1512.03385",
    ]


@pytest.mark.parametrize("task", TASKS)
def test_the_list_can_be_that_of_one_task(cli, task):
    found = cli("recipes", "list", "--task", task, "--json").json["recipes"]

    assert [recipe["name"] for recipe in found] == [name for name in NAMES if task in published.page(name).tasks]


def test_a_task_that_does_not_exist_has_no_list(cli):
    done = cli("recipes", "list", "--task", "segmentaton", "--json")

    assert (done.code, done.json["kind"]) == (2, "unknown-name")
    assert "segmentation" in done.json["cure"]


@pytest.mark.parametrize("task", TASKS)
def test_the_default_of_a_task_is_for_that_task(task):
    recipe = tw.recipes.get(published.default_for(task))

    assert recipe.task in (None, task)
    assert recipe.loss.name in (None, *tasks.get(task).losses)


def test_a_task_of_ones_own_takes_the_default_of_all():
    assert published.default_for("multi-label") == published.DEFAULT


def test_what_is_set_is_kept_beside_the_recipe_that_is_named():
    recipe, changes = recipe_from("story", ["optimizer.lr=0.5"], epochs=3, seed=0)

    assert recipe == tw.recipes.get("story")
    assert changes == {"optimizer.lr": 0.5, "epochs": 3, "seed": 0}


def test_without_a_name_the_recipe_is_left_to_the_task():
    assert recipe_from(None, None, epochs=None, seed=None) == (None, {})


@pytest.mark.parametrize("key", ["epochs", "seed", "task", "batch_size"])
def test_an_option_and_the_same_key_set_to_something_else_are_refused(key):
    said = {"epochs": None, "seed": None} | {key: "detection" if key == "task" else 3}
    option = f"--{key.replace('_', '-')}"

    with pytest.raises(UsageError) as caught:
        recipe_from(None, [f"{key}=5" if key != "task" else "task=regression"], **said)

    assert str(caught.value).startswith(f"{option}: {key} is given twice: {said[key]} by {option}, ")
    assert str(caught.value).endswith(" by --set. Leave one of them out.")


def test_an_option_and_the_same_key_set_alike_are_one():
    assert recipe_from(None, ["epochs=3", "seed=1"], epochs=3, seed=None) == (None, {"epochs": 3, "seed": 1})


@pytest.mark.parametrize("name", [None, "story"])
def test_a_value_that_no_recipe_takes_is_refused_whichever_recipe_is_named(name):
    with pytest.raises(RecipeError, match=r"epochs: Input should be greater than 0"):
        recipe_from(name, ["epochs=0"], epochs=None, seed=None)


def test_a_value_that_does_not_go_with_the_named_recipe_is_refused():
    with pytest.raises(RecipeError, match="crop_scale and crop_padding are two kinds of random crop"):
        recipe_from("scratch-default", ["augment.crop_scale=[0.5, 1]"], epochs=None, seed=None)


def test_the_list_for_programs_has_names_and_titles(cli):
    content = cli("recipes", "list", "--json").json

    assert content["schema"] == "trainwright.recipes/1"
    assert [recipe["name"] for recipe in content["recipes"]] == NAMES
    assert all(recipe["title"] for recipe in content["recipes"])


def test_the_list_for_programs_says_what_each_is_for(cli):
    found = {recipe["name"]: recipe for recipe in cli("recipes", "list", "--json").json["recipes"]}

    assert found["linear-probe"]["tasks"] == ["classification", "regression"]
    assert found["linear-probe"]["start"] == "pretrained"
    assert found["linear-probe"]["when"].startswith("To learn what the features know")
    assert found["story"]["papers"] == ["Kingma and Ba, arXiv:1412.6980", "He et al., arXiv:1512.03385"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_accepted_as_a_file_and_is_the_same_recipe(cli, tmp_path, name):
    (tmp_path / "mine.yaml").write_text(cli("recipes", "show", name).out)

    assert tw.load_recipe(tmp_path / "mine.yaml") == tw.recipes.get(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_says_where_values_come_from(cli, name):
    content, text = cli("recipes", "show", name, "--json").json, cli("recipes", "show", name).out

    assert content["schema"] == "trainwright.recipe/1"
    assert set(content["sources"]) <= set(recipe_keys())
    assert all(source in text for source in content["sources"].values())


def test_an_unknown_recipe_is_answered_with_the_known_ones(cli):
    done = cli("recipes", "show", "nonsense", "--json")

    assert (done.code, done.json["kind"]) == (2, "unknown-name")
    assert all(name in done.json["cure"] for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_source_stands_at_its_value(cli, name):
    lines, section, found = cli("recipes", "show", name).out.splitlines(), "", {}
    for line in lines:
        key, _, source = line.partition("  # ")
        key = key.split(":")[0]
        section = section if key.startswith(" ") else key
        if source:
            found[f"{section}.{key.strip()}" if key.startswith(" ") else key] = source

    assert found == tw.recipes.sources(name)


def test_what_a_recipe_is_for_is_shown_above_it(cli):
    lines = cli("recipes", "show", "story").out.splitlines()

    assert lines[0] == "# story: classification, from random weights"
    assert lines[1] == "# To see overfitting and how it is judged; as a control, never as a first try."


def test_a_long_text_and_its_second_line_have_no_comment_put_into_them():
    text = "title: a long\n  text\nepochs: 3\nloss:\n  tversky:\n  - 0.3\n"

    shown = annotated(text, {"epochs": "ours: a budget", "loss.tversky": "a paper"})

    assert shown == "title: a long\n  text\nepochs: 3  # ours: a budget\nloss:\n  tversky:  # a paper\n  - 0.3\n"


def test_the_choice_for_a_folder_comes_with_its_reasons(cli, digits):
    done = cli("recipes", "choose", digits, "--device", "cpu")

    assert done.out.splitlines() == [
        "scratch-resnet-9",
        "  classification: 150 images of 16×16 pixels, on cpu",
        "  no pre-trained weights on this machine (--recipe finetune-default fetches some and fine-tunes)",
        "  a small network and one cycle: the most for a minute of training",
    ]


def test_the_choice_for_programs_is_that_of_a_training(cli, digits):
    chosen = cli("recipes", "choose", digits, "--device", "cpu", "--json").json
    planned = cli("train", digits, "--dry-run", "--device", "cpu", "--json", "--set", "epochs=2").json

    assert chosen["schema"] == "trainwright.choice/1"
    assert planned["choice"] == {"name": chosen["name"], "reasons": chosen["reasons"]}


def test_a_plan_of_a_named_recipe_has_no_choice(cli, digits):
    assert "choice" not in cli("train", digits, "--recipe", "story", "--dry-run", "--device", "cpu", "--json").json
