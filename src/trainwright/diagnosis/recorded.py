"""Values of judging as JSON and back, so that a judgement can be repeated from its record."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # JSON has no such numbers


def as_json(value: Any) -> Any:
    """A value of `diagnosis`, or of the records it is made of, as what JSON knows; `nan` and `inf` as these words."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    return value.item() if hasattr(value, "item") else value


def from_json(kind: type[T], content: Mapping[str, Any]) -> T:
    """The dataclass `kind` from what `as_json` made of it. Fields that are not there keep their defaults; unknown ones are
    left out, so that a record of another version can be read."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _read(hints[name], value) for name, value in content.items() if name in known})


def _read(hint: Any, value: Any) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [part for part in parts if part is not type(None)]
        return None if value is None else _read(inner[0], value)
    if dataclasses.is_dataclass(hint):
        return from_json(hint, value)  # type: ignore[arg-type]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _read(parts[1], item) for key, item in value.items()}
    if origin is tuple:
        return tuple(_read(parts[0], item) for item in value)
    if hint is float:
        return NOT_FINITE[value] if isinstance(value, str) else float(value)
    return value
