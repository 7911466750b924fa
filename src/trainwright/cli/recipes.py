"""`trainwright recipes`: published recipes, and how a command's options become a recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainwright.cli import options
from trainwright.cli.groups import grouped
from trainwright.errors import UsageError

if TYPE_CHECKING:
    from trainwright.recipe import Recipe
    from trainwright.recipes import Page

EXAMPLES = (
    "Examples:\n\n  trainwright recipes list\n\n  trainwright recipes show story > mine.yaml\n\n"
    "  trainwright recipes choose photos/"
)
NAME_WIDTH = 24  # characters, of the column of names
START = {"scratch": "from random weights", "pretrained": "fine-tunes pre-trained weights"}
KEY = re.compile(r"^(  )?(\w+):(?: |$)")  # of a value at the root, or two spaces in, of a value in a section
sub = typer.Typer(
    help="Published recipes, each value with its source.", no_args_is_help=True, rich_markup_mode=None, epilog=EXAMPLES
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(sub, name="recipes")


def recipe_from(
    name: str | None,
    changes: list[str] | None,
    *,
    epochs: int | None,
    seed: int | None,
    task: str | None = None,
    batch_size: int | str | None = None,
) -> tuple[Recipe | None, dict[str, Any]]:
    """(the recipe that --recipe names, None for the one that suits the data; what --set, --epochs, --seed and --task change).

    batch_size: of --batch-size, which must not contradict a --set. Raises RecipeError, UnknownNameError, or UsageError where
    --set and another option say different things of one value.
    """
    from trainwright.recipe import Recipe
    from trainwright.recipes import published
    from trainwright.workflows.early import check_names
    from trainwright.yaml_text import parse_assignments

    wanted = parse_assignments(changes or [])
    given = {"epochs": epochs, "seed": seed, "task": task, "batch_size": batch_size}
    said = {key: value for key, value in given.items() if value is not None}
    _refuse_two_values(wanted, said)
    wanted |= {key: value for key, value in said.items() if key != "batch_size"}  # for which the rate is found anew
    check_names(Recipe().changed(wanted))  # a slip of the keyboard is answered before any YAML is read
    if name is None:
        return None, wanted
    recipe = published.find(name)
    recipe.changed(wanted)
    return recipe, wanted


def _refuse_two_values(wanted: Mapping[str, Any], said: Mapping[str, Any]) -> None:
    """Raise UsageError where an option and --set say different things of one value."""
    for key, value in said.items():
        if key in wanted and wanted[key] != value:
            raise UsageError(
                f"{key} is given twice: {value} by --{key.replace('_', '-')}, {wanted[key]} by --set.",
                where=f"--{key.replace('_', '-')}",
                cure="Leave one of them out.",
            )


@sub.command(
    "list",
    short_help="List the published recipes with their main sources.",
    epilog="Examples:\n\n  trainwright recipes list\n\n  trainwright recipes list --task detection",
)
def list_recipes(
    task: Annotated[
        str | None, typer.Option("--task", metavar="NAME", help="Only those for that task.", show_default=False)
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the published recipes: what each is for, which weights it starts from, and the papers most of it comes from."""
    from trainwright.plugins import tasks
    from trainwright.recipes import published

    if task is not None:
        tasks.check(task)
    pages = [published.page(name) for name in published.names()]
    found = [page for page in pages if task is None or task in page.tasks]
    if as_json:
        recipes = [{"name": page.name, "title": page.recipe.title, **_said(page)} for page in found]
        print(json.dumps({"schema": "trainwright.recipes/1", "recipes": recipes}))
        return
    for page in found:
        default = [task for task in page.tasks if published.default_for(task) == page.name]
        note = f"  (default for {', '.join(default)})" if default else ""
        print(f"{page.name:<{NAME_WIDTH}} {', '.join(page.tasks)}, {START[page.start]}{note}")
        print(f"{'':<{NAME_WIDTH}} {page.recipe.title}")
        print(f"{'':<{NAME_WIDTH}} from {'; '.join(page.papers)}")


@sub.command(
    "show",
    short_help="Print a recipe as YAML, each value with its source.",
    epilog="Examples:\n\n  trainwright recipes show story > mine.yaml\n\n  trainwright recipes show finetune-vit --json",
)
def show_recipe(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A published recipe.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """Print a recipe as YAML, the source of each value beside it; the output can be given to --recipe."""
    from trainwright.recipes import published

    page = published.page(name)
    if as_json:
        content = {"name": name, "recipe": page.recipe.model_dump(mode="json"), "sources": page.sources, **_said(page)}
        print(json.dumps({"schema": "trainwright.recipe/1", **content}))
        return
    print(f"# {name}: {', '.join(page.tasks)}, {START[page.start]}\n# {page.when}")
    print("# 'adapted' and 'ours' mark what is not as published; values without a source are the usual ones.")
    print(annotated(page.recipe.to_yaml(), page.sources), end="")


@sub.command(
    "choose",
    short_help="Which recipe a training of DATA would start from, and why.",
    epilog="Examples:\n\n  trainwright recipes choose photos/\n\n"
    "  trainwright recipes choose counts.csv --target cells --device cpu --json",
)
@grouped
def choose_recipe(
    data: options.Data,
    *,
    target: options.Target = None,
    task: options.TaskName = None,
    device: options.Device = "auto",
    workers: options.Workers = 2,
    output: options.Output,
) -> None:
    """Which published recipe 'trainwright train DATA' would start from, and why: nothing is trained, nothing fetched."""
    from trainwright.data.dataset import open_dataset
    from trainwright.workflows import choose

    reporter = output.reporter()
    dataset = open_dataset(data, target=target, task=task, workers=workers, progress=reporter.progress)
    choice = choose.choose_recipe(dataset, {}, own_network=False, device=device)
    if output.as_json:
        print(json.dumps({"schema": "trainwright.choice/1", "name": choice.name, "reasons": choice.reasons}))
        return
    print(choice.name)
    for reason in choice.reasons:
        print(f"  {reason}")


def annotated(text: str, sources: Mapping[str, str]) -> str:
    """The YAML of a recipe with each source as a comment at the key it is of, a section or a value."""
    lines, section = [], ""
    for line in text.splitlines():
        key = KEY.match(line)
        if key is None:  # an item of a list, or the rest of a long text
            lines.append(line)
            continue
        indented, name = key.groups()
        section = section if indented else name
        source = sources.get(f"{section}.{name}" if indented else name)
        lines.append(line if source is None else f"{line}  # {source}")
    return "\n".join(lines) + "\n"


def _said(page: Page) -> dict[str, Any]:
    """What is said of a recipe, beside its values and their sources."""
    return {"tasks": page.tasks, "start": page.start, "when": page.when, "papers": page.papers}
