"""One part of a message, read back: an object whose keys are the fields of a frozen dataclass. Pure.

A gateway or an emperor may be of another version than who wrote it: what is missing is the default, and what is unknown is
passed over. What there is has the type of its default, or is refused by its name.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any


def keys_of(kind: Any, name: str, document: Any, pairs: Collection[str] = ()) -> dict[str, Any]:
    """The arguments of `kind`, of which every field has a default: a bool, an int or float from 0 on, a str, or a tuple of
    strings; the tuples named in `pairs` are of pairs of strings. `name` is what errors call it. Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError(f"{name}: an object expected, not {type(document).__name__}")
    return {
        field.name: _value(f"{name}.{field.name}", field.default, document[field.name], field.name in pairs)
        for field in fields(kind)
        if field.name in document
    }


def _value(what: str, default: Any, value: Any, of_pairs: bool) -> Any:
    kind = type(default)
    if kind is tuple:
        if isinstance(value, list) and all(
            _is_pair(each) if of_pairs else isinstance(each, str) for each in value
        ):
            return tuple(tuple(each) if of_pairs else each for each in value)
        raise ValueError(
            f"{what}: a list of {'pairs of ' * of_pairs}strings expected, not {type(value).__name__}"
        )
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"{what}: {kind.__name__} expected, not {type(value).__name__}")
    if kind in (int, float) and not 0 <= value < float("inf"):
        raise ValueError(f"{what}: 0 or more expected, not {value}")
    return value


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
