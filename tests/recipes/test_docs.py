"""docs/recipes.md lists every published recipe, with what its page says of it."""

from pathlib import Path

import pytest

from trainwright import recipes
from trainwright.recipes import choice

DOCUMENT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
START = {"scratch": "random", "pretrained": "pre-trained"}
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in DOCUMENT.splitlines()
    if line.startswith("| `") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
}


def test_the_tables_list_every_recipe_and_no_other():
    assert sorted(ROWS) == recipes.names()


@pytest.mark.parametrize("name", recipes.names())
def test_a_row_says_what_the_page_of_its_recipe_says(name):
    page = recipes.page(name)

    assert ROWS[name] == [START[page.start], page.when, "; ".join(page.papers)]


@pytest.mark.parametrize("limit", ["LARGE", "OUTLINED", "CPU_IMAGES", "SMALL_SIDE", "LARGE_SIDE"])
def test_the_limits_of_the_rule_are_those_of_the_program(limit):
    assert f"{getattr(choice, limit):,}" in DOCUMENT.partition("## The rule")[2]


@pytest.mark.parametrize("name", sorted(choice.FINE_TUNING.values()))
def test_what_is_chosen_with_weights_at_hand_is_in_the_rule(name):
    assert f"`{name}`" in DOCUMENT.partition("## The rule")[2]
