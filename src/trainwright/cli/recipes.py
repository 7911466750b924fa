"""`trainwright recipes`: published recipes, and how a command's options become a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options

if TYPE_CHECKING:
    from trainwright.recipe import Recipe

EXAMPLES = "Examples:\n\n  trainwright recipes list\n\n  trainwright recipes show story > mine.yaml"
sub = typer.Typer(
    help="Published recipes, each value with its source.", no_args_is_help=True, rich_markup_mode=None, epilog=EXAMPLES
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(sub, name="recipes")


def recipe_from(
    name: str | None, changes: list[str] | None, *, epochs: int | None, seed: int | None
) -> tuple[Recipe | None, dict[str, Any]]:
    """(the recipe that --recipe names, None for the default of the task; what --set, --epochs and --seed change in it).

    Raises RecipeError or UnknownNameError.
    """
    from trainwright.recipe import Recipe, load_recipe
    from trainwright.recipes import published
    from trainwright.workflows.early import check_names
    from trainwright.yaml_text import parse_assignments

    wanted = parse_assignments(changes or [])
    wanted |= {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    check_names(Recipe().changed(wanted))  # a slip of the keyboard is answered before any YAML is read
    if name is None:
        return None, wanted
    recipe = load_recipe(Path(name)) if _is_file(name, published.names()) else published.get(name)
    recipe.changed(wanted)
    return recipe, wanted


def _is_file(name: str, known: list[str]) -> bool:
    """Whether --recipe means a file: a published recipe's name always means that recipe."""
    path = Path(name)
    return name not in known and (path.is_file() or path.suffix in (".yaml", ".yml") or path.name != name)


@sub.command("list", epilog="Example:\n\n  trainwright recipes list")
def list_recipes(as_json: options.Json = False) -> None:
    """List the published recipes."""
    from trainwright.recipes import published

    found = [{"name": name, "title": published.get(name).title} for name in published.names()]
    if as_json:
        print(json.dumps({"schema": "trainwright.recipes/1", "recipes": found}))
        return
    for recipe in found:
        tasks = [task for task, name in published.OF_TASK.items() if name == recipe["name"]]
        tasks += ["classification"] if recipe["name"] == published.DEFAULT else []
        default = f"  (default for {', '.join(tasks)})" if tasks else ""
        print(f"{recipe['name']:<22} {recipe['title']}{default}")


@sub.command(
    "show",
    short_help="Print a recipe as YAML, each value with its source.",
    epilog="Example:\n\n  trainwright recipes show story > mine.yaml",
)
def show_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published recipe.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Print a recipe as YAML, each value with its source; the output can be given to --recipe."""
    from trainwright.recipes import published

    recipe, sources = published.get(name), published.sources(name)
    if as_json:
        content = {"name": name, "recipe": recipe.model_dump(mode="json"), "sources": sources}
        print(json.dumps({"schema": "trainwright.recipe/1", **content}))
        return
    print(recipe.to_yaml(), end="")
    print("\n# Where the values come from")
    for key, source in sources.items():
        print(f"# {key}: {source}")
