"""How an app's requests are shared out among its workers, and which are turned away. Pure.

A vassal's file is read into it, and it travels as JSON to the router (``emperor.router``), which does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

PathCounts = tuple[tuple[str, int], ...]
"""``(prefix of a path, number)``, in the order of the file."""


Rate = tuple[float, int]
"""``(requests a second, how many of them at once)``; (0, 0): no limit."""

NO_RATE: Rate = (0.0, 0)


@dataclass(frozen=True)
class Balancing:
    """``queue_target_s``: in overload nobody waits longer; 0: no request is turned away before the queue is full or its time is
    over. ``slow_start_s``: so long a fresh worker is spared. ``reserve``: so many slots are kept for requests of these
    paths. ``bulkheads``: those of these paths may hold no more than so many slots. ``balance``: how a worker is chosen, by
    ``hash_by`` where it is by hash (``address``, ``header NAME``, ``cookie NAME``); ``sticky``: the name of a cookie that
    leads to the same worker. ``retries``: an idempotent request is run again when its worker is lost. ``rate`` and
    ``concurrency`` bound what all clients may ask for, ``rate_each`` and ``concurrency_each`` what each may; 0 is no limit.

    What is left out is off, whatever the option's default: the emperor that left it out does not know of it."""

    queue_target_s: float = 0.0
    slow_start_s: float = 0.0
    reserve: PathCounts = ()
    bulkheads: PathCounts = ()
    balance: str = "slots"
    hash_by: str = "address"
    sticky: str = ""
    retries: bool = False
    rate: Rate = NO_RATE
    rate_each: Rate = NO_RATE
    concurrency: int = 0
    concurrency_each: int = 0

    def to_json(self) -> dict[str, Any]:
        """A dict of numbers, booleans and lists of pairs, ready for `json.dumps`."""
        return {
            field.name: [list(pair) if isinstance(pair, tuple) else pair for pair in value]
            if isinstance(value := getattr(self, field.name), tuple)
            else value
            for field in fields(self)
        }

    @classmethod
    def from_json(cls, document: Any) -> Balancing:
        """The inverse of `to_json`; what is missing is the default, what is unknown is passed over. Raises ValueError naming
        the key of a wrong type or value."""
        if not isinstance(document, dict):
            raise ValueError(f"balancing: an object expected, not {type(document).__name__}")
        found: dict[str, Any] = {}
        for field in fields(cls):
            if field.name in document:
                found[field.name] = _read(field.name, field.default, document[field.name])
        return cls(**found)


ORDINARY = Balancing()


def of_options(effective: Mapping[str, Any]) -> Balancing:
    """What the options of a vassal's file say."""
    return Balancing(
        queue_target_s=effective["queue-target"],
        slow_start_s=effective["slow-start"],
        reserve=tuple(effective["reserve"]),
        bulkheads=tuple(effective["bulkhead"]),
        balance=effective["balance"],
        hash_by=effective["hash-by"],
        sticky=effective["sticky"] or "",
        retries=effective["retries"],
        rate=effective["limit-requests"] or NO_RATE,
        rate_each=effective["limit-requests-per-address"] or NO_RATE,
        concurrency=effective["limit-concurrency"],
        concurrency_each=effective["limit-concurrency-per-address"],
    )


def _read(name: str, default: Any, value: Any) -> Any:
    if name in ("rate", "rate_each"):
        if not isinstance(value, list) or not _is_rate(value):
            raise ValueError(
                f"balancing.{name}: a pair of requests a second and a burst expected, not {value!r}"
            )
        return float(value[0]), value[1]
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(_is_count(pair) for pair in value):
            raise ValueError(f"balancing.{name}: a list of pairs of a path and a number expected")
        return tuple((path, number) for path, number in value)
    if isinstance(default, float):
        if type(value) not in (int, float) or not 0 <= value < float("inf"):
            raise ValueError(f"balancing.{name}: a number, 0 or more, expected, not {value!r}")
        return float(value)
    if type(value) is not type(default) or (type(value) is int and value < 0):
        raise ValueError(f"balancing.{name}: {type(default).__name__} expected, not {value!r}")
    return value


def _is_rate(value: list[Any]) -> bool:
    if len(value) != 2 or type(value[0]) not in (int, float) or type(value[1]) is not int:
        return False
    return 0 <= value[0] < float("inf") and (value[1] >= 1 if value[0] else value[1] == 0)


def _is_count(pair: Any) -> bool:
    return (
        isinstance(pair, list)
        and len(pair) == 2
        and isinstance(pair[0], str)
        and type(pair[1]) is int
        and pair[1] > 0
    )
