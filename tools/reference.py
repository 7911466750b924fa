"""The reference pages of the documentation, made from the program itself: nothing in them is written by hand.

`pages()` gives each page as Markdown by its path on the site. Commands come from the typer app, recipe fields from the
pydantic schemas and the comments beside them, the library from signatures and docstrings.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import TypeAdapter

import trainwright as tw
from trainwright import plugins, recipe, records
from trainwright.cli.main import app

SOURCES = Path(tw.__file__).parent
OBJECT = re.compile(r"trainwright\.[a-z-]+/\d+")
REGISTRIES = ("tasks", "networks", "losses", "optimizers", "schedules", "strategies")
RECORDS = ("Interval", "Means", "LrTrial", "EpochRecord", "TrainErrors", "Finding", "Prescription")


def pages() -> dict[str, str]:
    """Every reference page, as Markdown (one as JSON) by its path below `reference/`."""
    return {
        "command-line.md": command_line(),
        "recipe.md": recipe_fields(),
        "python.md": python_library(),
        "plugins.md": plug_ins(),
        "json.md": json_objects(),
        "recipe.schema.json": json.dumps(recipe.Recipe.model_json_schema(), indent=2) + "\n",
    }


# ---- the command line ----


def commands() -> Iterator[tuple[str, Any]]:
    """(what is typed, the command) of every command that does something, in the order of `--help`."""

    def below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
        for word, sub in getattr(command, "commands", {}).items():
            yield from below(f"{name} {word}", sub)
        if not hasattr(command, "commands"):
            yield name, command

    return below("trainwright", typer.main.get_command(app))


def command_line() -> str:
    """A section for every command: usage, what it does, arguments, options, examples."""
    parts = [
        "# Command line",
        "What `--help` says of every command. `trainwright --version` names the version; `trainwright "
        "--install-completion` sets up completion for your shell.",
    ]
    for name, command in commands():
        context = command.make_context(name, [], resilient_parsing=True)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        rows = [record for param in command.params if (record := param.get_help_record(context)) is not None]
        parts += [f"## {name}", escaped(inspect.cleandoc(command.help)), fenced(usage, "text")]
        parts.append(
            table(("argument or option", "what it says"), [(f"`{what}`", escaped(said)) for what, said in rows])
        )
        examples = re.findall(r"^ *(trainwright .+)$", command.epilog or "", re.MULTILINE)
        parts += ["Examples:" if len(examples) > 1 else "Example:", fenced("\n".join(examples), "text")]
    return page(parts)


# ---- recipes ----


def recipe_fields() -> str:
    """A table for every section of a recipe: key, what it may be, default, what it means."""
    parts = [
        "# Recipe fields",
        "Every value of a training, by the key that `--set KEY=VALUE`, a YAML file and a search space call it. Unknown keys are "
        "refused. The same as a JSON schema, for an editor that checks YAML: [recipe.schema.json](recipe.schema.json).",
    ]
    schema = recipe.Recipe.model_json_schema()
    for prefix, spec in sections(recipe.Recipe):
        said = comments(spec)
        own = schema if spec is recipe.Recipe else schema["$defs"][spec.__name__]
        rows = [
            (f"`{prefix}{name}`", escaped(allowed(own["properties"][name])), shown(own["properties"][name]), said[name])
            for name, field in spec.model_fields.items()
            if section_of(field) is None
        ]
        title = f"`{prefix[:-1]}`" if prefix else "Recipe"
        parts += [f"## {title}", escaped(inspect.cleandoc(spec.__doc__ or ""))]
        parts.append(table(("key", "values", "default", "what"), rows))
    return page(parts)


def sections(spec: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(prefix of its keys, Spec class) of the recipe and of each of its sections."""
    yield prefix, spec
    for name, field in spec.model_fields.items():
        if (inner := section_of(field)) is not None:
            yield from sections(inner, f"{prefix}{name}.")


