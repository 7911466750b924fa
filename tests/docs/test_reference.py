"""The reference is the program's own: every command, option, recipe key and public name is in it, as the program has it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

import trainwright as tw
from trainwright import errors
from trainwright.cli.main import INTERRUPTED, TERMINATED, app
from trainwright.recipe import recipe_keys

ROOT = Path(__file__).parents[2]
FAILURES = (ROOT / "docs" / "failures.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def pages(tool):
    return tool("reference").pages()


def test_every_command_has_a_section_with_all_of_its_options(tool, pages):
    sections = dict(
        re.findall(r"^## (trainwright [\w ]+)\n(.*?)(?=^## |\Z)", pages["command-line.md"], re.MULTILINE | re.DOTALL)
    )

    commands = dict(tool("reference").commands())
    missing = [
        f"{name} {option}"
        for name, command in commands.items()
        for param in command.params
        for option in param.opts
        if option.startswith("--") and option not in sections[name]
    ]

    assert set(typer.main.get_command(app).commands) == {name.split()[1] for name in commands}
    assert set(sections) == set(commands)
    assert missing == []


def test_every_key_of_a_recipe_has_a_row_with_what_the_source_says_of_it(pages):
    rows = {line.split("`")[1]: line for line in pages["recipe.md"].splitlines() if line.startswith("| `")}

    assert set(rows) == {key for key, section in recipe_keys().items() if section is None}
    assert rows["batch_size"] == (
        "| `batch_size` | whole number > 0 or `auto` | `64` | images an optimizer step sees; auto: measured on this machine |"
    )
    assert (
        "reflected on each side and cropped back" in rows["augment.crop_padding"]
    )  # its comment is on a line of its own


def test_the_schema_of_a_recipe_is_the_one_that_recipes_are_read_with(pages):
    assert json.loads(pages["recipe.schema.json"]) == tw.Recipe.model_json_schema()


def test_every_public_name_has_a_section_with_its_docstring(pages):
    sections = re.findall(r"^## (\w+)$", pages["python.md"], re.MULTILINE)

    assert sections == tw.__all__
    assert "Fraction" not in sections
    assert "### Run.gap\n\nUnseen minus train error, with its 95 % interval." in pages["python.md"]
    assert "0x" not in pages["python.md"]  # no address of an object that happens to be a default


def test_every_registered_name_is_among_the_plug_ins(tool, pages):
    from trainwright import plugins

    names = {name for registry in tool("reference").REGISTRIES for name in getattr(plugins, registry).written_names()}

    assert {name for name in names if f"| `{name}` |" not in pages["plugins.md"]} == set()


def test_every_schema_name_in_the_sources_is_among_the_json_objects(pages):
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    names = set(re.findall(r'"(trainwright\.[a-z-]+/\d+)"', sources))

    assert {"trainwright.run/1", "trainwright.error/1", "trainwright.study/1"} <= names
    assert {name for name in names if f"`{name}`" not in pages["json.md"]} == set()


@pytest.mark.parametrize("text", ["a_b *c* <d> [e] | f", "`a_b | <c>` and _d_"])
def test_what_is_escaped_is_shown_as_it_was(tool, text):
    from html.parser import HTMLParser

    import markdown
    from markdown_it import MarkdownIt

    for render in (MarkdownIt().render, markdown.markdown):  # as code hosts read it, and as the site does
        shown: list[str] = []
        parser = HTMLParser()
        parser.handle_data = shown.append
        parser.feed(render(tool("reference").escaped(text)))

        assert "".join(shown).strip() == text.replace("`", "")


# ---- the page of failures ----


def tree(kind: type[errors.TrainwrightError]) -> list[type[errors.TrainwrightError]]:
    return [
        kind,
        *(inner for child in kind.__subclasses__() for inner in tree(child) if child.__module__ == errors.__name__),
    ]


@pytest.mark.parametrize("kind", tree(errors.TrainwrightError), ids=lambda kind: kind.kind)
def test_every_kind_of_error_has_an_entry_with_its_exit_code(kind):
    assert f"### `{kind.kind}` ({kind.__name__}, exit code {kind.exit_code})\n" in FAILURES


def test_the_page_of_failures_has_no_kind_that_does_not_exist():
    named = set(re.findall(r"^### `([a-z-]+)`", FAILURES, re.MULTILINE))

    assert named == {kind.kind for kind in tree(errors.TrainwrightError)} | {"interrupted"}


@pytest.mark.parametrize("document", ["README.md", "docs/failures.md"])
def test_every_exit_code_is_told(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    codes = {kind.exit_code for kind in tree(errors.TrainwrightError)} | {0, INTERRUPTED, TERMINATED}

    assert [code for code in codes if not re.search(rf"(\| |[:·]\s+|\n){code} (\||\w)", text)] == []


def test_what_an_entry_quotes_is_what_the_program_says():
    sources = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    plain = re.sub(r"\{[^}]*\}", " ", sources)
    quoted = re.findall(r"^(?:- )?\*([^*]+)\*:", FAILURES, re.MULTILINE)

    def words(text: str) -> list[str]:
        return [word for word in re.split(r"\d+|'[^']*'", text) if len(word.strip()) > 4]

    assert len(quoted) > 12
    assert [
        quote for quote in quoted if not all(" ".join(part.split()) in " ".join(plain.split()) for part in words(quote))
    ] == []
