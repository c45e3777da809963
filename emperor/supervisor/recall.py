"""All that a supervisor knows, as JSON, for the program that takes its place in the same process. Pure.

What an emperor leaves in its run directory is what outlives its death: enough to serve on. An upgrade is no death, and
forgets nothing: back-offs go on, a reload that is under way, a probation, what was proven and what is refused.

Times are those of the supervisor's clock, which is the machine's and goes on. What a version adds may be missing in what an
older one wrote: then it has its default. What it does not know it passes over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from emperor.supervisor.fleet import Generation, Phase, Vassal, Worker
from emperor.supervisor.names import Claim
from emperor.supervisor.reading import Reading
from emperor.supervisor.restart import Backoff
from emperor.supervisor.vassal import State

Document = dict[str, Any]
Special = Mapping[str, Callable[[Any], Any]]
"""How fields that are more than plain values are written or read, by their names."""


@dataclass
class Known:
    """All of it. `turns` are the generations that wait for their turn, by file and number."""

    vassals: list[Vassal]
    names: dict[str, frozenset[Claim]]
    turns: list[tuple[str, int]]
    last_number: dict[str, int]
    ready_before: set[str]
    only: str | None
    paused: dict[str, str]

    def to_json(self) -> Document:
        readings = Readings()
        generation: Special = {
            "reading": readings.number,
            "phase": str,
            "open": lambda seats: None if seats is None else sorted(seats),
            "workers": lambda workers: [written(each, {}) for each in workers.values()],
        }
        vassal: Special = {
            "backoff": Backoff.hand_over,
            "state": str,
            **dict.fromkeys(("wish", "proven", "previous"), readings.number),
            "generations": lambda found: [written(each, generation) for each in found.values()],
            "blocked_by": sorted,
        }
        vassals = [written(each, vassal) for each in self.vassals]
        return {
            "vassals": vassals,
            "names": {file: sorted(held) for file, held in self.names.items()},
            "turns": self.turns,
            "last_number": self.last_number,
            "ready_before": sorted(self.ready_before),
            "only": self.only,
            "paused": self.paused,
            "readings": readings.documents,
        }

    @staticmethod
    def from_json(document: Any, new_backoff: Callable[[], Backoff]) -> Known:
        """Raises ValueError for what another version left and this one cannot understand."""
        try:
            return _known(document, new_backoff)
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise ValueError(f"what the supervisor knew: {error!r}") from None


def _known(document: Document, new_backoff: Callable[[], Backoff]) -> Known:
    readings = [Reading.from_json(each) for each in document["readings"]]

    def reading(number: int | None) -> Reading | None:
        return None if number is None else readings[number]

    def workers(found: list[Document]) -> dict[int, Worker]:
        each = [read(Worker, worker, {}) for worker in found]
        return {worker.seat: worker for worker in each}

    generation: Special = {
        "reading": reading,
        "phase": Phase,
        "open": lambda seats: None if seats is None else frozenset(seats),
        "workers": workers,
        "troubles": tuple,
    }

    def generations(found: list[Document]) -> dict[int, Generation]:
        each = [read(Generation, one, generation) for one in found]
        return {one.number: one for one in each}

    def backoff(history: Any) -> Backoff:
        found = new_backoff()
        found.resume(history)
        return found

    vassal: Special = {
        "backoff": backoff,
        "state": State,
        **dict.fromkeys(("wish", "proven", "previous"), reading),
        "generations": generations,
        "blocked_by": claims,
        "warnings": tuple,
    }
    return Known(
        vassals=[read(Vassal, each, vassal) for each in document["vassals"]],
        names={file: claims(held) for file, held in document["names"].items()},
        turns=[(str(file), int(number)) for file, number in document["turns"]],
        last_number=dict(document["last_number"]),
        ready_before=set(document["ready_before"]),
        only=document["only"],
        paused=dict(document["paused"]),
    )


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
