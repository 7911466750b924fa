"""`trainwright recipes`: what is listed can be shown, what is shown can be trained with."""

import pytest

import trainwright as tw
from trainwright.recipe import recipe_keys

NAMES = tw.recipes.names()


def test_every_published_recipe_is_listed_and_one_is_the_default(cli):
    lines = cli("recipes", "list").out.splitlines()

    assert [line.split()[0] for line in lines] == NAMES
    assert [line.endswith("(default)") for line in lines].count(True) == 1


def test_the_list_for_programs_has_names_and_titles(cli):
    content = cli("recipes", "list", "--json").json

    assert content["schema"] == "trainwright.recipes/1"
    assert [recipe["name"] for recipe in content["recipes"]] == NAMES
    assert all(recipe["title"] for recipe in content["recipes"])


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
