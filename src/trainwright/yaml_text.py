"""YAML 1.2 read and written with limits, and the `KEY=VALUE` of a command line: plain data, nothing of recipes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainwright.errors import RecipeError

MAX_YAML_BYTES = 1_000_000  # a recipe is a page; anything larger is not one


def load_yaml(path: Path) -> Any:
    """Plain data from a YAML 1.2 file of at most 1 MB (1e-3 is a number; duplicate keys are refused)."""
    from ruamel.yaml.error import YAMLError

    try:
        size = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size <= MAX_YAML_BYTES else ""
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror}).", where=str(path), cure="Check the path.") from None
    except UnicodeDecodeError as error:
        raise _not_yaml(error, path) from None
    if size > MAX_YAML_BYTES:
        raise RecipeError(f"larger than {MAX_YAML_BYTES:,} bytes.", where=str(path), cure="A recipe is a page of text.")
    try:
        return yaml_12().load(text)
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: a date such as 2026-02-30
        raise _not_yaml(error, path) from None


def _not_yaml(error: Exception, path: Path) -> RecipeError:
    problem = " ".join(str(error).split())[:300]
    return RecipeError(f"not YAML: {problem}.", where=str(path), cure="See 'trainwright recipes show' for one that is.")


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """`["optimizer.lr=1e-3", "augment.crop_scale=[0.3, 1]"]` as keys and values; values are read as YAML scalars.

    Raises RecipeError for one without '=', or with nothing behind it: `null` has to be written.
    """
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise RecipeError(
                f"expected KEY=VALUE, got {assignment!r}.", where="--set", cure="For example --set optimizer.lr=1e-3."
            )
        if not text.strip():
            raise RecipeError(
                f"nothing is given after {assignment!r}.", where="--set", cure=f"A value, or {key.strip()}=null."
            )
        changes[key.strip()] = _scalar(text.strip())
    return changes


def _scalar(text: str) -> Any:
    import json

    words: dict[str, bool | None] = {"null": None, "~": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    readers: tuple[Callable[[str], Any], ...] = (int, float, json.loads)
    for read in readers:
        try:
            return read(text)
        except ValueError:
            continue
    return text


def yaml_12() -> Any:
    """The reader and writer of ruamel.yaml, imported here: it takes a tenth of a second."""
    from ruamel.yaml import YAML

    yaml: Any = YAML(typ="safe", pure=True)
    yaml.version = None
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.representer.add_representer(str, _text)
    return yaml


def _text(representer: Any, text: str) -> Any:
    """Text as YAML; U+0085 is escaped, because ruamel writes it raw and reads it back as something else."""
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "\x85" in text else None)