def section_of(field: Any) -> Any:
    """The Spec class of a field that is a section; None for a value."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, recipe.Spec)), None)


def comments(spec: Any) -> dict[str, str]:
    """What stands in the comment beside each field of a Spec class; nothing where there is none."""
    source = inspect.getsource(spec)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    said = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    fields = [node for node in ast.parse(source).body[0].body if isinstance(node, ast.AnnAssign)]  # type: ignore[attr-defined]
    return {
        node.target.id: escaped(
            " ".join(said[line] for line in range(node.lineno, (node.end_lineno or 0) + 1) if line in said)
        )
        for node in fields
        if isinstance(node.target, ast.Name)
    }


def allowed(schema: Mapping[str, Any]) -> str:
    """What a value may be, in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(allowed(kind) for kind in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema["type"] == "array":
        items = schema.get("prefixItems")
        return f"[{', '.join(allowed(item) for item in items)}]" if items else f"[{allowed(schema['items'])}, …]"
    word = {"integer": "whole number", "boolean": "yes or no", "string": "text"}.get(schema["type"], schema["type"])
    limits = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    bounds = [
        f"{sign} {schema[key]:g}" if abs(schema[key]) < 1e6 else f"{sign} {schema[key]}"
        for key, sign in limits
        if key in schema
    ]
    if "multipleOf" in schema:
        bounds.append(f"a multiple of {schema['multipleOf']}")
    if "pattern" in schema:
        bounds.append(f"as `{schema['pattern']}`")
    return f"{word} {', '.join(bounds)}".strip()


def shown(schema: Mapping[str, Any]) -> str:
    return f"`{json.dumps(schema['default'], ensure_ascii=False)}`"


# ---- the library ----


def python_library() -> str:
    """Every public name with its signature and docstring; of classes also what they give and do."""
    parts = [
        "# Python library",
        "`import trainwright as tw` gives these names and no others. What takes `options=` takes the fields of "
        "[RunOptions](#runoptions) as keywords of their own too.",
    ]
    for name in tw.__all__:
        thing = getattr(tw, name)
        parts.append(f"## {name}")
        if inspect.ismodule(thing):
            parts += [escaped(inspect.cleandoc(thing.__doc__ or "")), *members(vars(thing).items(), f"tw.{name}", 3)]
            continue
        parts += [signature(f"tw.{name}", thing), prose(thing)]
        if inspect.isclass(thing):
            parts += members(vars(thing).items(), name, 3)
    return page(parts)


def members(items: Iterable[tuple[str, Any]], owner: str, level: int) -> list[str]:
    """A part for each public function or property with a docstring."""
    parts = []
    for name, thing in items:
        function = getattr(thing, "__func__", thing)
        if name.startswith("_") or not getattr(function, "__doc__", None):
            continue
        if not isinstance(function, property) and not inspect.isfunction(function):
            continue
        parts.append(f"{'#' * level} {owner}.{name}")
        parts += [prose(function)] if isinstance(function, property) else [signature(name, function), prose(function)]
    return parts


def signature(name: str, thing: Any) -> str:
    """The call, an argument a line where it is long, without what only the type checker needs quotes for."""
    if isinstance(thing, type) and issubclass(thing, recipe.Spec):
        return fenced(f"{name}(**values)", "text")
    known = inspect.signature(thing)
    said = [
        re.sub(r"<function .*? at 0x[0-9a-f]+>", "…", str(value)).replace("'", "")
        for value in known.parameters.values()
    ]
    said = [re.sub(r"<\S* object at \S*>|<factory>", "…", text) for text in said]
    star = next((i for i, value in enumerate(known.parameters.values()) if value.kind is value.KEYWORD_ONLY), None)
    if star is not None and not any(value.kind is value.VAR_POSITIONAL for value in known.parameters.values()):
        said.insert(star, "*")
    gives = (
        ""
        if known.return_annotation in (known.empty, "None", None)
        else f" -> {known.return_annotation}".replace("'", "")
    )
    line = f"{name}({', '.join(said)}){gives}"
    return fenced(line if len(line) <= 100 else f"{name}(\n    " + ",\n    ".join(said) + f",\n){gives}", "text")


def prose(thing: Any) -> str:
    return escaped(inspect.getdoc(thing) or "")


# ---- what can be plugged in ----


def plug_ins() -> str:
    """The Protocols with their promises, and every registered name with the first sentence of what it says of itself."""
    parts = ["# Plug-ins", escaped(inspect.cleandoc(plugins.__doc__ or ""))]
    for name in REGISTRIES:
        known = getattr(plugins, name).all()
        rows = [
            (f"`{key}`", escaped(first_sentence(inspect.getdoc(thing) or ""))) for key, thing in sorted(known.items())
        ]
        parts += [
            f"## {name.capitalize()}",
            f"Registered in `trainwright.plugins.{name}`.",
            table(("name", "what it is"), rows),
        ]
    parts.append("## Protocols")
    for name, thing in vars(plugins).items():
        if inspect.isclass(thing) and getattr(thing, "_is_protocol", False) and thing.__module__ == plugins.__name__:
            parts += [f"### {name}", escaped(inspect.cleandoc(thing.__doc__ or ""))]
            own = {key: value for key, value in vars(thing).items() if key == "__call__" or not key.startswith("_")}
            for key, function in own.items():
                if inspect.isfunction(function) and function.__doc__:
                    parts += [signature(key, function), prose(function)]
    return page(parts)


# ---- JSON ----


def json_objects() -> str:
    """Every object that `--json` or a run folder writes, and the schemas of the records in `records.jsonl`."""
    rows = [
        (f"`{name}`", ", ".join(f"`{module}`" for module in sorted(modules)), "; ".join(escaped(text) for text in said))
        for name, (modules, said) in sorted(written_objects().items())
    ]
    parts = [
        "# JSON",
        "Every JSON object says what it is under `schema`. The number behind the slash rises when a key changes its meaning or "
        "goes away; new keys may come at any time. A number that is not defined is null.",
        "## Objects",
        table(("`schema`", "written by", "which says of it"), rows),
        "## Records",
        "What `records.jsonl` of a run holds, and what objects have inside, as JSON schemas.",
    ]
    for name in RECORDS:
        kind = getattr(records, name)
        assert dataclasses.is_dataclass(kind)
        parts += [f"### {name}", prose(kind), fenced(json.dumps(TypeAdapter(kind).json_schema(), indent=2), "json")]
    return page(parts)


def written_objects() -> dict[str, tuple[set[str], list[str]]]:
    """Of each schema name in the sources: the modules that write it, and the first sentences of the functions that do."""
    found: dict[str, tuple[set[str], list[str]]] = {}
    for file in sorted(SOURCES.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if not OBJECT.search(text):
            continue
        tree = ast.parse(text)
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Constant) and isinstance(node.value, str) and OBJECT.fullmatch(node.value)):
                continue
            modules, said = found.setdefault(node.value, (set(), []))
            modules.add(".".join(file.relative_to(SOURCES.parent).with_suffix("").parts))
            around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0) and ast.get_docstring(f)]
            text_of = first_sentence(ast.get_docstring(around[-1]) or "") if around else ""
            if text_of and text_of not in said:
                said.append(text_of)
    return found


# ---- Markdown ----


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, but for what stands in backquotes."""
    parts = re.split(r"(`[^`\n]*`)", text)
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(text: str) -> str:
    return re.sub(r"([\\*_\[\]#])", r"\\\1", text).replace("<", "&lt;").replace("|", "&#124;")


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, on one line."""
    return re.split(r"(?<=[.:?!]) (?=[A-Z`])|\n\n", " ".join(text.split("\n\n")[0].split()))[0]


def table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A table. The site's Markdown takes no bar within backquotes for a border; any other is escaped already."""
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def fenced(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def page(parts: Iterable[str]) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"
