"""All that a supervisor knows, as JSON, for the program that takes its place in the same process. Pure.

What an emperor leaves in its run directory is what outlives its death: enough to serve on. An upgrade is no death, and
forgets nothing: back-offs go on, a reload that is under way, a probation, what was proven and what is refused.

Times are those of the supervisor's clock, which is the machine's and goes on. What a version adds may be missing in what an
older one wrote: then it has its default. What it does not know it passes over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any

from emperor.supervisor.names import Claim
from emperor.supervisor.reading import Reading

Document = dict[str, Any]
Special = Mapping[str, Callable[[Any], Any]]
"""How fields that are more than plain values are written or read, by their names."""


class Readings:
    """Readings by numbers, so that one which is known in several places stays one: the house compares them by `is`."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[Reading] = []

    def number(self, reading: Reading | None) -> int | None:
        """Its number, the same one for the same reading."""
        if reading is None:
            return None
        found = self._numbers.get(id(reading))
        if found is None:
            found = self._numbers[id(reading)] = len(self.documents)
            self.documents.append(reading.to_json())
            self._kept.append(reading)  # or its id could become another's
        return found


def written(thing: Any, special: Special) -> Document:
    """A dataclass as JSON: by `special` the fields that are more than plain values."""
    return {
        each.name: special[each.name](getattr(thing, each.name))
        if each.name in special
        else getattr(thing, each.name)
        for each in fields(thing)
    }


def read(kind: Any, document: Document, special: Special) -> Any:
    """The inverse of `written`. Raises ValueError naming what is missing or of a wrong type."""
    values: Document = {}
    for each in fields(kind):
        if each.name not in document:
            if each.default is MISSING and each.default_factory is MISSING:
                raise ValueError(f"{kind.__name__}: {each.name}: missing")
            continue
        value = document[each.name]
        try:
            values[each.name] = special[each.name](value) if each.name in special else value
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"{kind.__name__}: {each.name}: {error}") from None
    return kind(**values)


def claims(found: Any) -> frozenset[Claim]:
    """Names, from the lists that JSON makes of them. Raises ValueError."""
    claims = []
    for each in found:
        match each:
            case [str(kind), str(value), int(uid)]:  # of a version that shared nothing
                claims.append(Claim(kind, value, uid))
            case [str(kind), str(value), int(uid), bool(shared)]:
                claims.append(Claim(kind, value, uid, shared))
            case _:
                raise ValueError(f"a name that is held: {each!r}")
    return frozenset(claims)
