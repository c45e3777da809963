"""One part of a message, read back: an object whose keys are the fields of a frozen dataclass. Pure.

A gateway or an emperor may be of another version than who wrote it: what is missing is the default, and what is unknown is
passed over. What there is has the type of its default, or is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

Read = Callable[[str, Any], Any]
"""What a field is called in errors, and what the message has for it: the value, or ValueError."""


def keys_of(
    kind: Any,
    name: str,
    document: Any,
    pairs: Collection[str] = (),
    own: Mapping[str, Read] = MappingProxyType({}),
) -> dict[str, Any]:
    """The arguments of `kind`, of which every field has a default: a bool, an int or float from 0 on, a str, or a tuple of
    strings; the tuples named in `pairs` are of pairs of strings. The fields in `own` are read by these. `name` is what errors
    call it. Raises ValueError."""
    if not isinstance(document, dict):
        raise ValueError(f"{name}: an object expected, not {type(document).__name__}")
    found = {}
    for field in fields(kind):
        if field.name in document:
            what, value = f"{name}.{field.name}", document[field.name]
            read = own.get(field.name)
            if read is not None:
                found[field.name] = read(what, value)
            else:
                found[field.name] = _value(what, field.default, value, field.name in pairs)
    return found


def json_of(part: Any) -> dict[str, Any]:
    """The inverse: a dict of the fields, ready for `json.dumps`, tuples being lists at any depth."""
    return {field.name: _listed(getattr(part, field.name)) for field in fields(part)}


def _listed(value: Any) -> Any:
    return [_listed(each) for each in value] if isinstance(value, tuple) else value


def is_number(value: Any) -> bool:
    """A finite int or float from 0 on."""
    return type(value) in (int, float) and 0 <= value < float("inf")


def by_path(what: str, is_right: Callable[[Any], bool], of: str, value: Any) -> tuple[tuple[str, Any], ...]:
    """Pairs of a path and something else. Raises ValueError."""
    if isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and is_right(pair[1])
        for pair in value
    ):
        return tuple((path, rest) for path, rest in value)
    raise ValueError(f"{what}: a list of pairs of a path and {of} expected")


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
    if kind in (int, float) and not is_number(value):
        raise ValueError(f"{what}: 0 or more expected, not {value}")
    return value


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(each, str) for each in value)
