"""Groups of options: what several commands take is written once, and a command has it as one value."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

R = TypeVar("R")


def grouped(command: Callable[..., R]) -> Callable[..., R]:
    """`command` as typer reads it: in the place of each parameter whose type is a dataclass stand that group's options.

    The group's fields are what typer takes: names, `Annotated` types, defaults; the command gets an instance.
    """
    signature = inspect.signature(command, eval_str=True)
    groups = {name: one.annotation for name, one in signature.parameters.items() if _is_group(one.annotation)}
    flat = [
        option
        for name, one in signature.parameters.items()
        for option in (_options_of(groups[name]) if name in groups else [one])
    ]

    @functools.wraps(command)
    def read(**given: Any) -> R:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        return command(**given)

    read.__signature__ = signature.replace(parameters=flat)  # type: ignore[attr-defined]
    read.__annotations__ = {option.name: option.annotation for option in flat}
    return read


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and dataclasses.is_dataclass(annotation)


def _options_of(group: Any) -> list[inspect.Parameter]:
    types = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name]
        )
        for field in dataclasses.fields(group)
    ]
