"""How an app's requests are shared out among its workers, and which are turned away. Pure.

A vassal's file is read into it, and it travels as JSON to the router (``emperor.router``), which does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from emperor.config import parts

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
        """A dict of numbers, booleans, text and lists of pairs, ready for `json.dumps`."""
        return parts.json_of(self)

    @classmethod
    def from_json(cls, document: Any) -> Balancing:
        """The inverse of `to_json`; what is missing is the default. Raises ValueError naming the key of a wrong type or
        value."""
        return cls(**parts.keys_of(cls, "balancing", document, own=_OWN))


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


def _counts(what: str, value: Any) -> PathCounts:
    return parts.by_path(what, lambda count: type(count) is int and count > 0, "a number from 1 on", value)


def _rate(what: str, value: Any) -> Rate:
    if isinstance(value, list) and len(value) == 2 and parts.is_number(value[0]) and type(value[1]) is int:
        rate, burst = value
        if burst >= 1 if rate else burst == 0:
            return float(rate), burst
    raise ValueError(f"{what}: a pair of requests a second and a burst expected, not {value!r}")


_OWN: Final = {"reserve": _counts, "bulkheads": _counts, "rate": _rate, "rate_each": _rate}
